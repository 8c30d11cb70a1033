"""Each reading family in all its ways: a mapping answers as the same tree does on a file system mounted read-only."""

import os
import shutil
import subprocess

import pytest

from tests import harness

PROGRAM = harness.BUILD / "tests/posix/families"
PARTS = ["open", "access", "stdio", "dirs", "cwd", "links", "stats"]
READ_ONLY = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && cd / && shift 2 && exec "$@"'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    if not PROGRAM.exists():
        pytest.skip(f"{PROGRAM} is not built (make posix-programs)")
    base = tmp_path_factory.mktemp("families").resolve()
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


def _mounted(base, remote, part):
    """The oracle: in a mount namespace of its own."""
    root = base / "lake"
    root.mkdir()
    try:
        argv = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", remote, root, PROGRAM, part, root]
        if os.geteuid() != 0:
            argv.insert(1, "-r")
        return subprocess.run(argv, env=harness.clean_environment(), capture_output=True, text=True, errors="surrogateescape")
    finally:
        root.rmdir()


@pytest.mark.parametrize("how", ["cold", "warm"])
@pytest.mark.parametrize("part", PARTS)
def test_family(prelux, place, part, how):
    base, remote = place
    oracle = _mounted(base, remote, part)
    if oracle.returncode != 0 and "mount" in oracle.stderr + oracle.stdout:
        pytest.skip("no mount namespace here: " + oracle.stderr.strip())
    assert oracle.returncode == 0, oracle.stderr
    prelux.file_mapping(remote, base / "lake")
    if how == "warm":
        prelux.run(["grep", "-r", "x", base / "lake"], bare=True, check=False)
    ran = prelux.run([PROGRAM, part, base / "lake"], bare=True, cwd="/")
    assert ran.stdout.splitlines() == oracle.stdout.splitlines()
    assert not (base / "lake").exists()
