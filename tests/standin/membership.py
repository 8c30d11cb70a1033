"""How a stand-in worker is in etcd, and whom it sees there.  Keys and values byte for byte as 313 writes them (PROTOCOLS 2D.1)."""

import asyncio
import base64
import json
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from .ring import Ring

REQUEST_SECONDS = 3.0
POLL_SECONDS = 0.3
AT_LEAST_TTL = 2


@dataclass(frozen=True)
class Member:
    """A worker as etcd shows it."""
    name: str          # worker-UUID
    identity: bytes
    version: int
    host: str
    rpc_port: int
    http_port: int


class View:
    """Members as they were at one time, with their ring."""

    def __init__(self, members, virtual_nodes):
        self.members = members
        self._ring = Ring({name: (one.identity, one.version) for name, one in members.items()}, virtual_nodes)

    def owner(self, path):
        name = self._ring.owner(path)
        return self.members[name] if name else None


def value(identity, host, rpc_port, http_port):
    """The value of both keys, as text."""
    name = entity(identity)
    address = {"Host": host, "ContainerHost": "", "RpcPort": rpc_port, "DataPort": 29997, "SecureRpcPort": 0, "NettyDataPort": 29997,
               "WebPort": 30000, "DomainSocketPath": "", "HttpServerPort": http_port}
    return json.dumps({"Identity": {"version": 1, "identifier": identity.hex()}, "WorkerNetAddress": address, "State": "AUTHORIZED",
                       "GenerationNumber": -1, "ServiceEntityName": name}, separators=(",", ":"))


def entity(identity):
    text = identity.hex()
    return "worker-" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def parse(text):
    """Member of a value, None when Java would skip it."""
    try:
        row = json.loads(text)
        address = row["WorkerNetAddress"]
        return Member(row["ServiceEntityName"], bytes.fromhex(row["Identity"]["identifier"]), row["Identity"]["version"],
                      address["Host"], address["RpcPort"], address["HttpServerPort"])
    except (ValueError, KeyError, TypeError):
        return None


class Gateway:
    """etcd's JSON gateway, one connection a request."""

    def __init__(self, url, auth=None, ca_file=None, client_file=None):
        parts = urlsplit(url)
        self.host, self.port, self.auth = parts.hostname, parts.port, auth
        self.context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        if client_file:
            self.context.load_cert_chain(client_file)
        self._token = None

    async def call(self, path, message):
        try:
            return await asyncio.wait_for(self._call(path, message), REQUEST_SECONDS)
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
            raise OSError(f"etcd: {error!r}") from None

    async def _call(self, path, message):
        if self.auth and not self._token:
            user, password = self.auth
            self._token = (await self._post("/v3/auth/authenticate", {"name": user, "password": password}, None))["token"]
        try:
            return await self._post(path, message, self._token)
        except PermissionError:
            self._token = None
            raise

    async def _post(self, path, message, token):
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.context)
        try:
            body = json.dumps(message).encode()
            head = f"POST {path} HTTP/1.0\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n"
            head += f"Authorization: {token}\r\n" if token else ""
            writer.write(head.encode() + b"\r\n" + body)
            answer = await reader.read(-1) if "keepalive" not in path else await reader.readuntil(b"}}")
        finally:
            writer.close()
        head, _, text = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if b"chunked" in head.lower():
            text = text.partition(b"\r\n")[2]
        if status != 200:
            raise PermissionError(f"etcd: {status} {text[:200]!r}")
        return json.loads(text.strip().split(b"\n")[0])


class Membership:
    """Keeps this worker registered and follows the others.

    views: `live` is as etcd was a moment ago; `slow()` still has who died less than `linger` seconds ago: that is how the S3
    port of a real worker sees the cluster, and why it answers 500 after a death."""

    def __init__(self, gateway, cluster, identity, text, ttl, virtual_nodes, linger):
        self.gateway, self.cluster, self.text, self.ttl = gateway, cluster, text, max(ttl, AT_LEAST_TTL)
        self.name, self.virtual_nodes, self.linger = entity(identity), virtual_nodes, linger
        self.live = View({}, virtual_nodes)
        self._gone = {}  # name -> (Member, when)

    @property
    def key(self):
        return f"/ServiceDiscovery/{self.cluster}/{self.name}"

    async def run(self):
        """For ever: register, keep the lease alive, and again when it is lost."""
        follow = asyncio.create_task(self._follow())
        try:
            while True:
                try:
                    await self._stay()
                except OSError:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            follow.cancel()

    async def _stay(self):
        await self._put(f"/DHT/{self.cluster}/AUTHORIZED/{self.name}", None)
        lease = (await self.gateway.call("/v3/lease/grant", {"TTL": str(self.ttl)}))["ID"]
        await self._put(self.key, lease)
        while True:
            await asyncio.sleep(self.ttl / 3)
            answer = await self.gateway.call("/v3/lease/keepalive", {"ID": lease})
            if not int(answer.get("result", {}).get("TTL", 0)):
                return

    async def _put(self, key, lease):
        message = {"key": _encode(key), "value": _encode(self.text)}
        if lease:
            message["lease"] = lease
        await self.gateway.call("/v3/kv/put", message)

    async def fetch(self):
        """A view of this moment; the last one when etcd does not answer."""
        prefix = f"/ServiceDiscovery/{self.cluster}/"
        message = {"key": _encode(prefix), "range_end": _encode(prefix[:-1] + "0")}
        try:
            answer = await self.gateway.call("/v3/kv/range", message)
        except OSError:
            return self.live
        members = [parse(base64.b64decode(row.get("value", "")).decode(errors="replace")) for row in answer.get("kvs", [])]
        members = {one.name: one for one in members if one}
        if members != self.live.members:
            now = time.monotonic()
            self._gone.update({name: (one, now) for name, one in self.live.members.items() if name not in members})
            self.live = View(members, self.virtual_nodes)
        return self.live

    async def _follow(self):
        while True:
            await self.fetch()
            await asyncio.sleep(POLL_SECONDS)

    def slow(self):
        now = time.monotonic()
        self._gone = {name: row for name, row in self._gone.items() if now - row[1] < self.linger and name not in self.live.members}
        if not self._gone:
            return self.live
        return View({**self.live.members, **{name: row[0] for name, row in self._gone.items()}}, self.virtual_nodes)


def _encode(text):
    return base64.b64encode(text.encode()).decode()
