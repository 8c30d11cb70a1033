"""What docs/SECURITY.md promises, tried by somebody who means harm: other users' folders, names that lead elsewhere, secrets and where they might
come to light, servers that are not who they say, and what the daemon itself can still do."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from tests import harness
from tests.harness import wait_for
from tests.integration.daemon_rig import start
from tests.servers.s3standin import S3Standin

LAKE = "/prelux-security"
VICTIM, MALLORY = 61511, 61512
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
SECRET = "tell-it-nobody-0xC0FFEE"


# Other users. The programs lie where they may be run, and each has a folder of his own.

class Users:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="plx-users-", dir="/var/lib"))
        self.folder.chmod(0o755)
        for name in ("preluxd", "prelux", "libprelux.so"):
            shutil.copy2(harness.BUILD / name, self.folder / name)
        self.source = self.folder / "source"
        self.source.mkdir()
        (self.source / "f").write_text("honest")
        self.config = self.folder / "prelux.yaml"
        self.config.write_text(json.dumps({"version": 1, "idle_exit": "1s", "cache": {"min_free": "0"}, "backends": {"src": {"type": "file", "root": str(self.source)}},
                                           "mappings": [{"local": LAKE, "remote": "src:/"}]}))
        self.others = []

    def evil(self):
        """Mallory's folder in /tmp, where anybody can make one."""
        path = Path(tempfile.mkdtemp(prefix="plx-evil-", dir="/tmp"))
        path.chmod(0o755)
        os.chown(path, MALLORY, MALLORY)
        self.others.append(path)
        return path

    def home(self, uid, name="home"):
        path = self.folder / f"{name}-{uid}"
        if not path.exists():
            path.mkdir(mode=0o755)
            os.chown(path, uid, uid)
        return path

    def environment(self, uid, runtime, **more):
        return {"PATH": os.environ["PATH"], "HOME": str(self.home(uid)), "PRELUX_RUNTIME_DIR": str(runtime), **more}

    def program(self, uid, runtime, command, umask=-1, timeout=60, **env):
        env = self.environment(uid, runtime, **{"LD_PRELOAD": str(self.folder / "libprelux.so"), "PRELUX_CONFIG": str(self.config), **env})
        return subprocess.run(command, user=uid, group=uid, extra_groups=[], umask=umask, env=env, cwd="/", text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=timeout)

    def close(self):
        sockets = [path for folder in (self.folder, *self.others) for path in folder.rglob("sock")]
        for pid in {pid for path in sockets for pid in harness.daemons_of(path.parent)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
            wait_for(lambda: not harness.alive(pid), 30, "its end")
        for folder in (self.folder, *self.others):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def users():
    if not (harness.BUILD / "preluxd").exists():
        pytest.skip(f"{harness.BUILD} is not built")
    one = Users()
    yield one
    one.close()


def theirs(users):
    """A runtime folder that is Mallory's, with all that a program of the victim might trip over."""
    folder = users.evil()
    os.mkfifo(folder / "errors")
    (folder / "errors").chmod(0o666)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(folder / "sock"))
    (folder / "sock").chmod(0o666)
    listener.listen(0)
    full = []
    while True:  # nobody accepts: who connects now waits
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        full.append(one)
        try:
            one.connect(str(folder / "sock"))
        except BlockingIOError:
            break
    for name in ("errors", "sock"):
        os.chown(folder / name, MALLORY, MALLORY)
    return folder, [listener, *full]


@NEEDS_ROOT
def test_a_folder_of_somebody_else_makes_nobody_wait(users):
    """A socket whose backlog is full, and a FIFO by the name of the errors' file: the program gets EIO at once."""
    folder, sockets = theirs(users)
    done = users.program(VICTIM, folder, ["cat", f"{LAKE}/f"], timeout=30)
    assert done.returncode == 1 and "Input/output error" in done.stderr, done
    done = subprocess.run([users.folder / "prelux", "--config", users.config, "run", "--", "cat", f"{LAKE}/f"], user=VICTIM, group=VICTIM, extra_groups=[],
                          env=users.environment(VICTIM, folder), cwd="/", text=True, capture_output=True, timeout=30)
    assert done.returncode != 0 and "PRELUX_RUNTIME_DIR" in done.stderr, done
    for one in sockets:
        one.close()


