"""preluxd answers: requests under way, configurations beside each other. The tests speak the wire protocol themselves (tests/wire.py)."""

import contextlib
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.daemon_rig import Slow, data, http_config, served, start, tables  # noqa: F401 (a fixture)

EIO, EACCES, EINVAL, ENOENT, EAGAIN = 5, 13, 22, 2, 11
ROOT = Path(__file__).resolve().parents[2]


# Requests under way


def test_one_fill_for_all_and_who_leaves_cancels_nothing(prelux):
    with Slow(100) as server:
        http_config(prelux, server.url)
        start(prelux)
        table = wire.register(prelux.runtime, prelux.config_path).table
        ask = wire.message(wire.OPEN, (wire.F_TABLE, table), (wire.F_MAPPING, 0), (wire.F_PATH, "f"), (wire.F_FLAGS, wire.WANT_FD))
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(wire.connect(prelux.runtime)) for _ in range(32)]
            socks[0].send(ask)
            wait_for(lambda: server.gets, 60, "the fill has begun")
            for sock in socks[1:]:
                sock.send(ask)
            time.sleep(0.2)
            socks[0].close()
            fds = []
            for sock in socks[1:] * 2:
                assert wire.receive(sock).op == wire.PROGRESS, "a frame each second"
            server.gate.set()
            for sock in socks[1:]:
                while (answer := wire.receive(sock)).op == wire.PROGRESS:
                    pass
                assert answer.status == 0 and answer.serial == 7
                fds.append(answer.fd)
            for fd in fds:  # each has an offset of its own
                assert os.read(fd, 100) == b"slow bytes"
                os.close(fd)
        assert server.gets == ["/f"], "one transfer"


def test_told_to_end_it_finishes_what_is_under_way(prelux):
    with Slow(1.5) as server:
        http_config(prelux, server.url)
        child = start(prelux)
        table = wire.register(prelux.runtime, prelux.config_path).table
        answers = []
        asker = threading.Thread(target=lambda: answers.append(wire.open_object(prelux.runtime, table, 0, "f").status))
        asker.start()
        wait_for(lambda: server.gets, 60, "the fill has begun")
        child.send_signal(signal.SIGTERM)
        asker.join()
        assert answers == [0] and child.wait(60) == 0
        assert not (prelux.runtime / "sock").exists()


@pytest.mark.alone
def test_dead_backend_leaves_room_for_others(prelux):
    """200 requests that hang in one backend do not keep another backend's from being answered."""
    with Slow(6) as server:
        source = data(prelux.tmp, one="1")
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": server.url}, "src": {"type": "file", "root": str(source)}},
                       "mappings": [{"local": "/web", "remote": "web:/"}, {"local": "/src", "remote": "src:/"}]})
        start(prelux)
        table = wire.register(prelux.runtime, prelux.config_path).table
        with contextlib.ExitStack() as stack:
            for i in range(200):
                sock = stack.enter_context(wire.connect(prelux.runtime))
                sock.send(wire.message(wire.OPEN, (wire.F_TABLE, table), (wire.F_MAPPING, 0), (wire.F_PATH, f"f{i}")))
            wait_for(lambda: len(server.gets) >= 10, 60, "fills have begun")
            begun = time.monotonic()
            assert wire.open_object(prelux.runtime, table, 1, "one").status == 0
            assert time.monotonic() - begun < 2
        prelux.kill_daemon()


# Configurations


@pytest.mark.asan
def test_twenty_configurations_no_cross_talk(prelux):
    """The same prefix, relative to 20 folders, from 20 sources, asked for at once."""
    sets = []
    for i in range(20):
        source, cwd = prelux.tmp / f"source{i}", prelux.tmp / f"cwd{i}"
        source.mkdir()
        cwd.mkdir()
        (source / "who").write_text(f"I am {i}")
        (source / f"only{i}").write_text("x")
        config = prelux.config({"version": 1, "backends": {"b": {"type": "file", "root": str(source)}},
                                "mappings": [{"local": "./data", "remote": "b:/"}, {"local": "/same", "remote": "b:/"}]}, name=f"c{i}.yaml")
        sets.append((i, cwd, config))
    start(prelux)
    wrong = []

    def work(i, cwd, config):
        for _ in range(10):
            answer = wire.register(prelux.runtime, config, cwd=cwd)
            if answer.status:
                wrong.append((i, answer.status, answer.texts))
                return
            for mapping in (0, 1):
                with wire.open_object(prelux.runtime, answer.table, mapping, "who", wire.WANT_FD) as got:
                    text = os.read(got.fd, 100)
                names = set(wire.list_folder(prelux.runtime, answer.table, mapping, "").listing())
                where = wire.ctl(prelux.runtime, "map", f"{cwd}/data/who", table=answer.table).json()["mapping"]
                if text != f"I am {i}".encode() or names != {"who", f"only{i}"} or where != f"{cwd}/data":
                    wrong.append((i, text, names, where))

    threads = [threading.Thread(target=work, args=one) for one in sets]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(tables(prelux)) == 20


