"""What a stand-in worker keeps: the under store that it reads, metadata, pages.

The under store is a local folder with a name of its own: `root` is what Alluxio calls it ("file:///tmp/ufs", "s3://bucket"),
`folder` is where the bytes are.  A name that is not UTF-8, or that has a `?`, does not exist for Alluxio.
"""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .text import file_id, human, split_uri


@dataclass
class Status:
    """Of one path: rel is relative to the root and begins with a slash."""
    rel: str
    folder: bool
    length: int
    mtime_ms: int
    raw: str = ""  # as the under store spells it, where that differs: with a backslash

    @property
    def name(self):
        return self.rel.rpartition("/")[2]

    @property
    def etag(self):
        return f"(len:{self.length}, modtime:{self.mtime_ms})"


class UnderStore:
    def __init__(self, root, folder):
        self.root, self.folder = root.rstrip("/"), os.fsencode(folder)
        self.plain_root = split_uri(root)[1].rstrip("/")  # as the local under store names it in its own errors

    def uri(self, rel):
        return self.root + (rel if rel != "/" else "")

    def local(self, rel):
        return self.folder + rel.encode("utf-8", "surrogateescape")

    def stat(self, rel):
        """Status or None."""
        if "?" in rel or "\0" in rel:
            return None
        try:
            return self._status(rel, os.stat(self.local(rel)))
        except (OSError, UnicodeError):
            return None

    @staticmethod
    def _status(rel, found, raw=""):
        folder = os.path.stat.S_ISDIR(found.st_mode)
        return Status(rel, folder, 0 if folder else found.st_size, found.st_mtime_ns // 1_000_000, raw)

    def listing(self, rel):
        """[Status] by name; None when it is not there or no folder."""
        try:
            names = os.listdir(self.local(rel))
        except (OSError, UnicodeError):
            return None
        rows = []
        for name in names:
            try:
                text = name.decode()
                found = os.stat(self.local(rel) + b"/" + name)
            except (OSError, UnicodeError):
                continue
            if "?" not in text:
                base = rel.rstrip("/") + "/"
                rows.append(self._status(base + text.replace("\\", "/"), found, base + text if "\\" in text else ""))
        return sorted(rows, key=lambda status: status.rel)

    def info(self, status):
        """The FileInfo of the HTTP port, before Gson."""
        return {"mType": "directory" if status.folder else "file", "mName": status.name, "mPath": status.rel,
                "mUfsPath": self.uri(status.raw or status.rel), "mLastModificationTimeMs": status.mtime_ms,
                "mLength": status.length, "mHumanReadableFileSize": human(status.length)}


class PageStore:
    """Pages as files, so that they are sent without a copy and outlive the worker; `index` tells whose they are."""

    def __init__(self, folder, page_size):
        self.folder, self.page_size = Path(folder), page_size
        self._pages = {}  # id -> {number: length}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._index = open(self.folder / "index", "a+", encoding="utf-8", errors="surrogateescape")
        self._index.seek(0)
        names = {self._name(ident): ident for ident in self._index.read().splitlines()}
        for path in self.folder.glob("*.[0-9]*"):
            ident = names.get(path.stem)
            if ident and path.suffix[1:].isdigit():
                self._pages.setdefault(ident, {})[int(path.suffix[1:])] = path.stat().st_size

    @staticmethod
    def _name(ident):
        return hashlib.sha256(ident.encode("utf-8", "surrogateescape")).hexdigest()[:40]

    def path(self, ident, number):
        return f"{self.folder}/{self._name(ident)}.{number}"

    def length(self, ident, number):
        """Bytes that are there, None for a miss."""
        return self._pages.get(ident, {}).get(number)

    def put(self, ident, number, data):
        if ident not in self._pages:
            self._index.write(ident + "\n")
            self._index.flush()
            self._pages[ident] = {}
        with open(f"{self.folder}/new", "wb") as out:
            out.write(data)
        os.replace(f"{self.folder}/new", self.path(ident, number))
        self._pages[ident][number] = len(data)

    def drop(self, ident):
        for number in self._pages.pop(ident, {}):
            os.unlink(self.path(ident, number))

    def drop_all(self):
        for ident in list(self._pages):
            self.drop(ident)

    def counts(self):
        return {ident: dict(pages) for ident, pages in self._pages.items()}


class Metadata:
    """What the owner of a path knows of it.  Kept for ever unless `interval` (seconds; negative: for ever; 0: never) says
    otherwise, and over restarts; listings are kept as long, also of what is not there, but die with the worker."""

    def __init__(self, under, pages, folder, interval):
        self.under, self.pages, self.interval = under, pages, interval
        self._known = {}     # rel -> (Status, time)
        self._listings = {}  # rel -> ([Status] or None, time)
        self._journal = Path(folder) / "metastore"
        if self._journal.exists():
            for line in self._journal.read_text("utf-8", "surrogatepass").splitlines():
                row = json.loads(line)
                if "gone" in row:
                    self._known.pop(row["gone"], None)
                else:
                    self._known[row["rel"]] = (Status(**row), 0.0)

    def _fresh(self, since):
        return self.interval < 0 or self.interval > 0 and time.time() - since < self.interval

    def status(self, rel):
        known = self._known.get(rel)
        if known and self._fresh(known[1]):
            return known[0]
        status = self.under.stat(rel)
        if known and (status is None or known[0] != status):
            self.pages.drop(file_id(self.under.uri(rel)))
        self._remember(rel, status, known)
        return status

    def _remember(self, rel, status, known):
        if status is None:
            if self._known.pop(rel, None):
                self._write({"gone": rel})
            return
        self._known[rel] = (status, time.time())
        if self.interval and (not known or known[0] != status):
            self._write(asdict(status))

    def _write(self, row):
        with open(self._journal, "a", encoding="utf-8", errors="surrogatepass") as out:
            out.write(json.dumps(row) + "\n")

    def listing(self, rel):
        known = self._listings.get(rel)
        if known and self._fresh(known[1]):
            return known[0]
        rows = self.under.listing(rel)
        if rows is None:  # a file's listing is itself
            itself = self.under.stat(rel)
            rows = [itself] if itself and not itself.folder else None
        self._listings[rel] = (rows, time.time())
        return rows

    def changed(self, rel, listings=True):
        """Alluxio itself changed it: what was known, its pages and its folder's listing are void."""
        if self._known.pop(rel, None):
            self._write({"gone": rel})
        self.pages.drop(file_id(self.under.uri(rel)))
        while listings:
            self._listings.pop(rel, None)
            if rel == "/":
                return
            rel = rel.rpartition("/")[0] or "/"
