"""Commands, options and keys are documented where a reader looks for them."""

import json
import re
import subprocess

import pytest

from tests.harness import BUILD, ROOT

EXE = BUILD / "prelux"


def prelux(*words):
    if not EXE.exists():
        pytest.skip(f"{EXE} is not built")
    return subprocess.run([EXE, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def table():
    """Names and options of the commands, from the table in cli/main.c."""
    text = (ROOT / "cli/main.c").read_text()
    body = text[text.index("prelux_cli_commands[] = {"):text.index("{.name = NULL}")]
    rows = {}
    for row in re.split(r"\n    \{(?=\.name)", body)[1:]:
        name = re.search(r'\.name = "([a-z-]+)"', row).group(1)
        options = re.search(r"\.options = \{(.*)\}", row, re.S)
        rows[name] = re.findall(r'\{"([a-z-]+)"', options.group(1)) if options else []
        if ".json = true" in row:
            rows[name].append("json")
    return rows


COMMANDS = table()


def test_the_table_was_read():
    assert {"run", "status", "doctor", "config", "prefetch"} <= set(COMMANDS) and "from" in COMMANDS["prefetch"]


def test_help_names_every_command():
    done = prelux("--help")
    assert done.returncode == 0 and done.stderr == ""
    for name in COMMANDS:
        assert re.search(rf"^  {name}\b", done.stdout, re.M), name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name):
    done = prelux(name, "--help")
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith(f"Usage: prelux {name}")
    for option in COMMANDS[name] + ["config", "help"]:
        assert f"--{option}" in done.stdout, option


def test_readme_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert not [name for name in COMMANDS if not re.search(rf"prelux {name}\b|`{name}\b", text)]


def commands_page():
    """docs/COMMANDS.md is made of the help texts: `python3 -m tests.meta.test_docs > docs/COMMANDS.md`."""
    parts = ["# Commands\n", "Made from `prelux --help` and `prelux COMMAND --help`; a test holds them against this page.\n",
             "```\n" + prelux("--help").stdout + "```\n"]
    for name in COMMANDS:
        parts.append(f"## prelux {name}\n\n```\n" + prelux(name, "--help").stdout + "```\n")
    return "\n".join(parts)


def test_page_of_the_commands_equals_their_help():
    page = ROOT / "docs/COMMANDS.md"
    assert page.read_text() == commands_page(), "python3 -m tests.meta.test_docs > docs/COMMANDS.md"


def test_configuration_page_equals_the_table_of_keys():
    done = prelux("config", "keys")
    assert done.returncode == 0
    page = (ROOT / "docs/CONFIGURATION.md").read_text()
    assert done.stdout.startswith("<!-- keys: ") and done.stdout.endswith("<!-- keys: end -->\n")
    assert done.stdout in page, "put the output of `prelux config keys` there"


def test_every_key_is_in_the_example_or_comes_later():
    keys = json.loads(prelux("config", "keys", "--json").stdout)
    example = prelux("config", "init").stdout
    later = {kind for kind in ("alluxio", "alluxio-ee", "s3", "azure")}
    missing = [key["name"] for key in keys if not key["later"] and key.get("backend") not in later
               and not re.search(rf"\b{re.escape(key['name'].rpartition('.')[2])}:", example)]
    assert not missing


def test_verbs_of_the_daemon_and_the_cli_are_the_same():
    header = (ROOT / "include/prelux/ctl.h").read_text()
    daemon = (ROOT / "daemon/ctl.c").read_text()
    verbs = re.findall(r"#define (PRELUX_CTL_\w+) \"", header)
    assert verbs and not [verb for verb in verbs if verb not in daemon]
    used = {verb for path in (ROOT / "cli").glob("*.c") for verb in re.findall(r"PRELUX_CTL_\w+", path.read_text())}
    assert used <= set(verbs)


if __name__ == "__main__":
    print(commands_page(), end="")
