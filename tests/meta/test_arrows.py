"""Arrows of DESIGN section 3: who may include whom, and which products link what."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.harness import BUILD, ROOT

# Folder -> folders of the tree that its files may include, besides itself and include/prelux.
ALLOWED = {
    "include/prelux": set(),
    "lib/base": set(),
    "lib/conf": {"lib/base"},
    "lib/map": {"lib/base"},
    "lib/index": {"lib/base"},
    "lib/ipc": {"lib/base"},
    "lib/net": {"lib/base"},
    "lib/store": {"lib/base", "lib/index", "lib/backend"},  # of lib/backend the contract only, see STORE_ONLY
    "lib/backend": {"lib/base", "lib/net", "lib/conf"},
    "daemon": {"lib/base", "lib/conf", "lib/map", "lib/index", "lib/ipc", "lib/net", "lib/store", "lib/backend"},
    "cli": {"lib/base", "lib/conf", "lib/map", "lib/ipc", "deep"},
    "deep": {"lib/base"},
    "shim": {"lib/base", "lib/map", "lib/index", "lib/ipc", "deep"},  # of deep its header of numbers only
}
STORE_ONLY = {"lib/backend/backend.h"}
SHIM_ONLY = {"lib/map/match.h", "lib/map/prefixes.h", "lib/index/reader.h", "lib/index/names.h", "lib/index/listing.h"}
# System header -> folders that may include it.
LIBRARIES = {
    "curl/": {"lib/net"},
    "yaml.h": {"lib/conf"},
    "sqlite3.h": {"lib/store"},
    "event2/": {"daemon"},
    "expat.h": {"lib/backend"},
    "openssl/": {"daemon", "lib/store", "lib/backend", "lib/net"},
    "cjson/": {"lib/backend", "daemon", "cli"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
SOURCES = sorted(path for folder in ("include", "lib", "daemon", "cli", "deep", "shim") for path in (ROOT / folder).rglob("*.[ch]"))


def folder_of(name):
    return next((folder for folder in sorted(ALLOWED, key=len, reverse=True) if name.startswith(folder + "/")), None)


def includes(path):
    """(own headers, system headers) of a file."""
    pairs = INCLUDE.findall(path.read_text())
    return [own for own, _ in pairs if own], [system for _, system in pairs if system]


def complaints():
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        here = folder_of(name)
        own, system = includes(path)
        for header in own:
            there = folder_of(header)
            if not (ROOT / header).is_file():
                yield f"{name} includes {header}, which is not a path from the root of the tree"
            elif there not in ALLOWED[here] | {here, "include/prelux"}:
                yield f"{name} includes {header}: {here} may not use {there}"
            elif here == "lib/store" and there == "lib/backend" and header not in STORE_ONLY:
                yield f"{name} includes {header}: the store knows the contract of backends only"
            elif here == "shim" and there in ("lib/map", "lib/index") and header not in SHIM_ONLY:
                yield f"{name} includes {header}: the library uses {', '.join(sorted(SHIM_ONLY))} only"
        for header in system:
            for prefix, folders in LIBRARIES.items():
                if header.startswith(prefix) and here not in folders:
                    yield f"{name} includes <{header}>: only {', '.join(sorted(folders))} may"


def test_include_arrows():
    assert not list(complaints())


def test_every_folder_is_known():
    folders = {str(path.parent.relative_to(ROOT)) for path in SOURCES}
    assert folders <= set(ALLOWED), f"give {sorted(folders - set(ALLOWED))} a place in ALLOWED"


def test_files_shared_with_the_library_stay_small():
    """What runs inside other people's processes may include no library and none of the replaceable OS calls."""
    listed = re.search(r"^SHIM_LIB := (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.M | re.S).group(1)
    for name in re.findall(r"lib/\S+\.c", listed):
        own, system = includes(ROOT / name)
        assert "lib/base/os.h" not in own and "lib/base/log.h" not in own, name
        assert not [header for header in system if header.startswith(tuple(LIBRARIES))], name


def needed(product):
    path = BUILD / product
    if not path.exists():
        pytest.skip(f"{path} is not built")
    text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"NEEDED.*\[(.*?)\]", text))


def test_library_needs_libc_only():
    assert needed("libprelux.so") <= {"libc.so.6", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def test_only_the_daemon_links_network_and_database():
    heavy = ("libcurl", "libsqlite3", "libcrypto", "libssl", "libevent", "libexpat")
    assert not [name for name in needed("prelux") if name.startswith(heavy)]
    assert [name for name in needed("preluxd") if name.startswith("libcurl")]


def test_library_needs_no_new_libc():
    path = BUILD / "libprelux.so"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    text = subprocess.run(["objdump", "-T", path], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"\*UND\*.*GLIBC_([0-9.]+)", text)}
    assert versions and max(versions) <= (2, 28), sorted(versions)


def test_the_library_exports_its_calls_only():
    """Every exported name is a row of calls.h, and every row is exported: see also test_symbols.py."""
    path = BUILD / "libprelux.so"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    rows = set()
    for name in ("calls.h", "calls_extra.h"):
        rows |= set(re.findall(r"^\s*CALL\(\w+,\s*(\w+)", (ROOT / "shim" / name).read_text(), re.M))
    text = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1].partition("@")[0] for line in text.splitlines()}
    assert exported - rows <= {"LIBPRELUX", "PRELUX"}, sorted(exported - rows)
    assert rows - exported == set()
