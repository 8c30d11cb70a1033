"""docs/MIGRATING.md, the part on azfuse: every row on a real Azurite."""

import hashlib

import pytest

from tests.integration import migrating_rig
from tests.integration.azure_rig import account, put  # noqa: F401  (a fixture)

PAGE = migrating_rig.Page("azfuse")
CHECKS = migrating_rig.Checks()
MAPPINGS = """
- {{local: data, remote: azfuse_data, cache: {tmp}/azfuse/data, storage_account: storage_config_name}}
- {{local: models, remote: models, cache: {tmp}/azfuse/models, storage_account: storage_config_name}}
"""
BLOBS = {"azfuse_data/abc.txt": b"abc", "azfuse_data/sub/d.txt": b"d", "models/m.bin": b"model"}


class Setup:
    """A folder as azfuse's users have it."""

    def __init__(self, prelux, account, name):  # noqa: F811
        self.prelux, self.account, self.tmp = prelux, account, prelux.tmp
        self.container = put(account, "move" + hashlib.md5(name.encode()).hexdigest()[:12], **BLOBS)
        for folder in ("aux_data/configs", "aux_data/storage_account"):
            (self.tmp / folder).mkdir(parents=True)
        (self.tmp / "aux_data/configs/azfuse.yaml").write_text(MAPPINGS.format(tmp=self.tmp))
        (self.tmp / "aux_data/storage_account/storage_config_name.yaml").write_text(
            f"account_name: {account.account}\naccount_key: {account.key}\nsas_token: null\ncontainer_name: {self.container}\n")
        prelux.env.update(AZFUSE_USE_FUSE="1", AZURE_STORAGE_BLOB_ENDPOINT=account.url.replace(account.account, "{account}"))

    def blob(self, name):
        """What another client sees, or None."""
        status, _, body = self.account.request("GET", f"/{self.container}/{name}")
        return body if status == 200 else None


@pytest.fixture
def setup(prelux, account, request):  # noqa: F811
    return Setup(prelux, account, request.node.name)


@pytest.mark.parametrize("name", PAGE.names)
def test_row(setup, name):
    CHECKS.run(name, setup, PAGE.run(setup.prelux, name))


def test_the_page():
    assert PAGE.syntax() == []
    assert PAGE.unchecked(CHECKS) == ([], [])
