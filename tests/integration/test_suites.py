"""Suites for file systems that others wrote, in a mapped folder of the `file` backend and in a plain one. pjdfstest asks of each call what POSIX says, errno by
errno: what passes in the plain folder passes in the mapped one, but for the list in docs/SEMANTICS.md, each case of which must still be as listed. fsx reads,
writes, maps, cuts and copies one file at random, and looks at each byte it reads."""

import grp
import os
import pwd
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.harness import wait_for
from tests.integration.crash_rig import FULL
from tests.integration.suite_rig import judge, listed
from tests.integration.write_rig import LOCAL, make_lake, settled
from tests.servers.crates import FSX, PJDFSTEST

SECONDS = 200
OPERATIONS = {"async": 20000 if FULL else 4000, "sync": 5000 if FULL else 1000}
# What is said of a case, and below it, indented, why.
CASE = re.compile(r"^(\S+) +(ok|skipped|FAILED)$")
# fsx does these rarely, or not at all, unless told.
WEIGHTS = {"close_open": 3, "read": 10, "write": 10, "mapread": 10, "mapwrite": 10, "invalidate": 1, "truncate": 5, "fsync": 1, "fdatasync": 1,
           "posix_fallocate": 3, "punch_hole": 5, "sendfile": 5, "posix_fadvise": 2, "copy_file_range": 5}


def needs(crate):
    if crate.missing():
        pytest.skip(crate.missing())


# pjdfstest

def others():
    """Two users for cases that become somebody else: not root, with a group of their own number."""
    named = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    found = [[user.pw_name, named[user.pw_gid]] for user in pwd.getpwall() if user.pw_uid and user.pw_gid in named]
    return sorted(found, key=lambda pair: pair[0] != "nobody")[:2]


def posix_cases(lake, run, folder):
    config = lake.tmp / "pjdfstest.toml"
    config.write_text("[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\nutimensat = {}\n"
                      f"[settings]\nnaptime = 0.01\n[dummy_auth]\nentries = {others()}\n")
    done = run([PJDFSTEST.program, "-c", config, "-p", folder, "-s", "/dev/shm"], check=False, timeout=SECONDS, env={"NO_COLOR": "1"})
    cases, name = {}, None
    for line in done.stdout.splitlines():
        if found := CASE.match(line):
            name, outcome = found.groups()
            cases[name] = "" if outcome == "FAILED" else outcome
        elif name and not cases[name].startswith(("ok", "skipped")):
            cases[name] += line + "\n"
    assert "Summary" in done.stdout, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}{lake.story()}"
    return cases


@pytest.mark.limit(500)
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_pjdfstest(prelux, mode):
    needs(PJDFSTEST)
    lake = make_lake(prelux, write=mode)
    plain = lake.tmp / "plain"
    plain.mkdir()
    plain.chmod(0o755)
    lake.run(["mkdir", f"{LOCAL}/cases"])
    got, want = posix_cases(lake, lake.run, f"{LOCAL}/cases"), posix_cases(lake, lake.plain, plain)
    assert len(want) > 200 and got.keys() == want.keys()
    judge(got, want, listed("pjdfstest"), lake.story())


# fsx

KINDS = {
    "all calls": {},
    "a shared map, not synced": {"nomsyncafterwrite": "true", "weights": {"mapwrite": 30, "mapread": 30, "close_open": 6, "invalidate": 0}},
    # Of whole pages fsx itself gives posix_fallocate none, EINVAL.
    "whole pages": {"flen": 1 << 20, "opsize": {"align": 4096}, "weights": {"posix_fallocate": 0}},
    "small, often closed": {"flen": 5000, "opsize": {"max": 900}, "weights": {"close_open": 30}},
}


def fsx_words(lake, name, seed, operations, flen=1 << 18, nomsyncafterwrite="false", opsize=None, weights=None):
    config = lake.tmp / f"{name}.toml"
    lines = [f"flen = {flen}", f"nomsyncafterwrite = {nomsyncafterwrite}", "[opsize]", *(f"{word} = {number}" for word, number in (opsize or {}).items())]
    config.write_text("\n".join([*lines, "[weights]", *(f"{word} = {weight}" for word, weight in {**WEIGHTS, **(weights or {})}.items())]))
    artifacts = lake.tmp / "artifacts"
    artifacts.mkdir(exist_ok=True)
    return [FSX.program, "-q", "-f", config, "-N", operations, "-S", seed, "-P", artifacts]


def exercise(lake, runs, meanwhile=lambda children: None):
    """{name: words of fsx}, all at once in the mapping. What fsx does goes by its seed alone: the mapping, the remote and a plain folder end with the same bytes."""
    plain = lake.tmp / "plain"
    plain.mkdir()
    children = {name: lake.popen([*words, f"{LOCAL}/{name}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for name, words in runs.items()}
    meanwhile(children.values())
    for name, child in children.items():
        said = child.communicate(timeout=SECONDS)[0]
        assert child.returncode == 0, f"{name}: {child.returncode}\n{said[-3000:]}{lake.story()}"
    for name, words in runs.items():
        lake.plain([*words, plain / name], timeout=SECONDS)
    want = {name: (plain / name).read_bytes() for name in runs}
    assert any(want.values())
    got = {name: lake.run(["cat", f"{LOCAL}/{name}"], text=False).stdout for name in runs}
    assert [name for name in runs if got[name] != want[name]] == [], "in the mapping" + lake.story()
    settled(lake)
    assert [name for name in runs if (lake.remote / name).read_bytes() != want[name]] == [], "on the remote" + lake.story()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_fsx(prelux, mode, kind):
    needs(FSX)
    lake = make_lake(prelux, write=mode)
    exercise(lake, {"one": fsx_words(lake, "one", 8, OPERATIONS[mode], **KINDS[kind])})


@pytest.mark.slow
def test_fsx_of_several_while_daemons_die_and_readers_fill_the_cache(prelux):
    needs(FSX)
    lake = make_lake(prelux, write="async")
    conf = yaml.safe_load(lake.config_path.read_text())
    lake.config({**conf, "cache": {**conf["cache"], "max_size": "4MiB"}})
    for number in range(6):
        (lake.remote / f"cold{number}").write_bytes(bytes([number]) * (1 << 20))
    over = f"{lake.tmp}/over"
    readers = lake.popen(f"until [ -e {over} ]; do for n in 0 1 2 3 4 5; do cmp {LOCAL}/cold$n {lake.remote}/cold$n || exit 1; done; done")

    def kill_daemons(children):
        for _ in range(5):
            wait_for(lake.daemon_pid, SECONDS)
            time.sleep(0.3)
            if all(child.poll() is not None for child in children):
                break
            lake.kill_daemon()

    kinds = list(KINDS.values())
    exercise(lake, {f"f{number}": fsx_words(lake, f"f{number}", number, OPERATIONS["async"], **kinds[number % 4]) for number in range(4)}, kill_daemons)
    Path(over).touch()
    assert readers.wait(60) == 0
