"""Each row of "Small differences" of docs/SEMANTICS.md, and of what `--deep` does otherwise: it is so in a mapping, and the plain folder's column is right, too."""

import fcntl
import json
import os
import re
import subprocess
import sys

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, settled

COMMON = """if 1:
    import ctypes, errno, json, mmap, os, struct, subprocess, sys, time
    libc = ctypes.CDLL(None, use_errno=True)
    base, other = sys.argv[1:3]
    os.chdir(base)
    told = {}
    def no(f, *a, **k):
        try:
            return f(*a, **k)
        except OSError as e:
            return errno.errorcode[e.errno]
    def openat2(path, resolve):
        how = struct.pack("QQQ", os.O_RDONLY, 0, resolve)
        fd = libc.syscall(437, os.open(".", os.O_RDONLY), path.encode(), how, len(how))
        return "opened" if fd >= 0 else errno.errorcode[ctypes.get_errno()]
    def made(name, text="text"):
        with open(name, "w") as f:
            f.write(text)
    NO_XDEV, BENEATH, IN_ROOT = 1, 8, 16
    """
NAMES = """
    made("f")
    os.mkdir("sub")
    os.symlink("f", "link")
    os.symlink(other, "out")
    told["beneath"] = [openat2("link", BENEATH), openat2("link", IN_ROOT), openat2("f", BENEATH)]
    told["xdev"] = openat2("out", NO_XDEV)
    told["border"] = no(os.rename, "f", other + "/none/f")
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    told["cwd"] = [os.path.basename(no(os.getcwd)), type(no(os.open, ".", os.O_RDONLY)).__name__]
    os.chdir(base)
    f = open("deleted", "w+")
    os.unlink("deleted")
    told["deleted"] = os.path.basename(os.readlink(f"/proc/self/fd/{f.fileno()}"))
    made("mapped")
    f = open("mapped", "rb")
    m = mmap.mmap(f.fileno(), 4, prot=mmap.PROT_READ)
    told["maps"] = any(line.rstrip().endswith("/mapped") for line in open("/proc/self/maps"))
    made("script", "#!/bin/sh\\necho ran\\n")
    os.chmod("script", 0o755)
    f = open("script", "a")
    told["script"] = no(subprocess.run, ["./script"], capture_output=True)
    told["script"] = told["script"] if isinstance(told["script"], str) else told["script"].stdout.decode()
    print(json.dumps(told))
    """
WATCHED = """
    masks = {0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x20: "OPEN", 0x80: "MOVED_TO", 0x100: "CREATE", 0x800: "MOVE_SELF"}
    def watch(path, more=0):
        fd = libc.inotify_init1(os.O_NONBLOCK)
        number = libc.inotify_add_watch(fd, path.encode(), sum(masks) | more)
        return fd if number > 0 else errno.errorcode[ctypes.get_errno()]
    def events(fd, until, seconds=30):
        found, end = [], time.monotonic() + seconds
        while time.monotonic() < end and not (until and until in found):
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                if not until:
                    break
                time.sleep(0.05)
                continue
            while data:
                _, mask, _, n = struct.unpack_from("iIII", data)
                found += [name for bit, name in masks.items() if mask & bit and not (n and data[16:16 + n].startswith(b"."))]
                data = data[16 + n:]
        return sorted(set(found))
    os.mkdir("d")
    made("file")
    os.symlink("file", "link")
    print("ready", flush=True)
    sys.stdin.readline()
    folder = watch("d")
    os.mkdir("d/made")
    told["mkdir"] = events(folder, None)
    made("d/new")
    told["new"] = events(folder, last := sys.argv[3])
    one = watch("file")
    made("file", "other")
    told["file"] = events(one, sys.argv[4])
    told["link"] = watch("link", 0x02000000)
    told["link"] = "watched" if isinstance(told["link"], int) else told["link"]
    print(json.dumps(told), flush=True)
    """


def names(run, base, other):
    return json.loads(run([sys.executable, "-c", COMMON + NAMES, base, other]).stdout)


def test_names(prelux):
    lake = make_lake(prelux, write="async", write_back="1h")
    plain, other = prelux.tmp / "plain", prelux.tmp / "other"
    plain.mkdir()
    other.mkdir()
    want = names(prelux.plain, plain, other)
    assert want == {"beneath": ["opened"] * 3, "xdev": want["xdev"], "border": "ENOENT", "cwd": ["ENOENT", "int"], "deleted": "deleted (deleted)", "maps": True,
                    "script": "ETXTBSY"}
    have = names(lake.run, LOCAL, other)
    assert re.fullmatch(r"\d+ \(deleted\)", have.pop("deleted"))
    assert have == {"beneath": ["EXDEV", "EXDEV", "opened"], "xdev": "opened", "border": "EXDEV", "cwd": ["gone", "str"], "maps": False, "script": "ran\n"}