@NEEDS_ROOT
def test_nothing_is_written_for_somebody_else_to_read(users):
    """Mallory's own file by that name gets no record: it would tell paths and causes."""
    folder = users.evil()
    (folder / "errors").write_text("")
    (folder / "errors").chmod(0o666)
    os.chown(folder / "errors", MALLORY, MALLORY)
    assert "Input/output error" in users.program(VICTIM, folder, ["cat", f"{LAKE}/f"]).stderr
    assert (folder / "errors").read_text() == ""


@NEEDS_ROOT
def test_no_record_goes_into_another_file_of_the_programs_user(users):
    """Mallory has linked it there (where fs.protected_hardlinks is off)."""
    folder = users.evil()
    (folder / "precious").write_text("")
    os.chown(folder / "precious", VICTIM, VICTIM)
    os.link(folder / "precious", folder / "errors")
    assert "Input/output error" in users.program(VICTIM, folder, ["cat", f"{LAKE}/f"]).stderr
    assert (folder / "precious").read_text() == ""


@NEEDS_ROOT
def test_what_root_does_is_recorded_too(users):
    """In the folder of the user whose daemon it asks, where nobody else can have put it."""
    runtime = users.home(VICTIM) / "run"
    users.program(VICTIM, runtime, ["sh", "-c", f"echo > {LAKE}/first"])
    users.program(0, runtime, ["sh", "-c", f"echo > {LAKE}/second"])
    assert [Path(json.loads(line)["path"]).name for line in (runtime / "errors").read_text().splitlines()] == ["first", "second"]


JAILED = r"""
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>
/* Another mount namespace, in which `from` lies in the place of `to`. */
static int enter(const char *how, const char *from, const char *to)
{
  int begun[2], end[2];
  char name[64];
  if (pipe(begun) != 0 || pipe(end) != 0)
    return -1;
  pid_t child = fork();
  if (child == 0)
    _exit(unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount(from, to, NULL, MS_BIND, NULL) != 0 ||
          write(begun[1], "", 1) != 1 || close(end[1]) != 0 || read(end[0], name, 1) != 0);
  close(begun[1]);
  snprintf(name, sizeof name, "/proc/%d/ns/mnt", child);
  int fd = read(begun[0], name + sizeof name - 1, 1) == 1 ? open(name, O_RDONLY) : -1;
  int rc = *how == 's' ? (int)syscall(SYS_setns, fd, CLONE_NEWNS) : setns(fd, *how == '0' ? 0 : CLONE_NEWNS);
  close(end[1]);
  return rc;
}
int main(int argc, char **argv)
{
  char name[4096];
  if (argv[1][0] == '-') { /* as preluxd */
    snprintf(name, sizeof name, "%.*s/executed", (int)(strrchr(argv[0], '/') - argv[0]), argv[0]);
    return close(creat(name, 0600));
  }
  if (argc == 3 ? chroot(argv[1]) != 0 || chdir("/") != 0 : enter(argv[3], argv[1], argv[4]) != 0)
    return 2;
  return open(argv[2], O_RDONLY) >= 0 || errno != EIO;
}
"""


@NEEDS_ROOT
@pytest.mark.parametrize("how", ["chroot", "namespace", "0", "syscall"])
def test_no_daemon_is_started_in_another_root(users, how):
    """A program of root's that goes into somebody's folder (chroot), or mount namespace, and asks for what is not cached: what lies there by preluxd's name is not executed."""
    (users.folder / "jailed.c").write_text(JAILED)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-static", "-o", users.folder / "jailed", users.folder / "jailed.c"], check=True)
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O1", "-o", users.folder / "jail", users.folder / "jailed.c"], check=True)
    root, runtime = users.home(MALLORY), users.home(0) / "run"
    inside = root / users.folder.relative_to("/")
    (root / runtime.parent.relative_to("/")).mkdir(parents=True)
    shutil.copy2(users.folder / "jailed", inside / "preluxd")
    where = [root, f"{LAKE}/f"] if how == "chroot" else [inside, f"{LAKE}/f", how, users.folder]
    done = users.program(0, runtime, [users.folder / "jail", *where])
    assert done.returncode == 0 and not (inside / "executed").exists(), done


