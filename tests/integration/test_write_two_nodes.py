"""Two nodes, that is two daemons with two caches, write one object. Whoever loses is told: by the errno of close (`sync`), or in `prelux pending` (`async`). Every record that a
program was told is written is on the remote in the end, or kept: in a pending file that can be exported, or (`on_conflict: keep`) beside the object."""

import re
import subprocess

import pytest

from tests.harness import wait_for
from tests.integration.crash_rig import FULL, LOCAL, content, mapped, peek, remote_of, seen
from tests.integration.crash_rig import CONTENT

ROUNDS = 300 if FULL else 25
RECORD = re.compile(rb"<([a-z0-9]+) (\d+)>\n")
# Appends, and rewrites what it has read with one record more. Prints what was acknowledged, and the errno of what was not.
WRITER = """
import os, random, sys, time
path, who, rounds, ways = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].split(",")
dice = random.Random(who)
for number in range(rounds):
    way, record = dice.choice(ways), f"<{who} {number}>\\n".encode()
    try:
        if way == "append":
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(fd, record)
            finally:
                os.close(fd)
        else:
            fd = os.open(path, os.O_RDWR)
            try:
                old = os.pread(fd, 1 << 20, 0)
                os.pwrite(fd, old.replace(b"header 1", b"header 2") + record, 0)
            finally:
                os.close(fd)
        print(number, flush=True)
    except OSError as error:
        print(number, error.errno, flush=True)
    time.sleep(dice.uniform(0, 0.02))
"""
ESTALE = 116
CASES = [(kind, write, on) for kind in ("file", "versitygw", "azurite") for write in ("sync", "async") for on in ("fail", "keep")]


def start(node, who, ways):
    program = node.tmp / "writer.py"
    program.write_text(WRITER)
    return node.popen(["python3", program, f"{LOCAL}/log", who, str(ROUNDS), ways], args=("--no-wait",), stdout=subprocess.PIPE, text=True)


def told(child):
    """(numbers that were acknowledged, {number: errno})"""
    out, _ = child.communicate(timeout=200)
    assert child.returncode == 0
    lines = [[int(word) for word in line.split()] for line in out.splitlines()]
    assert len(lines) == ROUNDS, out
    return {line[0] for line in lines if len(line) == 1}, {line[0]: line[1] for line in lines if len(line) == 2}


def records(data):
    """{(who, number)} of a file that is made of whole records."""
    assert RECORD.sub(b"", data) in (b"", b"header 1\n", b"header 2\n"), f"not made of records: {RECORD.sub(b'', data)[:200]}"
    found = [(who.decode(), int(number)) for who, number in RECORD.findall(data)]
    assert len(found) == len(set(found)), "a record is there twice"
    return set(found)


def kept_files(node):
    """Bytes of what the node's `prelux pending` holds."""
    found = []
    rows = node.cli("pending", "list", "--json")
    assert not rows["waiting"] and not rows["sending"] and not rows["open"], rows
    for row in rows["files"]:
        out = node.tmp / f"exported-{row['id']}"
        if not out.exists():
            node.cli("pending", "export", row["id"], str(out))
        assert row["state"] == "refused" and row["errno"] == "ESTALE" and row["cause"], row
        found.append(out.read_bytes())
    return found


@pytest.fixture
def nodes(prelux_factory, tmp_path):
    def make(kind, **options):
        remote = stack.enter_context(remote_of(kind, tmp_path))
        both = [prelux_factory(name) for name in "ab"]
        for node in both:
            mapped(node, remote, **options)
            node.run("true")
        return remote, both

    import contextlib
    with contextlib.ExitStack() as stack:
        yield make


def settle(both):
    for node in both:
        node.cli("flush", "--timeout", "60", check=False, timeout=120)
        wait_for(lambda: not node.cli("pending", "list", "--json")["waiting"], 30, "nothing waits")


