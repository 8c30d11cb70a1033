"""The library of aarch64, cross-built, in programs that qemu runs; the daemon is this machine's own (words have the same size and order on
both, so they understand each other, but for open's flags of which some have other numbers: mappings are read-only here)."""

import os
import re
import shutil
import subprocess
from itertools import zip_longest

import pytest

from tests.harness import ROOT, clean_environment

CC = "aarch64-linux-gnu-gcc"
SYSROOT = "/usr/aarch64-linux-gnu"
PROGRAMS = ("families", "walks", "numbers", "hooks_fds", "hooks_threads", "hooks_signals", "hooks_read")
READ_ONLY = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && cd / && shift 2 && exec "$@"'


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Folder of the cross-built library and programs."""
    for tool in (CC, "qemu-aarch64"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)")
    out = tmp_path_factory.mktemp("aarch64")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    for goals in ([out / "libprelux.so"], [out / "tests/posix" / name for name in PROGRAMS]):
        done = subprocess.run(["make", "-C", ROOT, "-j2", f"CC={CC}", f"BUILD={out}", *goals], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "warning:" not in done.stderr or "tests" in str(goals), done.stderr
    return out


@pytest.fixture
def guest(prelux, built):
    """guest(program, words..., mapped): what it says."""
    def run(name, *words, mapped=True, cwd="/", before=(), check=True):
        argv = [*before, "qemu-aarch64", "-L", SYSROOT]
        if mapped:
            table = prelux.cli("env", "--json")["PRELUX_CONFIG"]
            argv += ["-E", f"LD_PRELOAD={built}/libprelux.so", "-E", f"PRELUX_CONFIG={table}", "-E", f"PRELUX_RUNTIME_DIR={prelux.runtime}"]
        done = subprocess.run([*argv, built / "tests/posix" / name, *words], cwd=cwd, env=clean_environment(), capture_output=True, text=True,
                              errors="surrogateescape", timeout=200)
        assert not check or done.returncode == 0, (done.stdout[-2000:], done.stderr)
        return done.stdout

    return run


def test_symbols(built):
    """As test_symbols.py says of this machine's."""
    wanted = subprocess.run(["nm", "-D", "--defined-only", built / "libprelux.so"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in wanted.splitlines()}
    said = subprocess.run(["readelf", "-dW", "--dyn-syms", built / "libprelux.so"], capture_output=True, text=True, check=True).stdout
    assert {"open", "openat64", "fstatat", "syscall", "vfork", "dlopen"} <= names
    assert "TEXTREL" not in said and "INITFIRST" in said
    versions = {tuple(map(int, word.split("_")[1].rstrip(")").split("."))) for word in said.replace("@", " ").split() if word.startswith("GLIBC_2.")}
    assert versions and max(versions) <= (2, 28)


def test_daemon_and_command_compile():
    """No more than that: the libraries that they need are not here for aarch64. Their headers are this machine's."""
    if not shutil.which(CC):
        pytest.skip(f"{CC} is not installed (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)")
    folder = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    sources = [path for pattern in ("lib/*/*.c", "daemon/*.c", "cli/*.c") for path in ROOT.glob(pattern)]
    argv = [CC, "-fsyntax-only", "-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-I", ROOT, "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror",
            "-idirafter", f"/usr/include/{folder}", *sources]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    base = tmp_path_factory.mktemp("reach").resolve()
    remote = base / "remote"
    (remote / "sub/deep").mkdir(parents=True)
    (remote / "a.txt").write_text("text of a\nsecond line\n")
    (remote / "sub/b.bin").write_bytes(bytes(range(256)) * 40)
    (remote / "empty").write_text("")
    (remote / "script").write_text("#!/bin/sh\necho hi\n")
    (remote / "script").chmod(0o755)
    for i in range(20):
        (remote / f"sub/deep/{i}-{'n' * i}").write_text(str(i))
    for path in remote.rglob("*"):
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    return base, remote


@pytest.mark.parametrize("part", ["open", "access", "stdio", "dirs", "cwd", "links", "stats"])
def test_families(prelux, guest, tree, part):
    """Each reading call in all its ways: as the same tree, mounted read-only."""
    base, remote = tree
    lake = base / "lake"
    lake.mkdir(exist_ok=True)
    want = guest("families", part, lake, mapped=False, before=["unshare", "-m", "sh", "-c", READ_ONLY, "sh", remote, lake], check=False)
    if not want:
        pytest.skip("no mount namespace here")
    lake.rmdir()
    prelux.file_mapping(remote, lake)
    got = zip_longest(guest("families", part, lake).splitlines(), want.splitlines())
    # They ask for version 1 of the old ABI, which libc has there by number 0; the library takes any.
    assert [pair for pair in got if pair[0] != pair[1] and not re.fullmatch(r"__\w*xstat\w* .*EINVAL", pair[1] or "")] == []


@pytest.mark.parametrize("words", [["ftw", "0"], ["nftw", "1"], ["nftw", "9"], ["fts", "16"], ["fts", "20"], ["scandir", "0"], ["glob", "0"]])
def test_walks(prelux, guest, tree, words):
    base, remote = tree
    lake = base / "lake"
    what = [lake / "*", lake / "*/*"] if words[0] == "glob" else [lake, lake / "sub"]
    shutil.copytree(remote, lake)
    want = guest("walks", *words, *what, mapped=False, cwd=base)
    shutil.rmtree(lake)
    prelux.file_mapping(remote, lake)
    got = guest("walks", *words, *what, cwd=base)
    assert sorted(got.splitlines()) == sorted(want.splitlines()) and "b.bin" in got


def test_numbers(prelux, guest, tree):
    """syscall(), whose numbers are others than on x86-64."""
    base, remote = tree
    lake = base / "numbers"
    (remote / "f").write_text("content\n")
    (remote / "d").mkdir(exist_ok=True)
    (remote / "d/g").write_text("more\n")
    shutil.copytree(remote, lake)
    want = guest("numbers", lake, mapped=False)
    shutil.rmtree(lake)
    prelux.file_mapping(remote, lake)
    old = re.compile(r"^openat2 \[.*?\] -?\d+$", re.M | re.S)  # qemu 7.2 does not know it
    assert old.sub("", guest("numbers", lake)) == old.sub("", want).replace("faccessat2 0 ", "faccessat2 -1 EROFS")


AWKWARD = [("hooks_fds", "lowest", "@", "12"), ("hooks_fds", "none", "@"), ("hooks_threads", "fork", "@", "20"), ("hooks_threads", "_Fork", "@", "20"),
           ("hooks_signals", "storm", "@", "20"), ("hooks_signals", "nested", "@", "20"), ("hooks_read", "@", "f000", "f019")]


@pytest.mark.parametrize("words", AWKWARD, ids="-".join)
def test_awkward(prelux, guest, words):
    """Of test_hooks.py: signals, forks and threads, no descriptor left; each also in the plain folder."""
    source = prelux.tmp / "source"
    source.mkdir()
    for n in range(200):
        (source / f"f{n:03}").write_text(f"content of f{n:03}\n" * 100)
    prelux.file_mapping(source, "/prelux-arm", freshness="immutable")
    plain = guest(*(str(source) if word == "@" else word for word in words), mapped=False)
    assert "right" in plain
    assert guest(*("/prelux-arm" if word == "@" else word for word in words)) == plain
