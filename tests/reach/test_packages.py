"""What `make deb` makes, used as a new user would in a root that has nothing but a shell and what the package depends on; the pages and
completions in it are held to the commands in tests/meta/test_pages.py."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import BUILD, ROOT
from tests.servers import debs
from tests.servers.base import ServerError
from tests.servers.nginx import Nginx

ENTER = """
set -e
root=$1; shift
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"""
# As README says, in a shell of the new machine. Everything that a user types after the installation is here (min_free: how full the machine's disk is
# decides no result).
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


# What installs it: README's words, and what a bare machine wants before.
APT = "cd; apt-get update; apt-get install -y ./build/packages/prelux_*.deb"
PIP = ["python3 -m venv venv", "pip install prelux.whl"]
MOST_COMMANDS, MOST_SECONDS = 10, 300


def typed(script):
    """How many commands: lines that are no part of a text, and what stands between ';'."""
    lines = re.sub(r"<<END\n.*?\nEND$", "", script, flags=re.M | re.S).splitlines()
    return sum(part.strip() not in ("", "cd", "set -e") for line in lines for part in line.split(";"))


def make(out, *goals):
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "-C", ROOT, "--no-print-directory", f"BUILD={BUILD}", f"OUT={out}", *goals], env=env, capture_output=True, text=True,
                          umask=0o077)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def within(root, script, **env):
    """A shell in that root, with processes of its own, which end with it."""
    argv = ["unshare", "-m", "-p", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", ENTER, "enter", root, "/bin/sh", "-c", script]
    proxies = {name: value for name, value in os.environ.items() if name.endswith("_proxy")}
    env = {**proxies, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **env}
    return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MOST_SECONDS)


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


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The two packages for any distribution: tarball and wheel."""
    out = tmp_path_factory.mktemp("bundle")
    return make(out, "tarball"), make(out, "wheel", "-o", "bundle")


def copy_of(unpacked, tmp_path):
    """A copy of a root without prelux."""
    if unpacked.missing():
        pytest.skip(unpacked.missing())
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", unpacked.root, root], check=True)
    can = within(root, ":")
    if can.returncode:
        pytest.skip(f"no chroot in a name space of one's own here: {can.stderr.strip()}")
    return root


@pytest.fixture
def bare(tmp_path):
    return copy_of(debs.OWN, tmp_path)


