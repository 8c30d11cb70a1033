"""Stand-ins, named so: an S3 server in the test's own process that can lie, and the places AWS keys come from (STS, the
container's agent, the instance's metadata).  Real servers do not expire tokens or loop their listings on demand.

S3Standin checks each signature with code of its own, from the request as it came.  `lie` is a set of words that tests put in:

  listings  repeat-page loop-token no-token unsorted dtd cut foreign-key no-delimiter empty-pages no-start-after start-after-nothing shuffled
            plain-names error-page
  reads     range-200 wrong-range ignore-if-match
  answers   slow-down-N (the first N), redirect (307 to .elsewhere), deny-head
"""

import datetime
import email.utils
import hashlib
import hmac
import json
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

from .threads import Gone, Seen, ThreadServer, head_fields

REASONS = {200: "OK", 206: "Partial Content", 301: "Moved", 307: "Temporary Redirect", 400: "Bad Request", 403: "Forbidden",
           404: "Not Found", 412: "Precondition Failed", 416: "Range Not Satisfiable", 503: "Slow Down"}
LOL = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


class Request:
    def __init__(self, method, target, fields, body):
        self.method, self.target, self.fields, self.body = method, target, fields, body
        self.path, _, query = target.partition("?")
        self.query = {urllib.parse.unquote(name): urllib.parse.unquote_to_bytes(value)
                      for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)}
        self.raw_query = query


class HttpStandin(ThreadServer):
    """answer(request) -> (status, fields, body)"""

    def serve(self, connection):
        while True:
            head = connection.read_until(b"\r\n\r\n")
            if not head:
                raise Gone
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            fields = head_fields(head)
            body = connection.body(int(fields.get("content-length", 0)))
            self.note(Seen(method, target, fields))
            status, more, text = self.answer(Request(method, target, fields, body))
            lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
            more = {"Content-Length": len(text), "Date": self.date(), **more}
            lines += [f"{name}: {value}" for name, value in more.items()]
            connection.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if method == "HEAD" else text))

    def date(self):
        return email.utils.formatdate(usegmt=True)


class Thing:
    """An object.  etag None: made of the bytes; "": none is sent."""

    def __init__(self, body, etag=None, modified=1_700_000_000, fields=None):
        self.body, self.modified, self.fields = body, modified, fields or {}
        self.etag = '"' + hashlib.md5(body).hexdigest() + '"' if etag is None else etag


