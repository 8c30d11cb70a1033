"""The hash ring of Alluxio 305 and later (ConsistentHashProvider): which worker owns a path.

A worker is (identity bytes, version of the identity); it stands on the ring at N points.  Hashes are murmur3_x86_32 with seed 0
as *signed* numbers; a path's owner is the first point not below the path's hash, around the end if need be.
"""

import bisect
import struct

ATTEMPTS = 100
_MASK = 0xffffffff


def murmur3(data):
    """murmur3_x86_32, seed 0, signed."""
    value = 0
    whole = len(data) // 4
    for word in struct.unpack_from(f"<{whole}I", data):
        word = word * 0xcc9e2d51 & _MASK
        word = (word << 15 | word >> 17) * 0x1b873593 & _MASK
        value ^= word
        value = ((value << 13 | value >> 19) & _MASK) * 5 + 0xe6546b64 & _MASK
    rest = data[whole * 4:]
    if rest:
        word = int.from_bytes(rest, "little") * 0xcc9e2d51 & _MASK
        value ^= (word << 15 | word >> 17) * 0x1b873593 & _MASK
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85ebca6b & _MASK
    value = (value ^ value >> 13) * 0xc2b2ae35 & _MASK
    value ^= value >> 16
    return value - (1 << 32) if value >> 31 else value


def key_hash(path, attempt=1):
    return murmur3(path.encode() + struct.pack("<i", attempt))


def points(identity, version, virtual_nodes):
    """The places of one worker, in the order in which they are made."""
    return [murmur3(identity + struct.pack("<ii", version, index)) for index in range(virtual_nodes)]


class Ring:
    """members: {anything: (identity bytes, version)}; owners are given by their keys."""

    def __init__(self, members, virtual_nodes):
        table = {}
        for name, (identity, version) in members.items():
            table.update(dict.fromkeys(points(identity, version, virtual_nodes), name))
        self._hashes = sorted(table)
        self._names = [table[value] for value in self._hashes]
        self.size = len(members)

    def at(self, path, attempt):
        place = bisect.bisect_left(self._hashes, key_hash(path, attempt))
        return self._names[place % len(self._names)]

    def owner(self, path):
        """The worker that has the pages of `path`; None on an empty ring."""
        return self.at(path, 1) if self._names else None

    def owners(self, path, count):
        """The first `count` different workers, best first."""
        found = {}
        for attempt in range(1, ATTEMPTS + 1):
            if len(found) >= min(count, self.size):
                break
            found[self.at(path, attempt)] = True
        return list(found)