FILTERED = r"""
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_geteuid, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  char got[16];
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
    return 2;
  int fd = faccessat(AT_FDCWD, argv[argc - 1], W_OK, AT_EACCESS) == 0 ? open(argv[argc - 1], O_RDONLY) : -1;
  ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof got);
  return n < 0 || write(1, got, (size_t)n) != n;
}
"""


@NEEDS_ROOT
def test_a_filter_need_not_know_the_librarys_looks(users):
    """Whose the index is, which is mapped when the first file is asked for, is known without a call that the program does not make."""
    (users.folder / "filtered.c").write_text(FILTERED)
    subprocess.run(["cc", "-O1", "-o", users.folder / "filtered", users.folder / "filtered.c"], check=True)
    users.config.write_text(users.config.read_text().replace('"1s"', '"1m"').replace('"remote": "src:/"', '"remote": "src:/", "write": "async"'))
    runtime = users.home(VICTIM) / "run"
    assert users.program(VICTIM, runtime, ["cat", f"{LAKE}/f"]).stdout == "honest"
    done = users.program(VICTIM, runtime, [users.folder / "filtered", f"{LAKE}/f"])
    assert (done.returncode, done.stdout) == (0, "honest"), done


@NEEDS_ROOT
@pytest.mark.parametrize("daemon", ["serves", "is to be started"])
def test_a_table_of_somebody_else_is_not_believed(users, daemon):
    """A runtime folder in /tmp may be cleared away, and made by somebody else: the table that PRELUX_CONFIG names says what a path means, and which program to
    execute. Mallory's own daemon has made it."""
    evil, marker = users.evil(), users.home(VICTIM) / "executed"
    free = evil.with_name("plx-free-" + evil.name[len("plx-free-"):])  # as long, and the victim may make it
    users.others.append(free)
    evil.chmod(0o700)
    assert users.program(MALLORY, evil, ["cat", f"{LAKE}/f"]).stdout == "honest"
    table, = [path for path in (evil / "tables").iterdir() if len(path.name) == 32]
    if daemon != "serves":
        pid, = harness.daemons_of(evil)
        os.kill(pid, 15)
        wait_for(lambda: not harness.alive(pid), 30, "its end")
        other = users.folder / "evil-xx"  # as long as preluxd
        other.write_text(f"#!/bin/sh\nid -u > {marker}\n")
        other.chmod(0o755)
        text = table.read_bytes().replace(os.fsencode(users.folder / "preluxd"), os.fsencode(other))
        table.write_bytes(text.replace(os.fsencode(evil) + b"\0", os.fsencode(free) + b"\0"))
    for path in [evil, *evil.rglob("*")]:
        if not path.is_socket():
            path.chmod(0o755 if path.is_dir() else 0o644)
    done = users.program(VICTIM, evil if daemon == "serves" else free, ["cat", f"{LAKE}/f", f"{LAKE}/other"], PRELUX_CONFIG=str(table))
    assert done.returncode == 1 and done.stdout == "" and not marker.exists(), done


