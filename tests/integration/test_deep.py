"""`prelux run --deep`: programs that the library does not get into see the mappings, too."""

import errno
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests import harness

DATA = harness.ROOT / "tests/data"


def build(prelux, name, *options):
    program = prelux.tmp / name
    prelux.plain(["gcc", "-O", "-w", "-static", "-pthread", *options, "-o", program, DATA / f"{name}.c"])
    return program


@pytest.fixture
def lake(prelux):
    prelux.data = prelux.tmp / "data"
    prelux.env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"  # the launcher of a sanitized build is started below the library
    (prelux.data / "sub").mkdir(parents=True)
    for number in range(8):
        (prelux.data / f"f{number}").write_text(f"text {number}\n")
    return prelux.file_mapping(prelux.data, write="async")


def deep(prelux, cmd, **more):
    return prelux.run(cmd, args=["--deep"], **more)


def test_all_calls_as_in_a_plain_folder(prelux, lake):
    program = build(prelux, "deep_calls")
    plain = prelux.tmp / "plain"
    for folder in (plain, prelux.data):
        folder.mkdir(exist_ok=True)
        shutil.copy(program, folder / "prog")
        (folder / "script").write_text("#!/bin/sh\necho script \"$1\"; cat d/c\n")
        (folder / "script").chmod(0o755)
    for number in range(8):
        shutil.copy(prelux.data / f"f{number}", plain)
    (plain / "sub").mkdir()
    want = prelux.plain([program, plain]).stdout
    assert want.count("\n") > 50
    assert deep(prelux, [program, lake]).stdout == want


def test_every_call_is_among_them():
    """Each number of the supervisor's table is made by deep_calls.c, itself or by libc."""
    libcs = {"newfstatat": "fstatat", "getdents64": "readdir", "execve": "execve"}
    asked = {name.lower() for name in re.findall(r"\.nr = (?:SYS|NR)_(\w+)", (harness.ROOT / "deep/calls.c").read_text())}
    text = (DATA / "deep_calls.c").read_text()
    assert len(asked) > 50
    assert [name for name in sorted(asked) if not re.search(rf"\b(SAY|NONE)\({name},|SYS_{name},|\b{libcs.get(name, 'none')}\(|say\(\"{name}\"", text)] == []


def test_without_it_there_is_nothing(prelux, lake):
    program = build(prelux, "deep_calls")
    assert prelux.run([program, lake], check=False).returncode == 1
    assert deep(prelux, [program, lake + "/none"], check=False).returncode == 1


def test_a_path_that_is_rewritten_during_the_call(prelux, lake):
    """Each open gives one of the two files, mapped or not; never what stands on disk behind the prefix, by the name that the kernel would read again."""
    program = build(prelux, "deep_race")
    (prelux.data / "A").write_text("A")
    (prelux.data / "B").write_text("B")
    assert deep(prelux, [program, "race", f"{lake}/A", f"{lake}/B", "3000"]).stdout == "one of the two, 0 failed\n"
    for name, text in ("mapX", "behind"), ("mapY", "B"):
        (prelux.tmp / name).mkdir()
        (prelux.tmp / name / "A").write_text(text)
    mapped = prelux.file_mapping(prelux.data, local=prelux.tmp / "mapX")
    for _ in range(3):
        done = deep(prelux, [program, "race", f"{mapped}/A", prelux.tmp / "mapY/A", "3000"])
        assert done.stdout == "one of the two, 0 failed\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_becomes_another_user(prelux, lake):
    """The supervisor's rights are not lent out."""
    program = prelux.tmp / "drop"
    program.with_suffix(".c").write_text("""#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int n, char **v) { int before = open(v[1], O_RDONLY) >= 0; setuid(65534); printf("%d %d\\n", before, open(v[1], O_RDONLY) >= 0); }""")
    prelux.plain(["gcc", "-static", "-w", "-o", program, program.with_suffix(".c")])
    assert deep(prelux, [program, f"{lake}/f0"]).stdout == "1 0\n"


def test_a_killed_supervisor(prelux, lake):
    program = build(prelux, "deep_race")
    done = deep(prelux, [program, "kill", f"{lake}/f0"], check=False)
    assert done.returncode == 137
    assert set(done.stdout.split("\n")) == {"Function not implemented", ""}


