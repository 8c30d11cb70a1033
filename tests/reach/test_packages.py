"""What `make deb` makes, used as a new user would in a root that has nothing but a shell and what the package depends on; the pages and
completions in it are held to the commands in tests/meta/test_pages.py."""

import os
import re
import shutil
import subprocess

import pytest

from tests.harness import BUILD, ROOT
from tests.servers import debs
from tests.servers.nginx import Nginx

ENTER = """
set -e
root=$1; shift
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"""
# As README says, in a shell of the new machine. Everything that a user types is here: fewer than ten commands (min_free: how full the
# machine's disk is decides no result).
FIVE_MINUTES = """
set -e
cd
cat > prelux.yaml <<END
version: 1
cache: {min_free: 0}
backends:
  web: {type: http, url: "URL"}
mappings:
  - {local: /mnt/web, remote: "web:/"}
END
prelux --config prelux.yaml config check
prelux --config prelux.yaml run -- cat /mnt/web/hello
prelux --config prelux.yaml run -- sh -c 'cd /mnt/web/folder && cp deep /tmp/copy'
prelux --config prelux.yaml status
prelux daemon stop
"""


def make(out, *goals):
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "-C", ROOT, "--no-print-directory", f"BUILD={BUILD}", f"OUT={out}", *goals], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def within(root, script, **env):
    """A shell in that root, with processes of its own, which end with it."""
    argv = ["unshare", "-m", "-p", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", ENTER, "enter", root, "/bin/sh", "-c", script]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **env}
    return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="session")
def deb(tmp_path_factory):
    if not shutil.which("dpkg-shlibdeps"):
        pytest.skip("dpkg-shlibdeps is not installed (Debian: dpkg-dev)")
    return make(tmp_path_factory.mktemp("deb"), "deb")


@pytest.fixture(scope="session")
def web(tmp_path_factory):
    """A remote to read from: its URL."""
    if Nginx.missing():
        pytest.skip(Nginx.missing())
    top = tmp_path_factory.mktemp("web")
    (top / "hello").write_text("hello from the remote\n")
    (top / "folder").mkdir()
    (top / "folder/deep").write_bytes(bytes(range(256)) * 5000)
    with Nginx(top) as server:
        yield server


@pytest.fixture
def bare(tmp_path):
    """A copy of a root without prelux."""
    if debs.OWN.missing():
        pytest.skip(debs.OWN.missing())
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", debs.OWN.root, root], check=True)
    can = within(root, ":")
    if can.returncode:
        pytest.skip(f"no chroot in a name space of one's own here: {can.stderr.strip()}")
    return root


def reads(root, web, **env):
    done = within(root, FIVE_MINUTES.replace("URL", web.url), **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from the remote\n" in done.stdout and done.stderr == ""
    assert (root / "tmp/copy").read_bytes() == bytes(range(256)) * 5000


def test_deb_in_a_bare_root(deb, bare, web):
    subprocess.run(["dpkg-deb", "-x", deb, bare], check=True)
    reads(bare, web)
    for program in ("prelux", "preluxd"):
        said = within(bare, f"LD_TRACE_LOADED_OBJECTS=1 /usr/bin/{program}")
        assert "libc.so.6" in said.stdout
        assert "not found" not in said.stdout + said.stderr
    said = within(bare, 'prelux --config ~/prelux.yaml env; prelux daemon stop')
    assert "/usr/lib/prelux/$LIB/libprelux.so" in said.stdout


def test_deb_says_what_it_needs(deb):
    """The root above was made of these, so that a package which is missing in Depends would be missing there."""
    said = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    assert {re.sub(r" .*", "", word) for word in said.strip().split(", ")} <= set(debs.NEEDS)


def test_deb_holds_what_make_install_installs(deb, tmp_path):
    prefix = tmp_path / "prefix"
    make(tmp_path, f"DESTDIR={prefix}", "PREFIX=/usr", "install")
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path / "deb"], check=True)
    moved = {"zsh/vendor-completions": "zsh/site-functions", ".gz": ""}
    names = [{str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()} for top in (prefix, tmp_path / "deb")]
    for old, new in moved.items():
        names[1] = {name.replace(old, new) for name in names[1]}
    only = {"usr/share/doc/prelux/copyright", "usr/share/doc/prelux/changelog", "usr/share/lintian/overrides/prelux"}
    assert names[1] - names[0] == only
    assert names[0] - names[1] == {"usr/lib/libprelux.so", "usr/lib/prelux/.made", "usr/share/doc/prelux/LICENSE"}


def test_lintian(deb):
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    said = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", deb], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr
