"""A stand-in, named so: an S3 that takes changes, keeps conditions or not, and fails as told, before or after it has done the work.

  with S3Changing(keys=...) as s3:
      s3.fail("PUT", when="after", status=500)            # does the next put, and says that it failed
      s3.fail("DELETE", when="before", how="reset")       # the next DELETE is not done and not answered
      s3.keeps.discard("copy-source-if-match")            # one of KEEPS

One change at a time.  `done` counts changes that were made, by (method, what).
"""

import base64
import collections
import hashlib
import itertools
import time
import urllib.parse
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

from .crc32c import crc32c
from .s3standin import S3Standin, Thing
from .threads import Gone

KEEPS = {"if-none-match", "if-match", "complete-if-none-match", "complete-if-match", "delete-if-match", "copy-source-if-match",
         "part-copy", "part-again", "markers", "multipart", "payload-sha", "payload-none", "part-crc", "complete-crc", "put-crc"}
XMLNS = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def crc32c_text(data):
    """As x-amz-checksum-crc32c has it."""
    return base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()


class Failure:
    def __init__(self, method, when, how, status, code, times, query, skip):
        self.method, self.when, self.how, self.status, self.code = method, when, how, status, code
        self.times, self.query, self.skip = times, query, skip

    def takes(self, request):
        if self.times == 0 or self.method not in (None, request.method) or (self.query is not None and self.query not in request.query):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Upload:
    def __init__(self, key, fields, crc=False):
        self.key, self.fields, self.parts, self.begun, self.crc = key, fields, {}, time.time(), crc
        self.sent = {}  # part number: when

    def sum_of(self, number):
        return crc32c_text(self.parts.get(number, b"?"))


