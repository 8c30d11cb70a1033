"""One stand-in worker, a process of its own: python3 -m tests.standin.worker CONFIG.json (cluster.py writes that file).

Three ports: HTTP and S3 as on a real worker, and `rpc` for its peers, its master and the tests (peers.py)."""

import asyncio
import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from .http_port import HttpPort
from .membership import Gateway, Membership, value
from .peers import Peers, Unavailable, serve
from .s3_port import S3Port
from .store import Metadata, PageStore, Status, UnderStore
from .text import file_id
from .wire import HEAD_LIMIT, Counter

FAULTS = {
    "slow": 0.0,           # seconds before each answer
    "rate": 0,             # bytes a second of each body, 0: no limit
    "dead": False,         # closes every connection without an answer
    "hung": False,         # accepts and never answers
    "poisoned": False,     # uncached pages: the right head and no bytes
    "s3_hung": False,      # the S3 port alone is hung
    "redirect_to": None,   # host named in redirects instead of the owner
    "put_cut": 0,          # so many PUTs end after half of their bytes, which stay, without an answer
    "delete_idle": 0,      # so many DELETEs are answered and not done
    "put_garbled": 0,      # so many PUTs arrive with a byte changed
    "put_refused": 0,      # so many PUTs are 403, without a look at them
    "s3_shut": False,      # the S3 port takes no connection
    "put_lost": 0,         # so many PUTs are taken and forgotten, without an answer
    "put_mute": 0,         # so many PUTs and DELETEs are done and have no answer
    "old_listings": False, # what is changed through the cluster does not end what is kept of listings
}


