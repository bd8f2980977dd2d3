"""What must hold when everything is at rest: EnerKey, the ledger, the closed hours and the truth agree to the last digit."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

from buffer.model import HOUR_MS, from_micro, hour_of, hour_start
from gateway.simulator.building import SimulatedMeter
from tests.torture import site
from tests.torture.life import Life

ROUNDING = 2  # micro: an hour is the difference of two boundaries, each rounded once

NONE_OF_THESE = {
    "R13: messages that are not settled": "SELECT count(*) FROM message WHERE state IN ('open', 'unknown')",
    "R17: hours held": "SELECT count(*) FROM hour WHERE state = 'held'",
    "R17: hours claimed by no message": "SELECT count(*) FROM hour WHERE state = 'claimed'",
    "R2: good readings that were rejected": "SELECT count(*) FROM rejected",
    "R5: readings without a time": "SELECT count(*) FROM unplaced",
    "adjustments that are not posted": "SELECT count(*) FROM adjustment WHERE posted <> amount",
    "energy that waits for a person": "SELECT count(*) FROM parked",
    "errors told": "SELECT count(*) FROM event WHERE level = 'error'",
    "R7: hours that do not reach from boundary to boundary": (
        "SELECT count(*) FROM hour a JOIN hour b ON a.meter = b.meter AND a.hour + 1 = b.hour"
        " WHERE b.boundary - b.consumption <> a.boundary"
    ),
}


def check(life: Life) -> None:
    """Put what is wrong into the life's figures, and what its messages came to."""
    figures = life.figures
    for words, ask in NONE_OF_THESE.items():
        if count := life.look(ask)[0][0]:
            figures.problems.append(f"{words}: {count}")
    if life.look("PRAGMA integrity_check") != [("ok",)]:
        figures.problems.append("R25: the file is damaged")
    there = Counter((item.meter, item.stamp) for item in life.enerkey.items if item.family == "cumulative")
    if twice := [key for key, count in there.items() if count > 1]:
        figures.problems.append(f"{len(twice)} readings were applied more than once, such as {twice[0]}")
    for meter in life.meters:
        _Books(life, meter).check()
    figures.messages.update(dict(life.look("SELECT state, count(*) FROM message GROUP BY state")))
    applied = "SELECT count(DISTINCT message) FROM message_hour WHERE fate = 'accepted'"
    figures.applied = life.look(applied)[0][0]
    ended = "SELECT message_hour.fate, count(*) FROM message_hour JOIN message ON message.id = message GROUP BY 1"
    figures.unknown.update({fate: count for fate, count in life.look(ended) if fate})
    figures.adjustments = life.look("SELECT count(*) FROM adjustment")[0][0]


class _Books:
    """One meter: what everybody has of its hours, in micro."""

    def __init__(self, life: Life, meter: SimulatedMeter) -> None:
        (self._id,) = life.look("SELECT id FROM meter WHERE name = ?", meter.name)[0]
        self._life, self._meter = life, meter
        self.there = life.enerkey.hourly(meter.enerkey_id)
        self.ledger = dict(life.look("SELECT hour, accepted FROM ledger WHERE meter = ?", self._id))
        rows = life.look("SELECT hour, consumption, state FROM hour WHERE meter = ?", self._id)
        self.closed = {hour: consumption for hour, consumption, _ in rows}
        self.accepted = {hour for hour, _, state in rows if state == "accepted"}
        self.adjusted: Counter[int] = Counter()
        for hour, posted in life.look("SELECT hour, posted FROM adjustment WHERE meter = ?", self._id):
            self.adjusted[hour] += posted

    def check(self) -> None:
        """Every hour by itself; and the sum, which holds also where an adjustment enters a later hour."""
        figures, name = self._life.figures, self._meter.name
        wanted = range(self._life.first, self._life.last + 1)
        figures.hours += len(wanted)
        for hour in sorted({*wanted, *self.there, *self.accepted}):
            if words := self._wrong(hour):
                figures.wrong.append(f"{name} {hour_start(hour):%d. %H}Z: {words}")
        ours = sum(self.closed[hour] for hour in self.accepted) + self.adjusted.total()
        if sum(self.there.values()) != ours:
            figures.problems.append(
                f"R16: {name}: {from_micro(sum(self.there.values()))} is there, {from_micro(ours)} was closed and posted"
            )
        if isinstance(self._meter.source, site.MqttDevice):
            self._check_truth()
        else:
            self._check_polled()

    def _wrong(self, hour: int) -> str:
        if hour not in self.there:
            return "is not there"
        if hour not in self.accepted:
            return "is there and not accepted"
        if self.there[hour] != self.ledger.get(hour):
            return f"{from_micro(self.there[hour])} is there, {from_micro(self.ledger.get(hour, 0))} in the ledger"
        here = self._meter.push == "consumption"  # an adjustment of a cumulative meter enters its next boundary
        ours = self.closed[hour] + (self.adjusted[hour] if here else 0)
        if (here or not self.adjusted) and self.there[hour] != ours:
            return f"{from_micro(self.there[hour])} is there, {from_micro(ours)} was closed and posted"
        return ""

    def _check_truth(self) -> None:
        """Hours of devices that speak of the full hour are known exactly: nothing they said may be lost or doubled (R3)."""
        hours = sorted(self.accepted)[1:]  # the source may have begun to speak within the first one
        for hour in hours:
            ours, true = self.closed[hour] + self.adjusted[hour], site.exact(self._meter, hour)
            if ours != true:
                self._life.figures.wrong.append(
                    f"{self._meter.name} {hour_start(hour):%d. %H}Z: {from_micro(ours)} is ours, {from_micro(true or 0)} is true"
                )

    def _check_polled(self) -> None:
        """Hours of a polled register are what exact arithmetic makes of the readings that were stored."""
        rows = self._life.look("SELECT at, value FROM reading WHERE meter = ? ORDER BY at", self._id)
        edges: dict[int, Fraction] = {}
        for (left, low), (right, high) in pairwise(rows):
            for edge in range(hour_of(left) + 1, hour_of(right) + 1):
                edges[edge] = low + (high - low) * Fraction(edge * HOUR_MS - left, right - left)
        for hour in sorted(self.accepted):
            exact = edges[hour + 1] - edges[hour]
            if abs(self.closed[hour] - exact) > ROUNDING:
                self._life.figures.wrong.append(
                    f"{self._meter.name} {hour_start(hour):%d. %H}Z: {from_micro(self.closed[hour])} was closed,"
                    f" {float(exact / 10**6)} was read"
                )
            true = self._meter.truth(hour)
            self._life.figures.polled_off = max(
                self._life.figures.polled_off, abs(self.there.get(hour, 0) - true) / true
            )
