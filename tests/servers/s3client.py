"""One signed S3 request (Signature Version 4, path style) for tests: a signer of its own, so that prelux's is not held to itself."""

import hashlib
import hmac
import http.client
import urllib.parse
from datetime import datetime, timezone

from .base import LOOPBACK


def quote(text, also=""):
    return urllib.parse.quote(text, safe="-_.~" + also)


def request(server, method, key, query=None, body=b"", secret=None, access=None, **fields):
    """key is "/BUCKET/KEY", not encoded; fields are more head fields (`If_Match=...`): (status, head fields, body).

    server has port, region, access_key and secret_key; the last two can be replaced to be refused."""
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path, text = quote(key, "/"), "&".join(f"{quote(name)}={quote(value)}" for name, value in sorted((query or {}).items()))
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": f"{LOOPBACK}:{server.port}", "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(sorted(signed))
    canonical = "\n".join([method, path, text, "".join(f"{name}:{signed[name]}\n" for name in sorted(signed)), names, digest])
    scope = f"{now[:8]}/{server.region}/s3/aws4_request"
    key_bytes = ("AWS4" + (secret or server.secret_key)).encode()
    for part in scope.split("/"):
        key_bytes = hmac.new(key_bytes, part.encode(), hashlib.sha256).digest()
    string = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signed["authorization"] = (f"AWS4-HMAC-SHA256 Credential={access or server.access_key}/{scope}, SignedHeaders={names}, "
                               f"Signature={hmac.new(key_bytes, string.encode(), hashlib.sha256).hexdigest()}")
    client = http.client.HTTPConnection(LOOPBACK, server.port, timeout=20)
    try:
        client.request(method, path + ("?" + text if text else ""), body or None,
                       {**signed, **{name.replace("_", "-"): value for name, value in fields.items()}})
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        client.close()