class S3Standin(HttpStandin):
    """keys: {access key: (secret, token or None)}; none: nothing is checked.  objects: {key as bytes: Thing}."""

    name = "s3-standin"

    def __init__(self, bucket="data", region="us-east-1", keys=None, page=1000):
        super().__init__()
        self.bucket, self.region, self.keys, self.page = bucket, region, keys or {}, page
        self.objects, self.lie = {}, set()
        self.clock = 0       # seconds ahead of ours
        self.expired = set()  # tokens
        self.elsewhere = ""
        self.says_region = True  # in a header, too
        self.slowed = 0
        self.lock2 = threading.Lock()

    def put(self, key, body=b"", **more):
        self.objects[key.encode() if isinstance(key, str) else key] = Thing(body, **more)

    def date(self):
        return email.utils.formatdate(time.time() + self.clock, usegmt=True)

    # Who asks

    def check(self, request):
        """None, or the refusal."""
        if not self.keys:
            return None
        text = request.fields.get("authorization", "")
        parts = dict(part.strip().split("=", 1) for part in text.partition(" ")[2].split(",")) if text.startswith("AWS4") else {}
        if not parts:
            return self.refusal(403, "AccessDenied")
        access, day, region, service, _ = parts["Credential"].split("/")
        if access not in self.keys:
            return self.refusal(403, "InvalidAccessKeyId")
        secret, token = self.keys[access]
        stamp = datetime.datetime.strptime(request.fields["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if abs(stamp.timestamp() - time.time() - self.clock) > 900:
            return self.refusal(403, "RequestTimeTooSkewed")
        if request.fields.get("x-amz-security-token") in self.expired:
            return self.refusal(400, "ExpiredToken")
        if request.fields.get("x-amz-security-token") != token:
            return self.refusal(403, "InvalidToken")
        if region != self.region:
            status, fields, body = self.refusal(400, "AuthorizationHeaderMalformed", f"<Region>{self.region}</Region>")
            return status, {**fields, **({"x-amz-bucket-region": self.region} if self.says_region else {})}, body
        names = parts["SignedHeaders"].split(";")
        canonical = "\n".join([request.method, request.path, "&".join(sorted(request.raw_query.split("&"))),
                               *(f"{name}:{' '.join(request.fields[name].split())}" for name in names), "", ";".join(names),
                               request.fields["x-amz-content-sha256"]])
        scope = f"{day}/{region}/{service}/aws4_request"
        key = b"AWS4" + secret.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        wanted = hmac.digest(key, "\n".join(["AWS4-HMAC-SHA256", request.fields["x-amz-date"], scope,
                                             hashlib.sha256(canonical.encode("latin-1")).hexdigest()]).encode(), "sha256").hex()
        return None if wanted == parts["Signature"] and "host" in names else self.refusal(403, "SignatureDoesNotMatch")

    def refusal(self, status, code, more=""):
        body = f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>it is {code}</Message>{more}</Error>"
        return status, {"Content-Type": "application/xml"}, body.encode()

    # What is answered

    def answer(self, request):
        for lie in self.lie:
            if lie.startswith("slow-down-") and self.slowed < int(lie[10:]):
                self.slowed += 1
                return self.refusal(503, "SlowDown")
        if "redirect" in self.lie:
            status, fields, body = self.refusal(307, "TemporaryRedirect")
            return status, {**fields, "Location": self.elsewhere + request.target}, body
        refused = self.check(request)
        if refused:
            return refused
        path = request.path
        if not request.fields["host"].startswith(self.bucket + "."):
            if path.split("/")[1] != self.bucket:
                return self.refusal(404, "NoSuchBucket")
            path = path[len(self.bucket) + 1:]
        key = urllib.parse.unquote_to_bytes(path[1:])
        if "list-type" in request.query and not key:
            return self.listing(request.query)
        if "deny-head" in self.lie and request.method == "HEAD":
            return self.refusal(403, "AccessDenied")
        return self.thing(request, key)

    def thing(self, request, key):
        thing = self.objects.get(key)
        if thing is None:
            return self.refusal(404, "NoSuchKey")
        condition = request.fields.get("if-match")
        if condition and condition != thing.etag and "ignore-if-match" not in self.lie:
            return self.refusal(412, "PreconditionFailed")
        fields = {"Last-Modified": email.utils.formatdate(thing.modified, usegmt=True), "Accept-Ranges": "bytes", **thing.fields}
        if thing.etag:
            fields["ETag"] = thing.etag
        wanted = request.fields.get("range")
        if not wanted:
            return 200, fields, thing.body
        first, last = wanted.removeprefix("bytes=").split("-")
        first, last = int(first), min(int(last), len(thing.body) - 1)
        if first >= len(thing.body):
            status, more, body = self.refusal(416, "InvalidRange")
            return status, {**more, "Content-Range": f"bytes */{len(thing.body)}"}, body
        if "wrong-range" in self.lie:  # as many bytes, from beside
            first, last = first + 1, last + 1
        fields["Content-Range"] = f"bytes {first}-{last}/{len(thing.body)}"
        return (200 if "range-200" in self.lie else 206), fields, thing.body[first:last + 1]

    def listing(self, query):
        if "error-page" in self.lie:
            return 200, {}, b"<html><body>please log in</body></html>"
        prefix, after = query.get("prefix", b""), query.get("start-after", b"")
        if "no-start-after" in self.lie:
            after = b""
        if "start-after-nothing" in self.lie and after:
            return 200, {}, self.page_xml([], {}, False, "")
        token = query.get("continuation-token", b"")
        after = max(after, bytes.fromhex(token.decode().partition(".")[0])) if token else after
        rows = {}
        for key in sorted(self.objects):
            rest = key[len(prefix):]
            if not key.startswith(prefix):
                continue
            cut = rest.find(b"/") if "no-delimiter" not in self.lie else -1
            rows[key if cut < 0 else prefix + rest[:cut + 1]] = cut < 0
        names = [name for name in sorted(rows) if name > after]
        if "shuffled" in self.lie:  # pages are in an order of their own
            names = sorted((name for name in rows if not token or name[::-1] > after), key=lambda name: name[::-1])
        limit = min(self.page, int(query.get("max-keys", b"1000")))
        truncated, names = len(names) > limit, names[:limit]
        if "empty-pages" in self.lie and not token.count(b"."):
            return 200, {}, self.page_xml([], rows, True, after.hex() + ".x")
        if "repeat-page" in self.lie:
            truncated, names = True, sorted(rows)[:limit]
        more = {"loop-token": "6161", "no-token": ""}
        next_token = next((more[lie] for lie in self.lie if lie in more), names[-1].hex() if names else "")
        if "shuffled" in self.lie and names:
            next_token = names[-1][::-1].hex()
        if "unsorted" in self.lie:
            names.reverse()
        if "foreign-key" in self.lie:
            names.append(b"~elsewhere/x")
            rows[b"~elsewhere/x"] = False
        if "loop-token" in self.lie:
            truncated = True
        body = self.page_xml(names, rows, truncated, next_token)
        return 200, {"Content-Type": "application/xml"}, body[:len(body) // 2] if "cut" in self.lie else body

    def page_xml(self, names, rows, truncated, token):
        def text(name):
            if "plain-names" in self.lie:
                return escape("".join(c if c >= " " else "\ufffd" for c in name.decode("utf-8", "replace")))
            return urllib.parse.quote_plus(name, safe="/")

        parts = ['<?xml version="1.0" encoding="UTF-8"?>', LOL if "dtd" in self.lie else "",
                 '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"]
        if truncated and token:
            parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        for name in names:
            thing = self.objects.get(name)
            if rows[name] and thing:
                when = datetime.datetime.fromtimestamp(thing.modified, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
                parts.append(f"<Contents><Key>{text(name)}</Key><LastModified>{when}</LastModified><ETag>{escape(thing.etag)}</ETag>"
                             f"<Size>{len(thing.body)}</Size><Owner><ID>x</ID></Owner></Contents>")
        for name in names:
            if not rows[name]:
                parts.append(f"<CommonPrefixes><Prefix>{text(name)}</Prefix></CommonPrefixes>")
        parts.append("" if "plain-names" in self.lie else "<EncodingType>url</EncodingType>")
        return ("".join(parts) + "</ListBucketResult>").encode()


class KeysStandin(HttpStandin):
    """STS at /sts/, a container's agent at /container, instance metadata (version 2) below /.  seconds: life of what they give.

    number counts the sets given: the access key is KEY<number>, the secret SECRET<number>, the token TOKEN<number>."""

    name = "keys-standin"

    def __init__(self, seconds=3600):
        super().__init__()
        self.seconds, self.number, self.delay = seconds, 0, 0.0
        self.broken = False
        self.assumed = []  # (role, external id)
        self.want = {}  # header fields a request must have

    def fresh(self):
        time.sleep(self.delay)
        with self.lock:
            self.number += 1
            number = self.number
        end = datetime.datetime.fromtimestamp(time.time() + self.seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"KEY{number}", f"SECRET{number}", f"TOKEN{number}", end

    def signed(self, request, form):
        """An AssumeRole by keys that we know: AK, or a role that we gave."""
        access = request.fields.get("authorization", "").partition("Credential=")[2].partition("/")[0]
        secret, token = ("SK", None) if access == "AK" else (access.replace("KEY", "SECRET"), access.replace("KEY", "TOKEN"))
        one = S3Standin(keys={access: (secret, token)}, region="eu-west-3")
        request.fields.setdefault("x-amz-content-sha256", hashlib.sha256(request.body).hexdigest())
        self.assumed.append((form["RoleArn"][0], form.get("ExternalId", [""])[0]))
        return access and one.check(request) is None

    def answer(self, request):
        if self.broken:
            return 500, {}, b"out of order"
        if any(request.fields.get(name) != value for name, value in self.want.items()):
            return 401, {}, b"no"
        if request.path == "/sts/":
            form = urllib.parse.parse_qs(request.body.decode())
            if form.get("Action") == ["AssumeRole"] and self.signed(request, form):
                pass
            elif form.get("Action") != ["AssumeRoleWithWebIdentity"] or form.get("WebIdentityToken") != ["web-token"] or \
                    form.get("RoleArn") != ["arn:aws:iam::1:role/r"]:
                return 403, {}, b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>"
            access, secret, token, end = self.fresh()
            return 200, {}, (f"<AssumeRoleWithWebIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
                             f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access}</AccessKeyId>"
                             f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
                             f"<Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                             f"</AssumeRoleWithWebIdentityResponse>").encode()
        if request.path == "/latest/api/token":
            return (200, {}, b"IMDS-TOKEN==") if request.method == "PUT" else (405, {}, b"")
        if request.path.startswith("/latest/meta-data/iam/security-credentials/"):
            if request.fields.get("x-aws-ec2-metadata-token") != "IMDS-TOKEN==":
                return 401, {}, b""
            if request.path.endswith("/"):
                return 200, {}, b"the role\n"
            if not request.path.endswith("/the%20role"):
                return 404, {}, b""
        elif request.path != "/container":
            return 404, {}, b""
        access, secret, token, end = self.fresh()
        return 200, {}, json.dumps({"Code": "Success", "AccessKeyId": access, "SecretAccessKey": secret, "Token": token,
                                    "Expiration": end}).encode()