def test_supervisor_below_a_supervisor(prelux, lake):
    program = build(prelux, "deep_calls")
    again = [prelux.exe, "--config", prelux.config_path, "run", "--deep", "--", "cat", f"{lake}/f1"]
    done = deep(prelux, ["cat", f"{lake}/f0"])
    assert done.stdout == "text 0\n" and not done.stderr
    shutil.copy(program, prelux.data / "prog")
    done = deep(prelux, [*again])
    assert done.stdout == "text 1\n" and not done.stderr  # a dynamic program in between has no filter
    starter = prelux.tmp / "start.c"
    starter.write_text("#include <unistd.h>\nint main(int n, char **v) { execv(v[1], v + 1); return 9; }\n")
    prelux.plain(["gcc", "-static", "-o", prelux.tmp / "start", starter])
    done = deep(prelux, [prelux.tmp / "start", *again])
    assert done.stdout == "text 1\n" and done.stderr.count("\n") == 1 and "another supervisor" in done.stderr


def filters(pid):
    """Of seccomp: those of where we are, its own, and of who has started it."""
    return [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Seccomp")]


def test_a_daemon_that_has_to_be_started(prelux, lake):
    """By the supervisor: below a supervised program it would be supervised, and be lost with the run."""
    starter = prelux.tmp / "start.c"
    starter.write_text("#include <unistd.h>\nint main(int n, char **v) { execv(v[1], v + 1); return 9; }\n")
    prelux.plain(["gcc", "-static", "-o", prelux.tmp / "start", starter])
    deep(prelux, ["true"])
    first = prelux.daemon_pid()
    its_own = filters(first)
    script = f"kill -9 {first}; cat {lake}/f3; cat {lake}/f4"
    assert deep(prelux, [prelux.tmp / "start", "/bin/bash", "-c", script]).stdout == "text 3\ntext 4\n"
    daemon = prelux.daemon_pid()
    assert daemon != first and filters(daemon) == its_own
    assert prelux.run(["cat", f"{lake}/f5"]).stdout == "text 5\n" and prelux.daemon_pid() == daemon


def test_many_names(prelux, lake):
    """More than one getdents64 holds."""
    for number in range(3000):
        (prelux.data / f"sub/a-rather-long-name-for-a-file-{number}").touch()
    program = prelux.tmp / "count"
    program.with_suffix(".c").write_text("""#include <dirent.h>
#include <stdio.h>
int main(int n, char **v) { DIR *d = opendir(v[1]); int k = 0, again = 0; while (readdir(d)) k++; rewinddir(d); while (readdir(d)) again++;
printf("%d %d\\n", k, again); }""")
    prelux.plain(["gcc", "-static", "-w", "-o", program, program.with_suffix(".c")])
    assert deep(prelux, [program, f"{lake}/sub"]).stdout == "3002 3002\n"
    above = deep(prelux, [program, "/"]).stdout.split()
    plain = prelux.plain([program, "/"]).stdout.split()
    assert int(above[0]) == int(plain[0]) + 1 and above[0] == above[1], "the prefix is shown once"


def test_go(prelux, lake):
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists():
        pytest.skip("no go here")
    env = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}  # the user's own cache
    subprocess.run([go, "build", "-o", prelux.tmp / "walk", DATA / "deep_walk.go"], env=env, timeout=300, check=True)
    plain = prelux.tmp / "plain"
    shutil.copytree(prelux.data, plain)
    want = prelux.plain([prelux.tmp / "walk", plain]).stdout
    assert "from go" in want and "wrong" not in want
    assert deep(prelux, [prelux.tmp / "walk", lake], timeout=120).stdout == want


def test_system_calls_of_its_own(prelux, lake):
    """A dynamic program that calls the kernel past libc: with --deep=all."""
    program = prelux.tmp / "own"
    program.with_suffix(".c").write_text("""#include <unistd.h>
static long raw(long n, long a, long b, long c) { long r; __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory"); return r; }
int main(int n, char **v) { char b[64]; long fd = raw(2, (long)v[1], 0, 0); if (fd < 0) return 3; return write(1, b, read(fd, b, 64)) < 0; }""")
    if os.uname().machine != "x86_64":
        pytest.skip("its system calls are x86-64's")
    prelux.plain(["gcc", "-w", "-o", program, program.with_suffix(".c")])
    assert deep(prelux, [program, f"{lake}/f0"], check=False).returncode == 3
    assert prelux.run([program, f"{lake}/f0"], args=["--deep=all"]).stdout == "text 0\n"
    assert prelux.run(f"cd {lake}; cat f1; ls | wc -l", args=["--deep=all"]).stdout == "text 1\n9\n"


