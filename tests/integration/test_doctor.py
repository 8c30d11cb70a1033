"""`prelux doctor CMD`: what kind of program that is, and what a wrapper starts."""

import json
import os
import platform
import shutil
import struct
from pathlib import Path

import pytest

OWN_CALL = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
int main(int n, char **v)
{
  long r = SYS_%s;
#if defined(__x86_64__)
  __asm__ volatile("mov %%1, %%%%eax\n\tsyscall" : "=&a"(r) : "i"(SYS_%s), "D"(AT_FDCWD), "S"(v[n - 1]), "d"(0) : "rcx", "r11", "memory");
#else
  register long x0 __asm__("x0") = AT_FDCWD;
  register char *x1 __asm__("x1") = v[n - 1];
  register long x2 __asm__("x2") = 0;
  __asm__ volatile("mov x8, %%1\n\tsvc 0" : "+r"(x0) : "i"(SYS_%s), "r"(x1), "r"(x2) : "x8", "memory");
  r = x0;
#endif
  return r < 0;
}
"""


@pytest.fixture
def doctor(prelux):
    """doctor(*words) -> [(status, text, advice)] of the checks that are about the program."""
    (prelux.tmp / "data").mkdir()
    prelux.file_mapping(prelux.tmp / "data")

    def ask(*words, **more):
        done = prelux.cli("doctor", "--json", *words, check=False, **more)
        rows = [(row["status"], row["text"], row.get("advice", "")) for row in json.loads(done.stdout)["checks"] if row["check"] == "program"]
        assert done.returncode == (3 if any(row[0] in ("warn", "fail") for row in rows) else 0), done.stdout
        return rows

    return ask


def build(prelux, name, source, *options):
    (prelux.tmp / f"{name}.c").write_text(source)
    prelux.plain(["gcc", "-O1", "-o", prelux.tmp / name, prelux.tmp / f"{name}.c", *options])
    return prelux.tmp / name


EMPTY = "int main(void) { return 0; }\n"


def test_a_plain_program(doctor):
    rows = doctor("/bin/true")
    assert len(rows) == 1 and rows[0][0] == "ok" and "can be loaded" in rows[0][1]


@pytest.mark.parametrize("option", ["-static", "-static-pie"])
def test_static(prelux, doctor, option):
    program = build(prelux, "static", EMPTY, option)
    status, text, advice = doctor(program)[0]
    assert status == "fail" and "statically linked" in text and "dynamically" in advice


def test_busybox_by_its_kind(doctor):
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("no busybox here")
    assert doctor(busybox, "ls")[0][0] == ("ok" if has_interpreter(busybox) else "fail")


def has_interpreter(path):
    data = Path(path).read_bytes()
    at, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    return any(struct.unpack_from("<I", data, at + 56 * i)[0] == 3 for i in range(count))


def test_go_without_cgo(prelux, doctor):
    go = shutil.which("go") or (Path("/usr/local/go/bin/go").exists() and "/usr/local/go/bin/go")
    if not go:
        pytest.skip("no go here")
    assert doctor(go, "version")[0][0] == "fail"


def test_a_dynamic_program_of_go(prelux, doctor):
    """What a Go linker leaves in a file, and no libc in between."""
    program = build(prelux, "go", 'const char mark[] __attribute__((used)) = "\\xff Go buildinf:";\n' + EMPTY)
    status, text, advice = doctor(program)[0]
    assert status == "fail" and "Go program" in text and "cgo" in advice


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user's can only be made by root")
def test_setuid(prelux, doctor):
    shutil.copy("/bin/true", prelux.tmp / "other")
    os.chown(prelux.tmp / "other", 65534, 65534)
    (prelux.tmp / "other").chmod(0o4755)
    assert "set-uid" in doctor(prelux.tmp / "other")[0][1]
    os.chown(prelux.tmp / "other", 0, 0)
    (prelux.tmp / "other").chmod(0o4755)
    assert doctor(prelux.tmp / "other")[0][0] == "ok", "who is the owner already becomes nobody else"


def test_another_libc(prelux, doctor):
    data = bytearray(Path("/bin/true").read_bytes())
    at = data.index(b"/lib64/ld-linux" if platform.machine() == "x86_64" else b"/lib/ld-linux")
    end = data.index(b"\0", at)
    for loader, text in ((b"/lib/ld-musl.so.1", "linked with musl"), (b"/lib/ld-other.so.1", "No such file")):
        data[at:end] = loader.ljust(end - at, b"x")[:end - at]
        (prelux.tmp / "other").write_bytes(data)
        (prelux.tmp / "other").chmod(0o755)
        status, said, _ = doctor(prelux.tmp / "other")[0]
        assert status == "fail" and text in said


@pytest.mark.parametrize("name", ["openat", "statx", "io_uring_setup"])
def test_system_calls_of_its_own(prelux, doctor, name):
    program = build(prelux, "own", OWN_CALL % (name, name, name))
    rows = doctor(program)
    assert [row[0] for row in rows] == ["warn", "ok"] and f"calls of its own: {name}" in rows[0][1]


def test_system_calls_that_are_no_files(prelux, doctor):
    assert [row[0] for row in doctor(build(prelux, "own", OWN_CALL % (("getpid",) * 3)))] == ["ok"]


def test_liburing(prelux, doctor):
    """A stand-in by the library's name: what the loader would load is what counts, however deep."""
    library = build(prelux, "liburing.so.2", "int io_uring_nothing(void) { return 0; }\n", "-shared", "-fPIC", "-Wl,-soname,liburing.so.2")
    middle = build(prelux, "libmiddle.so", "int io_uring_nothing(void);\nint middle(void) { return io_uring_nothing(); }\n", "-shared", "-fPIC",
                   "-Wl,-soname,libmiddle.so", str(library))
    program = build(prelux, "ring", "int middle(void);\nint main(void) { return middle(); }\n", str(middle), f"-Wl,-rpath-link,{prelux.tmp}")
    rows = doctor(program, env={"LD_LIBRARY_PATH": prelux.tmp})
    assert [row[0] for row in rows] == ["warn", "ok"] and "liburing" in rows[0][1]
    rows = doctor(program)
    assert rows[0][0] == "fail" and "libmiddle.so => not found" in rows[0][1]


