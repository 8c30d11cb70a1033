"""`prelux stats`, `prelux metrics`, the endpoint, and what is shipped for Prometheus and Grafana."""

import errno
import json
import re
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from tests import wire
from tests.harness import ROOT, wait_for
from tests.servers.base import ServerError, free_port
from tests.servers.debs import Unpacked

SHIPPED = ROOT / "config/prometheus"
LINE = re.compile(r'^prelux_[a-z_]+(\{[a-z]+="(\\.|[^"\\])*"(,[a-z]+="(\\.|[^"\\])*")*\})? [0-9.e+-]+$')


@pytest.fixture(scope="module")
def promtool():
    tool = Unpacked("promtool")
    try:
        tool.install()
    except ServerError as error:
        pytest.skip(f"promtool cannot be had: {str(error)[:300]}")
    return tool.root / "usr/bin/promtool"


@pytest.fixture
def lake(prelux):
    """Mapped from a web server's stand-in: a folder, whose name needs a quote in a label; metrics at a port of its own."""
    source = prelux.tmp / "source"
    source.mkdir()
    for number in range(4):
        (source / f"f{number}").write_bytes(b"x" * 1000)
    prelux.port = free_port()
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}}, "metrics": {"listen": f"127.0.0.1:{prelux.port}"},
                   "mappings": [{"local": '/prelux "lake"', "remote": "src:/", "prefetch": "off"}]})
    return '/prelux "lake"'


def scrape(prelux, path="/metrics"):
    def get():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{prelux.port}{path}", timeout=30) as answer:
                return answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return None
    return wait_for(get, 60, "the endpoint answers")


def values(text):
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}


def read(prelux, lake, *names):
    for name in names:
        prelux.run(["cat", f"{lake}/{name}"], check=False)


def test_counts_of_a_mapping(prelux, lake):
    read(prelux, lake, "f0", "f1", "f0", "none")
    row, = prelux.cli("stats", "--json")["mappings"]
    assert row["mapping"] == lake and row["remote_bytes"] == 2000 and row["open"]["error"] == 0
    assert row["open"]["miss"] >= 2 and sum(row["open"]["times"]) == row["open"]["hit"] + row["open"]["miss"]
    assert row["remote_requests"] >= 3 and row["open"]["seconds"] > 0
    prelux.cli("prefetch", lake)
    again, = prelux.cli("stats", "--json")["mappings"]
    assert again["remote_bytes"] == 4000 and again["open"]["hit"] >= row["open"]["hit"] + 2
    text = prelux.cli("stats", "--watch=0.2", "--rounds", "2")
    assert text.count("MAPPING") == 2 and "OPENS/S" in text and "4 KB" not in text and "uploads 0 wait" in text


def test_errors_are_counted(prelux, lake):
    """Of each kind of request, each once more; that there is no such file is none."""
    def errors():
        row, = prelux.cli("stats", "--json")["mappings"]
        return [row[op]["error"] for op in ("stat", "open", "list")]

    read(prelux, lake, "f0", "none")
    assert errors() == [0, 0, 0]
    table = wire.register(prelux.runtime, prelux.config_path).table
    (prelux.tmp / "source").rename(prelux.tmp / "away")
    for ask, want in ((wire.stat, [1, 0, 0]), (wire.open_object, [1, 1, 0]), (wire.list_folder, [1, 1, 1])):
        assert ask(prelux.runtime, table, 0, "" if ask is wire.list_folder else "f2").status == -errno.EIO
        assert errors() == want
    found = values(prelux.cli("metrics"))
    name = 'mapping="/prelux \\"lake\\""'
    assert [found[f'prelux_requests_total{{{name},op="{op}",result="error"}}'] for op in ("stat", "open", "list")] == [1, 1, 1]


