"""A real Alluxio 2.9 (master, worker, proxy) from its published Maven artifacts.

Why 2.9 and its proxy: no registry has an Alluxio 3.x worker; the proxy's REST interface is the same in both.
The under store is a local folder (`ufs`), so that a test puts files there and reads them through Alluxio, or the reverse.

  python3 -m tests.servers.alluxio29 --install      fetch into .cache/alluxio29 (needs mvn, JDK 11 or later)
  python3 -m tests.servers.alluxio29 --run DIR      serve DIR, print the proxy's address, until ctrl-C

What surprises (seen with 2.9.6):
- Metadata is loaded once: a folder that was listed does not show what is put into the under store later, and changed or
  removed files stay as they were, unless `sync_interval="0"` (look again at each request).  A new name is found when it
  is asked for itself.
- Names with "?" or "\\" in the under store are silently left out of listings, and cannot be asked for.  One name that is not
  UTF-8 makes the listing of its folder 200 with few or none of the other names: keep such names out of `ufs`.
- download-file knows no Range; above 32 KiB it is chunked; a HEAD of it says Content-Length: 0.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .base import LOOPBACK, Installation, Server, ServerError, fetch_by, free_port, port_open, run_by_hand

VERSION = "2.9.6"
ARTIFACTS = ("alluxio-core-server-master", "alluxio-core-server-worker", "alluxio-core-server-proxy",
             "alluxio-core-server-common", "alluxio-underfs-local")
# Hadoop is for other under stores (140 jars).  Of two SLF4J bindings the order of the folder would choose one.
EXCLUDED = (("org.apache.hadoop", "*"), ("org.alluxio", "alluxio-core-client-hdfs"),
            ("org.apache.logging.log4j", "log4j-slf4j-impl"), ("org.apache.logging.log4j", "log4j-core"))
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
INSTALL_SECONDS = 900
RUNNING = "PRELUX_TEST_ALLUXIO29"  # environment: where the one is that a run of all tests has started for them
CACHE = Path(__file__).resolve().parent / ".cache" / "alluxio29"
MAIN_CLASSES = {"master": "alluxio.master.AlluxioMaster", "worker": "alluxio.worker.AlluxioWorker",
                "proxy": "alluxio.proxy.AlluxioProxy"}
OPENED_PACKAGES = ("java.nio", "sun.nio.ch", "java.lang", "java.util")
LOG4J = """log4j.rootLogger=WARN, err
log4j.appender.err=org.apache.log4j.ConsoleAppender
log4j.appender.err.target=System.err
log4j.appender.err.layout=org.apache.log4j.PatternLayout
log4j.appender.err.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n
"""


def _pom():
    out = "".join(f"<exclusion><groupId>{group}</groupId><artifactId>{name}</artifactId></exclusion>"
                  for group, name in EXCLUDED)
    rows = "\n".join(f"    <dependency><groupId>org.alluxio</groupId><artifactId>{name}</artifactId>"
                     f"<version>{VERSION}</version><exclusions>{out}</exclusions></dependency>" for name in ARTIFACTS)
    return f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>prelux.tests</groupId><artifactId>alluxio29</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{rows}
  </dependencies>
</project>
"""


def _fetch():
    """The jars.  Maven's own store is kept inside the cache until the end, so a broken download goes on
    where it stopped, and is removed then: it is a second copy of everything."""
    if not shutil.which("mvn"):
        raise ServerError("mvn is not installed (Debian: apt-get install maven)")
    (CACHE / "pom.xml").write_text(_pom())
    store, lib = CACHE / "m2", CACHE / "lib"
    shutil.rmtree(lib, ignore_errors=True)
    argv = ["mvn", "-B", "-q", "-C", "-f", CACHE / "pom.xml", f"-Dmaven.repo.local={store}", COPY_GOAL,
            "-DincludeScope=runtime", f"-DoutputDirectory={lib}"]
    fetch_by(argv, CACHE / "install.log", INSTALL_SECONDS)
    shutil.rmtree(store, ignore_errors=True)


PACKAGE = Installation(CACHE, VERSION, _fetch)


