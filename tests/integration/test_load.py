"""`prelux load` on the stand-in: submit, attach, progress, stop; exit statuses, JSON, the bar on a terminal."""

import json
import os
import pty
import select
import subprocess
import time

import pytest

from tests import harness, trees
from tests.standin.cluster import AlluxioStandin

pytestmark = pytest.mark.skipif(bool(AlluxioStandin.missing()), reason=str(AlluxioStandin.missing()))

FILES = 24
SIZES = [5000 + number for number in range(FILES)]


@pytest.fixture(scope="module")
def cluster():
    with AlluxioStandin(sync_interval=0, timeout=2) as it:
        yield it


@pytest.fixture
def folder(request, cluster):
    """A folder below the root, of this test only."""
    path = cluster.ufs / "jobs" / request.node.name.partition("[")[0]
    path.mkdir(parents=True)
    for number, size in enumerate(SIZES):
        (path / f"file{number:02}").write_bytes(trees.pattern(size, number))
    cluster.load_delays(start=0.2, file=0.0)
    return path


@pytest.fixture
def lake(prelux, cluster, folder):
    prelux.config({"version": 1,
                   "backends": {"lake": {"type": "alluxio", "root": cluster.root, "etcd": [cluster.etcd.endpoint],
                                         "s3_port": cluster.s3_port, "refresh": "300ms"},
                                "plain": {"type": "file", "root": str(cluster.ufs)}},
                   "mappings": [{"local": "/prelux-lake", "remote": "lake:/jobs"}, {"local": "/prelux-plain", "remote": "plain:"}]})
    return f"/prelux-lake/{folder.name}"


def load(prelux, *words, **options):
    return prelux.cli("load", *words, check=False, **options)


