"""Shared objects below a prefix: loaded, with what they need beside them ($ORIGIN), and found by the caller's own search list."""

import shutil
import subprocess

import pytest

from tests import harness

LOADS = harness.BUILD / "tests/posix/loads"
LIB = """
#include <dlfcn.h>
int NEEDS(void);
int answer(void) { return VALUE; }
void *load(const char *name) { return dlopen(name, RTLD_NOW); }
"""


def cc(*argv):
    subprocess.run(["cc", "-O1", "-w", *map(str, argv)], check=True)


def library(path, value, *options):
    source = path.with_suffix(".c")
    source.write_text(LIB)
    cc("-shared", "-fPIC", "-o", path, f"-DVALUE={value}", "-DNEEDS=unused", source, *options)
    source.unlink()
    return path


@pytest.fixture
def remote(tmp_path):
    """lib/libtop.so needs ../deep/libmid.so needs ../deep/more/libend.so, all by $ORIGIN."""
    if not LOADS.exists():
        pytest.skip(f"{LOADS} is not built (make posix-programs)")
    folder = tmp_path / "remote"
    for name in ("lib", "deep/more", "plugins", "bin"):
        (folder / name).mkdir(parents=True)
    library(folder / "deep/more/libend.so", 1)
    library(folder / "deep/libmid.so", 2, "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN/more", f"-L{folder}/deep/more", "-lend")
    library(folder / "lib/libtop.so", 3, "-Wl,--no-as-needed,--disable-new-dtags", "-Wl,-rpath,/nowhere:${ORIGIN}/../deep",
            f"-L{folder}/deep", "-lmid", f"-Wl,-rpath-link,{folder}/deep/more")
    library(folder / "plugins/plain.so", 4)
    library(folder / "plugins/broken.so", 5, "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN/../lib", f"-L{folder}/plugins", "-l:plain.so")
    (folder / "plugins/text.so").write_text("not a library\n")
    return folder


def both(prelux, remote, local, cmd, cwd=None):
    shutil.copytree(remote, local)
    want = prelux.plain([LOADS, *cmd], cwd=cwd or prelux.tmp).stdout
    shutil.rmtree(local)
    prelux.file_mapping(remote, local)
    script = f"cd {cwd or prelux.tmp} && exec \"$@\""
    return want, prelux.run(["sh", "-c", script, "x", LOADS, *cmd]).stdout


def test_cold(prelux, remote, tmp_path):
    """Nothing is cached: each need is fetched before ld.so looks for it."""
    local = tmp_path / "m/lake"
    local.parent.mkdir()
    want, got = both(prelux, remote, local, [f"{local}/lib/libtop.so", f"{local}/plugins/plain.so", "", f"!{local}/plugins/plain.so",
                                             f"!{local}/deep/libmid.so", "libm.so.6", f"@{local}/plugins/plain.so"])
    assert got == want and "libtop.so: 3" in got and got.count("plain.so: 4") == 3


def test_relative(prelux, remote, tmp_path):
    local = tmp_path / "m/lake"
    local.parent.mkdir()
    want, got = both(prelux, remote, local, ["./lib/libtop.so", "plugins/plain.so", "../lake/plugins/plain.so"], cwd=local)
    assert got == want and "libtop.so: 3" in got


def test_failures(prelux, remote, tmp_path):
    local = prelux.file_mapping(remote, "/plx")
    got = prelux.run([LOADS, f"{local}/none.so", f"{local}/plugins/text.so", f"{local}/lib", f"{local}/plugins/plain.so/x"]).stdout.splitlines()
    assert len(got) == 4 and all(": failed" in line for line in got)
    assert f"{local}/none.so" in got[0].split(": failed")[1]
    assert "invalid ELF header" in got[1] or "file too short" in got[1]


def test_nothing_behind_the_prefix(prelux, remote, tmp_path):
    """A library that lies in the real folder behind the prefix is not loaded, whether the remote has one or not."""
    local = tmp_path / "m/lake"
    (local / "plugins").mkdir(parents=True)
    library(local / "plugins/plain.so", 666)
    library(local / "plugins/only-here.so", 666)
    prelux.file_mapping(remote, local)
    got = prelux.run([LOADS, f"{local}/plugins/plain.so", f"{local}/plugins/only-here.so"]).stdout
    assert "plain.so: 4" in got and "666" not in got and "only-here.so: failed" in got
    prelux.kill_daemon()
    (prelux.runtime / "index").unlink(missing_ok=True)
    got = prelux.run([LOADS, f"{local}/plugins/plain.so"], bare=True, env={"PRELUX_DAEMON": "/nowhere"}, check=False).stdout
    assert "666" not in got


