"""A stand-in for faults: an HTTP server of our own that lies on demand.  What a lie is, the first path segment says:

    URL/honest/d/file         the truth: ranges, ETag, If-Match, If-Range, If-None-Match, HEAD, folder pages like nginx's
    URL/short-body/d/file     the same file, told so
    URL/reset-at=1234/d/file  a lie with an argument

so that URL/<lie> can be the root of a mapping.  LIES, at the end of this file, is the table: a name, the function, and what it
lies about: "body" (GET of a file), "file" (GET and HEAD of a file), "folder" (folder pages), "all".  Everything else under that
prefix is answered honestly.

  python3 -m tests.servers.liar [DIR]       serve DIR's files (or three built-in ones); prints the table
"""

import argparse
import hashlib
import json
import os
import random
import sys
import time
import urllib.parse
from dataclasses import dataclass, field
from html import escape
from typing import Callable, NamedTuple

from .base import LOOPBACK, run_by_hand
from .threads import Gone, Seen, ThreadServer, head_fields

FOREIGN_HOST = "127.0.0.2"  # another host to a client, and still this machine
MODIFIED = "Tue, 03 Mar 2020 10:00:00 GMT"
DAY = 86400
REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 304: "Not Modified", 404: "Not Found", 405: "Method Not Allowed",
           412: "Precondition Failed", 416: "Range Not Satisfiable", 429: "Too Many Requests", 503: "Service Unavailable"}
HTML_ERROR = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


def built_in_files():
    """Each 4-byte word of file.bin is its own offset, so that a test sees which bytes it got."""
    return {"file.bin": b"".join(number.to_bytes(4, "big") for number in range(0, 100_000, 4)),
            "small.txt": b"twenty bytes of text", "empty": b"", "d/deep.txt": b"one folder down\n"}


@dataclass
class Answer:
    status: int
    body: bytes = b""
    fields: dict = field(default_factory=dict)

    def head(self):
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Exchange:
    """One request, with what a lie needs to answer it."""

    def __init__(self, liar, connection, seen, argument, name, earlier):
        self.liar, self.connection, self.seen = liar, connection, seen
        self.argument = argument        # the text after "=" in the path, or ""
        self.name = name                # what is asked for, decoded; ends in "/" or is "" for a folder
        self.earlier = earlier          # how many requests of this method and path came before
        self.is_folder = name == "" or name.endswith("/")
        self.content = liar.files.get(name)

    def number(self, default):
        return type(default)(self.argument) if self.argument else default

    def honest(self):
        """The true answer."""
        if self.seen.method not in ("GET", "HEAD"):
            return self.plain(405)
        if self.is_folder:
            entries = self.entries()
            return self.page(entries) if entries or self.name == "" else self.plain(404)
        return self.plain(404) if self.content is None else self.file()

    def plain(self, status, body=b"", **fields):
        return Answer(status, body, {"Date": _date(), "Content-Type": "text/plain", "Content-Length": len(body),
                                     **{name.replace("_", "-"): value for name, value in fields.items()}})

    def etag(self):
        return '"%s"' % hashlib.sha256(self.content).hexdigest()[:16]

    def file(self):
        """The file, or the range of it that was asked for, by RFC 9110."""
        asked, etag, whole = self.seen.fields, self.etag(), self.content
        answer = self.plain(200, whole, Content_Type="application/octet-stream", Accept_Ranges="bytes", ETag=etag,
                            Last_Modified=MODIFIED)
        if asked.get("if-match", etag) not in (etag, "*"):
            return self.plain(412, ETag=etag)
        if asked.get("if-none-match") in (etag, "*"):
            return self.plain(304, ETag=etag)
        if asked.get("if-range", etag) not in (etag, MODIFIED):
            return answer
        window = _range(asked.get("range", ""), len(whole))
        if window is None:
            return answer
        first, end = window
        if first >= end:
            return self.plain(416, Content_Range=f"bytes */{len(whole)}")
        answer.status, answer.body = 206, whole[first:end]
        answer.fields.update({"Content-Length": end - first, "Content-Range": f"bytes {first}-{end - 1}/{len(whole)}"})
        return answer

    def entries(self):
        """(name, size) of a folder's children, sorted; a folder's name ends in "/" and its size is None."""
        found = {}
        for path, content in self.liar.files.items():
            if path.startswith(self.name) and path != self.name:
                child, slash, _ = path[len(self.name):].partition("/")
                found[child + slash] = None if slash else len(content)
        return sorted(found.items())

    def page(self, entries):
        """A folder page as nginx's autoindex writes it."""
        if self.liar.autoindex == "json":
            body, kind = _json_page(entries), "application/json"
        else:
            rows = [(urllib.parse.quote(name), name, size) for name, size in entries]
            body, kind = _html_page("/" + self.name, rows), "text/html"
        return self.plain(200, body, Content_Type=kind)

    def hrefs(self, hrefs):
        """A folder page with these hrefs, written as they are."""
        if self.liar.autoindex == "json":
            return self.page([(urllib.parse.unquote(href), 1) for href in hrefs])
        return self.plain(200, _html_page("/" + self.name, [(href, href, 1) for href in hrefs]), Content_Type="text/html")

    def send(self, answer):
        """The whole answer, as told: no look at whether its fields are true."""
        self.write(answer.head() + (b"" if self.seen.method == "HEAD" else answer.body))

    def write(self, data):
        self.connection.send(data)


