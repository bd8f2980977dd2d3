"""Deterministic simulation: collector → closer → uploader through days of faults and crashes, in virtual time (R16).

The world: registers that rise unevenly, deliveries that come late, twice and out of order within grace, an EnerKey
that loses requests and answers, a process that dies at any call of the store or the wire and starts again on the same
file. After the faults stop, EnerKey must hold exactly what exact interpolation gives, once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx
import pytest

from buffer.model import MICRO, hour_of, to_ms
from buffer.store import Store
from drivers.base import NotStored
from drivers.reading import Reading
from gateway.simulator.enerkey import EnerkeySimulator, Fault, random_faults
from tests.fakes.clock import FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import SmallGateway, reading

FIRST = datetime(2026, 3, 28, 20, tzinfo=UTC)  # over the night in which Europe's clocks go forward (R10)
DAYS = 1
METERS = ("a", "b", "cumulative-a", "cumulative-b")
RATES: dict[Fault, float] = {
    "lost-request": 0.05,
    "lost-answer": 0.05,
    "500-before": 0.03,
    "500-after": 0.03,
    "503": 0.05,
}
NO_LINE = 0.05  # of requests: connection refused
CRASH = 0.004  # before and after each commit
CRASH_ON_THE_WIRE = 0.05  # before and after each request
GRACE = 120.0


class Crash(BaseException):
    """The process is gone."""


class Delivery(NamedTuple):
    when: datetime
    order: int
    reading: Reading


class World:
    """Ground truth, and chance in all that happens; everything follows from the seed."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = Random(seed)
        self.clock = FakeClock(FIRST)
        self.calm = False
        self.crashes = 0
        self.trace: list[str] = []
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, keys=["one", "two"])
        chance = random_faults(RATES, self.random)
        self.simulator.faults = lambda request: None if self.calm else chance(request)
        self._server = transport(self.simulator).handler
        self.truth = {meter: self._register(number) for number, meter in enumerate(METERS)}
        self.gateway = SmallGateway(
            directory,
            self.clock,
            self.simulator,
            METERS,
            grace=GRACE,
            random=self.random,
            handler=self._wire,
            looked=False,
            old_hours=6,
        )
        self._breakable(self.gateway)

    def _register(self, number: int) -> list[Reading]:
        """Two readings close to each edge, so that lateness swaps them, and some between."""
        offsets = [
            hour * 3_600_000 + self.random.randrange(low, high)
            for hour in range(DAYS * 24)
            for low, high in ((1_000, 60_000), (300_000, 1_500_000), (1_500_000, 3_300_000), (3_540_000, 3_599_999))
        ]
        value, found = Decimal(1000 * number), []
        for offset in offsets:
            found.append(reading(METERS[number], FIRST + timedelta(milliseconds=offset), value))
            value += Decimal(self.random.randrange(40_000)).scaleb(-4)
        return found

    def _wire(self, request: httpx.Request) -> httpx.Response:
        self._may_crash(CRASH_ON_THE_WIRE)
        self.trace.append(f"{self.clock.boottime:.3f} {request.method} {request.url} {len(request.read())}")
        if not self.calm and self.random.random() < NO_LINE:
            raise httpx.ConnectError("refused", request=request)
        response = self._server(request)
        self._may_crash(CRASH_ON_THE_WIRE)
        return response

    def _breakable(self, gateway: SmallGateway) -> None:
        """Crashes before and after every commit."""

        def broken(write: Callable) -> Callable:
            def call(work: Callable) -> object:
                self._may_crash()
                result = write(work)
                self._may_crash()
                return result

            return call

        gateway.store.write = broken(Store.write.__get__(gateway.store))

    def _may_crash(self, chance: float = CRASH) -> None:
        if not self.calm and self.random.random() < chance:
            raise Crash

    def schedule(self) -> list[Delivery]:
        """Every reading, up to 100 s late, some twice; a driver that was not acknowledged delivers again."""
        queue: list[Delivery] = []
        for readings in self.truth.values():
            for each in readings:
                for _ in range(2 if self.random.random() < 0.05 else 1):
                    late = self.random.uniform(0, 100) if self.random.random() < 0.2 else self.random.uniform(0, 2)
                    heappush(queue, Delivery(each.at + timedelta(seconds=late), len(queue), each))
        return queue

    def live(self) -> None:
        queue = self.schedule()
        while queue:
            delivery = queue[0]
            try:
                self.gateway.run(max(0.0, (delivery.when - self.clock.wall).total_seconds()))
                self.gateway.deliver(delivery.reading)
            except Crash:
                self._start_again()
                continue  # not acknowledged: the same reading comes again
            except NotStored:
                continue
            heappop(queue)
        self.calm = True
        self.gateway.run(6 * 3600)

    def _start_again(self) -> None:
        self.crashes += 1
        self.clock.advance(self.random.uniform(1, 30))
        self.gateway.ready = self.clock.boottime
        self.gateway.crash()
        self._breakable(self.gateway)

    def wanted(self, meter: str) -> dict[int, Fraction]:
        """Exact rational interpolation at every edge between two readings, as hours in micro."""
        points = [(to_ms(each.at), Fraction(each.value) * MICRO) for each in self.truth[meter]]
        edges: dict[int, Fraction] = {}
        for (left, low), (right, high) in pairwise(points):
            for edge in range(hour_of(left) + 1, hour_of(right) + 1):
                edges[edge] = low + (high - low) * Fraction(edge * 3_600_000 - left, right - left)
        return {edge: edges[edge + 1] - value for edge, value in edges.items() if edge + 1 in edges}

    def close(self) -> None:
        self.gateway.close()
        self.simulator.close()


def lived(seed: int, directory: Path) -> World:
    directory.mkdir()
    world = World(seed, directory)
    world.live()
    return world


@pytest.mark.parametrize("seed", range(5))
def test_every_hour_arrives_exactly_once_whatever_fails(seed: int, tmp_path: Path):
    """R8, R13, R16, R17."""
    world = lived(seed, tmp_path / "run")
    assert world.crashes > 3
    for number, meter in enumerate(METERS):
        wanted = world.wanted(meter)
        found = world.simulator.hourly(100 + number)
        assert found.keys() == wanted.keys(), meter
        assert len(wanted) >= DAYS * 24 - 2
        assert max(abs(found[hour] - value) for hour, value in wanted.items()) <= 1, meter
        assert set(world.gateway.states(meter)) == {"accepted"}
    assert world.gateway.count("rejected") == 0
    world.close()


def test_a_run_is_repeated_exactly_from_its_seed(tmp_path: Path):
    traces = []
    for name in ("first", "second"):
        world = lived(99, tmp_path / name)
        traces.append(world.trace)
        world.close()
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100
