"""Texts as Java makes them: URIs, JSON by Gson, sizes, the order of a HashMap."""

import hashlib
import json
import re
from email.utils import formatdate
from time import gmtime, strftime

UNITS = ("KB", "MB", "GB", "TB", "PB")


def normal_path(text):
    """The path part of an AlluxioURI: backslashes turned, slashes single, no `.`, `..` or slash at the end."""
    parts = []
    for part in text.replace("\\", "/").split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def split_uri(text):
    """("file://" or "s3://bucket" or "", path)."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//[^/]*)?", text)
    if not found:
        return "", normal_path(text)
    return found.group(1) + ":" + (found.group(2) or "//"), normal_path(text[found.end():])


def uri(text):
    """new AlluxioURI(text).toString()."""
    head, path = split_uri(text)
    return head + (path if path != "/" or not head or head.endswith("//") else "")


def file_id(full_path):
    return hashlib.sha256(full_path.encode("utf-8", "surrogatepass")).hexdigest()


def gson(value):
    """JSON as Gson writes it: `< > & = '` as \\u003c and so on, no blanks, None left out of objects."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{gson(str(key))}:{gson(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(gson, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    return re.sub("[<>&='\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", json.dumps(value, ensure_ascii=False))


def human(size):
    """FormatUtils.getSizeFromBytes."""
    if size <= 5 * 1024:
        return f"{size}B"
    number, unit = size / 1024, 0
    while number > 5 * 1024 and unit < len(UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.2f}{UNITS[unit]}"


def _java_hash(text):
    value = 0
    units = text.encode("utf-16-be")
    for place in range(0, len(units), 2):
        value = (value * 31 + int.from_bytes(units[place:place + 2], "big")) & 0xffffffff
    return value


def hash_map(pairs):
    """The dict in the order in which Java's HashMap gives its entries."""
    table = dict(pairs)
    size = 16
    while len(table) > size * 3 // 4:
        size *= 2
    return dict(sorted(table.items(), key=lambda item: (_java_hash(item[0]) ^ _java_hash(item[0]) >> 16) & size - 1))


def http_date(millis):
    return formatdate(millis // 1000, usegmt=True)


def iso_date(millis):
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(millis // 1000)) + f".{millis % 1000:03}Z"