def test_credentials_do_not_mix(prelux):
    """Two jobs, one server, one of them with a wrong token: it fails alone, and what the other cached stays."""
    with Slow(0, token="right") as server:
        http_config(prelux, server.url, bearer="${TOKEN}")
        start(prelux)
        runtime, config = prelux.runtime, prelux.config_path
        need = wire.register(runtime, config)
        assert need.status == -EAGAIN and need.all(wire.F_NEED) == [b"TOKEN"]
        good = wire.register(runtime, config, env=["TOKEN=right"])
        bad = wire.register(runtime, config, env=["TOKEN=wrong"])
        assert good.status == 0 and bad.status == 0 and good.table != bad.table
        for turn in range(3):
            assert wire.open_object(runtime, bad.table, 0, f"f{turn}").status == -EACCES
            assert wire.open_object(runtime, good.table, 0, f"f{turn}").status == 0
        for table in (good.table, bad.table):
            text = (runtime / "tables" / (table.hex() + ".conf")).read_text()
            assert "TOKEN" in text and "right" not in text and "wrong" not in text
        for path in runtime.rglob("*"):
            if path.is_file():
                assert b"=right" not in path.read_bytes(), path
        assert wire.register(runtime, None, table=good.table, env=["TOKEN=other"]).status == -EACCES
        prelux.kill_daemon()
        start(prelux)
        assert wire.register(runtime, None, table=good.table).all(wire.F_NEED) == [b"TOKEN"]
        assert wire.register(runtime, None, table=good.table, env=["TOKEN"]).status == -EACCES
        assert wire.register(runtime, None, table=good.table, env=["TOKEN=wrong"]).status == -EACCES
        assert wire.register(runtime, None, table=good.table, env=["TOKEN=right"]).status == 0
        unset = wire.register(runtime, config, env=["TOKEN"])
        assert unset.status == -EINVAL and "TOKEN" in unset.texts[1]
        assert wire.register(runtime, config).status == -EAGAIN, "not mentioned is not the same as not set"
        assert wire.register(runtime, config, env=["OTHER=1", "MORE"]).status == -EAGAIN
        assert wire.register(runtime, config, env=["TOKEN=right"]).table == good.table


@pytest.mark.asan
def test_broken_edit_keeps_the_old_table(served):
    prelux, table, source = served
    good = Path(prelux.config_path).read_text()
    time.sleep(0.01)
    Path(prelux.config_path).write_text(good + "nonsense: [\n")
    kept = wire.register(prelux.runtime, prelux.config_path)
    assert kept.status == 0 and kept.table == table and str(prelux.config_path) in kept.texts[1], kept.texts
    assert wire.stat(prelux.runtime, kept.table, 0, "one").status == 0
    assert any(r["call"] == "configuration" and r["errno"] == "EINVAL" for r in prelux.errors())
    assert "last good configuration" in prelux.log()
    for _ in range(2):
        elsewhere = wire.register(prelux.runtime, prelux.config_path, cwd="/tmp")
        assert elsewhere.status == -EINVAL, "another working directory never had a good one"
    Path(prelux.config_path).write_text(good + "nonsense: {\n")
    assert wire.register(prelux.runtime, prelux.config_path, cwd="/tmp").status == -EINVAL, "a broken table is no good one"
    Path(prelux.config_path).write_text(good.replace("/prelux-test", "/prelux-other"))
    mended = wire.register(prelux.runtime, prelux.config_path)
    assert mended.status == 0 and mended.table != table and len(mended.texts) == 1
    assert wire.stat(prelux.runtime, table, 0, "one").status == 0, "programs under the old table go on"


