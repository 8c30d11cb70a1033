"""README.md: its configuration, the commands around it and those of its table, run as they stand (readme_rig.py takes them from the page). Servers: nginx,
versitygw, and the stand-in for Alluxio 3.x; `cluster` is tried by test_cluster.py on a real Alluxio 2.9, packages by tests/reach/test_packages.py."""

import json
import os
import re
import subprocess

import pytest

from tests.harness import BUILD, ROOT, wait_for
from tests.integration import readme_rig
from tests.servers.nginx import Nginx
from tests.servers.versitygw import Versitygw
from tests.standin.cluster import AlluxioStandin

TOP = "/prelux-readme"  # for the /mnt of the page, which may be something real
HELLO = "x of the web server"
LAKE = "x.bin of the lake"
TIME = 1_700_000_000
# Of what is in the page's text: where it is run, when not here.
ELSEWHERE = {
    "apt-get install -y git make": "tests/reach/test_packages.py::test_deb_by_apt",
    "make deb && apt-get install ./build/packages/prelux_*.deb": "tests/reach/test_packages.py::test_deb_by_apt",
    "make tarball": "tests/reach/test_packages.py::test_tarball_in_an_older_release",
    "make wheel": "tests/reach/test_packages.py::test_wheel_in_a_fresh_venv",
    "make musl": "tests/reach/test_musl.py::built",
}
# What each form of the table says, in the order of the page: a pattern, and the status when that is not 0. One that is not here is new in README:
# it wants a line.
SAYS = {
    "run -- CMD": HELLO, "run --deep -- CMD": HELLO, "run --report -- CMD": rf"{HELLO}(?s:.*)programs +1 started", "run --report=FILE -- CMD": HELLO,
    "env": r"export LD_PRELOAD='.*libprelux\.so'", "status": r"(?m)^web +http +ok",
    "doctor": rf"ok +mapping +{TOP}/web -> web:/ answers", "doctor CMD": "ok +program +the library can be loaded into ls",
    "errors": rf"EROFS(?s:.*){TOP}/web/none", "errors PATH": rf"EROFS(?s:.*){TOP}/web/none",
    "config check": "3 mappings, 4 backends", "config show": r"freshness: (?s:.*)# default", "config init": "^# ",
    "stats": rf"(?m)^{TOP}/web +\d", "stats --watch": rf"(?m)^{TOP}/web +\d", "metrics": rf'prelux_remote_bytes_total{{mapping="{TOP}/web"}} \d',
    "map PATH": r"remote +web:/x\n(?s:.*)state +cached", "ls PATH": r"(?m)\bx$", "stat PATH": r"size +19",
    "prefetch PATH...": "^2 files in the cache", "prefetch --files-from FILE": "^1 files in the cache", "prefetch -": "^1 files in the cache",
    "prefetch --from-log REPORT": "^1 files in the cache",
    "pin PATH...": "^2 files in the cache", "unpin PATH...": "^$", "pin --list": f"{TOP}/web/x",
    "verify PATH...": "^2 files: 2 as on the remote", "verify --data PATH...": "^2 files: 2 as on the remote", "verify --repair PATH...": "^2 files: 2 as on the remote",
    "flush": "^$", "flush PATH...": "^$",
    "pending list": "refused +upload", "pending retry ID": "^$", "pending drop ID": "^$", "pending export ID FILE": "^$",
    "evict PATH...": "^2 files evicted", "load submit PATH": (3, "starting"), "load progress PATH": (3, "Job State"), "load stop PATH": "stopped",
    "daemon start": "^$", "daemon stop": (3, "not on the remote"), "daemon status": (1, "no daemon runs"), "daemon log": "ended", "version": r"^prelux \d",
}
# What has to be typed before it says so.
BEFORE = {"run --report=FILE -- CMD": "evict /mnt/web/x", "pin --list": "pin /mnt/web/x", "errors": "run -- touch /mnt/web/none || true"}


