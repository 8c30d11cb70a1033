"""The Python module, the C header and the example, as a program uses them."""

import json
import shutil
import subprocess

import pytest

from tests.harness import ROOT
from tests.integration.daemon_rig import lake_of
from tests.integration.test_prefetch import cached

PYTHON = "/usr/bin/python3"
C_PROGRAM = """
#include "include/prelux/hints.h"
#include <stdio.h>
int main(int argc, char **argv)
{
  const char *const *paths = (const char *const *)argv + 2;
  size_t n = (size_t)argc - 2;
  int ret = argv[1][0] == 'p' ? prelux_prefetch(paths, n) : argv[1][0] == 'f' ? prelux_flush(paths, n)
            : prelux_status(argv[1][0] == 's' ? 1 : dup2(1, 0));
  fprintf(stderr, "%d\\n", ret);
  return 0;
}
"""


@pytest.fixture
def lake(prelux):
    prelux.env.update(PRELUX_EXE=str(prelux.exe), PYTHONPATH=str(ROOT / "python"))
    return lake_of(prelux, 40, 100)


def python(prelux, code):
    return prelux.run([PYTHON, "-c", "import json, os, prelux\n" + code]).stdout


def test_prefetch_and_state(prelux, lake):
    out = python(prelux, f"""
answer = prelux.prefetch(["{lake}/d"])
assert answer["files"] == 40 and answer["cached"] == 0, answer
ahead = prelux.prefetch_ahead("{lake}/d")
assert ahead.result(60)["cached"] == 40 and ahead.done()
assert prelux.status()["mappings"][0]["local"] == "{lake}" and prelux.stats()["mappings"][0]["remote_bytes"] == 4000
assert prelux.verify("{lake}")["same"] == 40
assert prelux.pin("{lake}/d/f00")["files"] == 1 and prelux.unpin(["{lake}/d/f00"])["unpinned"] == 1
with open("{lake}/new", "w") as file:
    file.write("new")
prelux.flush("{lake}/new")
assert prelux.evict(["{lake}/d"])["files"] == 40
ahead = prelux.prefetch_ahead(["{lake}/d/f%02d" % n for n in range(40)])
ahead.cancel()
assert ahead.done()
print("ok")
""")
    assert out == "ok\n" and (prelux.tmp / "source/new").read_text() == "new"


def test_what_fails_is_an_error(prelux, lake):
    out = python(prelux, f"""
for call in (lambda: prelux.prefetch(["{lake}/none"]), lambda: prelux.pin(["/elsewhere"]), lambda: prelux.prefetch_ahead("{lake}/none").result()):
    try:
        call()
    except prelux.Error as error:
        print(error.status, "none" in error.text or "elsewhere" in error.text or error.answer["failed"])
os.environ["PRELUX_EXE"] = "/no/such/prelux"
try:
    prelux.status()
except FileNotFoundError:
    print("not found")
""")
    assert out == "1 True\n1 True\n1 True\nnot found\n" or out == "1 1\n1 True\n1 1\nnot found\n"


def test_example_has_the_next_epoch_ready(prelux, lake):
    out = prelux.run([PYTHON, ROOT / "examples/next_epoch.py", f"{lake}/d", "3"]).stdout.splitlines()
    assert len(out) == 3 and out[2] == "epoch 2: 40 files, 4000 bytes, 40 of 40 were there" and len(cached(prelux)) == 40


def test_example_goes_on_without_the_next_epoch(prelux, lake):
    out = prelux.run([PYTHON, ROOT / "examples/next_epoch.py", f"{lake}/d", "2"], env={"PRELUX_EXE": "/bin/false"}).stdout.splitlines()
    assert len(out) == 2 and all("40 files, 4000 bytes, prelux prefetch: exit status 1" in line for line in out)


def test_paths_are_no_options_and_any_number(prelux, lake):
    out = python(prelux, f"""
for call in prelux.evict, prelux.flush, prelux.pin, prelux.unpin, prelux.verify:
    try:
        call(["--help"])
    except prelux.Error as error:
        print("--help is in no mapping" in error.text)
prelux.prefetch("{lake}/d")
print(prelux.verify(f"{lake}/d/f{{n % 40:02}}" for n in range(1200))["same"])
""")
    assert out == "True\n" * 5 + "1200\n"


@pytest.mark.parametrize("compiler", [["cc", "-std=c99", "-D_GNU_SOURCE"], ["c++", "-x", "c++"]])
def test_c_header(prelux, lake, compiler, tmp_path):
    if not shutil.which(compiler[0]):
        pytest.skip(f"{compiler[0]} is not installed")
    (tmp_path / "p.c").write_text(C_PROGRAM)
    subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", "-I", ROOT, "-o", tmp_path / "p", tmp_path / "p.c"], check=True)
    assert prelux.run([tmp_path / "p", "prefetch", f"{lake}/d"]).stderr == "0\n" and len(cached(prelux)) == 40
    assert prelux.run([tmp_path / "p", "prefetch", f"{lake}/none"]).stderr.endswith("1\n")
    assert prelux.run([tmp_path / "p", "flush"]).stderr == "0\n"
    done = prelux.run([tmp_path / "p", "status"])
    assert done.stderr == "0\n" and json.loads(done.stdout)["mappings"][0]["local"] == lake
    assert json.loads(prelux.run([tmp_path / "p", "at 0"]).stdout)["mappings"][0]["local"] == lake
    assert prelux.run([tmp_path / "p", "status"], env={"PRELUX_EXE": "/no/such"}).stderr == "-2\n"
