"""Large files are handed out while they come in (`stream_above`): reads wait for their bytes, everything that the kernel would read waits for the whole
file, and nobody ever sees a byte that has not come."""

import json
import os
import signal
import sys
import time

import pytest

from tests.harness import wait_for
from tests.integration.stream_rig import LOCAL, MIB, bucket, content, md5

SIZE = 12 * MIB + 12345
BIG = f"{LOCAL}/big.bin"
PROGRAM = "import hashlib, json, os, sys, time\n"


@pytest.fixture
def lake(prelux):
    with bucket(prelux) as it:
        it.data = content(SIZE)
        it.put("big.bin", it.data)
        it.cli("ls", LOCAL)
        yield it


def python(lake, text, **more):
    return lake.run([sys.executable, "-c", PROGRAM + text], **more)


def start(lake, text, **more):
    return lake.popen([sys.executable, "-c", PROGRAM + text], text=True, stdout=-1, stderr=-2, **more)


def line(child):
    return child.stdout.readline().strip()


def stall(lake, after=3 * MIB):
    """The answer with the file's bytes stops there; nobody sends more until heal()."""
    lake.wire.fault(lake.objects, stall_after=after, body=True, method="GET")


def slow(lake, rate=6 * MIB):
    lake.wire.fault(lake.objects, rate=rate, method="GET")


def gets(lake):
    return sum(seen.method == "GET" and "big.bin" in seen.target for seen in lake.wire.requests())


def test_first_bytes_come_before_the_last(lake):
    stall(lake)
    child = start(lake, f"""
f = open({BIG!r}, "rb", buffering=0)
print(hashlib.md5(f.read(65536)).hexdigest(), flush=True)
print(hashlib.md5(f.read(1 << 20)).hexdigest(), os.fstat(f.fileno()).st_size, f.tell(), flush=True)
print(hashlib.md5(f.read()).hexdigest(), flush=True)
""")
    assert line(child) == md5(lake.data[:65536])
    assert gets(lake) == 1  # it did not take a second try, after the first one stalled
    assert line(child) == f"{md5(lake.data[65536:65536 + MIB])} {SIZE} {65536 + MIB}"
    time.sleep(0.3)
    assert child.poll() is None
    lake.wire.heal()
    lake.wire.down()
    lake.wire.up()
    assert line(child) == md5(lake.data[65536 + MIB:])
    assert child.wait(60) == 0


def test_reads_wait_and_are_right(lake):
    """Every way to read a part, of a file that comes slowly, beside the same of a plain file."""
    slow(lake)
    program = f"""
import ctypes, mmap
def show(*what): print(*what)
def fresh(): return os.open(sys.argv[1], os.O_RDONLY)
h = lambda b: hashlib.md5(b).hexdigest()
fd = fresh()
show(h(os.read(fd, 100)), h(os.pread(fd, 200, 1 << 20)), os.lseek(fd, 0, os.SEEK_CUR), os.lseek(fd, -10, os.SEEK_END), h(os.read(fd, 100)), os.read(fd, 1))
show(os.lseek(fd, 5, os.SEEK_SET), os.lseek(fd, 7, os.SEEK_DATA), os.lseek(fd, 7, os.SEEK_HOLE), os.lseek(fd, 1 << 40, os.SEEK_SET), os.read(fd, 5))
for bad in ((-1, os.SEEK_SET), (-1 << 50, os.SEEK_CUR), (0, 99), (1 << 50, os.SEEK_DATA)):
    try: show(os.lseek(fd, *bad))
    except OSError as e: show(e.errno)
a, b = bytearray(1000), bytearray(5000)
show(os.preadv(fd, [a, b], 2 << 20), h(a), h(b))
os.lseek(fd, 3 << 20, 0)
show(os.readv(fd, [a, b]), h(a), h(b), os.lseek(fd, 0, 1))
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
show(os.isatty(fd))
try: os.write(fd, b"x")
except OSError as e: show("write", e.errno)
st = os.fstat(fd)
show(st.st_size, oct(st.st_mode), st.st_nlink)
os.close(fd)
try: os.read(fd, 1)
except OSError as e: show("closed", e.errno)
"""
    plain = lake.tmp / "plain.bin"
    plain.write_bytes(lake.data)
    os.chmod(plain, 0o644)
    want = lake.plain([sys.executable, "-c", PROGRAM + program, plain]).stdout
    got = lake.run([sys.executable, "-c", PROGRAM + program, BIG]).stdout
    assert got == want
    assert python(lake, f"print(hashlib.md5(open({BIG!r}, 'rb').read()).hexdigest())").stdout.strip() == md5(lake.data)


