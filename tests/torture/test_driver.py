"""The driver of `make torture`: counts add up, a run that is killed goes on, a finding fails the run until it is mended."""

import json
import os
import signal
import subprocess
import sys
import types

import pytest

from tests.harness import ROOT
from tests.torture import __main__ as torture


def stage(step, targets=None, **more):
    return types.SimpleNamespace(TARGETS=targets or {"faults": 10}, step=step, __doc__="A stage.", **more)


def run(tmp_path, module, *words):
    return torture.main(["--state", str(tmp_path / "state"), "--page", str(tmp_path / "TRUST.md"), *words], {"one": module})


def state(tmp_path):
    return json.loads((tmp_path / "state/one.json").read_text())


@pytest.fixture(autouse=True)
def no_seed(monkeypatch):
    monkeypatch.delenv("PRELUX_SEED", raising=False)


def test_runs_until_the_targets_are_reached(tmp_path):
    seeds, scratch = [], []

    def step(env, seed):
        seeds.append(seed)
        scratch.append(env.tmp)
        assert env.counts.get("faults", 0) == 4 * (len(seeds) - 1) and env.targets == {"faults": 10}
        return {"faults": 4, "calls": 1}
    assert run(tmp_path, stage(step), "--seed", "100") == 0
    assert seeds == [100, 101, 102] and not scratch[0].exists()
    assert state(tmp_path)["counts"] == {"faults": 12, "calls": 3}
    text = (tmp_path / "TRUST.md").read_text()
    assert "| faults | 12 | 10 |" in text and "| calls | 3 |  |" in text and "seeds 100 to 102" in text and "all targets reached" in text
    assert run(tmp_path, stage(step), "--seed", "100") == 0 and len(seeds) == 3


def test_steps_bound_a_run_and_the_next_goes_on(tmp_path):
    seeds = []
    module = stage(lambda env, seed: seeds.append(seed) or {"faults": 1})
    assert run(tmp_path, module, "--steps", "3") == 0
    assert state(tmp_path)["counts"] == {"faults": 3} and "under way" in (tmp_path / "TRUST.md").read_text()
    assert run(tmp_path, module) == 0
    assert state(tmp_path)["counts"] == {"faults": 10} and len(set(seeds)) == 10
    assert run(tmp_path, module, "--steps", "1", "--seed", "7") == 0 and seeds[-1] == 7


def test_seconds_bound_a_run(tmp_path):
    assert run(tmp_path, stage(lambda env, seed: {"faults": 0}), "--seconds", "0.01") == 0
    assert state(tmp_path)["steps"] >= 1


def test_a_killed_run_goes_on(tmp_path):
    """Killed in its third step, which is not counted; nothing else is lost."""
    code = f"""
import os, sys, types
sys.path.insert(0, {str(ROOT)!r})
from tests.torture import __main__ as torture
def step(env, seed):
    if env.counts.get("faults") == 2 and {{first}}:
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    return {{{{"faults": 1}}}}
sys.exit(torture.main(["--state", {str(tmp_path / "state")!r}, "--page", {str(tmp_path / "TRUST.md")!r}],
                      {{{{"one": types.SimpleNamespace(TARGETS={{{{"faults": 5}}}}, step=step, __doc__="")}}}}))
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code.format(first=True)], env=env, timeout=100).returncode == -signal.SIGKILL
    assert state(tmp_path)["counts"] == {"faults": 2}
    assert subprocess.run([sys.executable, "-c", code.format(first=False)], env=env, timeout=100).returncode == 0
    assert state(tmp_path)["counts"] == {"faults": 5} and state(tmp_path)["steps"] == 5


def test_a_finding_fails_the_run_until_it_is_mended(tmp_path):
    module = stage(lambda env, seed: {"faults": 5, "findings": [f"seed {seed}: a byte is wrong"] if seed == 2 else []})
    assert run(tmp_path, module, "--seed", "1") == 1
    assert run(tmp_path, module, "--seed", "1") == 1, "it is there in the next run, too"
    assert "seed 2: a byte is wrong **Open.**" in (tmp_path / "TRUST.md").read_text()
    assert run(tmp_path, module, "--mended", "one:0", "abc, test_byte") == 0
    assert "**Mended:** abc, test_byte" in (tmp_path / "TRUST.md").read_text()
    assert run(tmp_path, module, "--seed", "1") == 0


def test_a_step_that_fails_is_a_finding_and_five_end_the_stage(tmp_path, capsys):
    ended = []

    def step(env, seed):
        raise SystemExit("the rig is broken")
    assert run(tmp_path, stage(step, finish=lambda env: ended.append(env)), "--seed", "40") == 1
    assert len(state(tmp_path)["findings"]) == 5 and len(ended) == 1
    assert "the rig is broken" in state(tmp_path)["findings"][0]["text"] and state(tmp_path)["findings"][4]["seed"] == 44


def test_what_cannot_be_prepared_fails_the_run(tmp_path, capsys):
    def prepare(env):
        raise RuntimeError("no server")
    assert run(tmp_path, stage(lambda env, seed: {"faults": 10}, prepare=prepare)) == 1
    assert "no server" in capsys.readouterr().out


def test_every_stage_keeps_to_the_interface():
    for name in torture.stages():
        module = __import__(f"tests.torture.{name}", fromlist=["step"])
        assert callable(module.step) and module.__doc__ and module.TARGETS
        assert all(isinstance(key, str) and target > 0 for key, target in module.TARGETS.items()), name


def test_an_unknown_stage_is_told(tmp_path):
    with pytest.raises(SystemExit, match="unknown stage two"):
        run(tmp_path, stage(lambda env, seed: {}), "--stage", "two")
