"""Alluxio 3.x, the stand-in, as a writable remote of the contract suite: through the under store, with workers whose metadata are old for
ever, and through workers. Another client: the under store's own."""

import contextlib
import itertools
import shutil

from tests.integration import contract_remotes as r
from tests.integration.contract_s3 import BUCKET, VersitygwRemote, served
from tests.servers.versitygw import Versitygw
from tests.standin.cluster import AlluxioStandin

running = {}
numbers = itertools.count()


def lake(sync_interval, **options):
    """One cluster of each kind for all tests of a run."""
    if AlluxioStandin.missing():
        raise r.Missing(AlluxioStandin.missing())
    key = (sync_interval, *options.values())
    if key not in running:
        running[key] = AlluxioStandin(sync_interval=sync_interval, timeout=5, master=False, **options)
        running[key].start()
    return running[key]


def conf_of(server, **more):
    return {"type": "alluxio", "root": server.root, "etcd": [server.etcd.endpoint], "s3_port": server.s3_port, **more}


class ThroughFile(r.FileRemote):
    """The cluster's root is a folder, and so is the under store."""

    def __init__(self, tmp, server):
        super().__init__(tmp, server.ufs)
        self.conf = conf_of(server, write_through="under_store", under_store="u", others={"u": {"type": "file", "root": str(server.ufs)}})


def emptied(server):
    for path in server.ufs.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return server


@contextlib.contextmanager
def through_file(tmp):
    yield ThroughFile(tmp, emptied(lake(-1)))


class ThroughVersitygw(VersitygwRemote):
    def __init__(self, tmp, server):
        super().__init__(tmp, server)
        bucket = self.conf
        self.conf = conf_of(lake(-1, root=f"s3://{BUCKET}"), write_through="auto", under_store="u", others={"u": bucket})


def through_versitygw(tmp):
    """What the workers say is never of this bucket: they are asked for bytes only, and the bytes are those of another one."""
    return served(Versitygw, ThroughVersitygw, tmp)
