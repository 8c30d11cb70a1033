"""A program of the storm (storm.py): replaces, appends, removes and reads a few files of one folder, as fast as it goes, until it is told to stop. A JSON line for each step.

  storm_worker.py NUMBER FOLDER STOP SEED"""

import json
import mmap
import os
import random
import sys
import time

from tests.torture.contents import content
from tests.torture.chaos_worker import put, version, whole

NAMES = ["l0", "l1", "d/l2"]
OTHERS = ["f0", "f1"]  # of another client


def say(*words):
    os.write(1, json.dumps(words).encode() + b"\n")


def mapped(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if not os.fstat(fd).st_size:
            return b""
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as data:
            return bytes(data)
    finally:
        os.close(fd)


def replace(folder, name, number, aside, dice):
    data = content(name, number, dice.choice([40, 300, 5000, 40_000, 200_000]))
    put(f"{folder}/{aside}", os.O_TRUNC, data)
    os.rename(f"{folder}/{aside}", f"{folder}/{name}")


def main(who, folder, stop, seed):
    who, dice, count = int(who), random.Random(f"{seed} {who}"), 0
    ways = {"read": 10, "replace": 4, "append": 3, "log": 3, "unlink": 1, "stat": 2, "list": 1}
    while not os.path.exists(stop):
        count += 1
        number, name, what = who * 1_000_000 + count, dice.choice(NAMES), dice.choices(list(ways), list(ways.values()))[0]
        begin, result, error = time.monotonic(), None, None
        try:
            if what == "read":
                name = dice.choice(NAMES + OTHERS)
                result = version(name, dice.choice([whole, mapped])(f"{folder}/{name}"))
            elif what == "replace":
                result = number
                replace(folder, name, number, f"aside{who}", dice)
            elif what == "append":
                name, result = "log", number
                put(f"{folder}/log", os.O_APPEND, b"%09d|" % number)
            elif what == "log":
                name, result = "log", whole(f"{folder}/log").decode()
            elif what == "unlink":
                result = number
                os.unlink(f"{folder}/{name}")
            elif what == "stat":
                os.stat(f"{folder}/{name}")
            else:
                result = sorted(os.listdir(folder))
        except OSError as failed:
            error = failed.errno
        say(what, name, begin, time.monotonic(), error, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
