"""A cluster of stand-in workers by hand: python3 -m tests.standin DIR [--workers N] [--page-size BYTES] ..."""

import argparse
import sys

from tests.servers.base import run_by_hand

from .cluster import AlluxioStandin


def describe(cluster):
    lines = [f"stand-in, not Alluxio: etcd {cluster.etcd.endpoint} cluster {cluster.cluster} root {cluster.root}"]
    lines += [f"worker {place.index} (pid {place.process.pid}): {place.http} {place.s3}" for place in cluster.workers]
    lines += ["in a configuration of prelux:", "  type: alluxio", f"  root: {cluster.root}", f"  etcd: [\"{cluster.etcd.endpoint}\"]",
              f"  cluster: {cluster.cluster}", f"  s3_port: {cluster.s3_port}", f"  page_size: {cluster.page_size}",
              f"  virtual_nodes: {cluster.virtual_nodes}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="tests.standin", description="stand-in workers of Alluxio 3.x, with a real etcd")
    parser.add_argument("ufs", metavar="DIR", help="the under store")
    parser.add_argument("--root", help="what Alluxio calls it (default file://DIR)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--page-size", type=int, default=1 << 20)
    parser.add_argument("--virtual-nodes", type=int, default=5)
    parser.add_argument("--sync-interval", type=float, default=-1, help="0: always fresh; -1: stale for ever, as Alluxio's default")
    parser.add_argument("--timeout", type=int, default=5, help="seconds until a dead worker leaves etcd")
    parser.add_argument("--no-s3", action="store_true")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="slow=0.2 rate=1000000 poisoned=1 dead=1 ...")
    args = parser.parse_args()
    pairs = [text.partition("=") for text in args.fault]
    faults = {name: float(value or 1) for name, _, value in pairs}
    return run_by_hand(AlluxioStandin(args.ufs, root=args.root, workers=args.workers, page_size=args.page_size,
                                      virtual_nodes=args.virtual_nodes, sync_interval=args.sync_interval, timeout=args.timeout,
                                      no_s3=args.no_s3, faults=faults), describe)


if __name__ == "__main__":
    sys.exit(main())
