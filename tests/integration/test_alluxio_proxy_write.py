"""Writing through the proxy of a real Alluxio 2.9, whole path: programs, daemon, proxy, under store."""

import json
import os

import pytest

from tests.integration.write_rig import LOCAL, lake_of, same_as_plain, settled

OPTIONS = {"write": "sync", "freshness": "always"}


@pytest.fixture(params=["sync", "async"])
def lake(prelux, request):
    with lake_of(prelux, "alluxio-proxy", write=request.param, freshness="always") as one:
        yield one


@pytest.fixture
def one(prelux):
    with lake_of(prelux, "alluxio-proxy", **OPTIONS) as it:
        yield it


def test_a_file_written_is_there_when_close_returns(one):
    data = os.urandom(300_000)
    (one.tmp / "data").write_bytes(data)
    one.run(f"cp {one.tmp}/data {LOCAL}/f && cmp {one.tmp}/data {LOCAL}/f")
    assert one.seen() == {"f": ("file", None, data)}
    one.run(f"echo new > {LOCAL}/f; cat {LOCAL}/f")
    assert one.seen() == {"f": ("file", None, b"new\n")}


def test_programs_see_what_they_would_in_a_plain_folder(lake):
    same_as_plain(lake, """
        mkdir a a/b; echo one > a/b/f; cat a/b/f; echo two >> a/b/f; cat a/b/f
        mv a/b/f a/g; ls -R a; mv a/g a/b; rmdir a; rmdir nothing; cp a/b/g h; rm a/b/g; rmdir a/b a; ls -A
        echo x > "with space"; echo y > 100%41; mv "with space" 100%41; cat 100%41; mkdir d; mv 100%41 d; mv d e; cat e/100%41
        chmod 640 h; stat -c '%a %s' h; mv -T e d; mkdir e; mv -T d e; ls e; echo z > h; cat h; rm -r e""")


def test_names_that_alluxio_cannot_carry(one):
    done = one.run(f"cd {LOCAL}; echo x > 'a?b'; echo x > 'a\\b'; mkdir 'c?d'; echo x > good; mv good 'no?'; ls", check=False)
    assert done.stdout == "good\n" and done.stderr.count("Operation not supported") == 4
    told = one.cli("errors", "--json")
    assert any("? or \\" in json.dumps(row) or "'?'" in json.dumps(row) for row in told), told


def test_many_files_and_a_log(lake):
    lake.run(f"cd {LOCAL}; mkdir d; for i in $(seq 12); do echo $i > d/$i; echo line $i >> log; done; cat d/* | sort -n | tail -1; wc -l < log")
    settled(lake)
    seen = lake.seen()
    assert len(seen) == 13 and seen["log"][2] == b"".join(b"line %d\n" % n for n in range(1, 13)) and not any(".prelux~" in name for name in seen)
