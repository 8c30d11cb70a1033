"""A program of the chaos test (chaos.py): reads or writes below a folder until it is told to stop, and says of each step what came of it, a JSON line each.

  chaos_worker.py read|list|write FOLDER STOP NAME...

A file says itself which version it is: contents.py."""

import json
import os
import random
import sys
import time

from tests.torture.contents import content


def say(*words):
    os.write(1, json.dumps(words).encode() + b"\n")


def version(name, data):
    """Which version these bytes are; a text: of none."""
    head = data.partition(b"\n")[0][:100]
    try:
        of, number, size = head.decode().split(" ")
        if of == name and data == content(name, int(number), int(size)):
            return int(number)
    except ValueError:
        pass
    return f"{len(data)} bytes, {head!r} ... {data[-40:]!r}"


def whole(path):
    with open(path, "rb", buffering=0) as file:
        pieces = []
        while piece := file.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)


def step(what, name, act):
    begin = time.monotonic()
    try:
        result = act()
        say(what, name, begin, time.monotonic(), None, result)
    except OSError as error:
        say(what, name, begin, time.monotonic(), error.errno, None)


def put(path, flags, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        while data:
            data = data[os.write(fd, data):]
    finally:
        os.close(fd)


def write(folder, number):
    name, size = f"over{number % 3}", 100 + number * 7919 % 30_000
    step("put", f"{name} {number}", lambda: put(f"{folder}/{name}", os.O_TRUNC, content(name, number, size)))
    name = f"new{number}"
    step("put", f"{name} {number}", lambda: put(f"{folder}/{name}", os.O_EXCL, content(name, number, 100 + number)))
    step("log", str(number), lambda: put(f"{folder}/log", os.O_APPEND, b"%07d|" % number))
    if number % 3 == 0:
        step("rename", f"{name} renamed{number % 2} {number}", lambda: os.rename(f"{folder}/{name}", f"{folder}/renamed{number % 2}"))
    if number % 3 == 1:
        step("unlink", name, lambda: os.unlink(f"{folder}/{name}"))
    time.sleep(0.02)


def main(what, folder, stop, *names):
    dice, number = random.Random(os.getpid()), 0
    while not os.path.exists(stop):
        number += 1
        if what == "read":
            name = dice.choice(names)
            step("read", name, lambda: version(name, whole(f"{folder}/{name}")))  # noqa: B023
        elif what == "list":
            step("list", "", lambda: sorted(os.listdir(folder)))
            time.sleep(0.02)
        else:
            write(folder, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