@NEEDS_ROOT
@pytest.mark.parametrize("umask", [0o777, 0o277, 0o000])
def test_the_umask_of_the_program_is_not_the_files(users, umask):
    """Whoever is first makes the runtime folder, the lock and the errors' file, with an umask of his own: the next one can use them, and nobody else."""
    runtime = users.home(VICTIM) / "run"
    done = users.program(VICTIM, runtime, ["sh", "-c", f"cat {LAKE}/f; cat {LAKE}/f/below 2>/dev/null; true"], umask=umask)
    assert done.stdout == "honest", done
    pid, = harness.daemons_of(runtime)
    os.kill(pid, 9)
    wait_for(lambda: not harness.alive(pid), 30, "its end")
    assert users.program(VICTIM, runtime, ["cat", f"{LAKE}/f"]).stdout == "honest"
    wrong = {str(path.relative_to(runtime)): oct(path.stat().st_mode) for path in [runtime, *runtime.rglob("*")]
             if path.stat().st_mode & 0o077 or not path.stat().st_mode & 0o400}
    assert not wrong


@NEEDS_ROOT
def test_a_link_of_somebody_else_is_no_cache_folder(users):
    """/var/tmp/prelux-UID, where the cache goes when nothing else can be had: a link there leads into a folder of the victim's choosing, not Mallory's."""
    place, private = Path(f"/var/tmp/prelux-{VICTIM}"), users.home(VICTIM, "private")
    assert not place.exists()
    place.symlink_to(private)
    os.lchown(place, MALLORY, MALLORY)
    try:
        blocked = users.folder / "no-home"
        blocked.write_text("no folder")
        done = users.program(VICTIM, users.home(VICTIM) / "run", ["cat", f"{LAKE}/f"], HOME=str(blocked))
        assert done.returncode == 1 and "Input/output error" in done.stderr, done
        assert list(private.iterdir()) == []
    finally:
        place.unlink()


@NEEDS_ROOT
def test_links_in_a_cache_folder_that_a_group_can_write_to_lead_nowhere(users):
    """A mapping's own folder (`cache:`) may be a group's: who puts a link where a folder of the tree belongs has nothing written elsewhere."""
    cache, elsewhere = users.home(VICTIM, "cache"), users.home(VICTIM, "elsewhere")
    os.chown(cache, VICTIM, MALLORY)
    cache.chmod(0o770)
    (users.source / "d").mkdir()
    (users.source / "d/x").write_text("of the remote")
    users.config.write_text(json.dumps({"version": 1, "idle_exit": "1s", "backends": {"src": {"type": "file", "root": str(users.source)}},
                                        "mappings": [{"local": LAKE, "remote": "src:/", "cache": str(cache)}]}))
    runtime = users.home(VICTIM) / "run"
    assert users.program(VICTIM, runtime, ["cat", f"{LAKE}/f"]).stdout == "honest"
    (cache / "d").symlink_to(elsewhere)
    os.lchown(cache / "d", MALLORY, MALLORY)
    done = users.program(VICTIM, runtime, ["cat", f"{LAKE}/d/x"])
    assert done.stdout in ("", "of the remote"), done
    assert list(elsewhere.iterdir()) == []


# Names that a remote has

HOSTILE = [b"../up", b"../../../../../../tmp/prelux-escaped", b"a/../../out", b"/abs", b"//abs", b"a//b", b"a/./b", b"a/..", b"..", b".", b"./x", b"a\nb",
           b"a\rb", b"\x1b[2J", b"n" * 256, b"n" * 255, b"p/" * 500 + b"q", b".prelux", b".prelux/catalogue.db", b"%2e%2e/z", b"..%2f", b"-rf", b"a\\..\\b",
           b"$(id)", b"\xff\xfe"]


