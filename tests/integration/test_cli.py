"""The command line: each command's text, its --json and its exit statuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness import ROOT, alive

OK, FAILED, USAGE, DEGRADED = 0, 1, 2, 3
COMMANDS = re.findall(r'^    \{\.name = "(\w+)"', (ROOT / "cli/main.c").read_text(), re.M)


@pytest.fixture
def lake(prelux):
    """A small folder mapped at /prelux-test; .data is its source."""
    data = prelux.tmp / "data"
    (data / "sub").mkdir(parents=True)
    (data / "one").write_text("1")
    (data / "sub" / "two").write_text("22")
    (data / "sub" / "ünï code").write_text("333")
    os.utime(data / "one", (1_600_000_000, 1_600_000_000))
    prelux.data = data
    prelux.file_mapping(data)
    return "/prelux-test"


# Words and statuses

@pytest.mark.parametrize("words", [
    ["nonsense"], ["--nonsense"], ["run"], ["map"], ["map", "a", "b"], ["status", "extra"], ["config"], ["config", "frob"],
    ["daemon", "frob"], ["status", "--nonsense"], ["errors", "--last", "x"], ["errors", "--last"], ["run", "--json", "--", "true"],
    ["--json", "run", "--", "true"], ["prefetch"], ["status", "--json=1"], ["run", "--no-wait=1", "true"], ["--config"], []])
def test_wrong_use_is_2_and_says_so(prelux, words):
    done = prelux.cli(*words, check=False)
    assert done.returncode == USAGE, done
    assert "prelux" in done.stderr or not words


def test_options_may_stand_on_either_side(prelux, lake):
    config = prelux.config_path
    prelux.config_path = None
    for words in (["--config", config, "map", lake], ["map", "--config", config, lake], ["map", lake, f"--config={config}"],
                  [f"--config={config}", "map", "--json", lake], ["--json", "--config", config, "map", lake]):
        assert prelux.cli(*words, check=False).returncode == OK, words


def test_no_configuration_is_2(prelux):
    done = prelux.cli("status", check=False)
    assert done.returncode == USAGE and "no configuration" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_nothing(prelux, name):
    done = prelux.cli(name, "--help", check=False)
    assert done.returncode == OK and done.stdout.startswith(f"Usage: prelux {name}")
    assert not prelux.daemons()


# run

def test_run_gives_the_programs_status(prelux, lake):
    assert prelux.run("exit 0").returncode == 0
    assert prelux.run("exit 42", check=False).returncode == 42
    assert prelux.run("kill -9 $$", check=False).returncode == 128 + 9
    assert prelux.run("kill -TERM $$", check=False).returncode == 128 + 15
    done = prelux.run(["/no/such/program"], check=False)
    assert done.returncode == 127 and "No such file" in done.stderr
    assert prelux.run(["no-such-program-prelux"], check=False).returncode == 127
    text = prelux.tmp / "not-a-program"
    text.write_text("x")
    assert prelux.run([str(text)], check=False).returncode == 126


def test_run_takes_options_of_the_program_as_they_are(prelux, lake):
    assert prelux.run(["echo", "--help", "--json", "-x"]).stdout == "--help --json -x\n"
    done = prelux.plain([prelux.exe, "run", "echo", "--config", "x"], env={"PRELUX_CONFIG": prelux.config_path})
    assert done.stdout == "--config x\n"
    assert prelux.cli("run", "--no-wait", "--", "echo", "y") == "y\n"


def test_run_reads_and_passes_the_standard_input(prelux, lake):
    assert prelux.run(["cat", "-", lake + "/one"], input="in").stdout == "in1"


def test_run_executes_what_only_the_library_sees(prelux, lake):
    script = prelux.data / "tool"
    script.write_text("#!/bin/sh\necho tool $0 $1\n")
    script.chmod(0o755)
    assert prelux.run([lake + "/tool", "x"]).stdout == f"tool {lake}/tool x\n"
    assert prelux.run(["tool", "y"], env={"PATH": lake + ":" + os.environ["PATH"]}).stdout == f"tool {lake}/tool y\n"
    link = prelux.tmp / "link"
    link.symlink_to(lake + "/tool")
    assert prelux.run([str(link), "z"]).stdout.endswith("z\n")
    assert prelux.run([lake + "/none"], check=False).returncode == 127


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
                                    signal.SIGWINCH])
def test_run_passes_signals_on(prelux, lake, number):
    name = signal.Signals(number).name[3:]
    child = prelux.popen(f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done",
                         stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    assert child.stdout.readline() == f"got {name}\n"
    assert child.wait(60) == 7


def test_run_ends_with_a_program_that_a_signal_ends(prelux, lake):
    child = prelux.popen("echo ready; exec sleep 60", stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"  # any child might be the daemon
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM


def test_run_with_sigchld_ignored(prelux, lake):
    done = prelux.run(["true"], preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == 0


def test_run_leaves_signal_masks_alone(prelux, lake):
    show = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]  # no shell: some clear the mask
    assert prelux.run(show).stdout == prelux.plain(show).stdout


def test_run_as_process_1_reaps_orphans(prelux, lake):
    if subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("no PID namespaces here")
    # The orphan ends before the program; were it not reaped, ps would show it as defunct.
    inner = ("(sleep 0.1 & exec sh -c 'exit 0') & sleep 0.6; "
             "for i in {1..200}; do n=$(ps -eo stat= | grep -c Z); test $n = 0 && break; sleep 0.1; done; echo $n; exit 5")
    argv = ["unshare", "-pf", "--mount-proc", str(prelux.exe), "--config", str(prelux.config_path), "run", "--", "bash", "-c", inner]
    prelux.cli("daemon", "start")
    done = subprocess.run(argv, env=prelux.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    assert (done.returncode, done.stdout) == (5, "0\n"), done


def test_run_with_a_broken_configuration_is_2(prelux):
    prelux.config("version: 1\nmappings:\n  - {local: /prelux-test, remot: 'x:/'}\n", raw=True)
    done = prelux.run(["touch", str(prelux.tmp / "ran")], check=False)
    assert done.returncode == USAGE
    assert re.search(r"prelux\.yaml:3:\d+: ", done.stderr)
    assert not (prelux.tmp / "ran").exists()


def test_run_inside_run_keeps_the_outer_mappings(prelux, lake):
    inner = f"{prelux.exe} run -- cat {lake}/one"
    assert prelux.run(inner, cwd="/").stdout == "1"


def test_run_from_a_path_with_blanks(prelux, lake):
    """ld.so splits LD_PRELOAD at blanks and colons."""
    place = prelux.tmp / "a b:c"
    place.mkdir()
    for path in (prelux.exe, prelux.daemon_exe, prelux.library):
        shutil.copy(path, place)
    done = subprocess.run([place / "prelux", "--config", prelux.config_path, "run", "--", "cat", lake + "/one"], env=prelux.env,
                          capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1", "")


def test_run_keeps_another_preload(prelux, lake):
    options = prelux.env["ASAN_OPTIONS"] + ":verify_asan_link_order=0"  # for a sanitized prelux
    done = prelux.run("echo $LD_PRELOAD", env={"LD_PRELOAD": "libm.so.6", "ASAN_OPTIONS": options})
    assert done.stdout == f"{prelux.preload}:libm.so.6\n"
    assert prelux.run(f"{prelux.exe} run -- sh -c 'echo $LD_PRELOAD'").stdout.count("libprelux") == 1


# env

def test_env_for_a_shell(prelux, lake):
    script = f'eval "$({prelux.exe} --config {prelux.config_path} env)"; cat {lake}/one'
    assert prelux.plain(script).stdout == "1"
    prelux.cli("daemon", "stop")  # two daemons may not share a cache
    odd = prelux.tmp / "it's"
    odd.mkdir(mode=0o700)
    prelux.plain(script.replace("; cat", "; test \"$PRELUX_RUNTIME_DIR\" = \"$WANT\"; cat"), env={"PRELUX_RUNTIME_DIR": odd, "WANT": odd})
    prelux.cli("daemon", "stop", env={"PRELUX_RUNTIME_DIR": odd})
    variables = prelux.cli("env", "--json")
    assert variables["LD_PRELOAD"] == prelux.preload and Path(variables["PRELUX_CONFIG"]).is_file()


# Questions about paths

def test_map(prelux, lake):
    answer = prelux.cli("map", "--json", lake + "/sub/two")
    assert set(answer) >= {"mapping", "remote", "cache", "freshness", "state", "version", "owners"}
    assert answer["mapping"] == lake and answer["state"] == "absent"
    prelux.run(["cat", lake + "/sub/two"])
    answer = prelux.cli("map", "--json", lake + "/sub/two")
    assert answer["state"] == "cached" and Path(answer["cache"]).read_text() == "22"
    prelux.run(["ls", lake])
    assert prelux.cli("map", "--json", lake)["state"] == "directory"
    assert "cached" in prelux.cli("map", lake + "/sub/two")
    # relative, against the working directory
    assert prelux.cli("map", "--json", "../prelux-test//./sub/../one", cwd="/tmp")["mapping"] == lake


def test_map_of_an_unmapped_path_is_1(prelux, lake):
    done = prelux.cli("map", "/etc/passwd", check=False)
    assert done.returncode == FAILED and "not mapped" in done.stdout
    done = prelux.cli("map", "--json", "/etc/passwd", check=False)
    assert done.returncode == FAILED and json.loads(done.stdout)["mapping"] is None


def test_ls(prelux, lake):
    (prelux.data / "empty").mkdir()
    (prelux.data / "odd").mkdir()
    for name in ('quo"te', "back\\", 'both\\"', "new\nline", 'x":{,'):
        (prelux.data / "odd" / name).write_text("")
    entries = {entry["name"]: entry for entry in prelux.cli("ls", "--json", lake)["entries"]}
    assert set(entries) == {"one", "sub", "empty", "odd"}
    assert entries["one"]["type"] == "file" and entries["one"]["size"] == 1 and entries["one"]["mtime"] == 1_600_000_000
    assert entries["sub"]["type"] == "directory"
    assert [entry["name"] for entry in prelux.cli("ls", "--json", lake + "/sub")["entries"]] == ["two", "ünï code"]
    assert prelux.cli("ls", "--json", lake + "/empty")["entries"] == []
    assert [entry["name"] for entry in prelux.cli("ls", "--json", lake + "/odd")["entries"]] == ["back\\", 'both\\"', "new\nline", 'quo"te',
                                                                                               'x":{,']
    assert "new\\x0aline\n" in prelux.cli("ls", lake + "/odd")
    text = prelux.cli("ls", lake)
    assert re.search(r"^-rw\S+ +1 B +2020-09-13 12:26:40 +one$", text, re.M), text
    done = prelux.cli("ls", lake + "/none", check=False)
    assert done.returncode == FAILED and done.stdout == "" and done.stderr.startswith("prelux: ")


def test_stat(prelux, lake):
    answer = prelux.cli("stat", "--json", lake + "/one")
    assert answer["type"] == "file" and answer["size"] == 1 and answer["mtime"] == 1_600_000_000 and not answer["cached"]
    assert str(answer["ino"]) == prelux.run(["stat", "-c", "%i", lake + "/one"]).stdout.strip()
    assert "file" in prelux.cli("stat", lake + "/one")
    assert prelux.cli("stat", lake + "/none", check=False).returncode == FAILED


# Cache

def test_prefetch_and_evict(prelux, lake):
    answer = prelux.cli("prefetch", "--json", lake)
    assert answer["files"] == 3 and answer["bytes"] == 6 and answer["failed"] == 0
    for name in ("one", "sub/two", "sub/ünï code"):
        assert prelux.cli("map", "--json", f"{lake}/{name}")["state"] == "cached"
    assert prelux.cli("evict", "--json", lake + "/sub")["files"] == 2
    assert prelux.cli("map", "--json", lake + "/sub/two")["state"] != "cached"
    assert prelux.cli("map", "--json", lake + "/one")["state"] == "cached"
    assert "1 files evicted" in prelux.cli("evict", lake)


def test_prefetch_from_lists(prelux, lake):
    lines = f"{lake}/one\n\n{lake}/sub/two\n"
    assert prelux.cli("prefetch", "--json", "-", input=lines)["files"] == 2
    prelux.cli("evict", lake)
    assert prelux.cli("prefetch", "--json", "-0", "-", input=lines.replace("\n", "\0"))["files"] == 2
    prelux.cli("evict", lake)
    (prelux.tmp / "list").write_text(lines)
    assert prelux.cli("prefetch", "--from", prelux.tmp / "list", "--json")["files"] == 2
    assert prelux.cli("prefetch", "--from", "/no/such/list", check=False).returncode == FAILED
    # More than one message holds, and paths relative to the working directory.
    for number in range(700):
        (prelux.data / f"n{number}").write_text("x")
    names = "".join(f"prelux-test/n{number}\n" for number in range(700))
    assert prelux.cli("prefetch", "--json", "-", input=names, cwd="/")["files"] == 700


def test_prefetch_names_what_failed(prelux, lake):
    done = prelux.cli("prefetch", "--json", lake + "/one", lake + "/none", check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == FAILED and answer["files"] == 1 and answer["failed"] == 1
    assert [failure["path"] for failure in answer["failures"]] == [lake + "/none"]
    done = prelux.cli("prefetch", "/etc/passwd", check=False)
    assert done.returncode == FAILED and "/etc/passwd" in done.stderr
    done = prelux.cli("prefetch", lake + "/none", check=False)
    assert done.returncode == FAILED and "none" in done.stderr


def test_evict_keeps_files_in_use(prelux, lake):
    child = prelux.popen(f"exec 3< {lake}/one; echo ready; read -r _", stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    done = prelux.cli("evict", "--json", lake, check=False)
    assert done.returncode == DEGRADED and json.loads(done.stdout)["busy"] == 1
    child.communicate("\n")


def test_evict_waits_for_what_is_just_being_closed(prelux, lake):
    """Readers' ends and the daemon's own take a moment: `cat FILE; prelux evict FILE` is not refused by it."""
    child = prelux.popen(f"exec 3< {lake}/one; echo ready; read -r _; sleep 0.2", stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    child.stdin.write("\n")
    child.stdin.flush()
    assert prelux.cli("evict", "--json", lake)["busy"] == 0
    child.communicate()


# State

def test_status(prelux, lake):
    prelux.run(["cat", lake + "/one"])
    answer = prelux.cli("status", "--json")
    assert set(answer) >= {"backends", "mappings", "cache", "pending", "errors"}
    assert [mapping["local"] for mapping in answer["mappings"]] == [lake]
    assert answer["backends"][0]["type"] == "file" and answer["cache"]["files"] == 1
    text = prelux.cli("status")
    assert lake in text and "file" in text


def test_status_of_a_broken_mapping_is_3(prelux, lake):
    (prelux.tmp / "file").write_text("")
    prelux.file_mapping(prelux.data, cache=str(prelux.tmp / "file" / "below"))
    done = prelux.cli("status", "--json", check=False)
    assert done.returncode == DEGRADED and json.loads(done.stdout)["mappings"][0]["broken"]
    assert "broken" in prelux.cli("status", check=False).stdout


def test_doctor(prelux, lake):
    report = prelux.cli("doctor", "--json")
    assert report["ok"] and {"library", "runtime folder", "configuration", "daemon", "mapping"} <= {c["check"] for c in report["checks"]}
    assert re.search(r"^ok +mapping +/prelux-test", prelux.cli("doctor"), re.M)


def test_doctor_names_what_is_wrong(prelux, lake):
    prelux.file_mapping(prelux.tmp / "nowhere")
    done = prelux.cli("doctor", "--json", check=False)
    wrong = [check for check in json.loads(done.stdout)["checks"] if check["status"] == "fail"]
    assert done.returncode == DEGRADED and wrong and wrong[0]["check"] == "mapping" and "nowhere" in json.dumps(wrong)
    prelux.config("version: 1\nmappings: 3\n", raw=True)
    assert "fail" in prelux.cli("doctor", check=False).stdout


def test_doctor_looks_at_programs(prelux, lake):
    source = prelux.tmp / "p.c"
    source.write_text("int main(void) { return 0; }\n")
    prelux.plain(["gcc", "-static", "-o", prelux.tmp / "static", source])
    done = prelux.cli("doctor", "--json", prelux.tmp / "static", check=False)
    assert done.returncode == DEGRADED and "statically linked" in done.stdout
    script = prelux.tmp / "script"
    script.write_text(f"#!{prelux.tmp}/static\n")
    script.chmod(0o755)
    assert "statically linked" in prelux.cli("doctor", script, check=False).stdout
    assert prelux.cli("doctor", "--json", "bash")["ok"]
    assert "was not found" in prelux.cli("doctor", "no-such-program", check=False).stdout
    elf32 = bytearray(Path("/bin/true").read_bytes()[:4096])
    elf32[4] = 1
    (prelux.tmp / "elf32").write_bytes(elf32)
    (prelux.tmp / "elf32").chmod(0o755)
    assert "32-bit" in prelux.cli("doctor", prelux.tmp / "elf32", check=False).stdout


BYPASSED = {
    "by a word": (["python3", "-c", "import ray; ray.data.read_csv('s3://box/set/q.csv')"], "warn", "ray would", "/mnt/set/q.csv"),
    "in a script": (["python3", "t.py"], "warn", "t.py: s3a://box/set//a: pandas, pyarrow would", "/mnt/set/a"),
    "by a script's word": (["python3", "arg.py", "--data=s3://box/set/b"], "warn", "s3://box/set/b: boto3 would", "/mnt/set/b"),
    "by a program": (["aws", "s3", "cp", "s3://box/set/c", "."], "warn", "aws would", "/mnt/set/c"),
    "served": (["cat", "s3://uri/d/e"], "info", "open() of it is served", "/mnt/set/d/e"),
    "nobody's": (["cat", "gs://other/x"], "info", "no mapping has this name", "map it at a path"),
    "above the mapping": (["python3", "-c", "import pandas # s3://box/a"], "warn", "pandas would", "map backend box at a path"),
    "not like it": (["python3", "-c", "import pandas # s3://boxes/set/a"], "info", "pandas would", "map it at a path"),
}


@pytest.mark.parametrize("what", BYPASSED)
def test_doctor_names_what_passes_it_by(prelux, lake, what):
    """Names in words and scripts that libraries open without open(), and what to give them instead."""
    words, status, text, instead = BYPASSED[what]
    (prelux.tmp / "t.py").write_text("import os, pandas as pd\nif True:\n    from pyarrow.parquet import read_table\nx = 's3a://box/set//a'\ny = 's3://box/set/a'\n")
    (prelux.tmp / "arg.py").write_text("import sys\nimport boto3\nimport pandaset\n")
    prelux.config({"version": 1, "backends": {"box": {"type": "s3", "bucket": "box", "endpoint": "http://127.0.0.1:9", "anonymous": True}},
                   "mappings": [{"local": "/mnt/set", "remote": "box:/set"}, {"local": "s3://uri", "remote": "box:/set"}]})
    done = prelux.cli("doctor", "--json", *words, check=False)
    found = [check for check in json.loads(done.stdout)["checks"] if check["check"] == "bypass"]
    assert [check["status"] for check in found] == [status] and text in found[0]["text"] and instead in found[0]["advice"], found


def test_doctor_says_nothing_of_plain_paths(prelux, lake):
    (prelux.tmp / "t.py").write_text("import pandas\npandas.read_csv('/prelux-test/x')  # https://example.org\n")
    (prelux.tmp / "blob").write_bytes(b"s3://box/a\0s3://box/b")
    report = prelux.cli("doctor", "--json", "python3", "t.py", "blob", "file:///x", "://", "s3://")
    assert report["ok"] and not [check for check in report["checks"] if check["check"] == "bypass"]


def test_errors(prelux, lake):
    assert prelux.cli("errors", "--json") == [] and prelux.cli("errors") == ""
    prelux.run(f"echo x > {lake}/one; echo y > '{lake}/sub/ünï code'", check=False)
    records = prelux.cli("errors", "--json")
    assert [record["errno"] for record in records] == ["EROFS", "EROFS"]
    assert {record["path"] for record in records} == {lake + "/one", lake + "/sub/ünï code"}
    assert len(prelux.cli("errors", "--json", lake + "/sub")) == 1
    assert len(prelux.cli("errors", "--json", "--last", "1")) == 1 and len(prelux.cli("errors", "-n1", "--json")) == 1
    text = prelux.cli("errors")
    assert "EROFS" in text and lake + "/one" in text
    prelux.cli("daemon", "stop")
    assert len(prelux.cli("errors", "--json")) == 2 and not prelux.daemons()


# config

def test_config_check(prelux, lake):
    assert "1 mappings" in prelux.cli("config", "check")
    assert prelux.cli("config", "check", "--json")["ok"]
    prelux.config("version: 1\nmappings:\n  - {local: /x, remote: 'nope:/'}\nfrob: 1\n", raw=True)
    done = prelux.cli("config", "check", check=False)
    assert done.returncode == FAILED
    assert re.search(r"prelux\.yaml:3:\d+: ", done.stderr) and re.search(r"prelux\.yaml:4:1: ", done.stderr)
    done = prelux.cli("config", "check", "--json", check=False)
    assert done.returncode == FAILED and len(json.loads(done.stdout)["errors"]) == 2
    assert not prelux.daemons()


def test_config_below_run_says_why_it_cannot(prelux, lake):
    done = prelux.run(f"{prelux.exe} config check; {prelux.exe} doctor", check=False)
    assert "compiled configuration" in done.stderr and "(inherited from prelux run)" in done.stdout


def test_config_show_is_read_back_the_same_and_keeps_secrets(prelux):
    prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": "http://127.0.0.1:1/x/", "bearer": "geheim",
                                                      "headers": {"X-Key": "auch-geheim"}}},
                   "mappings": [{"local": "/prelux-test", "remote": "web:/a b", "freshness": {"max_age": "90s"}, "file_mode": "0640"}]})
    shown = prelux.cli("config", "show")
    assert "geheim" not in shown and "geheim" not in json.dumps(prelux.cli("config", "show", "--json"))
    first = prelux.cli("config", "show", "--json")
    prelux.config(shown, name="shown.yaml", raw=True)
    second = prelux.cli("config", "show", "--json")
    for one in (first, second):
        one.pop("file")
    assert first["mappings"] == second["mappings"] and first["mappings"][0]["max_age_s"] == 90


def test_config_init_is_a_valid_configuration(prelux):
    (prelux.home / ".token").write_text("t")
    prelux.config(prelux.cli("config", "init"), raw=True)
    assert prelux.cli("config", "check", "--json", env={"API_KEY": "x"})["ok"]


# daemon, version

def test_daemon(prelux):
    done = prelux.cli("daemon", "status", check=False)
    assert done.returncode == FAILED and "no daemon" in done.stderr
    assert prelux.cli("daemon", "status", "--json", check=False).returncode == FAILED
    assert prelux.cli("daemon", "stop") == ""
    prelux.cli("daemon", "start")
    pid = prelux.daemon_pid()
    prelux.cli("daemon", "start")
    assert prelux.daemons() == [pid]
    answer = prelux.cli("daemon", "status", "--json")
    assert set(answer) >= {"pid", "version", "uptime_s", "clients", "pending_uploads"} and answer["pid"] == pid
    assert str(pid) in prelux.cli("daemon", "status")
    prelux.cli("daemon", "stop")
    assert not alive(pid) and prelux.daemon_pid() is None


def test_daemon_log(prelux, lake):
    prelux.cli("status")
    assert prelux.cli("daemon", "log").strip()
    assert len(prelux.cli("daemon", "log", "--last", "1").splitlines()) == 1
    prelux.cli("daemon", "log", "--level", "debug")
    assert prelux.cli("daemon", "log", "--level", "frob", check=False).returncode == FAILED


def test_a_daemon_that_hangs_is_named(prelux, lake):
    prelux.cli("daemon", "start")
    pid = prelux.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        done = prelux.cli("daemon", "status", check=False)
        assert done.returncode == FAILED and "does not answer" in done.stderr and time.monotonic() - begin < 30
    finally:
        os.kill(pid, signal.SIGCONT)


def test_version(prelux):
    assert prelux.cli("version", "--json") == {"version": "0.1.0", "daemon": None}
    prelux.cli("daemon", "start")
    assert prelux.cli("version", "--json")["daemon"] == "0.1.0"
    assert prelux.cli("version").startswith("prelux 0.1.0\n")


def test_output_that_cannot_be_written_is_1(prelux):
    with open("/dev/full", "w") as full:
        done = subprocess.run([prelux.exe, "version"], stdout=full, stderr=subprocess.PIPE, text=True, env=prelux.env)
    assert done.returncode == FAILED and "standard output" in done.stderr
