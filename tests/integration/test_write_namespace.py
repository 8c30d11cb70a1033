"""A PID namespace (a container) that is ended one second after asynchronous closes below `prelux run`, its process 1, while the remote is slow: told to end, everything is on the
remote, or the exit status is 3 with the list; killed outright, with the daemon in it, everything is sent by whoever uses the mapping next."""

import os
import signal
import subprocess
import time
import urllib.parse

import pytest

from tests.harness import wait_for
from tests.integration.crash_rig import CONTENT, LOCAL, content, mapped, peek, remote_of
from tests.servers.faultproxy import FaultProxy

FILES, SIZE = 32, 20_000
WRITER = CONTENT + f"""
import os, sys, time
for number in range({FILES}):
    with open("{LOCAL}/f%d" % number, "wb") as file:
        file.write(content("f", number, {SIZE}))
print("closed", flush=True)
time.sleep(60)
"""
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture(params=["file", "versitygw", "azurite"])
def slow(request, prelux):
    """make(seconds of each change) -> (remote, proxy or None)"""
    probe = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no PID namespaces here: {probe.stderr.strip()}")
    with remote_of(request.param, prelux.tmp) as remote:
        if request.param == "file":
            yield lambda delay, **top: (mapped(prelux, remote, top=top, write="async"), (remote, None))[1]
            return
        parts = urllib.parse.urlsplit(remote.conf["endpoint"])
        with FaultProxy(f"{parts.hostname}:{parts.port}") as proxy:
            def make(delay, **top):
                proxy.fault("/", delay=delay, method="PUT")
                endpoint = parts._replace(netloc=urllib.parse.urlsplit(proxy.url).netloc).geturl()
                mapped(prelux, remote, {"endpoint": endpoint}, top, write="async")
                return remote, proxy
            yield make


def start(prelux):
    program = prelux.tmp / "writer.py"
    program.write_text(WRITER)
    child = subprocess.Popen([*NAMESPACE, prelux.exe, "--config", prelux.config_path, "run", "--", "python3", program], env=prelux._merged(None), cwd=prelux.tmp,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "closed\n", child.communicate()[1] + prelux.story()
    time.sleep(1)
    return child


def process_one(child):
    """The namespace's process 1, as we see it."""
    (pid,) = open(f"/proc/{child.pid}/task/{child.pid}/children").read().split()
    return int(pid)


def missing(remote):
    """Those that are not on the remote; whatever is there is whole."""
    found = {f"f{n}": peek(remote, f"f{n}") for n in range(FILES)}
    assert all(data in (None, content("f", int(name[1:]), SIZE)) for name, data in found.items()), "half a file is there"
    return {name for name, data in found.items() if data is None}


def use_again(prelux, remote):
    """Elsewhere, later: the next use is enough."""
    wait_for(lambda: not prelux.daemons(), 20, "the end of the namespace's daemon")
    prelux.run(["ls", LOCAL])
    done = prelux.cli("flush", "--timeout", "60", check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not missing(remote)


@pytest.mark.slow
@pytest.mark.parametrize("grace", ["30s", "1s"])
def test_told_to_end(prelux, slow, grace):
    remote, _ = slow(0.6, grace=grace)
    child = start(prelux)
    os.kill(process_one(child), signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    left = missing(remote)
    named = {name for name in left if f"{LOCAL}/{name}" in err}
    more = "and more" in err
    assert child.returncode in (3, 128 + signal.SIGTERM), (child.returncode, err)
    assert not left or (child.returncode in (3, 128 + signal.SIGTERM) and named and (more or named == left)), f"{left - named} are not said to be missing: {err}"
    if grace == "30s":
        assert not left, f"there was time: {err}"
    print(f"{len(left)} left")
    use_again(prelux, remote)


@pytest.mark.slow
def test_killed_outright(prelux, slow):
    remote, proxy = slow(1.5)
    child = start(prelux)
    os.kill(process_one(child), signal.SIGKILL)
    child.communicate(timeout=60)
    wait_for(lambda: not prelux.daemons(), 20, "the end of the namespace's daemon")
    left = missing(remote)
    print(f"{len(left)} left")
    if proxy:
        assert left, "nothing waited"
        proxy.heal()
    use_again(prelux, remote)
