"""What the contract suites share: the tool as a client, a remote of each kind, and words for what is right and wrong."""

import os
import threading
import urllib.parse

import pytest

from tests.integration import contract_remotes as r
from tests.integration.contract_remotes import KINDS, Missing
from tests.integration.backends_raw_rig import Tool

MIB = 1 << 20
UNKNOWN = -121


class Client(Tool):
    """The tool, with files as bytes."""

    def __init__(self, remote, name):
        super().__init__(remote.tmp / name, **remote.conf)
        self.remote, self.sent = remote, 0
        if remote.steps:
            self.steps()

    def steps(self, **more):
        return self("steps", **{**self.remote.steps, **more})["steps"]

    def source(self, data):
        path = self.folder / f"source{self.sent % 4}"
        self.sent += 1
        path.write_bytes(data)
        return str(path)

    def put(self, path, data, **more):
        return self("put", path, **{"from": self.source(data), **more})

    def copy(self, path, to, **more):
        return self("copy", path, to=urllib.parse.quote(to), **more)

    def rename(self, path, to, **more):
        return self("rename", path, to=urllib.parse.quote(to), **more)

    def version(self, path):
        answer = self("stat", path)
        assert answer["rc"] == 0 and answer["version"], answer
        return answer["version"]

    def content(self, path):
        rc, data, answer = self.read(path)
        assert rc == 0, answer
        return data

    def upload(self, path, data, size, skip=(), **begin):
        """(token, tags) of all parts, the last first."""
        answer = self("begin", path, part_size=size, **begin)
        assert answer["rc"] == 0, answer
        source, tags = self.source(data), {}
        for n in reversed(range((len(data) + size - 1) // size)):
            if n not in skip:
                length = min(size, len(data) - n * size)
                part = self("part", path, token=answer["token"], n=n, off=n * size, len=length, **{"from": source})
                assert part["rc"] == 0, part
                tags[n] = part["tag"]
        return answer["token"], [tags[n] for n in sorted(tags)]


def marks(kind):
    return [pytest.mark.asan] * bool(kind.asan) + [pytest.mark.waits] * (kind.asan == "full")


@pytest.fixture(params=[pytest.param(kind, marks=marks(kind), id=kind.name) for kind in KINDS])
def kind(request):
    return request.param


@pytest.fixture
def remote(kind, tmp_path):
    context = kind.make(tmp_path)
    try:
        one = context.__enter__()
    except Missing as why:
        pytest.skip(str(why))
    one.caps = kind.caps
    yield one
    context.__exit__(None, None, None)


@pytest.fixture
def clients(remote):
    made = []

    def make(other=None):
        made.append(Client(other or remote, f"tool{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def client(clients):
    return clients()


def needs(remote, *bits):
    for bit in bits:
        if not remote.caps & bit:
            pytest.skip("not promised; test_what_is_not_promised_is_refused sees that it is refused")


def good(answer):
    assert answer["rc"] == 0, answer
    return answer


def bad(answer, *errnos):
    assert -answer["rc"] in errnos, answer
    assert answer["why"] and "\n" not in answer["why"].replace("new\nline", ""), answer
    return answer


def unchanged(remote, client, call, *errnos):
    """The call fails so, and another client sees no difference."""
    before, uploads = remote.objects(), remote.uploads()
    bad(call(), *errnos)
    assert remote.objects() == before and remote.uploads() == uploads


def folder(remote, client, path):
    """A folder, and the objects that make it: its own, or one in it where there are no folders of their own."""
    if remote.caps & (r.MKDIR | r.MKDIR_MARKER):
        good(client("mkdir", path))
        return {os.fsencode(path): None}
    remote.write(path + "/in it", b"x")
    return {os.fsencode(path + "/in it"): b"x"}


def race(first, second):
    """Both at once; their answers."""
    answers = [None, None]
    barrier = threading.Barrier(2)

    def run(number, call):
        barrier.wait()
        answers[number] = call()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


FULL = bool(os.environ.get("FULL"))
ROUNDS = 200 if FULL else 60  # each with every kind of remote, plain and twice sanitized
