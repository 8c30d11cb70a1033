"""Programs below a prefix, started in every way, and children that must stay under prelux whatever environment they get.

The oracle is the same on a plain copy at the same place (tests/posix/starts.c says what is tried)."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import harness

STARTS = harness.BUILD / "tests/posix/starts"
SHOW = harness.BUILD / "tests/posix/show"
WAYS = ["execve", "execv", "execl", "execle", "execvp", "execvpe", "execlp", "execveat", "fexecve", "cwd", "vfork", "spawn", "spawnp",
        "actions", "moved", "fchdir", "system", "popen", "small-stack", "full-table"]


@pytest.fixture(scope="module", autouse=True)
def built():
    if not STARTS.exists():
        pytest.skip(f"{STARTS} is not built (make posix-programs)")


def _script(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def place(tmp_path):
    """(remote, local): the remote's programs name themselves by their place below `local`."""
    remote, local = tmp_path / "remote", tmp_path / "m/lake"
    (remote / "bin").mkdir(parents=True)
    out = tmp_path / "m/lake.out"
    out.mkdir(parents=True)
    shutil.copy(SHOW, remote / "bin/show")
    (remote / "data").write_text("first line\n")
    _script(remote / "bin/script", '#!/bin/sh\necho "  script $0 $1"; cat "$2"; exec "${0%/*}/show" x "$2"\n')
    _script(remote / "bin/by-show", f"#!{local}/bin/show -one argument \n")
    _script(remote / "bin/chain", f"#! {local}/bin/by-show\n")
    _script(remote / "bin/text", "echo text $1\n")
    _script(remote / "bin/plain", "#!/bin/sh\n", 0o644)
    _script(remote / "bin/loop1", f"#!{local}/bin/show\n")
    for i in range(2, 7):
        _script(remote / f"bin/loop{i}", f"#!{local}/bin/loop{i - 1}\n")
    _script(out / "by-mapped", f"#!{local}/bin/show\n")
    return remote, local


def _oracle(prelux, remote, local, cmd, **options):
    shutil.copytree(remote, local)
    done = prelux.plain(cmd, check=False, **options)
    shutil.rmtree(local)
    return done


def _blocks(text):
    """Heading -> lines below it."""
    found, lines = {}, []
    for line in text.splitlines():
        if not line.startswith("  ") and line.split(" ")[0] in WAYS and len(line.split(" ")) == 3:
            lines = found[line] = []
        else:
            lines.append(line)
    return found


def _known(way, heading, got, want):
    """Differences that are meant. `plain` has no x bit but begins with #!: exec: auto (docs/SEMANTICS.md)."""
    target = heading.split(" ")[2]
    if target == "/bin/plain":
        return True
    # The kernel gives an interpreter /dev/fd/N when a script is run by a descriptor; prelux gives it the logical path.
    return way in ("execveat", "fexecve") and target != "/bin/show" and not any("failed" in line for line in got)


@pytest.mark.parametrize("way", WAYS)
def test_every_way(prelux, place, way):
    remote, local = place
    want = _blocks(_oracle(prelux, remote, local, [STARTS, local, way]).stdout)
    prelux.file_mapping(remote, local)
    got = _blocks(prelux.run([STARTS, local, way]).stdout)
    assert got.keys() == want.keys() and want
    wrong = {key: (got[key], want[key]) for key in want if got[key] != want[key] and not _known(way, key, got[key], want[key])}
    assert wrong == {}


def test_exec_auto(prelux, place):
    """A script without x bits runs, as documented; a text file without "#!" does not."""
    remote, local = place
    (remote / "bin/show").chmod(0o644)
    (remote / "bin/text").chmod(0o644)
    prelux.file_mapping(remote, local)
    assert "argv[1] hi" in prelux.run([local / "bin/show", "hi"]).stdout
    assert prelux.run(f"{local}/bin/text", check=False).returncode == 126


def _fetch_env(prelux, code, env=None):
    done = prelux.run([sys.executable, "-c", code], env=env)
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines())


RUN_ENV = "import subprocess; subprocess.run(['/usr/bin/env'], env={env})"


def test_what_is_put_back(prelux, place):
    remote, local = place
    prelux.file_mapping(remote, local)
    library = os.path.basename(prelux.library)
    child = _fetch_env(prelux, RUN_ENV.format(env="{}"))
    assert os.path.basename(child["LD_PRELOAD"]) == library and "/tables/" in child["PRELUX_CONFIG"]
    assert child["PRELUX_RUNTIME_DIR"] == str(prelux.runtime) and len(child) == 4
    assert child["PRELUX_PREFIXES"] == ":".join([os.path.basename(child["PRELUX_CONFIG"]), str(prelux.config_path), str(prelux.tmp), str(local)])
    # Others' libraries stay, ours comes first; one that lists ours is left as it is.
    child = _fetch_env(prelux, RUN_ENV.format(env="{'LD_PRELOAD': '/nowhere/a.so:/b.so'}"))
    assert child["LD_PRELOAD"].endswith(library + ":/nowhere/a.so:/b.so")
    given = f"/nowhere/a.so {prelux.library}"
    child = _fetch_env(prelux, RUN_ENV.format(env=repr({"LD_PRELOAD": given})))
    assert child["LD_PRELOAD"] == given
    # A program may choose another configuration, and may switch prelux off.
    child = _fetch_env(prelux, RUN_ENV.format(env="{'PRELUX_CONFIG': '/other'}"))
    assert child["PRELUX_CONFIG"] == "/other" and "PRELUX_PREFIXES" not in child
    child = _fetch_env(prelux, RUN_ENV.format(env="{'PRELUX_PREFIXES': 'of another table'}"))
    assert child["PRELUX_PREFIXES"].startswith(os.path.basename(child["PRELUX_CONFIG"]) + ":")
    assert _fetch_env(prelux, RUN_ENV.format(env="{'PRELUX_OFF': '1'}")) == {"PRELUX_OFF": "1"}


