"""Unmodified programs on file, http and real Alluxio 2.9: what they print and read equals the source, byte for byte."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import trees
from tests.servers.nginx import Nginx

KINDS = ["file", "http", "http-json", "alluxio"]


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """Source folder and backend of each kind, made once: {kind: (root, backend)}."""
    return {}


@pytest.fixture(params=KINDS)
def lake(request, prelux, served, tmp_path_factory):
    """prelux with .lake (the prefix) and .source (the same data as a plain folder)."""
    kind = request.param
    if kind not in served:
        served[kind] = serve(request, kind, tmp_path_factory)
    root, backend = served[kind]
    prelux.config({"version": 1, "backends": {"src": backend}, "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    prelux.lake, prelux.source, prelux.kind = "/prelux-lake", root, kind
    return prelux


def make_data(root, portable, dots=True):
    """The awkward tree, and a bare repository. An nginx index hides names that begin with a dot (it serves them)."""
    trees.make_tree(root, portable=portable)
    if not dots:
        (root / "names" / "...").unlink(missing_ok=True)
    spare = root.parent / (root.name + "-repository")
    trees.make_tree(spare)
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--bare", spare / "repository", root / "bare.git"], check=True)
    shutil.rmtree(spare)
    return root


def serve(request, kind, factory):
    if kind == "file":
        root = make_data(factory.mktemp("data") / "tree", portable=False)
        return root, {"type": "file", "root": str(root)}
    if kind == "alluxio":
        server = request.getfixturevalue("alluxio_server")
        root = make_data(server.ufs / "tree", portable=True)
        return root, {"type": "alluxio-proxy", "url": server.url, "root": "/tree"}
    root = make_data(factory.mktemp("data") / "tree", portable=True, dots=False)
    server = Nginx(root, autoindex="json" if kind == "http-json" else "html")
    request.node.session.config.add_cleanup(server.stop)
    server.start()
    return root, {"type": "http", "url": server.url}


def both(lake, command, **options):
    """The command in the mapped folder and in the source; their outputs, cwd replaced."""
    mapped = lake.run(f"cd {lake.lake} && {command}", text=False, **options)
    plain = lake.plain(f"cd '{lake.source}' && {command}", text=False, **options)
    return mapped.stdout, plain.stdout


# Folders' own times and sizes are not the remote's: types and names are compared for them.
SAME = {
    "find": "find . | sort",
    "find types and sizes": "find . -type f -printf '%p %s %y\\n' | sort; find . -type d -printf '%p %y\\n' | sort",
    "find -newer": "find . -type f -size +100k | sort; find . -empty -type f | sort",
    "ls": "ls -1A; ls -RA | grep -v '^total'",
    "du": "find . -type f -print0 | sort -z | du -ab --files0-from=- | cut -f1",
    "cat": "find . -type f -print0 | sort -z | xargs -0 cat | md5sum",
    "md5sum": "find . -type f -print0 | sort -z | xargs -0 md5sum",
    "head and tail": "for f in *; do [ -f \"$f\" ] && { head -c 100 \"$f\"; tail -c 100 \"$f\"; tail -n 3 \"$f\"; }; done | md5sum",
    "grep": "grep -r -c e . | sort; grep -rl answer . | sort",
    "tar": "tar cf - --owner=0 --group=0 --numeric-owner --mode=a=r --mtime=@0 --sort=name . | md5sum",
    "globs": "echo *; echo */; echo names/*; shopt -s globstar dotglob; echo ** | md5sum",
    "wc": "find . -type f -print0 | sort -z | wc -c --files0-from=- | tail -1",
    "od from the middle": "for f in *; do [ -f \"$f\" ] && dd if=\"$f\" bs=7 skip=5 count=9 2>/dev/null; done | od -c",
    "cd and pwd": "cd names && cd .. && cd ./names/../names && basename \"$PWD\" && pwd -P | sed 's,.*/,,' && ls .. | md5sum",
    "test": "for f in * nope; do test -e \"$f\"; echo $?; test -f \"$f\"; echo $?; test -d \"$f\"; echo $?; test -s \"$f\"; echo $?; done",
    "stat": "find . -type f -print0 | sort -z | xargs -0 stat -c '%n %s %F %h'",
    "perl": "perl -MFile::Find -e 'find({wanted => sub { push @a, $_ . \" \" . (-s $_ // 0) if -f $_ }, no_chdir => 1}, \".\"); print \"$_\\n\" for sort @a'",
    "awk and sed": "find . -name '*.py' -print0 | sort -z | xargs -0 awk '{n += length($0)} END {print n}'; find . -name '*.py' -print0 | sort -z | xargs -0 sed -n 1p",
}


@pytest.mark.parametrize("name", SAME)
def test_same_output(lake, name):
    mapped, plain = both(lake, SAME[name])
    assert mapped == plain
    assert plain.strip()


def test_times_of_files(lake):
    mapped, plain = both(lake, "find . -type f -printf '%p %Ts\\n' | sort")
    assert mapped == plain


def test_copy_and_diff(lake):
    out = lake.tmp / "copy"
    lake.run(f"cp -r {lake.lake} {out}")
    assert lake.plain(["diff", "-r", lake.source, out]).stdout == ""
    assert lake.run(["diff", "-r", lake.lake, lake.source]).stdout == ""


def test_python(lake):
    program = """