LISTED = "begun 1\n{0}\nbehind its end: 0\nanother thread: 0\n{0}\nanother thread: {0}\n"


def test_a_folder_that_is_opened_again(prelux, lake):
    """What was listed of it before, by the same number, counts no more; threads share where one is; above a prefix, too."""
    program = build(prelux, "deep_more")
    assert deep(prelux, [program, "list", lake]).stdout == LISTED.format(11)
    names = len(os.listdir("/")) + 3
    assert deep(prelux, [program, "list", "/"]).stdout == LISTED.format(names)


def test_links_of_proc(prelux, lake):
    """A file that is open is written by its link in /proc as by its name."""
    program = build(prelux, "deep_more")
    assert deep(prelux, [program, "link", f"{lake}/f0"]).stdout == "1\n1\n"
    assert prelux.run(["cat", f"{lake}/f0"]).stdout == "by link\n"
    assert (prelux.data / "f0").read_text() == "by link\n"


def test_what_is_executed(prelux, lake):
    """Scripts get the names that they would have, by name and by descriptor; a local one may have a mapped interpreter."""
    program = build(prelux, "deep_more")
    plain = prelux.tmp / "plain"
    plain.mkdir()
    for folder in (plain, prelux.data):
        shutil.copy(program, folder / "prog")
        (folder / "script").write_text('#!/bin/sh\necho "$0" "$@"; exit 6\n')
        (folder / "sub").mkdir(exist_ok=True)
        shutil.copy("/bin/echo", folder / "sub/echo")
        for name in ("script", "sub/echo"):
            (folder / name).chmod(0o755)
    for words in (["./script", "name"], ["script", "name"], ["sub/echo", "name"], ["./prog", "name"], ["prog", "fd"], ["none", "name"], ["f0", "name"]):
        want = prelux.plain([program, "exec", plain, *words]).stdout if words[0] != "f0" else "Permission denied\n9\n"
        assert deep(prelux, [program, "exec", lake, *words]).stdout == want, words
    done = deep(prelux, [program, "vfork", f"{lake}/prog"]).stdout
    assert done == "child\n" * 20 + "80, no maps\n"
    local = prelux.tmp / "local"
    local.write_text(f"#!{lake}/prog an argument\n")
    local.chmod(0o755)
    assert deep(prelux, [program, "exec", "/", local, "name"]).stdout == f"an argument\n{local}\none\ntwo\n4\n"


def test_a_program_that_ends_while_it_is_traced(prelux, lake):
    """Its status is not lost, and the run ends."""
    program = build(prelux, "deep_more")
    for turn in range(12):
        assert deep(prelux, [program, "move", f"{lake}/sub", str(turn * 700)], check=False, timeout=60).returncode == 5


def test_programs_in_the_background(prelux, lake):
    """Who is about to be supervised when the program ends is waited for; a signal ends that."""
    program = build(prelux, "deep_more")
    done = deep(prelux, f"{program} later {lake}/f0 300 & exit 3", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "text 0\n", "")
    child = prelux.popen(f"{program} later {lake}/f0 1000000 & echo $!; exit 3", args=["--deep"], stdout=subprocess.PIPE, text=True)
    background = int(child.stdout.readline())
    try:
        status = Path(f"/proc/{background}/status")
        harness.wait_for(lambda: {"Name:\tdeep_more", "TracerPid:\t0"} <= set(status.read_text().splitlines()), what="the program: a launcher that loses its supervisor ends")
        for _ in range(600):
            child.send_signal(signal.SIGTERM)
            try:
                assert child.wait(0.1) in (3, 143)
                return
            except subprocess.TimeoutExpired:
                pass
        pytest.fail("it waits for ever")
    finally:
        os.kill(background, signal.SIGKILL)


def test_a_signal_ends_no_program_in_the_background(prelux, lake):
    """Not in the middle of what is done for it, either."""
    program = build(prelux, "deep_more")
    for _ in range(5):
        child = prelux.popen(f"{program} move {lake}/sub 60000000 >/dev/null 2>&1 & echo $!; exit 3", args=["--deep"], stdout=subprocess.PIPE, text=True)
        background = int(child.stdout.readline())
        try:
            harness.wait_for(lambda: os.readlink(f"/proc/{background}/cwd").endswith("/sub"), what="the folder that it changes to")
            while child.poll() is None:
                child.send_signal(signal.SIGTERM)
                time.sleep(0.02)
            assert harness.alive(background)
        finally:
            os.kill(background, signal.SIGKILL)


