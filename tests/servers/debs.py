"""Packages of Debian and Ubuntu from the machine's own mirrors, unpacked into .cache/NAME and not installed.

  python3 -m tests.servers.debs --install [NAME...]        (each: some seconds; needs apt-get)

    promtool  what checks Prometheus' rules and metrics, and Prometheus itself
    i386      libc for 32-bit programs
    minbase   this machine's release of Debian, installed by debootstrap as root: for `make full` (a minute or two, 250 MB)
    bionic    Ubuntu 18.04 (glibc 2.27): a shell, tools and Python, enough to chroot into
    deep      a static busybox, ripgrep, liburing: programs for `run --deep`
    own       this machine's release: a shell and what the Debian package of prelux depends on, nothing else, enough to chroot into
    bullseye  Debian 11 (glibc 2.31), the same: where Ubuntu's mirror is out of reach

apt-get works in folders of its own there, so it needs no rights and leaves the machine's lists alone. Where Ubuntu's packages are is read
from Debian's package debootstrap. Debian 12 has no key of Ubuntu, so the list that all of theirs hang on must be the one known here.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .base import Installation, ServerError, fetch_by

CACHE = Path(__file__).resolve().parent / ".cache"
SECONDS = 300
DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
BIONIC_SHA256 = "690bd875ab5799394af7406f32f2e698c48e772ac367d520f74ec1095662da4d"
TOOLS = ["bash", "dash", "coreutils", "findutils", "grep", "tar", "sed", "libc-bin", "libselinux1", "libacl1", "libattr1", "zlib1g", "libexpat1",
         "libbz2-1.0", "liblzma5"]
# What `make deb` finds out that preluxd needs, on Debian 12 and Ubuntu 22.04; test_packages.py holds its Depends to this list.
NEEDS = ["libcjson1", "libcurl4", "libevent-core-2.1-7", "libevent-pthreads-2.1-7", "libexpat1", "libsqlite3-0", "libssl3", "libyaml-0-2", "libc6"]
SETS = {
    "own": (None, ["bash", "dash", "coreutils", "ca-certificates", *NEEDS], "usr/lib/x86_64-linux-gnu/libcurl.so.4"),
    "promtool": (None, ["prometheus"], "usr/bin/promtool"),
    "minbase": (None, ["debootstrap"], "usr/bin/apt-get"),
    "i386": (None, ["libc6-i386"], "lib32/libc.so.6"),
    "deep": (None, ["busybox-static", "ripgrep", "liburing2", "liburing-dev"], "usr/bin/rg"),
    "bionic": ("ubuntu", [*TOOLS, "libc6", "libpcre3", "libtinfo5", "libgcc1", "python3.6-minimal", "libpython3.6-minimal",
                          "libpython3.6-stdlib", "libssl1.1"], "usr/bin/python3.6"),
    "bullseye": ("debian", [*TOOLS, "libc6", "libpcre2-8-0", "libpcre3", "libgmp10", "libtinfo6", "libgcc-s1", "libcrypt1", "python3.9-minimal",
                            "libpython3.9-minimal", "libpython3.9-stdlib", "libssl1.1"], "usr/bin/python3.9"),
}


class Unpacked(Installation):
    def __init__(self, name):
        self.name, (self.maker, self.packages, program) = name, SETS[name]
        self.root = CACHE / name / "root"
        super().__init__(CACHE / name, " ".join(self.packages), self._fetch, self.root / program)

    def missing(self):
        """Why there is nothing, or None."""
        return None if self.installed() else f"{self.name} is not there (python3 -m tests.servers.debs --install {self.name})"

    def _fetch(self):
        options = self._other_release() if self.maker else []
        self._unpack(self._with_dependencies() if self.name == "own" else self.packages, self.root, options)

    def _with_dependencies(self):
        """All that apt would install where nothing is installed yet."""
        empty = self.folder / "status"
        empty.touch()
        argv = ["apt-get", "-o", f"Dir::State::status={empty}", "-s", "--no-install-recommends", "install", *self.packages]
        text = subprocess.run(argv, capture_output=True, text=True).stdout
        return re.findall(r"^Inst (\S+)", text, re.M) or self.packages

    def _unpack(self, packages, root, options=()):
        debs = self.folder / "debs"
        debs.mkdir(exist_ok=True)
        for old in debs.glob("*.deb"):
            old.unlink()
        fetch_by(["apt-get", *options, "download", *packages], self.folder / "download.log", SECONDS, cwd=debs)
        root.mkdir(exist_ok=True)
        for deb in sorted(debs.glob("*.deb")):
            fetch_by(["dpkg-deb", "-x", deb, root], self.folder / "unpack.log", SECONDS)
            deb.unlink()

    def _other_release(self):
        """apt's options for that release alone, after an update."""
        state = self.folder / "apt"
        for name in ("lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        mirror, how = (self._ubuntu(), "trusted=yes") if self.maker == "ubuntu" else (_debian(), f"signed-by={DEBIAN_KEYS}")
        (state / "sources.list").write_text(f"deb [arch=amd64 {how}] {mirror} {self.name} main\n")
        options = []
        for key, value in {"Dir::State": state, "Dir::State::lists": state / "lists", "Dir::State::status": state / "status",
                           "Dir::Cache": state / "cache", "Dir::Etc::SourceList": state / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
                           "APT::Architecture": "amd64", "APT::Architectures": "amd64", "Acquire::Languages": "none", "APT::Sandbox::User": "root",
                           "Acquire::Check-Valid-Until": "false", "Acquire::Retries": "2", "APT::Update::Error-Mode": "any"}.items():
            options += ["-o", f"{key}={value}"]
        fetch_by(["apt-get", *options, "update"], self.folder / "update.log", SECONDS)
        lists = list((state / "lists").glob("*Release"))
        if self.maker == "ubuntu" and [hashlib.sha256(one.read_bytes()).hexdigest() for one in lists] != [BIONIC_SHA256]:
            raise ServerError("what the mirror has is not Ubuntu 18.04 as it was released")
        return options

    def _ubuntu(self):
        about = self.folder / "about"
        self._unpack(["debootstrap"], about)
        found = re.search(r"default_mirror (http://archive\S+/ubuntu)", (about / "usr/share/debootstrap/scripts/gutsy").read_text())
        if not found:
            raise ServerError("debootstrap does not tell where Ubuntu's packages are")
        return found[1]


def _debian():
    text = subprocess.run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE) $(REPO_URI)"], capture_output=True, text=True).stdout
    found = re.search(r"^Debian \S+ (\S+?)/?$", text, re.M)
    if not found:
        raise ServerError("apt-get names no mirror of Debian")
    return found[1]


