"""The seqlock of the index on machines that order less than x86: what C11 lets a reader see, worked out from the orders that stand in the
source, and a run of the compiled code on this machine and, under qemu, on aarch64 (which on x86 shows what the compiler did wrong, but
not what a weaker machine may do: that is what the model is for)."""

import itertools
import re
import shutil
import subprocess

import pytest

from tests.harness import ROOT

RELEASE, ACQUIRE = ("release", "acq_rel", "seq_cst"), ("acquire", "acq_rel", "seq_cst")
WORDS = ("first", "last")


def body(path, head):
    text = (ROOT / path).read_text()
    found = re.search(r"^" + re.escape(head) + r".*?^}", text, re.M | re.S)
    assert found, f"{path}: no {head}"
    return found[0]


def writer_steps():
    """[(what, order)] of write_slot: "odd", "fence", "words", "even"."""
    one = re.search(r"memory_order_(\w+)", body("lib/index/writer.c", "static void set("))[1]
    steps = []
    for line in body("lib/index/writer.c", "static void write_slot(").splitlines():
        order = re.search(r"memory_order_(\w+)\);$", line)
        if "atomic_store_explicit(&s->seq" in line:
            steps.append(("odd" if "seq + 1" in line else "even", order[1]))
        elif "atomic_thread_fence" in line:
            steps.append(("fence", order[1]))
        elif re.match(r"\s+(set\(&s->|atomic_store_explicit\(&s->)", line):
            steps.append(("words", order[1] if order else one))
    return [step for n, step in enumerate(steps) if n == 0 or step != steps[n - 1]]


def reader_steps():
    """[(what, order)] of copy_slot: "before", "words", "fence", "after"."""
    steps = []
    for line in body("lib/index/reader.c", "static int copy_slot(").splitlines():
        if "atomic_thread_fence" in line:
            steps.append(("fence", re.search(r"memory_order_(\w+)", line)[1]))
        for what, order in re.findall(r"atomic_load_explicit\(&(s->seq|s->kind_mode|from\[i\]), memory_order_(\w+)\)", line):
            steps.append(("words" if what != "s->seq" else "before" if not steps else "after", order))
    return [step for n, step in enumerate(steps) if n == 0 or step != steps[n - 1]]


class Event:
    def __init__(self, thread, kind, place, value, order):
        self.thread, self.kind, self.place, self.value, self.order = thread, kind, place, value, order


def program(writer, reader, rounds):
    """Events of two threads: the writer makes words of 1, 2, ..."""
    events = [Event("start", "W", place, 0, "relaxed") for place in ("seq", *WORDS)]
    for n in range(1, rounds + 1):
        for what, order in writer:
            if what == "fence":
                events.append(Event("writer", "F", None, None, order))
            elif what == "words":
                events += [Event("writer", "W", word, n, order) for word in WORDS]
            else:
                events.append(Event("writer", "W", "seq", 2 * n - 1 if what == "odd" else 2 * n, order))
    for what, order in reader:
        if what == "fence":
            events.append(Event("reader", "F", None, None, order))
        else:
            events += [Event("reader", "R", place, None, order) for place in (WORDS if what == "words" else ("seq",))]
    return events


def closure(pairs):
    while True:
        more = {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs
        if not more:
            return pairs
        pairs = pairs | more


def allowed(events, sb, mo, rf):
    """C11 (RC11's axioms; no thread both reads and writes, so nothing comes out of thin air)."""
    def release(w):
        return {w if events[w].order in RELEASE else None} | {f for f, b in sb if b == w and events[f].kind == "F" and events[f].order in RELEASE}

    def acquire(r):
        return {r if events[r].order in ACQUIRE else None} | {f for a, f in sb if a == r and events[f].kind == "F" and events[f].order in ACQUIRE}

    sw = {(a, b) for w, r in rf for a in release(w) for b in acquire(r) if a is not None and b is not None}
    hb = closure(sb | sw)
    rb = {(r, later) for w, r in rf for earlier, later in mo if earlier == w}
    eco = closure(rf | mo | rb)
    return not any(a == b for a, b in hb) and not any((b, a) in eco for a, b in hb)


def torn(writer, reader, rounds=2):
    """What a reader may take for a whole slot, and is none: (seq, words)."""
    events = program(writer, reader, rounds)
    numbers = range(len(events))
    sb = {(a, b) for a in numbers for b in numbers if a < b and events[a].thread == events[b].thread != "start"}
    sb |= {(a, b) for a in numbers for b in numbers if events[a].thread == "start" != events[b].thread}
    writes = {place: [n for n in numbers if events[n].kind == "W" and events[n].place == place] for place in ("seq", *WORDS)}
    mo = {(a, b) for line in writes.values() for a, b in itertools.combinations(line, 2)}
    reads = [n for n in numbers if events[n].kind == "R"]
    found, whole = set(), set()
    for sources in itertools.product(*(writes[events[r].place] for r in reads)):
        seen = [(events[r].place, events[w].value) for w, r in zip(sources, reads)]
        seq = [value for place, value in seen if place == "seq"]
        words = tuple(value for place, value in seen if place != "seq")
        if seq[0] != seq[-1] or seq[0] % 2:
            continue
        if allowed(events, sb, mo, set(zip(sources, reads))):
            (whole if set(words) == {seq[0] // 2} else found).add((seq[0], words))
    assert len(whole) == rounds + 1  # each round can be seen
    return found


def test_no_torn_slot():
    writer, reader = writer_steps(), reader_steps()
    assert [what for what, _ in writer] == ["odd", "fence", "words", "even"]
    assert [what for what, _ in reader] == ["before", "words", "fence", "after"]
    assert torn(writer, reader) == set()


@pytest.mark.parametrize("side, what", [("writer", "fence"), ("writer", "even"), ("reader", "before"), ("reader", "fence")])
def test_each_order_is_needed(side, what):
    """So the model sees what is missing, and nothing is there for nothing."""
    steps = {"writer": writer_steps(), "reader": reader_steps()}
    steps[side] = [(one, "relaxed" if one == what else order) for one, order in steps[side]]
    assert torn(steps["writer"], steps["reader"])


@pytest.mark.parametrize("machine", ["own", "aarch64"])
def test_litmus(tmp_path, machine):
    cc, launcher = ("gcc", []) if machine == "own" else ("aarch64-linux-gnu-gcc", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"])
    for tool in (cc, *launcher[:1]):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    program = tmp_path / "litmus"
    sources = [*(ROOT / "lib/index").glob("*.c"), ROOT / "lib/base/os.c", ROOT / "lib/base/acl.c", ROOT / "lib/base/trust.c", ROOT / "tests/reach/litmus.c"]
    subprocess.run([cc, "-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-I", ROOT, "-o", program, *sources, "-pthread"], check=True)
    (tmp_path / "runtime").mkdir(mode=0o700)
    done = subprocess.run([*launcher, program, tmp_path / "runtime", "2"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.startswith("right "), done.stdout + done.stderr
