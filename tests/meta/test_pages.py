"""Man pages and completions of the build: well formed, and they know every command, option and key that the command does."""

import json
import os
import pty
import re
import shutil
import subprocess

import pytest

from tests.harness import BUILD, ROOT
from tests.meta.test_docs import COMMANDS, prelux

PAGES = {"prelux.1", "preluxd.8", "prelux.yaml.5", "prelux.7"}
# Prints what compadd is given, between two lines of its own, and leaves.
ZSHRC = r"""
fpath=(FOLDER $fpath)
autoload -U compinit
compinit -u -D
mark() { print -r -- "$1" }
begin() { mark '<<<' }
finish() { mark '>>>'; exit }
compprefuncs=(begin)
comppostfuncs=(finish)
bindkey '^I' complete-word
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits
  builtin compadd -A hits "$@"
  print -rl -- $hits
  builtin compadd "$@"
}
"""


def needs(*tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of pages and completions, made anew of this build."""
    if not (BUILD / "prelux").exists():
        pytest.skip(f"{BUILD}/prelux is not built")
    out = tmp_path_factory.mktemp("pages")
    for script in ("man.sh", "completions.sh"):
        done = subprocess.run(["sh", ROOT / "packaging" / script, BUILD, out], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


def plain(page):
    return page.read_text().replace("\\-", "-").replace("\\&", "").replace("\\fB", "").replace("\\fR", "")


def test_pages_are_well_formed(made):
    assert PAGES <= {path.name for path in made.iterdir()}
    needs("mandoc", "groff")
    for name in sorted(PAGES):
        said = subprocess.run(["mandoc", "-Tlint", "-Wstyle", made / name], capture_output=True, text=True).stdout
        assert said == "", said
        said = subprocess.run(["groff", "-man", "-ww", "-K", "utf8", "-Tutf8", "-z", made / name], capture_output=True, text=True).stderr
        assert said == "", said
        assert "@" not in re.sub(r"preluxd@|@bindir|[\w:/-]+@\w|@DIRFD", "", plain(made / name).split(".SH KEYS")[0].split(".SH WORDS")[0]), name


def test_page_of_the_command(made):
    text = plain(made / "prelux.1")
    for name, options in COMMANDS.items():
        part = text.partition(f".SS prelux {name} ")[2].partition("\n.SS ")[0]
        assert part, name
        for option in options:
            assert re.search(rf"^\.B .*--{option}\b", part, re.M), (name, option)
    assert len(COMMANDS) == text.count("\n.SS prelux ")


def test_page_of_the_daemon(made):
    text = plain(made / "preluxd.8")
    said = subprocess.run([BUILD / "preluxd", "--help"], capture_output=True, text=True).stdout
    options = re.findall(r"^  (--[a-z-]+)", said, re.M)
    assert options and not [one for one in options if f".B {one}" not in text or f"\\fB{one}" in text]
    synopsis = text.partition(".SH SYNOPSIS")[2].partition(".SH")[0]
    assert not [one for one in re.findall(r"--[a-z-]+", said) if one not in synopsis]


def test_page_of_the_keys(made):
    text = plain(made / "prelux.yaml.5")
    keys = [key for key in json.loads(prelux("config", "keys", "--json").stdout) if not key.get("hidden")]
    lines = text.splitlines()
    assert len(keys) > 50 and not [key["name"] for key in keys if key["name"] not in lines]


def test_page_of_the_semantics(made):
    text = plain(made / "prelux.7")
    for title in re.findall(r"^## (.*)", (ROOT / "docs/SEMANTICS.md").read_text(), re.M):
        assert f".SH {title.upper()}" in text.replace("\\(aq", "'")
    for word in ("EROFS", "stream_above", "on_crash", "user.prelux.state"):
        assert word in text


def bash(folder, words):
    script = """source "$1/prelux.bash"; shift; compopt() { :; }
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _prelux; printf '%s\\n' "${COMPREPLY[@]}" """
    return subprocess.run(["bash", "--norc", "-c", script, "bash", folder, *words], capture_output=True, text=True, check=True).stdout.split()


def zsh(folder, words):
    home = folder / "zsh"
    home.mkdir(exist_ok=True)
    shutil.copy(folder / "prelux.zsh", home / "_prelux")
    (home / ".zshrc").write_text(ZSHRC.replace("FOLDER", str(home)))
    master, slave = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "ZDOTDIR": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    child = subprocess.Popen(["zsh", "-d", "-i"], stdin=slave, stdout=slave, stderr=slave, env=env, cwd=home, start_new_session=True)
    os.close(slave)
    os.write(master, (" ".join(words) + "\t").encode())
    out = b""
    try:
        while more := os.read(master, 65536):
            out += more
    except OSError:
        pass  # the end of a terminal
    os.close(master)
    child.wait()
    assert b"<<<" in out and b">>>" in out, out
    return out.decode().partition("<<<")[2].partition(">>>")[0].split()


def fish(folder, words):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    script = f"source {folder}/prelux.fish; complete --do-complete='{' '.join(words)}'"
    said = subprocess.run(["fish", "-N", "-c", script], env=env, cwd=folder, capture_output=True, text=True)
    assert said.returncode == 0 and said.stderr == "", said.stderr
    return [line.split("\t")[0] for line in said.stdout.splitlines()]


@pytest.mark.parametrize("shell", [bash, zsh, fish])
def test_completions(made, shell):
    needs(shell.__name__)

    def ask(*words):
        return [word for word in shell(made, ["prelux", *words]) if not re.fullmatch("-.", word)]

    assert set(COMMANDS) <= set(ask("")) and set(ask("p")) == {name for name in COMMANDS if name.startswith("p")}
    for name in COMMANDS if shell is not zsh else ("run", "cluster", "prefetch"):
        assert set(ask(name, "--")) == {f"--{option}" for option in COMMANDS[name] + ["config", "help"]}, name
        words = re.search(rf"^Usage: prelux {name} \S* ?(\S*)", prelux(name, "--help").stdout).group(1)
        if "|" in words:
            assert set(ask(name, "")) == set(words.split("|")), name
    assert set(ask("daemon", "log", "--level", "")) == {"error", "warn", "info", "debug"}
    assert "uname" in ask("run", "una") and "uname" in ask("run", "--", "una")
    (made / "a-file").touch()
    assert any(word.endswith("a-file") for word in ask("run", "--", "cat", f"{made}/a-f"))
    assert any(word.endswith("a-file") for word in ask("--config", f"{made}/a-f"))