def test_names_that_lead_elsewhere(prelux):
    """Keys of an S3 stand-in: what is read comes from that key, what is written stays below the cache folder, names that no file can have are not shown."""
    with S3Standin() as server:
        for key in HOSTILE:
            server.put(key, b"body of " + key)
        prelux.config({"version": 1, "backends": {"s3": {"type": "s3", "endpoint": server.url, "bucket": "data", "anonymous": True}},
                       "mappings": [{"local": LAKE, "remote": "s3:/", "cache": str(prelux.tmp / "own")}]})
        code = f"""if 1:
            import os, sys
            found = {{}}
            for root, folders, files in os.walk(b"{LAKE}"):
                for name in folders + files:
                    assert name not in (b"", b".", b"..") and b"/" not in name and b"\\0" not in name and len(name) <= 255, name
                for name in files:
                    path = os.path.join(root, name)
                    try:
                        found[path[{len(LAKE) + 1}:]] = open(path, "rb").read()
                    except OSError as e:
                        found[path[{len(LAKE) + 1}:]] = e.errno
            sys.stdout.buffer.write(repr(found).encode())
            """
        found = eval(prelux.run(["python3", "-c", code]).stdout)
    before = {path for path in prelux.tmp.iterdir()}
    assert found and all(body == b"body of " + name or isinstance(body, int) for name, body in found.items()), found
    for name in (b"a\nb", b"n" * 255, b"-rf", b"$(id)", b"\xff\xfe"):
        assert found[name] == b"body of " + name
    assert not any(name.startswith(b".prelux") for name in found)
    assert {path.name for path in before} <= {"own", "cache", "home", "prelux.yaml", "source"}, before
    assert not Path("/tmp/prelux-escaped").exists()
    bodies = [path.read_bytes() for path in prelux.tmp.rglob("*") if path.is_file() and not path.is_symlink() and ".prelux" not in path.parts]
    assert b"body of ../up" not in bodies and b"body of /abs" not in bodies


# Secrets

