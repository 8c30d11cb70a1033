"""Programs that read a large file while it comes in, and what they do with descriptors: the rest is in test_stream_read.py."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from tests.harness import wait_for
from tests.integration.stream_rig import LOCAL, MIB, bucket, content, md5
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx

SIZE = 8 * MIB + 4321
BIG = f"{LOCAL}/big.bin"


@pytest.fixture
def lake(prelux):
    with bucket(prelux) as it:
        it.data = content(SIZE)
        it.put("big.bin", it.data)
        it.cli("ls", LOCAL)
        yield it


def slow(lake, rate=8 * MIB):
    lake.wire.fault(lake.objects, rate=rate, method="GET")


def add(lake, name, data):
    lake.put(name, data)
    lake.cli("evict", LOCAL)  # the listing that lacks it, too


def compiled(folder, name, source, compiler="gcc"):
    end = {"gcc": "c", "g++": "cc", "gfortran": "f90"}[compiler]
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    (folder / f"{name}.{end}").write_text(source)
    subprocess.run([compiler, "-w", "-O1", "-o", folder / name, folder / f"{name}.{end}", "-pthread"], check=True)
    return folder / name


JUMPS = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
static sigjmp_buf away;
static void jump(int n) { (void)n; siglongjmp(away, 1); }
static int count(void) { int n = 0; DIR *d = opendir("/proc/self/fd"); while (readdir(d)) n++; closedir(d); return n; }
static void after(long us) { struct itimerval t = {{0, 0}, {us / 1000000, us % 1000000}}; setitimer(ITIMER_REAL, &t, NULL); }
/* argv: file, rounds, bytes to ask for; each read is left by a jump, after a time that differs */
int main(int argc, char **argv)
{
  char *buf = malloc(16 << 20);
  size_t n = atol(argv[3]);
  int before = count(), jumps = 0;
  volatile int i;
  signal(SIGALRM, jump);
  for (i = 0; i < atoi(argv[2]); i++) {
    int fd = open(argv[1], O_RDONLY);
    if (fd < 0 || read(fd, buf, 1000) != 1000) return 1;
    if (sigsetjmp(away, 1) == 0) { after(1000 + i * 997 % 30000); for (;;) if (pread(fd, buf, n, 0) < 0) return 2; }
    jumps++;
    if (close(fd) < 0) return 3;
  }
  printf("%d jumps, %d descriptors more\n", jumps, count() - before);
  return 0;
}
"""


@pytest.mark.parametrize("where", ["waiting", "anywhere"])
def test_jumps_out_of_reads(lake, where):
    """siglongjmp out of a read: nothing of it stays. There are 32 slots: with as many lost the next file would be waited for."""
    program = compiled(lake.tmp, "jumps", JUMPS)
    lake.wire.fault(lake.objects, stall_after=3 * MIB, body=True, method="GET")
    words = {"waiting": ["40", str(8 * MIB)], "anywhere": ["120", "50000"]}[where]
    done = lake.run([program, BIG, *words], timeout=60)
    assert done.stdout == f"{words[0]} jumps, 0 descriptors more\n"


def test_ifstream(lake):
    program = compiled(lake.tmp, "stream", r"""
#include <fstream>
#include <iostream>
#include <vector>
int main(int argc, char **argv) {
  std::ifstream in(argv[1], std::ios::binary);
  std::vector<char> a(100), b(3000000);
  in.read(a.data(), a.size()); in.seekg(1000000); in.read(b.data(), b.size()); in.seekg(0, std::ios::end);
  std::cerr << in.tellg() << "\n"; in.seekg(0); std::cout << in.rdbuf();
  return in && b[0] ? 0 : 1;
}""", "g++")
    slow(lake)
    done = lake.run([program, BIG], text=False)
    assert md5(done.stdout) == md5(lake.data) and done.stderr == f"{SIZE}\n".encode()


