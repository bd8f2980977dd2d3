"""What doubles behind everybody's back: proxies, zombies and lags that outlive `settle`. Nobody can prevent it (reliability 3.1).

What must hold all the same (R18): wherever EnerKey and the ledger differ, somebody is told within a day of it becoming
readable; and what was not hit stays exact.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from buffer.model import HOUR_MS, hour_of, to_ms
from tests.simulation.scenario import DOUBLING, LONGEST_REVENANT, SETTLE

if TYPE_CHECKING:
    from tests.simulation.memory import Hour
    from tests.simulation.world import World

DAY_MS = 24 * HOUR_MS
NO_WAY_TO_READ_MS = 12 * HOUR_MS  # outages and keys that are refused may follow each other
SETTLE_MS = round(SETTLE * 1000)

UNTOLD = (
    "SELECT 1 FROM hour WHERE meter = ? AND state = 'held'"
    " AND NOT EXISTS (SELECT 1 FROM event WHERE subject = ? AND text LIKE '% h held%')"
)
ACCEPTED = (
    "SELECT hour.hour, accepted FROM ledger JOIN hour ON hour.meter = ledger.meter AND hour.hour = ledger.hour"
    " WHERE ledger.meter = ? AND state = 'accepted'"
)


class Doubles:
    """Watches the hours of which EnerKey and the ledger say different things."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.on = bool(DOUBLING.keys() & world.scenario.rates.keys())
        self._since: dict[tuple[int, int], int] = {}  # meter's number, hour -> true ms
        self._next = 0
        self._hit: list[set[int]] | None = None
        self._told: set[tuple[int, int]] = set()
        # As long as it takes until the last of them has come and the audit after it is over.
        self.rest_ms = DAY_MS + LONGEST_REVENANT * 1000 + 2 * SETTLE_MS + HOUR_MS if self.on else 0

    def lag(self, fault: str) -> None:
        """For some hours nothing can be read back before `settle` is over."""
        world = self._world
        world.faults[fault] += 1
        world.wire.simulator.lag = world.random.uniform(SETTLE, 3 * SETTLE)
        world.at(world.clock.true_ms + world.random.randrange(HOUR_MS, 8 * HOUR_MS), self._usual_lag, None)

    def _usual_lag(self, _: object) -> None:
        self._world.wire.simulator.lag = self._world.scenario.lag

    def watch(self) -> None:
        """Once an hour: since when does what differ?"""
        if not self.on or self._world.clock.true_ms < self._next:
            return
        now = self._world.clock.true_ms
        self._next = now + HOUR_MS
        differing = self.differing()
        self._since = {key: self._since.get(key, now) for key in differing}
        late = {
            key
            for key, since in self._since.items()
            if now - since > DAY_MS + 2 * SETTLE_MS + HOUR_MS + NO_WAY_TO_READ_MS and key not in self._told
        }
        if late:
            self._told |= late
            number, hour = min(late)
            name = self._world.building.meters[number].name
            self._world.problems.append(f"R18: {len(late)} hours differ unnoticed for long, such as {name} {hour}")

    def differing(self) -> set[tuple[int, int]]:
        """Hours that nobody doubts, and of which EnerKey has something else than the ledger."""
        world, found = self._world, set()
        tolerance = max(2, 10 ** (6 - world.scenario.decimals))
        for meter in world.building.meters:
            number = world.gateway.numbers[meter.name]
            accepted = world.look(lambda db, number=number: db.execute(ACCEPTED, (number,)).fetchall())
            there = world.wire.simulator.hourly(100 + meter.number)
            found |= {(meter.number, hour) for hour, value in accepted if abs(there.get(hour, 0) - value) > tolerance}
        return found

    def problems(self) -> list[str]:
        """At rest, a day after the last of it."""
        if not self.on:
            return []
        world = self._world
        found = []
        if differing := self.differing():
            number, hour = min(differing)
            found.append(
                f"R18: {len(differing)} hours differ unnoticed, such as {world.building.meters[number].name} {hour}"
            )
        for meter in world.building.meters:
            row = (world.gateway.numbers[meter.name], meter.name)
            if not world.wire.poisonous(meter.number) and world.look(
                lambda db, row=row: db.execute(UNTOLD, row).fetchone()
            ):
                found.append(f"R18: {meter.name} has held hours, and nobody was told")
        return found

    # --- excuses ------------------------------------------------------------------------------------------------------

    def excuses(self, number: int, hour: int, found: Hour) -> bool:
        """Whether an hour may be so because something was delivered twice."""
        if not self.on:
            return False
        if hour in self.hit()[number] and (found.state == "held" or found.waits):
            return True
        if found.waits and found.there is None:
            return True
        # While EnerKey shows nothing for longer than `settle`, the audit doubts what is right; that is the safe side.
        right = found.there is not None and found.wanted is not None and abs(found.there - found.wanted) <= 2
        return right and found.state == "held" and "long-lag" in self._world.scenario.rates

    def hit(self) -> list[set[int]]:
        """The hours to which something was added more than once, by meter."""
        if self._hit is None:
            self._hit = [set() for _ in self._world.building.meters]
            end = self._world.scenario.stamp == "end"
            times = Counter((item.meter, item.family, item.stamp) for item in self._world.wire.simulator.items)
            for (meter, family, stamp), count in times.items():
                if count < 2:
                    continue
                hour = hour_of(to_ms(stamp))
                # A boundary is the end of one hour and the beginning of the next.
                hours = {hour - 1, hour} if family == "cumulative" else {hour - 1} if end else {hour}
                self._hit[meter - 100] |= hours
        return self._hit