def everything_below(*folders):
    for folder in folders:
        for path in Path(folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


@pytest.mark.parametrize("how", ["env", "file"])
def test_secrets_come_to_light_nowhere(prelux, how):
    """Three backends with keys, requests that go well and that fail, all commands that tell something: neither files, answers nor other processes have the keys."""
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(403 if self.path == "/no" else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    kept = prelux.home / "kept"
    kept.write_text(SECRET + "\n")
    kept.chmod(0o600)
    word = "${OUR_SECRET}" if how == "env" else f"file:{kept}"
    key = word if how == "file" else "${OUR_KEY}"
    env = {"OUR_SECRET": SECRET, "OUR_KEY": "dGVsbC1pdC1ub2JvZHktMHhDMEZGRUU="} if how == "env" else {}
    prelux.config({"version": 1, "log": {"level": "debug"},
                   "backends": {"web": {"type": "http", "url": url, "bearer": word, "headers": {"X-Api-Key": word}, "index": "none"},
                                "s3": {"type": "s3", "endpoint": url, "bucket": "b", "access_key": "AK", "secret_key": word, "session_token": word},
                                "az": {"type": "azure", "endpoint": url + "/acc", "account": "acc", "container": "c",
                                       **({"account_key": key} if how == "env" else {"sas_token": word})}},
                   "mappings": [{"local": f"{LAKE}/{name}", "remote": f"{name}:/"} for name in ("web", "s3", "az")]})
    script = f"cat {LAKE}/web/yes {LAKE}/web/no {LAKE}/s3/x {LAKE}/az/x; ls {LAKE}/s3 {LAKE}/az; env -u OUR_SECRET -u OUR_KEY env; cat /proc/self/cmdline"
    done = prelux.run(["bash", "-c", script], env=env, check=False, args=[f"--report={prelux.tmp}/report.json"])
    said = [done.stdout, done.stderr, (prelux.tmp / "report.json").read_text()]
    for words in (["status", "--json"], ["daemon", "status"], ["daemon", "log"], ["errors", "--json"], ["metrics"], ["stats"], ["config", "show"],
                  ["config", "show", "--json"], ["doctor"], ["map", f"{LAKE}/web/yes"], ["stat", f"{LAKE}/web/yes"], ["pending", "list"]):
        asked = prelux.cli(*words, check=False, env=env)
        said += [asked.stdout, asked.stderr]
    secrets = (SECRET, env.get("OUR_KEY", SECRET))
    assert not [text for text in said if any(secret in text for secret in secrets)]
    pid = prelux.daemon_pid()
    for secret in secrets:
        assert not [path for path, data in everything_below(prelux.runtime, prelux.cache) if secret.encode() in data]
        for name in ("environ", "cmdline"):
            assert secret.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert "honest" not in said and any("ok" in text for text in said)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("mode, folder, refused", [(0o644, 0o755, True), (0o604, 0o711, True), (0o600, 0o755, False), (0o640, 0o755, False),
                                                   (0o644, 0o700, False)])
def test_a_configuration_that_others_can_read_holds_no_secret(prelux, mode, folder, refused):
    """Refused by all that read it, with the line; not where a folder above keeps others out, nor what is no secret."""
    for place in ("/var/lib", "/var/tmp", "/tmp"):
        if os.access(place, os.W_OK) and os.stat(place).st_mode & 1:
            break
    where = Path(tempfile.mkdtemp(prefix="plx-open-", dir=place))
    where.chmod(folder)
    try:
        config = where / "prelux.yaml"
        text = {"version": 1, "cache": {"dir": str(prelux.cache), "min_free": "0"}, "backends": {"web": {"type": "http", "url": "http://127.0.0.1:1", "bearer": SECRET}},
                "mappings": [{"local": LAKE, "remote": "web:/"}]}
        for headers, ok in ((None, not refused), ({"Authorization": "Basic abc"}, not refused), ({"X-Trace": "abc"}, True)):
            backend = text["backends"]["web"]
            backend.pop("headers", None)
            if headers:
                backend.pop("bearer", None)
                backend["headers"] = headers
            config.write_text(json.dumps(text))
            config.chmod(mode)
            done = prelux.cli("--config", config, "config", "check", check=False, config=False)
            assert (done.returncode == 0) == ok and ok == ("every user of this machine can read" not in done.stderr), done
        backend.pop("headers")
        backend["bearer"] = SECRET
        config.write_text(json.dumps(text))
        config.chmod(mode)
        done = prelux.run(["true"], config=config, check=False)
        assert (done.returncode == 2) == refused and SECRET not in done.stderr, done
        done = prelux.run(["cat", f"{LAKE}/f"], config=config, bare=True, check=False)
        assert "Input/output error" in done.stderr  # nobody listens at port 1, or: it is refused
        assert any("every user of this machine can read" in record["cause"] for record in prelux.errors()) == refused
    finally:
        shutil.rmtree(where)


def test_a_running_program_outlives_a_chmod(prelux):
    """What was compiled goes on with a daemon that is started later: the snapshot is what it goes by."""
    where = Path(tempfile.mkdtemp(prefix="plx-open-", dir="/var/tmp"))
    try:
        (prelux.tmp / "source").mkdir()
        (prelux.tmp / "source/f").write_text("text")
        config = where / "prelux.yaml"
        config.write_text(json.dumps({"version": 1, "cache": {"dir": str(prelux.cache), "min_free": "0"},
                                      "backends": {"src": {"type": "file", "root": str(prelux.tmp / "source")},
                                                   "web": {"type": "http", "url": "http://127.0.0.1:1", "bearer": SECRET}},
                                      "mappings": [{"local": LAKE, "remote": "src:/"}, {"local": LAKE + "-web", "remote": "web:/"}]}))
        config.chmod(0o600)
        where.chmod(0o755)
        table = prelux.run(["printenv", "PRELUX_CONFIG"], config=config).stdout.strip()
        prelux.kill_daemon()
        config.chmod(0o644)
        assert prelux.run(["cat", f"{LAKE}/f"], config=table, bare=True).stdout == "text"
    finally:
        shutil.rmtree(where)


# Servers that are not who they say

def certificates(folder):
    """{name: (certificate, key)} of one authority, but for "unknown"; ca.pem."""
    def ssl_tool(*words):
        done = subprocess.run(["openssl", *map(str, words)], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "unknown-ca"):
        ssl_tool("req", "-x509", *new, "-days", 2, "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out", f"{name}.pem")
    found = {}
    for name, authority, names, days in (("good", "ca", "IP:127.0.0.1", 2), ("wrong name", "ca", "DNS:elsewhere.example", 2),
                                         ("unknown", "unknown-ca", "IP:127.0.0.1", 2), ("expired", "ca", "IP:127.0.0.1", -1)):
        file = name.replace(" ", "-")
        (folder / f"{file}.ext").write_text(f"subjectAltName={names}\n")
        ssl_tool("req", *new, "-subj", f"/CN={file}", "-keyout", f"{file}-key.pem", "-out", f"{file}.csr")
        ssl_tool("x509", "-req", "-days", days, "-in", f"{file}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}-key.pem", "-CAcreateserial",
                 "-extfile", f"{file}.ext", "-out", f"{file}.pem")
        found[name] = (folder / f"{file}.pem", folder / f"{file}-key.pem")
    return found


def test_tls_is_verified_unless_it_is_said_otherwise(prelux):
    """Real TLS: of a server with the right certificate all is read, with the bearer; of the others nothing, and none of them gets the bearer."""
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.server.server_port, self.headers.get("Authorization")))
            super().do_GET()

        def log_message(self, *_):
            pass

    (prelux.tmp / "www/sub").mkdir(parents=True)
    for folder in ("www", "www/sub"):
        (prelux.tmp / folder / "f").write_text("over TLS")
    made, servers = certificates(prelux.tmp), {}
    for name, (certificate, key) in made.items():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=prelux.tmp / "www"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers[name] = server
    backends = {name.replace(" ", "-"): {"type": "http", "url": f"https://127.0.0.1:{server.server_port}", "bearer": "${OUR_SECRET}", "index": "none",
                                         "tls": {"ca_file": str(prelux.tmp / "ca.pem")}} for name, server in servers.items()}
    backends["by-default"] = {**backends["good"], "tls": {}, "url": backends["good"]["url"] + "/sub"}
    backends["insecure"] = {**backends["expired"], "tls": {"insecure": True}}
    prelux.config({"version": 1, "backends": backends, "mappings": [{"local": f"{LAKE}/{name}", "remote": f"{name}:/"} for name in backends]})
    env = {"OUR_SECRET": SECRET}
    for name in backends:
        done = prelux.run(["cat", f"{LAKE}/{name}/f"], env=env, check=False)
        if name in ("good", "insecure"):
            assert done.stdout == "over TLS", (name, done, prelux.story())
        else:
            assert done.stdout == "" and "Input/output error" in done.stderr, (name, done)
    ports = {server.server_port: name for name, server in servers.items()}
    assert {ports[port] for port, _ in seen} == {"good", "expired"} and {bearer for _, bearer in seen} == {f"Bearer {SECRET}"}
    warned = [line for line in prelux.log().splitlines() if "(tls.insecure)" in line]
    assert len(warned) == 1 and "backend insecure:" in warned[0]
    for server in servers.values():
        server.shutdown()
        server.server_close()


