"""A small S3 client for tests: signs by itself (Signature Version 4), shares no code with lib/.

  S3Client(url, access_key, secret_key).put("bucket", b"key", b"content")

Keys are bytes; every byte but unreserved ones and the slash is sent as %XX.
"""

import datetime
import hashlib
import hmac
import http.client
import urllib.parse
import xml.etree.ElementTree as ET

PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def encode(data, also=b""):
    """Percent-encoding of bytes or text."""
    data = data.encode() if isinstance(data, str) else data
    return "".join(chr(byte) if byte in PLAIN + also else f"%{byte:02X}" for byte in data)


class S3Client:
    def __init__(self, url, access_key, secret_key, region="us-east-1", token=None):
        self.host = urllib.parse.urlsplit(url).netloc
        self.access_key, self.secret_key, self.region, self.token = access_key, secret_key, region, token
        self.connection = http.client.HTTPConnection(self.host, timeout=30)

    def request(self, method, path, query=None, body=b"", headers=None):
        """(status, headers, body) of one signed request; path is encoded already."""
        query = "&".join(sorted(f"{encode(name)}={encode(value)}" for name, value in (query or {}).items()))
        fields = self._sign(method, path, query, body, headers or {})
        try:
            return self._send(method, path + ("?" + query if query else ""), body, fields)
        except (http.client.HTTPException, OSError):  # closed meanwhile
            self.connection.close()
            return self._send(method, path + ("?" + query if query else ""), body, fields)

    def _send(self, method, target, body, fields):
        self.connection.request(method, target, body=body or None, headers=fields)
        answer = self.connection.getresponse()
        return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read()

    def _sign(self, method, path, query, body, headers):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        fields = {**{name.lower(): value for name, value in headers.items()}, "host": self.host, "x-amz-date": now,
                  "x-amz-content-sha256": digest}
        if self.token:
            fields["x-amz-security-token"] = self.token
        names = ";".join(sorted(fields))
        canonical = "\n".join([method, path, query, *(f"{name}:{fields[name].strip()}" for name in sorted(fields)), "", names, digest])
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        proof = hmac.digest(key, text.encode(), "sha256").hex()
        fields["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={proof}"
        return fields

    def put(self, bucket, key, body, **headers):
        """Store an object; its ETag."""
        key = key.encode() if isinstance(key, str) else key
        status, fields, text = self.request("PUT", f"/{bucket}/{encode(key, b'/')}", body=body, headers=headers)
        assert status == 200, (status, key, text)
        return fields.get("etag", "")

    def head(self, bucket, key):
        key = key.encode() if isinstance(key, str) else key
        return self.request("HEAD", f"/{bucket}/{encode(key, b'/')}")[:2]

    def keys(self, bucket, **query):
        """Names of the first page of a listing."""
        status, _, text = self.request("GET", f"/{bucket}", {"list-type": "2", **query})
        assert status == 200, text
        space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
        return [one.findtext(space + "Key") for one in ET.fromstring(text).iter(space + "Contents")]
