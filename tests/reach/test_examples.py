"""What lies in examples/: manifests held to Kubernetes' own schemas (the package kubernetes-validate has them) and to the command's table, the Dockerfile to
the checks of a language server, the side-car and the DaemonSet tried in namespaces of their own; scripts read by shellcheck and run with stand-ins for
srun and mpirun."""

import os
import re
import shutil
import signal
import subprocess

import pytest
import yaml

from tests.harness import BUILD, ROOT, wait_for
from tests.meta.test_docs import COMMANDS
from tests.servers import dockerfiles
from tests.servers.base import ServerError
from tests.servers.pythons import KUBERNETES

TOP = ROOT / "examples"
MANIFESTS = sorted((TOP / "kubernetes").glob("*.yaml"))
SCRIPTS = [TOP / "slurm/train.sbatch", TOP / "mpi/run.sh"]
# Stand-ins: so many at once, here, each with a number.
SRUN = """#!/bin/bash
n=${RANKS:-1}
while [[ $1 == --* ]]; do [[ $1 == --ntasks-per-node=1 ]] && n=1; shift; done
for ((i = 0; i < n; i++)); do SLURM_PROCID=$i "$@" & pids+=($!); done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""
MPIRUN = """#!/bin/bash
[[ $1 == --version ]] && { echo 'mpirun (Open MPI) of this test'; exit; }
[[ $1 == -n ]] || exit 9
export RANKS=$2
shift 2
names=''
while [[ $1 == -x ]]; do names="$names $2"; shift 2; done
for name in PRELUX_CONFIG PRELUX_RUNTIME_DIR; do [[ " $names " == *" $name "* ]] || unset $name; done
exec srun "$@"
"""


def documents(path):
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def containers(manifest):
    spec = manifest.get("spec", {})
    spec = spec.get("template", {}).get("spec", spec)
    return spec.get("initContainers", []) + spec.get("containers", [])


def commands_of(container):
    """Every list of words that Kubernetes would execute in it."""
    found = [container.get("command")] + [container.get(probe, {}).get("exec", {}).get("command") for probe in ("startupProbe", "readinessProbe")]
    found.append(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command"))
    return [words for words in found if words]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests(path):
    if not KUBERNETES.installed():
        pytest.skip("kubernetes-validate is not there (python3 -m tests.servers.pythons --install kubernetes)")
    for version in ("1.29", "1.37"):
        argv = [KUBERNETES.program, KUBERNETES.program.parent / "kubernetes-validate", "--strict", "-k", version, path]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.count(" passed ") + done.stderr.count(" passed ") == len(documents(path)), done.stdout + done.stderr


def test_commands_of_manifests():
    """Each runs a command that there is, with options that it has, and the sub-command that is meant."""
    seen = set()
    for container in (one for path in MANIFESTS for manifest in documents(path) for one in containers(manifest)):
        for words in commands_of(container):
            words = words[-1].split() if words[0] == "sh" else words
            for at in [i for i, word in enumerate(words) if word.endswith("/bin/prelux")]:
                name, *rest = words[at + 1:]
                seen.add((name, *rest[:1]) if name == "daemon" else (name,))
                options = [word[2:] for word in rest[:rest.index("--")] if word.startswith("--")] if "--" in rest else \
                    [word[2:] for word in rest if word.startswith("--")]
                assert name in COMMANDS and set(options) <= set(COMMANDS[name]), words
    assert {("daemon", "stop"), ("daemon", "status"), ("prefetch",), ("run",)} <= seen


def test_dockerfile(tmp_path):
    """Nothing is wrong with it, and it copies what `make tarball` makes of this version; with what is made wrong here the checks find fault."""
    try:
        dockerfiles.CHECKS.install()
    except ServerError as error:
        pytest.skip(f"checks of Dockerfiles cannot be had: {str(error)[:300]}")
    text = (TOP / "kubernetes/Dockerfile").read_text()
    assert dockerfiles.complaints(TOP / "kubernetes/Dockerfile") == ""
    for name, value in {"COPY ": "COPYY ", "COPY prelux": "COPY --form=a prelux", "FROM busybox:stable-glibc": "FROM"}.items():
        (tmp_path / "Dockerfile").write_text(text.replace(name, value))
        assert dockerfiles.complaints(tmp_path / "Dockerfile"), value
    version, = re.findall(r'^#define PRELUX_VERSION "(.*)"', (ROOT / "include/prelux/version.h").read_text(), re.M)
    assert f"\nCOPY prelux-{version}-x86_64 /opt/prelux\n" in text and f"-t prelux:{version} " in text


def test_configuration_of_manifests(tmp_path):
    config, = documents(TOP / "kubernetes/config.yaml")
    (tmp_path / "prelux.yaml").write_text(config["data"]["prelux.yaml"])
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run([BUILD / "prelux", "--config", tmp_path / "prelux.yaml", "config", "check"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grace = yaml.safe_load(config["data"]["prelux.yaml"])["grace"]
    for manifest in (one for path in MANIFESTS for one in documents(path)):
        spec = manifest.get("spec", {})
        seconds = spec.get("template", {}).get("spec", spec).get("terminationGracePeriodSeconds")
        assert seconds is None or seconds > int(grace[:-1])


class Pod:
    """What a manifest says, with its volume as a folder of this test, each container in PID and mount namespaces of its own: the configuration is there
    only where it is mounted."""

    def __init__(self, prelux):
        self.volume, self.config, self.base, self.started = prelux.runtime, prelux.config_path, prelux.env, []  # short: a socket's name is in it

    def moved(self, text):
        text = re.sub(r"(?<!\w)/prelux/", f"{self.volume}/", text)
        return text.replace("/etc/prelux/prelux.yaml", str(self.config)).replace("/mnt/", "/prelux-pod/")

    def env(self, container):
        return {**self.base, **{one["name"]: self.moved(one["value"]) for one in container.get("env", [])}}

    def run(self, container, words):
        """A container that begins."""
        mounted = any(one["mountPath"] == "/etc/prelux" for one in container.get("volumeMounts", []))
        begin = ["sh", "-c", 'exec "$@"' if mounted else 'mount -t tmpfs tmpfs "$0" && exec "$@"', self.config.parent]
        return self.popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *begin, *map(self.moved, words)], self.env(container))

    def first_process(self, child):
        found = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True)
        return int(found.stdout) if found.stdout else None

    def inside(self, container, child, words):
        """A probe, or a hook, of a container that runs."""
        return self.popen(["nsenter", "-t", str(self.first_process(child)), "-p", "-m", "-r", *map(self.moved, words)], self.env(container))

    def popen(self, argv, env):
        self.started.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return self.started[-1]

    def ready(self, container, child, kind):
        words = container[kind]["exec"]["command"]
        wait_for(lambda: self.first_process(child) and self.inside(container, child, words).wait(30) == 0, 60, kind)

    def end(self, order):
        """[(container, child)...], as the kubelet ends them: all preStops at once; then each gets SIGTERM when its own has ended, and the one before it has."""
        told = [container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command") for container, _ in order]
        hooks = [words and self.inside(*one, words) for one, words in zip(order, told)]
        for hook, (container, child) in zip(hooks, order):
            assert hook is None or hook.wait(90) == 0
            assert child.poll() is None, f"{container['name']} has ended before its turn"
            os.kill(self.first_process(child), signal.SIGTERM)
            assert child.wait(90) == 0, child.communicate()

    def close(self):
        for child in self.started:
            child.kill()
            child.communicate()


@pytest.fixture
def pod(prelux):
    probe = subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", prelux.home], capture_output=True,
                           text=True)
    if probe.returncode:
        pytest.skip(f"no namespaces of one's own here: {probe.stderr.strip()}")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-C", ROOT, f"BUILD={BUILD}", f"PREFIX={prelux.runtime}/opt", "install"], check=True, capture_output=True, env=env)
    for name in ("data", "out"):
        (prelux.tmp / name).mkdir()
    (prelux.tmp / "data/hello").write_text("hello\n")
    prelux.config({"version": 1, "cache": {"dir": f"{prelux.runtime}/cache"}, "backends": {"d": {"type": "file", "root": str(prelux.tmp)}},
                   "mappings": [{"local": "/prelux-pod/data", "remote": "d:/data"}, {"local": "/prelux-pod/out", "remote": "d:/out", "write": "async",
                                                                                      "write_back": "300s"}]}, name="etc/prelux.yaml")
    one = Pod(prelux)
    yield one
    one.close()


WORK = """cat /mnt/data/hello; echo made > /mnt/out/made; ps -e | wc -l
trap 'echo late > /mnt/out/late; exit 0' TERM
echo ready; while :; do sleep 0.1; done"""


def test_sidecar(pod, prelux):
    """Program and daemon see each other's files, not each other's processes; what the program writes when it is told to end is sent."""
    manifest, = documents(TOP / "kubernetes/sidecar.yaml")
    parts = {one["name"]: one for one in containers(manifest)}
    daemon = pod.run(parts["daemon"], parts["daemon"]["command"])
    pod.ready(parts["daemon"], daemon, "startupProbe")
    words = parts["train"]["command"]
    assert pod.run(parts["train"], words).communicate(timeout=60) == ("hello\n\n", "")
    at = words.index("--")
    train = pod.run(parts["train"], [*words[:at], "--no-wait", "--", "bash", "-c", WORK])  # the daemon alone is to send it
    assert train.stdout.readline() == "hello\n" and int(train.stdout.readline()) < 7 and train.stdout.readline() == "ready\n"
    assert not (prelux.tmp / "out/made").exists()
    pod.end([(parts["train"], train), (parts["daemon"], daemon)])
    assert [(prelux.tmp / "out" / name).read_text() for name in ("made", "late")] == ["made\n", "late\n"]


def test_node_cache(pod):
    """Two pods: the daemon's has to have the configuration that the program's names."""
    daemons, program = documents(TOP / "kubernetes/node-cache.yaml")
    part = next(one for one in containers(daemons) if one["name"] == "daemon")
    daemon = pod.run(part, part["command"])
    pod.ready(part, daemon, "readinessProbe")
    train, = containers(program)
    assert pod.run(train, train["command"]).communicate(timeout=60) == ("hello\n\n", "")
    pod.end([(part, daemon)])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.parent.name)
def test_scripts_are_well_formed(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def cluster(prelux):
    """PATH with stand-ins for srun and mpirun, and prelux."""
    bin = prelux.tmp / "bin"
    bin.mkdir()
    for name, text in (("srun", SRUN), ("mpirun", MPIRUN)):
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    (bin / "prelux").symlink_to(BUILD / "prelux")
    (prelux.tmp / "source").mkdir()
    (prelux.tmp / "source/a").write_text("served\n")
    prelux.file_mapping(prelux.tmp / "source", "/prelux-cluster", write="async")
    return {**prelux.env, "PATH": f"{bin}:{os.environ['PATH']}", "RANKS": "3", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_TMPDIR": str(prelux.runtime)}


def test_slurm(prelux, cluster):
    env = {**cluster, "PREFETCH": "/prelux-cluster"}
    script = "cat /prelux-cluster/a; echo $SLURM_PROCID > /prelux-cluster/of-$SLURM_PROCID"
    done = subprocess.run([SCRIPTS[0], prelux.config_path, "bash", "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.count("served\n") == 3, done.stdout + done.stderr
    assert [(prelux.tmp / f"source/of-{i}").read_text() for i in range(3)] == ["0\n", "1\n", "2\n"]
    assert not (prelux.runtime / "prelux-run-7/sock").exists()
    done = subprocess.run([SCRIPTS[0], prelux.config_path, "bash", "-c", "exit $((SLURM_PROCID * 3))"], env=cluster, capture_output=True, text=True, timeout=120)
    assert done.returncode in (3, 6), done.stderr
    shutil.rmtree(prelux.runtime / "prelux-run-7")


def test_mpi(prelux, cluster):
    done = subprocess.run([SCRIPTS[1], prelux.config_path, "4", "cat", "/prelux-cluster/a"], env=cluster, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "served\n" * 4), done.stderr


def test_node_cache_is_installed_and_renewed(tmp_path):
    """What the DaemonSet's init container does, on a node that is new, and on one that has an older version."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    install = next(one for one in containers(documents(TOP / "kubernetes/node-cache.yaml")[0]) if one["name"] == "install")
    shell, option, script = install["command"]
    image, node = tmp_path / "image", tmp_path / "node"
    node.mkdir()
    places = {"/opt/prelux": image, "/prelux": node}
    script = re.sub(r"(?<![\w.])/(opt/)?prelux\b", lambda found: str(places[found.group()]), script)
    for version in ("1", "2", "3"):
        shutil.rmtree(image, ignore_errors=True)
        (image / "bin").mkdir(parents=True)
        (image / "bin/prelux").write_text(version)
        done = subprocess.run([shell, option, script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert (node / "opt/bin/prelux").read_text() == version and node.stat().st_uid == 10001
        assert version == "1" or (node / "old/bin/prelux").read_text() == str(int(version) - 1)
    assert {path.name for path in node.iterdir()} == {"opt", "old"}
