"""A simulated Modbus line: what is sent back to a request, and when. It only counts; sockets and waiting are its callers'.

A device answers one request after the other. A late answer may come after those of others, and after the next request
has gone out.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple

from gateway.simulator.faults import KINDS, Circumstances, Fault, Reply, Turns
from gateway.simulator.frames import Ascii, Mbap, Rtu
from gateway.simulator.meters import ILLEGAL_VALUE, READ_HOLDING, READ_INPUT, Refused
from gateway.simulator.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from gateway.simulator.faults import Transport
    from gateway.simulator.frames import Framing, Request
    from gateway.simulator.meters import Meter

DEVICE_FAILURE = 0x04
BETWEEN = 0.005  # s at least between another master's request and the answer to it
LATE = (1.6, 4.0)  # s; the gateway waits 1 s (RTU over TCP: 1.5 s) when nothing else is said
MOST_REGISTERS = 125  # the protocol's limit for a read
FAST = 19_200  # baud above which the silence between frames is fixed (Modbus over serial line 1.02, section 2.5.1.1)
FAST_SILENCE = 0.00175  # s


Parity = Literal["N", "E", "O"]


class Speed(NamedTuple):
    """How long bytes take; all in seconds."""

    character: float = 0.0
    silence: float = 0.0  # that ends a frame
    turnaround: float = 0.0  # between a request's end and its answer's beginning; never less than the silence


NO_SPEED = Speed()


def serial_speed(baudrate: int, parity: Parity = "N", turnaround: float = 0.0) -> Speed:
    """Characters have a start bit, eight data bits, a parity bit where there is parity, and a stop bit."""
    character = (10 + (parity != "N")) / baudrate
    return Speed(character, FAST_SILENCE if baudrate > FAST else 3.5 * character, turnaround)


class Send(NamedTuple):
    """Bytes whose first begins at `at` (s, the caller's axis), each behind the other at the line's speed."""

    at: float
    data: bytes
    bytewise: bool = False


class HangUp(NamedTuple):
    """The connection ends at `at`: cut, or ended in one direction."""

    at: float
    how: Literal["reset", "half"]


class Line:
    """Devices and what goes wrong with them.

    Change between requests: `mute`, the ids that do not answer although they are there; `faults`; `late`, by how many
    seconds a late answer is late, at least and at most; `chance`.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        transport: Transport = "tcp",
        *,
        missing: Literal["silent", "0x04"] = "silent",
        speed: Speed = NO_SPEED,
    ) -> None:
        """`missing`: what other ids do."""
        self.mute: set[int] = set()
        self.faults: tuple[Fault, ...] = ()
        self.late = LATE
        self.chance = Random()
        self.heard = 0  # requests, to whomever
        self.answered = 0  # with registers, as far as the meter goes
        self.spoilt = 0  # answers that met a fault
        self.speed = speed
        self.framing: Framing = Mbap() if transport == "tcp" else Ascii() if transport == "ascii" else Rtu()
        self._meters = {meter.device: meter for meter in meters}
        self._missing = missing
        self._turns = Turns()
        self._free: dict[int, float] = {}  # when each device has said its last byte
        self._shown = {meter.device: Shown(meter.counters) for meter in meters}

    def answer(self, request: Request, ended: float, at: datetime) -> list[Send | HangUp]:
        """What follows from a request whose last byte was over at `ended`; `at` is the meters' time."""
        self.heard += 1
        if request.device in self.mute:
            return []
        meter = self._meters.get(request.device)
        if meter is None:
            return self._sent(self._nobody(request), request, ended) if self._missing != "silent" else []
        kinds = self._turns.next(request.device, self.faults)
        self.spoilt += bool(kinds)
        reply = self._read(meter, request, kinds, at)
        given = Circumstances(request, self.chance, self.late)
        for kind in kinds:
            spoil = KINDS[kind].spoil
            if spoil:
                spoil(reply, given)
        return self._sent(reply, request, ended)

    def _rolls(self, device: int) -> bool:
        return any(fault.kind == "rollover" and fault.concerns(device) for fault in self.faults)

    def _read(self, meter: Meter, request: Request, kinds: Sequence[str], at: datetime) -> Reply:
        reply = Reply(request.transaction, request.device, request.function, b"")
        if request.function in {READ_HOLDING, READ_INPUT} and not 1 <= request.registers <= MOST_REGISTERS:
            reply.refuse(ILLEGAL_VALUE)
            return reply
        try:
            words = meter.words(request.function, request.register, request.registers, at)
        except Refused as refusal:
            reply.refuse(refusal.code)
            return reply
        self.answered += 1
        words = self._shown[meter.device].words(words, request.register, set(kinds), rolls=self._rolls(request.device))
        reply.data = bytes([2 * len(words)]) + b"".join(word.to_bytes(2, "big") for word in words)
        return reply

    @staticmethod
    def _nobody(request: Request) -> Reply:
        """Some gateways answer for a device that is not there."""
        reply = Reply(request.transaction, request.device, request.function, b"")
        reply.refuse(DEVICE_FAILURE)
        return reply

    def _sent(self, reply: Reply, request: Request, ended: float) -> list[Send | HangUp]:
        at = ended + max(self.speed.turnaround, self.speed.silence) + reply.late
        at = max(at, self._free.get(request.device, 0.0))
        if reply.hangs_up:
            return [HangUp(at, reply.hangs_up)]
        message = bytes([reply.function]) + reply.data
        frame = self.framing.wrap(reply.transaction, reply.device, message, reply.damage)[: reply.most]
        data = reply.before if reply.silent else reply.before + frame + reply.behind
        if not data:
            return []
        sends: list[Send] = []
        if reply.asked_by_another:
            asked = self.framing.wrap(0, reply.device, reply.asked_by_another)
            sends.append(Send(at, asked))
            at += len(asked) * self.speed.character + max(self.speed.turnaround, self.speed.silence, BETWEEN)
        half = len(data) // 2 if reply.rest else len(data)
        sends.append(Send(at, data[:half], reply.bytewise))
        over = at + len(data) * self.speed.character + reply.rest
        if reply.rest:
            sends.append(Send(at + half * self.speed.character + reply.rest, data[half:], reply.bytewise))
        if reply.again is not None:
            sends.append(Send(over + reply.again, frame))
        self._free[request.device] = over
        return [send for send in sends if send.data]
