"""What a seed decides before anything happens: meters, the server's semantics, and which faults come how often.

Swarm testing: every seed switches on a random subset of the faults with random rates, or rare combinations would never
occur. The reference scenario has the rates of reliability 2.1: about one request in twenty goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Literal, NamedTuple

from gateway.enerkey.contract import Contract
from gateway.simulator.books import SameHour

STARTS = (
    datetime(2027, 3, 27, 20, tzinfo=UTC),  # the night in which Europe's clocks go forward (R10)
    datetime(2027, 10, 30, 20, tzinfo=UTC),  # ... and back
    datetime(2026, 12, 31, 15, tzinfo=UTC),
)
SETTLE = 600.0  # s; longer than the longest lag and the longest life of a zombie together (R16)
LONGEST_LAG = 250.0
LONGEST_ZOMBIE = 300.0
LONGEST_REVENANT = 10_800  # s; of a zombie that outlives `settle`
WAITS_BEHIND = (  # a boundary of a cumulative meter that follows one in doubt; all of a meter that somebody else seems to fill
    "state = 'pending' AND (EXISTS (SELECT 1 FROM hour before JOIN meter ON meter.id = before.meter"
    " WHERE before.meter = hour.meter AND before.hour < hour.hour AND before.state = 'held' AND push = 'cumulative')"
    " OR EXISTS (SELECT 1 FROM doubt WHERE doubt.meter = hour.meter AND why = 'foreign'))"
)
SMALL_BODY = 230  # bytes: four items


class Range(NamedTuple):
    """The rates that a fault may have."""

    low: float
    high: float
    share: float = 0.5  # of the seeds in which it occurs at all


# Per request; those that need a server on which a second delivery adds nothing are in IDEMPOTENT.
WIRE = {
    "refused": Range(0.005, 0.1),
    "connect-timeout": Range(0.005, 0.03),
    "lost-request": Range(0.005, 0.1),
    "lost-answer": Range(0.005, 0.1),
    "500-before": Range(0.005, 0.05),
    "500-after": Range(0.005, 0.05),
    "503": Range(0.005, 0.1),
    "cut-answer": Range(0.005, 0.05),
    "timeout-before": Range(0.005, 0.03),
    "timeout-after": Range(0.005, 0.03),
    "zombie": Range(0.005, 0.05),
    "duplicate": Range(0.005, 0.05),
}
IDEMPOTENT = {"duplicate"}
# Per call of a port.
PROCESS = {
    "crash-before-commit": Range(0.0005, 0.004),
    "crash-after-commit": Range(0.0005, 0.004),
    "crash-at-read": Range(0.00005, 0.0005),
    "crash-before-request": Range(0.005, 0.05),
    "crash-after-request": Range(0.005, 0.05),
    "disk-error": Range(0.0005, 0.003),
    "disk-error-after-commit": Range(0.0005, 0.003),
}
# Per day.
EVENTS = {
    "reboot": Range(0.5, 3),
    "unset-boot": Range(0.5, 2, 0.3),  # a boot whose clock is never set
    "clock-step": Range(0.5, 3, 0.3),
    "outage": Range(0.5, 2),
    "key-expiry": Range(0.5, 2),
    "forbidden": Range(0.5, 2, 0.3),
    "unknown-meter": Range(0.5, 1.5, 0.3),
    "silence": Range(0.5, 3),  # the bus does not answer
}
# Per reading.
SOURCES = {
    "repeated": Range(0.02, 0.2),
    "overtaken": Range(0.05, 0.3),
    "late": Range(0.005, 0.05),
    "glitch": Range(0.003, 0.02),
    "late-energy": Range(0.02, 0.2, 0.3),
}

# Per hour of a consumption meter.
SERVER = {"poison": Range(0.003, 0.03, 0.3)}

# What makes a box forget; per day.
FORGETTING = {
    "lying-disk": Range(3, 10, 0.7),
    "old-image": Range(0.3, 1.5),
    "empty-database": Range(0.3, 1.5),
    "restart": Range(0.5, 3),
}

# What doubles behind everybody's back: per request; the lag is per day.
DOUBLING = {
    "doubled": Range(0.002, 0.03),
    "revenant": Range(0.002, 0.03),
    "long-lag": Range(0.3, 2, 0.3),
}

# What registers do. A reset is per reading of the bus, replacements are per day.
TURNS = {
    "rollover": None,
    "reset": Range(0.02, 0.1),
    "replaced": Range(1, 6),
}

REFERENCE = {
    "refused": 0.01,
    "lost-request": 0.01,
    "lost-answer": 0.01,
    "503": 0.01,
    "500-after": 0.005,
    "timeout-after": 0.0025,
    "zombie": 0.0025,
    "crash-before-commit": 0.0005,
    "crash-after-commit": 0.0005,
    "crash-before-request": 0.003,
    "crash-after-request": 0.003,
    "disk-error": 0.0002,
    "reboot": 0.2,
    "clock-step": 0.1,
    "outage": 0.1,
    "silence": 0.2,
    "repeated": 0.02,
    "overtaken": 0.1,
    "late": 0.005,
    "glitch": 0.001,
}


@dataclass(frozen=True)
class Scenario:
    """One run. `rates` by fault; `share`: the requests a day that the gateway may make."""

    seed: int
    start: datetime
    hours: int
    meters: int
    rates: dict[str, float] = field(default_factory=dict)
    same_hour: SameHour = "sum"
    believed: Literal["sum", "replace"] = "sum"  # what the gateway is told of it
    decimals: int = 6
    lag: float = 0.0
    share: int = 40_000
    largest_body: int | None = None
    partial: bool = False
    burst: tuple[int, float] | None = None
    offset: float = 0.0
    stamp: Literal["start", "end"] = "start"
    contract: Contract = field(default_factory=Contract)
    turn: Literal["", "rollover", "reset", "replaced"] = ""  # what registers do


SEVERAL = "GET /api/v2/Values/Hourly?meterIds={meters}&from={from}&to={to}"
CONTRACTS = (Contract(), Contract(hourly_values=SEVERAL), Contract(hourly_values=SEVERAL, answer_meter_key=""))


def swarm(seed: int) -> Scenario:
    """Everything by chance."""
    random = Random(f"{seed}/scenario")
    same_hour: SameHour = random.choice(("sum", "sum", "sum", "replace", "first-wins"))
    rates = {}
    for faults in (WIRE, PROCESS, EVENTS, SOURCES, SERVER):
        for fault, (low, high, share) in faults.items():
            rate = low * (high / low) ** random.random()
            if random.random() < share and not (fault in IDEMPOTENT and same_hour == "sum"):
                rates[fault] = rate
    believed: Literal["sum", "replace"] = "replace" if same_hour == "replace" and random.random() < 0.5 else "sum"
    if believed != same_hour:
        rates.pop("late-energy", None)  # a difference to a sum that is none cannot be right
    meters, hours = random.choice(((4, 60), (8, 36), (12, 24)))
    tight = random.random() < 0.2
    return Scenario(
        seed=seed,
        start=random.choice(STARTS),
        hours=40 if tight else hours,
        meters=6 if tight else meters,
        rates=rates,
        same_hour=same_hour,
        believed=believed,
        decimals=random.choice((6, 6, 6, 4, 3)),
        lag=random.uniform(1, LONGEST_LAG) if random.random() < 0.4 else 0.0,
        share=70 if tight else 40_000,
        burst=(3, 10.0) if random.random() < 0.2 else None,
        offset=random.choice((0.0, 420.0)),
        stamp=random.choice(("start", "end")),
        largest_body=SMALL_BODY if random.random() < 0.2 else None,
        partial=random.random() < 0.5,
        contract=random.choice(CONTRACTS),
    )


def tight(seed: int) -> Scenario:
    """A share of the key's budget that is too small for one message an hour, and a process that often starts again."""
    found = swarm(seed)
    return replace(found, hours=40, meters=6, share=70, rates=found.rates | {"crash-before-request": 0.03})


