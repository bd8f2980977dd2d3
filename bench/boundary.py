"""How wrong an hour is by the way its boundaries are found (reliability 2.7). Prints a table, or JSON with --json.

A synthetic building over 14 days: a base load, working hours, a heat pump and machines that cycle, noise. Its register
counts in Wh and is polled at different paces. Polls are aligned to the wall clock, as the Modbus driver's are, and come a
little later than they should; "any phase" is a source that chooses its own moment. The error of each hour is compared
with what the building really used, for three ways to find the register at the full hour: the last reading before it, the
nearest one, and the product's line between the neighbours (buffer.hours itself). Everything follows from the seeds.

    .venv/bin/python bench/boundary.py [--json] [--days 14] [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
import math
from bisect import bisect_left, bisect_right
from itertools import accumulate
from random import Random
from statistics import mean
from typing import NamedTuple

from buffer.frozen import Sample
from buffer.hours import Rule, close_hours, open_meter
from buffer.model import HOUR_MS

STEP_MS = 10_000  # the load is constant for so long
WH = 1_000  # in micro (of kWh): the register's resolution
FIRST = 480_000  # hours since the epoch
START_MS = FIRST * HOUR_MS
JITTER_S = 1.0  # of a poll: other devices on the bus, retries
GAPS = 12  # of one to six hours
METHODS = ("last_before", "nearest", "linear")


class Case(NamedTuple):
    name: str
    pace_s: int
    gaps: int = 0
    aligned: bool = True


CASES = (
    Case("10 s", 10),
    Case("60 s", 60),
    Case("300 s", 300),
    Case("900 s", 900),
    Case(f"60 s with {GAPS} gaps of 1-6 h", 60, GAPS),
    Case("60 s, any phase", 60, aligned=False),
    Case("900 s, any phase", 900, aligned=False),
)


class Building:
    """The truth: energy since the start, in W x ms, at every instant."""

    def __init__(self, days: int, chance: Random) -> None:
        steps = days * 24 * HOUR_MS // STEP_MS
        self._watts = loads(steps, chance)
        self._energy = list(accumulate((watts * STEP_MS for watts in self._watts), initial=0))
        self.end_ms = steps * STEP_MS

    def micro(self, at_ms: int) -> float:
        """Energy in micro-kWh at an instant (ms since the start)."""
        step, rest = divmod(at_ms, STEP_MS)
        watt_ms = self._energy[step] + (self._watts[step] * rest if rest else 0)
        return watt_ms / 3600

    def register(self, at_ms: int) -> int:
        """What the meter shows: whole Wh, with a million kWh before the start."""
        return 10**12 + math.floor(self.micro(at_ms) / WH) * WH


def loads(steps: int, chance: Random) -> list[int]:
    """W in each step: base 2 kW, working hours, and six machines of 0.5 to 8 kW that run for minutes to an hour."""
    machines = [[chance.randrange(500, 8_000), chance.randrange(4, 60), 0, False] for _ in range(6)]
    found = []
    for step in range(steps):
        hour = step * STEP_MS / HOUR_MS
        working = max(0.0, math.sin((hour % 24 - 6) / 12 * math.pi)) * (0.3 if hour // 24 % 7 >= 5 else 1.0)
        for machine in machines:
            if step >= machine[2]:
                machine[3] = chance.random() < 0.2 + 0.5 * working
                machine[2] = step + max(1, round(chance.expovariate(1 / (machine[1] * 60_000 / STEP_MS))))
        running = sum(watts for watts, _, _, runs in machines if runs)
        found.append(round(2_000 + 6_000 * working + running + chance.uniform(-200, 200)))
    return found


def polls(building: Building, case: Case, chance: Random) -> list[Sample]:
    """Readings of the register; a poll takes a little while, and now and then nobody asks for hours."""
    silent = []
    for _ in range(case.gaps):
        begin = chance.randrange(building.end_ms)
        silent.append((begin, begin + chance.randrange(HOUR_MS, 6 * HOUR_MS)))
    pace = case.pace_s * 1000
    phase = 0 if case.aligned else chance.randrange(pace)
    instants = {
        at + round(abs(chance.gauss(0, JITTER_S)) * 1000) for at in range(phase, building.end_ms - 10_000, pace)
    }
    heard = sorted(at for at in instants if not any(begin <= at < end for begin, end in silent))
    return [(START_MS + at, building.register(at)) for at in heard]


def errors(building: Building, samples: list[Sample], case: Case) -> dict[str, list[float]]:
    """Percent of each hour's true energy, by method."""
    linear = product(samples, case)
    hours = [hour for hour in linear if samples[0][0] <= hour * HOUR_MS and (hour + 1) * HOUR_MS <= samples[-1][0]]
    truth = {
        hour: building.micro((hour + 1 - FIRST) * HOUR_MS) - building.micro((hour - FIRST) * HOUR_MS) for hour in hours
    }
    times = [at for at, _ in samples]

    def last_before(edge: int) -> int:
        return samples[bisect_right(times, edge) - 1][1]

    def nearest(edge: int) -> int:
        after = bisect_left(times, edge)
        around = samples[max(0, after - 1) : after + 1]
        return min(around, key=lambda sample: abs(sample[0] - edge))[1]

    def wrong(hour: int, energy: float) -> float:
        return 100 * abs(energy - truth[hour]) / truth[hour]

    found = {
        method.__name__: [wrong(hour, method((hour + 1) * HOUR_MS) - method(hour * HOUR_MS)) for hour in hours]
        for method in (last_before, nearest)
    }
    return found | {"linear": [wrong(hour, linear[hour]) for hour in hours]}


def product(samples: list[Sample], case: Case) -> dict[int, int]:
    """Hour: micro, as the gateway closes them."""
    rule = Rule("counter", case.pace_s * 1000, gap="spread")
    far = FIRST + 10**6
    frozen = open_meter(samples, rule, far, 0)
    if frozen is None:
        raise SystemExit("the series is too short to open a meter")
    later = [sample for sample in samples if sample[0] > frozen.edge * HOUR_MS]
    return {hour.hour: hour.consumption for hour in close_hours(frozen, later, rule, far)[0]}


def p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def table(days: int, seeds: int) -> list[dict[str, object]]:
    rows = []
    for case in CASES:
        found: dict[str, list[float]] = {method: [] for method in METHODS}
        for seed in range(seeds):
            chance = Random(seed)
            building = Building(days, chance)
            for method, values in errors(building, polls(building, case, chance), case).items():
                found[method] += values
        figures = {
            method: {"mean": round(mean(values), 4), "p99": round(p99(values), 4)} for method, values in found.items()
        }
        rows.append({"polls": case.name, "hours": len(found["linear"]), "error_percent": figures})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    parser.add_argument("--days", type=int, default=14, help="that the building lives (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, default=5, help="different buildings and jitters, taken together (default: %(default)s)"
    )
    args = parser.parse_args()
    rows = table(args.days, args.seeds)
    if args.json:
        print(json.dumps({"days": args.days, "seeds": args.seeds, "rows": rows}, indent=2))
        return
    print(f"hourly error in percent, mean / p99, {args.days} days x {args.seeds} buildings")
    print(f"{'polls':28}" + "".join(f"{method:>20}" for method in METHODS))
    for row in rows:
        cells = [
            f"{row['error_percent'][method]['mean']:.3f} / {row['error_percent'][method]['p99']:.3f}"
            for method in METHODS
        ]
        print(f"{row['polls']:28}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
