"""after_upload: drop. What a program wrote leaves the node when the remote has it; programs see no difference but that it is fetched again."""

import os
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, same_as_plain, settled


@pytest.fixture(params=["sync", "async"])
def lake(prelux, request):
    return make_lake(prelux, write=request.param, after_upload="drop")


def kept(lake):
    """Files of the cache folder that are not the daemon's own."""
    found = []
    for folder, _, names in os.walk(lake.cache):
        inside = folder.split(os.sep)
        if "data" in inside or {"staging", "fill", "held"} & set(inside):
            found += names
    return sorted(found)


def test_nothing_is_kept(lake):
    lake.run(f"cd {LOCAL} && echo one >f && mkdir d && seq 1000 >d/numbers && (echo 1; seq 9) >d/sorted && sort -o d/sorted d/sorted")
    settled(lake)
    assert sorted(lake.seen()) == ["d", "d/numbers", "d/sorted", "f"]
    wait_for(lambda: set(kept(lake)) <= {"sorted"}, 20, "nothing kept but what was read")
    assert lake.run(f"cat {LOCAL}/f; wc -l <{LOCAL}/d/numbers").stdout == "one\n1000\n"
    assert set(kept(lake)) >= {"f", "numbers"}


def test_descriptors_go_on(lake):
    program = f"""
import os, time
w = open("{LOCAL}/f", "w+"); w.write("first"); w.flush()
r = open("{LOCAL}/f"); was = os.fstat(r.fileno())
w.close()
end = time.monotonic() + 20
while not (os.path.exists("{lake.remote}/f") and open("{lake.remote}/f").read() == "first") and time.monotonic() < end: time.sleep(0.05)
time.sleep(0.3)
now, by_name = os.fstat(r.fileno()), os.stat("{LOCAL}/f")
print(r.read(), now.st_ino == was.st_ino == by_name.st_ino, now.st_dev == by_name.st_dev, now.st_size, now.st_mtime == by_name.st_mtime)
with open("{LOCAL}/f", "a") as a: a.write("+more")
r.seek(0); print(r.read(), open("{LOCAL}/f").read())
"""
    # What was dropped is another file than the one fetched for the second writer, as after any eviction.
    assert lake.run(["python3", "-c", program]).stdout == "first True True 5 True\nfirst first+more\n"
    settled(lake)
    assert lake.seen()["f"][2] == b"first+more"


def test_like_a_plain_folder(lake):
    same_as_plain(lake, "mkdir d; echo a >d/a; echo b >>d/a; cp d/a d/b; mv d/b d/c; cat d/*; printf x | dd of=d/a conv=notrunc status=none; cat d/a; "
                        "tar cf t.tar --sort=name --mtime=@0 d; mkdir u; tar xf t.tar -C u; ls -A u/d; rm -r d; git init -q g && cd g && echo x >y && git add y && "
                        "git -c user.name=n -c user.email=e commit -qm m && git status --short && git log --format=%s && cd .. && rm -rf g")


def test_daemon_killed_in_the_middle(prelux):
    """What was closed is on the remote in the end, and nothing of it stays here."""
    lake = make_lake(prelux, write="async", after_upload="drop")
    for number in range(6):
        writer = lake.popen(f"for i in $(seq 40); do echo {number} $i >{LOCAL}/{number}-$i; done", stdout=subprocess.DEVNULL)
        time.sleep(0.15 + 0.05 * number)
        wait_for(lake.daemon_pid, 20, "a daemon")
        lake.kill_daemon()
        assert writer.wait(60) == 0
    lake.run("true")
    settled(lake, 60)
    assert {path: data for path, (_, _, data) in lake.seen().items()} == {f"{n}-{i}": f"{n} {i}\n".encode() for n in range(6) for i in range(1, 41)}
    wait_for(lambda: not kept(lake), 10, "nothing kept")
    assert lake.cli("pending", "list", "--json")["files"] == []


def test_wrong_combinations_are_named(prelux):
    source = prelux.tmp / "remote"
    source.mkdir()
    prelux.file_mapping(source, LOCAL, after_upload="drop")
    said = prelux.cli("config", "check", "--json")
    assert len(said["warnings"]) == 1 and "`after_upload` has no effect: the mapping is read-only" in said["warnings"][0]
    file, line, column, _ = said["warnings"][0].split(":", 3)
    assert "after_upload" in open(file).read().splitlines()[int(line) - 1] and int(column) > 1
    prelux.file_mapping(source, LOCAL, after_upload="drop", write="sync")
    assert prelux.cli("config", "check", "--json")["warnings"] == []
    prelux.file_mapping(source, LOCAL, after_upload="never", write="sync")
    done = prelux.cli("config", "check", check=False)
    assert done.returncode == 1 and "after_upload" in done.stdout + done.stderr
