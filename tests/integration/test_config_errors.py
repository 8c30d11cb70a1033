"""Configurations from end to end: the examples, mistakes on the command line and under a program, azfuse's lists."""

import json
import re
import shutil

import pytest

from tests.harness import ROOT

LINE = re.compile(r"^(/[^:]+):(\d+):(\d+): (.+)$")
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))


def mistakes(prelux, text, **env):
    """(line, column, message) of each line that `config check` prints."""
    path = prelux.config(text, raw=True)
    done = prelux.cli("config", "check", check=False, env=env)
    assert done.returncode == 1 and done.stdout == ""
    found = [LINE.match(line) for line in done.stderr.splitlines()]
    assert found and all(found), done.stderr
    assert {match[1] for match in found} == {str(path)}
    return [(int(match[2]), int(match[3]), match[4]) for match in found]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_examples_are_right(prelux, path):
    accounts = prelux.tmp / "accounts"  # nobody else's to read: the tree is everybody's, and a key there is warned of
    shutil.copytree(ROOT / "config/storage_account", accounts)
    prelux.tmp.chmod(0o700)
    env = {"AZFUSE_STORAGE_ACCOUNT_CONFIG_FOLDER": accounts}
    done = prelux.cli("--config", path, "config", "check", check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_example_for_every_kind_of_backend():
    text = "".join(path.read_text() for path in EXAMPLES)
    kinds = re.findall(r'^    \{\.type = "([a-z0-9-]+)"', (ROOT / "lib/conf/keys.c").read_text(), re.M)
    assert len(kinds) == 7 and not [kind for kind in kinds if not re.search(rf"type: {kind}\b", text)]


def test_what_init_prints_is_right(prelux):
    prelux.config(prelux.cli("config", "init", config=False), raw=True)
    assert prelux.cli("config", "check", check=False).returncode == 0


def test_all_mistakes_at_once(prelux):
    found = mistakes(prelux, "version: 1\n"
                             "cache: {hihg: 0.9}\n"
                             "backends:\n"
                             "  s: {type: file}\n"
                             "mappings:\n"
                             "  - {local: /a, remote: 's:/', freshness: stale}\n"
                             "  - {local: /a, remote: 't:/'}\n"
                             "  - {local: \"${PRELUX_NOT_SET}\", remote: 's:/'}\n")
    assert [(line, column) for line, column, _ in found] == [(2, 9), (4, 6), (6, 43), (7, 13), (7, 25), (8, 13)]
    words = ["did you mean high?", "`root` is missing", "immutable, always, skip", "never reached", 'no backend "t"', "PRELUX_NOT_SET is not set"]
    assert all(word in message for word, (_, _, message) in zip(words, found)), found


def test_a_mistake_in_a_storage_account(prelux):
    folder = prelux.tmp / "accounts"
    folder.mkdir()
    (folder / "acc.yaml").write_text("account_name: a\n")
    prelux.config("- {local: data, remote: x, cache: /tmp/c, storage_account: acc}\n", raw=True)
    done = prelux.cli("config", "check", check=False, env={"AZFUSE_STORAGE_ACCOUNT_CONFIG_FOLDER": folder})
    assert done.returncode == 1
    assert done.stderr == f"{folder}/acc.yaml:1:1: the key `container_name` is missing or empty\n"


def test_secrets_stay_out_of_show(prelux):
    prelux.config("version: 1\nmappings: []\nbackends:\n"
                  "  a: {type: http, url: 'http://u:hush@h/', bearer: hush, headers: {X: hush}}\n"
                  "  b: {type: http, url: 'http://h/', bearer: '${TOKEN}'}\n", raw=True)
    for words in (["config", "show"], ["config", "show", "--json"], ["config", "check"]):
        done = prelux.cli(*words, check=False, env={"TOKEN": "hush"})
        assert done.returncode == 0 and "hush" not in done.stdout + done.stderr, words


def test_run_refuses_and_names_the_mistakes(prelux):
    path = prelux.config("version: 1\nmappings:\n  - {local: /prelux-test, remote: 'x:/'}\n", raw=True)
    done = prelux.run(["true"], check=False)
    assert done.returncode == 2
    assert f'{path}:3:35: `remote`: there is no backend "x"' in done.stderr


@pytest.mark.parametrize("text", [
    "version: 1\nbackends: [\nmappings:\n  - local: {local}\n    remote: s:/\n",
    "{{ version: 1, mapings: [{{local: '{local}', remote: 's:/'}}]\n",
    "- local: {local}\n  remote: x\n",
    "- local: !!python/object/apply:os.getcwd []\n- {{local: {local}, remote: x, cache: /tmp/c, storage_account: none}}\n",
], ids=["not yaml", "flow, not yaml", "azfuse, keys missing", "azfuse, a tag"])
def test_prefixes_of_a_broken_file_are_closed(prelux, text):
    local = prelux.tmp / "prefix"
    local.mkdir()
    (local / "real").write_text("behind the prefix")
    prelux.config(text.format(local=local), raw=True)
    done = prelux.run(["cat", local / "real", prelux.config_path], bare=True, check=False, env={"AZFUSE_USE_FUSE": "1", "LC_ALL": "C"})
    assert done.returncode == 1 and "behind" not in done.stdout
    assert "Input/output error" in done.stderr
    assert "remote" in done.stdout  # what is not mapped is read all the same
    assert any(record["errno"] == "EIO" for record in prelux.errors())


@pytest.mark.parametrize("env, bare, mapped", [
    ({}, False, True), ({}, True, False), ({"AZFUSE_USE_FUSE": "1"}, True, True), ({"AZFUSE_USE_FUSE": "0"}, False, False),
    ({"AZFUSE_USE_FUSE": "1", "QD_USE_FUSE": "0"}, False, False), ({"AZFUSE_USE_FUSE": "0", "QD_TSV_USE_FUSE": "1"}, True, True)])
def test_the_switch_of_azfuse(prelux, env, bare, mapped):
    """Switched off, the folder behind the prefix is an ordinary one."""
    accounts = prelux.tmp / "aux_data/storage_account"
    accounts.mkdir(parents=True)
    (accounts / "acc.yaml").write_text("account_name: a\ncontainer_name: c\n")
    (prelux.tmp / "data").mkdir()
    (prelux.tmp / "data/f").write_text("plain")
    prelux.config(f"- {{local: data, remote: x, cache: {prelux.tmp}/c, storage_account: acc}}\n", raw=True)
    done = prelux.run(["cat", "data/f"], env=env, bare=bare, check=False)
    assert (done.stdout == "plain") == (not mapped), done.stderr


def test_map_of_an_azfuse_list(prelux):
    accounts = prelux.tmp / "aux_data/storage_account"
    accounts.mkdir(parents=True)
    (accounts / "acc.yaml").write_text("account_name: a\ncontainer_name: c\naccount_key: null\nsas_token: '?sv=1'\n")
    prelux.config(f"- {{local: data/sub, remote: first/, cache: {prelux.tmp}/c1, storage_account: acc}}\n"
                  f"- {{local: data, remote: second, cache: {prelux.tmp}/c2, storage_account: acc}}\n"
                  f"- {{local: data/sub/deep, remote: third, cache: {prelux.tmp}/c3, storage_account: acc}}\n", raw=True)
    for path, cache in (("data/sub/deep/f", "c1/deep/f"), ("data/subx", "c2/subx"), ("data/y/../sub/z", "c1/z"), ("data/", "c2")):
        done = prelux.cli("map", path, "--json", check=False)
        answer = json.loads(done.stdout)
        assert answer["cache"] == f"{prelux.tmp}/{cache}" and answer["freshness"] == "immutable", (path, answer)
    assert prelux.cli("map", "datax", "--json", check=False).returncode == 1
