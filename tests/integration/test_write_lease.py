"""A process that makes file after file in one folder need not ask for each (lib/store/stage_lease.h): nobody can tell but by the time that it takes."""

import errno
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, lake_of, make_lake, settled

FILES = 300
MADE = """
import errno, os, sys, time
def make(name, mode="wb", data=None):
    with open(name, mode) as f: f.write(name.encode() if data is None else data)
def burst(n, folder="d", mode="wb"):
    os.makedirs(folder, exist_ok=True)
    for i in range(n): make(f"{folder}/f{i}", mode)
def errno_of(f, *a, **k):
    try: f(*a, **k)
    except OSError as e: return errno.errorcode[e.errno]
"""


def script_of(lake, text):
    path = lake.tmp / f"script{len(list(lake.tmp.glob('script*')))}.py"
    path.write_text(MADE + text)
    return path


def python(lake, text, *words, **options):
    done = lake.run(["sh", "-c", f'cd {LOCAL} && exec "$@"', "sh", sys.executable, script_of(lake, text), *map(str, words)], timeout=120, **options)
    return done.stdout


def requests(lake):
    lake.run(["true"])
    return lake.cli("daemon", "status", "--json")["requests"]


def named(n, folder="d"):
    return {f"{folder}/f{i}": f"{folder}/f{i}".encode() for i in range(n)}


def held(lake):
    """{path: bytes} of the files on the remote."""
    return {path: data for path, (kind, _, data) in lake.seen().items() if kind == "file"}


def leased(once):
    """once(): true when leases were used; on a machine with much else to do files may come too slowly for one."""
    for _ in range(8):
        if once():
            return
    raise AssertionError("no lease was granted")


@pytest.fixture
def lake(prelux):
    return make_lake(prelux, write="async", write_back="1s")


@pytest.mark.parametrize("kind", ["file", "versitygw", "azurite"])
@pytest.mark.parametrize("mode", ["wb", "xb", "w+b"])
def test_few_questions_and_all_arrives(prelux, kind, mode):
    with lake_of(prelux, kind, write="async", freshness={"max_age": "60s"}) as lake:
        made = {}

        def once():
            folder = f"d{len(made)}"
            before = requests(lake)
            python(lake, "burst(int(sys.argv[1]), sys.argv[2], sys.argv[3])", FILES, folder, mode)
            made[folder] = requests(lake) - before
            return made[folder] < FILES / 3

        leased(once)
        lake.cli("flush", "--timeout", "60", timeout=100)
        assert held(lake) == {path: data for folder in made for path, data in named(FILES, folder).items()}
        assert not list((lake.tmp / "cache/.prelux/lease").glob("[1-9]*")), "a lease that has ended lies there"


def test_modes_and_times(prelux):
    """What is made is no older than the open, though its file lay ready; the umask counts; the numbers are the same before, while and after."""
    lake = make_lake(prelux, write="async")
    out = python(lake, """
os.umask(0o027)
burst(20)
seen = {}
for i in range(60):
    time.sleep(0.005)
    before = os.stat('/proc/self').st_ctime_ns and time.time_ns()
    with open(f'd/g{i}', 'wb') as f: st = os.fstat(f.fileno())
    seen[i] = (st.st_ino, st.st_dev, oct(st.st_mode), st.st_nlink, st.st_size)
    assert st.st_mtime_ns > before - 20_000_000, (i, st.st_mtime_ns - before)
assert len({one[0] for one in seen.values()}) == 60
for i in seen:
    st = os.stat(f'd/g{i}')
    assert seen[i] == (st.st_ino, st.st_dev, oct(st.st_mode), st.st_nlink, st.st_size), i
print({one[2:] for one in seen.values()})
for i in range(60):
    fd = os.open(f'd/m{i}', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if i % 30 == 29 else 0o755 if i % 30 == 28 else 0o666); os.close(fd)
    assert os.stat(f'd/m{i}').st_mode & 0o777 == (0o600 if i % 30 == 29 else 0o750 if i % 30 == 28 else 0o640) if i % 30 > 27 else True, i
print(*(f'{i}:{seen[i][0]}' for i in seen))
""").splitlines()
    assert out[0] == "{('0o100640', 1, 0)}"
    settled(lake)
    assert python(lake, "print(*(f'{i}:{os.stat(f\"d/g{i}\").st_ino}' for i in range(60)))").strip() == out[1]


