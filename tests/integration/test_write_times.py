"""Times that programs compare: a folder has changed when a name in it was made, renamed or removed here (make, rsync, git and Python's import system look at
that), and what is touched is no older than what was written before, nor younger than what is written afterwards."""

import os
import signal
import sys

import pytest

from tests.harness import alive, wait_for
from tests.integration.write_rig import LOCAL, lake_of, make_lake, same_as_plain, settled

MODES = ["sync", "async"]
# Each: (what to do in the folder d, which folders move).
STEPS = {
    "create": ("open('d/new', 'w').close()", "d"),
    "exclusive": ("open('d/only', 'x').close()", "d"),
    "write again": ("open('d/old', 'a').write('more')", ""),
    "replace bytes": ("open('d/old', 'w').write('other')", ""),
    "look": ("os.listdir('d'), os.stat('d/old'), open('d/old').read()", ""),
    "mode": ("os.chmod('d/old', 0o600)", ""),
    "mkdir": ("os.mkdir('d/sub')", "d"),
    "below": ("open('d/sub/f', 'w').close()", "d/sub"),
    "empty": ("os.unlink('d/sub/f')", "d/sub"),
    "rmdir": ("os.rmdir('d/sub')", "d"),
    "rename": ("os.rename('d/new', 'd/newer')", "d"),
    "away": ("os.rename('d/newer', 'e/newer')", "d e"),
    "over": ("os.rename('d/only', 'e/newer')", "d e"),
    "unlink": ("os.unlink('d/old')", "d"),
    "symlink": ("os.symlink('none', 'd/link')", "d"),
    "unlink a link": ("os.unlink('d/link')", "d"),
    "name for a nameless one": ("fd = os.open('d', os.O_TMPFILE | os.O_RDWR); os.link(f'/proc/self/fd/{fd}', 'd/named', dst_dir_fd=os.open('.', 0)); os.close(fd)", "d"),
    "in the root": ("open('top', 'w').close()", "."),
    "fails": ("[os.path.exists('d/none'), errno_of(os.mkdir, 'e'), errno_of(os.rmdir, 'e'), errno_of(os.unlink, 'd/none')]", ""),
}
WATCH = """
import os, sys, time
def errno_of(f, *a):
    try: f(*a)
    except OSError as e: return e.errno
def times(): return {f: (os.stat(f).st_mtime_ns, os.stat(f).st_ctime_ns) for f in ('.', 'd', 'e', 'd/sub') if os.path.isdir(f)}
os.mkdir('d'); os.mkdir('e'); open('d/old', 'w').write('old')
for name, step in STEPS:
    before = times(); now = time.time_ns()
    exec(step)
    after = times()
    moved = [f for f in after if f in before and after[f] != before[f]]
    for f in moved: assert after[f] > before[f] and abs(after[f][0] - now) < 30 * 10**9, (name, f, before[f], after[f], now)
    print(name, *moved)
"""


def watched():
    return WATCH.replace("STEPS", repr([(name, step) for name, (step, _) in STEPS.items()]))


@pytest.mark.parametrize("mode", MODES)
def test_folders_move_as_names_do(prelux, mode):
    lake = make_lake(prelux, write=mode, freshness="always" if mode == "sync" else {"max_age": "60s"})
    script = lake.tmp / "watch.py"
    script.write_text(watched())
    plain = lake.tmp / "oracle"
    plain.mkdir()
    want = lake.plain([sys.executable, script], cwd=plain).stdout
    assert want.splitlines() == [f"{name} {moved}".strip() for name, (_, moved) in STEPS.items()]
    got = lake.run(f"cd {LOCAL} && exec {sys.executable} {script}", timeout=120)
    if mode == "async":
        assert got.stdout == want
    else:  # with each put the remote's own folder moves once more: what moved must have, others may
        for line, (name, (_, moved)) in zip(got.stdout.splitlines(), STEPS.items()):
            assert set(moved.split()) <= set(line[len(name):].split()), got.stdout
    settled(lake)


FINDER = """
import importlib.machinery as m, os
os.mkdir('p'); finder = m.FileFinder('p', (m.SourceFileLoader, ['.py']))
for n in range(40):
    assert finder.find_spec(f'mod{n}') is None
    open(f'p/mod{n}.py', 'w').write('x = 1')
    assert finder.find_spec(f'mod{n}') is not None, n
    os.unlink(f'p/mod{n}.py')
    assert finder.find_spec(f'mod{n}') is None, n
print('seen')
"""


