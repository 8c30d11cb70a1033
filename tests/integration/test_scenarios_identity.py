"""Identity, the writing half: what programs compare (numbers, times, sizes) is the same before a file that was written here is on the
remote, while it is sent, and after it has been evicted and fetched again; also where the remote keeps neither times nor modes."""

import os
import signal
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, lake_of, make_lake, settled


@pytest.fixture(params=["file-sync", "file-async", "versitygw-async", "azurite-sync"])
def lake(request, prelux):
    kind, write = request.param.split("-")
    if kind == "file":
        yield make_lake(prelux, write=write)
    else:
        with lake_of(prelux, kind, write=write) as lake:
            yield lake


def lives(lake):
    """The states of what was written, one after another, in which nothing may look different."""
    yield "as it was written"
    settled(lake)
    yield "sent"
    lake.cli("evict", LOCAL)
    yield "evicted"
    lake.run(f"find {LOCAL} -type f -exec cat {{}} + > /dev/null")
    yield "filled again"
    lake.kill_daemon()
    yield "with a new daemon"


def test_cp_and_tar_of_what_is_being_sent(lake):
    """cp compares the file it opened with the one it looked at; tar looks at the file again when it has read it: "file changed as we read it"."""
    done = lake.run(f"""cd {LOCAL}; mkdir s; for i in $(seq 12); do
        head -c 300000 /dev/zero | tr '\\0' $((i % 10)) > s/f$i
        cp -p s/f$i {lake.tmp}/copy$i && cmp s/f$i {lake.tmp}/copy$i; tar cf {lake.tmp}/t$i.tar s; done""")
    assert done.stderr == ""
    for number in range(1, 13):
        assert len(lake.plain(["tar", "tf", lake.tmp / f"t{number}.tar"]).stdout.splitlines()) == number + 1
        assert (lake.tmp / f"copy{number}").read_bytes() == str(number % 10).encode() * 300_000


OPEN = f"""
import os, sys
w = os.open("{LOCAL}/f", os.O_WRONLY | os.O_CREAT, 0o640)
os.write(w, b"text")
r = os.open("{LOCAL}/f", os.O_RDONLY)
def seen(s): return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_mode, s.st_nlink
first = seen(os.fstat(r))
assert first == seen(os.stat("{LOCAL}/f")) == seen(os.fstat(w))
os.close(w)
assert first == seen(os.fstat(r)) == seen(os.stat("{LOCAL}/f"))
print("closed", flush=True)
sys.stdin.readline()
print(first == seen(os.fstat(r)) == seen(os.stat("{LOCAL}/f")) == seen(os.lstat("{LOCAL}/f")), os.pread(r, 9, 0))
"""


