#!/usr/bin/env python3
"""wheel.py FOLDER VERSION OUT: a wheel of what bundle.sh has put into FOLDER, and of the Python module: bin/ becomes the environment's scripts, all
else goes to its prefix, where the command finds it by its own path. Nothing but the standard library."""

import base64
import hashlib
import os
import sys
import time
import zipfile
from pathlib import Path

TAG = f"py3-none-manylinux_2_27_{os.uname().machine}"
ROOT = Path(__file__).resolve().parent.parent


def add(wheel, record, name, data, mode):
    when = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", 0)), 315532800))[:6]
    info = zipfile.ZipInfo(name, when)
    info.external_attr = (0o100000 | mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    wheel.writestr(info, data)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    record.append(f"{name},sha256={digest},{len(data)}")


def main(folder, version, out):
    top, info = Path(folder), f"prelux-{version}.dist-info"
    path = Path(out) / f"prelux-{version}-{TAG}.whl"
    record = []
    summary = "Unmodified programs read remote files as if they were local"
    metadata = (f"Metadata-Version: 2.1\nName: prelux\nVersion: {version}\nSummary: {summary}\nLicense: Apache-2.0\nRequires-Python: >=3.6\n"
                f"Description-Content-Type: text/markdown\n\n{(ROOT / 'README.md').read_text()}")
    with zipfile.ZipFile(path, "w") as wheel:
        for file in sorted(path for path in top.rglob("*") if path.is_file()):
            name = file.relative_to(top)
            scheme = "scripts" if name.parts[0] == "bin" else "data"
            inside = name.relative_to("bin") if scheme == "scripts" else name
            mode = 0o755 if file.stat().st_mode & 0o111 else 0o644
            add(wheel, record, f"prelux-{version}.data/{scheme}/{inside}", file.read_bytes(), mode)
        for file in sorted((ROOT / "python").rglob("*.py")) if (ROOT / "python").is_dir() else []:
            add(wheel, record, str(file.relative_to(ROOT / "python")), file.read_bytes(), 0o644)
        add(wheel, record, f"{info}/METADATA", metadata.encode(), 0o644)
        add(wheel, record, f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: prelux\nRoot-Is-Purelib: false\nTag: {TAG}\n".encode(), 0o644)
        add(wheel, record, f"{info}/LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