def test_text_is_prometheus_own(prelux, lake, promtool):
    read(prelux, lake, "f0", "f0", "none")
    kind, text = scrape(prelux)
    assert kind.startswith("text/plain; version=0.0.4")
    odd = [line for line in text.splitlines() if not line.startswith("# ") and not LINE.match(line)]
    assert not odd, odd
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    found = values(text)
    name = 'mapping="/prelux \\"lake\\""'
    assert found[f"prelux_remote_bytes_total{{{name}}}"] == 1000 and found["prelux_mappings_broken"] == 0
    opens = sum(found[f'prelux_requests_total{{{name},op="open",result="{result}"}}'] for result in ("hit", "miss", "error"))
    assert found[f'prelux_request_seconds_bucket{{{name},op="open",le="+Inf"}}'] == opens == found[f'prelux_request_seconds_count{{{name},op="open"}}'] > 0
    same = values(prelux.cli("metrics"))
    assert set(same) == set(found) and same[f"prelux_remote_bytes_total{{{name}}}"] == 1000


@pytest.mark.parametrize("words", [["--watch=nan"], ["--watch=1x"], ["--watch", "--rounds=5x"], ["--watch", "--rounds=-1"], ["--watch", "--rounds="]])
def test_what_stats_refuses(prelux, words):
    done = prelux.cli("stats", *words, check=False)
    assert done.returncode == 2 and "--watch wants seconds" in done.stderr


def test_no_rate_is_negative_after_a_restart(prelux, lake):
    read(prelux, lake, "f0", "f1")
    argv = [str(prelux.exe), "--config", str(prelux.config_path), "stats", "--watch=3", "--rounds=2"]
    with subprocess.Popen(argv, env=prelux.env, stdout=subprocess.PIPE, text=True) as child:
        first = [child.stdout.readline() for _ in range(2)]
        child.send_signal(signal.SIGSTOP)
        prelux.kill_daemon()
        prelux.cli("ls", lake)
        child.send_signal(signal.SIGCONT)
        second = child.stdout.read()
    assert child.returncode == 0 and first[0].startswith("MAPPING") and "OPENS/S" in second and not re.search(r"\s-\d", second), second


def test_what_else_is_asked(prelux, lake):
    read(prelux, lake, "f0")
    assert scrape(prelux)[1] and scrape(prelux, "/metrics?x=1")[1]
    assert scrape(prelux, "/")[0] == 404 and scrape(prelux, "/metricsx")[0] == 404
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{prelux.port}/metrics", data=b"x", method="POST"), timeout=30)
    assert caught.value.code == 405


def test_the_next_daemon_takes_the_address_over(prelux, lake):
    read(prelux, lake, "f0")
    assert scrape(prelux)
    prelux.kill_daemon()
    read(prelux, lake, "f1")
    assert 'prelux_remote_bytes_total' in scrape(prelux)[1]
    prelux.cli("daemon", "stop")


def test_an_address_that_is_taken(prelux, lake):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", prelux.port))
        other.listen()
        read(prelux, lake, "f0")
        wait_for(lambda: "it is tried again" in prelux.cli("daemon", "log"), 60, "a line")
    assert scrape(prelux)[1]


def test_only_loopback(prelux, lake):
    text = prelux.config_path.read_text().replace("127.0.0.1:", "0.0.0.0:")
    prelux.config(text, raw=True)
    read(prelux, lake, "f0")
    wait_for(lambda: "only addresses of this node's loopback" in prelux.cli("daemon", "log"), 60, "a line in the log")