@pytest.mark.parametrize("links", [False, True])
def test_what_is_there_is_found(lake, links):
    """Names of before, of the remote, of links and folders: opened, refused, or written over, as ever."""
    (lake.remote / "d").mkdir()
    (lake.remote / "d/theirs").write_text("theirs")
    out = python(lake, """
links = sys.argv[1] == 'True'
make('d/ours', data=b'ours'); os.mkdir('d/sub')
if links: os.symlink('ours', 'd/link')
os.listdir('d'); burst(150)
print([errno_of(make, f'd/{n}', 'xb') for n in ['theirs', 'ours', 'sub', 'f3', 'f149'] + ['link'] * links], errno_of(make, 'd/sub'))
burst(30, mode='ab'); burst(40, 'd/sub')
make('d/theirs', data=b'mine'); burst(12, 'e'); make('d/ours', 'ab', b'+')
print(open('d/theirs').read(), open('d/ours').read(), open('d/f3').read(), len(os.listdir('d')) - links)
""", links).splitlines()
    assert out == [f"{['EEXIST'] * (6 if links else 5)} EISDIR", "mine ours+ d/f3d/f3 153"]
    settled(lake)
    assert (lake.remote / "d/ours").read_text() == "ours+" and (lake.remote / "d/theirs").read_text() == "mine"


def test_names_that_are_there_are_not_made(lake):
    """Each name is one of before in turn, found in the middle of those that are new."""
    (lake.remote / "d").mkdir()
    for i in range(0, 100, 7):
        (lake.remote / f"d/f{i}").write_text("theirs")
    out = python(lake, """
os.listdir('d')
print([i for i in range(100) if errno_of(make, f'd/f{i}', 'xb') == 'EEXIST'])
""")
    assert out == f"{list(range(0, 100, 7))}\n"


def test_removed_and_made_again(lake):
    out = python(lake, """
for n in range(5):
    burst(40)
    for i in range(40): os.unlink(f'd/f{i}')
    burst(10); os.rename('d', f'gone{n}')
    print(len(os.listdir(f'gone{n}')), os.path.exists('d'))
""")
    assert out == "10 False\n" * 5
    settled(lake)
    assert held(lake) == {f"gone{n}/f{i}": f"d/f{i}".encode() for n in range(5) for i in range(10)}


WATCHER = """
import os
d = sys.argv[2]
looks = {
    'stat': lambda n: os.stat(n).st_size, 'open': lambda n: len(open(n).read()), 'list': lambda n: 3 * (os.path.basename(n) in os.listdir(d)),
    'scan': lambda n: sum(e.stat().st_size for e in os.scandir(d) if e.path == n), 'access': lambda n: 3 * os.access(n, os.R_OK),
    'exclusive': lambda n: errno_of(open, n, 'x'), 'append': lambda n: open(n, 'a').tell(), 'folder': lambda n: os.stat(d).st_mtime_ns,
}
look = looks[sys.argv[1]]
os.listdir(d); os.stat(d)
while word := sys.stdin.readline().split():
    try: print(look(word[0]), flush=True)
    except OSError as e: print(errno.errorcode[e.errno], flush=True)
"""
MAKER = """
import subprocess
how = sys.argv[2]
d = sys.argv[3]
os.mkdir(d)
other = subprocess.Popen([sys.executable, *sys.argv[1:4]], stdin=-1, stdout=-1, text=True)
def ask(name):
    other.stdin.write(name + '\\n'); other.stdin.flush()
    return other.stdout.readline().strip()
wrong = []
for n in range(10):
    was = ask(f'{d}/last{n}') if how != 'exclusive' and how != 'append' else None  # known not to be there
    for i in range(30): make(f'{d}/n{n}i{i}', data=b'x')
    make(f'{d}/last{n}', data=b'yes')
    got = ask(f'{d}/last{n}')
    if (int(got) <= int(was)) if how == 'folder' else got != ('EEXIST' if how == 'exclusive' else '3'): wrong.append((n, was, got))
other.stdin.close(); other.wait()
print('wrong', wrong)
"""


@pytest.mark.parametrize("how", ["stat", "open", "list", "scan", "access", "exclusive", "append", "folder"])
@pytest.mark.parametrize("kind", ["file", "versitygw"])
def test_others_see_at_once(prelux, kind, how):
    """Another process, that knew that the name was not there and has listed the folder, is told that it is: it is there."""
    with lake_of(prelux, kind, write="async", freshness={"max_age": "60s"}, negative_age="60s") as lake:
        def once():
            before = requests(lake)
            assert python(lake, MAKER, script_of(lake, WATCHER), how, f"d{before}") == "wrong []\n"  # a folder for each try
            return requests(lake) - before < 300

        leased(once)


