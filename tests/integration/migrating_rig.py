"""docs/MIGRATING.md as a test: its snippets are run as they stand, so that the page cannot lie.

A snippet is a fenced block right below a marker, an HTML comment of one line that a reader of the page does not see:

    <!-- ours: azfuse.prepare -->       what replaces it. `sh` is run by bash -eu, `python` is a program that runs below `prelux run`,
                                        `yaml` is a configuration, `text` is what the row prints, to the byte
    <!-- theirs: azfuse.prepare -->     the old way. It must at least be Python; where the package is installed the test file runs it,
                                        too, behind the block of PRODUCT.setup, and what it does passes the same check()

The name is PRODUCT.ROW, and a row may have several blocks: they run in the order of the page, in one folder. A block that is not
to be run (an excerpt of something) has no marker. Of a row that has neither a `text` block nor a check() of its test file nobody
would notice that it does nothing: unchecked() finds those.

    PAGE = migrating_rig.Page("azfuse")
    CHECKS = migrating_rig.Checks()

    @CHECKS("azfuse.prepare")
    def _(setup, done): ...             # looks at the remote, the cache, done.stdout

    @pytest.mark.parametrize("name", PAGE.names)
    def test_row(setup, name):
        done = PAGE.run(setup.prelux, name, cwd=..., replace={"worker1:28080": "127.0.0.2:4711"})
        CHECKS.run(name, setup, done)
"""

import ast
import os
import re
from typing import NamedTuple

from tests.harness import ROOT

PATH = ROOT / "docs" / "MIGRATING.md"
MARKER = re.compile(r"<!-- (ours|theirs): ([a-z0-9_]+\.[a-z0-9_]+) -->")
FENCE = re.compile(r"```(\w*)$")
LANGUAGES = ("sh", "python", "yaml", "text")


class Block(NamedTuple):
    side: str       # "ours" or "theirs"
    name: str       # PRODUCT.ROW
    language: str
    text: str
    line: int       # of the marker


class Done(NamedTuple):
    stdout: str
    stderr: str


def blocks(text):
    """All marked blocks of a page; a marker without a block, or a name that is none, is an error."""
    found, lines, number = [], text.splitlines(), 0
    while number < len(lines):
        marker = MARKER.fullmatch(lines[number])
        assert marker or not re.match(r"<!-- *(ours|theirs)\b", lines[number]), f"line {number + 1}: no marker: {lines[number]}"
        if not marker:
            number += 1
            continue
        fence = FENCE.fullmatch(lines[number + 1])
        assert fence and fence.group(1) in LANGUAGES, f"line {number + 2}: no block of {LANGUAGES} below the marker"
        end = lines.index("```", number + 2)
        found.append(Block(*marker.groups(), fence.group(1), "\n".join(lines[number + 2:end]) + "\n", number + 1))
        number = end + 1
    return found


class Page:
    """The rows of one product, in the order of the page."""

    def __init__(self, product, text=None):
        self.text = PATH.read_text() if text is None else text
        self.blocks = [block for block in blocks(self.text) if block.name.startswith(product + ".")]
        self.names = list(dict.fromkeys(block.name for block in self.blocks if block.side == "ours" and block.language in ("sh", "python")))

    def of(self, name, side="ours", *languages):
        return [block for block in self.blocks if block.name == name and block.side == side and block.language in (languages or LANGUAGES)]

    def config(self, name, replace=()):
        """The text of the `yaml` block of that name."""
        block, = self.of(name, "ours", "yaml")
        return _replaced(block.text, replace)

    def expected(self, name):
        """What the row prints, or None when the page does not say."""
        found = self.of(name, "ours", "text")
        return "".join(block.text for block in found) if found else None

    def run(self, prelux, name, cwd=None, env=None, replace=(), timeout=120, shown=(), python="/usr/bin/python3"):
        """Runs the row's own blocks; fails when one fails or prints what the page does not say (`shown`: with these replaced).
        python: who runs `python` blocks."""
        out, err = "", ""
        for block in self.of(name, "ours", "sh", "python"):
            text = _replaced(block.text, replace)
            argv = _command(prelux, block, text, cwd or prelux.tmp, python)
            done = prelux.plain(argv, cwd=cwd, timeout=timeout, env=_environment(prelux, env), check=False)
            assert done.returncode == 0, (f"docs/MIGRATING.md:{block.line} ({name}): status {done.returncode}\n{text}--- stdout\n{done.stdout}\n"
                                          f"--- stderr\n{done.stderr}\n{prelux.story()}")
            out, err = out + done.stdout, err + done.stderr
        expected = self.expected(name)
        expected = expected and _replaced(expected, shown)
        assert expected is None or out == expected, f"{name} printed\n{out}and the page says\n{expected}--- stderr\n{err}"
        return Done(out, err)

    def run_theirs(self, prelux, name, python, cwd=None, env=None, replace=(), timeout=120):
        """The old way, by an interpreter that has the package, without prelux; PRODUCT.setup comes before the row. What it printed."""
        setup = self.of(name.partition(".")[0] + ".setup", "theirs", "python")
        text = "".join(block.text for block in setup + self.of(name, "theirs", "python"))
        return prelux.plain([python, "-c", _replaced(text, replace)], cwd=cwd, env=env, timeout=timeout).stdout

    def syntax(self):
        """Python of either side that is none: [(line, what)]."""
        wrong = []
        for block in self.blocks:
            if block.language == "python":
                try:
                    ast.parse(block.text)
                except SyntaxError as error:
                    wrong.append((block.line + 1 + (error.lineno or 0), str(error)))
        return wrong

    def unchecked(self, checks):
        """Rows of which nothing but the exit status is looked at, and checks of rows that are not there."""
        return [name for name in self.names if name not in checks and self.expected(name) is None], sorted(set(checks) - set(self.names))


class Checks(dict):
    """name -> function(setup, done); used as a decorator."""

    def __call__(self, *names):
        def keep(function):
            for name in names:
                assert name not in self, name
                self[name] = function
            return function
        return keep

    def run(self, name, setup, done):
        if name in self:
            self[name](setup, done)


def rows_of_tables(text, heading):
    """All `names` in back-quotes in first cells of tables below a heading, down to the next one of its level."""
    level = heading.split(" ")[0]
    part = re.split(rf"^{level} ", text.split(heading + "\n", 1)[1], maxsplit=1, flags=re.M)[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def _replaced(text, replace):
    for old, new in dict(replace).items():
        text = text.replace(old, str(new))
    return text


def _environment(prelux, env):
    """As a user has it: `prelux` is found, and so is the configuration."""
    found = {"PATH": f"{prelux.build}:{os.environ.get('PATH', '/usr/bin:/bin')}"}
    if prelux.config_path:
        found["PRELUX_CONFIG"] = str(prelux.config_path)
    return {**found, **(env or {})}


def _command(prelux, block, text, cwd, python):
    if block.language == "sh":
        return ["bash", "-eu", "-o", "pipefail", "-c", text]
    program = cwd / "snippet.py"
    program.write_text(text)
    return [prelux.exe, "run", "--", python, program]
