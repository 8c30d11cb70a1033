"""Fixtures and rules for every pytest folder of tests/. tests/README.md explains their use."""

import faulthandler
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests import harness, trees  # noqa: E402
from tests.jobs import ASAN_FILES  # noqa: E402

# What tests start leaves no byte code in the tree, nor in folders that are compared.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
LIMIT_SECONDS = 240
# A time limit that is a promise; an index cut short under the daemon, which dies of it (and is started again).
NOT_SANITIZED = ("test_thousand_processes_cold_one_daemon", "test_index_is_cut_short")


def pytest_configure(config):
    # What nohup or a shell's background job ignores, the programs under test would ignore, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    config.addinivalue_line("markers", "limit(seconds): time limit of this test instead of %d s" % LIMIT_SECONDS)
    config.addinivalue_line("markers", "asan: also run with a sanitized daemon and CLI")
    config.addinivalue_line("markers", "waits: with a sanitizer only in `make full`: time passes, or processes are killed, on paths that others take, too")
    config.addinivalue_line("markers", "slow: takes more than 10 s; left out of `make check` with QUICK=1")
    config.addinivalue_line("markers", "alone: measures time, or uses up what the machine has one of; nothing runs beside it")


def pytest_addoption(parser):
    parser.addoption("--alone", choices=("only", "not"), help="tests that are marked `alone` only, or without them")


@pytest.hookimpl(hookwrapper=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.name in ASAN_FILES and item.name not in NOT_SANITIZED:
            item.add_marker(pytest.mark.asan)
    yield  # -m and -k choose
    if config.getoption("--alone"):
        groups = {"only": [], "not": []}
        for item in items:
            groups["only" if item.get_closest_marker("alone") else "not"].append(item)
        items[:] = groups.pop(config.getoption("--alone"))
        config.hook.pytest_deselected(items=[*groups.values()][0])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs fails with a stack; it does not hang the run."""
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else LIMIT_SECONDS

    def over(*_):
        faulthandler.dump_traceback()
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


def _closing(request, made):
    complaints = [text for one in made for text in one.close()]
    report = getattr(request.node, "report_call", None)
    if complaints and (report is None or not report.failed):
        pytest.fail("\n".join(complaints), pytrace=False)
    elif complaints:
        print("\n".join(complaints))


def _need_build():
    for name in ("prelux", "preluxd", "libprelux.so"):
        if not (harness.BUILD / name).exists():
            pytest.skip(f"{harness.BUILD}/{name} is not built")


@pytest.fixture
def prelux(tmp_path, request):
    """One set-up of prelux: tests/harness.py."""
    _need_build()
    one = harness.Prelux(tmp_path)
    yield one
    _closing(request, [one])


@pytest.fixture
def prelux_factory(tmp_path, request):
    """Makes several independent set-ups (users, nodes): prelux_factory("a")."""
    _need_build()
    made = []

    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        made.append(harness.Prelux(folder))
        return made[-1]

    yield make
    _closing(request, made)


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory):
    """The awkward test data, made once. Read only: a test that changes data makes its own (tests.trees.make_tree)."""
    return trees.make_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="session")
def portable_tree(tmp_path_factory):
    """The same without the names that an HTTP index or Alluxio cannot carry."""
    return trees.make_tree(tmp_path_factory.mktemp("portable") / "tree", portable=True)


def _server(kind, *args, **kwargs):
    why = kind.missing()
    if why:
        pytest.skip(why)
    return kind(*args, **kwargs)


@pytest.fixture(scope="session")
def nginx_server(portable_tree):
    """nginx serving portable_tree: .url, .root, .requests(). Others: tests.servers.nginx.Nginx(root)."""
    from tests.servers.nginx import Nginx
    with _server(Nginx, portable_tree) as server:
        yield server


@pytest.fixture(scope="session")
def alluxio_server():
    """A real Alluxio 2.9 (installed at first use): .url of its proxy, .ufs the folder below it, where others may have folders, too."""
    from tests.servers import alluxio29
    from tests.servers.base import ServerError
    if not alluxio29.PACKAGE.installed():
        try:
            alluxio29.PACKAGE.install()
        except ServerError as error:
            pytest.skip(f"Alluxio 2.9 cannot be installed: {str(error)[:300]}")
    there = alluxio29.Alluxio29.running()
    if there:
        yield there
        return
    with _server(alluxio29.Alluxio29) as server:
        yield server