def reads(root, web, **env):
    done = within(root, FIVE_MINUTES.replace("URL", web.url), **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from the remote\n" in done.stdout and done.stderr == ""
    assert (root / "tmp/copy").read_bytes() == bytes(range(256)) * 5000


def test_deb_in_a_bare_root(deb, bare, web):
    subprocess.run(["dpkg-deb", "-x", deb, bare], check=True)
    reads(bare, web)
    assert typed(FIVE_MINUTES) == 6 and typed(APT) + typed(FIVE_MINUTES) < MOST_COMMANDS and len(PIP) + typed(FIVE_MINUTES) < MOST_COMMANDS
    for program in ("prelux", "preluxd"):
        said = within(bare, f"LD_TRACE_LOADED_OBJECTS=1 /usr/bin/{program}")
        assert "libc.so.6" in said.stdout
        assert "not found" not in said.stdout + said.stderr
    said = within(bare, 'prelux --config ~/prelux.yaml env; prelux daemon stop')
    assert "/usr/lib/prelux/$LIB/libprelux.so" in said.stdout


@pytest.fixture
def debian(tmp_path):
    """As debootstrap leaves it."""
    try:
        debs.MINBASE.install()
    except ServerError as error:
        pytest.skip(str(error)[-500:])
    return copy_of(debs.MINBASE, tmp_path)


@pytest.mark.limit(1500)
@pytest.mark.skipif(not os.environ.get("FULL"), reason="a Debian is installed for it: make full")
def test_wheel_with_a_python_by_apt(bundle, debian, web):
    """Of a machine on which nothing but Python was installed."""
    shutil.copy(bundle[1], debian / "root")
    done = within(debian, "set -e; cd; apt-get update; apt-get install -y --no-install-recommends python3-venv; python3 -m venv venv; "
                  "venv/bin/pip install --no-index ./prelux-*.whl", DEBIAN_FRONTEND="noninteractive")
    assert done.returncode == 0, done.stdout + done.stderr
    reads(debian, web, PATH="/root/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin")


@pytest.mark.limit(1500)
@pytest.mark.skipif(not os.environ.get("FULL"), reason="a Debian is installed for it: make full")
def test_deb_by_apt(deb, debian, web):
    """From a bare Debian's prompt to a file, in MOST_SECONDS altogether; the other line of README for such a machine, too."""
    root = debian
    (root / "root/build/packages").mkdir(parents=True)
    shutil.copy(deb, root / "root/build/packages")
    readme = (ROOT / "README.md").read_text()
    assert "apt-get install ./build/packages/prelux_*.deb" in readme and "apt-get install -y git make" in readme
    began = time.monotonic()
    done = within(root, f"set -e; {APT}", DEBIAN_FRONTEND="noninteractive")
    assert done.returncode == 0, done.stdout + done.stderr
    reads(root, web)
    took = time.monotonic() - began
    print(f"{typed(APT) + typed(FIVE_MINUTES)} commands, {took:.0f} s")
    assert took < MOST_SECONDS  # it says so; 5 s of work
    done = within(root, "set -e; apt-get install -y git make >&2; make --version; git --version; apt-get remove -y prelux; command -v prelux || echo gone",
                  DEBIAN_FRONTEND="noninteractive")
    assert done.returncode == 0 and done.stdout.endswith("gone\n"), done.stdout + done.stderr


def test_deb_says_what_it_needs(deb):
    """The root above was made of these, so that a package which is missing in Depends would be missing there."""
    said = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    assert {re.sub(r"(t64)?( .*)?$", "", word) for word in said.strip().split(", ")} <= set(debs.NEEDS)  # t64: Ubuntu 24.04


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


def test_tarball_in_an_older_release(bundle, tmp_path, web):
    """Ubuntu 18.04, in a folder with a blank in its name; moved, it works there."""
    root = copy_of(debs.oldest() or debs.BIONIC, tmp_path)
    for place in ("opt/my prelux", "srv/elsewhere"):
        (root / place).mkdir(parents=True)
        subprocess.run(["tar", "-C", root / place, "--strip-components=1", "-xzf", bundle[0]], check=True)
        reads(root, web, PATH=f"/{place}/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        shutil.rmtree(root / place)


def test_tarball_brings_what_it_needs(bundle, tmp_path):
    """Every library of daemon and command lies beside them; the programs that start them are static; the one for programs needs libc alone."""
    subprocess.run(["tar", "-C", tmp_path, "--strip-components=1", "-xzf", bundle[0]], check=True)
    rt = tmp_path / "lib/prelux/rt"
    for name in ("prelux", "preluxd"):
        said = subprocess.run([rt / "ld.so", "--inhibit-cache", "--library-path", rt, "--list", rt / name], capture_output=True, text=True, check=True).stdout
        found = re.findall(r"^\t(\S+) => (\S+)", said, re.M)
        assert len(found) > 2 and not [pair for pair in found if not pair[1].startswith(f"{rt}/")], said
        assert "INTERP" not in subprocess.run(["readelf", "-lW", tmp_path / "bin" / name], capture_output=True, text=True, check=True).stdout
    said = subprocess.run(["readelf", "-dVW", tmp_path / "lib/prelux/libprelux.so"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"NEEDED.*\[(.*)\]", said)) <= {"libc.so.6", "libdl.so.2", "ld-linux-x86-64.so.2"}
    versions = {tuple(map(int, word.split("."))) for word in re.findall(r"GLIBC_(2[.\d]+)", said)}
    assert versions and max(versions) <= (2, 27)


def test_wheel_in_a_fresh_venv(bundle, prelux, web):
    """pip puts command and daemon into bin, the library where they find it; nothing else of this machine's prelux is used."""
    venv = prelux.tmp / "venv"
    python = shutil.which("python3", path="/usr/bin") or shutil.which("python3")
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("pip is not installed (Debian: python3-pip)")
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    env = {**prelux.env, "PATH": f"{venv}/bin:/usr/bin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([python, "-m", "pip", "--python", venv / "bin/python3", "install", "-q", "--no-index", bundle[1]], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    copy = prelux.tmp / "copy"
    script = FIVE_MINUTES.replace("URL", web.url).replace("/tmp/copy", str(copy)).replace("/mnt/web", "/prelux-wheel")
    done = subprocess.run(["sh", "-c", script + "prelux --config prelux.yaml env; prelux daemon stop"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "hello from the remote\n" in done.stdout
    assert copy.stat().st_size == 5000 * 256
    assert f"{venv}/lib/prelux/" in done.stdout.partition("LD_PRELOAD=")[2].partition("\n")[0]
    call = f"import prelux; print(prelux.prefetch(['/prelux-wheel/hello'], config='{prelux.home}/prelux.yaml')['files'])"
    done = subprocess.run([venv / "bin/python3", "-c", call], env={**env, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    done = subprocess.run([python, "-m", "pip", "--python", venv / "bin/python3", "uninstall", "-q", "-y", "prelux"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and not (venv / "bin/prelux").exists() and not (venv / "lib/prelux/rt/preluxd").exists()


MARK = """#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void mark(void)
{
  char line[4096];
  int fd = getenv("MARKS") ? open(getenv("MARKS"), O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
  ssize_t n = readlink("/proc/self/exe", line, sizeof line - 1);
  line[n > 0 ? n : 0] = 10;
  if (fd >= 0 && write(fd, line, n + 1) > 0)
    close(fd);
}
"""


def test_what_others_preload_is_for_programs(bundle, prelux):
    """Not for the command, which runs with a libc of its own; also of a program that lies in a mapping, which the command starts from within."""
    subprocess.run(["tar", "-C", prelux.tmp, "-xzf", bundle[0]], check=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", prelux.tmp / "mark.so"], input=MARK, text=True, check=True)
    source = prelux.tmp / "source"
    source.mkdir()
    shutil.copy("/bin/cat", source / "tool")
    (source / "x").write_text("1")
    lake = prelux.file_mapping(source, "/prelux-preloads")
    exe, marks = next(prelux.tmp.glob("prelux-*/bin/prelux")), prelux.tmp / "marks"
    env = {**prelux.env, "LD_PRELOAD": str(prelux.tmp / "mark.so"), "MARKS": str(marks)}
    for program in ("/bin/cat", f"{lake}/tool"):
        done = subprocess.run([exe, "--config", prelux.config_path, "run", "--", program, f"{lake}/x"], env=env, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1", "")
        assert [Path(line).name for line in marks.read_text().splitlines()] == [program.rpartition("/")[2]]
        marks.unlink()


def test_report_knows_its_own(bundle, prelux):
    """The loader that starts the command is no program of the run."""
    subprocess.run(["tar", "-C", prelux.tmp, "-xzf", bundle[0]], check=True)
    (prelux.tmp / "source").mkdir()
    lake = prelux.file_mapping(prelux.tmp / "source", "/prelux-bundle")
    argv = [next(prelux.tmp.glob("prelux-*/bin/prelux")), "--config", prelux.config_path, "run", "--report", "--", "ls", lake]
    done = subprocess.run(argv, env=prelux.env, capture_output=True, text=True)
    pid = prelux.daemon_pid()
    assert Path(f"/proc/{pid}/exe").resolve().name == "ld.so" and Path(f"/proc/{pid}/comm").read_text() == "preluxd\n"
    assert done.returncode == 0 and "programs      1 started with the library in them, 0 without" in done.stderr