class Trickler:
    """Somebody who is connected and sends a byte of a head that never ends, again and again."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.over, self.cut_off = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.send)
        self.thread.start()

    def send(self):
        try:
            while not self.over.wait(0.1):
                self.socket.send(b"x")
        except OSError:
            self.cut_off.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.socket.close()


def test_a_client_that_trickles_is_cut_off(prelux, lake):
    read(prelux, lake, "f0")
    assert scrape(prelux)
    with Trickler(prelux.port) as client:
        assert client.cut_off.wait(60)
    assert scrape(prelux)[1]


def test_a_client_that_trickles_keeps_no_daemon(prelux, lake):
    read(prelux, lake, "f0")
    assert scrape(prelux)
    with Trickler(prelux.port):
        prelux.cli("daemon", "stop")
        assert not prelux.daemons()


def register(prelux, text, name="prelux.yaml"):
    prelux.config(text, name, raw=True)
    assert wire.register(prelux.runtime, prelux.config_path).status == 0


def is_there(prelux, port):
    """Whether the daemon listens: the kernel's word, at once."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_changed_address_is_followed(prelux, lake):
    text, first, second = prelux.config_path.read_text(), prelux.port, free_port()
    moved = text.replace(f":{first}", f":{second}")
    read(prelux, lake, "f0")
    table = prelux.run(["sh", "-c", "echo $PRELUX_CONFIG"]).stdout.strip()
    assert scrape(prelux)[1]
    with Trickler(first):  # nobody keeps it
        register(prelux, moved)
        assert not is_there(prelux, first)
    prelux.port = second
    assert scrape(prelux)[1]
    register(prelux, text)  # taken back: that table is there still
    assert not is_there(prelux, second)
    prelux.port = first
    assert scrape(prelux)[1]
    register(prelux, moved)
    register(prelux, text, "other.yaml")  # two that name both
    wait_for(lambda: is_there(prelux, first) and is_there(prelux, second), 60, "both are served")
    without = re.sub(r'"?metrics"?:.*\n( .*\n)?', "", moved)
    register(prelux, without)
    assert not is_there(prelux, second) and is_there(prelux, first)
    prelux.kill_daemon()  # who has the old table brings nothing back
    prelux.cli("daemon", "start")
    register(prelux, moved, "other.yaml")
    register(prelux, without)
    assert wire.register(prelux.runtime, table).status == 0
    prelux.port = second
    assert scrape(prelux)[1] and "in use again" in prelux.log() and f"metrics at http://127.0.0.1:{first}" not in prelux.log().rpartition("serves /")[2]


def test_more_addresses_than_are_served(prelux, lake):
    text, ports = prelux.config_path.read_text(), set()
    while len(ports) < 9:
        ports.add(free_port())
    prelux.cli("daemon", "start")
    for number, port in enumerate(ports):
        register(prelux, text.replace(f":{prelux.port}", f":{port}"), f"{number}.yaml")
    assert prelux.log().count("serves as many others as it can") == 1
    register(prelux, text, "0.yaml")  # one less, one more: of those the oldest that waits is another
    wait_for(lambda: sum(is_there(prelux, port) for port in {*ports, prelux.port}) == 8, 60, "eight are served")


# What is shipped

def test_promtool_accepts_rules_and_scrape_configuration(promtool):
    for words in (["check", "rules", "rules.yaml"], ["test", "rules", "rules-test.yaml"], ["check", "config", "scrape.yaml"]):
        done = subprocess.run([promtool, *words], cwd=SHIPPED, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    names = [set(re.findall(r"(?:alert|alertname): (\w+)", (SHIPPED / name).read_text())) for name in ("rules.yaml", "rules-test.yaml")]
    assert names[0] == names[1], "what each does is tried"


def names_in(text):
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bprelux_[a-z_]+", text)}


def test_rules_dashboard_and_table_name_what_there_is(prelux, lake):
    read(prelux, lake, "f0")
    known = set(re.findall(r"^# TYPE (\S+)", prelux.cli("metrics"), re.M))
    for path in (SHIPPED / "rules.yaml", SHIPPED / "rules-test.yaml", ROOT / "config/grafana/prelux.json", ROOT / "docs/METRICS.md"):
        used = names_in(path.read_text())
        assert used and not used - known, path
    assert not known - names_in((ROOT / "docs/METRICS.md").read_text())


def test_a_path_that_is_no_text(prelux):
    """Prometheus refuses a whole scrape for one byte that is not UTF-8."""
    source = prelux.tmp / "source"
    source.mkdir()
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}}, "mappings": [{"local": "/lake-${NAME}", "remote": "src:/"}]})
    prelux.run(["sh", "-c", 'ls "/lake-$NAME"'], env={"NAME": "\udcff\u00e9\udcc3"})
    answer = wire.ctl(prelux.runtime, "metrics").json()
    assert "text_hex" not in answer and 'mapping="/lake-\\\\xff\u00e9\\\\xc3"' in answer["text"], answer
