"""Deterministic simulation: interval and power sources whose readings come hours late, twice, and across crashes.

A device stores what it measured while its network is down and sends it afterwards, often behind what is newer; the
process dies before and after any commit. In the end every closed hour and what was booked beside it must be what the
reference makes of all that was ever said, to the last micro.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from heapq import heapify, heappop
from pathlib import Path
from random import Random

import pytest

from buffer.hours import Rule
from buffer.model import HOUR_MS, MICRO, to_ms
from buffer.store import Store
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.small_gateway import SmallGateway, reading
from tests.unit.buffer.reference_energy import period_energy, power_energy

HOURS = 14
CRASH = 0.08  # before and after each commit
QUARTER = 900_000
RULES = {
    "interval": Rule("interval", QUARTER, period_ms=QUARTER),
    "power": Rule("power", 300_000, max_gap_ms=QUARTER),
    "power-on-change": Rule("power", 300_000, hold_ms=HOUR_MS),
}


class Crash(BaseException):
    """The process is gone."""


class World:
    """One meter, its device, and chance in all that happens; everything follows from the seed."""

    def __init__(self, seed: int, directory: Path, rule: Rule) -> None:
        self.random = Random(seed)
        self.rule = rule
        self.clock = FakeClock()
        self.crashes = 0
        self.calm = False
        self.said: dict[int, int] = {}
        self._simulator = EnerkeySimulator(now=lambda: self.clock.wall)
        self.gateway = SmallGateway(directory, self.clock, self._simulator, ("off",), rule=rule, random=self.random)
        self._breakable()

    def live(self) -> None:
        queue = self._schedule()
        while queue:
            when, _, each = queue[0]
            try:
                self.gateway.run(max(0.0, (when - self.clock.wall).total_seconds()))
                self.gateway.deliver(each)
            except Crash:
                self.crashes += 1
                self.clock.advance(self.random.uniform(1, 30))
                self.gateway.ready = self.clock.boottime
                self.gateway.crash()
                self._breakable()
                continue  # not acknowledged: the same reading comes again
            heappop(queue)
        self.calm = True
        self.gateway.run(2 * 3600)

    def _schedule(self) -> list[tuple]:
        every = timedelta(milliseconds=self.rule.expected_every_ms)
        queue = []
        down = START + timedelta(hours=self.random.uniform(2, 6)), START + timedelta(hours=self.random.uniform(7, 11))
        for number in range(int(timedelta(hours=HOURS) / every)):
            at = START + every * number + timedelta(seconds=self.random.uniform(-1, 1))
            each = reading("off", at, Decimal(self.random.randrange(10**7)).scaleb(-6))
            self.said.setdefault(to_ms(at), int(each.value * MICRO))
            for _ in range(2 if self.random.random() < 0.2 else 1):
                queue.append((max(at, START) + self._delay(at, down), len(queue), each))
        heapify(queue)
        return queue

    def _delay(self, at, down) -> timedelta:
        if down[0] < at < down[1] and self.random.random() < 0.8:
            return down[1] - at + timedelta(seconds=self.random.uniform(0, 7200))
        return timedelta(seconds=self.random.choice([1, 1, 1, 60, 4000, self.random.uniform(0, 20_000)]))

    def _breakable(self) -> None:
        write = Store.write.__get__(self.gateway.store)

        def call(work: Callable, *, patients: int = 0) -> object:
            self._may_crash()
            result = write(work, patients=patients)
            self._may_crash()
            return result

        self.gateway.store.write = call

    def _may_crash(self) -> None:
        if not self.calm and self.random.random() < CRASH:
            raise Crash

    def booked(self) -> Counter[int]:
        found: Counter[int] = Counter()
        for table in ("adjustment", "parked"):
            rows = self.gateway.store.read(lambda db, of=table: db.execute(f"SELECT hour, amount FROM {of}").fetchall())
            for hour, amount in rows:
                found[hour] += amount
        return found

    def wanted(self, hour: int) -> int:
        if self.rule.kind == "interval":
            return period_energy(self.said.items(), hour, self.rule.period_ms, self.rule.stamp)
        return power_energy(self.said.items(), hour, self.rule.max_gap_ms, self.rule.hold_ms)[0]

    def close(self) -> None:
        self.gateway.close()
        self._simulator.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int, Rule], World]]:
    made: list[World] = []

    def build(seed: int, rule: Rule) -> World:
        made.append(World(seed, tmp_path, rule))
        return made[-1]

    yield build
    for world in made:
        world.close()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", RULES)
def test_every_closed_hour_and_its_adjustments_are_what_was_really_said(make, seed: int, kind: str):
    """R4, R8: whatever comes late, twice, or again after a crash."""
    world = make(seed, RULES[kind])
    world.live()
    booked = world.booked()
    hours = world.gateway.hours("off")
    assert world.crashes > 3
    assert len(hours) >= HOURS - 2
    assert len(booked) > 3
    assert {view.hour: view.consumption + booked[view.hour] for view in hours} == {
        view.hour: world.wanted(view.hour) for view in hours
    }
    assert sum(view.consumption for view in hours) == hours[-1].boundary  # R7: adjustments stand beside the hours
