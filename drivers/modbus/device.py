"""One device on the bus: its requests, what it refuses and what follows from that, and how it has been doing."""

from __future__ import annotations

import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from drivers.base import AnswerError, NotStored
from drivers.modbus import wire
from drivers.modbus.pace import HOUR
from drivers.modbus.plan import Block, Place, Shape, from_text, halved, plan, to_text, without_holes
from drivers.modbus.wire import ExceptionAnswer, NoAnswer, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from drivers.base import Now, Ports
    from drivers.modbus.target import Target
    from drivers.modbus.wire import Answer, Bus

BUSY_RETRIES = 2
BUSY_PAUSE = (0.1, 0.5)  # s; between these by chance
ACKNOWLEDGE_PAUSE = 1.0  # s: the device has begun something long
REFUSED_AT_MOST = HOUR  # s between two attempts at a value that the device refuses

EARLY = 0.5  # s by which a poll may come before the end of a refused value's pause and still ask for it

RETRIES = {wire.BUSY: BUSY_RETRIES, wire.DEVICE_FAILURE: 1, wire.ACKNOWLEDGE: 1}
REFUSALS = {
    wire.ILLEGAL_FUNCTION,
    wire.ILLEGAL_ADDRESS,
    wire.ILLEGAL_VALUE,
}  # of a value; other exceptions are the device's


class Limits(NamedTuple):
    """What a device needs. `gap` in general, `gap_on_change` after another device was asked; seconds."""

    timeout: float
    gap: float
    gap_on_change: float
    max_registers: int


class Problem(NamedTuple):
    """Why there is no reading. `reason` is stable and can be counted."""

    reason: str
    detail: str
    raw: str = ""


class Look(NamedTuple):
    """What one request brought for one target: words, or a problem. `took` in real seconds."""

    target: Target
    at: datetime
    words: Sequence[int]
    problem: Problem | None
    took: float | None


@dataclass(slots=True)
class Refusal:
    """A value that the device does not give."""

    times: int
    until: float  # boottime


@dataclass(slots=True)
class Round:
    """One poll of a device. `failure` when the device as a whole gave no answer; `looks` holds what came before it."""

    looks: list[Look] = field(default_factory=list)
    failure: Problem | None = None


class Device:
    """A device and the values wanted from it."""

    def __init__(self, number: int, targets: Sequence[Target], limits: Limits, ports: Ports) -> None:
        """Asks nothing yet, not even `ports.memory`."""
        self.number = number
        self.targets = targets
        self.limits = limits
        self.due = float("-inf")  # boottime
        self.slot = 0.0  # the slot that `due` stands for, in seconds since 1970
        self.failures = 0  # polls in a row without an answer
        self.failing_since = ""  # for people
        self.problem = ""
        self.tried = False
        self.answered_once = False
        self.counts: Counter[str] = Counter()
        self._ports = ports
        self._refusals: dict[Place, Refusal] = {}
        self._shape: Shape | None = None
        places = repr((sorted({target.place for target in targets}), limits.max_registers))
        self._key = f"shape/{number}/{zlib.crc32(places.encode()):08x}"

    def read(self, bus: Bus, now: Now, poll: float, *, changed: bool, into: Round) -> None:
        """Fetch every value that is not resting. Raises LineError and SetupError; `into` holds what came."""
        wanted = {target.place for target in self.targets if not self._resting(target.place, now)}
        gap = self.limits.gap_on_change if changed else self.limits.gap
        while wanted:
            block = plan(wanted, self.shape)[0]
            try:
                answer = self._ask(bus, block, gap)
            except ExceptionAnswer as error:
                if self._learns(error, block):
                    continue
                if error.code not in REFUSALS:
                    self._fail(wanted, error, into)
                    return
                self._refused(block, error, now, poll, into)
            except AnswerError as error:
                self._fail(wanted, error, into)
                return
            else:
                self._answered(block, answer, into)
            gap = self.limits.gap
            wanted -= set(block.places)

    @property
    def shape(self) -> Shape:
        """What is known of the requests that the device takes."""
        if self._shape is None:
            remembered = self._ports.memory.get(self._key)
            limit = self.limits.max_registers
            self._shape = from_text(remembered, limit) if remembered else Shape(limit)
        return self._shape

    def _resting(self, place: Place, now: Now) -> bool:
        refusal = self._refusals.get(place)
        return refusal is not None and now.boottime < refusal.until

    def _ask(self, bus: Bus, block: Block, gap: float) -> Answer:
        """One request, repeated where the device asks for patience: a busy device has said nothing about the value."""
        request = Request(self.number, block, self.limits.timeout, gap)
        tried = 0
        while True:
            self.counts["requests"] += 1
            try:
                return bus.read(request)
            except ExceptionAnswer as error:
                if tried >= RETRIES.get(error.code, 0):
                    raise
                patience = (
                    ACKNOWLEDGE_PAUSE if error.code == wire.ACKNOWLEDGE else self._ports.random.uniform(*BUSY_PAUSE)
                )
                bus.pause(patience)
                tried += 1

    def _learns(self, error: ExceptionAnswer, block: Block) -> bool:
        """Whether smaller requests may go better; they are remembered over restarts."""
        shape = None
        if error.code == wire.ILLEGAL_ADDRESS:
            shape = without_holes(block, self.shape)
        elif error.code == wire.ILLEGAL_VALUE:
            shape = halved(block, self.shape)
        if shape is None:
            return False
        self._shape = shape
        with suppress(NotStored):  # learned again after the next start
            self._ports.memory.put(self._key, to_text(shape))
        return True

    def _refused(self, block: Block, error: ExceptionAnswer, now: Now, poll: float, into: Round) -> None:
        problem = Problem(error.reason, str(error))
        for place in block.places:
            times = self._refusals[place].times + 1 if place in self._refusals else 1
            pause = min(poll * 2.0 ** min(times - 1, 16), max(REFUSED_AT_MOST, poll))
            self._refusals[place] = Refusal(times, now.boottime + pause - EARLY)
        self._look(block.places, (), problem, None, into)

    def _answered(self, block: Block, answer: Answer, into: Round) -> None:
        for place in block.places:
            self._refusals.pop(place, None)
            self._look((place,), block.words_of(place, answer.words), None, answer.took, into)

    def _fail(self, wanted: set[Place], error: AnswerError, into: Round) -> None:
        reason = error.reason if isinstance(error, (NoAnswer, wire.BadAnswer, ExceptionAnswer)) else "bad answer"
        into.failure = Problem(reason, str(error), error.raw[:64].hex(" "))
        if isinstance(error, NoAnswer):
            self.counts["timeouts"] += 1
        self._look(sorted(wanted), (), into.failure, None, into)

    def _look(
        self, places: Sequence[Place], words: Sequence[int], problem: Problem | None, took: float | None, into: Round
    ) -> None:
        """The moment at which the answer has arrived stands for the value.

        The meter took it some milliseconds before, mostly the same number each time. That shifts every boundary alike,
        so it adds up to nothing: 40 ms at 100 kW move 1 Wh from one hour to its neighbour.
        """
        at = self._ports.clock.now().wall
        into.looks += [Look(target, at, words, problem, took) for target in self.targets if target.place in places]