class Worker:
    def __init__(self, config):
        self.host, self.http_port, self.s3_port, self.rpc_port = (config[key] for key in ("host", "http_port", "s3_port", "rpc_port"))
        self.http_hosts, self.no_s3 = config["http_hosts"], config["no_s3"]
        self.range_limit, self.put_limit, self.master = config["range_limit"], config["put_limit"], config["master"]
        folder = Path(config["folder"])
        self.under = UnderStore(config["root"], config["ufs"])
        self.pages = PageStore(folder / "pages", config["page_size"])
        self.metadata = Metadata(self.under, self.pages, folder, config["sync_interval"])
        self.counter = Counter(config["requests"])
        self.faults = {**FAULTS, **config["faults"]}
        self.peers = Peers()
        self.loads = self.ufs_bytes = 0
        identity = bytes.fromhex(config["identity"])
        auth = tuple(config["etcd_auth"]) if config["etcd_auth"] else None
        self.membership = Membership(Gateway(config["etcd"], auth, config["etcd_ca"], config["etcd_client"]), config["cluster"], identity,
                                     value(identity, self.host, self.rpc_port, self.http_port), config["ttl"],
                                     config["virtual_nodes"], config["linger"])

    async def run(self):
        http, s3 = HttpPort(self), S3Port(self)
        servers = [await asyncio.start_server(http.connection, host, self.http_port, limit=HEAD_LIMIT, backlog=1024)
                   for host in self.http_hosts]
        self.s3_server, self.open_s3 = None, lambda: asyncio.start_server(s3.connection, self.host, self.s3_port, limit=1 << 20, backlog=1024)
        await self.shut_s3()
        servers.append(await serve(self.told, self.host, self.rpc_port))
        print(f"stand-in worker {self.membership.name}: http {self.http_port} s3 {self.host}:{self.s3_port}", flush=True)
        await self.membership.run()

    # Faults

    async def shut_s3(self):
        """As the fault says. What is connected stays so."""
        shut = self.no_s3 or self.faults["s3_shut"]
        if shut and self.s3_server:
            self.s3_server.close()
            self.s3_server = None
        elif not shut and not self.s3_server:
            self.s3_server = await self.open_s3()

    async def hold(self):
        """Before each answer."""
        faults = self.faults
        if faults["slow"]:
            await asyncio.sleep(faults["slow"])
        while faults["hung"]:
            await asyncio.sleep(0.05)
        if faults["dead"]:
            raise ConnectionError("dead")

    async def throttle(self, length):
        if self.faults["rate"]:
            await asyncio.sleep(length / self.faults["rate"])

    # Metadata is its owner's affair.

    async def _at_owner(self, view, key, message, here):
        owner = view.owner(key)
        if owner is None:
            raise Unavailable("no worker")
        if owner.name == self.membership.name:
            return here()
        return (await self.peers.call(owner.host, owner.rpc_port, message))["answer"]

    async def status(self, view, rel):
        row = await self._at_owner(view, self.under.uri(rel), {"op": "status", "rel": rel}, lambda: self.metadata.status(rel))
        return Status(**row) if isinstance(row, dict) else row

    async def listing(self, view, rel):
        key = self.under.uri(rel).rstrip("/") + "/"
        rows = await self._at_owner(view, key, {"op": "listing", "rel": rel}, lambda: self.metadata.listing(rel))
        return [Status(**row) if isinstance(row, dict) else row for row in rows] if rows is not None else None

    def spend(self, fault):
        """One time less; is it this one's turn?"""
        turn = self.faults[fault] > 0
        self.faults[fault] -= turn
        return turn

    async def changed(self, view, rel):
        """Everybody forgets: the path's owner, and those of the listings above it."""
        for one in view.members.values():
            if one.name == self.membership.name:
                self.metadata.changed(rel, not self.faults["old_listings"])
            else:
                try:
                    await self.peers.call(one.host, one.rpc_port, {"op": "changed", "rel": rel})
                except Unavailable:
                    pass

    # Pages

    def load_page(self, rel, ident, number, stop):
        """Read page `number` up to `stop` from the under store and keep it; False when there is less."""
        try:
            with open(self.under.local(rel), "rb", buffering=0) as data:
                found = os.pread(data.fileno(), stop, number * self.pages.page_size)
        except OSError:
            return False
        self.loads += 1
        self.ufs_bytes += len(found)
        if len(found) < stop:
            return False
        self.pages.put(ident, number, found)
        return True

    def load_file(self, rel):
        """A load job's share; the bytes loaded, None when it is not there."""
        status = self.metadata.status(rel)
        if status is None or self.faults["poisoned"]:
            return None
        ident, size = file_id(self.under.uri(rel)), self.pages.page_size
        for number in range((status.length + size - 1) // size):
            stop = min(size, status.length - number * size)
            if (self.pages.length(ident, number) or 0) < stop and not self.load_page(rel, ident, number, stop):
                return None
        return status.length

    async def load(self, given):
        if not self.master:
            return self._no_master(given)
        try:
            return (await self.peers.call(self.host if not self.master[0] else self.master[0], self.master[1],
                                          {"op": "load", "given": given}))["answer"]
        except Unavailable:
            return self._no_master(given)

    @staticmethod
    def _no_master(given):
        if given["opType"].lower() != "submit":
            return None
        return {"success": False, "jobId": "NONE", "path": given["path"],
                "message": f"Failed to submit load job {given['path']}: UNAVAILABLE: io exception"}

    # What peers and tests say

    async def told(self, message):
        kind = message["op"]
        if kind == "status":
            found = self.metadata.status(message["rel"])
            return {"answer": asdict(found) if found else None}
        if kind == "listing":
            rows = self.metadata.listing(message["rel"])
            return {"answer": [asdict(row) for row in rows] if rows is not None else None}
        if kind == "changed":
            self.metadata.changed(message["rel"], not self.faults["old_listings"])
        elif kind == "load-file":
            return {"answer": self.load_file(message["rel"])}
        elif kind == "faults":
            self.faults.update(message["faults"])
            await self.shut_s3()
        elif kind == "drop":
            if message.get("rel"):
                self.pages.drop(file_id(self.under.uri(message["rel"])))
            else:
                self.pages.drop_all()
        return {"answer": {"members": sorted(self.membership.live.members), "pages": self.pages.counts(), "faults": self.faults,
                           "loads": self.loads, "ufs_bytes": self.ufs_bytes}}


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384) if hard > 0 else soft, hard))
    asyncio.run(Worker(json.loads(Path(sys.argv[1]).read_text())).run())


if __name__ == "__main__":
    main()
