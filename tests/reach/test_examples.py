"""What lies in examples/: manifests held to Kubernetes' own schemas (the package kubernetes-validate has them) and to the command's table, the
side-car tried in two PID namespaces; scripts read by shellcheck and run with stand-ins for srun and mpirun."""

import os
import re
import shutil
import subprocess

import pytest
import yaml

from tests.harness import BUILD, ROOT, wait_for
from tests.meta.test_docs import COMMANDS
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
        argv = [KUBERNETES.program.parent / "kubernetes-validate", "--strict", "-k", version, path]
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
    assert {("daemon", "stop"), ("daemon", "status"), ("flush",), ("prefetch",), ("run",)} <= seen


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


@pytest.fixture
def pod(prelux):
    """run(container, words): what the manifest of the side-car says, with its volume as a folder of this test, in a PID namespace."""
    probe = subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no PID namespace of one's own here: {probe.stderr.strip()}")
    volume = prelux.runtime  # short: a socket's name is in it
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-C", ROOT, f"BUILD={BUILD}", f"PREFIX={volume}/opt", "install"], check=True, capture_output=True, env=env)
    for name in ("data", "out"):
        (prelux.tmp / name).mkdir()
    (prelux.tmp / "data/hello").write_text("hello\n")
    prelux.config({"version": 1, "cache": {"dir": f"{volume}/cache"}, "backends": {"d": {"type": "file", "root": str(prelux.tmp)}},
                   "mappings": [{"local": "/prelux-pod/data", "remote": "d:/data"}, {"local": "/prelux-pod/out", "remote": "d:/out", "write": "async",
                                                                                      "write_back": "300s"}]})
    started = []

    def moved(text):
        return re.sub(r"(?<!\w)/prelux/", f"{volume}/", text).replace("/etc/prelux/prelux.yaml", str(prelux.config_path)).replace("/mnt/", "/prelux-pod/")

    def run(container, words):
        env = {**prelux.env, **{one["name"]: moved(one["value"]) for one in container.get("env", [])}}
        argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "env", *(f"{k}={env.pop(k)}" for k in ("LD_PRELOAD",) if k in env),
                *map(moved, words)]
        started.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for child in started:
        child.kill()
        child.communicate()


def test_sidecar(pod, prelux):
    """Program and daemon see each other's files, not each other's processes."""
    manifest, = documents(TOP / "kubernetes/sidecar.yaml")
    parts = {one["name"]: one for one in containers(manifest)}
    daemon = pod(parts["daemon"], parts["daemon"]["command"])
    probe = parts["daemon"]["startupProbe"]["exec"]["command"]
    wait_for(lambda: pod(parts["daemon"], probe).wait(30) == 0, 60, "the side-car")
    said = pod(parts["train"], parts["train"]["command"]).communicate(timeout=60)
    assert said == ("hello\n\n", "")
    said = pod(parts["train"], ["bash", "-c", "cat /mnt/data/hello; echo made > /mnt/out/made; ps -e | wc -l"]).communicate(timeout=60)
    assert said[1] == "" and said[0].split()[0] == "hello" and int(said[0].split()[1]) < 6
    assert not (prelux.tmp / "out/made").exists()
    stop = pod(parts["train"], parts["train"]["lifecycle"]["preStop"]["exec"]["command"])
    assert stop.wait(90) == 0, stop.communicate()
    assert (prelux.tmp / "out/made").read_text() == "made\n"
    assert pod(parts["train"], ["bash", "-c", "echo late > /mnt/out/late"]).wait(60) == 0
    child = int(subprocess.run(["pgrep", "-P", str(daemon.pid)], capture_output=True, text=True, check=True).stdout)
    words = [re.sub("^/prelux/", f"{prelux.runtime}/", word) for word in parts["daemon"]["lifecycle"]["preStop"]["exec"]["command"]]
    subprocess.run(["nsenter", "-t", str(child), "-p", "-m", "-r", *words], env={**prelux.env, "PRELUX_RUNTIME_DIR": f"{prelux.runtime}/run"}, capture_output=True,
                   timeout=90)
    assert daemon.wait(60) == 0
    assert (prelux.tmp / "out/late").read_text() == "late\n"


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