@pytest.mark.parametrize("kind,mode", [("file", "async"), ("file", "sync"), ("versitygw", "async")])
def test_import_system_sees_new_modules(prelux, kind, mode):
    """FileFinder lists a folder again when its time has moved: 40 modules come and go."""
    with lake_of(prelux, kind, write=mode) as lake:
        script = lake.tmp / "finder.py"
        script.write_text(FINDER)
        assert lake.run(f"mkdir -p {LOCAL}/x && cd {LOCAL}/x && exec {sys.executable} {script}", timeout=120).stdout == "seen\n"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["file", "versitygw"])
def test_a_folder_does_not_get_younger(prelux, kind, end):
    """Over uploads, the daemon's end and its death while files wait."""
    with lake_of(prelux, kind, write="async", freshness={"max_age": "1s"}) as lake:
        def look():
            return int(lake.run(["stat", "-c", "%.9Y", LOCAL + "/d"]).stdout.replace(".", ""))

        lake.run(f"mkdir {LOCAL}/d; echo 1 > {LOCAL}/d/a")
        lake.cli("flush", "--timeout", "60", timeout=100)
        old = look()
        lake.run(f"echo 1 > {LOCAL}/d/b")
        new = look()
        assert new > old
        pid = lake.kill_daemon(end)
        wait_for(lambda: not alive(pid), 20, "the end of the daemon")
        again = look()
        assert again >= new, (old, new, again)
        lake.cli("flush", "--timeout", "60", timeout=100)


def test_setting_a_folders_time_holds_until_names_change(prelux):
    lake = make_lake(prelux, write="async")
    same_as_plain(lake, """mkdir d; echo 1 > d/a; touch -d 2001-01-01T00:00:00.5 d; stat -c %.2Y d; cat d/a > /dev/null; stat -c %.2Y d
chmod 700 d; stat -c %.2Y d; touch -d 2100-01-01 d; stat -c %Y d; echo 2 > d/b; test $(stat -c %Y d) -lt 4000000000 && echo now
touch -d 2002-02-02 d; mv d e; stat -c %Y e; echo 3 > e/c; echo 4 > e/c; sleep 0.02; touch ref; sleep 0.02; test e -ot ref && echo older; rm e/c; test e -nt ref && echo newer
touch -d 2003-03-03 e; stat -c %Y e; rm -r e; rm ref; mkdir e; test $(stat -c %Y e) -gt 1600000000 && echo anew; rmdir e""")


TOUCH = """
import os, sys
how = sys.argv[1]
for name in 'ab': open(name, 'w').write('x')
wrong = 0
for n in range(300):
    with open('a', 'a') as f: f.write('y')
    first = os.stat('a').st_mtime_ns
    with open('a', 'a') as f: f.write('z')
    if how == 'path': os.utime('b')
    elif how == 'fd':
        with open('b', 'rb') as f: os.utime(f.fileno())
    elif how == 'new':
        os.mkdir(f'd{n}')
    elif how == 'link': os.symlink('x', f'l{n}')
    elif how == 'create': open(f'c/f{n}', 'w').close()
    touched = {'path': 'b', 'fd': 'b', 'new': f'd{n}', 'link': f'l{n}', 'create': 'c'}[how]
    a, b = os.stat('a').st_mtime_ns, os.lstat(touched).st_mtime_ns
    with open('a', 'a') as f: f.write('-')
    wrong += not first <= a <= b <= os.stat('a').st_mtime_ns
print(wrong)
"""


@pytest.mark.parametrize("how", ["path", "fd", "new", "link", "create"])
def test_what_is_touched_is_no_older_than_what_was_written_before(prelux, how):
    lake = make_lake(prelux, write="async")
    script = lake.tmp / "touch.py"
    script.write_text(TOUCH)
    assert lake.run(f"mkdir {LOCAL}/c; cd {LOCAL} && exec {sys.executable} {script} {how}", timeout=120).stdout == "0\n"
    settled(lake, 60)


FOLDERS = """
import os, sys
for n in range(400):
    if sys.argv[1] == 'make': os.mkdir(f'd{n}')
    print(n, os.stat(f'd{n}').st_mtime_ns)
"""


def test_folders_stay_as_old_when_the_remote_gets_them(prelux):
    """mkdir goes to the remote later, whose moment is another: nothing has changed in the folder. So many that some do not come in the same tick."""
    with lake_of(prelux, "file", write="async", freshness={"max_age": "60s"}) as lake:
        script = lake.tmp / "folders.py"
        script.write_text(FOLDERS)
        old = lake.run(f"cd {LOCAL} && exec {sys.executable} {script} make", timeout=120).stdout
        lake.cli("flush", "--timeout", "60", timeout=100)
        assert lake.run(f"cd {LOCAL} && exec {sys.executable} {script} look", timeout=120).stdout == old