def test_a_script(prelux, doctor):
    script = prelux.tmp / "script"
    script.write_text("#!/bin/sh\necho\n")
    script.chmod(0o755)
    rows = doctor(script)
    assert [row[0] for row in rows] == ["info", "ok"] and "is a script, run by /bin/sh" in rows[0][1]


@pytest.mark.parametrize("words", [["env", "-u", "X", "-i", "A=b"], ["nice", "-n", "5"], ["nice", "-n5"], ["timeout", "-s", "INT", "--foreground", "3"],
                                   ["stdbuf", "-oL"], ["nice", "timeout", "3", "env", "--"]], ids=" ".join)
def test_what_a_wrapper_starts(prelux, doctor, words):
    static = build(prelux, "static", EMPTY, "-static")
    assert doctor(*words, static)[-1][:2] == ("fail", f"{static} is statically linked: nothing can be preloaded into it")
    assert doctor(*words, "/bin/true")[-1][0] == "ok"


@pytest.mark.parametrize("word, text", [("sudo", "another user"), ("ssh", "elsewhere"), ("docker", "container"), ("srun", "elsewhere")])
def test_wrappers_that_lead_away(prelux, doctor, word, text):
    rows = doctor(word, "true")
    assert len(rows) == 1 and rows[0][0] == "warn" and text in rows[0][1] and "prelux" in rows[0][2]


def test_a_program_of_a_mapping(prelux, doctor):
    """Its file in the cache is looked at, once it is there."""
    shutil.copy(build(prelux, "static", EMPTY, "-static"), prelux.tmp / "data/prog")
    rows = doctor("/prelux-test/prog")
    assert [row[0] for row in rows] == ["info"] and "prefetch" in rows[0][2]
    prelux.cli("prefetch", "/prelux-test/prog")
    rows = doctor("/prelux-test/prog")
    assert [row[0] for row in rows] == ["info", "fail"] and "statically linked" in rows[1][1]
    assert "was not found" in doctor("/prelux-test-not/prog")[0][1]


def test_nothing_is_run(prelux, doctor):
    program = build(prelux, "runs", f'#include <stdio.h>\nint main(void) {{ fclose(fopen("{prelux.tmp}/ran", "w")); return 0; }}\n')
    assert doctor(program)[-1][0] == "ok" and not (prelux.tmp / "ran").exists()