class S3Changing(S3Standin):
    name = "s3-standin-changing"

    def __init__(self, **more):
        super().__init__(**more)
        self.keeps = set(KEEPS)
        self.uploads, self.failures, self.done = {}, [], collections.Counter()
        self.numbers = itertools.count(1)
        self.answers = {}         # (method, query or ""): body that replaces the answer's
        self.etags = {}           # (method, query or ""): ETag in the answer instead of the right one
        self.uploads_page = 1000

    def fail(self, method=None, when="before", how="answer", status=500, code="InternalError", times=1, query=None, skip=0):
        """how: answer, reset, stall, hidden (200, and the error in its body); query: only requests with this parameter; skip: not the first so many."""
        with self.lock2:
            self.failures.append(Failure(method, when, how, status, code, times, query, skip))

    def asked(self, method, query=None):
        return sum(seen.method == method and (query is None or query in seen.target) for seen in self.requests())

    # Frame

    def answer(self, request):
        digest = request.fields.get("x-amz-content-sha256")
        if request.body and "payload-sha" in self.keeps and digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(request.body).hexdigest():
            return self.refusal(400, "XAmzContentSHA256Mismatch")
        if request.body and "payload-none" not in self.keeps and digest == "UNSIGNED-PAYLOAD":
            return self.refusal(400, "InvalidRequest")
        with self.lock2:
            failure = next((one for one in self.failures if one.takes(request)), None)
        if failure and failure.when == "before":
            return self.break_off(failure)
        answer = super().answer(request)
        return self.break_off(failure) if failure else answer

    def break_off(self, failure):
        if failure.how == "reset":
            raise Gone
        if failure.how == "stall":
            self.stopping.wait(120)
            raise Gone
        status, fields, body = self.refusal(failure.status, failure.code)
        return (200 if failure.how == "hidden" else status), fields, body

    def thing(self, request, key):
        ways = {("POST", "uploads"): self.begin, ("POST", "uploadId"): self.complete, ("DELETE", "uploadId"): self.abort,
                ("PUT", "partNumber"): self.part, ("GET", "uploads"): self.list_uploads, ("GET", "uploadId"): self.list_parts,
                ("PUT", ""): self.put_object, ("DELETE", ""): self.delete}
        for (method, query), way in ways.items():
            if request.method == method and (not query or query in request.query):
                with self.lock2:
                    status, fields, body = way(request, key)
                if status < 300:
                    self.done[method, query] += 1
                    fields = {**fields, **({"ETag": self.etags[method, query]} if (method, query) in self.etags else {})}
                    body = self.answers.get((method, query), body)
                return status, fields, body
        return super().thing(request, key)

    def document(self, name, **fields):
        return 200, {"Content-Type": "application/xml"}, (f"<{name}{XMLNS}>" + "".join(
            f"<{tag}>{escape(str(text))}</{tag}>" for tag, text in fields.items()) + f"</{name}>").encode()

    # Conditions and sums

    def unmet(self, request, key, prefix=""):
        """A refusal, if a condition that this server keeps does not hold."""
        now = self.objects.get(key)
        if "if-none-match" in request.fields and prefix + "if-none-match" in self.keeps and now:
            return self.refusal(412, "PreconditionFailed")
        wanted = request.fields.get("if-match")
        if wanted and prefix + "if-match" in self.keeps:
            if not now:
                return None if request.method == "DELETE" else self.refusal(404, "NoSuchKey")
            if wanted != now.etag:
                return self.refusal(412, "PreconditionFailed")
        return None

    def damaged(self, request):
        md5 = request.fields.get("content-md5")
        if md5 and base64.b64decode(md5) != hashlib.md5(request.body).digest():
            return self.refusal(400, "BadDigest")
        crc = request.fields.get("x-amz-checksum-crc32c")
        if crc and "partNumber" not in request.query and "put-crc" in self.keeps and crc != crc32c_text(request.body):
            return self.refusal(400, "BadDigest")
        return None

    def metadata(self, request):
        return {name.title(): value for name, value in request.fields.items()
                if name.startswith("x-amz-meta-") or name in ("content-type", "cache-control")}

    def source(self, request):
        """(the thing to be copied, None) or (None, refusal)"""
        bucket, _, key = urllib.parse.unquote_to_bytes(request.fields["x-amz-copy-source"]).lstrip(b"/").partition(b"/")
        thing = self.objects.get(key)
        if bucket != self.bucket.encode() or not thing:
            return None, self.refusal(404, "NoSuchKey")
        wanted = request.fields.get("x-amz-copy-source-if-match")
        if wanted and wanted != thing.etag and "copy-source-if-match" in self.keeps:
            return None, self.refusal(412, "PreconditionFailed")
        return thing, None

    # Objects

    def store(self, key, body, fields, etag=None):
        if key.endswith(b"/") and "markers" not in self.keeps:
            return Thing(body, etag)
        self.objects[key] = Thing(body, etag, modified=int(time.time()), fields=fields)
        return self.objects[key]

    def put_object(self, request, key):
        if "x-amz-copy-source" in request.fields:
            return self.copy_object(request, key)
        refused = self.damaged(request) or self.unmet(request, key)
        if refused:
            return refused
        return 200, {"ETag": self.store(key, request.body, self.metadata(request)).etag}, b""

    def copy_object(self, request, key):
        thing, refused = self.source(request)
        if refused:
            return refused
        copy = self.store(key, thing.body, thing.fields, thing.etag)
        return self.document("CopyObjectResult", ETag=copy.etag, LastModified="2026-01-01T00:00:00Z")

    def delete(self, request, key):
        refused = self.unmet(request, key, "delete-")
        if refused:
            return refused
        self.objects.pop(key, None)
        return 204, {}, b""

    # Uploads

    def begin(self, request, key):
        if "multipart" not in self.keeps:
            return self.refusal(501, "NotImplemented")
        one = f"id-{next(self.numbers)}/+=~"
        crc = request.fields.get("x-amz-checksum-algorithm") == "CRC32C" and "part-crc" in self.keeps
        self.uploads[one] = Upload(key, self.metadata(request), crc)
        return self.document("InitiateMultipartUploadResult", Bucket=self.bucket, UploadId=one)

    def upload_of(self, request, key):
        one = self.uploads.get(request.query["uploadId"].decode())
        return one if one and one.key == key else None

    def part(self, request, key):
        upload, number = self.upload_of(request, key), int(request.query["partNumber"])
        if not upload:
            return self.refusal(404, "NoSuchUpload")
        if number in upload.parts and "part-again" not in self.keeps:
            return self.refusal(501, "NotImplemented")
        body, refused = request.body, self.damaged(request) or self.other_crc(request, upload)
        if "x-amz-copy-source" in request.fields and "part-copy" in self.keeps:
            thing, refused = self.source(request)
            if thing:
                wanted = request.fields.get("x-amz-copy-source-range", "bytes=0-").removeprefix("bytes=").split("-")
                body = thing.body[int(wanted[0]):int(wanted[1] or 1 << 62) + 1]
        if refused:
            return refused
        upload.parts[number], upload.sent[number] = body, time.time()
        etag = '"' + hashlib.md5(body).hexdigest() + '"'
        if "x-amz-copy-source" in request.fields and "part-copy" in self.keeps:
            return self.document("CopyPartResult", ETag=etag)
        return 200, {"ETag": etag}, b""

    def other_crc(self, request, upload):
        told = request.fields.get("x-amz-checksum-crc32c")
        if "part-crc" not in self.keeps:
            return None
        if bool(told) != upload.crc:
            return self.refusal(400, "InvalidRequest")
        return self.refusal(400, "BadDigest") if told and told != crc32c_text(request.body) else None

    def complete(self, request, key):
        upload = self.upload_of(request, key)
        if not upload:
            return self.refusal(404, "NoSuchUpload")
        rows = ET.fromstring(request.body)
        wanted = [(int(one.findtext("{*}PartNumber")), one.findtext("{*}ETag").strip('"')) for one in rows]
        sums = [one.findtext("{*}ChecksumCRC32C") for one in rows]
        if upload.crc and ("complete-crc" not in self.keeps or sums != [upload.sum_of(number) for number, _ in wanted]):
            return self.refusal(400, "InvalidPart")
        digests = b""
        for number, etag in wanted:
            if hashlib.md5(upload.parts.get(number, b"?")).hexdigest() != etag:
                return self.refusal(400, "InvalidPart")
            digests += bytes.fromhex(etag)
        refused = self.unmet(request, key, "complete-")
        if refused:
            return refused
        thing = self.store(key, b"".join(upload.parts[number] for number, _ in wanted), upload.fields,
                           f'"{hashlib.md5(digests).hexdigest()}-{len(wanted)}"')
        del self.uploads[request.query["uploadId"].decode()]
        status, fields, body = self.document("CompleteMultipartUploadResult", Key=key.decode(), ETag=thing.etag)
        return status, fields, b"\n   \n" + body  # kept alive by blanks

    def abort(self, request, key):
        if not self.upload_of(request, key):
            return self.refusal(404, "NoSuchUpload")
        del self.uploads[request.query["uploadId"].decode()]
        return 204, {}, b""

    def when(self, seconds):
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))

    def list_uploads(self, request, key):
        prefix, marker = request.query.get("prefix", b""), (request.query.get("key-marker", b""), request.query.get("upload-id-marker", b"").decode())
        rows = sorted((upload.key, one, upload) for one, upload in self.uploads.items() if upload.key.startswith(prefix))
        rows = [row for row in rows if row[:2] > marker or not marker[0]]
        page = rows[:self.uploads_page]
        text = "".join(f"<Upload><Key>{urllib.parse.quote_plus(key)}</Key><UploadId>{escape(one)}</UploadId><Initiator><ID>i</ID></Initiator>"
                       f"<Initiated>{self.when(upload.begun)}</Initiated>"
                       f"{'<ChecksumAlgorithm>CRC32C</ChecksumAlgorithm>' if upload.crc else ''}</Upload>" for key, one, upload in page)
        more = f"<NextKeyMarker>{urllib.parse.quote_plus(page[-1][0])}</NextKeyMarker><NextUploadIdMarker>{escape(page[-1][1])}</NextUploadIdMarker>" \
            if page else ""
        return 200, {}, (f"<ListMultipartUploadsResult{XMLNS}><EncodingType>url</EncodingType>{more}<IsTruncated>{str(len(rows) > len(page)).lower()}"
                         f"</IsTruncated>{text}</ListMultipartUploadsResult>").encode()

    def list_parts(self, request, key):
        upload = self.upload_of(request, key)
        if not upload:
            return self.refusal(404, "NoSuchUpload")
        text = "".join(f"<Part><PartNumber>{number}</PartNumber><LastModified>{self.when(upload.sent[number])}</LastModified><ETag>x</ETag>"
                       f"<Size>{len(upload.parts[number])}</Size></Part>" for number in sorted(upload.parts))
        return 200, {}, f"<ListPartsResult{XMLNS}><IsTruncated>false</IsTruncated>{text}</ListPartsResult>".encode()
