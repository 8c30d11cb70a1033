"""Eight checkpoints at once: what the daemon takes of memory does not grow with them. FULL=1: 512 MiB each, else a little above the size from which on files go in parts."""

import hashlib
import os
import subprocess

import pytest

from tests.integration.crash_rig import FULL, LOCAL, mapped, remote_of

MIB = 1 << 20
SIZE = 512 * MIB if FULL else 65 * MIB
RANKS = 8
CASES = [(kind, write) for kind in ("file", "versitygw", "azurite") for write in ("sync", "async")] if FULL else [("versitygw", "async"), ("azurite", "sync")]
MOST_KIB = 256 * 1024
WRITER = f"""
import hashlib, os, sys
rank = int(sys.argv[1])
block = hashlib.sha256(b"%d" % rank).digest() * 32768
with open("{LOCAL}/ckpt.%d.tmp" % rank, "wb", buffering=0) as file:
    for n in range({SIZE} >> 20):
        file.write(n.to_bytes(8, "big") + block[8:])
os.rename("{LOCAL}/ckpt.%d.tmp" % rank, "{LOCAL}/ckpt.%d" % rank)
"""


def digest_of(rank):
    block, digest = hashlib.sha256(b"%d" % rank).digest() * 32768, hashlib.md5()
    for n in range(SIZE >> 20):
        digest.update(n.to_bytes(8, "big") + block[8:])
    return digest.hexdigest()


def peak_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


@pytest.mark.slow
@pytest.mark.limit(1800 if FULL else 240)
@pytest.mark.parametrize("kind, write", CASES, ids=["-".join(case) for case in CASES])
def test_eight_checkpoints_at_once(prelux, kind, write):
    room = os.statvfs(prelux.tmp)
    if room.f_bavail * room.f_frsize < 3 * RANKS * SIZE:
        pytest.skip("the disk is too small")
    with remote_of(kind, prelux.tmp) as remote:
        mapped(prelux, remote, write=write)
        prelux.run("true")
        pid = prelux.daemon_pid()
        program = prelux.tmp / "rank.py"
        program.write_text(WRITER)
        ranks = [prelux.popen(["python3", program, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(RANKS)]
        for rank in ranks:
            _, err = rank.communicate(timeout=1700 if FULL else 200)
            assert rank.returncode == 0, f"{err}{prelux.story()}"
        prelux.cli("flush", timeout=600)
        assert prelux.daemon_pid() == pid, "another daemon"
        peak = peak_kib(pid)
        print(f"{peak >> 10} MiB at most")
        assert peak < MOST_KIB, f"{peak} KiB"
        for rank in range(RANKS):
            data = remote.content(f"ckpt.{rank}")
            assert len(data) == SIZE and hashlib.md5(data).hexdigest() == digest_of(rank), rank
        # pytest keeps the folders of a test: what is left would make the disk too small for the next.
        prelux.run(f"rm {LOCAL}/ckpt.*", timeout=200)
        prelux.cli("flush", timeout=200)
