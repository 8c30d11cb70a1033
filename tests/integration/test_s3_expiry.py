"""Backend s3: keys that end in the middle of an upload in parts are renewed, and the upload goes on where it was."""

import time

import pytest

from tests.integration.contract_rig import good
from tests.integration.backends_raw_rig import TOOL
from tests.integration.test_s3_raw import KEYS, remote
from tests.integration.test_s3_write_raw import DATA, PART, bodies, tool  # noqa: F401
from tests.servers.s3standin import KeysStandin
from tests.servers.s3standin_write import S3Changing

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


@pytest.mark.parametrize("when", ["before the parts", "between two parts", "before the end"])
def test_expired_in_the_middle_of_a_multipart(tmp_path, tool, when):  # noqa: F811
    with S3Changing(keys=KEYS) as s3, KeysStandin(seconds=3600) as keys:
        one = tool(s3, env=remote("container", keys, tmp_path))
        token = good(one("begin", "f", part_size=PART))["token"]
        source = one.source(DATA)
        time.sleep(5.2)  # what was refused at once would not be asked for again

        def part(n):
            return good(one("part", "f", token=token, n=n, off=n * PART, len=min(PART, len(DATA) - n * PART), **{"from": source}))["tag"]

        def expire(now):
            if when == now:
                s3.expired.add("TOKEN1")

        expire("before the parts")
        tags = [part(0)]
        expire("between two parts")
        tags.append(part(1))
        expire("before the end")
        good(one("complete", "f", token=token, tags=tags, size=len(DATA)))
        assert bodies(s3) == {b"f": DATA} and keys.number == 2 and not s3.uploads