class Minbase(Unpacked):
    """This machine's release of Debian as `debootstrap --variant=minbase` makes it: installed, with apt. Needs root."""

    def _fetch(self):
        about = self.folder / "about"
        self._unpack(self.packages, about)
        codename = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.M)
        shutil.rmtree(self.root, ignore_errors=True)
        argv = ["sh", about / "usr/sbin/debootstrap", "--variant=minbase", codename[1] if codename else "stable", self.root, _debian()]
        fetch_by(argv, self.folder / "debootstrap.log", 3 * SECONDS, {**os.environ, "DEBOOTSTRAP_DIR": str(about / "usr/share/debootstrap")})


ALL = {name: (Minbase if name == "minbase" else Unpacked)(name) for name in SETS}
I386, BIONIC, BULLSEYE, OWN, MINBASE = (ALL[name] for name in ("i386", "bionic", "bullseye", "own", "minbase"))


def oldest():
    """The oldest release that is there, or None."""
    return next((one for one in (BIONIC, BULLSEYE) if one.installed()), None)


def install_oldest():
    try:
        BIONIC.install()
    except ServerError as error:
        print(error, file=sys.stderr)
        BULLSEYE.install()


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.debs", description="packages of Debian and Ubuntu for tests")
    parser.add_argument("--install", nargs="*", choices=sorted(SETS), metavar="NAME", required=True,
                        help="fetch these into the cache and leave; default: deep, i386, own, promtool, and bionic or else bullseye")
    names = parser.parse_args(argv).install
    for name in names or ["deep", "i386", "own", "promtool"]:
        ALL[name].install()
    if not names:
        install_oldest()
    return 0


if __name__ == "__main__":
    sys.exit(main())
