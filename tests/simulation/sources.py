"""Meters with a true load, what their sources say and when it arrives, and what exact arithmetic makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import NamedTuple

from buffer.hours import Rule
from buffer.model import HOUR_MS, MICRO, MINUTE_MS

KNOT_MS = 10 * MINUTE_MS
OVERTAKEN = 100.0  # s; shorter than grace
LARGE = 4 * 10**18  # micro: a register near the end of what a counter can hold, where a float is 512 micro coarse

COUNTER = Rule("counter", expected_every_ms=30 * MINUTE_MS)
POWER = Rule("power", expected_every_ms=10 * MINUTE_MS, max_gap_ms=20 * MINUTE_MS)


class Arrival(NamedTuple):
    """A message of a source with a stamp of its own: when it gets here (ms) and what it says."""

    due: int
    meter: int
    at: int
    value: int  # micro
    late: bool


@dataclass(frozen=True)
class Meter:
    """One meter. Those on the bus are polled, the others speak for themselves."""

    number: int
    name: str
    rule: Rule
    bus: bool


def meters_of(count: int) -> list[Meter]:
    """Counters on the bus and at the broker, interval and power sources; every other one is pushed cumulatively."""
    found = []
    for number in range(count):
        family = "cumulative-" if number % 2 else ""
        what, rule = (
            ("bus", COUNTER),
            ("bus", COUNTER),
            ("message", COUNTER),
            ("power", POWER),
            ("interval", interval_rule(number)),
        )[number // 2 % 5]
        found.append(Meter(number, f"{family}{what}-{number}", rule, what == "bus"))
    return found


def interval_rule(number: int) -> Rule:
    """Quarters, halves and whole hours, stamped at either end."""
    period = (15, 30, 60)[number % 3] * MINUTE_MS
    return Rule("interval", expected_every_ms=period, period_ms=period, stamp="end" if number % 2 else "start")


class Load:
    """A register along time: rising unevenly, with still stretches and such in which next to nothing flows."""

    def __init__(self, random: Random, first: int, last: int, start: int) -> None:
        self._first = first
        self._knots = [start]
        pace = 0
        for _ in range((last - first) // KNOT_MS + 2):
            if random.random() < 0.2:
                pace = random.choice((0, 1, 40_000, 700_000, 700_000))
            self._knots.append(self._knots[-1] + random.randrange(pace + 1))

    def at(self, ms: int) -> int:
        knot, rest = divmod(ms - self._first, KNOT_MS)
        low, high = self._knots[knot], self._knots[knot + 1]
        return low + (high - low) * rest // KNOT_MS


class Building:
    """All meters over one run; every number follows from the seed."""

    def __init__(self, seed: int, count: int, first: int, hours: int, rates: dict[str, float]) -> None:
        self.random = Random(f"{seed}/sources")
        self.meters = meters_of(count)
        self.first, self.last = first, first + hours * HOUR_MS
        self._rates = rates
        slack = 4 * HOUR_MS  # a poll may come after the end
        starts = [LARGE if meter.number == 1 else self.random.randrange(10**12) for meter in self.meters]
        self.loads = [Load(self.random, first, self.last + slack, start) for start in starts]

    def polls(self) -> list[int]:
        """When the bus is polled: three times an hour, once close to the edge."""
        found = []
        for begin in range(self.first, self.last, HOUR_MS):
            for low, high in ((500, 30_000), (15 * MINUTE_MS, 25 * MINUTE_MS), (40 * MINUTE_MS, 55 * MINUTE_MS)):
                found.append(begin + self.random.randrange(low, high))
        return found

    def arrivals(self) -> list[Arrival]:
        """Everything that the broker will bring: late, twice and out of order."""
        found = []
        for meter in self.meters:
            if meter.bus:
                continue
            for at, value in self._said(meter):
                late = self._happens("late" if meter.rule.kind == "counter" else "late-energy")
                late = late and (
                    meter.rule.kind == "counter" or meter.number % 2 == 0
                )  # into other hours of a cumulative
                for _ in range(2 if self._happens("repeated") else 1):
                    found.append(Arrival(at + self._delay(late), meter.number, at, value, late))
        return sorted(found)

    def _said(self, meter: Meter) -> list[tuple[int, int]]:
        if meter.rule.kind == "interval":
            skew = 7 * MINUTE_MS if meter.number % 4 == 0 else 0
            times = range(self.first + skew, self.last + 1, meter.rule.period_ms)
            return [(at, self.random.choice((0, 1, self.random.randrange(10**7)))) for at in times]
        if meter.rule.kind == "power":
            times = range(self.first, self.last, 10 * MINUTE_MS)
            jittered = [at + self.random.randrange(4 * MINUTE_MS) for at in times]
            return [(at, self.random.choice((0, self.random.randrange(10**7)))) for at in jittered]
        windows = ((1_000, 60_000), (300_000, 1_500_000), (3_540_000, 3_599_999))
        hours = range(self.first, self.last, HOUR_MS)
        times_ = [begin + self.random.randrange(*window) for begin in hours for window in windows]
        return [(at, self.loads[meter.number].at(at)) for at in times_]

    def _delay(self, late: bool) -> int:
        if late:
            return self.random.randrange(10 * MINUTE_MS, 3 * HOUR_MS)
        return round(1000 * self.random.uniform(0, OVERTAKEN if self._happens("overtaken") else 2))

    def _happens(self, fault: str) -> bool:
        return self.random.random() < self._rates.get(fault, 0)


def decimal(micro: int) -> Decimal:
    return Decimal(micro) / MICRO


# --- exact hours ------------------------------------------------------------------------------------------------------


def exact_hours(rule: Rule, known: dict[int, int], settled: dict[int, Fraction]) -> dict[int, Fraction]:
    """The whole hours (micro) that these samples decide, as fractions; `settled`: edges that others had decided before."""
    points = sorted(known.items())
    if not points:
        return {}
    if rule.kind == "counter":
        edges = exact_edges(known) | settled
        return {edge: edges[edge + 1] - value for edge, value in edges.items() if edge + 1 in edges}
    early = rule.period_ms if rule.kind == "interval" and rule.stamp == "end" else 0
    late = rule.period_ms if rule.kind == "interval" and rule.stamp == "start" else 0
    hours = range(-(-(points[0][0] - early) // HOUR_MS), (points[-1][0] + late) // HOUR_MS)
    found = dict.fromkeys(hours, Fraction(0))
    if rule.kind == "interval":
        spans = [(at - early, at + late, Fraction(value, rule.period_ms)) for at, value in points]
        for begin, end, slope in spans:
            for hour in range(begin // HOUR_MS, -(-end // HOUR_MS)):
                if hour in found:
                    found[hour] += slope * (min(end, (hour + 1) * HOUR_MS) - max(begin, hour * HOUR_MS))
        return found
    for (left, low), (right, high) in pairwise(points):
        for hour in range(left // HOUR_MS, -(-right // HOUR_MS)):
            begin, end = max(left, hour * HOUR_MS), min(right, (hour + 1) * HOUR_MS)
            if hour in found and right - left <= rule.max_gap_ms:
                mean = low + Fraction((high - low) * (begin + end - 2 * left), 2 * (right - left))
                found[hour] += mean * (end - begin) / HOUR_MS
    return found


def exact_edges(known: dict[int, int]) -> dict[int, Fraction]:
    """What a counter showed at every full hour that lies between two of these samples."""
    edges: dict[int, Fraction] = {}
    for (left, low), (right, high) in pairwise(sorted(known.items())):
        for edge in range(-(-left // HOUR_MS), right // HOUR_MS + 1):
            edges[edge] = low + (high - low) * Fraction(edge * HOUR_MS - left, right - left)
    return edges
