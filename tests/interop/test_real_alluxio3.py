"""Backend alluxio on a real cluster: the checks of tests/alluxio3.py. conftest.py says how a cluster is named."""

import pytest

from tests.interop.conftest import missing

if missing():
    def test_real_cluster():
        pytest.skip(missing())
else:
    from tests.alluxio3 import *  # noqa: F401, F403
    from tests.alluxio3_write import *  # noqa: F401, F403