@pytest.mark.parametrize("name", ["ptrace", "process_vm_readv", "process_vm_writev", "seccomp", "addfd"])
def test_where_it_is_forbidden(prelux, lake, name):
    """It is said what is missing, and the run goes on without."""
    prelux.env["ASAN_OPTIONS"] += ":detect_leaks=0"  # which looks for them by ptrace
    forbid = prelux.tmp / "forbid"
    prelux.plain(["gcc", "-w", "-o", forbid, DATA / "forbid.c"])
    done = subprocess.run([forbid, name, "--", prelux.exe, "--config", prelux.config_path, "run", "--deep", "--", "cat", f"{lake}/f1"],
                          env=prelux._merged(None), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "text 1\n")
    why = "seccomp: descriptors for others, which Linux has since 5.14: Invalid argument" if name == "addfd" else f"{name}: Operation not permitted"
    assert f"--deep is not possible here ({why})" in done.stderr and done.stderr.count("\n") == 1


def test_where_descriptors_cannot_be_shared(prelux, lake):
    """Docker's default profile has ptrace, but no pidfd_getfd and no kcmp."""
    forbid, program = prelux.tmp / "forbid", build(prelux, "deep_more")
    prelux.plain(["gcc", "-w", "-o", forbid, DATA / "forbid.c"])
    for folder, names in (lake, 11), ("/", len(os.listdir("/")) + 3):
        done = subprocess.run([forbid, "pidfd_getfd", "kcmp", "--", prelux.exe, "--config", prelux.config_path, "run", "--deep", "--", program, "list",
                               folder], env=prelux._merged(None), capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == (LISTED.format(names), "")


@pytest.mark.skipif(os.geteuid() != 0, reason="another root, capabilities of files")
def test_programs_that_are_left_alone(prelux, lake):
    """Where the launcher is not, programs run without it; and those that have privileges keep them."""
    program = build(prelux, "deep_more")
    root = prelux.tmp / "root"
    root.mkdir()
    shutil.copy(program, root / "prog")
    done = deep(prelux, ["/usr/sbin/chroot", root, "/prog", "here"], check=False)
    assert (done.returncode, done.stdout) == (4, "here\n")
    assert deep(prelux, [program]).stdout == "NoNewPrivs:\t1\n"
    try:
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    except OSError:
        return
    assert deep(prelux, [program]).stdout == "NoNewPrivs:\t0\n"


# ---- what was supervised is said so

def test_a_report(prelux, lake):
    """Supervised programs have their own rows, with what was done for them; who forks without exec counts as elsewhere."""
    program, edges = build(prelux, "deep_more"), build(prelux, "deep_edges")
    shutil.copy(program, prelux.data / "prog")
    path = prelux.tmp / "report.json"
    script = f"{edges} show {lake}/f0; {edges} show {lake}/none; {edges}; {program} exec {lake} ./prog name; cat {lake}/f1; {edges} many /bin/true 2"
    done = prelux.run(f"{script}; exit 3", args=["--deep", f"--report={path}"], check=False)
    assert done.returncode == 3, done.stderr
    found = json.loads(path.read_text())
    rows = {(os.path.basename(row["program"]), row["word"]): row for row in found["programs"]}
    assert found["not_reached"] == [] and not [row for row in rows if row[0] == "prelux"]
    shows = rows["deep_edges", "show"]
    assert (shows["starts"], shows["supervised"], shows["calls"], shows["missing"]) == (2, 2, 2, 1)
    assert rows["deep_more", "exec"]["supervised"] == 1 and rows["deep_more", "exec"]["forks"] >= 1
    assert rows["cat", f"{lake}/f1"]["supervised"] == 0 and rows["cat", f"{lake}/f1"]["calls"] >= 1
    assert rows["true", "a child"]["starts"] == 2 and rows["true", "a child"]["supervised"] == 0
    # show twice, nothing, exec, ./prog, many
    assert found["reached"]["supervised"] == 6 and found["reached"]["starts"] == 4, found["programs"]
    text = prelux.run([edges, "show", f"{lake}/f0"], args=["--deep", "--report"]).stderr
    assert "1 supervised (--deep)" in text and "\nnot reached" not in text
    prelux.run([edges, "idle"], args=["--deep", f"--report={path}"])
    assert json.loads(path.read_text())["not_reached"] == []  # its children have the filter, too


# ---- programs that are not, or not wholly, served

OPEN32 = """
.globl _start
_start: mov 8(%esp), %ebx
  mov $5, %eax
  xor %ecx, %ecx
  int $0x80
  mov %eax, %ebx
  sar $31, %ebx
  and %eax, %ebx
  neg %ebx
  mov $1, %eax
  int $0x80
"""


def test_programs_of_32_bits(prelux, lake):
    """As without --deep, also where a supervised program has started them: they see what is on disk. Exit status: errno of an open."""
    source, objects, program = (prelux.tmp / name for name in ("open32.s", "open32.o", "open32"))
    source.write_text(OPEN32)
    for argv in (["as", "--32", "-o", objects, source], ["ld", "-m", "elf_i386", "-o", program, objects]):
        if subprocess.run(argv, capture_output=True).returncode:
            pytest.skip("no assembler or linker for 32 bits here")
    plain, starter = prelux.tmp / "here", prelux.tmp / "starter.c"
    plain.write_text("here")
    try:
        assert subprocess.run([program, plain]).returncode == 0
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error}")
    starter.write_text("#include <unistd.h>\nint main(int n, char **v) { execv(v[1], v + 1); return 9; }\n")
    prelux.plain(["gcc", "-static", "-o", prelux.tmp / "starter", starter])
    for before in [], [prelux.tmp / "starter"]:
        for name, status in (f"{lake}/f0", errno.ENOENT), (plain, 0):
            done = deep(prelux, [*before, program, name], check=False)
            assert (done.returncode, done.stdout, done.stderr) == (status, "", ""), (before, name)