import hashlib, mmap, os, pathlib, sys
import numpy as np
os.chdir(sys.argv[1])
for folder, names, files in sorted(os.walk(b".")):
    for name in sorted(files):
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            data = f.read()
            if data:
                with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
                    assert m[:] == data
        assert os.path.getsize(path) == len(data) == os.stat(path).st_size == len(pathlib.Path(os.fsdecode(path)).read_bytes())
        print(path, hashlib.md5(data).hexdigest())
for path in sorted(pathlib.Path(".").rglob("*.npy")):
    array = np.load(path, mmap_mode="r")
    print(path, array.shape, array.dtype, float(np.asarray(array, dtype="f8").sum()))
sys.path.insert(0, os.getcwd() + "/package")
import lakepkg
print(lakepkg.VALUE, os.path.relpath(lakepkg.__file__))
with os.scandir(".") as entries:
    print(sorted((e.name, e.is_dir(), e.is_file(), e.is_symlink()) for e in entries))
"""
    python = "/usr/bin/python3"
    mapped = lake.run([python, "-c", program, lake.lake]).stdout
    assert mapped == lake.plain([python, "-c", program, str(lake.source)]).stdout
    assert ".npy" in mapped and "42 package/lakepkg/__init__.py" in mapped


def test_gcc_with_headers_there(lake):
    code = lake.tmp / "main.c"
    code.write_text('#include "answer.h"\n#include <stdio.h>\nint main(void) { printf("%d\\n", ANSWER); return 0; }\n')
    lake.run(["gcc", "-I", f"{lake.lake}/code", "-o", lake.tmp / "mapped", code])
    lake.plain(["gcc", "-I", f"{lake.source}/code", "-o", lake.tmp / "plain", code])
    assert subprocess.run([lake.tmp / "mapped"], capture_output=True).stdout == subprocess.run([lake.tmp / "plain"], capture_output=True).stdout


JAVA = """
import java.nio.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*; import java.util.stream.*;
public class Walk {
  public static void main(String[] a) throws Exception {
    Path root = Paths.get(a[0]);
    List<Path> all;
    try (Stream<Path> s = Files.walk(root)) { all = s.sorted().collect(Collectors.toList()); }
    java.util.zip.CRC32 crc = new java.util.zip.CRC32();
    for (Path p : all) {
      System.out.print(root.relativize(p) + " " + Files.isDirectory(p));
      if (Files.isRegularFile(p)) {
        byte[] b = Files.readAllBytes(p);
        try (FileChannel c = FileChannel.open(p)) {
          crc.update(b);
          if (b.length > 0) crc.update(c.map(FileChannel.MapMode.READ_ONLY, 0, c.size()));
        }
        System.out.print(" " + Files.size(p) + " " + crc.getValue());
      }
      System.out.println();
    }
  }
}
"""


@pytest.mark.limit(180)
def test_java(lake):
    if not shutil.which("javac"):
        pytest.skip("no JDK")
    (lake.tmp / "Walk.java").write_text(JAVA)
    lake.plain(["javac", "Walk.java"])
    env = {"LC_ALL": "C.UTF-8"}
    folder = "package"  # names that Java's own file system cannot decode are not its fault
    mapped = lake.run(["java", "-Xmx64m", "Walk", f"{lake.lake}/{folder}"], env=env, timeout=120).stdout
    assert mapped == lake.plain(["java", "-Xmx64m", "Walk", f"{lake.source}/{folder}"], env=env).stdout
    assert "true" in mapped


NODE = r"""
const fs = require('fs'), path = require('path'), crypto = require('crypto');
const walk = d => fs.readdirSync(d, {withFileTypes: true}).sort((a, b) => a.name < b.name ? -1 : 1).forEach(e => {
  if (e.name.includes('\ufffd')) return;  // node cannot say names that are not UTF-8
  const p = path.join(d, e.name);
  if (e.isDirectory()) return walk(p);
  console.log(path.relative(process.argv[1], p), fs.statSync(p).size, crypto.createHash('md5').update(fs.readFileSync(p)).digest('hex'));
});
walk(process.argv[1]);
fs.promises.readdir(process.argv[1]).then(n => { console.log(n.sort().join()); return fs.promises.stat(process.argv[1]); })
  .then(s => { console.log(s.isDirectory()); console.log(fs.realpathSync(process.argv[1]) === process.argv[1]); });