def test_link_from_outside(prelux, remote, tmp_path):
    (tmp_path / "ln").symlink_to("/plx/lib")
    prelux.file_mapping(remote, "/plx")
    assert prelux.run([LOADS, tmp_path / "ln/libtop.so"]).stdout.endswith("libtop.so: 3\n")


def test_caller_stays_the_caller(prelux, remote, tmp_path):
    """A bare name is looked for along the RUNPATH of whoever calls dlopen: the program's, or a library's."""
    prelux.file_mapping(remote, "/plx")
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    library(own / "libmine.so", 10)
    library(other / "libtheirs.so", 20)
    library(tmp_path / "caller.so", 30, "-Wl,--enable-new-dtags", f"-Wl,-rpath,{other}")
    program = tmp_path / "program"
    cc("-o", program, harness.ROOT / "tests/posix/loads.c", "-D_GNU_SOURCE", "-Wl,--enable-new-dtags", f"-Wl,-rpath,{own}", "-ldl")
    cmd = [program, "libmine.so", "libtheirs.so", f"{tmp_path}/caller.so:libtheirs.so", f"{tmp_path}/caller.so:libmine.so", "$ORIGIN/own/libmine.so"]
    want = prelux.plain(cmd).stdout
    assert "libmine.so: 10\nlibtheirs.so: failed" in want and "libtheirs.so: 20" in want
    got = prelux.run(cmd).stdout
    assert [line.split(" failed")[0] for line in got.splitlines()] == [line.split(" failed")[0] for line in want.splitlines()]


def with_needs(remote, tmp_path):
    source = tmp_path / "main.c"
    source.write_text("#include <stdio.h>\nint answer(void);\nint main(void) { printf(\"%d\\n\", answer()); return 0; }\n")
    cc("-o", remote / "bin/main", source, f"-L{remote}/lib", "-ltop", "-Wl,-rpath,$ORIGIN/../lib", f"-Wl,-rpath-link,{remote}/deep:{remote}/deep/more")


def test_program_with_needs(prelux, remote, tmp_path):
    """A program below the prefix finds its libraries by $ORIGIN, cold."""
    with_needs(remote, tmp_path)
    local = prelux.file_mapping(remote, "/plx")
    assert prelux.run([f"{local}/bin/main"]).stdout == "3\n"


def test_what_was_not_sent_yet(prelux, remote, tmp_path):
    """What is written just now and finds its libraries by $ORIGIN is sent when it is started, and they are; other programs do not wait."""
    with_needs(remote, tmp_path)
    (tmp_path / "empty").mkdir()
    local = prelux.file_mapping(tmp_path / "empty", "/plx", write="async", write_back="1h")
    code = f"import ctypes; print(ctypes.CDLL('{local}/lib/libtop.so').answer(), ctypes.CDLL('{local}/plugins/plain.so').answer())"
    args = ["--no-wait"]
    assert prelux.run(f"cp -r {remote}/. {local}; cp /bin/true {local}/bin; {local}/bin/true && {local}/bin/main", args=args).stdout == "3\n"
    sent = [name for name in ("bin/main", "lib/libtop.so", "deep/libmid.so", "bin/true", "plugins/plain.so") if (tmp_path / "empty" / name).exists()]
    assert sent == ["bin/main", "lib/libtop.so", "deep/libmid.so"]
    assert prelux.run(f"rm -r {local}/lib {local}/deep; cp -r {remote}/lib {remote}/deep {local}; python3 -c \"{code}\"", args=args).stdout == "3 4\n"


def test_python_extension(prelux, remote):
    """import of an extension module is a dlopen."""
    local = prelux.file_mapping(remote, "/plx")
    code = f"import ctypes; print(ctypes.CDLL('{local}/lib/libtop.so').answer(), ctypes.CDLL('{local}/plugins/plain.so').answer())"
    assert prelux.run(["python3", "-c", code]).stdout == "3 4\n"