def test_a_program_that_another_one_traces(prelux, lake):
    """Nobody can be traced twice: what it would have to do by itself is EPERM, and nothing else."""
    program, plain = build(prelux, "deep_edges"), prelux.tmp / "plain"
    shutil.copytree(prelux.data, plain)
    for folder in (plain, prelux.data):
        shutil.copy(program, folder / "prog")
    assert prelux.plain([program, "traced", plain / "f0", plain / "sub", plain / "prog"]).stdout == "text 0\nmoved\ntext 0\n"
    done = deep(prelux, [program, "traced", f"{lake}/f0", f"{lake}/sub", f"{lake}/prog"])
    assert done.stdout == "text 0\n" + "Operation not permitted\n" * 2


# ---- programs by descriptors and folders

def test_programs_by_descriptor_and_folder(prelux, lake):
    """fexecve and execveat of programs that the library is in: what they start has its words and descriptors as without, and sees the mappings."""
    program, starter = build(prelux, "deep_edges"), prelux.tmp / "starter"
    prelux.plain(["gcc", "-w", "-o", starter, DATA / "starter.c"])
    link, script, plain = prelux.tmp / "link", prelux.tmp / "script", prelux.tmp / "plain"
    link.symlink_to(program)
    script.write_text(f"#!{program}\n")
    script.chmod(0o755)
    plain.write_text("text 0\n")
    for how in ("fd", "cloexec", "path", "folder", "nofollow", "syscall", "check", "check-path"):
        for file in (program, link, script):
            want = prelux.plain([starter, how, file, plain, "word"], check=False)
            done = deep(prelux, [starter, how, file, f"{lake}/f0" if file != script else plain, "word"], check=False)
            got = done.stdout.replace(f"{lake}/f0", str(plain))
            assert (got, done.returncode) == (want.stdout, want.returncode), (how, file, done.stderr)
    assert deep(prelux, [starter, "fd", "/bin/cat", f"{lake}/f0"]).stdout == "text 0\n"
    assert deep(prelux, [starter, "few", program, plain, "word"]).stdout == prelux.plain([starter, "few", program, plain, "word"]).stdout
    shutil.copy(program, prelux.tmp / "=1+")  # no descriptor
    assert "text 0\n" in deep(prelux, [starter, "name", "=1+", f"{lake}/f0", f"{lake}/f0"], check=False).stdout


def test_what_a_program_is_called(prelux, lake):
    """Links of /proc show the names of the mapping (Go finds its own folder so)."""
    program = build(prelux, "deep_edges")
    for folder in (prelux.data, prelux.tmp):
        (folder / "bin").mkdir()
        shutil.copy(program, folder / "bin/prog")
    want = prelux.plain([prelux.tmp / "bin/prog", "own", prelux.tmp / "bin", "prog"]).stdout
    assert want.count("\n") == 3
    assert deep(prelux, [f"{lake}/bin/prog", "own", f"{lake}/bin", "prog"]).stdout == want.replace(str(prelux.tmp), lake)
    assert deep(prelux, [prelux.tmp / "bin/prog", "own", prelux.tmp / "bin", "prog"]).stdout == want


