"""docs/TROUBLESHOOTING.md has each message of the command, the daemon's log and the library, and none that there is not."""

import re

from tests.harness import ROOT

PAGE = ROOT / "docs/TROUBLESHOOTING.md"
LITERAL = r'"(?:[^"\\]|\\.)*"'
MACRO = r"\b[A-Z][A-Za-z0-9_]+"
STRING = rf"({LITERAL}(?:\s*(?:{MACRO}\s*)?{LITERAL})*(?:\s*\bPRI\w+)?)"
CALLS = {"cli": re.compile(r"(?:\bprelux_cli_fail\(|^ {4,6}return (?=\"[^\"]* ))\s*" + STRING, re.M), "daemon": re.compile(r"\bprelux_(?:warn|error)\(\s*" + STRING),
         "shim": re.compile(r"(?:\bprelux_fail\([^,;]+,[^,;]+,[^,;]+,|\bcause =)\s*" + STRING)}


def shown(text):
    """As the page has it: what is filled in is an ellipsis. Nothing, when all of it is filled in."""
    parts = re.findall(rf"{LITERAL}|{MACRO}", text)
    text = "".join(part[1:-1] if part[0] == '"' else "u" if part.startswith("PRI") else "…" for part in parts).replace('\\"', '"').replace("`", "'")
    text = re.sub(r"(?:%[-0-9.*]*(?:ll|l|z|h)?[a-zA-Z])+", "…", text)
    return text if re.search(r"[a-z]{3}", text) else None


def messages():
    found = set()
    for folder, call in CALLS.items():
        for path in [*(ROOT / folder).glob("*.c"), *((ROOT / "lib").glob("*/*.c") if folder == "daemon" else ())]:  # lib/ speaks in the daemon's log
            found |= {shown(match.group(1)) for match in call.finditer(path.read_text())}
    starts = re.findall(r'\bfail\("([^"]+)", ', (ROOT / "daemon/main.c").read_text())  # preluxd cannot begin: what, where, errno
    assert len(starts) >= 5
    return found - {None} | {f"{what} …: …" for what in starts}


def rows():
    return [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]


def test_each_message_is_there():
    page = {row[0].removeprefix("| ").strip("`") for row in rows()}
    assert len(messages()) > 60
    assert not messages() - page
    assert not page - messages()


def test_each_row_has_a_cause_and_a_mend():
    for row in rows():
        assert len(row) == 3 and all(len(cell.strip(" |")) > 5 for cell in row), row


if __name__ == "__main__":
    print("\n".join(sorted(messages())))