@pytest.mark.slow
@pytest.mark.parametrize("kind, write, on", CASES, ids=["-".join(case) for case in CASES])
def test_the_loser_is_told(nodes, kind, write, on):
    remote, both = nodes(kind, write=write, on_conflict=on)
    remote.write("log", b"header 1\n")
    children = [start(node, who, "append,rewrite") for node, who in zip(both, ("n1", "n2"))]
    said = {who: told(child) for child, who in zip(children, ("n1", "n2"))}
    settle(both)
    there = seen(remote)
    on_remote = records(there.pop("log"))
    beside = [records(data) for data in there.values()]
    pending = [records(data) for node in both for data in kept_files(node)]
    anywhere = on_remote.union(*beside, *pending)
    for who, (done, errors) in said.items():
        odd = [record for node in both for record in node.errors() if record["errno"] != "ESTALE"]
        assert set(errors.values()) <= {ESTALE}, f"{who}: {errors}\n{odd}"
        lost = {number for number in done if (who, number) not in anywhere}
        assert not lost, f"{who}: acknowledged, and nowhere: {lost}\n{both[0].story()}{both[1].story()}"
        if write == "sync":
            missing = {number for number in done if (who, number) not in on_remote}
            assert not missing, f"{who}: acknowledged, and not on the remote: {missing}\n{both[0].story()}{both[1].story()}"
    assert all(re.match(r"log\.conflict-", name) for name in there), list(there)
    assert not there or on == "keep"
    assert not pending or on == "fail"
    print({who: (len(done), len(errors)) for who, (done, errors) in said.items()}, len(on_remote), len(beside), len(pending))
    if any(errors for _, errors in said.values()):
        assert beside or pending, "a loser was told, and nothing is kept"


@pytest.mark.parametrize("kind", ["file", "versitygw", "azurite"])
@pytest.mark.parametrize("write", ["sync", "async"])
def test_the_loser_of_two_that_are_open_at_once(nodes, kind, write):
    """No luck in it: both have opened the same version, one closes first."""
    remote, both = nodes(kind, write=write)
    remote.write("log", b"header 1\n")
    hold = "import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\nos.write(fd, sys.argv[2].encode())\nprint(flush=True)\nsys.stdin.readline()\n" \
           "try: os.close(fd); print('closed')\nexcept OSError as e: print(e.errno)\n"
    children = [node.popen(["python3", "-c", hold, f"{LOCAL}/log", f"<n{n} 1>\n"], args=("--no-wait",), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for n, node in enumerate(both)]
    for child in children:
        assert child.stdout.readline() == "\n"
    assert children[0].communicate("\n", timeout=60)[0] == "closed\n"
    settle(both[:1])
    assert peek(remote, "log") == b"header 1\n<n0 1>\n"
    assert children[1].communicate("\n", timeout=60)[0] == ("116\n" if write == "sync" else "closed\n")
    wait_for(lambda: both[1].cli("pending", "list", "--json")["refused"] == 1, 30, "the loser's file is refused")
    assert kept_files(both[1]) == [b"header 1\n<n1 1>\n"]
    assert peek(remote, "log") == b"header 1\n<n0 1>\n"
    errors = [record for record in both[1].errors() if record["path"] == f"{LOCAL}/log"]
    assert errors and errors[0]["errno"] == "ESTALE"
    assert both[1].run(["cat", f"{LOCAL}/log"]).stdout == "header 1\n<n0 1>\n", "the path shows the winner's"
    row = both[1].cli("pending", "list", "--json")["files"][0]
    both[1].cli("pending", "drop", row["id"])
    assert both[1].run(f"echo '<n1 2>' >> {LOCAL}/log && cat {LOCAL}/log").stdout == "header 1\n<n0 1>\n<n1 2>\n"
    settle(both)
    assert peek(remote, "log") == b"header 1\n<n0 1>\n<n1 2>\n"


TRUNCATE = CONTENT + """
import os, sys, time
path, who = sys.argv[1], int(sys.argv[2])
for number in range(who, int(sys.argv[3]), 2):
    with open(path, "wb") as file:
        file.write(content("whole", number, 3000 + number % 97))
    print(number, flush=True)
    time.sleep(0.003)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "versitygw", "azurite"])
@pytest.mark.parametrize("write", ["sync", "async"])
def test_whole_rewrites_replace_each_other(nodes, kind, write):
    """O_TRUNC overwrites whatever is there: the last one stays, always whole; nobody is refused."""
    remote, both = nodes(kind, write=write)
    last = 2 * ROUNDS
    for node in both:
        (node.tmp / "whole.py").write_text(TRUNCATE)
    children = [node.popen(["python3", node.tmp / "whole.py", f"{LOCAL}/whole", str(n), str(last)], args=("--no-wait",), stdout=subprocess.PIPE, text=True)
                for n, node in enumerate(both)]
    versions = {content("whole", n, 3000 + n % 97) for n in range(last)}
    while any(child.poll() is None for child in children):
        data = peek(remote, "whole")
        assert data is None or data in versions, data[:80]
    acknowledged = [[int(line) for line in child.communicate(timeout=60)[0].split()] for child in children]
    assert [len(one) for one in acknowledged] == [ROUNDS, ROUNDS], f"{both[0].story()}{both[1].story()}"
    settle(both)
    ends = {content("whole", one[-1], 3000 + one[-1] % 97) for one in acknowledged}
    assert peek(remote, "whole") in ends, "the last of neither"
    assert not any(kept_files(node) for node in both)