def load_json(prelux, *words):
    done = load(prelux, *words, "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def wait_state(prelux, path, state, seconds=20):
    harness.wait_for(lambda: load_json(prelux, "progress", path)[1]["state"] == state, seconds, f"the job is {state}")


def all_loaded(cluster, folder):
    rel = f"/jobs/{folder.name}"
    return all(cluster.pages(f"{rel}/file{number:02}") == {0: size} for number, size in enumerate(SIZES))


def submits(cluster):
    return sum("opType=submit" in row.target for row in cluster.requests())


def test_submit_progress_done(prelux, cluster, folder, lake):
    assert load_json(prelux, "progress", lake) == (1, {**load_json(prelux, "progress", lake)[1], "state": "unknown"})
    status, job = load_json(prelux, "submit", lake)
    assert status == 3 and job["state"] == "starting" and not job["attached"] and len(job["job"]) == 36
    assert job["remote"] == f"jobs/{folder.name}" and job["backend"] == "lake"
    wait_state(prelux, lake, "done")
    status, job = load_json(prelux, "progress", lake)
    assert status == 0 and job["bytes_done"] == job["bytes_total"] == sum(SIZES) and job["files_failed"] == 0
    assert all_loaded(cluster, folder)
    text = load(prelux, "progress", lake)
    assert text.returncode == 0 and ": done, " in text.stdout and "  Job State: SUCCEEDED\n" in text.stdout


def test_wait(prelux, cluster, folder, lake):
    """--wait returns when the job is over; nothing is drawn where there is no terminal."""
    done = load(prelux, "submit", "--wait", lake)
    assert done.returncode == 0 and done.stderr == "" and ": done, " in done.stdout and "\r" not in done.stdout
    assert all_loaded(cluster, folder)
    status, job = load_json(prelux, "submit", "--wait", lake)  # of what is there already: another job, as quickly done
    assert status == 0 and job["state"] == "done" and not job["attached"]


def test_submit_attaches(prelux, cluster, folder, lake):
    """The worker closes the connection on the submit of a job that runs: we are attached, and may wait for it."""
    cluster.load_delays(start=0.1, file=0.1)
    status, first = load_json(prelux, "submit", lake)
    assert status == 3 and not first["attached"]
    cluster.forget_requests()
    status, again = load_json(prelux, "submit", lake)
    assert status == 3 and again["attached"] and again["state"] in ("starting", "running")
    assert submits(cluster) == 1
    status, job = load_json(prelux, "submit", "--wait", lake)
    assert status == 0 and job["attached"] and job["state"] == "done"
    assert all_loaded(cluster, folder)


def test_nan_is_starting(prelux, cluster, lake):
    cluster.load_delays(start=2)
    load(prelux, "submit", lake)
    status, job = load_json(prelux, "progress", lake)
    assert status == 3 and job["state"] == "starting"
    wait_state(prelux, lake, "done")


def test_running_shows_how_far(prelux, cluster, lake):
    cluster.load_delays(start=0, file=0.2)
    load(prelux, "submit", lake)
    wait_state(prelux, lake, "running")
    harness.wait_for(lambda: load_json(prelux, "progress", lake)[1]["bytes_done"] > 0, 60, "bytes")
    status, job = load_json(prelux, "progress", lake)
    assert status == 3 and 0 < job["bytes_done"] < sum(SIZES) and job["bytes_done"] < job["bytes_total"] <= sum(SIZES)
    wait_state(prelux, lake, "done")


def test_stop(prelux, cluster, lake):
    cluster.load_delays(start=0, file=0.3)
    assert load_json(prelux, "stop", lake)[0] == 1  # there is none
    load(prelux, "submit", lake)
    status, job = load_json(prelux, "stop", lake)
    assert status == 0 and job["state"] == "stopped"
    status, job = load_json(prelux, "progress", lake)
    assert status == 1 and job["state"] == "stopped"
    status, job = load_json(prelux, "stop", lake)
    assert status == 1 and job["state"] == "unknown" and "Cannot find load job" in job["text"]


def test_by_the_remotes_own_uri(prelux, cluster, folder, lake):
    status, job = load_json(prelux, "submit", "--wait", f"{cluster.root}/jobs/{folder.name}")
    assert status == 0 and job["remote"] == f"{cluster.root}/jobs/{folder.name}"
    assert load_json(prelux, "progress", lake)[1]["state"] == "done"
    done = load(prelux, "submit", "s3://elsewhere/x")
    assert done.returncode == 1 and "s3:/elsewhere/x is in no mapping" in done.stderr
    beside = load(prelux, "submit", f"{cluster.root}2/jobs")
    assert beside.returncode == 1 and "is in no mapping" in beside.stderr


def test_uri_of_an_object_store(prelux, tmp_path):
    with AlluxioStandin(root="s3://bucket/top", sync_interval=0, timeout=2, workers=1, folder=tmp_path / "standin") as it:
        (it.ufs / "d").mkdir()
        (it.ufs / "d" / "f").write_bytes(b"bytes")
        prelux.config({"version": 1, "backends": {"lake": {"type": "alluxio", "root": it.root, "etcd": [it.etcd.endpoint],
                                                           "s3_port": it.s3_port}},
                       "mappings": [{"local": "/prelux-lake", "remote": "lake:"}]})
        status, job = load_json(prelux, "submit", "--wait", "s3://bucket/top/d/")
        assert status == 0 and it.pages("/d/f") == {0: 5}
        assert load(prelux, "submit", "s3://bucket/topless/d").returncode == 1
        assert prelux.run(["cat", "/prelux-lake/d/f"]).stdout == "bytes"


def test_one_file(prelux, cluster, folder, lake):
    assert load_json(prelux, "submit", "--wait", f"{lake}/file03")[0] == 0
    assert cluster.pages(f"/jobs/{folder.name}/file03") == {0: SIZES[3]}


def test_options_reach_the_worker(prelux, cluster, lake):
    cluster.forget_requests()
    options = ["--verify", "--metadata-only", "--skip-if-exists", "--partial-listing", "--bandwidth", "10MiB"]
    assert load(prelux, "submit", "--wait", *options, lake).returncode == 0
    submit = next(row for row in cluster.requests(kind="load") if "opType=submit" in row.target)
    for word in ("verify=true", "loadMetadataOnly=true", "skipIfExists=true", "partialListing=true", "bandwidth=10485760"):
        assert f"&{word}" in submit.target, submit.target
    for size, bytes_ in (("1", 1), ("5k", 5 << 10), ("2MB", 2 << 20), ("1GiB", 1 << 30)):
        cluster.forget_requests()
        load(prelux, "submit", "--wait", "--bandwidth", size, lake)
        assert any(row.target.endswith(f"&bandwidth={bytes_}") for row in cluster.requests(kind="load"))


@pytest.mark.parametrize("size", ["0", "-1", "ten", "1X", "1.5M", "99999999999T", ""])
def test_bad_bandwidth(prelux, cluster, tmp_path, size):
    prelux.config({"version": 1, "mappings": []})
    assert load(prelux, "submit", "--bandwidth", size, "/x").returncode == 2


def test_refusals(prelux, cluster, folder, lake):
    cluster.forget_requests()
    missing = load(prelux, "submit", f"{lake}/none")
    assert missing.returncode == 1 and "NOT_FOUND" in missing.stderr
    assert submits(cluster) == 1  # no other worker knows better
    for name in ("with blank", "a=b", "héllo", "100%2Fx"):
        done = load(prelux, "submit", f"{lake}/{name}")
        assert done.returncode == 1 and "takes no load job for this name" in done.stderr, done.stderr
    plain = load(prelux, "submit", "/prelux-plain/x")
    assert plain.returncode == 1 and "backends of type file have no load jobs" in plain.stderr
    assert load(prelux, "submit", "/nowhere").returncode == 1
    assert load(prelux, "start", lake).returncode == 2
    assert load(prelux, "submit").returncode == 2


def test_a_failed_job(prelux, cluster, folder, lake):
    """A worker that is not there when its files are loaded: FAILED, exit 1, and the reason is shown."""
    victim = cluster.owner(f"/jobs/{folder.name}/file00")
    cluster.load_delays(start=0.5, file=0)
    load(prelux, "submit", lake)
    cluster.kill(victim)
    try:
        wait_state(prelux, lake, "failed")
        done = load(prelux, "progress", lake)
        assert done.returncode == 1 and "FAILED (java" in done.stdout and "files failed" in done.stdout
    finally:
        cluster.restart(victim)


def test_any_worker_will_do(prelux, cluster, folder, lake):
    victim = cluster.owner(f"/jobs/{folder.name}")
    load(prelux, "submit", "--wait", lake)
    cluster.kill(victim)
    try:
        assert load_json(prelux, "progress", lake)[1]["state"] == "done"
    finally:
        cluster.restart(victim)


def on_terminal(prelux, *words, seconds=30):
    """(exit status, all that was drawn) of a command whose standard streams are a terminal."""
    try:
        pid, terminal = pty.fork()
    except OSError as why:  # a root without /dev/pts
        pytest.skip(f"no terminals here: {why}")
    if pid == 0:
        os.execve(prelux.exe, [str(prelux.exe), *words, "--config", str(prelux.config_path)], {**prelux.env, "TERM": "xterm"})
    drawn, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and select.select([terminal], [], [], end - time.monotonic())[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        if not chunk:
            break
        drawn += chunk
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return status, drawn.decode()


def test_a_bar_on_a_terminal(prelux, cluster, lake):
    cluster.load_delays(start=0.5, file=0.05)
    status, drawn = on_terminal(prelux, "load", "submit", lake)
    assert status == 0, drawn
    assert "starting" in drawn and "\r\x1b[K[" in drawn and " %  " in drawn and ": done, " in drawn.rpartition("\x1b[K")[2]
    status, drawn = on_terminal(prelux, "load", "submit", "--no-wait", lake)
    assert status == 3 and "\x1b" not in drawn
    wait_state(prelux, lake, "done")


def test_no_master(prelux, tmp_path):
    """A cluster without a master takes no jobs; reading goes on."""
    with AlluxioStandin(sync_interval=0, timeout=2, master=False, folder=tmp_path / "standin") as cluster:
        (cluster.ufs / "d").mkdir()
        (cluster.ufs / "d" / "f").write_bytes(b"bytes")
        prelux.config({"version": 1, "backends": {"lake": {"type": "alluxio", "root": cluster.root, "etcd": [cluster.etcd.endpoint],
                                                           "s3_port": cluster.s3_port}},
                       "mappings": [{"local": "/prelux-lake", "remote": "lake:"}]})
        done = load(prelux, "submit", "/prelux-lake/d")
        assert done.returncode == 1 and "master" in done.stderr, done.stderr
        assert prelux.run(["cat", "/prelux-lake/d/f"]).stdout == "bytes"


def test_killed_daemon_while_waiting(prelux, cluster, lake):
    """The daemon dies while somebody waits: another is started, the job is still the cluster's."""
    cluster.load_delays(start=0.2, file=0.1)
    command = [prelux.exe, "load", "submit", "--wait", "--json", lake, "--config", prelux.config_path]
    child = subprocess.Popen(command, env=prelux.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    prelux.kill_daemon()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert json.loads(out)["state"] == "done"
