"""A real etcd 3.4, one member, with a data folder of its own, so that it keeps its keys over kill() and restart().

  python3 -m tests.servers.etcd [--tls] [--user NAME --password WORD]      until ctrl-C

Everything is spoken over the JSON gateway (POST /v3/...), which is what prelux uses: keys and values are base64, int64 are
strings, an empty answer has neither `kvs` nor `count`.  3.4 answers below /v3 and /v3beta.
Seen with 3.4.23: with auth on, a request without a token is HTTP 400 `etcdserver: user name is empty`, one with a wrong token
401, and a token says nothing after a restart (simple tokens live in memory).
"""

import argparse
import base64
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

from .base import LOOPBACK, Server, ServerError, free_port, run_by_hand, wait_for

VERSION = "3.4"  # of Debian 12; 3.3 has no /v3, 3.5 no /v3beta
FIRST_TTL_SECONDS = 10


class EtcdError(RuntimeError):
    """An answer that is not 200; .status and .message."""

    def __init__(self, status, message):
        super().__init__(f"etcd: HTTP {status}: {message}")
        self.status, self.message = status, message


class Etcd(Server):
    """auth: (user, password), a user who may do everything; nobody else may do anything.
    tls: https with a self-signed certificate, see ca_file.
    client_certs: only who shows a certificate of ours is let in: client_file (certificate and key), or client_cert and client_key.
    """

    name = "etcd"

    def __init__(self, folder=None, auth=None, tls=False, client_certs=False):
        super().__init__(folder)
        self.auth, self.tls, self.client_certs = auth, tls or client_certs, client_certs
        self.port = self.peer_port = None
        self._token = None

    @classmethod
    def missing(cls):
        if not shutil.which("etcd"):
            return "etcd is not installed (Debian: apt-get install etcd-server)"
        return None

    @staticmethod
    def version():
        """What `etcd --version` says: "3.4.23"."""
        text = subprocess.run(["etcd", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
        found = re.search(r"etcd Version: (\S+)", text)
        return found.group(1) if found else ""

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{self.endpoint}"

    @property
    def endpoint(self):
        """host:port, as Alluxio's and prelux's settings want it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def ca_file(self):
        """The certificate that clients of a tls server have to trust."""
        return self.folder / "cert.pem"

    def configure(self):
        self.port, self.peer_port = free_port(), free_port()
        shutil.rmtree(self.folder / "data", ignore_errors=True)  # it names the ports of the start before
        if self.tls and not self.ca_file.exists():
            self._make_certificate()

    def _make_certificate(self):
        self.self_signed("prelux test etcd", self.folder / "key.pem", self.ca_file)
        if self.client_certs:
            self._make_client_certificates()

    @classmethod
    def self_signed(cls, name, key, certificate):
        cls._openssl(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                      "-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost", "-keyout", key, "-out", certificate])

    @staticmethod
    def _openssl(argv):
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise ServerError("openssl: " + done.stderr.decode(errors="replace"))

    def _make_client_certificates(self):
        """An authority of clients, and one client of it.  The gateway is a client of etcd's, too, and shows the server's certificate
        there: with one that is not trusted it answers 503 "use of closed network connection"."""
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        at = self.folder.joinpath
        self.self_signed("prelux test clients", at("clients-key.pem"), at("clients.pem"))
        self._openssl([*new, "-subj", "/CN=prelux", "-keyout", self.client_key, "-out", at("client.csr")])
        (self.folder / "usage").write_text("extendedKeyUsage=clientAuth\n")
        self._openssl(["openssl", "x509", "-req", "-days", "2", "-in", at("client.csr"), "-CA", at("clients.pem"), "-CAkey", at("clients-key.pem"),
                       "-CAcreateserial", "-extfile", at("usage"), "-out", self.client_cert])
        at("trusted.pem").write_bytes(at("clients.pem").read_bytes() + self.ca_file.read_bytes())
        self.client_file.write_bytes(self.client_cert.read_bytes() + self.client_key.read_bytes())

    @property
    def client_cert(self):
        return self.folder / "client.pem"

    @property
    def client_key(self):
        return self.folder / "client-key.pem"

    @property
    def client_file(self):
        return self.folder / "client-both.pem"

    def commands(self):
        peer = f"http://{LOOPBACK}:{self.peer_port}"
        argv = ["etcd", "--name", "default", "--data-dir", self.folder / "data", "--listen-client-urls", self.url,
                "--advertise-client-urls", self.url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", f"default={peer}", "--logger", "zap", "--log-level", "warn"]
        if self.tls:
            argv += ["--cert-file", self.ca_file, "--key-file", self.folder / "key.pem"]
        if self.client_certs:
            argv += ["--client-cert-auth", "--trusted-ca-file", self.folder / "trusted.pem"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}  # they are settings, too
        return [("etcd", argv, env)]

    def ready(self):
        with urllib.request.urlopen(f"{self.url}/health", timeout=2, context=self._context()) as answer:
            return json.load(answer).get("health") == "true"

    def start(self):
        super().start()
        if self.auth:
            self._enable_auth()
        return self

    def _enable_auth(self):
        """etcd wants a user `root` with the role `root` first; ours gets that role, too."""
        user, password = self.auth
        self.call("/v3/auth/role/add", {"name": "root"}, token=False)
        for name in dict.fromkeys(("root", user)):
            self.call("/v3/auth/user/add", {"name": name, "password": password}, token=False)
            self.call("/v3/auth/user/grant", {"user": name, "role": "root"}, token=False)
        self.call("/v3/auth/enable", token=False)

    # Dying and coming back.

    def kill(self):
        """SIGKILL; the data stay.  restart() brings it back on the same ports."""
        self.process("etcd").kill()
        self.processes = []

    def restart(self):
        """After kill(): the same ports, the same keys, leases as they were.  Waits until it answers."""
        self._token = None
        name, argv, env = self.commands()[0]
        process = self.start_process(name, argv, env)
        try:
            wait_for(lambda: self._probe() or not process.alive(), self.start_seconds, "etcd answers again")
        except TimeoutError as error:
            raise ServerError(f"{error}\n{self.log_tail().decode(errors='replace')}") from None
        if not process.alive():
            raise ServerError("etcd did not come back\n" + self.log_tail().decode(errors="replace"))

    def freeze(self):
        """SIGSTOP: connections are accepted by the kernel and nothing is answered."""
        self.process("etcd").signal(signal.SIGSTOP)

    def thaw(self):
        self.process("etcd").signal(signal.SIGCONT)

    # The JSON gateway.

    def call(self, path, message=None, token=None):
        """POST a message, return the answer's object.  token: None is "log in where auth is on", False is none at all."""
        fields = {"Content-Type": "application/json"}
        if token is None and self.auth:
            token = self._token = self._token or self.login()
        if token:
            fields["Authorization"] = token
        request = urllib.request.Request(self.url + path, json.dumps(message or {}).encode(), fields)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context()) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise EtcdError(error.code, text) from None

    def login(self, user=None, password=None):
        """A token for `Authorization`."""
        name, word = (user, password) if user else self.auth
        return self.call("/v3/auth/authenticate", {"name": name, "password": word}, token=False)["token"]

    def put(self, key, value, lease=None):
        message = {"key": _encode(key), "value": _encode(value)}
        if lease:
            message["lease"] = str(lease)
        self.call("/v3/kv/put", message)

    def get(self, key):
        """The value's bytes, or None."""
        kvs = self.call("/v3/kv/range", {"key": _encode(key)}).get("kvs", [])
        return base64.b64decode(kvs[0].get("value", "")) if kvs else None

    def below(self, prefix):
        """{key: value} of all keys that begin with prefix, as str and bytes."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        kvs = self.call("/v3/kv/range", {"key": _encode(prefix), "range_end": _encode(end)}).get("kvs", [])
        return {base64.b64decode(row["key"]).decode(): base64.b64decode(row.get("value", "")) for row in kvs}

    def delete(self, key):
        """How many keys went."""
        return int(self.call("/v3/kv/deleterange", {"key": _encode(key)}).get("deleted", 0))

    def lease(self, seconds=FIRST_TTL_SECONDS):
        """Grant a lease, return its id (a string of decimals)."""
        return self.call("/v3/lease/grant", {"TTL": str(seconds)})["ID"]

    def keep_alive(self, lease):
        """One refresh; the seconds it lives now, 0 when it is gone."""
        return int(self.call("/v3/lease/keepalive", {"ID": str(lease)})["result"].get("TTL", 0))

    def revoke(self, lease):
        self.call("/v3/lease/revoke", {"ID": str(lease)})

    def _context(self):
        context = ssl.create_default_context(cafile=self.ca_file) if self.tls else None
        if self.client_certs:
            context.load_cert_chain(self.client_file)
        return context


def _encode(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.etcd", description="etcd for tests")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password")
    args = parser.parse_args(argv)
    server = Etcd(auth=(args.user, args.password or "") if args.user else None, tls=args.tls)
    return run_by_hand(server, lambda it: it.url + (f" (trust {it.ca_file})" if it.tls else ""))


if __name__ == "__main__":
    sys.exit(main())
