"""Meters on a line without a line: behind `drivers.modbus.wire.Bus`, in virtual time.

    bus = FakeBus(clock)
    bus.put(1, 72, 0x423C, 0x70A4)                  # device 1, holding registers 72 and 73
    bus.dead.add(2)                                 # silent for its whole timeout
    bus.say(3, BadAnswer("short"), (1, 2))          # device 3's next answers, then its registers again
    bus.limit[1] = 20                               # more registers in one request: 0x03
    bus.asked                                       # every request, with its time

A register that was not put is a hole: a request that touches one gets 0x02, or silence from a device in `silent_holes`.
An answer takes `latency`, a silence the request's timeout. Gaps are the real bus' business and take no time here; they
are in `asked`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime
from typing import NamedTuple

from drivers.base import AnswerError, DriverError, LineError
from drivers.modbus.wire import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Answer, ExceptionAnswer, NoAnswer, Request
from tests.fakes.clock import FakeClock

LATENCY = 0.02  # s


class Asked(NamedTuple):
    """A request that went out."""

    boottime: float
    wall: datetime
    device: int
    table: str
    start: int
    count: int
    timeout: float
    gap: float


class FakeBus:
    """One line; see the module."""

    def __init__(self, clock: FakeClock) -> None:
        self.opened = 0
        self.is_open = False
        self.closed = 0
        self.asked: list[Asked] = []
        self.paused: list[float] = []
        self.dead: set[int] = set()
        self.silent_holes: set[int] = set()
        self.cutting: set[int] = set()  # devices for whose request the far end closes the connection
        self.cutting_holes: set[int] = set()  # and those where it does so at a hole
        self.limit: dict[int, int] = {}
        self.latency = LATENCY
        self.since = 0.0  # s for which the line is listened to behind an answer
        self.opening: DriverError | None = None  # why it cannot be opened
        self._clock = clock
        self._words: dict[tuple[int, str, int], int] = {}
        self._says: dict[int, deque[DriverError | tuple[int, ...]]] = defaultdict(deque)

    def put(self, device: int, register: int, *words: int, table: str = "holding") -> None:
        """Fill registers."""
        self._words |= {(device, table, register + at): word for at, word in enumerate(words)}

    def empty(self, device: int) -> None:
        """Take all its registers away."""
        self._words = {place: word for place, word in self._words.items() if place[0] != device}

    def say(self, device: int, *answers: DriverError | tuple[int, ...]) -> None:
        """The device's next answers, before it reads its registers again."""
        self._says[device].extend(answers)

    def of(self, device: int) -> list[Asked]:
        """The requests to one device."""
        return [asked for asked in self.asked if asked.device == device]

    def open(self) -> None:
        if self.opening is not None:
            raise self.opening
        self.opened += 1
        self.is_open = True

    def read(self, request: Request) -> Answer:
        assert self.is_open, "nobody asks on a closed line"
        now, block, device = self._clock.now(), request.block, request.device
        asked = Asked(
            now.boottime, now.wall, device, block.table, block.start, block.count, request.timeout, request.gap
        )
        self.asked.append(asked)
        places = [(device, block.table, register) for register in range(block.start, block.start + block.count)]
        hole = not self._words.keys() >= set(places)
        if device in self.cutting or (hole and device in self.cutting_holes):
            self.close()
            raise LineError("connection lost: closed by the other end")
        if device in self.dead:
            raise self._silence(request)
        self._clock.advance(self.latency)
        if self._says[device]:
            said = self._says[device].popleft()
            if not isinstance(said, tuple):
                self.is_open = isinstance(said, AnswerError)
                raise said
            return Answer(said, self.latency)
        if block.count > self.limit.get(device, 125):
            raise ExceptionAnswer(ILLEGAL_VALUE)
        if hole:
            raise self._silence(request) if device in self.silent_holes else ExceptionAnswer(ILLEGAL_ADDRESS)
        self._clock.advance(self.since)
        return Answer(tuple(self._words[place] for place in places), self.latency, self.since)

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self._clock.advance(seconds)

    def close(self) -> None:
        self.closed += self.is_open
        self.is_open = False

    def _silence(self, request: Request) -> NoAnswer:
        self._clock.advance(request.timeout)
        return NoAnswer(f"no answer within {request.timeout:g} s")
