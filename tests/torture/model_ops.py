"""Which operations the model test does: lists that depend on a seed alone, so that any part of one can be run again.

An operation is [process, name, arguments...]; process -1 is the world: the daemon, the network, another client of the remote."""

import random

PROCESSES, SLOTS = 3, 3
FOLDERS = ["d1", "d2", "d1/d3"]
FILES = ["f1", "f1", "f2", "f2", "d1/f1", "d1/f2", "d2/f1", "d1/d3/f1"]
LINKS = ["l1", "d1/l2"]
NAMES = FILES * 3 + FOLDERS + LINKS * 2 + ["f1/x", "nowhere/f1", "l1/f1"]
TARGETS = ["f1", "d1", "f2", "../f2", "nowhere", "l1", "d1/f1"]
SIZES = [0, 1, 10, 100, 100, 5000, 5000, 70_000, 300_000]
MODES = ["r"] * 6 + ["w", "w", "a", "a", "r+", "r+", "x", "w-", "wt", "w+", "c", "a+", "x+", "d", "n", "wn", "s"]
# What a network does once; the daemon tries again, and no program sees anything of it.
FAULTS = ["reset", "closed", "500", "503", "cut"]


def _descriptors(dice, number):
    slot, tag, size = dice.randrange(SLOTS), str(number), dice.choice(SIZES)
    other = dice.randrange(SLOTS)
    at = dice.choice([0, 0, 1, 50, 4096, 60_000])
    return [
        (14, ["open", slot, dice.choice(NAMES), dice.choice(MODES)]), (9, ["close", slot]), (9, ["write", slot, tag, size]), (4, ["pwrite", slot, tag, size, at]),
        (6, ["read", slot, dice.choice([10, 5000, 1 << 20])]), (4, ["pread", slot, 1 << 20, at]), (2, ["seek", slot, at, dice.choice([0, 0, 2])]),
        (2, ["ftruncate", slot, dice.choice([0, 3, 100, 6000])]), (1, ["fallocate", slot, at, 100]), (2, ["fsync", slot]), (3, ["fstat", slot]),
        (2, ["same", slot, dice.choice(NAMES)]), (2, ["dup", slot, other]), (1, ["dup2", slot, other]), (1, ["copy", slot, other, 6000]),
        (1, ["sendfile", slot, other, 6000]), (1, ["advise", slot, dice.choice(["dontneed", "willneed", "sequential", "random"])]),
        (2, ["map", slot, dice.random() < 0.5]), (2, ["mapread", slot]), (2, ["mapstore", slot, tag, dice.choice([1, 100, 5000])]), (1, ["unmap", slot]),
        (1, ["forkwrite", slot, tag, size]), (1, ["forkhold", 0, slot]), (1, ["forkend", 0, tag if dice.random() < 0.5 else None, 100]),
        (0.3, ["execwrite", slot, tag, 100]), (0.7, ["tmpfile", slot, dice.choice([".", "d1", "d2"])]), (0.7, ["linkat", slot, dice.choice(FILES)]),
    ]


def _paths(dice, number):
    name, tag, size = dice.choice(NAMES), str(number), dice.choice(SIZES)
    file, other = dice.choice(FILES), dice.choice(NAMES)
    return [
        (14, ["get", name]), (2, ["getmap", name]), (6, ["put", file, dice.choice(["w", "w", "x", "c"]), tag, size]), (6, ["put", file, "a", tag, size]),
        (3, ["truncate", name, dice.choice([0, 5, 100, 6000])]), (6, ["rename", file, dice.choice(FILES)]), (2, ["rename", name, other]),
        (1, ["rename", dice.choice(FOLDERS), dice.choice(FOLDERS)]), (1, ["noreplace", name, other]), (4, ["unlink", name]),
        (4, ["mkdir", dice.choice(FOLDERS)]), (1, ["mkdir", name]), (2, ["rmdir", dice.choice(FOLDERS)]), (0.5, ["rmdir", name]), (0.7, ["link", name, other]),
        (1.5, ["symlink", dice.choice(TARGETS), dice.choice(LINKS)]), (1, ["readlink", dice.choice(LINKS)]), (5, ["stat", name]), (2, ["lstat", name]),
        (4, ["list", dice.choice([".", *FOLDERS])]), (1, ["access", name, dice.choice([0, 4, 2])]), (0.7, ["tree", "."]),
    ]


def _world(dice, number):
    file, tag, size = dice.choice(FILES), f"r{number}", dice.choice(SIZES)
    return [
        (8, ["foreign", file, tag, size]), (2, ["foreign-remove", file]), (2, ["rest", dice.randrange(PROCESSES)]), (0.7, ["kill", "daemon"]), (0.7, ["kill-in", dice.choice([0, 1, 2, 5, 10])]),
        (0.3, ["restart"]), (0.5, ["kill", dice.randrange(PROCESSES)]), (1, ["settle"]), (1, ["evict", dice.choice([*FILES, ".", "d1"])]),
        (2, ["fault", dice.choice(FAULTS), dice.choice([0, 0, 1])]),
    ]


def operations(seed, count):
    """So many operations of this seed. The first make something to work with."""
    dice = random.Random(f"model {seed}")
    ops = [[0, "mkdir", "d1"], [0, "mkdir", "d2"], [1, "put", "f1", "w", "0", 100], [-1, "foreign", "f2", "r0", 5000], [1, "put", "d1/f1", "w", "00", 70_000]]
    while len(ops) < count:
        which = dice.choices((_descriptors, _paths, _world), (43, 45, 12))[0]
        weights, found = zip(*which(dice, len(ops)))
        op = [-1 if which is _world else dice.randrange(PROCESSES), *dice.choices(found, weights)[0]]
        if op[1].startswith("foreign"):  # of a file that is known, and is looked at again
            ops += [[dice.randrange(PROCESSES), "get", op[2]], op, [dice.randrange(PROCESSES), *dice.choice([["get", op[2]], ["getmap", op[2]], ["stat", op[2]]])]]
        else:
            ops.append(op)
    return ops[:count]
