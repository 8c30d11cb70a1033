"""The S3 port of a stand-in worker (29998 on a real one): reads through to the under store, redirects to a file's owner.

After a GET that had bytes to send the connection is neither closed nor of any use: what follows on it gets a body without a
head, or nothing at all.  Every other answer ends its connection.  Elements of XML come in an order that nobody can rely on."""

import asyncio
import base64
import hashlib
import os
import random
import re
from urllib.parse import quote, unquote, unquote_to_bytes

from .peers import Unavailable
from .text import file_id, http_date, iso_date, normal_path
from .wire import head_bytes, read_body, read_request, send_file

OCTETS = "application/octet-stream"
LEGAL_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*\Z")
ESCAPE = re.compile(r"%(..?)?", re.S)
NOT_IMPLEMENTED = {"acl", "policy", "policyStatus", "versioning", "cors", "tagging", "uploads", "uploadId", "location", "lifecycle",
                   "encryption", "website", "notification", "object-lock", "partNumber"}
STATUS = {"NoSuchKey": "404 Not Found", "NoSuchBucket": "404 Not Found", "AccessDenied": "403 Forbidden", "BadDigest": "400 Bad Request",
          "InternalError": "500 Internal Server Error", "NotImplemented": "501 Not Implemented",
          "PreconditionFailed": "412 Precondition Failed", "InvalidArgument": "400 Bad Request"}
BODY_LIMIT = 1 << 40
PIECE = 1 << 20


class S3Error(Exception):
    def __init__(self, code, message, resource):
        super().__init__(message)
        self.code, self.message, self.resource = code, message, resource


class JavaError(Exception):
    """500 with a line of text."""


def element(name, *groups):
    """XML of an element whose children are groups of texts; the groups' order is anybody's guess."""
    groups = list(groups)
    random.shuffle(groups)
    return f"<{name}>" + "".join(groups) + f"</{name}>"


def leaf(name, text):
    if text is None:
        return f"<{name}/>"
    text = str(text)
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", text):
        raise JavaError("Invalid white space character in text to output")
    return f"<{name}>" + text.replace("&", "&amp;").replace("<", "&lt;").replace("\r", "&#xd;") + f"</{name}>"


def url_decoder(text):
    """java.net.URLDecoder.decode: the second decoding of a key."""
    for match in ESCAPE.finditer(text):
        digits = match.group(1) or ""
        if len(digits) < 2:
            raise JavaError("URLDecoder: Incomplete trailing escape (%) pattern")
        for place, char in enumerate(digits):
            if char not in "0123456789abcdefABCDEF":
                raise JavaError("URLDecoder: Illegal hex characters in escape (%) pattern - "
                                f'Error at index {place} in: "{digits}"')
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


class Target:
    """bucket, key (None: there is no slash behind the bucket, or nothing) and the query's parameters."""

    def __init__(self, target):
        path, _, query = target.partition("?")
        if not LEGAL_PATH.match(path):
            raise JavaError(f"Illegal character in path: {path}")
        path = url_decoder(unquote_to_bytes(path).decode("utf-8", "replace"))
        self.bucket, slash, key = path.lstrip("/").partition("/")
        self.key = key if slash and key else None
        pairs = [part.partition("=") for part in query.split("&") if part]
        self.query = {name: unquote(value.replace("+", " ")) for name, _, value in pairs}

    @property
    def rel(self):
        return normal_path(f"/{self.bucket}/{self.key or ''}")

    @property
    def name(self):
        return self.bucket if self.key is None else f"{self.bucket}/{self.key}"


def byte_range(text, size):
    """(start, end inclusive) or None where the field is no range to S3; start > end: nothing to send."""
    found = re.match(r"bytes=(\d*)-(\d*)$", text)
    if not found or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0:
            return None
        return max(0, size - int(last)), size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return 0, -1
    return int(first), min(int(last), size - 1) if last else size - 1


