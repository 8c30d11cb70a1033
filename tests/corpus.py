#!/usr/bin/env python3
"""What programs ask of libc: the imports of ELF files, and the numbers they give to syscall().

  tests/corpus.py scan PATH...        prints a record of the files below the paths (tests/data/imports.tsv is one)
  tests/corpus.py record [--keep DIR] fetches the packages of tests/data/corpus.txt (apt-get download, pip download), scans them and
                                      what is installed, and writes tests/data/imports.tsv
  tests/corpus.py judge PATH...       names what calls.h, calls_left.h and libc_other.txt do not have; exit status 1 when that is something

A symbol is libc's when the file's version needs say so (libc.so.6 and what glibc 2.34 took into it); what libc keeps for its own
libraries (GLIBC_PRIVATE) is left out. Numbers are read from the code
around each call of syscall() (x86-64): the last constant that the register of the first argument got before. A call whose number is
not a constant there is counted as `syscall ?`: wrappers that take the number themselves (perl, Python's ctypes, ...).
"""

import mmap
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data"
LIBC = ("libc.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "ld-linux-x86-64.so.2")
INSTALLED = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local/bin", "/usr/local/lib")
PROGBITS, STRTAB, RELA, DYNSYM, VERNEED, VERSYM = 1, 3, 4, 11, 0x6ffffffe, 0x6fffffff
X86_64 = 62
CONSTANT = re.compile(rb"\xbf(?P<edi>..\x00\x00)|\x48\xc7\xc7(?P<rdi>..\x00\x00)|(?P<zero>[\x31\x33]\xff)", re.S)
LOOK_BACK = 64
HIGHEST = 600


class Elf:
    """A 64-bit file's sections, as far as they are needed here."""

    def __init__(self, data):
        self.data = data
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit ELF file")
        self.kind, self.machine = struct.unpack_from("<HH", data, 16)
        offset, = struct.unpack_from("<Q", data, 40)
        size, number, _ = struct.unpack_from("<HHH", data, 58)
        self.sections = []
        for index in range(number):
            row = struct.unpack_from("<IIQQQQIIQQ", data, offset + index * size)
            self.sections.append(dict(zip(("name", "type", "flags", "addr", "at", "size", "link", "info", "align", "entry"), row)))

    def of_type(self, kind):
        return [one for one in self.sections if one["type"] == kind]

    def body(self, section):
        return self.data[section["at"]:section["at"] + section["size"]]

    def string(self, section, offset):
        start = section["at"] + offset
        return self.data[start:self.data.find(b"\0", start)].decode("utf-8", "replace")

    def needs(self):
        """{index of a version: file it is needed of}"""
        found = {}
        for section in self.of_type(VERNEED):
            names, at = self.sections[section["link"]], section["at"]
            while True:
                _, count, file, aux, following = struct.unpack_from("<HHIII", self.data, at)
                one = at + aux
                for _ in range(count):
                    _, _, index, version, step = struct.unpack_from("<IHHII", self.data, one)
                    if self.string(names, version) != "GLIBC_PRIVATE":
                        found[index & 0x7fff] = self.string(names, file)
                    one += step
                if not following:
                    break
                at += following
        return found

    def imports(self):
        """[(number of the symbol, its name)] of what is libc's."""
        tables, versions = self.of_type(DYNSYM), self.of_type(VERSYM)
        if not tables or not versions:
            return []
        needs, table, body = self.needs(), tables[0], self.body(tables[0])
        version = self.body(versions[0])
        names, found = self.sections[table["link"]], []
        for index in range(1, len(body) // 24):
            name, _, _, section = struct.unpack_from("<IBBH", body, index * 24)
            if section == 0 and needs.get(struct.unpack_from("<H", version, index * 2)[0] & 0x7fff) in LIBC:
                found.append((index, self.string(names, name)))
        return found

    def slots(self, symbol):
        """Where the loader puts the address of that symbol."""
        return {struct.unpack_from("<Q", body, at)[0] for body in map(self.body, self.of_type(RELA)) for at in range(0, len(body) - 23, 24)
                if struct.unpack_from("<Q", body, at + 8)[0] >> 32 == symbol}

    def code(self):
        return [(one["addr"], self.body(one)) for one in self.of_type(PROGBITS) if one["flags"] & 4]


def relative(code, base, at):
    """The address that the four bytes at `at`, the last of an instruction, name."""
    return base + at + 4 + struct.unpack_from("<i", code, at)[0]


def places(code, lead):
    at = code.find(lead)
    while 0 <= at <= len(code) - len(lead) - 4:
        yield at
        at = code.find(lead, at + 1)


def syscall_numbers(elf, symbol):
    """The numbers of all calls, direct (through the GOT) and by a stub of the PLT; None for one that is no constant."""
    slots, texts = elf.slots(symbol), elf.code()
    stubs = {base + at for base, code in texts for at in places(code, b"\xff\x25") if relative(code, base, at + 2) in slots}
    stubs |= {stub - back for stub in stubs for back in (1, 4, 5)}  # endbr64 and bnd before the jump
    found = []
    for base, code in texts:
        calls = [at for lead in (b"\xe8", b"\xe9") for at in places(code, lead) if relative(code, base, at + 1) in stubs]
        calls += [at for at in places(code, b"\xff\x15") if relative(code, base, at + 2) in slots]
        for at in calls:
            last = None
            for match in CONSTANT.finditer(code, max(0, at - LOOK_BACK), at):
                number = 0 if match["zero"] else struct.unpack("<I", match["edi"] or match["rdi"])[0]
                last = number if number < HIGHEST else last
            found.append(last)
    return found


def elf_files(roots):
    seen = set()
    for root in roots:
        walk = os.walk(root) if os.path.isdir(root) else [(os.path.dirname(root), [], [os.path.basename(root)])]
        for folder, _, names in walk:
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.lstat(path)
                    if status.st_mode & 0o170000 != 0o100000 or status.st_size < 64 or (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                    with open(path, "rb") as file:
                        head = file.read(20)
                        if head[:6] == b"\x7fELF\x02\x01" and head[16] in (2, 3) and head[18] == X86_64:
                            yield path, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                except OSError:
                    continue


def number_names():
    text = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def scan(roots, names, numbers=True):
    """Counter of files by "name" and by "syscall NAME", and how many files have imports."""
    found, files = Counter(), 0
    for path, data in elf_files(roots):
        try:
            elf = Elf(data)
            imports = elf.imports()
        except (ValueError, struct.error, IndexError, UnicodeDecodeError):
            continue  # cut or strange: not a program that could run
        files += bool(imports)
        found.update({name for _, name in imports})
        for index, name in imports:
            if name == "syscall" and numbers:
                calls = syscall_numbers(elf, index)
                found.update({f"syscall {names.get(one, one) if one is not None else '?'}" for one in calls or [None]})
        data.close()
    return found, files


# The lists

def judged():
    """What the library intercepts or leaves: (symbols, numbers)."""
    calls = "".join((ROOT / "shim" / name).read_text() for name in ("calls.h", "calls_extra.h", "calls_left.h", "sys.c"))
    numbers = re.findall(r"^  X\((\w+), ", calls, re.M) + re.findall(r"^LEFT_NUMBER\((\w+),", calls, re.M)
    return set(re.findall(r"^(?:CALL\(\w+, |LEFT\()(\w+),", calls, re.M)), {f"syscall {name}" for name in numbers}


def other():
    """What deals in no files."""
    return {line for line in (DATA / "libc_other.txt").read_text().splitlines() if line and not line.startswith("#")}


def listed():
    return set.union(*judged(), other(), {"syscall ?"})


def record_of():
    rows = [line.split("\t") for line in (DATA / "imports.tsv").read_text().splitlines() if not line.startswith("#")]
    return {name: int(files) for name, files in rows}


def write(found, files, out):
    print(f"# files\t{files}", file=out)
    for name, count in sorted(found.items(), key=lambda row: (-row[1], row[0])):
        print(f"{name}\t{count}", file=out)


def fetch(folder):
    """Downloads and unpacks the packages of corpus.txt below the folder."""
    lines = [line.split() for line in (DATA / "corpus.txt").read_text().splitlines() if line and not line.startswith("#")]
    debian = [name for kind, *names in lines if kind == "debian" for name in names]
    python = [name for kind, *names in lines if kind == "pypi" for name in names]
    subprocess.run(["apt-get", "download", *debian], cwd=folder, check=True)
    for name in python:
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", folder, name], check=True)
    for path in sorted(Path(folder).glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", path, Path(folder) / "root" / path.stem], check=True)
        path.unlink()
    for path in sorted(Path(folder).glob("*.whl")):
        subprocess.run([sys.executable, "-m", "zipfile", "-e", path, Path(folder) / "root" / path.stem], check=True)
        path.unlink()


def main(verb, *words):
    if verb == "scan":
        write(*scan(words, number_names()), sys.stdout)
    elif verb == "judge":
        missing = sorted(set(scan(words, number_names())[0]) - listed())
        print("\n".join(missing))
        return bool(missing)
    elif verb == "record":
        keep = words[1] if words[:1] == ("--keep",) else None
        with tempfile.TemporaryDirectory(prefix="prelux-corpus-") as own:
            folder = keep or own
            fetch(folder)
            found = scan((folder, *INSTALLED), number_names())
        with open(DATA / "imports.tsv", "w") as out:
            write(*found, out)
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["help"])))