def test_off_is_respected(prelux, place):
    remote, local = place
    prelux.file_mapping(remote, local)
    assert prelux.run(f"PRELUX_OFF=1 cat {local}/data", check=False).returncode == 1
    assert prelux.run(f"env -i /bin/cat {local}/data").stdout == "first line\n"
    assert prelux.run(f"env -i PRELUX_OFF=1 /bin/sh -c 'cat {local}/data'", check=False).returncode == 1


def test_foreign_class(prelux, place, tmp_path):
    """A program of another machine gets no LD_PRELOAD: its ld.so would complain."""
    remote, local = place
    image = bytearray(SHOW.read_bytes())
    image[18] = 0x28  # e_machine: 32-bit arm
    foreign = tmp_path / "foreign"
    foreign.write_bytes(image)
    foreign.chmod(0o755)
    prelux.file_mapping(remote, local)
    code = f"""
import os, subprocess
try:
    subprocess.run(['{foreign}'], env={{}})
except OSError as e:
    print('error', e.errno)
"""
    trace = prelux.tmp / "trace"
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    done = prelux.run(["strace", "-f", "-v", "-s", "4096", "-e", "trace=execve", "-o", trace, sys.executable, "-c", code], check=False)
    lines = [line for line in trace.read_text().splitlines() if f'execve("{foreign}"' in line]
    if not lines:
        pytest.skip("strace cannot trace here: " + done.stderr[-200:])
    assert "PRELUX_CONFIG=" in lines[-1] and "LD_PRELOAD=" not in lines[-1]


def test_cold_script_in_subprocess(prelux, place):
    """Python's subprocess: vfork, close_range, one execve for each entry of PATH; nothing of the mapping is cached yet."""
    remote, local = place
    prelux.file_mapping(remote, local)
    code = f"""
import os, subprocess
os.environ['PATH'] = '/nowhere:{local}/bin:' + os.environ['PATH']
for env in (None, {{}}, {{'PATH': '/bin'}}):
    for shell in (False, True):
        print(subprocess.run(['script', 'a', '{local}/data'] if not shell else '{local}/bin/script a {local}/data', shell=shell, env=env,
              capture_output=True, text=True).stdout)
print(subprocess.run(['script', 'a', '{local}/data'], close_fds=False, capture_output=True, text=True).stdout)
"""
    want = _oracle(prelux, remote, local, [sys.executable, "-c", code])
    assert want.stdout.count("script") >= 7
    prelux.cli("evict", "--all", check=False)
    assert prelux.run([sys.executable, "-c", code]).stdout == want.stdout


def test_many_children_leave_nothing(prelux, place):
    """Parents neither lose descriptors nor gain memory maps by starting children."""
    remote, local = place
    prelux.file_mapping(remote, local)
    code = f"""
import os, subprocess
def state():
    return len(os.listdir('/proc/self/fd')), len(open('/proc/self/maps').readlines())
def start():
    subprocess.run(['{local}/bin/script', 'a', '{local}/data'], env={{'A%d' % i: 'x' for i in range(300)}}, stdout=subprocess.DEVNULL)
for i in range(5): start()
before = state()
for i in range(20): start()
after = state()
print('same' if before[0] == after[0] and after[1] - before[1] <= 2 else (before, after))
"""
    assert prelux.run([sys.executable, "-c", code]).stdout == "same\n"


def test_nested_configuration(prelux, place, tmp_path):
    """prelux run inside prelux run: the inner configuration wins for the inner program."""
    remote, local = place
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "data").write_text("inner\n")
    text = f"version: 1\ncache: {{dir: {tmp_path}/c2, min_free: '0'}}\nbackends: {{i: {{type: file, root: {inner}}}}}\nmappings: [{{local: /inner, remote: 'i:/'}}]\n"
    (tmp_path / "inner.yaml").write_text(text)
    prelux.file_mapping(remote, local)
    script = f"cat {local}/data; {prelux.exe} --config {tmp_path}/inner.yaml run -- sh -c 'cat /inner/data; cat {local}/data'; cat {local}/data"
    done = prelux.run(script)
    assert done.stdout == "first line\ninner\nfirst line\n" and "No such file" in done.stderr


def test_signal_handler_execs(prelux, place):
    """exec from a handler that interrupted malloc: nothing of it may allocate."""
    remote, local = place
    source = prelux.tmp / "handler.c"
    source.write_text("""
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
static char **volatile args;
static void on_alarm(int number) { char *none[] = {0}; execve(args[0], args, none); _exit(9); }
int main(int argc, char **argv)
{
  struct itimerval soon = {{0, 0}, {0, 20000}};
  args = argv + 1;
  signal(SIGALRM, on_alarm);
  setitimer(ITIMER_REAL, &soon, 0);
  for (;;) free(malloc(rand() % 100000));
}
""")
    program = prelux.tmp / "handler"
    subprocess.run(["cc", "-O1", "-o", program, source], check=True)
    prelux.file_mapping(remote, local)
    for _ in range(10):
        done = prelux.run([program, local / "bin/script", "a", local / "data"], timeout=20)
        assert done.stdout.startswith(f"  script {local}/bin/script a\nfirst line\n")