class S3Port:
    def __init__(self, worker):
        self.worker = worker
        self.connections = 0

    async def connection(self, reader, writer):
        self.connections += 1
        one = Connection(self.worker, self.connections, reader, writer)
        try:
            await one.run()
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Connection:
    def __init__(self, worker, number, reader, writer):
        self.worker, self.number, self.reader, self.writer = worker, number, reader, writer
        self.spent = False  # a GET has left the connection in the middle of an answer

    async def run(self):
        while request := await read_request(self.reader):
            await self.worker.hold()
            if self.worker.faults["s3_hung"]:
                await self._for_ever()
            try:
                ends = await self._answer(request)
            except S3Error as error:
                self._error(request, error)
                ends = True
            except (JavaError, Unavailable) as error:
                text = str(error) if isinstance(error, JavaError) else "UNAVAILABLE: io exception"
                self._send(request, "500 Internal Server Error", [("content-type", "text/plain")], text.encode(), "error")
                ends = True
            await self.writer.drain()
            if ends and not self.spent:
                return

    async def _for_ever(self):
        while await self.reader.read(PIECE):
            pass
        raise ConnectionError

    def _count(self, request, kind, status, size):
        self.worker.counter.write("s3", kind, request, int(status[:3]), self.number, bytes=size, spent=self.spent)

    def _send(self, request, status, fields, body, kind):
        """A whole answer; on a spent connection nothing of it comes through."""
        fields = fields + ([("content-length", len(body))] if fields and fields[0][0] == "content-type" else [])
        self._count(request, kind, status, len(body))
        if not self.spent:
            self.writer.write(head_bytes(status, fields) + (b"" if request.method == "HEAD" else body))

    def _error(self, request, error):
        xml = element("Error", leaf("Resource", error.resource), leaf("Message", error.message), leaf("RequestId", ""),
                      leaf("Code", error.code))
        self._send(request, STATUS[error.code], [("content-type", "application/xml")], xml.encode(), "error")

    def _xml(self, request, text, kind):
        self._send(request, "200 OK", [("content-type", "application/xml")], text.encode(), kind)
        return True

    async def _answer(self, request):
        target = Target(request.target)
        if NOT_IMPLEMENTED & target.query.keys():
            raise S3Error("NotImplemented", "Requested functionality is not implemented.", "internal error")
        view = self.worker.membership.slow()
        method, key = request.method, target.key
        if method == "GET":
            if not target.bucket:
                return await self._buckets(request, view)
            return await (self._list(request, view, target) if key is None else self._get(request, view, target))
        if method == "HEAD" and target.bucket:
            return await (self._head_bucket(request, view, target) if key is None else self._head(request, view, target))
        if method == "PUT" and target.bucket:
            return await self._put(request, view, target)
        if method == "DELETE" and target.bucket:
            return await self._delete(request, view, target)
        raise S3Error("InternalError", None, target.name)

    def _missing(self, target, code="NoSuchKey", rel=None):
        path = self.worker.under.uri(rel or target.rel)
        return S3Error(code, f'Path "{path}" does not exist.', target.name)

    # Reading

    @staticmethod
    def _object_fields(status, length, part=None):
        fields = [("last-modified", http_date(status.mtime_ms)), ("Content-Length", length)]
        if part:
            fields += [("accept-ranges", "bytes"), ("Content-Range", f"bytes {part[0]}-{max(part[1], 0)}/{status.length}")]
        if not status.folder:
            fields.append(("ETAG", status.etag))
        return fields + [("Content-Type", OCTETS)]

    async def _head_bucket(self, request, view, target):
        status = await self.worker.status(view, target.rel)
        if status is None or not status.folder:
            raise self._missing(target, "NoSuchBucket")
        self._send(request, "200 OK", [], b"", "head")
        return True

    async def _head(self, request, view, target):
        status = await self.worker.status(view, target.rel)
        if status is None or status.folder and not target.key.endswith("/"):
            self._send(request, "404 Not Found", [("content-length", 0)], b"", "head")
        else:
            self._send(request, "200 OK", self._object_fields(status, status.length), b"", "head")
        return True

    async def _get(self, request, view, target):
        status = await self.worker.status(view, target.rel)
        if status is None:
            raise self._missing(target)
        if status.length:
            owner = view.owner(self.worker.under.uri(target.rel))
            if owner.host != self.worker.host:
                host = self.worker.faults["redirect_to"] or owner.host
                path = quote(f"/{target.bucket}/{target.key}", safe="/+:@!$&'()*,;=")
                location = f"http://{host}:{self.worker.s3_port}{path}"
                self._send(request, "307 Temporary Redirect", [("location", location)], b"", "redirect")
                return True
        part = byte_range(request.fields.get("range", ""), status.length)
        if part and not status.length:
            part = (0, -1)
        first, last = part or (0, status.length - 1)
        length = last - first + 1
        fields = self._object_fields(status, length, part) + [("content-encoding", OCTETS)]
        self._count(request, "get", "206" if part else "200", length)
        if not self.spent:
            self.writer.write(head_bytes("206 Partial Content" if part else "200 OK", fields))
        if not status.length:
            return True
        if length:
            await self._body(status, first, last + 1)
        self.spent = True
        return False

    async def _body(self, status, start, end):
        """The bytes [start, end), page by page; what is not there is read from the under store, cut where the request ends."""
        worker, ident, size = self.worker, file_id(self.worker.under.uri(status.rel)), self.worker.pages.page_size
        wanted = [(number, min(end - number * size, size)) for number in range(start // size, (end - 1) // size + 1)]
        missing = [number for number, stop in wanted if (worker.pages.length(ident, number) or 0) < stop]
        if end - start > worker.range_limit:
            worker.faults["poisoned"] = True
        if missing and worker.faults["poisoned"]:
            await self.writer.drain()
            raise ConnectionError("poisoned")
        for number, stop in wanted:
            begin = max(start - number * size, 0)
            if (worker.pages.length(ident, number) or 0) < stop and not worker.load_page(status.rel, ident, number, stop):
                await self.writer.drain()
                await self._for_ever()  # an error behind the head
            await worker.throttle(stop - begin)
            await send_file(self.writer, worker.pages.path(ident, number), begin, stop - begin)
            await self.writer.drain()

    # Listing

    async def _buckets(self, request, view):
        rows = [status for status in await self.worker.listing(view, "/") or [] if status.folder]
        buckets = [element("Bucket", leaf("CreationDate", iso_date(0)), leaf("Name", row.name)) for row in rows]
        return self._xml(request, f"<ListAllMyBucketsResult><Buckets>{''.join(buckets)}</Buckets></ListAllMyBucketsResult>", "list")

    async def _list(self, request, view, target):
        query, base = target.query, normal_path("/" + target.bucket.replace(":", "/"))
        two, delimiter, prefix = query.get("list-type") == "2", query.get("delimiter"), query.get("prefix", "")
        if delimiter not in (None, "", "/"):
            raise S3Error("PreconditionFailed", "Alluxio S3 API only support / as delimiter.", target.name)
        if not await self.worker.status(view, base):
            raise self._missing(target, "NoSuchBucket")
        after = query.get("start-after", "") if two else query.get("marker", "")
        if two and query.get("continuation-token"):
            after = bytes.fromhex(query["continuation-token"].partition("-")[0]).decode()
        limit = int(query.get("max-keys") or 1000)
        rows = await self._rows(view, base, prefix, bool(delimiter))
        rows = [row for row in sorted(rows.items()) if row[0] > after]
        shown, cut = rows[:limit], len(rows) > limit
        return self._xml(request, self._list_xml(query, target, two, limit, shown, cut), "list")

    async def _rows(self, view, base, prefix, one_level):
        """{key: Status, or None for a common prefix}."""
        rows = {}
        folders = [prefix.rpartition("/")[0]]
        while folders:
            folder = folders.pop()
            for status in await self.worker.listing(view, normal_path(f"{base}/{folder}")) or []:
                key = status.rel[len(base):].lstrip("/") + ("/" if status.folder else "")
                if not key.startswith(prefix):
                    continue
                rest = key[len(prefix):]
                if one_level and "/" in rest:
                    rows[prefix + rest.partition("/")[0] + "/"] = None
                else:
                    rows[key] = status
                if status.folder and not one_level:
                    folders.append(key.rstrip("/"))
        return rows

    @staticmethod
    def _list_xml(query, target, two, limit, shown, cut):
        def plain(text):
            return quote(text, safe="/") if query.get("encoding-type") == "url" else text
        contents = [element("Contents", leaf("Key", plain(key)), leaf("Size", row.length), leaf("LastModified", iso_date(row.mtime_ms)))
                    for key, row in shown if row]
        groups = [leaf("version2", "true" if two else "false"), leaf("Name", target.bucket), "".join(contents), leaf("MaxKeys", limit),
                  "".join(f"<CommonPrefixes>{leaf('Prefix', plain(key))}</CommonPrefixes>" for key, row in shown if not row),
                  leaf("Prefix", plain(query.get("prefix", ""))), leaf("IsTruncated", "true" if cut else "false")]
        groups += [leaf(name, query[name.lower()]) for name in ("Delimiter",) if query.get("delimiter")]
        groups += [leaf("EncodingType", "url")] if query.get("encoding-type") else []
        if two:
            groups.append(leaf("KeyCount", len(shown)))
            groups += [leaf("ContinuationToken", query["continuation-token"])] if query.get("continuation-token") else []
            groups += [leaf("StartAfter", query["start-after"])] if query.get("start-after") else []
        else:
            groups.append(leaf("Marker", query.get("marker", "")))
        if cut and shown:
            word = shown[-1][0].encode().hex()
            token = f"{word}-{hashlib.sha256(word.encode()).hexdigest()}"
            groups.append(leaf("NextContinuationToken", token) if two else leaf("NextMarker", shown[-1][0]))
        return element("ListBucketResult", *groups)

    # Changing

    async def _put(self, request, view, target):
        if request.fields.get("expect", "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        local = self.worker.under.local(target.rel)
        if target.key is None:
            await read_body(self.reader, request, 0)
            os.makedirs(local, exist_ok=True)
            await self.worker.changed(view, target.rel)
            raise S3Error("InternalError", None, target.bucket)
        if request.length is None:
            raise S3Error("InternalError", None, target.name)
        bucket = "/" + target.bucket
        if not await self.worker.status(view, bucket):
            await read_body(self.reader, request, 0)
            raise self._missing(target, "NoSuchBucket", bucket)
        if request.length > self.worker.put_limit:
            await self._hang_in_put(request, local)
        body, _ = await read_body(self.reader, request, BODY_LIMIT)
        if body and self.worker.spend("put_garbled"):
            body = bytes([body[0] ^ 1]) + body[1:]
        if self.worker.spend("put_lost"):
            raise ConnectionError
        if self.worker.spend("put_refused"):
            raise S3Error("AccessDenied", None, target.name)
        if body and self.worker.spend("put_cut"):
            with open(local, "wb") as out:
                out.write(body[:len(body) // 2])
            await self.worker.changed(view, target.rel)
            raise ConnectionError
        if target.key.endswith("/"):
            os.makedirs(local, exist_ok=True)
            fields = []
        else:
            fields = await self._store(request, view, target, local, self._plain_body(request, body))
        await self.worker.changed(view, target.rel)
        if self.worker.spend("put_mute"):
            raise ConnectionError
        if fields is not None:
            self._send(request, "200 OK", fields, b"", "put")
        return True

    async def _store(self, request, view, target, local, body):
        """Write the object; fields of the answer, None when it has gone out already."""
        source = request.fields.get("x-amz-copy-source")
        if source:
            origin = await self.worker.status(view, normal_path("/" + unquote(source)))
            if not origin or origin.folder:
                raise self._missing(target)
            with open(self.worker.under.local(origin.rel), "rb") as data:
                body = data.read()
        digest = hashlib.md5(body)
        wanted = request.fields.get("content-md5")
        if wanted and base64.b64encode(digest.digest()).decode() != wanted:
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.", target.name)
        os.makedirs(os.path.dirname(local), exist_ok=True)
        with open(local, "wb") as out:  # in place: a reader may see the beginning of it
            out.write(body)
        if source:
            text = element("CopyObjectResult", leaf("LastModified", iso_date(os.stat(local).st_mtime_ns // 1_000_000)),
                           leaf("ETag", digest.hexdigest()))
            self._xml(request, text, "copy")
            return None
        return [("ETAG", digest.hexdigest())]

    @staticmethod
    def _plain_body(request, body):
        """Without the frames of aws-chunked."""
        if "x-amz-decoded-content-length" not in request.fields:
            return body
        data = bytearray()
        while body:
            line, _, rest = body.partition(b"\r\n")
            size = int(line.split(b";")[0] or b"0", 16)
            if not size:
                break
            data += rest[:size]
            body = rest[size + 2:]
        return bytes(data)

    async def _hang_in_put(self, request, local):
        """A large one: part of the file is there and the port is dead for good."""
        self.worker.faults["s3_hung"] = True
        self._count(request, "put", "000", 0)
        with open(local, "wb") as out:
            out.write(await self.reader.read(PIECE))
        await self._for_ever()

    async def _delete(self, request, view, target):
        local = self.worker.under.local(target.rel)
        if self.worker.spend("delete_idle"):
            self._send(request, "204 No Content", [], b"", "delete")
            return True
        try:
            if os.path.isdir(local):
                os.rmdir(local)
            else:
                os.unlink(local)
        except FileNotFoundError:
            path = self.worker.under.plain_root + target.rel
            raise S3Error("InternalError", f"UNKNOWN: java.io.FileNotFoundException: {path}", target.name) from None
        except OSError:
            pass  # a folder that is not empty: 204, and it stays
        await self.worker.changed(view, target.rel)
        if self.worker.spend("put_mute"):
            raise ConnectionError
        self._send(request, "204 No Content", [], b"", "delete")
        return True