def test_an_open_file_is_sent(lake):
    """Whoever has it open, and looks again after it was sent, sees the same file: so do cp and tar, which do this as quickly as they can."""
    child = lake.popen(["python3", "-c", OPEN], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "closed\n"
    settled(lake)
    assert child.communicate("go\n", timeout=60)[0] == "True b'text'\n"


NUMBERS = f"""
import os
rows = []
for folder, folders, files in os.walk("{LOCAL}"):
    with os.scandir(folder) as entries:
        d_ino = {{entry.name: entry.inode() for entry in entries}}
    for name in sorted(files + folders):
        path = os.path.join(folder, name)
        fd = os.open(path, os.O_RDONLY)
        a, b = os.fstat(fd), os.stat(path)
        os.close(fd)
        assert (a.st_dev, a.st_ino, a.st_mtime_ns, a.st_size, a.st_mode) == (b.st_dev, b.st_ino, b.st_mtime_ns, b.st_size, b.st_mode), path
        assert b.st_ino == d_ino[name], path
        rows.append((path, b.st_ino, b.st_nlink) + ((b.st_mtime_ns, b.st_size, b.st_mode) if name in files else ()))
assert len({{row[1] for row in rows}}) == len(rows)
print(sorted(rows))
"""


def test_numbers_and_times(lake):
    """ls -i, stat, fstat and readdir agree, `test -ef` is of two names of one file only, no two are hard links for tar; find -xdev."""
    (lake.tmp / "numbers.py").write_text(NUMBERS)
    # What the writers themselves see comes first: nothing of it is on the remote, or all of it is since a moment.
    first = lake.run(f"""cd {LOCAL}; mkdir -p d/e; for i in 1 2 3 4; do echo same > d/f$i; done; echo other > d/e/g; printf '#!/bin/sh\\n' > run
        chmod 755 run; touch -d @1500000000 d/f2; stat -c '%i %n' d/f1 run > {lake.tmp}/stats; stat -c '%y' d/f1 run > {lake.tmp}/times
        python3 {lake.tmp}/numbers.py""").stdout
    for state in lives(lake):
        assert lake.run(["python3", lake.tmp / "numbers.py"]).stdout == first, state
        shown = lake.run(f"cd {LOCAL}; stat -c '%i %n' d/f1 run; stat -c %y d/f1 run").stdout
        assert shown == (lake.tmp / "stats").read_text() + (lake.tmp / "times").read_text(), state
        pairs = {"d/f1 -ef d/e/../f1": "0", "d/f1 -ef d/f2": "1", "d -ef d/e/..": "0", f"{LOCAL}/run -ef ./run": "0"}
        ef = lake.run(f"cd {LOCAL}; " + "; ".join(f"test {pair}; echo $?" for pair in pairs)).stdout
        assert ef.split() == list(pairs.values()), state
        kinds = lake.run(f"tar cf - -C {LOCAL} . | tar tvf -").stdout.splitlines()
        assert len(kinds) == 9 and not [line for line in kinds if line[0] == "h"], state
        assert len(lake.run(["find", LOCAL, "-xdev"]).stdout.splitlines()) == 9, state
        assert lake.run(["find", LOCAL, "-type", "f", "-links", "+1"]).stdout == "", state


def test_git_and_make_trust_what_they_saw(lake):
    """git's index remembers stat of each file: diff-files compares stat alone. make: what was built is newer than what it was built of, in
    whatever order they were sent."""
    lake.run(f"""set -e; cd {LOCAL}; export HOME={lake.tmp}; git init -q --bare {lake.tmp}/git
        g="git --git-dir={lake.tmp}/git --work-tree=. -c user.name=n -c user.email=e"
        mkdir src; for i in $(seq 8); do seq $i 100 > src/f$i; done
        printf 'all: o1 o2\\no%%: src/f%%\\n\\tcp $< $@\\n' > Makefile; make -s -j2; make -q
        cp src/f1 {lake.tmp}/f1; touch -d 2020-02-02 {lake.tmp}/f1; cp -p {lake.tmp}/f1 src/f1; make -q  # sent after what is made of it
        $g add .; $g commit -qm one""")
    git = f"git --git-dir={lake.tmp}/git --work-tree=."
    for state in lives(lake):
        assert lake.run(f"cd {LOCAL}; {git} diff-files --name-only; {git} --no-optional-locks status --porcelain -uno").stdout == "", state
        assert lake.run(f"cd {LOCAL}; make -q", check=False).returncode == 0, state
    lake.run(f"cd {LOCAL}; echo changed >> src/f2")
    assert lake.run(f"cd {LOCAL}; {git} diff-files --name-only; make -q; echo $?").stdout == "src/f2\n1\n"


def test_tail_follows_a_name_over_a_replace(lake):
    """By a rename on this node: another file, before it is sent as after it."""
    out, said = lake.tmp / "out", lake.tmp / "said"
    lake.run(f"echo one > {LOCAL}/log")
    with open(out, "wb") as stdout, open(said, "wb") as stderr:
        tail = lake.popen(["tail", "---disable-inotify", "-s", "0.1", "-n", "+1", "-F", f"{LOCAL}/log"], stdout=stdout, stderr=stderr,
                          start_new_session=True)
        want = "one\n"
        for text in ("two", "three", "four"):
            wait_for(lambda: out.read_text() == want, 30, want)
            lake.run(f"echo {text} > {LOCAL}/new; mv {LOCAL}/new {LOCAL}/log")
            want += text + "\n"
        wait_for(lambda: out.read_text() == want, 30, want)
        settled(lake)
        time.sleep(0.5)
        os.killpg(tail.pid, signal.SIGKILL)  # `prelux run` and what it runs
        tail.wait()
    assert out.read_text() == want and said.read_text().count("following new file") == 3


def test_second_rsync_copies_nothing(lake):
    """Into the mapping: times are what rsync set, whatever the remote keeps. From there, into a plain folder."""
    source = lake.tmp / "source"
    (source / "d").mkdir(parents=True)
    for number in range(12):
        path = source / ("d" if number % 2 else ".") / f"f{number}"
        path.write_text("text\n" * number)
        os.utime(path, (1_400_000_000 + number,) * 2)
    lake.run(["rsync", "-rt", f"{source}/", f"{LOCAL}/"])
    lake.run(["rsync", "-rt", f"{LOCAL}/", lake.tmp / "out"])
    for state in lives(lake):
        for words in ([f"{source}/", f"{LOCAL}/"], [f"{LOCAL}/", lake.tmp / "out"]):
            changed = [line for line in lake.run(["rsync", "-rt", "--itemize-changes", *words]).stdout.splitlines() if line[:2] != ".d"]
            assert changed == [], state
    assert len(lake.seen()) >= 12


def test_rm_stays_on_its_file_system(lake):
    """A prefix below the folder that is removed is another file system: it is left alone. Of the mapping itself all goes."""
    outside = lake.tmp / "outside"
    (outside / "sub").mkdir(parents=True)
    config = lake.config_path.read_text()
    lake.config(config.replace(f"local: {LOCAL}", f"local: {outside}/lake"), raw=True)
    lake.run(f"mkdir {outside}/lake/d; echo kept > {outside}/lake/d/f")
    done = lake.run(["rm", "-r", "--one-file-system", outside], check=False)
    assert done.returncode == 1 and "lake" in done.stderr and not (outside / "sub").exists()
    assert lake.run(["cat", f"{outside}/lake/d/f"]).stdout == "kept\n"
    settled(lake)
    assert [row[2] for row in lake.seen().values() if row[0] == "file"] == [b"kept\n"]
    lake.run(["rm", "-r", "--one-file-system", f"{outside}/lake/d"])
    settled(lake)
    assert not lake.seen()
