"""Listings in shared memory (include/prelux/names.h): a folder that is known is opened without the daemon, and every change that is made
here shows at once."""

import os
import signal
import subprocess
import time

import pytest

LIST = "import os,sys; print(' '.join(sorted(os.listdir(sys.argv[1]))))"


@pytest.fixture
def lake(prelux):
    source = prelux.tmp / "source"
    (source / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (source / name).write_text(name)
    prelux.source = source
    return lambda **options: prelux.file_mapping(source, **{"freshness": "immutable", **options})


def names(prelux, folder):
    return prelux.run(["python3", "-c", LIST, folder]).stdout.split()


def test_no_daemon_is_asked(prelux, lake):
    root = lake()
    prelux.run(f"ls -lR {root}; printenv PRELUX_CONFIG")
    table = prelux.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
    env = dict(prelux.env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table)
    walks = ["find ROOT | sort", "ls -lR ROOT", "du -a ROOT | sort",
             "python3 -c 'import os; print(sorted(os.walk(\"ROOT\")))'", "cd ROOT && echo * sub/*"]
    before = [prelux.run(walk.replace("ROOT", root)).stdout for walk in walks]
    pid = prelux.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        for walk, expected in zip(walks, before):
            done = subprocess.run(["bash", "-c", walk.replace("ROOT", root)], env=env, capture_output=True, text=True, timeout=10)
            assert done.returncode == 0, done.stderr
            assert done.stdout == expected
    finally:
        os.kill(pid, signal.SIGCONT)


CHANGES = {
    "create": ("open(r+'/n','w').close()", "a b n sub", "c"),
    "unlink": ("os.unlink(r+'/a')", "b sub", "c"),
    "rename": ("os.rename(r+'/a', r+'/z')", "b sub z", "c"),
    "rename into": ("os.rename(r+'/a', r+'/sub/a')", "b sub", "a c"),
    "mkdir": ("os.mkdir(r+'/m')", "a b m sub", "c"),
    "rmdir": ("os.unlink(r+'/sub/c'); os.listdir(r); os.rmdir(r+'/sub')", "a b", None),
    "symlink": ("os.symlink('a', r+'/l')", "a b l sub", "c"),
    "unlink what was made": ("open(r+'/n','w').close(); os.listdir(r); os.unlink(r+'/n')", "a b sub", "c"),
    "link removed": ("os.symlink('a', r+'/l'); os.listdir(r); os.unlink(r+'/l')", "a b sub", "c"),
    "rename folder": ("os.rename(r+'/sub', r+'/other')", "a b other", None),
    "made while open": ("f=open(r+'/n','w'); assert 'n' in os.listdir(r); os.unlink(r+'/n'); assert 'n' not in os.listdir(r); f.close()",
                        "a b sub", "c"),
}


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("change", CHANGES)
def test_change_shows_at_once(prelux, lake, change, write):
    """The listings are in shared memory before, and again after; in the process itself and in another."""
    root = lake(write=write)
    code, top, sub = CHANGES[change]
    script = f"""
import os
r = {root!r}
for _ in range(2): os.listdir(r), os.listdir(r + '/sub')
{code}
for _ in range(3): print(' '.join(sorted(os.listdir(r))))
print(' '.join(sorted(os.listdir(r + '/sub'))) if {sub is not None} else '')
"""
    done = prelux.run(["python3", "-c", script]).stdout.splitlines()
    assert done == [top, top, top, sub or ""]
    assert names(prelux, root) == top.split()
    prelux.cli("flush")
    assert names(prelux, root) == top.split()
    assert sorted(os.listdir(prelux.source)) == [name for name in top.split() if name != "l"]


def test_age(prelux, lake):
    root = lake(freshness={"max_age": "1s"})
    assert names(prelux, root) == ["a", "b", "sub"]
    (prelux.source / "new").write_text("x")
    time.sleep(1.1)
    assert names(prelux, root) == ["a", "b", "new", "sub"]


def test_forgotten(prelux, lake):
    """What is forgotten on request is asked for again, however long it would have been believed."""
    root = lake()
    assert names(prelux, root) == ["a", "b", "sub"]
    (prelux.source / "new").write_text("x")
    assert names(prelux, root) == ["a", "b", "sub"]
    prelux.cli("evict", root)
    assert names(prelux, root) == ["a", "b", "new", "sub"]


def test_truncated_names(prelux, lake):
    """The log is read, never mapped: whoever cuts it costs a question, and no program dies of it."""
    root = lake()
    script = f"""
import os
r = {root!r}
before = sorted(os.listdir(r))
log = {str(prelux.runtime)!r} + '/names'
assert os.stat(log).st_mode & 0o777 == 0o400
os.chmod(log, 0o600)
for size in (0, 100, 1 << 20, 0):
    os.truncate(log, size)
    assert sorted(os.listdir(r)) == before and os.listdir(r + '/sub') == ['c'], size
"""
    assert names(prelux, root) == ["a", "b", "sub"]
    prelux.run(["python3", "-c", script])


SNAPSHOT = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.getdents64.restype = ctypes.c_ssize_t
buf = ctypes.create_string_buffer(128)  # some entries at a time
r = sys.argv[1]
def some(fd):
    n = libc.getdents64(fd, buf, len(buf))
    assert n >= 0, ctypes.get_errno()
    found, at = [], 0
    while at < n:
        size, = struct.unpack_from('H', buf.raw, at + 16)
        found.append(buf.raw[at + 19:at + size].split(bytes(1))[0].decode())
        at += size
    return found
def all_of(fd, between=lambda: None):
    found = some(fd)
    between()
    while more := some(fd):
        found += more
    return sorted(found)
"""


def test_getdents_reads_one_listing(prelux, lake):
    """A folder that changes while it is read: what was there all the time is shown once; a new reading shows the change."""
    root = lake(write="sync")
    script = SNAPSHOT + """
fd = os.open(r, os.O_RDONLY | os.O_DIRECTORY)
def change():
    os.unlink(r + '/a')
    open(r + '/0', 'w').close()
    open(r + '/00', 'w').close()
print(*all_of(fd, change))
os.lseek(fd, 0, os.SEEK_SET)
print(*all_of(fd))
some(fd)
os.lseek(fd, 0, os.SEEK_SET)
some(fd)
os.close(fd)
other = os.open(r + '/sub', os.O_RDONLY | os.O_DIRECTORY)
assert other == fd
print(*all_of(other))
"""
    done = prelux.run(["python3", "-c", script, root]).stdout.splitlines()
    assert done == [". .. a b sub", ". .. 0 00 b sub", ". .. c"]


def test_folder_renamed_while_open(prelux, lake):
    """The name of an open folder is remembered: until somebody renames it."""
    root = lake(write="sync")
    script = f"""
import os, subprocess
r = {root!r}
fd = os.open(r + '/sub', os.O_RDONLY | os.O_DIRECTORY)
for _ in range(3): assert os.stat('c', dir_fd=fd).st_size == 5 and os.listdir(fd) == ['c']
subprocess.run(['mv', r + '/sub', r + '/other'], check=True)
subprocess.run(['sh', '-c', f'mkdir {{r}}/sub; echo x >{{r}}/sub/new'], check=True)
for _ in range(3): assert os.stat('c', dir_fd=fd).st_size == 5 and os.listdir(fd) == ['c']
os.close(fd)
again = os.open(r + '/sub', os.O_RDONLY | os.O_DIRECTORY)
assert again == fd and os.listdir(again) == ['new']
"""
    prelux.run(["python3", "-c", script])


FWALK = """
import os, shutil, sys
shape = lambda walk: sorted((folder, sorted(folders), sorted(names)) for folder, folders, names, *_ in walk)
for n in range(30):
    top = f"{sys.argv[1]}/t{n}"
    os.makedirs(top + "/a/b"), os.makedirs(top + "/c")
    for name in ("1", "a/2", "a/b/3", "c/4"): open(f"{top}/{name}", "w").close()
    for down in (True, False): assert shape(os.walk(top, down)) == shape(os.fwalk(top, down)), n
    shutil.rmtree(top)
"""


def test_a_number_that_is_used_again_is_no_other_folder(prelux, lake):
    """Folders that come and go get each other's descriptor and, on ext4, inode number: their names are asked anew."""
    prelux.run(["python3", "-c", FWALK, lake(write="async")])