def _date(shift=0):
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + shift))


def _range(text, size):
    """(first, end) of a single range, clipped; None when there is none to honour."""
    first, dash, last = text.removeprefix("bytes=").partition("-")
    if not text.startswith("bytes=") or not dash or not (first + last).isdigit():
        return None
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _html_page(title, rows):
    lines = [f"<html>\r\n<head><title>Index of {escape(title)}</title></head>\r\n<body>\r\n<h1>Index of {escape(title)}</h1>"
             '<hr><pre><a href="../">../</a>\r\n']
    for href, text, size in rows:
        lines.append(f'<a href="{escape(href)}">{escape(text)}</a> 03-Mar-2020 10:00 {"-" if size is None else size}\r\n')
    return ("".join(lines) + "</pre><hr></body>\r\n</html>\r\n").encode("utf-8", "surrogateescape")


def _json_page(entries):
    rows = []
    for name, size in entries:
        row = {"name": name.rstrip("/") or name, "type": "directory" if size is None else "file", "mtime": MODIFIED}
        rows.append(row if size is None else {**row, "size": size})
    return json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogateescape")


# Lies about a file's bytes.

def short_body(x):
    """Content-Length is true, the body ends (orderly) after half of it"""
    answer = x.honest()
    x.write(answer.head() + answer.body[:len(answer.body) // 2])
    raise Gone


def long_body(x):
    """=N (1000): so many bytes more than Content-Length says, then the end"""
    answer = x.honest()
    x.write(answer.head() + answer.body + b"!" * x.number(1000))
    raise Gone


def endless_body(x):
    """a body without a length that never ends; =chunked: in chunks"""
    answer, data = x.honest(), b"!" * 65536
    del answer.fields["Content-Length"]
    if x.argument == "chunked":
        answer.fields["Transfer-Encoding"] = "chunked"
        data = b"10000\r\n" + data + b"\r\n"
    x.write(answer.head())
    while True:
        x.write(data)


def no_length(x):
    """true, but neither Content-Length nor chunks: the end of the connection is the end"""
    answer = x.honest()
    del answer.fields["Content-Length"]
    answer.fields["Connection"] = "close"
    x.send(answer)
    raise Gone


def cut_chunks(x):
    """a chunked body that ends (orderly) without its last chunk"""
    answer = x.honest()
    del answer.fields["Content-Length"]
    answer.fields["Transfer-Encoding"] = "chunked"
    half = answer.body[:len(answer.body) // 2]
    x.write(answer.head() + b"%x\r\n" % len(half) + half + b"\r\n")
    raise Gone


def reset_at(x):
    """=N (100): RST after N bytes of the answer, its head included"""
    answer = x.honest()
    x.write((answer.head() + answer.body)[:x.number(100)])
    x.connection.reset()


def stall_at(x):
    """=N (100): silence after N bytes of the answer, its head included; the connection stays open"""
    answer = x.honest()
    x.write((answer.head() + answer.body)[:x.number(100)])
    x.connection.wait_gone()


def slow(x):
    """=SECONDS (0.01) between any two bytes of the answer, its head included"""
    answer = x.honest()
    for byte in answer.head() + answer.body:
        x.write(bytes([byte]))
        if x.liar.stopping.wait(x.number(0.01)):
            raise Gone


def unanswered(x):
    """the connection ends (orderly) instead of an answer"""
    raise Gone


# Lies about ranges.

def ignore_range(x):
    """200 and the whole file to a Range request"""
    x.seen.fields.pop("range", None)
    x.send(x.honest())


def wrong_range(x):
    """206 with =start (one too high) | total (one too many) | body (the bytes of one further) | whole (all bytes) | missing"""
    answer, how = x.honest(), x.argument or "start"
    if answer.status == 206:
        window, total = answer.fields["Content-Range"].removeprefix("bytes ").split("/")
        first, last = (int(number) for number in window.split("-"))
        if how == "start":
            answer.fields["Content-Range"] = f"bytes {first + 1}-{last + 1}/{total}"
        elif how == "total":
            answer.fields["Content-Range"] = f"bytes {window}/{int(total) + 1}"
        elif how == "body":
            answer.body = (x.content * 2)[first + 1:last + 2]
        elif how == "whole":
            answer.body = x.content
            answer.fields["Content-Length"] = len(x.content)
        elif how == "missing":
            del answer.fields["Content-Range"]
    x.send(answer)


# Lies about versions.

def no_etag(x):
    """true, without ETag"""
    answer = x.honest()
    answer.fields.pop("ETag", None)
    x.send(answer)


def weak_etag(x):
    """true, with a weak ETag"""
    answer = x.honest()
    if "ETag" in answer.fields:
        answer.fields["ETag"] = "W/" + answer.fields["ETag"]
    x.send(answer)


def changing_etag(x):
    """the same bytes with another ETag at each request"""
    x.etag = lambda: f'"{x.liar.next_number()}"'
    x.send(x.honest())


def changing_bytes(x):
    """other bytes of the same length at each request, with their true ETag"""
    shift = x.liar.next_number() % 255 + 1
    x.content = bytes((byte + shift) % 256 for byte in x.content)
    x.send(x.honest())


def head_differs(x):
    """=N (1): HEAD says N bytes more than GET has"""
    answer = x.honest()
    if x.seen.method == "HEAD" and answer.status == 200:
        answer.fields["Content-Length"] += x.number(1)
    x.send(answer)


# Lies about what an answer is.

def html_error(x):
    """200 with an HTML error page"""
    x.send(x.plain(200, HTML_ERROR, Content_Type="text/html"))


def big_head(x):
    """=N (10): a head of N million bytes"""
    answer = x.honest()
    answer.fields.update({f"X-Pad-{number}": "p" * 995 for number in range(x.number(10) * 1000)})
    x.send(answer)


def gzip_label(x):
    """true, but labelled Content-Encoding: gzip"""
    answer = x.honest()
    answer.fields["Content-Encoding"] = "gzip"
    x.send(answer)


def clock_skew(x):
    """=DAYS (365): the server's clock is so much ahead, Last-Modified with it"""
    answer = x.honest()
    answer.fields["Date"] = answer.fields["Last-Modified"] = _date(x.number(365) * DAY)
    x.send(answer)


def _busy(x, status):
    """=TIMES[,SECONDS] (always, 1): so many times per path, with Retry-After, then true"""
    times, _, seconds = x.argument.partition(",")
    if times and x.earlier >= int(times):
        return x.send(x.honest())
    return x.send(x.plain(status, b"busy\n", Retry_After=seconds or 1))


def busy_429(x):
    """=TIMES[,SECONDS]: 429 with Retry-After, always or so many times per path"""
    _busy(x, 429)


def busy_503(x):
    """=TIMES[,SECONDS]: 503 with Retry-After, always or so many times per path"""
    _busy(x, 503)


def busy_date(x):
    """=TIMES[,SECONDS]: 503 with Retry-After as a date"""
    times, _, seconds = x.argument.partition(",")
    if times and x.earlier >= int(times):
        return x.send(x.honest())
    return x.send(x.plain(503, b"busy\n", Retry_After=_date(int(seconds or 1))))


def redirect_loop(x):
    """302 to itself; =TIMES: the truth after so many"""
    if x.argument and x.earlier >= int(x.argument):
        return x.send(x.honest())
    return x.send(x.plain(302, Location=x.seen.path + f"?hop={x.earlier + 1}"))


def redirect_foreign(x):
    """302 to the truth on another host (127.0.0.2); Seen.host and .fields show what followed, credentials included"""
    x.send(x.plain(302, Location=f"http://{FOREIGN_HOST}:{x.liar.port}/honest/{urllib.parse.quote(x.name)}"))


# Lies about folders.

def list_repeat(x):
    """each entry three times"""
    x.send(x.page([entry for entry in x.entries() for _ in range(3)]))


def list_unsorted(x):
    """entries in an order of their own at each request"""
    entries = x.entries()
    random.Random(x.liar.next_number()).shuffle(entries)
    x.send(x.page(entries))


def list_loop(x):
    """every folder has a folder "loop/", which is the root again, for ever; its files are true"""
    x.name = x.name.rpartition("loop/")[2]
    x.content = x.liar.files.get(x.name)
    x.send(x.page([*x.entries(), ("loop/", None)]) if x.is_folder else x.honest())


def list_outside(x):
    """entries that point out of the folder: "..", absolute, another host, encoded slashes, NUL"""
    foreign = f"http://{FOREIGN_HOST}:{x.liar.port}/honest/file.bin"
    x.send(x.hrefs(["../", "../../up.txt", "/etc/passwd", "//etc/passwd", foreign, "%2e%2e/", "%2e%2e%2fup.txt",
                    "a%2Fb", "a%00b", "./", ".", "", "?C=N;O=D", "#top", "javascript:void(0)", "small.txt"]))


def list_cut(x):
    """a page that ends in the middle of an entry, with a true Content-Length"""
    answer = x.honest()
    answer.body = answer.body[:len(answer.body) * 2 // 3]
    answer.fields["Content-Length"] = len(answer.body)
    x.send(answer)


def list_sizes(x):
    """=N (1): each file is said to be N bytes longer than it is"""
    x.send(x.page([(name, None if size is None else size + x.number(1)) for name, size in x.entries()]))


def list_many(x):
    """=N (100000): so many empty files more"""
    x.send(x.page([*x.entries(), *((f"many-{number:07}", 0) for number in range(x.number(100_000)))]))


def list_endless(x):
    """a page without a length that never ends; nothing repeats"""
    answer = x.page([])
    del answer.fields["Content-Length"]
    x.write(answer.head() + (b"[" if x.liar.autoindex == "json" else answer.body.partition(b"</pre>")[0]))
    number = 0
    while True:
        names = [(f"endless-{number + step}", 0) for step in range(1000)]
        number += len(names)
        if x.liar.autoindex == "json":
            x.write(_json_page(names)[1:-1] + b", ")
        else:
            x.write("".join(f'<a href="{name}">{name}</a> 03-Mar-2020 10:00 0\r\n' for name, _ in names).encode())


def list_changing(x):
    """at each request, a random half of the entries"""
    chance = random.Random(x.liar.next_number())
    x.send(x.page([entry for entry in x.entries() if chance.random() < 0.5]))


def xml_bomb(x):
    """an XML list whose entities grow to 10^9 bytes (as an object store's answer)"""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    body = (f'<?xml version="1.0"?><!DOCTYPE ListBucketResult [<!ENTITY e0 "x">{entities}]>'
            "<ListBucketResult><Contents><Key>&e9;</Key></Contents></ListBucketResult>").encode()
    x.send(x.plain(200, body, Content_Type="application/xml"))


def honest(x):
    """the truth"""
    x.send(x.honest())


class Lie(NamedTuple):
    function: Callable
    about: str


LIES = {
    "honest": Lie(honest, "all"),
    "short-body": Lie(short_body, "body"),
    "long-body": Lie(long_body, "body"),
    "endless-body": Lie(endless_body, "body"),
    "no-length": Lie(no_length, "body"),
    "cut-chunks": Lie(cut_chunks, "body"),
    "reset-at": Lie(reset_at, "body"),
    "stall-at": Lie(stall_at, "body"),
    "slow": Lie(slow, "body"),
    "unanswered": Lie(unanswered, "file"),
    "ignore-range": Lie(ignore_range, "body"),
    "wrong-range": Lie(wrong_range, "body"),
    "no-etag": Lie(no_etag, "file"),
    "weak-etag": Lie(weak_etag, "file"),
    "changing-etag": Lie(changing_etag, "file"),
    "changing-bytes": Lie(changing_bytes, "file"),
    "head-differs": Lie(head_differs, "file"),
    "html-error": Lie(html_error, "file"),
    "big-head": Lie(big_head, "file"),
    "gzip-label": Lie(gzip_label, "file"),
    "clock-skew": Lie(clock_skew, "file"),
    "busy-429": Lie(busy_429, "all"),
    "busy-503": Lie(busy_503, "all"),
    "busy-date": Lie(busy_date, "all"),
    "redirect-loop": Lie(redirect_loop, "file"),
    "redirect-foreign": Lie(redirect_foreign, "file"),
    "list-repeat": Lie(list_repeat, "folder"),
    "list-unsorted": Lie(list_unsorted, "folder"),
    "list-loop": Lie(list_loop, "all"),
    "list-outside": Lie(list_outside, "folder"),
    "list-cut": Lie(list_cut, "folder"),
    "list-sizes": Lie(list_sizes, "folder"),
    "list-many": Lie(list_many, "folder"),
    "list-endless": Lie(list_endless, "folder"),
    "list-changing": Lie(list_changing, "folder"),
    "list-html-error": Lie(html_error, "folder"),
    "xml-bomb": Lie(xml_bomb, "folder"),
}


class Liar(ThreadServer):
    """files: {"d/name": bytes} (may be changed while it runs; default built_in_files()).  autoindex: "html" or "json"."""

    name = "liar"

    def __init__(self, files=None, port=0, autoindex="html"):
        super().__init__(port, hosts=(LOOPBACK, FOREIGN_HOST))
        self.files = built_in_files() if files is None else files
        self.autoindex = autoindex
        self._number = 0

    def next_number(self):
        with self.lock:
            self._number += 1
            return self._number

    def serve(self, connection):
        while True:
            head = connection.read_until(b"\r\n\r\n")
            if not head:
                return
            method, target = head.decode("latin-1").split("\r\n")[0].split(" ")[:2]
            fields = head_fields(head)
            # The log keeps what was asked; a lie may forget a field of its own copy.
            earlier = self.note(Seen(method, target, dict(fields), connection.sock.getsockname()[0]))
            self._answer(connection, Seen(method, target, fields), earlier)
            if fields.get("connection", "").lower() == "close" or "content-length" in fields:
                return  # a request's body is not read: this server only reads

    def _answer(self, connection, seen, earlier):
        segment, _, name = seen.path.removeprefix("/").partition("/")
        lie, _, argument = urllib.parse.unquote(segment).partition("=")
        exchange = Exchange(self, connection, seen, argument, urllib.parse.unquote(name, errors="surrogateescape"), earlier)
        if lie not in LIES:
            return exchange.send(exchange.plain(404, b"the first path segment is not in LIES\n"))
        function, about = LIES[lie]
        return function(exchange) if self._applies(about, exchange) else exchange.send(exchange.honest())

    @staticmethod
    def _applies(about, exchange):
        if about == "all":
            return True
        if exchange.is_folder or exchange.content is None:
            return about == "folder" and exchange.is_folder
        return about == "file" or (about == "body" and exchange.seen.method == "GET")


def _files_of(root):
    """The files below a folder, read into memory."""
    files = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as source:
                files[os.path.relpath(path, root)] = source.read()
    return files


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.liar", description="an HTTP server that lies on demand")
    parser.add_argument("root", metavar="DIR", nargs="?", help="serve these files instead of the built-in ones")
    parser.add_argument("--json", action="store_true", help="folder pages as JSON")
    args = parser.parse_args(argv)
    liar = Liar(_files_of(args.root) if args.root else None, autoindex="json" if args.json else "html")
    table = "\n".join(f"  /{name}/  {lie.function.__doc__}" for name, lie in LIES.items())
    return run_by_hand(liar, lambda it: f"{table}\n{it.url}")


if __name__ == "__main__":
    sys.exit(main())
