"""Backend alluxio on a real cluster: the checks of tests/alluxio3.py. conftest.py says how a cluster is named."""

import pytest

from tests.interop.conftest import missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from tests.alluxio3 import *  # noqa: E402, F401, F403