class Alluxio29(Server):
    """ufs: the under store's root, a local folder (made when missing; default FOLDER/ufs).
    properties: more Alluxio properties, or other values.  heap_mb: heaps of master, worker and proxy.
    sync_interval: alluxio.user.file.metadata.sync.interval; "-1" is Alluxio's own default.
    """

    name = "alluxio29"
    start_seconds = 80.0
    start_tries = 2  # its processes were up once, and its worker never counted, for two minutes
    stop_signal = signal.SIGKILL  # an orderly worker waits seconds for its master; nothing of theirs is kept

    def __init__(self, folder=None, ufs=None, properties=None, sync_interval="-1", heap_mb=(128, 128, 96)):
        super().__init__(folder)
        self.ufs = Path(ufs).absolute() if ufs else self.folder / "ufs"
        self.ufs.mkdir(parents=True, exist_ok=True)
        self.extra = dict(properties or {})
        self.sync_interval = sync_interval
        self.heap = dict(zip(MAIN_CLASSES, heap_mb))
        self.ports = {}

    @classmethod
    def missing(cls):
        if not shutil.which("java"):
            return "java is not installed (Debian: apt-get install default-jdk-headless)"
        if not PACKAGE.installed():
            return "Alluxio 2.9 is not installed (python3 -m tests.servers.alluxio29 --install)"
        return None

    @property
    def url(self):
        """Of the proxy: requests go to URL/api/v1/paths//NAME/get-status and so on."""
        return f"http://{LOOPBACK}:{self.ports['proxy.web']}"

    @property
    def master(self):
        """host:port of the master's RPC, for Alluxio clients."""
        return f"{LOOPBACK}:{self.ports['master.rpc']}"

    @classmethod
    def for_all(cls):
        """Started for all files of tests, which would take 15 s of a processor each for one of their own; they find it by the environment. It has to live
        with what they leave open."""
        gib = {key: "1GB" for key in ("alluxio.worker.ramdisk.size", "alluxio.worker.tieredstore.level0.dirs.quota")}
        one = cls(properties=gib, heap_mb=(256, 192, 512)).start()
        os.environ[RUNNING] = json.dumps({"folder": str(one.folder), "ufs": str(one.ufs), "ports": one.ports})
        cls.kept = one  # it ends with this process

    @classmethod
    def running(cls):
        """The one that runs for all, or None. Whoever uses it uses names of its own."""
        if RUNNING not in os.environ:
            return None
        there = json.loads(os.environ[RUNNING])
        one = cls(folder=there["folder"], ufs=there["ufs"])
        one.ports = there["ports"]
        return one if one._probe() else None

    def configure(self):
        names = ("master.rpc", "master.web", "master.embedded.journal", "worker.rpc", "worker.web", "worker.data", "proxy.web")
        chosen = set()
        while len(chosen) < len(names):
            chosen.add(free_port())
        self.ports = dict(zip(names, chosen))
        for sub in ("conf", "ramdisk", "logs"):
            shutil.rmtree(self.folder / sub, ignore_errors=True)  # blocks of an earlier run are unknown to a new master
            (self.folder / sub).mkdir()
        lines = [f"{key}={_escape(value)}\n" for key, value in self.properties().items()]
        (self.folder / "conf" / "alluxio-site.properties").write_text("".join(lines))
        (self.folder / "conf" / "log4j.properties").write_text(LOG4J)

    def properties(self):
        """The site properties, `properties` of the constructor last."""
        folder, heads = str(self.folder), {}
        for key, port in self.ports.items():
            heads[f"alluxio.{key}.port"] = port
        for key in ("master", "master.web", "worker", "worker.web", "worker.data", "proxy.web"):
            heads[f"alluxio.{key}.bind.host"] = LOOPBACK
        for key in ("master", "worker", "proxy", "user"):
            heads[f"alluxio.{key}.hostname"] = LOOPBACK
        return {
            **heads,
            "alluxio.security.authentication.type": "NOSASL",
            "alluxio.security.authorization.permission.enabled": "false",
            "alluxio.user.file.writetype.default": "CACHE_THROUGH",
            "alluxio.user.file.metadata.sync.interval": self.sync_interval,
            "alluxio.user.metrics.collection.enabled": "false",
            "alluxio.master.journal.type": "NOOP", "alluxio.master.metastore": "HEAP",
            "alluxio.master.mount.table.root.ufs": str(self.ufs),
            "alluxio.master.update.check.enabled": "false",  # a test server calls nobody
            "alluxio.master.worker.connect.wait.time": "200ms",  # safe mode: 5 s for nothing with one worker
            "alluxio.worker.ramdisk.size": "256MB",
            "alluxio.worker.tieredstore.level0.alias": "MEM",
            "alluxio.worker.tieredstore.level0.dirs.path": f"{folder}/ramdisk",
            "alluxio.worker.tieredstore.level0.dirs.quota": "256MB",
            # The S3 servlet of 2.9 would answer every REST request with 200 and an empty body.
            "alluxio.proxy.s3.v2.version.enabled": "false",
            **self.extra,
        }

    def commands(self):
        # A JVM reads file names by the locale; the tests' own environment must not decide, nor reach Alluxio's settings.
        env = {key: os.environ[key] for key in ("PATH", "HOME", "JAVA_HOME") if key in os.environ}
        env["LC_ALL"] = "C.UTF-8"
        return [(role, self._java(role), env) for role in MAIN_CLASSES]

    def _java(self, role):
        opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED_PACKAGES]
        conf = self.folder / "conf"
        # Refused in the site file: they say where that file is.
        folders = {"home": self.folder, "work.dir": self.folder, "logs.dir": self.folder / "logs",
                   "conf.dir": conf, "site.conf.dir": conf}
        return ["java", f"-Xmx{self.heap[role]}m", "-Xms16m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *opens,
                *(f"-Dalluxio.{key}={value}" for key, value in folders.items()),
                "-Dalluxio.logger.type=err", f"-Dlog4j.configuration=file:{conf}/log4j.properties",
                "-cp", f"{CACHE}/lib/*", MAIN_CLASSES[role]]

    def ready(self):
        for key in ("master.rpc", "worker.rpc", "proxy.web", "master.web"):
            if not port_open(self.ports[key]):
                return False
        return self.workers() == 1 and self.request("POST", "/", "exists")[0] == 200

    def workers(self):
        """How many workers the master counts."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.ports['master.web']}/metrics/json/", timeout=5) as answer:
            gauges = json.load(answer)["gauges"]
        return gauges.get("Cluster.Workers", {}).get("value", 0)

    def request(self, method, path, action, options=None, query=""):
        """One REST call on an Alluxio path ("/dir/file", str or bytes): (status, head fields, body bytes).

        The path is percent-encoded byte by byte."""
        url = f"{self.url}/api/v1/paths/{urllib.parse.quote(path)}/{action}{query}"
        body = None if method == "GET" else json.dumps(options or {}).encode()
        return self._ask(urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method))

    def stream(self, number, op, data=None):
        """read, write (`data`) or close of a stream: as request()."""
        kind = "application/json" if data is None else "application/octet-stream"
        url = f"{self.url}/api/v1/streams/{number}/{op}"
        return self._ask(urllib.request.Request(url, data, {"Content-Type": kind}, method="POST"))

    def _ask(self, request):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()


def _escape(value):
    """Java property files: a backslash starts an escape, and they are read as Latin-1."""
    text = str(value).replace("\\", "\\\\")
    return "".join(char if ord(char) < 128 else f"\\u{ord(char):04x}" for char in text)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.alluxio29", description="Alluxio 2.9 for tests")
    parser.add_argument("--install", action="store_true", help="fetch the jars into the cache and leave")
    parser.add_argument("--run", metavar="DIR", help="serve DIR as the root under store")
    args = parser.parse_args(argv)
    if not args.install and not args.run:
        parser.error("--install or --run DIR")
    PACKAGE.install()
    if not args.run:
        return 0
    return run_by_hand(Alluxio29(ufs=args.run), lambda server: f"{server.url}\nmaster {server.master}, logs in {server.folder}")


if __name__ == "__main__":
    sys.exit(main())
