"""docs/PROGRAMS.md, a test each cell: what a program reads, writes, walks, maps and spawns in a writable mapping equals a plain folder, in what it prints and in
what the remote has afterwards. Programs that are not installed say so."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.harness import ROOT
from tests.integration.programs_data import DATA as DATA_PROGRAMS
from tests.integration.programs_data import GO
from tests.integration.programs_more import HTTP, MORE, RUST
from tests.integration.write_rig import LOCAL, make_lake, same_as_plain
from tests.servers import crates, gotools

SEARCH_PATH = f"{crates.SEARCH_PATH}:{gotools.SEARCH_PATH}"
COLUMNS = ["reads", "writes", "walks", "maps", "spawns"]
# What there is to read; of known content. d goes at the end: it has a link, which no remote keeps.
DATA = "seq 1 20000 > data; mkdir -p d/a d/b; echo 1 > d/a/1; echo 2 > d/a/2; echo 3 > d/b/3; ln -s a/1 d/link; printf '#!/bin/sh\\necho script $1 $0 | sed s:/.*/::\\n' > s; chmod +x s\n"
# Any POSIX shell.
SHELL = {
    "reads": 'n=0; while read -r x; do n=$((n + x)); done < data; echo $n; read -r a < d/b/3; echo "$a"; cat < d/link; test -s data && test -L d/link && echo there',
    "writes": 'echo a > f; echo b >> f; exec 3<>f; read -r x <&3; echo "$x"; echo c >&3; exec 3>&-; set -C; (echo n > f) 2>/dev/null || echo held; cat f; { echo 1; '
        'echo 2 >&2; } > both 2>&1; cat both; cat > here <<E\nhere $x\nE\ncat here',
    "walks": 'for f in d/*/*; do echo "$f"; done; cd d/a && echo * && pwd | sed "s:.*/d/:d/:"; cd ..; echo ./*; cd ../d/./b && echo *',
    "spawns": './s x; (cd d && ../s y) | cat; cp /bin/echo e; ./e program; ./s z & wait; (exec ./s w); x=$(./s v); echo "$x"; PATH=$PWD:$PATH; s found',
}
BASH = {
    **SHELL,
    "reads": SHELL["reads"] + '; mapfile -t a < data; echo ${#a[@]}; cmp data <(cat data) && echo same; echo "$(<d/b/3)"; cat <<< "$(< d/a/1)"',
    "walks": SHELL["walks"] + "; cd ../..; shopt -s globstar dotglob nullglob; echo d/**; compgen -f d/a/ | sort",
}
PERL = {
    "reads": 'open F, "<", "data"; $n += $_ while <F>; print "$n\\n"; seek F, 100, 0; read F, $x, 20; print $x; sysopen G, "d/link", 0; sysread G, $y, 9; print $y; '
        'print -s "data", -e "none" ? "" : " none\\n"',
    "writes": 'open F, "+>", "f"; print F "abc"; seek F, 1, 0; print F "X"; close F; open F, ">>", "f"; print F "d\\n"; close F; truncate "f", 4; rename "f", "g"; '
        'chmod 0600, "g"; utime 1, 2, "g"; '
              'print((stat "g")[9], " ", -s "g", "\\n"); use File::Copy; copy("g", "h"); unlink "g"; @ARGV = "h"; $^I = ""; while (<>) { tr/a-z/A-Z/; print } ',
    "walks": 'use File::Find; find({wanted => sub { push @a, $File::Find::name }, no_chdir => 0}, "d"); print join(" ", sort @a), "\\n"; '
        'print join(" ", glob("d/*/*")), "\\n"; opendir D, "d"; print join(" ", sort readdir D), "\\n"',
    "maps": 'open F, "<:mmap", "data"; $n += $_ while <F>; print "$n\\n"',
    "spawns": 'print `./s x`; system "./s", "y"; open P, "-|", "./s", "z"; print <P>; open Q, "|-", "cat > q"; print Q "piped\\n"; close Q; $| = 1; '
        'unless (fork) { exec "./s", "w" } wait; print $? >> 8, "\\n"',
}
PYTHON = {
    "reads": 'import os, io; print(sum(map(int, open("data")))); f = open("data", "rb", 0); f.seek(77); print(f.read(20), os.pread(f.fileno(), 9, 5), io.open_code("s").read()); '
             'a, b = os.pipe(); print(os.sendfile(b, f.fileno(), 0, 1000), len(os.read(a, 2000)))',
    "writes": 'import os, tempfile, shutil; open("f", "w").write("x" * 100000); g = open("f", "r+b"); g.seek(10); g.write(b"yy"); g.truncate(50); g.close(); '
        'print(open("f").read()); '
              't = tempfile.NamedTemporaryFile(dir=".", delete=False); t.write(b"t"); t.close(); os.replace(t.name, "g"); shutil.copy2("data", "h"); '
              'shutil.copytree("d", "e", symlinks=False); shutil.rmtree("d/b"); '
              'n = os.open("n", os.O_RDWR | os.O_CREAT); print(os.copy_file_range(os.open("data", 0), n, 500)); os.posix_fallocate(n, 0, 600)',
    "walks": 'import os, glob, pathlib; print(sorted((r, sorted(d), sorted(f)) for r, d, f in os.walk("."))); print(sorted(glob.glob("**", recursive=True))); '
             'print(sorted((e.name, e.is_file(), e.is_symlink()) for e in os.scandir("d"))); print(sorted(map(str, pathlib.Path(".").rglob("[0-9]")))); '
             'print(sorted(x[1] for x in os.fwalk("d"))[0])',
    "maps": 'import mmap; f = open("data", "r+b"); m = mmap.mmap(f.fileno(), 0); print(m[1000:1010], m.find(b"19999")); m[0:3] = b"map"; m.flush(); m.close(); '
        'print(open("data").read(5)); '
            'g = open("d/a/1"); m = mmap.mmap(g.fileno(), 0, prot=mmap.PROT_READ); print(m[:])',
    "spawns": 'import subprocess as s, os, multiprocessing as m; print(s.check_output(["./s", "x"])); print(s.run("../s y", shell=True, cwd="d", capture_output=True).stdout); '
              's.run(["cat"], stdin=open("d/a/1"), stdout=open("out", "w"), close_fds=True); print(open("out").read()); '
              'p = os.posix_spawn("./s", ["s", "z"], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "out2", 65, 0o644)]); '
              'print(os.waitpid(p, 0)[1], open("out2").read()); print(m.get_context("fork").Pool(2).map(os.path.getsize, ["data", "s"]))',
}
NODE = {
    "reads": 'const fs = require("fs"); console.log(fs.readFileSync("data").length, fs.statSync("d/link").size, fs.existsSync("none")); '
        'fs.promises.readFile("data", "utf8").then(x => console.log(x.slice(100, 120))); '
             'let n = 0; fs.createReadStream("data", {start: 10, highWaterMark: 1000}).on("data", x => n += x.length).on("end", () => setTimeout(() => console.log(n), 200))',
    "writes": 'const fs = require("fs"), p = fs.promises; (async () => { fs.writeFileSync("f", "abc"); fs.appendFileSync("f", "d"); '
        'await p.writeFile("g", "x".repeat(100000)); const h = await p.open("g", "r+"); await h.write("Y", 5); '
              'await h.truncate(20); await h.sync(); await h.close(); console.log(await p.readFile("g", "utf8")); await p.rename("f", "h"); '
              'await p.copyFile("data", "c"); await p.mkdir("m/n", {recursive: true}); '
              'await p.cp("d", "e", {recursive: true, dereference: true}); await p.rm("m", {recursive: true}); const w = fs.createWriteStream("w"); w.write("1"); '
              'w.end("2", () => console.log(fs.readFileSync("w", "utf8"))); })()',
    "walks": 'const fs = require("fs"); '
        'console.log(fs.readdirSync(".").sort(), fs.readdirSync("d", {withFileTypes: true}).map(e => [e.name, e.isSymbolicLink()]).sort(), fs.realpathSync("d/link").split("/").pop()); '
             'fs.promises.readdir("d", {recursive: true}).then(x => console.log(x.sort()))',
    "spawns": 'const c = require("child_process"), fs = require("fs"); console.log(c.execFileSync("./s", ["x"]) + "", c.execSync("../s y", {cwd: "d"}) + ""); '
        'fs.writeFileSync("k.js", "process.send(require(\'fs\').readFileSync(\'d/a/1\', \'utf8\'))"); '
              'c.fork("./k.js").on("message", x => { console.log(x); '
              'c.spawn("./s", ["z"], {stdio: ["ignore", fs.openSync("out", "w"), "ignore"]}).on("close", n => console.log(n, fs.readFileSync("out", "utf8"))) })',
}
JAVA = """
import java.io.*; import java.nio.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*; import java.util.stream.*;
public class Cells {
  static Path p(String s) { return Paths.get(s); }
  static void reads() throws Exception {
    System.out.println(Files.readAllBytes(p("data")).length + " " + Files.lines(p("data")).mapToLong(Long::parseLong).sum() + " " + Files.exists(p("none")));
    try (RandomAccessFile r = new RandomAccessFile("data", "r")) { r.seek(77); System.out.println(r.readLine()); }
    try (FileChannel c = FileChannel.open(p("data"))) { ByteBuffer b = ByteBuffer.allocateDirect(20); c.read(b, 1000); System.out.println(b.get(3)); }
  }
  static void writes() throws Exception {
    Files.writeString(p("f"), "abc"); Files.writeString(p("f"), "d", StandardOpenOption.APPEND);
    try (FileChannel in = FileChannel.open(p("data")); FileChannel out = FileChannel.open(p("t"), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      System.out.println(in.transferTo(0, in.size(), out) + " " + out.transferFrom(in.position(0), out.size(), 100)); out.truncate(50000); out.force(true); }
    Files.move(p("f"), p("g"), StandardCopyOption.ATOMIC_MOVE); Files.copy(p("data"), p("c")); Files.createDirectories(p("m/n")); Files.delete(p("m/n"));
    try (FileLock l = FileChannel.open(p("g"), StandardOpenOption.WRITE).lock()) { System.out.println(l.isValid()); }
    Path x = Files.createTempFile(p("."), "x", "y"); Files.delete(x); System.out.println(Files.readString(p("g")));
  }
  static void walks() throws Exception {
    System.out.println(Files.walk(p(".")).map(Path::toString).sorted().collect(Collectors.toList()));
    System.out.println(new TreeSet<>(Arrays.asList(new File("d").list())) + " " + Files.isSymbolicLink(p("d/link")));
    try (DirectoryStream<Path> s = Files.newDirectoryStream(p("d/a"), "[0-9]")) { TreeSet<String> t = new TreeSet<>(); for (Path q : s) t.add(q.toString()); System.out.println(t); }
  }
  static void maps() throws Exception {
    try (FileChannel c = FileChannel.open(p("data"), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MappedByteBuffer m = c.map(FileChannel.MapMode.READ_WRITE, 0, c.size()); System.out.println(m.get(1000)); m.put(0, (byte) 'M'); m.force(); }
    System.out.println(Files.readString(p("data")).substring(0, 4));
  }
  static void spawns() throws Exception {
    System.out.print(new String(new ProcessBuilder("./s", "x").start().getInputStream().readAllBytes()));
    System.out.println(new ProcessBuilder("../s", "y").directory(new File("d")).redirectOutput(new File("out")).start().waitFor() + Files.readString(p("out")));
  }
  public static void main(String[] a) throws Exception { Cells.class.getDeclaredMethod(a[0]).invoke(null); }
}
"""
# As NVIDIA DALI and other loaders read: eight threads, each file by read, by O_DIRECT and by a shared map with advice.
LOADER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
static int maps;
static void *load(void *arg)
{
  unsigned long *sum = arg;
  for (int i = 0; i < 40; i++) {
    struct stat st;
    int direct = i % 4 == 3 && !maps, fd = open("data", O_RDONLY | (direct ? O_DIRECT : 0));
    if (fd < 0 && direct) fd = open("data", O_RDONLY);
    if (fd < 0 || fstat(fd, &st) || posix_fadvise(fd, 0, st.st_size, POSIX_FADV_WILLNEED) || (readahead(fd, 0, 65536) && !direct)) abort();
    size_t room = (st.st_size + 4095) / 4096 * 4096;
    unsigned char *p = maps ? mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0) : aligned_alloc(4096, room);
    if (p == MAP_FAILED || (maps ? madvise(p, st.st_size, MADV_SEQUENTIAL) : 0)) abort();
    for (ssize_t at = 0, n = 1; !maps && n > 0; at += n) n = pread(fd, p + at, room - at < 65536 ? room - at : 65536, at);
    close(fd);
    for (off_t k = 0; k < st.st_size; k++) *sum += p[k] * (unsigned long)(k % 251 + 1);
    if (maps) munmap(p, st.st_size); else free(p);
  }
  return NULL;
}
int main(int argc, char **argv)
{
  pthread_t t[8];
  unsigned long sum[8] = {0};
  maps = argc > 1 && argv[1][0] == 'm';
  for (int i = 0; i < 8; i++) pthread_create(&t[i], NULL, load, &sum[i]);
  for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
  for (int i = 0; i < 8; i++) printf("%lu\n", sum[i]);
}
"""


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def by(interpreter, cells):
    return {column: f"{interpreter} {quoted(script)}" for column, script in cells.items()}


def through(shell):
    """The script is a file beside it: here-documents keep their lines."""
    return {column: f"{shell} -c {quoted(script)}" for column, script in (BASH if shell == "bash" else SHELL).items()}


# {program: ((what must be installed), {column: script})}; @name@: what made(name) has built.
PROGRAMS = {
    "bash": (["bash"], through("bash")),
    "dash": (["dash"], through("dash")),
    "zsh": (["zsh"], through("zsh")),
    "busybox": (["busybox"], {**through("busybox sh"), "walks": "busybox find . | busybox sort; busybox ls -R d; busybox tar c d | busybox tar t | busybox sort"}),
    "perl": (["perl"], by("perl -e", PERL)),
    "CPython": (["python3"], by(f"{sys.executable} -c", PYTHON)),
    "Node.js": (["node"], by("node -e", NODE)),
    "Node.js, `UV_USE_IO_URING=1`": (["node"], by("UV_USE_IO_URING=1 node -e", NODE)),
    "JVM (NIO, transferTo)": (["javac", "java"], {column: f"java -Xshare:auto -XX:TieredStopAtLevel=1 -cp @classes@ Cells {column}" for column in COLUMNS}),
    "SQLite": (["sqlite3"], {
        "reads": "sqlite3 x.db 'create table t(a); insert into t values(1),(2)'; sqlite3 -readonly x.db 'select sum(a) from t'; "
            "sqlite3 \"file:x.db?immutable=1\" 'select count(*) from t'; rm x.db",
        "writes": "for m in delete wal truncate persist; do sqlite3 $m.db \"pragma journal_mode=$m; create table t(a, b); begin; "
            "insert into t select value, hex(value) from generate_series(1, 3000); commit; delete from t where a % 3 = 0; vacuum; "
                  "pragma integrity_check; select count(*), sum(a) from t\"; done; rm *.db*",
        "maps": "sqlite3 x.db \"pragma mmap_size=100000000; create table t(a); insert into t select value from generate_series(1, 3000); select sum(a) from t; "
            "update t set a = a + 1; select sum(a) from t; pragma integrity_check\"; rm x.db"}),
    "rsync": (["rsync"], {
        "reads": "T=$(mktemp -d); rsync -a --checksum ./ $T/; diff -r . $T && echo same; rm -r $T",
        "writes": "T=$(mktemp -d); rm d/link; cp -a . $T/x; echo more >> $T/x/data; rsync -a --inplace $T/x/ i/; rsync -a $T/x/ r/; "
            "rsync -a --delete --backup --exclude=s $T/x/d/ r/; rsync -ac --dry-run --itemize-changes $T/x/data r/ | wc -l; rm -r $T",
        "walks": "rsync -a --list-only . | awk '{print $1, $NF}' | sort; rsync -an --itemize-changes d/ e/ | sort | awk '{print $2}'"}),
    "git": (["git"], {
        "reads": "git init -q g; cd g; cp -r ../d ../data .; git add -A; git -c user.name=a -c user.email=a@b commit -qm 1; git log --format=%s; "
            "git cat-file -p HEAD:data | cksum; git fsck; cd ..; rm -rf g",
        "writes": "git init -q g; cd g; cp -r ../d .; git add -A; git -c user.name=a -c user.email=a@b commit -qm 1; git rm -qr d/b; git checkout -qf HEAD; "
            "git clone -q . ../h; cd ../h; ls -R; cd ..; rm -rf g h",
        "walks": "git init -q g; cd g; cp -r ../d .; git config core.untrackedCache true; git update-index --untracked-cache 2>/dev/null; git status --short -uall; "
            "git add d; git status --short -uall; echo new > d/a/new; git status --short -uall; cd ..; rm -rf g",
        "maps": "git init -q g; cd g; cp ../data .; git add -A; git -c user.name=a -c user.email=a@b commit -qm 1; git gc -q; git cat-file -p HEAD:data | cksum; "
            "git verify-pack .git/objects/pack/*.idx && echo whole; cd ..; rm -rf g",
        "spawns": "git init -q g; cd g; printf '#!/bin/sh\\necho hook >&2\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; echo 1 > f; git add f; "
            "git -c user.name=a -c user.email=a@b commit -qm 1; git -c alias.x='!cat f' x; cd ..; rm -rf g"}),
    "gcc and make": (["gcc", "make"], {
        "reads": "printf '#include \"h.h\"\\nint main(void) { return X; }\\n' > m.c; echo '#define X 3' > h.h; gcc -o /dev/null m.c && echo built; gcc -E m.c | tail -n 1",
        "writes": "printf 'int f(void){return 3;}\\n' > f.c; gcc -c f.c && ar rcs libf.a f.o && ranlib libf.a && ar t libf.a; gcc -shared -o libf.so f.o -nostdlib; "
            "rm -f libf.* f.o",
        "spawns": "printf 'all: a b\\na b: data\\n\\tsed 1q data > $@\\n' > Makefile; make -s -j2; make; sleep 0.05; touch data; make -q || echo old; cat a b"}),
    "a loader in C, as DALI reads": (["gcc"], {"reads": "@loader@ read", "maps": "@loader@ map"}),
    **MORE,
    **DATA_PROGRAMS,
}


def cells():
    return [(name, column) for name, (_, has) in PROGRAMS.items() for column in COLUMNS if column in has]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What scripts call @name@: its path, built once."""
    folder = tmp_path_factory.mktemp("made")

    @functools.cache
    def build(name):
        if name == "classes":
            (folder / "Cells.java").write_text(JAVA)
            subprocess.run(["javac", "-d", folder, folder / "Cells.java"], check=True)
            return str(folder)
        if name == "http":
            (folder / "http_client.py").write_text(HTTP)
            return str(folder / "http_client.py")
        if name == "rust":
            (folder / "cells.rs").write_text(RUST)
            subprocess.run([shutil.which("rustc", path=SEARCH_PATH), "-o", folder / "cells", folder / "cells.rs"], check=True)
            return str(folder / "cells")
        if name == "go":
            (folder / "cells.go").write_text(GO)
            env = {**os.environ, "CGO_ENABLED": "1", "GOFLAGS": "-buildvcs=false", "GO111MODULE": "off"}
            subprocess.run([shutil.which("go", path=SEARCH_PATH), "build", "-o", folder / "go", folder / "cells.go"], check=True, env=env)
            return str(folder / "go")
        (folder / "loader.c").write_text(LOADER)
        subprocess.run(["gcc", "-O1", "-pthread", "-o", folder / "loader", folder / "loader.c"], check=True)
        return str(folder / "loader")

    return build


def there(need):
    """A program, or what registries have (an Installation)."""
    return need.installed() if hasattr(need, "installed") else shutil.which(need, path=SEARCH_PATH)


@pytest.mark.limit(600)  # of programs that import half a second of modules in each of their processes, while the machine is busy
@pytest.mark.parametrize("name,column", cells(), ids=lambda word: word)
def test_cell(prelux, made, name, column):
    needs, scripts = PROGRAMS[name]
    missing = [word for word in needs if not there(word)]
    if missing:
        pytest.skip(f"{' '.join(getattr(word, 'version', word) for word in missing)}: not installed")
    script = re.sub(r"@(\w+)@", lambda found: made(found[1]), scripts[column])
    same_as_plain(make_lake(prelux, write="async"), DATA + script + "\nrm -rf d", timeout=250)


def test_what_go_does_by_itself(prelux, made):
    """Not through libc, also with cgo: it is not served, nothing of the mapping is touched, and prelux says so."""
    if not there("go"):
        pytest.skip("go: not installed")
    program = made("go")
    lake = make_lake(prelux, write="async")
    (lake.remote / "data").write_text("1\n")
    assert lake.plain([program], env={"OWN": str(lake.remote / "data")}).stderr == "true\n"
    report = lake.tmp / "report.json"
    done = lake.run([program], env={"OWN": f"{LOCAL}/data"}, args=[f"--report={report}"])
    assert done.stderr == "false\n"
    assert [text for text in json.loads(report.read_text())["not_seen"] if program in text and "Go program" in text]
    checks = json.loads(lake.cli("doctor", "--json", program, check=False).stdout)["checks"]
    assert [row["status"] for row in checks if row["check"] == "program" and "Go program" in row["text"]] == ["fail"]


def table():
    lines = ["| program | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join("yes" if column in has else "-" for column in COLUMNS) + " |" for name, (_, has) in PROGRAMS.items()]
    return lines


def test_the_page_has_these_cells():
    page = (ROOT / "docs/PROGRAMS.md").read_text().splitlines()
    assert "\n".join(table()) in "\n".join(page), "docs/PROGRAMS.md should have\n" + "\n".join(table())