def test_broken_configuration_fails_closed(prelux):
    prelux.config("version: 1\nmappings:\n  - {local: /prelux-broken, remote: nowhere, bogus: 1}\n", raw=True)
    start(prelux)
    answer = wire.register(prelux.runtime, prelux.config_path)
    assert answer.status == -EINVAL and f"{prelux.config_path}:3:" in answer.texts[1], answer.texts
    bytes_ = Path(answer.texts[0]).read_bytes()
    assert b"/prelux-broken" in bytes_
    assert int.from_bytes(bytes_[12:16], "little") & 2, "PRELUX_TABLE_BROKEN"
    assert wire.stat(prelux.runtime, answer.table, 0, "x").status == -EIO
    missing = wire.register(prelux.runtime, None)
    assert missing.status == -ENOENT and missing.texts[0] == ""


def test_broken_mapping_leaves_others_whole(prelux):
    source = data(prelux.tmp, one="1")
    blocked = prelux.tmp / "blocked"
    blocked.write_text("a file stands where the cache folder should be")
    prelux.config({"version": 1, "backends": {"b": {"type": "file", "root": str(source)}},
                   "mappings": [{"local": "/bad", "remote": "b:/", "cache": str(blocked)}, {"local": "/good", "remote": "b:/"}]})
    start(prelux)
    answer = wire.register(prelux.runtime, prelux.config_path)
    assert answer.status == 0, answer.texts
    assert wire.stat(prelux.runtime, answer.table, 0, "one").status in (-EIO, wire.NO_TABLE)
    assert wire.stat(prelux.runtime, answer.table, 1, "one").status == 0
    state = {m["local"]: m for m in wire.ctl(prelux.runtime, "status", table=answer.table).json()["mappings"]}
    assert state["/bad"]["broken"] and str(blocked) in state["/bad"]["cause"] and not state["/good"]["broken"]
    assert any(r["path"] == "/bad" for r in prelux.errors())


def test_same_table_again_is_not_compiled_again(served):
    prelux, table, _ = served
    for _ in range(20):
        assert wire.register(prelux.runtime, prelux.config_path).table == table
    assert prelux.log().count(" table ") == 1
    file = prelux.runtime / "tables" / table.hex()
    before = file.stat()
    Path(prelux.config_path).touch()
    assert wire.register(prelux.runtime, prelux.config_path).table == table
    assert prelux.log().count(" table ") == 2
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "a table is never written again"


def test_few_fds(prelux):
    """More clients than half of the fds: the rest waits in the backlog, files are still filled."""
    source = data(prelux.tmp, one="1")
    prelux.file_mapping(source)
    start(prelux, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
    table = wire.register(prelux.runtime, prelux.config_path).table
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(wire.connect(prelux.runtime, 60)) for _ in range(400)]
        for sock in socks:
            sock.send(wire.message(wire.OPEN, (wire.F_TABLE, table), (wire.F_MAPPING, 0), (wire.F_PATH, "one"), (wire.F_FLAGS, wire.WANT_FD)))
        for i, sock in enumerate(socks):
            with wire.receive(sock) as answer:
                assert answer.status == 0 and os.read(answer.fd, 9) == b"1", i
            sock.close()
    assert prelux.errors() == []


def test_errors_name_the_logical_path(prelux):
    with Slow(0, token="x") as server:
        http_config(prelux, server.url)
        start(prelux)
        table = wire.register(prelux.runtime, prelux.config_path).table
        assert wire.stat(prelux.runtime, table, 0, "secret/file").status == -EACCES
        records = prelux.errors()
        assert [(r["path"], r["errno"], r["backend"]) for r in records] == [("/web/secret/file", "EACCES", "web")]
        assert wire.ctl(prelux.runtime, "errors", "/web/secret").json()["errors"] == records
        assert wire.ctl(prelux.runtime, "errors", "/web/sec").json()["errors"] == []


def test_plain_answers_leave_no_record(served):
    prelux, table, _ = served
    assert wire.stat(prelux.runtime, table, 0, "nope").status == -ENOENT
    assert wire.list_folder(prelux.runtime, table, 0, "one").status == -20
    assert prelux.errors() == []