def test_fortran(lake):
    program = compiled(lake.tmp, "reads", """
program reads
  integer(1) :: piece(1000)
  integer :: i, total = 0
  character(len=200) :: name
  call get_command_argument(1, name)
  open(10, file=trim(name), access='stream', form='unformatted', status='old', action='read')
  do i = 1, 8000
    read(10) piece
    total = ieor(total * 31, int(piece(1)) + int(piece(1000)))
  end do
  print *, total
end program
""", "gfortran")
    plain = lake.tmp / "plain.bin"
    plain.write_bytes(lake.data)
    slow(lake)
    assert lake.run([program, BIG]).stdout == lake.plain([program, plain]).stdout


NUMPY = {
    "fromfile": "a = np.fromfile(f, dtype=np.uint8)",
    "fromfile with offset": "a = np.fromfile(f, dtype=np.uint8, offset=12345, count=100000)",
    "memmap": "a = np.memmap(f, dtype=np.uint8, mode='r')",
    "open file": "g = open(f, 'rb'); g.seek(77); a = np.fromfile(g, dtype=np.uint8, count=50000); a = np.append(a, np.fromfile(g, dtype=np.uint8))",
}


@pytest.mark.parametrize("how", NUMPY)
def test_numpy(lake, how):
    pytest.importorskip("numpy")
    plain = lake.tmp / "plain.bin"
    plain.write_bytes(lake.data)
    text = f"import hashlib, sys, numpy as np\nf = sys.argv[1]\n{NUMPY[how]}\nprint(len(a), hashlib.md5(a.tobytes()).hexdigest())"
    want = lake.plain([sys.executable, "-c", text, plain]).stdout
    slow(lake)
    assert lake.run([sys.executable, "-c", text, BIG]).stdout == want


def test_zipfile(lake):
    """From its end, then here and there."""
    path = lake.tmp / "some.zip"
    with zipfile.ZipFile(path, "w") as out:
        for i in range(40):
            out.writestr(f"{i}", content(200_000, i))
    add(lake, "some.zip", path.read_bytes())
    slow(lake)
    text = f"""
import hashlib, zipfile
z = zipfile.ZipFile({LOCAL + "/some.zip"!r})
print(len(z.namelist()), *(hashlib.md5(z.read(str(i))).hexdigest() for i in (39, 0, 20)))
"""
    assert lake.run([sys.executable, "-c", text]).stdout.split() == ["40", *(md5(content(200_000, i)) for i in (39, 0, 20))]


def test_offset_shared_by_a_shell_and_its_children(lake):
    lines = b"".join(b"%07d\n" % i for i in range(1_000_000))
    add(lake, "lines", lines)
    slow(lake)
    done = lake.run(f'exec 3<{LOCAL}/lines; read -r a <&3; read -r b <&3; echo "$a $b"; head -c 8 <&3; cat <&3 | md5sum; read -r c <&3 || echo end')
    assert done.stdout == f"0000000 0000001\n0000002\n{md5(lines[24:])}  -\nend\n"


def test_forked_workers(lake):
    """As a DataLoader: opened by the parent, read by its children, all at once."""
    slow(lake)
    text = f"""
import hashlib, multiprocessing as mp, os
fd = os.open({BIG!r}, os.O_RDONLY)
assert len(os.pread(fd, 10, 0)) == 10
def part(i): return os.pread(fd, 65536, i * 123457)
if __name__ == "__main__":
    with mp.get_context("fork").Pool(8) as pool:
        print(*(hashlib.md5(b).hexdigest() for b in pool.map(part, range(64))))
"""
    want = [md5(lake.data[i * 123457:i * 123457 + 65536]) for i in range(64)]
    assert lake.run([sys.executable, "-c", text]).stdout.split() == want


def stall(lake, after=3 * MIB):
    lake.wire.fault(lake.objects, stall_after=after, body=True, method="GET")