RACE = """
import json
me, mode, go = sys.argv[1], sys.argv[2], sys.argv[3]
os.makedirs('d', exist_ok=True)
while not os.path.exists(go): pass
won = []
for i in range(400):
    try:
        with open(f'd/f{i}', mode) as f: f.write(me)
        won.append(i)
    except FileExistsError: pass
print(json.dumps(won))
"""


def test_one_of_two_makes_it(lake):
    """O_EXCL by two processes on the same names: one gets each."""
    import json
    script, go = script_of(lake, RACE), lake.tmp / "go"
    lake.run(["true"])
    racers = [lake.popen(["sh", "-c", f"cd {LOCAL} && exec {sys.executable} {script} {who} x {go}"], stdout=subprocess.PIPE, text=True) for who in "ab"]
    go.write_text("")
    won = [json.loads(racer.communicate(timeout=100)[0]) for racer in racers]
    assert sorted(won[0] + won[1]) == list(range(400))
    settled(lake)
    assert held(lake) == {**{f"d/f{i}": b"a" for i in won[0]}, **{f"d/f{i}": b"b" for i in won[1]}}


THREADS = HEAD + """
#include <pthread.h>
enum { NAMES = 3000, THREADS = 4 };
static int winners[NAMES];
static void *run(void *arg)
{
  char name[64];
  for (int i = 0; i < NAMES; i++)
  {
    snprintf(name, sizeof name, "d/f%d", i);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 && errno != EEXIST) { perror(name); _exit(8); }
    if (fd < 0) continue;
    __atomic_fetch_add(&winners[i], 1, __ATOMIC_RELAXED);
    if (write(fd, name, strlen(name)) != (long)strlen(name) || close(fd)) _exit(7);
  }
  return NULL;
}
int main(int argc, char **argv)
{
  pthread_t t[THREADS];
  if (chdir(argv[1]) || mkdir("d", 0755)) return 6;
  for (int i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, run, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  for (int i = 0; i < NAMES; i++) if (winners[i] != 1) { printf("%d: %d\\n", i, winners[i]); return 5; }
  return 0;
}
"""


def test_threads(lake):
    lake.run([compiled(lake.tmp, "threads", "#include <errno.h>\n" + THREADS), LOCAL], timeout=200)
    settled(lake, 60)
    assert held(lake) == named(3000)


@pytest.mark.asan
def test_children(lake):
    """A child of fork makes files with what its parent was granted: it is not its own."""
    python(lake, """
burst(20)
for n in range(10):
    make(f'd/a{n}', data=b'p')
    if os.fork() == 0:
        for i in range(10): make(f'd/c{n}i{i}', data=b'c')
        os._exit(0)
    for i in range(10): make(f'd/p{n}i{i}', data=b'p')
    os.wait()
os.posix_spawn('/bin/sh', ['sh', '-c', 'for i in $(seq 20); do echo s > d/s$i; done'], os.environ)
os.wait()
""")
    settled(lake)
    got = {name.split("/")[1]: data for name, data in held(lake).items()}
    assert {name: data for name, data in got.items() if name[0] == "c"} == {f"c{n}i{i}": b"c" for n in range(10) for i in range(10)}
    assert {name: data for name, data in got.items() if name[0] in "pa"} == {**{f"p{n}i{i}": b"p" for n in range(10) for i in range(10)}, **{f"a{n}": b"p" for n in range(10)}}
    assert sum(name[0] == "s" for name in got) == 20


UNTIL_KILLED = """
os.makedirs('d', exist_ok=True)
i = 0
while True:
    name = f'd/f{i}'
    with open(name, 'wb') as f: f.write(name.encode())
    os.write(1, b'%d\\n' % i)   # closed
    i += 1
"""


