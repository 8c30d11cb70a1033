"""Programs of others below `prelux run --deep`: what they do in a mapped folder is what they do in a plain one. And in a container."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import harness
from tests.servers.debs import Unpacked

DATA = harness.ROOT / "tests/data"
DEBS = Unpacked("deep")
GO = shutil.which("go") or "/usr/local/go/bin/go"

BUSYBOX = """
ls; cat a; echo by busybox > new; mkdir bb bb/in; mv new bb/in/new; cp a bb/copy; wc -c bb/copy; rm b; ln -s ../a bb/link; cat bb/link
find . | sort; grep -r text . | sort; tar cf bb/all.tar a sub; tar tf bb/all.tar; cd sub && pwd | sed s:.*/:: && ls -a && sh -c 'cat ../a'
sed -i s/text/TEXT/ one; cat one; stat -c '%s %F' one ../a; dd if=../large bs=64k 2>/dev/null | md5sum; chmod 600 one; stat -c %a one
"""
GO_MAIN = """package main

import "fmt"

func main() { fmt.Println("built by go", greeting()) }
"""
GO_MORE = """package main

import _ "embed"

//go:embed words
var words string

func greeting() string { return words }
"""
JAVA = """
import java.nio.file.*; import java.util.stream.*;
public class Walk {
  public static void main(String[] words) throws Exception {
    Path root = Paths.get(words[0]);
    try (Stream<Path> all = Files.walk(root)) { System.out.println(all.map(p -> root.relativize(p).toString()).sorted().collect(Collectors.toList())); }
    System.out.println(Files.readString(root.resolve("a")).trim() + Files.size(root.resolve("large")));
    Files.writeString(root.resolve("java"), "by java"); Files.createDirectory(root.resolve("jd"));
    Files.move(root.resolve("java"), root.resolve("jd/moved")); System.out.println(Files.readString(root.resolve("jd/moved")));
  }
}
"""
URING = """
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **v)
{
  struct io_uring ring;
  static char buf[1 << 20];
  int rc = io_uring_queue_init(4, &ring, 0), fd = open(v[1], O_RDONLY);
  printf("%s\\n", rc < 0 ? strerror(-rc) : "a ring");
  if (rc == 0)
  {
    struct io_uring_cqe *done;
    io_uring_prep_read(io_uring_get_sqe(&ring), fd, buf, sizeof buf, 0);
    io_uring_submit(&ring);
    io_uring_wait_cqe(&ring, &done);
    rc = done->res;
  }
  else
    rc = (int)pread(fd, buf, sizeof buf, 0);
  unsigned long sum = 0;
  for (int i = 0; i < rc; i++)
    sum = sum * 31 + (unsigned char)buf[i];
  printf("%d %lx\\n", rc, sum);
  return 0;
}
"""


def fill(folder):
    (folder / "sub").mkdir(parents=True)
    for name, text in ("a", "text of a\n"), ("b", "text of b\n"), ("sub/one", "a text\n"), ("sub/two", "another\n"):
        (folder / name).write_text(text)
    (folder / "large").write_bytes(bytes(range(256)) * 4096)
    (folder / "mod").mkdir()
    for name, text in ("main.go", GO_MAIN), ("more.go", GO_MORE), ("words", "from a file"), ("go.mod", "module one\n\ngo 1.19\n"):
        (folder / "mod" / name).write_text(text)


@pytest.fixture
def lake(prelux):
    prelux.data, prelux.beside = prelux.tmp / "data", prelux.tmp / "plain"
    prelux.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"
    for folder in (prelux.data, prelux.beside):
        fill(folder)
    return prelux.file_mapping(prelux.data, write="async", write_back="0ms")


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*") if not path.is_symlink()}


def same(prelux, lake, words, deep="--deep", **more):
    """words: {} is the folder."""
    want = prelux.plain([str(word).replace("{}", str(prelux.beside)) for word in words], **more)
    done = prelux.run([str(word).replace("{}", lake) for word in words], args=[deep], **more)
    assert done.stdout.replace(lake, "@") == want.stdout.replace(str(prelux.beside), "@") and want.stdout
    assert done.stderr.replace(lake, "@") == want.stderr.replace(str(prelux.beside), "@")
    return done.stdout


def same_trees(prelux):
    """What the remote has: links stay on this node."""
    assert content(prelux.data) == content(prelux.beside)


needs_debs = pytest.mark.skipif(DEBS.missing() is not None, reason=str(DEBS.missing()))


@needs_debs
def test_busybox(prelux, lake):
    """Static, and what it starts is itself."""
    assert "static" in subprocess.run(["file", "-L", DEBS.root / "bin/busybox"], capture_output=True, text=True).stdout
    same(prelux, lake, [DEBS.root / "bin/busybox", "sh", "-c", f"cd {{}} && {BUSYBOX}"])
    (prelux.beside / "bb/all.tar").write_bytes((prelux.data / "bb/all.tar").read_bytes())  # the time of sub is another
    same_trees(prelux)


@needs_debs
@pytest.mark.parametrize("how", ["--deep", "--deep=all"])
def test_ripgrep(prelux, lake, how):
    same(prelux, lake, [DEBS.root / "usr/bin/rg", "--sort", "path", "-uu", "text|word", "{}"], how)
    same(prelux, lake, [DEBS.root / "usr/bin/rg", "-c", "--mmap", "--sort", "path", "a", "{}/sub", "{}/a"], how)


@pytest.mark.skipif(not Path(GO).exists(), reason="no go here")
def test_go_build(prelux, lake):
    """The toolchain, itself programs of Go that start each other, builds in the folder, and what it has built runs there at once."""
    # What the user has built before need not be built again.
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    text = same(prelux, lake, ["bash", "-c", f"cd {{}}/mod && {GO} build -o prog && ./prog && {GO} list -f '{{{{.GoFiles}}}} {{{{.EmbedFiles}}}}' && ls"],
                env=env, timeout=400)
    assert text.startswith("built by go from a file\n")
    for folder in (prelux.data, prelux.beside):
        (folder / "mod/prog").unlink()  # the folder's name is in it
    same_trees(prelux)


@pytest.mark.skipif(not shutil.which("javac"), reason="no Java here")
def test_java(prelux, lake):
    (prelux.tmp / "Walk.java").write_text(JAVA)
    prelux.plain(["javac", "-d", prelux.tmp, prelux.tmp / "Walk.java"])
    same(prelux, lake, ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", prelux.tmp, "Walk", "{}"])
    same_trees(prelux)


TREE = """
cd {} && BUSYBOX sh -c 'ls; cat a sub/one; echo new > n; mkdir bb; mv b n bb; find . | sort' && SHOW show bb/n && rg --sort path -uu 'text|word' . &&
(cd mod && GO build -o prog && ./prog && rm prog) && java -Xshare:auto -XX:TieredStopAtLevel=1 -cp CLASSES Walk {} && mv jd/moved bb && cat bb/moved && ls -R .
"""


@needs_debs
@pytest.mark.skipif(not Path(GO).exists() or not shutil.which("javac"), reason="no go or no Java here")
def test_one_tree(prelux, lake):
    """Static programs, Go's and dynamic ones start each other in one run, and see each other's changes. Dynamic ones are not supervised."""
    (prelux.tmp / "Walk.java").write_text(JAVA)
    prelux.plain(["javac", "-d", prelux.tmp, prelux.tmp / "Walk.java"])
    show, report = build(prelux, "deep_edges", "-static", "-pthread"), prelux.tmp / "report.json"
    script = TREE
    for word, program in ("BUSYBOX", DEBS.root / "bin/busybox"), ("SHOW", show), ("rg ", f"{DEBS.root}/usr/bin/rg "), ("GO ", f"{GO} "), ("CLASSES", prelux.tmp):
        script = script.replace(word, str(program))
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    want = prelux.plain(["bash", "-c", script.replace("{}", str(prelux.beside))], env=env, timeout=200)
    done = prelux.run(["bash", "-c", script.replace("{}", lake)], args=["--deep", f"--report={report}"], env=env, timeout=200)
    assert done.stdout == want.stdout and done.stderr == want.stderr and "built by go from a file\n" in want.stdout
    prelux.cli("flush")
    same_trees(prelux)
    supervised = {}
    for row in json.loads(report.read_text())["programs"]:
        name = os.path.basename(row["program"])
        supervised[name] = supervised.get(name, 0) + row["supervised"]
    assert all(supervised[name] for name in ("busybox", "deep_edges", "go")) and not any(supervised[name] for name in ("bash", "rg", "java", "mv", "ls")), supervised


@needs_debs
def test_liburing(prelux, lake):
    """A ring is not to be had, as below the library; who has another way reads the right bytes."""
    (prelux.tmp / "ring.c").write_text(URING)
    include, libs = DEBS.root / "usr/include", DEBS.root / "usr/lib/x86_64-linux-gnu"
    prelux.plain(["gcc", "-w", "-O", "-static", f"-I{include}", "-o", "ring", "ring.c", libs / "liburing.a"])
    want = prelux.plain([prelux.tmp / "ring", prelux.beside / "large"]).stdout.split("\n")
    got = prelux.run([prelux.tmp / "ring", f"{lake}/large"], args=["--deep"]).stdout.split("\n")
    assert got == ["Function not implemented", *want[1:]] and want[1].startswith("1048576 ")


# ---- containers

def build(prelux, name, *options):
    prelux.plain(["gcc", "-O", "-w", *options, "-o", prelux.tmp / name, DATA / f"{name}.c"])
    return prelux.tmp / name


def test_a_container_of_docker(prelux, lake):
    """Its default profile, and its capabilities: all of it works, but for watches (nobody may have a copy of another's descriptor)."""
    forbid, calls = build(prelux, "forbid"), build(prelux, "deep_calls", "-static", "-pthread")
    for folder in (prelux.beside, prelux.data):
        shutil.copy(calls, folder / "prog")
        (folder / "script").write_text("#!/bin/sh\necho script \"$1\"; cat d/c\n")
        (folder / "script").chmod(0o755)
    own = [forbid, "docker", "--", prelux.exe, "--config", prelux.config_path, "run"]
    refused = subprocess.run([forbid, "docker", "--", "unshare", "-m", "true"], capture_output=True, text=True)
    assert refused.returncode != 0 and "not permitted" in refused.stderr
    want = prelux.plain([forbid, "docker", "--", calls, prelux.beside]).stdout
    watch = 'inotify_add_watch inotify_init(), "moved", IN_OPEN: '
    assert f"{watch}ok\n" in want
    want = want.replace(f"{watch}ok\n", f"{watch}Bad file descriptor\n")
    done = subprocess.run([*own, "--deep", "--", calls, lake], env=prelux._merged(None), capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == want.splitlines() and done.stderr == "" and want.count("\n") > 50


WITHOUT = {"a user name space": ["unshare", "-Ur"], "no capability": ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]}


@pytest.mark.parametrize("how", WITHOUT)
def test_without_privileges(prelux, lake, how):
    """As rootless containers are made, and as any user without special rights is."""
    calls, before = build(prelux, "deep_calls", "-static", "-pthread"), WITHOUT[how]
    if os.geteuid() != 0:
        before = ["unshare", "-U", f"--map-user={os.geteuid()}"] if how == "a user name space" else []
    if subprocess.run([*before, "true"], capture_output=True).returncode != 0:
        pytest.skip(f"no {before[0]} here")
    for folder in (prelux.beside, prelux.data):
        shutil.copy(calls, folder / "prog")
        (folder / "script").write_text("#!/bin/sh\necho script \"$1\"; cat d/c\n")
        (folder / "script").chmod(0o755)
    if how == "no capability":
        assert prelux.plain([*before, "grep", "CapEff", "/proc/self/status"]).stdout == "CapEff:\t0000000000000000\n"
    want = prelux.plain([*before, calls, prelux.beside]).stdout
    done = subprocess.run([*before, prelux.exe, "--config", prelux.config_path, "run", "--deep", "--", calls, lake], env=prelux._merged(None),
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == want.splitlines() and done.stderr == "" and want.count("\n") > 50