def forgetful(seed: int) -> Scenario:
    """A swarm in which the box forgets what it has done."""
    found = swarm(seed)
    random = Random(f"{seed}/forgetting")
    rates = found.rates | _some(FORGETTING, random)
    if not rates.keys() & (FORGETTING.keys() - {"restart"}):
        rates["lying-disk"] = 6.0
    rates.pop("late-energy", None)  # what was forgotten of it is only found by the audit
    found = replace(found, lag=random.choice((found.lag, random.uniform(LONGEST_LAG / 2, LONGEST_LAG))))
    if found.same_hour != "first-wins":
        return replace(found, rates=rates)
    # An hour that was sent with nothing in it, and is more now, would be ignored: not what this is about.
    rates.pop("duplicate", None)
    return replace(found, rates=rates, same_hour="sum")


def doubled(seed: int) -> Scenario:
    """A swarm in which something is delivered twice, and nobody can know at once."""
    found = swarm(seed)
    rates = found.rates | _some(DOUBLING, Random(f"{seed}/doubling"))
    if not rates.keys() & DOUBLING.keys():
        rates["doubled"] = 0.01
    rates.pop("late-energy", None)  # a second value for an hour that may be doubled
    return replace(found, rates=rates, same_hour="sum", believed="sum")


def turned(seed: int) -> Scenario:
    """A swarm whose registers roll over, begin again at zero, or are replaced."""
    found = swarm(seed)
    random = Random(f"{seed}/turned")
    turn = random.choice(tuple(TURNS))
    span = TURNS[turn]
    rates = {} if span is None else {turn: random.uniform(span.low, span.high)}
    return replace(found, rates=found.rates | rates, turn=turn)


def _some(faults: dict[str, Range], random: Random) -> dict[str, float]:
    """A random subset, at random rates."""
    return {
        fault: low * (high / low) ** random.random()
        for fault, (low, high, share) in faults.items()
        if random.random() < share
    }


def reference(seed: int) -> Scenario:
    """The long run: a building of twenty meters for two days and a half, with the rates of reliability 2.1."""
    random = Random(f"{seed}/scenario")
    lag = random.uniform(1, LONGEST_LAG)
    start = random.choice(STARTS)
    return Scenario(seed=seed, start=start, hours=60, meters=20, rates=REFERENCE, lag=lag)


def several(seed: int) -> Scenario:
    """The same with a contract that reads several meters in one request."""
    return replace(reference(seed), contract=CONTRACTS[1 + seed % 2])
