"""Refused hours, adjustments and a database in doubt, through days of faults and crashes in virtual time (R16-R19, R23).

Beside `test_faulty_days`: here hours are closed already, and what happens to them afterwards is by chance. EnerKey sums
or replaces, refuses some hours, with or without applying the others; the process dies at any call of the store or the
wire, with its machine or alone. After the faults stop, every hour but the refused ones stands at EnerKey as its
consumption with its adjustments, once, and the refused ones are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import pytest

from buffer.model import EPOCH, hour_start, to_ms
from buffer.store import Store
from gateway.enerkey.models import stamp
from gateway.simulator.enerkey import FAULTS, EnerkeySimulator, random_faults
from tests.fakes.clock import START, FakeClock
from tests.fakes.picky_enerkey import PickyEnerkey
from tests.fakes.small_gateway import SmallGateway

FIRST = (START - EPOCH) // timedelta(hours=1) - 20
BACKLOG, LIVE = 20, 30  # h
EACH = 500_000
BAD = 0.05  # of hours
FAULTY = 0.06  # of requests, for each kind of fault
OURS = [fault for fault in FAULTS if fault not in {"duplicate", "zombie"}]  # what nobody doubles behind our back
CRASH = 0.01  # before and after each commit
CRASH_ON_THE_WIRE = 0.03  # before and after each request
INSERT_HOUR = (
    "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, 'measured', 0)"
)
INSERT_ADJUSTMENT = (
    "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, 'late', 'gateway', ?)"
)


class Crash(BaseException):
    """The process is gone."""


class World:
    """One consumption meter, of which some hours are refused, and a cumulative one; everything follows from the seed."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = Random(seed)
        self.clock = FakeClock()
        self.calm = False
        self.crashes = 0
        self.wanted: dict[int, int] = {}
        same_hour = self.random.choice(["sum", "replace"])
        self.simulator = EnerkeySimulator(now=lambda: self.clock.wall, same_hour=same_hour)
        self.simulator.faults = random_faults(dict.fromkeys(OURS, FAULTY), self.random)
        self.bad = {hour for hour in range(FIRST, FIRST + BACKLOG + LIVE) if self.random.random() < BAD}
        stamps = [stamp(hour_start(hour)) for hour in self.bad]
        self._picky = PickyEnerkey(self.simulator, stamps, 100, whole=self.random.random() < 0.5)
        self.gateway = SmallGateway(
            directory,
            self.clock,
            self.simulator,
            ("a", "cumulative"),
            handler=self._wire,
            same_hour=same_hour,
            looked=False,
            old_hours=6,
            most_hours=self.random.choice([5, 24, 744]),
        )
        self._breakable()

    def _wire(self, request: httpx.Request) -> httpx.Response:
        self._may_crash(CRASH_ON_THE_WIRE)
        response = self._picky(request)
        self._may_crash(CRASH_ON_THE_WIRE)
        return response

    def _breakable(self) -> None:
        write = Store.write.__get__(self.gateway.store)

        def broken(work: Callable) -> object:
            self._may_crash(CRASH)
            result = write(work)
            self._may_crash(CRASH)
            return result

        self.gateway.store.write = broken

    def _may_crash(self, chance: float) -> None:
        if not self.calm and self.random.random() < chance:
            raise Crash

    def live(self) -> None:
        for hour in range(FIRST, FIRST + BACKLOG + LIVE):
            while hour >= FIRST + BACKLOG and self.clock.wall < hour_start(hour + 1):
                self._go_on(hour_start(hour + 1))
            self._close(hour)
            for _ in range(self.random.choice([0, 0, 1, 2])):
                self._adjust(self.random.randrange(FIRST, hour + 1), self.random.randrange(-90_000, 90_000))
        self.calm, self.simulator.faults = True, None
        last = FIRST + BACKLOG + LIVE  # one more boundary, which takes the last adjustments along
        self.gateway.run((hour_start(last + 1) - self.clock.wall).total_seconds())
        self._close(last)
        self.gateway.run(4 * 86_400)

    def _go_on(self, until: datetime) -> None:
        try:
            self.gateway.run(min(900.0, (until - self.clock.wall).total_seconds()))
        except Crash:
            self.crashes += 1
            self.clock.advance(self.random.uniform(1, 30))
            if self.random.random() < 0.3:
                self.gateway.boot = f"boot-{self.crashes}"  # the machine went down, too
            self.gateway.crash()
            self._breakable()

    def _close(self, hour: int) -> None:
        boundary = 10**9 + (hour + 1 - FIRST) * EACH
        self._write(INSERT_HOUR, [(meter, hour, EACH, boundary) for meter in (1, 2)])
        self.wanted[hour] = EACH

    def _adjust(self, hour: int, amount: int) -> None:
        self._write(INSERT_ADJUSTMENT, [(meter, hour, amount, to_ms(self.clock.wall)) for meter in (1, 2)])
        self.wanted[hour] += amount

    def _write(self, statement: str, rows: list[tuple]) -> None:
        Store.write(self.gateway.store, lambda db: db.executemany(statement, rows))


@pytest.fixture(params=range(4))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world in which everything has happened."""
    world = World(request.param, tmp_path)
    world.live()
    yield world
    world.gateway.close()
    world.simulator.close()


def test_every_hour_is_there_once_with_its_adjustments_or_held(world: World):
    """R16, R17: nothing is lost, nothing doubled, and nobody is told of a doubt that is none."""
    assert world.crashes > 3
    hours = {view.hour: (view.state, view.accepted) for view in world.gateway.hours()}
    good = {hour: value for hour, value in world.wanted.items() if hour not in world.bad}
    assert hours == {hour: ("accepted", value) for hour, value in good.items()} | dict.fromkeys(
        world.bad, ("held", None)
    )
    assert world.simulator.hourly(100) == good
    told = [text for level, _, text in world.gateway.events() if level != "info"]
    assert all(text.startswith("EnerKey refused ") for text in told)
    assert set(world.gateway.states("cumulative")) == {"accepted"}
    assert sum(world.simulator.hourly(101).values()) == sum(world.wanted.values())
    stamps = [item.stamp for item in world.simulator.items if item.family == "cumulative"]
    assert len(stamps) == len(set(stamps))
