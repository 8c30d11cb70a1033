"""What is done while calls fail (rig.py). prepare() and again() run without faults, act() with one; each gives answers of the program, "ok ..." or a call and its
errno. check() says which contents names may have by what the program was told."""

import errno
import os
import time

from tests.fault.rig import Finding, content

SIZE = 20000


class Scenario:
    errnos = frozenset()  # besides EIO and those of the fault

    def __init__(self):
        self.name = type(self).__name__.lower()

    def prepare(self, world, n):
        pass

    def act(self, world, n):
        raise NotImplementedError

    def check(self, world, n, told):
        pass

    def again(self, world, n):
        """The same without a fault, right behind it."""
        return self.act(world, n)


def ok(told):
    return told.startswith("ok")


def put(world, name, how, size, seed):
    return world.work(f"put {world.path(name)} {how} {size} {seed}")


class Read(Scenario):
    """wanted(): what must be read."""

    def object(self, n):
        return f"m{n % 7}"

    def prepare(self, world, n):
        name, data = self.object(n), content(n, SIZE)
        world.remote.write(name, data)
        world.may_be(name, data)

    def act(self, world, n):
        return [world.work(f"read {world.path(self.object(n))}")]

    def check(self, world, n, told):
        for name in [self.object(n)]:
            if ok(told[0]) and told[0] not in map(world.answer_of, world.names[name]):
                raise Finding(f"{name}: read {told[0]}, not {list(map(world.answer_of, world.names[name]))}")

    def again(self, world, n):
        told = self.act(world, n)
        self.check(world, n, told)
        return told


class Miss(Read):
    """A file that nobody has asked for."""

    def object(self, n):
        return f"m{n}"

    def prepare(self, world, n):
        old = f"m{n - 60}"
        if old in world.names:  # the remote does not grow without end
            world.work(f"rm {world.path(old)}")
            world.names.pop(old)
        super().prepare(world, n)


class Stale(Read):
    """One that is cached and has changed on the remote."""

    def prepare(self, world, n):
        if f"m{n % 7}" not in world.names:
            super().prepare(world, n + 1000)
        world.work(f"read {world.path(self.object(n))}")
        super().prepare(world, n)


class Hit(Read):
    """One that is cached, and compared. Of names that nobody removes: what was removed here is not there for a while, whoever makes it anew behind."""

    def object(self, n):
        return f"h{n % 7}"

    def prepare(self, world, n):
        if self.object(n) not in world.names:
            super().prepare(world, n)
        world.work(f"read {world.path(self.object(n))}")


class List(Scenario):
    def prepare(self, world, n):
        if "d/f0" not in world.names:
            assert ok(world.work(f"mkdir {world.path('d')}"))
            for i in range(9):
                assert ok(put(world, f"d/f{i}", "ct", 100 + i, i))
                world.may_be(f"d/f{i}", content(i, 100 + i))
        self.want = world.work(f"list {world.path('d')}") if n % 2 else None

    def act(self, world, n):
        return [world.work(f"list {world.path('d')}"), world.work(f"stat {world.path(f'd/f{n % 9}')}")]

    def check(self, world, n, told):
        if ok(told[0]) and told[0].split()[1] != "9":
            raise Finding(f"listed {told[0]}")
        if ok(told[1]) and int(told[1].split()[1]) != 100 + n % 9:
            raise Finding(f"stat {told[1]}")


