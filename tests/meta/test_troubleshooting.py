"""docs/TROUBLESHOOTING.md has each message of the command, the daemon's log and the library, and none that there is not; and for each text that names a cause
(of a failure, of a configuration that is refused, of wrong usage) a row by pattern."""

import functools
import re

import pytest

from tests.harness import ROOT

PAGE = ROOT / "docs/TROUBLESHOOTING.md"
LITERAL = r'"(?:[^"\\]|\\.)*"'
MACRO = r"\b[A-Z][A-Za-z0-9_]+"
STRING = rf"({LITERAL}(?:\s*(?:{MACRO}\s*)?{LITERAL})*(?:\s*\bPRI\w+)?)"
CALLS = {"cli": re.compile(r"(?:\bprelux_cli_fail\(|^ {4,6}return (?=\"[^\"]* ))\s*" + STRING, re.M), "daemon": re.compile(r"\bprelux_(?:warn|error)\(\s*" + STRING),
         "shim": re.compile(r"(?:\bprelux_fail\([^,;]+,[^,;]+,[^,;]+,|\bcause =)\s*" + STRING)}
# Functions that are given the text of a cause, and which argument it is.
CAUSES = {"prelux_problem": 2, "prelux_conf_complain": 2, "prelux_conf_warn": 2, "prelux_cli_usage": 1, "say": 2}  # say: of lib/net/call.c


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


def arguments(text, at):
    """The arguments of the call whose parenthesis is at `at`."""
    found, depth, begin = [], 0, at + 1
    for token in re.compile(rf"{LITERAL}|'(?:\\.|[^'\\])+'|[](){{}}[,]").finditer(text, at):
        depth += token.group() in list("([{")
        depth -= token.group() in list(")]}")
        if depth == 0 or (depth == 1 and token.group() == ","):
            found.append(text[begin:token.start()])
            begin = token.end()
        if depth == 0:
            return found
    raise AssertionError(text[at:at + 80])


def variants(words):
    """The texts between which an argument chooses, each of one or several literals. Of one that has no words of its own (`"%s: %s"`) those that end it."""
    for one in re.finditer(STRING, words[0]):
        if shown(one.group(1)):
            yield shown(one.group(1))
            continue
        for end in re.finditer(STRING, ",".join(words[1:])):
            if " " in end.group(1):
                yield shown(re.sub(r'%[-0-9.*]*s(?!.*%)', lambda _: end.group(1)[1:-1], one.group(1)))  # noqa: B023


@functools.cache
def causes():
    found = {}
    for path in [*(ROOT / "lib").glob("*/*.c"), *(path for folder in ("daemon", "cli", "deep") for path in (ROOT / folder).glob("*.c"))]:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        for call in re.finditer(rf"\b({'|'.join(CAUSES)})\(", text):
            at, words = CAUSES[call.group(1)], arguments(text, call.end() - 1)
            if len(words) <= at or (call.group(1) == "say" and path.name != "call.c"):
                continue
            found.update((one, path.name) for one in variants(words[at:]) if one)
    return found


def rows(section):
    page = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]


@functools.cache
def patterns():
    return {text: re.compile(".*".join(map(re.escape, text.split("…"))), re.S) for row in rows("By cause") for text in re.findall("`([^`]+)`", row[0])}


def test_each_message_is_there():
    page = {row[0].removeprefix("| ").strip("`") for row in rows("By message")}
    assert len(messages()) > 60
    assert not messages() - page
    assert not page - messages()


def test_each_cause_is_there():
    known, found = patterns(), causes()
    assert len(found) > 650
    assert not {text: where for text, where in found.items() if not any(one.fullmatch(text) for one in known.values())}
    assert not [text for text, one in known.items() if not any(one.fullmatch(other) for other in found)]


def test_no_row_is_of_everything():
    """Else a new text would be held to be known, and who searches the page finds nothing."""
    assert not [text for text in patterns() if len(re.findall(r"[^\s…:/]", text)) < 2]
    widest = {text: sum(bool(one.fullmatch(other)) for other in causes()) for text, one in patterns().items()}
    assert max(widest.values()) < 40, max(widest, key=widest.get)


@pytest.mark.parametrize("section", ["By message", "By cause"])
def test_each_row_has_a_cause_and_a_mend(section):
    for row in rows(section):
        assert len(row) == 3 and all(len(cell.strip(" |")) > 5 for cell in row), row


if __name__ == "__main__":
    print("\n".join(sorted(messages() | causes().keys())))