# ---- who waits for whom

@pytest.mark.skipif(os.geteuid() != 0, reason="a mount")
def test_a_name_that_is_not_answered(prelux, lake):
    """A look at whose a name is may last: it holds up its own program, and nobody else, be it the one who has to answer."""
    program, slow = build(prelux, "deep_edges"), prelux.tmp / "slow"
    slow.mkdir()
    deep(prelux, ["true"])
    own = [prelux.exe, "--config", prelux.config_path, "run", "--deep", "--", program, "beside", slow, "/etc/hostname"]
    done = subprocess.run(["unshare", "-m", *own], env=prelux._merged(None), capture_output=True, text=True, timeout=60)
    if "not here" in done.stdout or "unshare failed" in done.stderr:
        pytest.skip("no FUSE here")
    assert (done.stdout, done.stderr) == ("fast\nfailed\n", "")


def test_a_watch_by_a_relative_name(prelux, lake):
    program = build(prelux, "deep_edges")
    assert deep(prelux, [program, "watch", f"{lake}/sub"]).stdout == "1\n1\n"


def test_many_at_once(prelux, lake):
    """More programs than the supervisor has threads execute at the same moment, each a mapped one."""
    program = build(prelux, "deep_edges")
    shutil.copy(program, prelux.data / "prog")
    (prelux.data / "prog").chmod(0o755)
    assert deep(prelux, [program, "many", f"{lake}/prog", "300"], timeout=120).stdout == "300\n"


def stat_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_state(pid, stopped):
    until = time.monotonic() + 60
    while (stat_of(pid) == "T") != stopped:
        assert time.monotonic() < until, stat_of(pid)
        time.sleep(0.002)


def keeper(prelux, lake):
    child = prelux.popen([build(prelux, "deep_edges"), "keep", f"{lake}/sub"], args=["--deep"], stdout=subprocess.PIPE, text=True)
    return child, *map(int, child.stdout.readline().split())


def test_a_program_that_is_stopped_while_it_is_traced(prelux, lake):
    """SIGSTOP is not lost, and SIGCONT goes on."""
    child, pid, _ = keeper(prelux, lake)
    for _ in range(60):
        os.kill(pid, signal.SIGSTOP)
        wait_for_state(pid, True)
        os.kill(pid, signal.SIGCONT)
        wait_for_state(pid, False)
    os.kill(pid, signal.SIGKILL)
    assert child.wait(60) == 128 + signal.SIGKILL and child.stdout.read() == ""


def test_a_supervisor_that_is_killed_while_it_traces(prelux, lake):
    """Nobody goes on with registers that are not his own."""
    for turn in range(8):
        child, _, supervisor = keeper(prelux, lake)
        time.sleep(turn / 500)
        os.kill(supervisor, signal.SIGKILL)
        assert child.wait(60) == 137 and child.communicate(timeout=60)[0] in ("", "kept\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and another user's file")
def test_what_the_supervisor_may_not_do_for_others(prelux, lake):
    """Where something stands behind a prefix the kernel's calls are done by the supervisor: not for those who see other files, or have fewer rights."""
    program, other, secret = build(prelux, "deep_edges"), prelux.tmp / "other", prelux.tmp / "secret"
    covered = prelux.tmp / "covered"
    for folder in (covered, other):
        folder.mkdir()
        (folder / "x").write_text("behind\n")
    mapped = prelux.file_mapping(prelux.data, local=covered)
    assert deep(prelux, [program, "show", f"{mapped}/f0"]).stdout == "text 0\n"
    for name in ("/proc/self/comm", "//proc/self/comm", "/proc/../proc/thread-self/comm"):
        assert deep(prelux, [program, "show", name]).stdout == "deep_edges\n"
    done = deep(prelux, [program, "space", other, "x"]).stdout
    assert done in ("in here\n", "not here\n") and (other / "x").read_text() == "behind\n"
    secret.write_text("secret\n")
    os.chown(secret, 65534, 65534)
    secret.chmod(0o600)
    assert deep(prelux, [program, "rights", secret]).stdout == "secret\nPermission denied\n"
