#!/usr/bin/env python3
"""Line coverage of a build made with COVERAGE=1, one line a source file, by gcov.   tests/coverage.py build-cov"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(build):
    lines = {}  # file -> {line: hit}
    for counters in sorted((ROOT / build).rglob("*.gcda")):
        done = subprocess.run(["gcov", "--json-format", "--stdout", str(counters)], cwd=ROOT, capture_output=True, text=True)
        for text in done.stdout.splitlines():
            for row in json.loads(text)["files"]:
                if row["file"].startswith(("/", "tests/")) and not row["file"].startswith(str(ROOT)):
                    continue
                seen = lines.setdefault(row["file"], {})
                for line in row["lines"]:
                    seen[line["line_number"]] = seen.get(line["line_number"], False) or line["count"] > 0
    total = hit = 0
    for name, seen in sorted(lines.items()):
        total += len(seen)
        hit += sum(seen.values())
        print(f"{100 * sum(seen.values()) / max(1, len(seen)):5.1f}% of {len(seen):5} lines  {name}")
    print(f"{100 * hit / max(1, total):5.1f}% of {total:5} lines  all")
    return 0 if total else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
