"""A stand-in for a bad network: a FaultProxy that does one kind of harm to a share of the answers, at places that a seed decides.

    with ChaosProxy(server.url) as proxy:
        proxy.chaos(["reset", "corrupt"], 0.1, seed=7)
        ...
        proxy.heal()

HARMS:
  reset     RST after some bytes of the answer
  stall     nothing more after some bytes, the connection stays open
  truncate  an orderly end after some bytes
  corrupt   bytes of the answer's body are others
  duplicate the request is sent twice, and the second answer is passed on; or some bytes of the answer's body come twice
  slow      the answer comes late, and in drops
  upwards   bytes of the request's body are others
What changes bytes does so in answers (or requests) that `whose` chooses: whose(harm, method, target) -> bool; default: all.
"""

import random
import socket

from .faultproxy import Fault, FaultProxy, Valve, _copy_body, _final_head, _send_answer
from .threads import Connection, Gone

HARMS = ("reset", "stall", "truncate", "corrupt", "duplicate", "slow", "upwards")
FAR = 6000  # harm begins so many bytes from the beginning of an answer, at most


class Nobody:
    def send(self, data):
        pass


class Harm(Fault):
    """A Fault that may change bytes, too."""

    what = ""
    at = 0


class HarmValve(Valve):
    def __init__(self, client, fault, stopping):
        super().__init__(client, fault, stopping)
        self.passed = 0

    def send(self, data):
        what = getattr(self.fault, "what", "")
        if self.in_body and what in ("corrupt", "again") and self.passed <= self.fault.at < self.passed + len(data):
            at = self.fault.at - self.passed
            if what == "corrupt":
                changed = data[:at] + bytes(byte ^ 0x5a for byte in data[at:at + 3]) + data[at + 3:]
            else:
                changed = data[:at] + data[max(0, at - 40):at] + data[at:]
            self.passed += len(data)
            data = changed
        elif self.in_body:
            self.passed += len(data)
        super().send(data)


class ChaosProxy(FaultProxy):
    name = "chaosproxy"

    def __init__(self, upstream, port=0):
        super().__init__(upstream, port)
        self._harms, self._share, self._dice, self._whose = (), 0.0, random.Random(0), None
        self.harmed = {harm: 0 for harm in HARMS}

    def chaos(self, harms, share, seed=0, whose=None):
        with self.lock:
            self._harms, self._share, self._dice, self._whose = tuple(harms), share, random.Random(f"chaos {seed}"), whose

    def heal(self):
        super().heal()
        self.chaos((), 0.0)

    def _take_fault(self, method, target, fields):
        super()._take_fault(method, target, fields)
        with self.lock:
            if not self._harms or self._dice.random() >= self._share:
                return Fault()
            harm = self._dice.choice(self._harms)
            at = self._dice.choice([0, self._dice.randrange(300), self._dice.randrange(FAR)])
            twice, rate, delay = self._dice.random() < 0.5, self._dice.choice([2000, 20_000, 200_000]), self._dice.uniform(0, 1)
            changes = harm in ("corrupt", "upwards") or (harm == "duplicate" and not twice)
            if changes and self._whose and not self._whose(harm, method, target):
                return Fault()
            self.harmed[harm] += 1
        fault = {"reset": lambda: Harm(reset_after=at), "stall": lambda: Harm(stall_after=at), "truncate": lambda: Harm(close_after=at),
                 "slow": lambda: Harm(rate=rate, delay=delay)}.get(harm, Harm)()
        fault.what, fault.at = {"duplicate": "twice" if twice else "again"}.get(harm, harm), at
        return fault

    def valve(self, client, fault):
        return HarmValve(client, fault, self.stopping)

    def _send_request(self, client, upstream, head, fields, fault):
        what = getattr(fault, "what", "")
        if what == "twice":
            return self._send_twice(client, upstream, head, fields)
        if what == "upwards":
            return super()._send_request(client, Upwards(upstream, fault.at, len(head)), head, fields, fault)
        return super()._send_request(client, upstream, head, fields, fault)

    def _send_twice(self, client, upstream, head, fields):
        """The first goes by a connection of its own; who asked sees the answer to the second."""
        body = []
        if fields.get("expect", "").lower() == "100-continue":
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        _copy_body(client, body.append, fields, until_close=False)
        other = Connection(socket.create_connection(self.upstream, 10))
        try:
            for one in (other, upstream):
                one.send(head)
                for piece in body:
                    one.send(piece)
                if one is other:
                    answer = _final_head(other, Valve(Nobody(), Fault(), self.stopping))
                    if answer:
                        _send_answer(other, Valve(Nobody(), Fault(), self.stopping), head.split(b" ")[0].decode(), answer)
        except Gone:
            pass
        finally:
            other.close()
        return None


class Upwards:
    """An upstream connection that changes what is sent behind the head."""

    def __init__(self, inner, at, head):
        self.inner, self.left = inner, head + at

    def send(self, data):
        if 0 <= self.left < len(data):
            at = self.left
            data = data[:at] + bytes(byte ^ 0x5a for byte in data[at:at + 3]) + data[at + 3:]
        self.left -= len(data)
        self.inner.send(data)

    def read_until(self, mark):
        return self.inner.read_until(mark)