# The daemon itself

def test_the_daemon_has_given_up_what_it_does_not_need(prelux):
    start(prelux)
    pid = prelux.daemon_pid()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    threads = {Path(path, "status").read_text().partition("Seccomp:\t")[2][0] for path in Path(f"/proc/{pid}/task").iterdir()}
    assert threads == {"2"}
    assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0
    assert "system call filter" in prelux.log()


def test_where_no_filter_can_be_had_it_is_said(prelux):
    """tests/data/forbid.c refuses seccomp(2), as a container may."""
    forbid = prelux.tmp / "forbid"
    subprocess.run(["cc", "-O1", "-o", forbid, harness.ROOT / "tests/data/forbid.c"], check=True)
    child = subprocess.Popen([forbid, "seccomp", "--", prelux.daemon_exe, "--runtime", prelux.runtime], env=prelux.env, stdin=subprocess.DEVNULL)
    prelux._children.append(child)
    wait_for(lambda: prelux.daemon_pid() == child.pid, 60, "preluxd listens")
    assert "there is no system call filter" in prelux.log()
    (prelux.tmp / "source").mkdir()
    (prelux.tmp / "source/f").write_text("served")
    prelux.file_mapping(prelux.tmp / "source", LAKE)
    assert prelux.run(["cat", f"{LAKE}/f"]).stdout == "served"
