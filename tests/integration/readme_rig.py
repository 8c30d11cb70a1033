"""README.md as a test: its commands are taken from the page itself and run, so that it cannot lie.

    BLOCKS    lines of its fenced blocks that are commands; CONFIGURATION: the one that is a configuration
    INLINE    those in its text, such as `make ...` and `man ...`
    forms()   each command of its table with what stands for its arguments put in; alternatives and options one by one:
              `load submit|progress PATH` is two, `errors [PATH]` is two, `--data` in the row of `verify PATH...` is `verify --data PATH...`
"""

import itertools
import re
import subprocess

from tests.harness import BUILD, ROOT

TEXT = (ROOT / "README.md").read_text()
_FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
CONFIGURATION, = (text for language, text in _FENCED if language == "yaml")
BLOCKS = [re.sub(r"\s+# .*", "", line) for language, text in _FENCED if language != "yaml" for line in text.splitlines() if line]
_PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.M | re.S)
INLINE = sorted(code for code in set(re.findall(r"`([^`\n]+)`", _PROSE)) if re.match(r"(make|man|apt-get|pip|prelux) ", code))


def _rows():
    """[(codes of the first cell, options of the second)] of the table of commands."""
    part = TEXT.split("| command | what it does |\n", 1)[1].split("\n\n", 1)[0]
    for line in part.splitlines()[1:]:
        _, first, second, _ = re.split(r"(?<!\\)\|", line)
        codes = [code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", first)]
        yield codes, [code for code in re.findall(r"`(--[^`]+)`", second) if code != "--json"]


def _subcommands(name):
    said = subprocess.run([BUILD / "prelux", name, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.splitlines()[0]
    found = re.search(r" ([a-z]+(?:\|[a-z]+)+)", said)
    return found[1].split("|") if found else []


def _variants(code):
    """Of `a|b [C]`: a, a C, b, b C."""
    parts = []
    for word in re.findall(r"\S*\[[^]]*\]\S*|\S+", code):
        if optional := re.fullmatch(r"(.*)\[(.+)\]", word):
            parts.append([optional[1], optional[1] + optional[2]])
        else:
            parts.append(word.split("|"))
    return [" ".join(word for word in words if word) for words in itertools.product(*parts)]


def forms():
    """["run -- CMD", "run --report -- CMD", "config check", ...] in the order of the page; without `prelux`."""
    found = []
    for codes, options in _rows():
        name = codes[0].split()[0]
        own = _subcommands(name)
        for code in codes:
            if re.match(r"[a-z]*", code)[0] in own or code.startswith("-"):  # `show` after `config check`, `-` after `prefetch PATH...`
                code = f"{name} {code}"
            found += _variants(code)
        for option in options:
            found += _variants(codes[0].replace(name, f"{name} {option}", 1))
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print(*BLOCKS, "", *INLINE, "", *forms(), sep="\n")
