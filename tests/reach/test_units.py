"""Units and tmpfiles as `make install` puts them, held to systemd's own tools, and a daemon that systemd's activator starts."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import BUILD, ROOT, wait_for


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    top = tmp_path_factory.mktemp("units")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-C", ROOT, f"BUILD={BUILD}", f"PREFIX={top}", "install"], check=True, capture_output=True, env=env, umask=0o077)
    return top


def test_no_socket_is_handed_over_by_its_path():
    """systemd would chown() it as root, in a folder where its user can put a link in its place."""
    for unit in (ROOT / "packaging/systemd").glob("*.socket.in"):
        assert not [line for line in unit.read_text().splitlines() if line.startswith(("SocketUser=", "SocketGroup="))], unit


def test_whatever_the_umask(prefix):
    """The fixture's is 077."""
    closed = [path for path in prefix.rglob("*") if path.stat().st_mode & 0o444 != 0o444]
    assert not closed


@pytest.mark.parametrize("kind", ["user", "system"])
def test_units(prefix, kind, tmp_path):
    units = sorted((prefix / "lib/systemd" / kind).iterdir())
    assert [unit.name for unit in units] == {"user": ["preluxd.service", "preluxd.socket"],
                                             "system": ["preluxd-node@.service", "preluxd@.service", "preluxd@.socket"]}[kind]
    (tmp_path / "systemd").mkdir()
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(["systemd-analyze", f"--{kind}", "verify", "--man=no", "--recursive-errors=no", *units], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit, most", [("system/preluxd@.service", 62), ("system/preluxd-node@.service", 62), ("user/preluxd.service", 81)])
def test_exposure(prefix, unit, most, tmp_path):
    """As systemd counts it, times ten. Without these lines it was 94."""
    file = tmp_path / Path(unit).name.replace("@.", "@root.")
    shutil.copy(prefix / "lib/systemd" / unit, file)
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={most}", file], capture_output=True, text=True)
    if "unrecognized option" in done.stderr or "Unknown" in done.stderr:
        pytest.skip("this systemd-analyze judges no files")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_tmpfiles(prefix, tmp_path):
    done = subprocess.run(["systemd-tmpfiles", "--create", "--clean", f"--root={tmp_path}", prefix / "lib/tmpfiles.d/prelux.conf"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert (tmp_path / "run/prelux").stat().st_mode & 0o7777 == 0o755


def test_activated(prefix, prelux):
    """systemd-socket-activate is what systemd does with a socket unit, without a systemd."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("systemd-socket-activate is not installed (Debian: systemd)")
    (prelux.tmp / "source").mkdir()
    (prelux.tmp / "source/a").write_text("served\n")
    lake = prelux.file_mapping(prelux.tmp / "source", "/prelux-activated")
    sock = prelux.runtime / "sock"
    argv = ["systemd-socket-activate", "--seqpacket", f"--listen={sock}", prefix / "bin/preluxd", "--runtime", prelux.runtime]
    with subprocess.Popen(argv, env=prelux.env, stderr=subprocess.DEVNULL) as activator:
        try:
            wait_for(sock.exists, 30, "the socket")
            assert prelux.run(["cat", f"{lake}/a"]).stdout == "served\n"
            status = prelux.cli("daemon", "status", "--json")
            assert status["activated"] is True and status["pid"] == activator.pid
        finally:
            activator.terminate()