SETTLE = {
    "mmap": "import mmap; m = mmap.mmap(fd, 0, prot=mmap.PROT_READ); out = m[:]",
    "dup": "out = b''.join(iter(lambda: os.read(d, 1 << 20), b'')) if (d := os.dup(fd)) else None",
    "dup2": "os.dup2(fd, 77); os.close(fd); out = b''.join(iter(lambda: os.read(77, 1 << 20), b''))",
    "sendfile": "out = send(lambda w: os.sendfile(w, fd, None, 1 << 16))",
    "splice": "out = send(lambda w: os.splice(fd, w, 1 << 16))",
    "copy_file_range": "t = os.open('copy', os.O_RDWR | os.O_CREAT); os.posix_fallocate(t, 0, 1)\nwhile os.copy_file_range(fd, t, 1 << 24): pass\nout = os.pread(t, 1 << 30, 0)",
    "fdopen": "import ctypes; libc = ctypes.CDLL(None); libc.fdopen.restype = ctypes.c_void_p; f = ctypes.c_void_p(libc.fdopen(fd, b'r')); b = ctypes.create_string_buffer(1 << 24); "
              "libc.fread.restype = ctypes.c_size_t; n = libc.fread(b, 1, 1 << 24, f); out = b.raw[:n]",
    "fork": "r, w = os.pipe()\nif os.fork() == 0:\n  os.write(w, os.read(fd, 5000)); os._exit(0)\nos.wait(); out = os.read(r, 5000) + b''.join(iter(lambda: os.read(fd, 1 << 20), b''))",
    "exec": "os.set_inheritable(fd, True); os.execvp('md5sum', ['md5sum', f'/dev/fd/{fd}'])",
    "subprocess": "import subprocess; out = subprocess.run(['cat'], stdin=fd, stdout=-1).stdout",
    "static child": "import subprocess; out = subprocess.run([STATIC, 'cat'], stdin=fd, stdout=-1).stdout",
    "dev fd": "out = open(f'/dev/fd/{fd}', 'rb').read()",
    "proc fd": "out = open(f'/proc/self/fd/{fd}', 'rb').read()",
    "scm_rights": "import socket; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [fd]); os.close(fd); _, got, _, _ = socket.recv_fds(b, 1, 1); "
                  "out = b''.join(iter(lambda: os.read(got[0], 1 << 20), b''))",
    "flock": "import fcntl; fcntl.flock(fd, fcntl.LOCK_SH); out = open(fd, 'rb').read()",
    "lockf": "import fcntl; fcntl.lockf(fd, fcntl.LOCK_SH); out = open(fd, 'rb').read()",
    "poll": "import select; p = select.poll(); p.register(fd, select.POLLIN); assert p.poll() == [(fd, 1)]; out = open(fd, 'rb').read()",
    "select": "import select; assert select.select([fd], [], [])[0] == [fd]; out = open(fd, 'rb').read()",
    "getfl": "import fcntl; fl = fcntl.fcntl(fd, fcntl.F_GETFL); out = open(fd, 'rb', closefd=False).read(); assert fl == fcntl.fcntl(fd, fcntl.F_GETFL) and fl & 3 == 0, oct(fl)",
    "clear cloexec": "import fcntl; fcntl.fcntl(fd, fcntl.F_SETFD, 0); out = open(fd, 'rb', closefd=False).read(); assert fcntl.fcntl(fd, fcntl.F_GETFD) == 0",
    "syscall read": "import ctypes; b = ctypes.create_string_buffer(1 << 24); n = ctypes.CDLL(None).syscall(0, fd, b, ctypes.c_long(1 << 24)); out = b.raw[:n]",
}


