"""AlluxioStandin: a cluster of stand-in workers with a real etcd, used like the servers of tests/servers.

  with AlluxioStandin(ufs, workers=2) as cluster:
      cluster.etcd.endpoint, cluster.root, cluster.s3_port, cluster.workers[0].http_port
      cluster.owner("/b/file")            # 0 or 1: which worker
      cluster.kill(0); cluster.restart(0)
      cluster.requests(kind="get")        # what came, with ranges

It is NOT Alluxio.  What it does was seen on Alluxio 313; test_replay.py holds it to the recording.
"""

import json
import os
import shutil
import signal
import socket
import sys
import uuid
from collections import namedtuple
from pathlib import Path

from tests.servers.base import LOOPBACK, Server, ServerError, free_port, wait_for
from tests.servers.etcd import Etcd

from . import peers
from .ring import Ring
from .text import file_id, normal_path

ROOT = Path(__file__).resolve().parents[2]
Request = namedtuple("Request", "worker port kind method target status range connection time bytes page spent")


class WorkerPlace:
    """Where one worker is: .host, .http_port, .s3_port, .rpc_port, .identity (bytes), .process."""

    def __init__(self, index, identity):
        self.index, self.host, self.identity = index, f"127.0.0.{index + 1}", identity
        self.http_port = self.s3_port = self.rpc_port = None
        self.settings = {}
        self.process = None

    @property
    def http(self):
        return f"http://{self.host}:{self.http_port}"

    @property
    def s3(self):
        return f"http://{self.host}:{self.s3_port}"