class Page:
    """A folder with the page's configuration, and what it names."""

    def __init__(self, prelux, web, s3, lake):
        self.prelux, self.lake = prelux, lake
        self.env = {"PATH": f"{prelux.build}:{os.environ['PATH']}", "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
        (prelux.tmp / "build").symlink_to(BUILD)
        (prelux.tmp / "disk").mkdir()
        self.replace = {"http://127.0.0.1:8080/data": web.url, "127.0.0.1:2379": lake.etcd.endpoint, '"s3://data"': f'"s3://data", s3_port: {lake.s3_port}',
                        "region: us-east-1": f'region: us-east-1, endpoint: "{s3.url}"', "/srv/archive": str(prelux.tmp / "disk"), "/mnt/": TOP + "/"}
        text = readme_rig.CONFIGURATION
        for old, new in self.replace.items():
            assert text.count(old) >= 1, f"README's configuration has no {old}"
            text = text.replace(old, new)
        prelux.config(text.replace("max_size: 200GiB", "max_size: 200GiB, min_free: 0"), raw=True)
        (prelux.tmp / "train.py").write_text(f"print(open('{TOP}/lake/x.bin').read())\n")

    def run(self, line, **env):
        """By bash, as a user would type it; what he types next is `cat` of a file."""
        (self.prelux.tmp / "typed").write_text(f"cat {TOP}/web/x\n")
        return self.prelux.plain(["bash", "-eu", "-c", "exec <typed\n" + line.replace("/mnt/", TOP + "/")], env={**self.env, **env}, check=False)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    for kind in (Nginx, Versitygw, AlluxioStandin):
        if kind.missing():
            pytest.skip(kind.missing())
    top = tmp_path_factory.mktemp("readme")
    (top / "web").mkdir()
    (top / "web/x").write_text(HELLO)
    with Nginx(top / "web") as web, Versitygw() as s3, AlluxioStandin(root="s3://data", sync_interval=0, workers=1) as lake:
        s3.bucket("data")
        (lake.ufs / "datasets").mkdir()
        (lake.ufs / "datasets/x.bin").write_text(LAKE)
        for path in (top / "web/x", lake.ufs / "datasets/x.bin"):
            os.utime(path, (TIME, TIME))  # what is of this second has no version yet
        s3.put("data", "datasets/x.bin", LAKE.encode())
        yield web, s3, lake


@pytest.fixture
def page(prelux, servers):
    return Page(prelux, *servers)


def test_lines_of_its_blocks(page):
    for line in readme_rig.BLOCKS:
        if line.startswith("make "):
            continue
        env = {} if "--config" in line else {"PRELUX_CONFIG": str(page.prelux.config_path)}
        done = page.run(line + ("\nexec bash -eu" if line.startswith("eval") else ""), **env)
        wanted = r" x$" if " ls " in line else LAKE if "train.py" in line else HELLO
        assert done.returncode == 0 and re.search(wanted, done.stdout, re.M) and not done.stderr, (line, done.stdout, done.stderr)
    assert sum(not line.startswith("make ") for line in readme_rig.BLOCKS) >= 5


def of_pending(page):
    """A file whose remote changed while it was written, which is refused; its ID."""
    text = page.prelux.config_path.read_text()
    if "write:" not in text:
        page.prelux.config(text.replace('"disk:/"}', '"disk:/", write: async}'), raw=True)
    name = f"written-{page.number}"
    (page.prelux.tmp / "disk" / name).write_text("before")
    done = page.prelux.run(["sh", "-c", f"exec 3>>archive/{name}; echo more >&3; echo of somebody else > disk/{name}"], env=page.env, check=False)
    return re.search(rf"(\S+) +refused .*/{name}:", done.stderr)[1]


def filled_in(form, page):
    """A form with something for each of its words in capitals."""
    path = {"load": "/mnt/lake/x.bin", "errors": "/mnt/web/none", "ls": "/mnt/web"}.get(form.split()[0], "/mnt/web/x")
    words = {"-- CMD": "-- cat /mnt/web/x", "CMD": "ls", "PATH...": f"{path} /mnt/lake", "PATH": path, "REPORT": "report.json",
             "--report=FILE": "--report=report.json", "--files-from FILE": "--files-from list.txt", "FILE": "copy"}
    line = re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], form)
    if form.startswith("pending"):
        line = line.replace("ID", of_pending(page))
    return line + {"stats --watch": " --rounds 1", "prefetch -": " <list.txt"}.get(form, "")


def test_commands_of_its_table(page):
    forms = [form for form in readme_rig.forms() if not form.startswith("cluster ")]
    assert set(forms) == set(SAYS)
    wrong = []
    (page.prelux.tmp / "list.txt").write_text(f"{TOP}/web/x\n")
    for page.number, form in enumerate(forms):
        line = filled_in(form, page)
        if form in BEFORE:
            assert page.run(f"prelux --config prelux.yaml {BEFORE[form]}").returncode == 0
        done = page.run(f"prelux --config prelux.yaml {line}")
        status, pattern = SAYS[form] if isinstance(SAYS[form], tuple) else (0, SAYS[form])
        if done.returncode != status or not re.search(pattern, done.stdout + done.stderr):
            wrong.append(f"{form}\n$ prelux {line}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
        if form == "pending export ID FILE":
            assert (page.prelux.tmp / "copy").read_text() == "beforemore\n"
    assert not wrong, "\n\n".join(wrong)
    assert json.loads((page.prelux.tmp / "report.json").read_text())


@pytest.mark.parametrize("line", sorted({*readme_rig.INLINE, *(line for line in readme_rig.BLOCKS if line.startswith("make "))}))
def test_what_else_it_says_to_type(page, line):
    tmp = page.prelux.tmp
    if line in ELSEWHERE:
        name, test = ELSEWHERE[line].split("::")
        assert f"def {test}(" in (ROOT / name).read_text()
    elif line == "make check":  # what we are in
        make(line, "-n")
    elif line == "make demo":
        assert make(line).endswith("demo: all output equals the source\n")
    elif line == "make install":
        make(line, f"DESTDIR={tmp}/dest")
        assert subprocess.run([tmp / "dest/usr/local/bin/prelux", "version"], stdin=subprocess.DEVNULL, env=page.prelux.env).returncode == 0
        assert (tmp / "dest/usr/local/share/man/man1/prelux.1").exists()  # `man prelux`
    elif line != "man prelux":
        done = page.run(line, PRELUX_CONFIG=str(page.prelux.config_path))
        assert line.startswith("prelux ") and done.returncode == 0, done.stderr


def make(*words):
    argv = [*" ".join(words).split(), "-C", str(ROOT), "--no-print-directory", f"BUILD={BUILD}"]
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, env={**env, "PRELUX_NO_DEPS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
