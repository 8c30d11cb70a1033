"""`prelux run --deep`: programs that the library does not get into see the mappings, too."""

import shutil

import pytest

from tests import harness

DATA = harness.ROOT / "tests/data"


def build(prelux, name, *options):
    program = prelux.tmp / name
    prelux.plain(["gcc", "-O", "-w", "-static", *options, "-o", program, DATA / f"{name}.c"])
    return program


@pytest.fixture
def lake(prelux):
    prelux.data = prelux.tmp / "data"
    (prelux.data / "sub").mkdir(parents=True)
    for number in range(8):
        (prelux.data / f"f{number}").write_text(f"text {number}\n")
    return prelux.file_mapping(prelux.data, write="async")


def deep(prelux, cmd, **more):
    return prelux.run(cmd, args=["--deep"], **more)


def test_all_calls_as_in_a_plain_folder(prelux, lake):
    program = build(prelux, "deep_calls")
    plain = prelux.tmp / "plain"
    for folder in (plain, prelux.data):
        folder.mkdir(exist_ok=True)
        shutil.copy(program, folder / "prog")
        (folder / "script").write_text("#!/bin/sh\necho script \"$1\"; cat d/c\n")
        (folder / "script").chmod(0o755)
    for number in range(8):
        shutil.copy(prelux.data / f"f{number}", plain)
    (plain / "sub").mkdir()
    want = prelux.plain([program, plain]).stdout
    assert want.count("\n") > 50
    assert deep(prelux, [program, lake]).stdout == want


def test_without_it_there_is_nothing(prelux, lake):
    program = build(prelux, "deep_calls")
    assert prelux.run([program, lake], check=False).returncode == 1
    assert deep(prelux, [program, lake + "/none"], check=False).returncode == 1
