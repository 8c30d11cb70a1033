"""A real nginx with a configuration of its own, as the current user, on 127.0.0.1.

  python3 -m tests.servers.nginx DIR [--json] [--tls]      serve DIR until ctrl-C

Names.  nginx serves a folder's bytes as they are: the listing's hrefs are percent-encoded from the raw bytes, and `charset`
decides nothing but the Content-Type of the page and where its visible text is cut (at 50 characters or 50 bytes).  It is off
here unless asked for; with `charset="utf-8"` the hrefs are the same.  A JSON listing has the raw bytes inside JSON strings, so
that it is not valid UTF-8 when a name is not.  Both leave out names that begin with a dot, and still serve them.
"""

import argparse
import grp
import json
import os
import pwd
import secrets
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

from .base import LOOPBACK, Server, ServerError, free_port, run_by_hand, wait_for

SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
LOG_FIELDS = {"method": "$request_method", "uri": "$request_uri", "status": "$status", "bytes": "$body_bytes_sent",
              "range": "$http_range", "connection": "$connection", "if_match": "$http_if_match",
              "if_none_match": "$http_if_none_match", "user_agent": "$http_user_agent", "seconds": "$request_time"}
CONFIG = """daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  client_body_temp_path {folder}/tmp-body; proxy_temp_path {folder}/tmp-proxy; fastcgi_temp_path {folder}/tmp-fastcgi;
  uwsgi_temp_path {folder}/tmp-uwsgi; scgi_temp_path {folder}/tmp-scgi;
  log_format fields escape=json '{fields}';
  access_log {folder}/access.jsonl fields;
  types {{ }}
  default_type application/octet-stream;
  charset {charset};
  sendfile on; etag on; keepalive_timeout 65s; keepalive_requests 100000;
  merge_slashes off; server_tokens off; absolute_redirect off;
  large_client_header_buffers 8 32k;
  client_max_body_size 0;
{http_extra}
  server {{
    listen {host}:{port}{ssl};
    {certificate}
{server_extra}
    location = {ready} {{ access_log off; auth_basic off; return 204; }}
    location / {{
      root {root};
      autoindex on; autoindex_format {autoindex}; autoindex_exact_size on; autoindex_localtime off;
      {auth}
{location_extra}
    }}
  }}
}}
"""


class Request(NamedTuple):
    """One line of the access log; absent head fields are "". uri is as it was sent, not decoded."""
    method: str
    uri: str
    status: int
    bytes: int
    range: str
    connection: int
    if_match: str
    if_none_match: str
    user_agent: str
    seconds: float


class Nginx(Server):
    """root: the folder to serve.  autoindex: "html" or "json".  charset: None or for example "utf-8".
    basic: (user, password).  bearer: a token.  tls: https with a self-signed certificate, see ca_file.
    http_extra, server_extra, location_extra: more directives for these blocks.
    """

    name = "nginx"

    def __init__(self, root, folder=None, autoindex="html", charset=None, basic=None, bearer=None, tls=False,
                 http_extra="", server_extra="", location_extra=""):
        super().__init__(folder)
        self.root = Path(root).absolute()
        self.autoindex, self.charset, self.basic, self.bearer, self.tls = autoindex, charset, basic, bearer, tls
        self.http_extra, self.server_extra, self.location_extra = http_extra, server_extra, location_extra
        self.port = None
        self._log_start = 0
        # Not a fixed path: on a port lost in a race another test's nginx would answer for ours.
        self._ready_path = f"/.ready-{secrets.token_hex(8)}"

    @classmethod
    def missing(cls):
        if not cls.binary():
            return "nginx is not installed (Debian: apt-get install nginx-light)"
        return None

    @staticmethod
    def binary():
        return shutil.which("nginx", path=SEARCH_PATH)

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def ca_file(self):
        """The certificate that clients of a tls server have to trust."""
        return self.folder / "cert.pem"

    def configure(self):
        self.port = free_port()
        certificate = ""
        if self.tls:
            self._make_certificate()
            certificate = f"ssl_certificate {_quote(self.ca_file)}; ssl_certificate_key {_quote(self.folder / 'key.pem')};"
        fields = "{" + ",".join(f'"{key}":"{value}"' for key, value in LOG_FIELDS.items()) + "}"
        (self.folder / "nginx.conf").write_text(CONFIG.format(
            user=_user(), folder=_plain(self.folder), fields=fields, charset=self.charset or "off", host=LOOPBACK,
            port=self.port, ssl=" ssl" if self.tls else "", certificate=certificate, ready=self._ready_path,
            root=_quote(self.root), autoindex=self.autoindex, auth=self._auth(), http_extra=self.http_extra,
            server_extra=self.server_extra, location_extra=self.location_extra))

    def _auth(self):
        lines = []
        if self.basic:
            user, password = self.basic
            passwords = self.folder / "passwords"
            passwords.write_text(f"{user}:{{PLAIN}}{password}\n")
            lines.append(f"auth_basic prelux; auth_basic_user_file {_quote(passwords)};")
        if self.bearer:
            lines.append(f'if ($http_authorization != {_quote("Bearer " + self.bearer)}) {{ return 401; }}')
        return " ".join(lines)

    def _make_certificate(self):
        if self.ca_file.exists():
            return
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=prelux test", "-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost",
                "-keyout", self.folder / "key.pem", "-out", self.ca_file]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise ServerError("openssl: " + done.stderr.decode(errors="replace"))

    def commands(self):
        argv = [self.binary(), "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]
        return [("nginx", argv, None)]

    def ready(self):
        context = ssl.create_default_context(cafile=self.ca_file) if self.tls else None
        with urllib.request.urlopen(self.url + self._ready_path, timeout=2, context=context) as answer:
            return answer.status == 204

    def requests(self, at_least=0, seconds=5.0):
        """The requests answered since start() or forget_requests(), oldest first.

        nginx writes a line after the answer's last byte: say how many must be there and this waits for them."""
        if at_least:
            wait_for(lambda: len(self._read_log()) >= at_least, seconds, f"{at_least} lines in nginx's access log")
        return self._read_log()

    def forget_requests(self):
        self._log_start = len(self._log_lines())

    def _log_lines(self):
        path = self.folder / "access.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        return whole.decode("utf-8", "surrogateescape").split("\n") if whole else []

    def _read_log(self):
        numbers = {"status": int, "bytes": int, "connection": int, "seconds": float}
        rows = [json.loads(line) for line in self._log_lines()[self._log_start:]]
        return [Request(**{key: numbers.get(key, str)(value) for key, value in row.items()}) for row in rows]


def _user():
    """Workers of a root master become "nobody", who may not read a test's folder; an ordinary user may not say `user`."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"


def _plain(path):
    """The server's own folder stands in directives unquoted."""
    text = str(path)
    if any(char in text for char in " \t\"'\\;{}$#"):
        raise ServerError(f"nginx: choose a folder without blanks or configuration characters: {text}")
    return text


def _quote(value):
    text = str(value)
    if "$" in text:
        raise ServerError(f"nginx has no way to write '$' in {text}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.nginx", description="nginx for tests")
    parser.add_argument("root", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="listings as JSON")
    parser.add_argument("--tls", action="store_true")
    args = parser.parse_args(argv)
    server = Nginx(args.root, autoindex="json" if args.json else "html", tls=args.tls)
    return run_by_hand(server, lambda it: f"{it.url}" + (f" (trust {it.ca_file})" if it.tls else ""))


if __name__ == "__main__":
    sys.exit(main())