BEGINS = {
    "O_DIRECT": [sys.executable, "-c", f"""
import fcntl, mmap, os, sys
fd, b = os.open({BIG!r}, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 1 << 20)
assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
for _ in range(2): assert os.readv(fd, [b]) == 1 << 20; sys.stdout.buffer.write(b)
"""],
    "O_NOATIME": [sys.executable, "-c", f"import os, sys; sys.stdout.buffer.write(os.read(os.open({BIG!r}, os.O_RDONLY | os.O_NOATIME), 2 << 20))"],
    "copy_file_range": [sys.executable, "-c", f"""
import os, sys
fd, to = os.open({BIG!r}, os.O_RDONLY), os.open('out', os.O_RDWR | os.O_CREAT)
while (had := os.lseek(fd, 0, 1)) < 2 << 20: assert 0 < os.copy_file_range(fd, to, (2 << 20) - had)
assert os.copy_file_range(fd, to, 10, offset_src=5, offset_dst=5) == 10 and os.lseek(fd, 0, 1) == 2 << 20
sys.stdout.buffer.write(os.pread(to, 1 << 30, 0))
"""],
    "sendfile": [sys.executable, "-c", f"""
import os, sys
fd, to = os.open({BIG!r}, os.O_RDONLY), os.open('out', os.O_RDWR | os.O_CREAT)
while (had := os.lseek(to, 0, 1)) < 2 << 20: assert 0 < os.sendfile(to, fd, had, (2 << 20) - had)
assert os.lseek(fd, 0, 1) == 0
sys.stdout.buffer.write(os.pread(to, 1 << 30, 0))
"""],
}


@pytest.mark.parametrize("how", BEGINS)
def test_the_beginning_of_what_never_ends(lake, how):
    """No byte comes after 3 MiB."""
    stall(lake)
    done = lake.run(BEGINS[how], cwd=lake.tmp, text=False, timeout=30)
    assert md5(done.stdout) == md5(lake.data[:2 * MIB])


@pytest.mark.parametrize("freshness", [{"max_age": "60s"}, "always"])
def test_one_request_of_http(prelux, freshness):
    """Where attributes come with the bytes nobody asks for them before: of what streams, of what is too small, and of what is gone on with."""
    folder = prelux.tmp / "www"
    folder.mkdir()
    for name, size in (("big.bin", SIZE), ("small", 1000)):
        (folder / name).write_bytes(content(size))
        os.utime(folder / name, (time.time() - 100,) * 2)
    with Nginx(folder) as server, FaultProxy(server.url) as wire:
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": wire.url}},
                       "mappings": [{"local": LOCAL, "remote": "web:/", "stream_above": "1MiB", "freshness": freshness}]})
        wire.fault("/", stall_after=6 * MIB, body=True, method="GET")
        assert md5(prelux.run(["head", "-c", str(4 * MIB), BIG], text=False).stdout) == md5(content(SIZE)[:4 * MIB])
        assert prelux.run(["cat", LOCAL + "/small"], text=False).stdout == content(1000)
        assert [f"{seen.method} {seen.path}" for seen in wire.requests()] == ["GET /big.bin", "GET /small"]
        prelux.kill_daemon()
        wire.heal()
        assert md5(prelux.run(["cat", BIG], text=False).stdout) == md5(content(SIZE))
        assert [seen.fields.get("range", "")[:8] for seen in wire.requests() if seen.method == "GET"][2:] >= ["bytes=4"]


def test_opened_by_many_at_once(lake):
    """Who comes before the first byte is served by the same stream, too."""
    lake.wire.fault(lake.objects, stall_after=3 * MIB, body=True, delay=1, method="GET")
    text = f"import hashlib, os; print(hashlib.md5(os.pread(os.open({BIG!r}, os.O_RDONLY), 2 << 20, 0)).hexdigest())"
    children = [lake.popen([sys.executable, "-c", text], text=True, stdout=-1) for _ in range(6)]
    assert [child.communicate(timeout=60)[0].strip() for child in children] == [md5(lake.data[:2 * MIB])] * 6
    assert sum(seen.method == "GET" and "big.bin" in seen.target for seen in lake.wire.requests()) == 1