@pytest.mark.asan
@pytest.mark.parametrize("who", ["writer", "daemon", "both"])
@pytest.mark.parametrize("after", [30, 75, 150, 310])
def test_killed_in_the_middle(prelux, who, after):
    """Whatever was closed is sent, by whoever comes next; what was not is nothing, or the start of it, that waits for a person."""
    lake = make_lake(prelux, write="async", write_back="600s")
    lake.run(["true"])
    child = lake.popen(["sh", "-c", f"cd {LOCAL} && exec {sys.executable} {script_of(lake, UNTIL_KILLED)}"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    closed = [int(child.stdout.readline()) for _ in range(after)]
    assert closed == list(range(after))
    if who != "writer":
        lake.kill_daemon(signal.SIGKILL)
    if who == "daemon":
        closed += [int(child.stdout.readline()) for _ in range(200)]
    os.killpg(child.pid, signal.SIGKILL)
    closed += [int(line) for line in child.stdout.read().splitlines() if line.isdigit()]
    child.wait(60)
    lake.run(["true"])
    lake.cli("flush", "--timeout", "60", timeout=100, check=False)  # the one that was not closed is told
    got = held(lake)
    assert {name: got.get(name) for name in named(len(closed))} == named(len(closed)), lake.story()
    assert set(got) - set(named(len(closed))) <= {f"d/f{len(closed)}"}
    left = lake.tmp / "cache/.prelux/lease"
    assert not list(left.glob("[1-9]*")) and all(row["state"] != "waiting" for row in lake.cli("pending", "list", "--json")["files"])


PAUSES = """
burst(200); print('made', flush=True)
for i in range(100): time.sleep(0.03); make(f'd/more{i}')
"""


def test_a_daemon_that_dies_between(prelux):
    """The remote has them, and the lease goes on: what the remote got from others since is not written over by the next daemon."""
    lake = make_lake(prelux, write="async", write_back="200ms")
    lake.run(["true"])
    for _ in range(5):  # until both are so at once
        child = lake.popen(["sh", "-c", f"rm -rf {LOCAL}/d; cd {LOCAL} && exec {sys.executable} {script_of(lake, PAUSES)}"], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "made\n"
        wait_for(lambda: len(list((lake.tmp / "cache").glob("**/d/f*"))) >= 200 or child.poll() is not None, 60, "the upload")
        time.sleep(0.2)  # the last of them is known to be sent
        leased = list((lake.tmp / "cache/.prelux/lease").glob("[1-9]*"))
        lake.kill_daemon(signal.SIGKILL)
        sent = [path for path in (lake.remote / "d").glob("f*") if path.stat().st_size]
        for path in sent:
            path.write_text("theirs")
        child.wait(60)
        lake.cli("flush", "--timeout", "60", timeout=100, check=False)
        assert [path.name for path in sent if path.read_text() != "theirs"] == []
        if leased:
            return
    pytest.skip("no lease lived so long")


def test_the_writer_that_is_killed_with_a_file_open(prelux):
    """It is not sent as if it were whole."""
    lake = make_lake(prelux, write="async")
    child = lake.popen(["sh", "-c", f"cd {LOCAL} && exec {sys.executable} " + str(script_of(lake, """
burst(30)
f = open('d/half', 'wb', buffering=0); f.write(b'half'); print('now', flush=True); time.sleep(1000)
"""))], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout.readline() == "now\n"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(60)
    wait_for(lambda: any(row["path"].endswith("half") and row["state"] == "recovered" for row in lake.cli("pending", "list", "--json")["files"]), 20,
             f"it to be put aside {lake.story()}")
    lake.cli("flush", "--timeout", "60", timeout=100, check=False)
    assert held(lake) == named(30)


def test_synced_and_renamed_files(lake):
    """What a program does by the file itself finds it."""
    out = python(lake, """
burst(20)
for i in range(30):
    with open(f'd/t{i}', 'wb') as f:
        f.write(b'x'); f.flush(); os.fsync(f.fileno()); os.fchmod(f.fileno(), 0o600)
    os.rename(f'd/t{i}', f'd/final{i}')
burst(20, 'e')
with open('e/open', 'wb') as f:
    os.rename('e/open', 'e/moved'); f.write(b'y')
    print(os.readlink(f'/proc/self/fd/{f.fileno()}').split('/')[-1], os.path.sameopenfile(f.fileno(), os.open('e/moved', os.O_RDONLY)))
print(sorted(os.listdir('d'))[:2], len(os.listdir('d')), oct(os.stat('d/final3').st_mode))
""").splitlines()
    assert out == ["moved True", "['f0', 'f1'] 50 0o100600"]
    settled(lake)
    assert held(lake)["e/moved"] == b"y" and held(lake)["d/final29"] == b"x"


def test_names_that_remotes_or_rules_are_about(lake):
    """Those are asked for; so are names of all lengths."""
    names = ["a b", "ä", ".hidden", "dot.", "x" * 200, "y" * 201, "z" * 255, "a:b", "%41", "-", "_", "a~", "#"]
    out = python(lake, f"""
burst(20)
for name in {names!r}: make('d/' + name, data=b'n')
print(errno_of(make, 'd/' + 'w' * 256), errno_of(make, 'd/none/x'), errno_of(make, 'd/f1/x'))
""")
    assert out == "ENAMETOOLONG ENOENT ENOTDIR\n"
    settled(lake)
    assert {name for name, data in held(lake).items() if data == b"n"} == {"d/" + name for name in names}


def test_a_folder_that_is_changed_elsewhere(prelux):
    """What the remote got since is believed not to be there for as long as the rules say, and no longer."""
    lake = make_lake(prelux, write="async", freshness={"max_age": "1s"}, on_conflict="fail")
    out = python(lake, """
burst(30)
os.mkdir(sys.argv[1] + '/d') if not os.path.isdir(sys.argv[1] + '/d') else None
open(sys.argv[1] + '/d/theirs', 'w').write('theirs')
end = time.monotonic() + 20
while (made := errno_of(make, 'd/theirs', 'xb')) is None and time.monotonic() < end: os.unlink('d/theirs'); time.sleep(0.3)
print(made)
""", lake.remote)
    assert out == "EEXIST\n"


def test_what_others_made_meanwhile(prelux):
    """What is opened by O_EXCL is not put over what the remote got since, though the ones before were opened by O_TRUNC."""
    lake = make_lake(prelux, write="async", freshness={"max_age": "60s"}, write_back="60s")
    python(lake, """
for n in range(5):
    os.mkdir(f'd{n}')
    while not os.path.isdir(sys.argv[1] + f'/d{n}'): time.sleep(0.01)
    burst(40, f'd{n}', 'w+b')
    open(sys.argv[1] + f'/d{n}/theirs', 'w').write('theirs')
    make(f'd{n}/theirs', 'xb', b'ours')
""", lake.remote, check=False)
    lake.cli("flush", "--timeout", "60", timeout=100, check=False)
    assert [(lake.remote / f"d{n}/theirs").read_text() for n in range(5)] == ["theirs"] * 5


@pytest.mark.asan
def test_told_to_end(prelux):
    """The daemon that ends sends what was made without asking, too."""
    lake = make_lake(prelux, write="async", write_back="600s")
    lake.run(["true"])
    child = lake.popen(["sh", "-c", f"cd {LOCAL} && exec {sys.executable} " + str(script_of(lake, "burst(200); print('made', flush=True); time.sleep(1000)"))],
                       stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout.readline() == "made\n"
    lake.kill_daemon(signal.SIGTERM)
    got = held(lake)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(60)
    assert got == named(200)


def test_full_descriptors(lake):
    """EMFILE is the program's, as ever, and nothing is left behind."""
    out = python(lake, """
import resource
burst(20)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
kept = []
try:
    for i in range(100): kept.append(open(f'd/k{i}', 'wb'))
except OSError as e: print(errno.errorcode[e.errno], len(kept) > 20)
for f in kept: f.write(b'k'); f.close()
burst(20, 'e')
print(len(os.listdir('d')) - 20 == len(kept))
""")
    assert out == "EMFILE True\nTrue\n"
    settled(lake)
    assert sum(data == b"k" for data in held(lake).values()) > 20


def served_while_it_ends(lake):
    """None: there was no lease to end. `daemon status` waits for its end, which is held up; who asks behind it must not."""
    maker = lake.popen(["sh", "-c", f'cd {LOCAL} && exec "$@"', "sh", sys.executable, script_of(lake, """
burst(100, sys.argv[1])
print("made", flush=True)
sys.stdin.read()
"""), f"d{time.monotonic_ns()}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert maker.stdout.readline() == b"made\n"
    log = lake.tmp / "strace"
    tracer = subprocess.Popen(["strace", "-f", "-o", log, "-p", str(lake.daemon_pid()), "-e", "inject=pwrite64:delay_enter=60000000"],
                              stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    there = list((lake.tmp / "cache/.prelux/lease").glob("[1-9]*"))
    try:
        with wire.connect(lake.runtime, 100) as first:
            first.send(wire.message(wire.CTL, (wire.F_VERB, "daemon-status")))
            if there:
                wait_for(lambda: "pwrite64(" in log.read_text(), 50, "its end is held up")
                assert wire.ask(lake.runtime, wire.message(99), timeout=50).status == -errno.EOPNOTSUPP
                answer = wire.receive(first) if select.select([first], [], [], 0)[0] else None
                assert answer is None or answer.op == wire.PROGRESS
    finally:
        tracer.terminate()
        tracer.communicate()
    maker.communicate(b"")
    return there


def test_the_loop_does_not_end_leases(prelux):
    lake = make_lake(prelux, write="async")
    leased(lambda: served_while_it_ends(lake))