def exchanged(lake):
    code = f"""if 1:
        import ctypes, errno, os
        libc = ctypes.CDLL(None, use_errno=True)
        rc = libc.renameat2(-100, b"{LOCAL}/a", -100, b"{LOCAL}/b", 2)
        print("done" if rc == 0 else errno.errorcode[ctypes.get_errno()])
        """
    return lake.run([sys.executable, "-c", code], args=["--no-wait"]).stdout.strip()


def test_exchange_with_what_waits(prelux):
    """Somebody has locked the remote's folder meanwhile, so that nothing is sent."""
    lake = make_lake(prelux, write="async")
    lake.run(f"echo a > {LOCAL}/a; echo b > {LOCAL}/b")
    settled(lake)
    folder = os.open(lake.remote, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    lake.run(f"echo more >> {LOCAL}/a", args=["--no-wait"])
    assert exchanged(lake) == "EINVAL"
    os.close(folder)
    lake.cli("flush")
    assert exchanged(lake) == "done"
    settled(lake)
    assert (lake.remote / "b").read_text() == "a\nmore\n"


def watched(popen, base, settle, last, last_file):
    child = popen([sys.executable, "-c", COMMON + WATCHED, str(base), "/", last, last_file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    settle()
    child.stdin.write("go\n")
    child.stdin.flush()
    told = json.loads(child.stdout.readline())
    child.stdin.close()
    assert child.wait(60) == 0
    child.stdout.close()
    return told


def test_what_a_watch_tells(prelux):
    lake = make_lake(prelux, write="async")
    plain = prelux.tmp / "plain"
    plain.mkdir()
    want = watched(lambda words, **more: prelux.popen(words, bare=True, env={"LD_PRELOAD": "", "PRELUX_CONFIG": None}, **more), plain, lambda: None, "CLOSE_WRITE",
                   "CLOSE_WRITE")
    assert want["mkdir"] == ["CREATE"] and {"CREATE", "CLOSE_WRITE"} <= set(want["new"]) and want["link"] == "watched"
    assert {"OPEN", "MODIFY", "CLOSE_WRITE"} <= set(want["file"]) and "MOVE_SELF" not in want["file"]
    have = watched(lake.popen, LOCAL, lambda: wait_for(lambda: (lake.remote / "file").exists() and (settled(lake) or True), 60, "file is sent"), "MOVED_TO",
                   "MOVE_SELF")
    assert have["mkdir"] == [] and "MOVED_TO" in have["new"] and "CREATE" not in have["new"], have
    assert {"OPEN", "MODIFY", "CLOSE_WRITE", "ATTRIB", "MOVE_SELF"} <= set(have["file"]) and have["link"] == "ELOOP", have


DEEP = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

int main(int n, char **v)
{
  char byte;
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  int fd = open(v[1], O_PATH);
  printf("%s ", read(fd, &byte, 1) == 1 ? "read" : strerror(errno));
  printf("%s ", syscall(SYS_io_uring_setup, 1, NULL) < 0 ? errno == ENOSYS ? "ENOSYS" : "other" : "ring");
  printf("%s ", setxattr(v[1], "user.x", "1", 1, 0) < 0 && errno == ENOENT ? "ENOENT" : "other");
  strcpy(un.sun_path, v[1]);
  printf("%s ", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&un, sizeof un) < 0 && errno == ENOENT ? "ENOENT" : "other");
  puts("");
  return 0;
}
"""


def test_what_deep_does_otherwise(prelux):
    """A static program, whose prefix is no folder on disk."""
    lake = make_lake(prelux)
    (lake.remote / "f").write_text("text")
    source, program = prelux.tmp / "deep.c", prelux.tmp / "deep"
    source.write_text(DEEP)
    if subprocess.run(["cc", "-static", "-O1", "-w", "-o", program, source], capture_output=True).returncode:
        pytest.skip("no static libc")
    done = lake.run([program, f"{LOCAL}/f"], args=["--deep"])
    if "deep" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "read ENOSYS ENOENT ENOENT \n"
