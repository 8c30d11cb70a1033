"""What is shipped for Prometheus and Grafana, tried with them: Prometheus reads a daemon by the scrape configuration and the rules, each panel's expressions
find something there, and the dashboard is one by Grafana's own schema."""

import json
import re
import urllib.parse
import urllib.request
from datetime import datetime

import pytest
import yaml

from tests.harness import ROOT, wait_for
from tests.servers import grafana
from tests.servers.base import LOOPBACK, Server, ServerError, free_port, port_open
from tests.servers.debs import Unpacked
from tests.standin.cluster import AlluxioStandin

BOARD = ROOT / "config/grafana/prelux.json"
SHIPPED = ROOT / "config/prometheus"


class Prometheus(Server):
    """A real one, of Debian's package. scrape: its configuration; rules: a file that this names is beside it."""

    name = "prometheus"
    start_seconds = 60.0
    unpacked = Unpacked("promtool")

    def __init__(self, folder, scrape):
        super().__init__(folder)
        self.scrape, self.port = scrape, None

    def configure(self):
        self.port = free_port()
        (self.folder / "scrape.yaml").write_text(yaml.safe_dump(self.scrape))
        (self.folder / "rules.yaml").write_text((SHIPPED / "rules.yaml").read_text())

    def commands(self):
        argv = [self.unpacked.root / "usr/bin/prometheus", f"--config.file={self.folder}/scrape.yaml", f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address={LOOPBACK}:{self.port}"]
        return [("prometheus", argv, None)]

    def ready(self):
        return port_open(self.port) and urllib.request.urlopen(f"{self.url}/-/ready", timeout=10).status == 200

    @property
    def url(self):
        return f"http://{LOOPBACK}:{self.port}"

    def ask(self, what, **words):
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(words)}", timeout=30) as answer:
            return json.loads(answer.read())["data"]


@pytest.fixture
def board():
    return json.loads(BOARD.read_text())


@pytest.fixture(scope="module")
def schema():
    try:
        grafana.SCHEMA.install()
    except ServerError as error:
        pytest.skip(f"Grafana's schema cannot be had: {str(error)[:300]}")


@pytest.fixture
def lake():
    """Of a backend that tells where bytes came from. Not a real Alluxio."""
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())
    with AlluxioStandin(sync_interval=0) as cluster:
        (cluster.ufs / "d").mkdir()
        (cluster.ufs / "d/one").write_bytes(b"1" * 2000)
        yield {"type": "alluxio", "root": cluster.root, "etcd": [cluster.etcd.endpoint], "s3_port": cluster.s3_port, "page_size": cluster.page_size}


@pytest.fixture
def scraped(prelux, lake):
    """A daemon, and a Prometheus that reads it as scrape.yaml says: but at another port, and more often."""
    try:
        Prometheus.unpacked.install()
    except ServerError as error:
        pytest.skip(f"Prometheus cannot be had: {str(error)[:300]}")
    source, port = prelux.tmp / "source", free_port()
    source.mkdir()
    (source / "one").write_bytes(b"1" * 1000)
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}, "lake": lake}, "metrics": {"listen": f"{LOOPBACK}:{port}"},
                   "mappings": [{"local": "/prelux-board", "remote": "src:/"}, {"local": "/prelux-lake", "remote": "lake:/d"}]})
    prelux.run(["cat", "/prelux-board/one", "/prelux-lake/one"])
    text = (SHIPPED / "scrape.yaml").read_text()
    scrape = yaml.safe_load(re.sub(r"127\.0\.0\.1:\d+", f"{LOOPBACK}:{port}", text))
    scrape["global"]["scrape_interval"] = "1s"
    scrape["global"]["evaluation_interval"] = "1s"
    with Prometheus(prelux.tmp / "prometheus", scrape) as server:
        server.instance = scrape["scrape_configs"][0]["static_configs"][0]["targets"][0]
        yield server


def expression(target, server):
    """As Grafana sends it when one value is chosen of each variable: so a label that is not there finds nothing (what stands for all would match it)."""
    return target["expr"].replace("$__rate_interval", "1m").replace("$instance", server.instance).replace("$mapping", "/prelux-board")


def test_each_panel_finds_something(scraped, board):
    assert len(board["panels"]) >= 10
    for panel in board["panels"]:
        for target in panel["targets"]:
            wait_for(lambda: scraped.ask("query", query=expression(target, scraped))["result"], 60, f"{panel['title']}: {target['expr']}")
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
            assert variable["allValue"] == ".*" and [one["metric"][label] for one in scraped.ask("query", query=metric)["result"]], variable["name"]


def test_rules_are_evaluated(scraped):
    """By what is in a daemon: that needs labels which match."""
    def rules():
        found = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
        return found if all(datetime.fromisoformat(rule["lastEvaluation"]) > read for rule in found) else None
    target, = wait_for(lambda: [one for one in scraped.ask("targets")["activeTargets"] if one["health"] == "up"], 60, "the daemon is read")
    read = datetime.fromisoformat(target["lastScrape"])
    found = wait_for(rules, 60, "all rules are evaluated")
    assert {rule["name"] for rule in found if rule["health"] == "ok"} == set(re.findall(r"alert: (\w+)", (SHIPPED / "rules.yaml").read_text())), found


def test_panels_lie_side_by_side(board):
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert cells and at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_dashboard_is_one_by_grafanas_schema(schema, board, tmp_path):
    assert grafana.complaints(board, tmp_path) == ""


def put(board, value, *path):
    for name in path[:-1]:
        board = board[name]
    board[path[-1]] = value


@pytest.mark.parametrize("wrong", [
    [(30, "refresh"), ("qwery", "templating", "list", 1, "type"), ("0", "panels", 0, "gridPos", "x")],
    [(1, "panels", 0, "gridPos", "depth"), (1, "panels", 1, "options", "shade"), ("up", "panels", 3, "targets", 0, "expression"),
     ({"drawstyle": "line"}, "panels", 4, "fieldConfig", "defaults", "custom")]], ids=["of another kind", "not known"])
def test_schema_sees_what_is_wrong(schema, board, tmp_path, wrong):
    """Something in each part of a dashboard: so the test above would see it, too."""
    for value, *path in wrong:
        put(board, value, *path)
    said = grafana.complaints(board, tmp_path)
    found, lines = set(), (tmp_path / "board.ts").read_text().splitlines()
    for line, column in re.findall(r"board\.ts\((\d+),(\d+)\): error", said):
        found.add(re.match(r'"(\w+)"', lines[int(line) - 1][int(column) - 1:]).group(1))
    assert found == {next(iter(value)) if isinstance(value, dict) else path[-1] for value, *path in wrong}, said
