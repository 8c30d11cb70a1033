"""What tests share that run a suite of others in a mapped and in a plain folder: the cases that may differ are in docs/SEMANTICS.md, each with its reason."""

import fnmatch
import re

from tests.harness import ROOT


def listed(title, prefix=""):
    """[(pattern of cases, how they end)] of the table below that title."""
    text = (ROOT / "docs/SEMANTICS.md").read_text()
    section = text[text.index(f"## {title}\n"):].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [(prefix + pattern, row[1].strip()) for row in rows for pattern in re.findall(r"`([^`]+)`", row[0])]


def kind(outcome):
    return outcome if outcome in ("ok", "skipped") else "fails"


def judge(got, want, rows, story):
    """got, want: {case: "ok", "skipped" or what it failed with} of the mapped and the plain folder."""
    assert any(outcome == "ok" for outcome in got.values()), got
    worse = {case: outcome for case, outcome in got.items() if outcome != "ok" and want.get(case) == "ok"}
    allowed = {case: how for case in got for pattern, how in rows if fnmatch.fnmatchcase(case, pattern)}
    wrong = {case: outcome for case, outcome in worse.items() if allowed.get(case) not in (kind(outcome), "may fail")}
    assert not wrong, "\n".join(f"{case}: {outcome}" for case, outcome in wrong.items()) + story
    better = [case for case, how in allowed.items() if case not in worse and want.get(case, "ok") == "ok" and how != "may fail"]
    assert not better, f"listed in docs/SEMANTICS.md, and as in a plain folder: {better}"