@pytest.mark.parametrize("how", SETTLE)
def test_what_the_kernel_reads_is_whole(lake, how, tmp_path):
    """A call by which the kernel, another process or a number of its own would read the file."""
    import shutil
    if how == "static child" and not shutil.which("busybox"):
        pytest.skip("no busybox")
    slow(lake, 12 * MIB)
    program = f"""
import threading
STATIC = "busybox"
def send(step):
    r, w = os.pipe(); parts = []
    t = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(r, 1 << 20), b''))); t.start()
    while step(w): pass
    os.close(w); t.join(); return b''.join(parts)
fd = os.open(sys.argv[1], os.O_RDONLY)
assert os.pread(fd, 10, 0)
{SETTLE[how]}
print(hashlib.md5(out).hexdigest())
"""
    done = lake.run([sys.executable, "-c", PROGRAM + program, BIG], cwd=tmp_path)
    assert done.stdout.split()[0] == md5(lake.data), done.stdout[:500]


def test_programs(lake, tmp_path):
    for command in ("cat BIG", "cat < BIG", "dd if=BIG bs=100k status=none", "dd if=BIG bs=1M iflag=direct status=none", "cp BIG copy && cat copy",
                    "head -c 100000000 BIG", "exec 3<BIG; head -c 0 <&3; cat <&3", "tail -c +1 BIG", "python3 -c 'import sys,shutil; "
                    "shutil.copyfileobj(open(\"BIG\",\"rb\"), sys.stdout.buffer)'", "tar -cf - -C DIR big.bin | tar -xOf -", "base64 BIG | base64 -d",
                    "rsync BIG . && cat big.bin", "gzip -c BIG | gunzip -c", "perl -e 'open F, \"<\", \"BIG\"; binmode F; print while read F, $_, 99999'"):
        slow(lake, 24 * MIB)
        lake.cli("evict", BIG)
        command = command.replace("BIG", BIG).replace("DIR", LOCAL)
        done = lake.run(command + " | md5sum", cwd=tmp_path)
        assert done.stdout.split()[0] == md5(lake.data), command


def test_fewer_bytes_than_the_file_end_a_pipe(lake):
    """head -c of a file of which only a part comes."""
    stall(lake, 2 * MIB)
    done = lake.run(f"head -c {4 * 65536} {BIG} | md5sum", timeout=20)
    assert done.stdout.split()[0] == md5(lake.data[:4 * 65536])


def test_two_processes_and_threads_read_one_fill(lake):
    slow(lake)
    text = f"""
import threading
fd, parts = os.open({BIG!r}, os.O_RDONLY), [None] * 16
def part(i):
    n = {SIZE} // 16 + 1
    parts[i] = os.pread(fd, n, i * n)
threads = [threading.Thread(target=part, args=(i,)) for i in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
print(hashlib.md5(b"".join(parts)).hexdigest())
"""
    children = [start(lake, text) for _ in range(3)]
    assert [child.communicate(timeout=60)[0].strip() for child in children] == [md5(lake.data)] * 3
    assert gets(lake) == 1


def test_shared_offset_of_threads(lake):
    """read() of one descriptor by threads gives each byte to one of them, as the kernel does."""
    slow(lake)
    text = f"""
import threading
fd, got = os.open({BIG!r}, os.O_RDONLY), []
def run():
    while True:
        b = os.read(fd, 50001)
        if not b: return
        got.append(b)
threads = [threading.Thread(target=run) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
whole = open({BIG!r}, "rb").read()
assert sum(map(len, got)) == len(whole), sum(map(len, got))
assert sorted(whole.find(b) // 50001 for b in got) == list(range(len(got)))
print("right")
"""
    assert python(lake, text).stdout == "right\n"


