"""The page that a process under tests/fault/inject.c shares with its test (board.h)."""

import mmap
import os
import struct
import subprocess

LOOK, CHANGE, SYNC, NEW_FD, MEMORY, MAP, SOCKET, THREAD, ROOM, SLOW, CLOSE, PART = (1 << bit for bit in range(12))
STACK_MAX = 20
HEAD = struct.Struct("=IIIIQQQ32sQ")
SEEN = struct.Struct("=QQ32sQ")
SEEN_AT = struct.calcsize("=IIIIQ")


class Board:
    def __init__(self, path):
        self.path = path
        with open(path, "wb") as file:
            file.truncate(4096)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 4096)

    def arm(self, kinds, err, at, again):
        """The at-th call of these kinds fails with err (0: does a half), and if `again` all later ones. at=0: they are counted."""
        self.disarm()
        self.map[:HEAD.size] = HEAD.pack(0, int(again), err, kinds, at, 0, 0, b"", 0)
        self.map[0:4] = struct.pack("=I", 1)

    def disarm(self):
        self.map[0:4] = struct.pack("=I", 0)

    @property
    def seen(self):
        return SEEN.unpack_from(self.map, SEEN_AT)[0]

    @property
    def failed(self):
        return SEEN.unpack_from(self.map, SEEN_AT)[1]

    @property
    def name(self):
        """Of the first call that failed."""
        return SEEN.unpack_from(self.map, SEEN_AT)[2].split(b"\0")[0].decode()

    def stack(self):
        depth = min(SEEN.unpack_from(self.map, SEEN_AT)[3], STACK_MAX)
        return struct.unpack_from(f"={depth}Q", self.map, HEAD.size)

    def close(self):
        self.disarm()
        self.map.close()
        self.file.close()


def maps_of(pid):
    """[(from, to, offset, file)] of what can be executed."""
    found = []
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            words = line.split(None, 5)
            if "x" in words[1] and len(words) > 5:
                first, _, last = words[0].partition("-")
                found.append((int(first, 16), int(last, 16), int(words[2], 16), words[5].strip()))
    return found


def names(stack, maps):
    """Functions of a stack, the innermost first, without those of the injector."""
    said = []
    for at in stack:
        part = next((one for one in maps if one[0] <= at < one[1]), None)
        if not part or "/inject.so" in part[3]:
            continue
        where = at - part[0] + part[2]
        if "prelux" not in os.path.basename(part[3]):
            said.append(os.path.basename(part[3]).split(".so")[0])
            continue
        done = subprocess.run(["addr2line", "-s", "-f", "-e", part[3], hex(where - 1)], capture_output=True, text=True)
        lines = done.stdout.split("\n")
        said.append(f"{lines[0]} {lines[1]}" if len(lines) > 1 else "?")
    out = []
    for one in said:
        if not out or out[-1] != one:
            out.append(one)
    return " < ".join(out[:12])