def test_copies(lake):
    """By cp and shutil, beside a plain file: the same bytes, and what fails fails so."""
    text = """
import fcntl, hashlib, os, shutil, struct, subprocess, sys
f, h = sys.argv[1], lambda path: hashlib.md5(open(path, "rb").read()).hexdigest()
shutil.copyfile(f, "a"); subprocess.run(["cp", f, "b"], check=True); print(h("a"), h("b"))
fd, to = os.open(f, os.O_RDONLY), os.open("c", os.O_RDWR | os.O_CREAT)
print(os.copy_file_range(fd, to, 0), os.copy_file_range(fd, to, 100, offset_src=1 << 40))
for call in (lambda: os.copy_file_range(fd, fd, 10), lambda: os.copy_file_range(fd, to, 10, offset_src=-1), lambda: os.sendfile(to, fd, -1, 10), lambda: os.sendfile(99, fd, 0, 10)):
    try: print(call())
    except OSError as e: print(e.errno)
os.lseek(fd, -1000, 2); n = 0
while got := os.copy_file_range(fd, to, 1 << 20): n += got
print(n, os.lseek(fd, 0, 1), h("c"), fcntl.fcntl(fd, fcntl.F_GETFL))
"""
    plain = lake.tmp / "plain.bin"
    plain.write_bytes(lake.data)
    want = lake.plain([sys.executable, "-c", text, plain], cwd=lake.tmp).stdout
    (lake.tmp / "c").unlink()
    slow(lake)
    assert lake.run([sys.executable, "-c", text, BIG], cwd=lake.tmp).stdout == want


def test_own_link_to_the_descriptor(lake):
    """What the path does not show: a link to /proc/self/fd/N."""
    slow(lake)
    text = f"""
import hashlib, os
fd = os.open({BIG!r}, os.O_RDONLY)
os.symlink(f"/proc/self/fd/{{fd}}", "link")
try: os.open("link", os.O_RDWR)
except OSError as e: print(e.errno)
fd = os.open({BIG!r}, os.O_RDONLY); os.unlink("link"); os.symlink(f"/proc/self/fd/{{fd}}", "link")
print(hashlib.md5(open("link", "rb").read()).hexdigest())
"""
    lake.cli("evict", BIG)
    assert lake.run([sys.executable, "-c", text], cwd=lake.tmp).stdout.split() == ["30", md5(lake.data)]


@contextlib.contextmanager
def touched(path, really):
    """Again and again, if so."""
    over = threading.Event()

    def run():
        while not over.wait(0.1):
            os.utime(path)

    thread = threading.Thread(target=run)
    if really:
        os.utime(path)
        thread.start()
    yield
    over.set()
    if really:
        thread.join()


@pytest.mark.parametrize("fresh", [False, True])
def test_version_that_cannot_be_compared(prelux, fresh):
    """Of a file whose second may not be over nobody can say later whether the remote has it still: it is waited for."""
    folder = prelux.tmp / "www"
    folder.mkdir()
    (folder / "big.bin").write_bytes(content(SIZE))
    os.utime(folder / "big.bin", (time.time() - 100,) * 2)
    with Nginx(folder) as server, FaultProxy(server.url) as wire, touched(folder / "big.bin", fresh):
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": wire.url}},
                       "mappings": [{"local": LOCAL, "remote": "web:/", "stream_above": "1"}]})
        wire.fault("/", stall_after=3 * MIB, body=True, method="GET")
        child = prelux.popen([sys.executable, "-c", f"import os; print(len(os.read(os.open({BIG!r}, os.O_RDONLY), 1000)), flush=True)"], text=True, stdout=-1)
        wait_for(lambda: any(seen.method == "GET" and "big.bin" in seen.target for seen in wire.requests()), what="a GET")
        if not fresh:
            assert child.stdout.readline() == "1000\n"
        else:
            time.sleep(1)
            assert child.poll() is None
            child.kill()


def test_no_descriptor_for_the_file_itself(lake):
    """The limit leaves room for one more number: the file is waited for, and opened as ever."""
    slow(lake)
    text = f"""
import hashlib, os, resource
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
top = max(held)
resource.setrlimit(resource.RLIMIT_NOFILE, (top + 3, top + 3))
try:
    fd = os.open({BIG!r}, os.O_RDONLY)
except OSError as e:
    print("errno", e.errno)
    for n in held: os.close(n)
    fd = os.open({BIG!r}, os.O_RDONLY)
h = hashlib.md5()
while True:
    b = os.read(fd, 1 << 20)
    if not b: break
    h.update(b)
print(h.hexdigest())
"""
    out = lake.run([sys.executable, "-c", text]).stdout.split()
    assert out[-1] == md5(lake.data) and out[:-1] in ([], ["errno", "24"])