def test_numbers_that_are_closed_and_used_again(lake):
    """close, and the number is another file's, by every way; also when the library does not see it."""
    stall(lake)
    lake.put("other", b"other")
    text = f"""
import ctypes
libc = ctypes.CDLL(None)
def fresh():
    fd = os.open({BIG!r}, os.O_RDONLY); assert len(os.read(fd, 10)) == 10; return fd
fd = fresh(); os.close(fd); other = os.open("/etc/hostname", os.O_RDONLY); assert other == fd
assert os.read(fd, 100000) == open("/etc/hostname", "rb").read(); os.close(other)
fd = fresh(); other = os.open("/etc/hostname", os.O_RDONLY); os.dup2(other, fd); assert os.read(fd, 100000) == open("/etc/hostname", "rb").read()
os.close(fd); os.close(other)
fd = fresh(); os.closerange(fd, fd + 1)
try: os.read(fd, 1); print("read")
except OSError as e: assert e.errno == 9
import mmap, platform
if platform.machine() == "x86_64":  # close and dup2 past libc
    code = mmap.mmap(-1, 4096, prot=7); code.write(b"\\x89\\xf8\\x89\\xf7\\x89\\xd6\\x0f\\x05\\xc3")  # eax = 1st, edi = 2nd, esi = 3rd; syscall
    raw = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    name = open("/etc/hostname", "rb").read()
    fd = fresh(); assert raw(3, fd, 0) == 0; other = os.open("/etc/hostname", os.O_RDONLY); assert other == fd
    assert os.pread(fd, 1000, 0) == name and os.read(fd, 1000) == name and os.lseek(fd, 0, 1) == len(name) and os.fstat(fd).st_size == len(name)
    os.close(fd)
    fd = fresh(); other = os.open("/etc/hostname", os.O_RDONLY); assert raw(33, other, fd) == fd
    assert os.read(fd, 1000) == name; os.close(fd); os.close(other)
before = len(os.listdir("/proc/self/fd"))
for _ in range(40): os.close(fresh())
assert len(os.listdir("/proc/self/fd")) <= before, os.listdir("/proc/self/fd")
held = [fresh() for _ in range(5)]
os.closerange(3, 1 << 20)
other = os.open("/etc/hostname", os.O_RDONLY); assert other == 3, other
before = set(os.listdir("/proc/self/fd"))
print(sorted(before))
"""
    out = python(lake, text, timeout=30).stdout
    assert out == "['0', '1', '2', '3', '4']\n", out  # 4: of listdir itself


def test_remote_changed_in_the_middle(lake):
    stall(lake)
    child = start(lake, f"""
fd = os.open({BIG!r}, os.O_RDONLY)
print(hashlib.md5(os.read(fd, 1000)).hexdigest(), flush=True)
try: print(len(os.pread(fd, 1000, {SIZE} - 1000)), flush=True)
except OSError as e: print("errno", e.errno, flush=True)
print(hashlib.md5(os.pread(fd, 1000, 0)).hexdigest(), flush=True)
sys.stdin.readline()
print(hashlib.md5(open({BIG!r}, "rb").read()).hexdigest(), flush=True)
""", stdin=-1)
    assert line(child) == md5(lake.data[:1000])
    other = content(SIZE, 2)
    lake.put("big.bin", other)
    lake.wire.heal()
    lake.wire.down()
    lake.wire.up()
    assert line(child) == "errno 116"
    assert line(child) == md5(lake.data[:1000])
    child.stdin.write("\n")
    child.stdin.flush()
    assert line(child) == md5(other)


def test_replaced_since_it_was_looked_at(lake):
    """What is known of the file is a minute old at most, and may be wrong: it is not handed out before the remote has begun to send that version."""
    python(lake, f"os.stat({BIG!r})")
    other = content(SIZE, 2)
    lake.put("big.bin", other)
    slow(lake)
    out = python(lake, f"fd = os.open({BIG!r}, os.O_RDONLY); print(os.fstat(fd).st_size, hashlib.md5(os.pread(fd, 1 << 20, 5)).hexdigest())").stdout
    assert out.split() == [str(SIZE), md5(other[5:5 + MIB])]


def test_daemon_killed_in_the_middle(lake):
    slow(lake, 3 * MIB)
    child = start(lake, f"""
fd, parts = os.open({BIG!r}, os.O_RDONLY), []
parts.append(os.read(fd, 1 << 20)); print("begun", flush=True)
while True:
    b = os.read(fd, 1 << 20)
    if not b: break
    parts.append(b)
print(hashlib.md5(b"".join(parts)).hexdigest(), flush=True)
""")
    assert line(child) == "begun"
    for _ in range(2):
        lake.kill_daemon()
        time.sleep(2.5)
    lake.wire.heal()
    assert line(child) == md5(lake.data)
    assert child.wait(20) == 0