class Write(Scenario):
    """By one name; each run leaves a content of its own."""
    how, first = "ct", True

    def object(self, n):
        return f"w{self.name}{n % 5}"

    def prepare(self, world, n):
        name = self.object(n)
        if self.first and world.names.get(name, {None}) == {None}:
            told = put(world, name, "ct", SIZE, n + 5000)
            if not ok(told):
                raise Finding(f"prepare: {told}")
            world.may_be(name, content(n + 5000, SIZE))
        elif not self.first and world.names.get(name, {None}) != {None}:
            told = world.work(f"rm {world.path(name)}")
            if not ok(told):
                raise Finding(f"prepare: {told}")
            world.may_be(name, None)

    def after(self, old, n):
        return content(n, SIZE // 2)

    def act(self, world, n):
        return [put(world, self.object(n), self.how, SIZE // 2, n)]

    def check(self, world, n, told):
        name = self.object(n)
        old = next(iter(world.names.get(name, {None})))
        new = self.after(old, n)
        # What close refuses is kept and tried on; what open refuses has not happened; what write refuses is not written.
        cut = old if self.how == "a" else b""
        world.may_be(name, new if told[0].startswith(("ok", "close", "fsync")) else cut if told[0].startswith("write") else old)
        if told[0].startswith("open") and world.fault == "ECONNRESET":  # the answer was lost: it is done
            world.names[name].add(cut)
        world.check_names([name])

    def again(self, world, n):
        told = self.act(world, n)
        self.check(world, n, told)
        return told


class New(Write):
    """O_EXCL of a free name."""
    how, first = "cx", False
    errnos = frozenset({errno.EEXIST})

    def again(self, world, n):
        self.prepare(world, n)
        return super().again(world, n)


class Rewrite(Write):
    """O_TRUNC."""


class Append(Write):
    how = "a"

    def after(self, old, n):
        return old + content(n, SIZE // 2)

    def prepare(self, world, n):
        name = self.object(n)
        if len(next(iter(world.names.get(name, {b""}))) or b"") > 10 * SIZE:
            put(world, name, "ct", 10, n)
            world.may_be(name, content(n, 10))
        super().prepare(world, n)


class Sync(Write):
    """With fsync before the close."""
    how = "cts"

    def again(self, world, n):
        told = self.act(world, n)
        if told == ["fsync 5"] and not world.gated and world.fault in ("EIO", "EIO-sync"):
            world.stop()  # the kernel forgets what it could not write: this daemon's journal proves nothing any more, and it says so
            world.start()
            told = self.act(world, n)
        self.check(world, n, told)
        return told


class Cut(Write):
    def act(self, world, n):
        return [world.work(f"cut {world.path(self.object(n))} {n % 500}")]

    def after(self, old, n):
        return (old + bytes(SIZE))[:n % 500]

    def check(self, world, n, told):
        name = self.object(n)
        old = next(iter(world.names[name]))
        # One call that opens, cuts and closes: told of which of them it was nobody is.
        world.may_be(name, *((self.after(old, n),) if ok(told[0]) else (old, self.after(old, n))))
        world.check_names([name])


class Names(Scenario):
    """Two names of which one has a file."""

    def pair(self, n):
        return f"n{self.name}{n % 5}", f"o{self.name}{n % 5}"

    def prepare(self, world, n):
        a, b = self.pair(n)
        for name, data in ((a, content(n + 7000, SIZE)), (b, self.other(n))):
            if world.names.setdefault(name, {None}) == {data}:
                continue
            told = put(world, name, "ct", len(data), self.seed(n, name)) if data is not None else world.work(f"rm {world.path(name)}")
            if not ok(told) and not (data is None and told == "rm 2"):
                raise Finding(f"prepare: {told}")
            world.may_be(name, data)

    def seed(self, n, name):
        return n + 7000 if name == self.pair(n)[0] else n + 9000

    def other(self, n):
        return None

    def act(self, world, n):
        a, b = self.pair(n)
        return [world.work(f"mv {world.path(a)} {world.path(b)}")]

    def check(self, world, n, told):
        a, b = self.pair(n)
        data, other = next(iter(world.names[a])), next(iter(world.names[b]))
        if ok(told[0]):
            world.may_be(a, None)
            world.may_be(b, data)
            world.check_names([a, b])
            return
        # A change whose answer was lost may be done; nothing else may be.
        world.may_be(a, data, None)
        world.may_be(b, other, data)
        world.check_names([a, b])
        both = world.names[a] == world.names[b] == {data}  # of a store of objects: a copy is made, then the first name is removed
        if world.names[a] == {None} and world.names[b] != {data} or (both and world.kind == "file"):
            raise Finding(f"half a rename: {told}")
        if both:  # perhaps not yet: who has waited for `daemon_timeout` is told EIO, and the daemon goes on
            time.sleep(1)
            world.may_be(a, data, None)
            world.check_names([a])

    def again(self, world, n):
        self.prepare(world, n)
        told = self.act(world, n)
        self.check(world, n, told)
        return told


class Rename(Names):
    errnos = frozenset({errno.ENOENT})


class Over(Names):
    """Onto a name that has a file."""

    def other(self, n):
        return content(n + 9000, SIZE)


class Remove(Names):
    errnos = frozenset({errno.ENOENT})

    def act(self, world, n):
        return [world.work(f"rm {world.path(self.pair(n)[0])}")]

    def check(self, world, n, told):
        a, _ = self.pair(n)
        world.may_be(a, *((None,) if ok(told[0]) else (None, *world.names[a])))
        world.check_names([a])


class Folders(Scenario):
    errnos = frozenset({errno.EEXIST})  # an answer was lost: docs/SEMANTICS.md

    def act(self, world, n):
        name = world.path(f"dir{n}")
        told = [world.work(f"mkdir {name}")]
        if ok(told[0]):
            told.append(world.work(f"rmdir {name}"))
        return told

    def again(self, world, n):
        name = world.path(f"dir{n}")
        if ok(world.work(f"stat {name}")):
            return [world.work(f"rmdir {name}")]
        return self.act(world, n)


class Attrs(Names):
    def act(self, world, n):
        name = world.path(self.pair(n)[0])
        return [world.work(f"chmod {name} {'640' if n % 2 else '600'}"), world.work(f"touch {name} {1600000000 + n}")]

    def check(self, world, n, told):
        name = self.pair(n)[0]
        world.check_names([name])
        seen = world.work(f"stat {world.path(name)}").split()
        if ok(told[1]) and int(seen[3]) != 1600000000 + n:
            raise Finding(f"touch said {told[1]}, stat {seen}")
        if ok(told[0]) and seen[2][-3:] != ("640" if n % 2 else "600"):
            raise Finding(f"chmod said {told[0]}, stat {seen}")


class Links(Scenario):
    errnos = frozenset({errno.EEXIST, errno.ENOENT})

    def act(self, world, n):
        name = world.path(f"link{n}")
        told = [world.work(f"symlink target {name}")]
        if ok(told[0]):
            told.append(world.work(f"rm {name}"))
        return told

    def again(self, world, n):
        told = world.work(f"rm {world.path(f'link{n}')}")
        return [told] if ok(told) else self.act(world, n)


class Evict(Read):
    """In a cache that holds three of them."""

    def object(self, n):
        return f"e{n % 12}"

    def prepare(self, world, n):
        if self.object(n) not in world.names:
            data = content(n, 180000)
            world.remote.write(self.object(n), data)
            world.may_be(self.object(n), data)


class Large(Write):
    """Sent in parts: above 64 MiB."""
    first = False
    size = (64 << 20) + 1000

    def object(self, n):
        return "large"

    def prepare(self, world, n):
        world.work(f"rm {world.path('large')}")
        world.may_be("large", None)

    def act(self, world, n):
        return [put(world, "large", "ct", self.size, 1)]

    def after(self, old, n):
        return content(1, self.size)

    def again(self, world, n):
        return ["ok"]


class Restart(Scenario):
    """restarts.py"""


class Config(Scenario):
    """A configuration that is new. One that cannot be read is a broken one, unless that passes."""

    def prepare(self, world, n):
        self.errnos = frozenset({errno.EINVAL} if getattr(world, "fault", "") in ("EIO", "EIO-sync") else ())
        text = {**world.text, "mappings": [*world.text["mappings"], {"local": f"/other{n}", "remote": "src:/"}]}
        kept = world.prelux.config_path
        self.file = world.prelux.config(text, name=f"config{n}.yaml")
        world.prelux.config_path = kept

    def act(self, world, n):
        try:
            answer = world.ask(self.file)
        except (AssertionError, OSError):
            return ["register 5"]  # hung up: the library would ask again
        return ["ok" if answer.status == 0 else f"register {-answer.status}"]

    def again(self, world, n):
        told = self.act(world, n)
        os.unlink(self.file)
        return told


READING = [Miss, Stale, Hit, List]
WRITING = [New, Rewrite, Append, Sync, Cut, Rename, Over, Remove, Folders, Attrs, Links]
ALL = [*READING, *WRITING, Config]