"""


def test_node(lake):
    if not shutil.which("node"):
        pytest.skip("no node")
    mapped = lake.run(["node", "-e", NODE, lake.lake]).stdout
    assert mapped == lake.plain(["node", "-e", NODE, str(lake.source)]).stdout


def test_programs_lying_there(lake):
    """A program, a script and a shared library are run and loaded, under their own names."""
    code = f"{lake.lake}/code"
    ran = lake.run([f"{code}/program", "x"], check=False)
    assert (ran.returncode, ran.stdout) == (3, "program 2 42\n")
    scripts = [p for p in (lake.source / "code").iterdir() if p.read_bytes()[:2] == b"#!"]
    assert scripts
    for script in scripts:
        mapped = lake.run(f"{code}/{script.name} a 'b c'; cd {code} && ./{script.name} a").stdout
        plain = lake.plain(f"{script} a 'b c'; cd {script.parent} && ./{script.name} a").stdout
        assert mapped.replace(str(lake.lake), "ROOT") == plain.replace(str(lake.source), "ROOT")
    libraries = list((lake.source / "code").glob("*.so"))
    assert libraries
    for library in libraries:
        assert lake.run(["/usr/bin/python3", "-c", f"import ctypes; print(ctypes.CDLL('{code}/{library.name}').answer())"]).stdout == \
            lake.plain(["/usr/bin/python3", "-c", f"import ctypes; print(ctypes.CDLL('{library}').answer())"]).stdout


def test_git_clone(lake):
    out, plain = lake.tmp / "clone", lake.tmp / "plain-clone"
    lake.run(["git", "-c", "safe.directory=*", "clone", "-q", f"{lake.lake}/bare.git", out])
    lake.plain(["git", "-c", "safe.directory=*", "clone", "-q", str(lake.source / "bare.git"), plain])
    assert lake.plain(["git", "-C", out, "log", "--oneline"]).stdout == lake.plain(["git", "-C", plain, "log", "--oneline"]).stdout
    assert lake.plain(["diff", "-r", "-x", ".git", out, plain]).stdout == ""


def test_sqlite(lake):
    query = "select count(*), sum(length(quote(name))) from sqlite_master; pragma integrity_check;"
    for words in ([query], [".dump"]):
        mapped = lake.run(["sqlite3", "-readonly", f"{lake.lake}/data.sqlite", *words]).stdout
        assert mapped == lake.plain(["sqlite3", "-readonly", lake.source / "data.sqlite", *words]).stdout
        assert "ok" in mapped or "CREATE TABLE" in mapped


def test_empty_file_and_ends(lake):
    program = """
import os, sys, glob
for path in sorted(glob.glob(sys.argv[1] + "/*")):
    if not os.path.isfile(path):
        continue
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    print(size, os.lseek(fd, 0, os.SEEK_END), os.read(fd, 10), os.pread(fd, 10, size), os.pread(fd, 10, size + 100), os.pread(fd, 3, max(size - 3, 0)))
    try:
        os.write(fd, b"x")
    except OSError as e:
        print(e.errno)
"""
    assert lake.run(["python3", "-c", program, lake.lake]).stdout == lake.plain(["python3", "-c", program, str(lake.source)]).stdout


@pytest.mark.limit(240)
def test_ten_thousand_names(lake):
    folder = lake.source / "ten-thousand"
    if not folder.exists():
        folder.mkdir()
        for i in range(10_000):
            (folder / f"name-{i:05}").write_text(str(i))
    names = [f"name-{i:05}" for i in range(10_000)]
    assert lake.run(["ls", f"{lake.lake}/ten-thousand"]).stdout.split() == names
    sizes = lake.run(["find", f"{lake.lake}/ten-thousand", "-type", "f", "-printf", "%f %s\n"], timeout=200).stdout.splitlines()
    assert sorted(sizes) == [f"{n} {len(str(int(n[5:])))}" for n in names]
    assert lake.run(f"cat {lake.lake}/ten-thousand/name-0000[0-9] {lake.lake}/ten-thousand/name-09999").stdout == "01234567899999"