def test_daemon_killed_and_remote_changed(lake):
    stall(lake)
    child = start(lake, f"""
fd = os.open({BIG!r}, os.O_RDONLY)
print(hashlib.md5(os.read(fd, 1000)).hexdigest(), flush=True)
try: print(len(os.pread(fd, 1000, {SIZE} - 1000)), flush=True)
except OSError as e: print("errno", e.errno, flush=True)
""")
    assert line(child) == md5(lake.data[:1000])
    lake.kill_daemon()
    lake.put("big.bin", content(SIZE, 2))
    lake.wire.heal()
    lake.wire.down()
    lake.wire.up()
    assert line(child) == "errno 116"


def test_remote_fails_and_comes_back(lake):
    """The read that meets the failure has EIO; the next one asks again."""
    lake.wire.fault(lake.objects, reset_after=3 * MIB, body=True, method="GET")
    child = start(lake, f"""
fd = os.open({BIG!r}, os.O_RDONLY)
print(hashlib.md5(os.read(fd, 1000)).hexdigest(), flush=True)
try: print(len(os.pread(fd, 1000, {SIZE} - 1000)), flush=True)
except OSError as e: print("errno", e.errno, flush=True)
sys.stdin.readline()
parts = [os.pread(fd, 1000, 0)]
while True:
    b = os.read(fd, 1 << 20)
    if not b: break
    parts.append(b)
print(hashlib.md5(b"".join(parts)).hexdigest(), flush=True)
""", stdin=-1)
    assert line(child) == md5(lake.data[:1000])
    lake.wire.down()
    assert line(child) == "errno 5"
    lake.wire.heal()
    lake.wire.up()
    child.stdin.write("\n")
    child.stdin.flush()
    assert line(child) == md5(lake.data)


def test_signals_do_not_end_a_read(lake):
    slow(lake, 6 * MIB)
    text = f"""
import signal
seen = []
signal.signal(signal.SIGALRM, lambda *a: seen.append(1)); signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.read.restype = ctypes.c_ssize_t
fd = os.open({BIG!r}, os.O_RDONLY)
b = ctypes.create_string_buffer(1 << 24)
n = libc.read(fd, b, ctypes.c_size_t(1 << 24))
signal.setitimer(signal.ITIMER_REAL, 0)
print(n, hashlib.md5(b.raw[:n]).hexdigest())
"""
    assert python(lake, text).stdout.split() == [str(SIZE), md5(lake.data)]


def test_bad_buffers_and_small_limits(lake):
    slow(lake)
    text = f"""
import ctypes, resource
libc = ctypes.CDLL(None, use_errno=True)
libc.read.restype = ctypes.c_ssize_t
fd = os.open({BIG!r}, os.O_RDONLY)
print(libc.read(fd, ctypes.c_void_p(16), ctypes.c_size_t(1000)), ctypes.get_errno())
held = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as e: print(e.errno)
b = ctypes.create_string_buffer(1 << 24)
n = libc.read(fd, b, ctypes.c_size_t(1 << 24))
print(n, hashlib.md5(b.raw[:n]).hexdigest())
"""
    assert python(lake, text).stdout.split() == ["-1", "14", "24", str(SIZE), md5(lake.data)]


def test_full_quota_says_so(prelux):
    with bucket(prelux, top={"cache": {"max_size": "8MiB"}}) as lake:
        lake.put("big.bin", content(SIZE))
        done = lake.run(f"cat {BIG}", check=False)
        assert done.returncode == 1 and "No space left" in done.stderr


def test_off_by_default(prelux):
    with bucket(prelux, stream_above=None) as lake:
        lake.put("big.bin", content(SIZE))
        stall(lake)
        child = start(lake, f"os.read(os.open({BIG!r}, os.O_RDONLY), 10); print('read')")
        wait_for(lambda: gets(lake), what="a GET")
        time.sleep(1)
        assert child.poll() is None
        child.kill()