class AlluxioStandin(Server):
    """ufs: local folder with the data (default FOLDER/ufs).  root: its name for Alluxio (default file://UFS).
    sync_interval: alluxio.user.file.metadata.sync.interval in seconds; 0: always fresh; -1, Alluxio's default: stale for ever.
    timeout: seconds until a dead worker's key goes.  linger: seconds for which S3 ports know a dead worker beyond that.
    range_limit: a longer S3 range poisons the worker.  put_limit: a longer PUT hangs its S3 port.
    etcd: a running Etcd; without one this starts its own (etcd_auth, etcd_tls, etcd_certs).  master: load jobs work.
    faults: {name: value} of tests.standin.worker.FAULTS for all workers.  identities: UUIDs.
    """

    name = "stand-in"
    start_seconds = 120.0

    def __init__(self, ufs=None, folder=None, root=None, workers=2, page_size=1 << 20, virtual_nodes=5, sync_interval=-1, timeout=5,
                 linger=28.0, range_limit=256 << 20, put_limit=128 << 20, etcd=None, etcd_auth=None, etcd_tls=False, etcd_certs=False,
                 cluster="DefaultAlluxioCluster", master=True, no_s3=False, faults=None, identities=None):
        super().__init__(folder)
        self.ufs = Path(ufs).absolute() if ufs else self.folder / "ufs"
        self.ufs.mkdir(parents=True, exist_ok=True)
        self.root = root or f"file://{self.ufs}"
        self.page_size, self.virtual_nodes, self.cluster = page_size, virtual_nodes, cluster
        self.options = {"sync_interval": sync_interval, "ttl": timeout, "linger": linger, "range_limit": range_limit,
                        "put_limit": put_limit, "no_s3": no_s3, "faults": dict(faults or {})}
        identities = [bytes.fromhex(text.replace("-", "")) for text in identities or ()]
        self.workers = [WorkerPlace(number, identities[number] if identities else uuid.uuid4().bytes) for number in range(workers)]
        self._own_etcd = etcd is None
        self.etcd = etcd or Etcd(self.folder / "etcd", auth=etcd_auth, tls=etcd_tls, client_certs=etcd_certs)
        self.with_master, self.master_port = master, None
        self._forgotten = 0

    @classmethod
    def missing(cls):
        return Etcd.missing()

    # Starting

    def start(self):
        if self.missing():
            raise ServerError(self.missing())
        if self._own_etcd and not self.etcd.alive():
            self.etcd.start()
        try:
            return super().start()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self._end_processes()
        if self._own_etcd:
            self.etcd.stop()
            shutil.rmtree(self.etcd.folder / "data", ignore_errors=True)  # 64 MB of it each, and a file of tests may start fifty
        super().stop()

    def configure(self):
        hosts = [place.host for place in self.workers]
        s3_port, rpc_port = _port(hosts), _port(hosts)
        self.master_port = _port(hosts) if self.with_master else None
        for place in self.workers:
            place.http_port, place.s3_port, place.rpc_port = _port(hosts), s3_port, rpc_port

    def commands(self):
        rows = [self._worker_command(place) for place in self.workers]
        return rows + ([self._master_command()] if self.with_master else [])

    def _common(self):
        return {"root": self.root, "ufs": str(self.ufs), "virtual_nodes": self.virtual_nodes, "cluster": self.cluster,
                "etcd": self.etcd.url, "etcd_auth": self.etcd.auth, "etcd_ca": str(self.etcd.ca_file) if self.etcd.tls else None,
                "etcd_client": str(self.etcd.client_file) if self.etcd.client_certs else None}

    def _worker_command(self, place):
        name = f"worker{place.index}"
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        # A real one listens on all addresses, whatever its host; here, on all of this cluster's.
        config = {**self._common(), **self.options, "host": place.host, "http_port": place.http_port, "s3_port": place.s3_port,
                  "rpc_port": place.rpc_port, "identity": place.identity.hex(), "folder": str(folder), "page_size": self.page_size,
                  "http_hosts": sorted({LOOPBACK, place.host}), "requests": str(self.folder / "requests" / f"{place.index}.jsonl"),
                  "master": (LOOPBACK, self.master_port) if self.with_master else None, **place.settings}
        (self.folder / "requests").mkdir(exist_ok=True)
        return (name, *self._program("worker", name, config))

    def _master_command(self):
        return ("master", *self._program("master", "master", {**self._common(), "host": LOOPBACK, "port": self.master_port,
                                                               "start_delay": 0.2, "file_delay": 0.0}))

    def _program(self, module, name, config):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        if sys.pycache_prefix:  # of a run of all tests: outside the tree, so byte code may be written, and is there the next time
            return [sys.executable, "-X", f"pycache_prefix={sys.pycache_prefix}", "-m", f"tests.standin.{module}", path], env
        return [sys.executable, "-B", "-m", f"tests.standin.{module}", path], env

    def start_process(self, name, argv, env=None):
        process = super().start_process(name, argv, env)
        if name.startswith("worker"):
            self.workers[int(name[6:])].process = process
        return process

    def ready(self):
        """Every worker sees every worker."""
        return all(len(self.state(place.index)["members"]) >= len(self.workers) for place in self.workers)

    # Where things are

    @property
    def url(self):
        return self.workers[0].http

    @property
    def s3_port(self):
        return self.workers[0].s3_port

    def uri(self, path):
        """Full name of a path below the root, as Alluxio has it."""
        return self.root.rstrip("/") + normal_path(path)

    def file_id(self, path):
        return file_id(self.uri(path))

    def owners(self, path, alive=True):
        """Numbers of the workers, best first."""
        places = [place for place in self.workers if not alive or place.process]
        ring = Ring({place.index: (place.identity, 1) for place in places}, self.virtual_nodes)
        return ring.owners(self.uri(path), len(places))

    def owner(self, path):
        return self.owners(path)[0]

    # Dying and coming back

    def kill(self, index):
        """SIGKILL: its key in etcd goes `timeout` seconds later."""
        place = self.workers[index]
        place.process.kill()
        self.processes.remove(place.process)
        place.process = None

    def restart(self, index, empty=False, http_port=None, wait=True, **settings):
        """After kill(): with its pages and metadata, or with an empty cache; on another HTTP port; settings as of the constructor
        or of one worker (page_size=..., faults={...})."""
        place = self.workers[index]
        if empty:
            shutil.rmtree(self.folder / f"worker{index}", ignore_errors=True)
        place.http_port = http_port or place.http_port
        place.settings.update(settings)
        self.start_process(*self._worker_command(place))
        if wait:
            wait_for(lambda: self._probe_one(index), self.start_seconds, f"stand-in worker {index} answers again")

    def _probe_one(self, index):
        try:
            return any(name.endswith(str(uuid.UUID(bytes=self.workers[index].identity))) for name in self.state(index)["members"])
        except OSError:
            if not self.workers[index].process.alive():
                raise ServerError(self.log_tail().decode(errors="replace")) from None
            return False

    def freeze(self, index):
        """SIGSTOP: connections are accepted by the kernel and nothing is answered; its key goes, too."""
        self.workers[index].process.signal(signal.SIGSTOP)

    def thaw(self, index):
        self.workers[index].process.signal(signal.SIGCONT)

    def wait_members(self, count, seconds=30.0):
        """Until etcd has so many live workers."""
        prefix = f"/ServiceDiscovery/{self.cluster}/"
        wait_for(lambda: len(self.etcd.below(prefix)) == count, seconds, f"{count} workers in etcd")

    # Telling and asking

    def tell(self, index, message):
        place = self.workers[index]
        return peers.ask(place.host, place.rpc_port, message)["answer"]

    def state(self, index):
        """members, pages {file id: {number: length}}, faults, loads (of pages), ufs_bytes."""
        return self.tell(index, {"op": "state"})

    def fault(self, index=None, **faults):
        """Faults of one worker or all, by name: see tests.standin.worker.FAULTS."""
        for place in self.workers if index is None else [self.workers[index]]:
            if place.process:
                self.tell(place.index, {"op": "faults", "faults": faults})

    def drop_pages(self, path=None):
        """Evict the pages of one path, or all."""
        for place in self.workers:
            if place.process:
                self.tell(place.index, {"op": "drop", "rel": path})

    def pages(self, path):
        """{number: length} of what the path's owner has."""
        rows = self.state(self.owner(path))["pages"].get(self.file_id(path), {})
        return {int(number): length for number, length in rows.items()}

    def load_delays(self, start=0.2, file=0.0):
        """Seconds until a load job has listed, and for each file."""
        peers.ask(LOOPBACK, self.master_port, {"op": "delays", "start": start, "file": file})

    def requests(self, worker=None, port=None, kind=None):
        """Requests since start() or forget_requests(), by time: kinds are info files page put-page load health closed too-large of
        port http, and get head list redirect put copy delete error of port s3."""
        rows = [row for row in self._all_requests()[self._forgotten:]]
        return [row for row in rows if worker in (None, row.worker) and port in (None, row.port) and kind in (None, row.kind)]

    def forget_requests(self):
        self._forgotten = len(self._all_requests())

    def _all_requests(self):
        rows = []
        for place in self.workers:
            path = self.folder / "requests" / f"{place.index}.jsonl"
            lines = path.read_bytes().rpartition(b"\n")[0].split(b"\n") if path.exists() else []
            empty = {"bytes": 0, "page": None, "spent": False}
            rows += [Request(worker=place.index, **{**empty, **json.loads(line)}) for line in lines if line]
        return sorted(rows, key=lambda row: row.time)


def _port(hosts):
    """A port that is free on all of the hosts."""
    for _ in range(50):
        port = free_port()
        try:
            for host in hosts:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
            return port
        except OSError:
            continue
    raise ServerError("no port that is free on " + ", ".join(hosts))
