"""The product against `reference`: the same integers from 10 000 messy series, however they arrive."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.counter import CounterRule, judge
from buffer.hours import Rule, close_hours, open_meter, scan_after
from buffer.model import HOUR_MS, MINUTE_MS
from tests.unit.buffer.reference import Meter, hours

START = 480_000 * HOUR_MS
SERIES = 10_000
FAR = 10**9  # an hour beyond all others
met: Counter[str] = Counter()


def a_series(chance: Random, rate: int, rollover: int | None) -> list[tuple[int, int]]:
    """A register under a load that changes, read at a jittered pace, with everything that goes wrong in basements."""
    pace = chance.choice([1, 5, 10, 15, 60]) * MINUTE_MS
    at, value = START + chance.randrange(HOUR_MS), chance.choice([0, 17, 10**6, 10**9])
    shift, away, found = 0, 0, []
    for _ in range(chance.randrange(2, 40)):
        step = max(1, round(pace * chance.choice([0.9, 1, 1, 1, 1.1, chance.uniform(1, 9)])))
        at, value = at + step, value + rate * step * chance.choice([0, 1, 2, 3, 4]) // (5 * HOUR_MS)
        if chance.random() < 0.03:
            shift = -value + chance.choice([0, 0, 372, 5 * 10**8])  # a reset, or another meter
        seen = value + shift if rollover is None else (value + shift) % rollover
        if chance.random() < 0.03:
            away = chance.randrange(1, 9)  # a module that lost its register for a while
        if away:
            away, seen = away - 1, chance.choice([0, 0, 0, 0, 372])
        elif chance.random() < 0.05:
            seen = chance.choice([0, 0, seen // 2, seen + rate, 65_535_500_000, seen - 1, seen - 3])
        found.append((at, max(seen, 0)))
    return found


@settings(max_examples=SERIES, deadline=None)
@given(st.integers(0, 2**48))
def test_the_product_and_the_reference_agree_to_the_last_digit(seed: int):
    """R7, R9, DESIGN 5: gaps, glitches, duplicates, late data and resets; delivered in any order, closed at any time."""
    chance = Random(seed)
    rate = chance.choice([0, 1000, 10**6, 6 * 10**7])
    rollover = chance.choice([None, None, 10**7, 10**10])
    reset = chance.choice(["never", "zero"])
    resolution = chance.choice([0, 1, 10**6])
    pace = 10 * MINUTE_MS
    series = a_series(chance, rate, rollover)
    gap, hold = chance.choice([None, "spread", "arrival", "hole"]), chance.choice([0, 0, 20 * MINUTE_MS, 2 * HOUR_MS])
    rule = Rule("counter", pace, gap=gap, hold_ms=hold)
    counter = CounterRule(rate, resolution, rollover=rollover, reset=reset)

    stored: dict[int, int] = {}
    frozen, closed = None, {}
    for block in [*blocks(chance, series), []]:
        limit = chance.choice([FAR, START // HOUR_MS + chance.randrange(30)]) if block else FAR
        for at, value in chance.sample([*block, *block[:2]], len(block) + len(block[:2])):
            stored.setdefault(at, value)
        if frozen:
            stored.setdefault(
                frozen.edge * HOUR_MS - chance.randrange(10**6), chance.randrange(10**7)
            )  # late: no input
        samples = sorted(each for each in stored.items() if frozen is None or each[0] > scan_after(frozen.edge, rule))
        judged = judge(samples, frozen, counter)
        met.update(verdict.kind for verdict in judged.verdicts)
        opened = frozen or open_meter(judged.good, rule, limit, 0)
        if opened is None:
            continue
        later = [each for each in judged.good if each[0] > scan_after(opened.edge, rule)]
        now_closed, after = close_hours(opened, later, rule, limit, judged.doubtful)
        parked = sum(hour.parked for hour in now_closed)
        track = judged.track_at(after.edge * HOUR_MS, opened.track)
        frozen = after._replace(track=track.without(parked))
        assert sum(hour.consumption for hour in now_closed) == frozen.boundary - opened.boundary
        met["holes"] += sum(1 for hour in now_closed if hour.quality == "missing")
        met["parked"] += bool(parked)
        closed |= {hour.hour: (hour.consumption, hour.quality) for hour in now_closed}
    assert closed == hours(Meter(rate, resolution, rollover, reset, pace, gap, hold), series)
    met["hours"] += len(closed)


def test_the_series_above_were_messy():
    """A differential test over tame series would prove nothing."""
    assert min(met[kind] for kind in ("glitch", "rollover", "reset", "replaced", "returned", "parked", "holes")) >= 50
    assert met["hours"] >= 10 * SERIES / 2


def blocks(chance: Random, series: list) -> list[list]:
    """The series in a few pieces, each of which arrives in any order before hours are closed."""
    cuts = sorted(chance.randrange(1, len(series) + 1) for _ in range(chance.randrange(4)))
    edges = [0, *cuts, len(series)]
    return [series[low:high] for low, high in pairwise(edges) if low < high]
