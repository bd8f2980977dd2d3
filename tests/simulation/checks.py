"""What must hold after a run, in words; the sums are made by exact arithmetic from what the sources said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from buffer import doubts
from buffer.model import from_micro, hour_start
from tests.simulation.memory import Hour, accepted
from tests.simulation.plant import Plant
from tests.simulation.scenario import WAITS_BEHIND, Scenario
from tests.simulation.sources import Meter, exact_hours
from tests.simulation.world import World

ROUNDING = 2  # micro: an hour is the difference of two boundaries, each rounded once
LONGEST_HOURS = 31 * 24


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    hours: int = 0
    wrong: list[str] = field(default_factory=list)  # one a meter-hour
    problems: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    requests: int = 0
    reads: int = 0
    accepted: int = 0  # messages

    @property
    def good(self) -> bool:
        return not self.wrong and not self.problems

    def told(self) -> str:
        """The first of what is wrong, with the seed."""
        found = [*self.problems, *self.wrong]
        return f"seed {self.seed}: {len(self.wrong)} wrong, {len(self.problems)} problems: " + "; ".join(found[:6])


def outcome(scenario: Scenario, directory: Path, plant: Plant | None = None) -> Outcome:
    """Live a scenario and look at everything."""
    world = World(scenario, directory, plant)
    found = Outcome(scenario.seed)
    try:
        world.live()
        for number in range(len(world.building.meters)):
            wrong_hours(world, number, found)
        found.problems += [*world.problems, *_problems(world)]
        found.accepted = accepted(world.reader) + world.memory.accepted
    finally:
        world.close()
    found.faults, found.crashes = world.faults, world.crashes
    found.requests, found.reads = world.wire.requests, world.wire.reads
    return found


def wrong_hours(world: World, number: int, found: Outcome) -> None:
    """Every whole hour is at EnerKey once and exact, and no other one is (R16)."""
    meter = world.building.meters[number]
    step = 10 ** (6 - world.scenario.decimals)
    late = world.faults["late-energy"] > 0 and meter.rule.kind != "counter"
    tolerance = ROUNDING if step == 1 else step + ROUNDING
    tolerance += step if late else 0  # an adjustment is rounded by itself
    if world.memory.spans:
        tolerance += 2 * max(1, step // 2)  # a value of two tolerances cannot be found again (reliability 3.1, rule 6)
    wanted = exact_hours(meter.rule, world.known[number], world.settled[number])
    there = world.wire.simulator.hourly(100 + number)
    found.hours += len(wanted)
    held, missing, states = _held(world, number), _missing(world, number), _states(world, number)
    blocked = bool(held) and _is_blocked(world, number)
    for hour in sorted(wanted.keys() | there.keys()):
        waits = blocked or _waits_behind(meter, held, hour)
        what = Hour(there.get(hour), wanted.get(hour), states.get(hour), waits)
        if world.memory.excuses(number, hour, what) or world.doubles.excuses(number, hour, what):
            continue
        poisoned = world.wire.poisoned(number, hour)
        if hour in held and hour not in there and poisoned:
            continue
        # The first follows the majority of its message: nothing and 0 cannot be told apart. Of the other nothing was known
        # when it was closed, and what came late is no energy: there is nothing to correct.
        if (poisoned or hour in missing) and hour not in there and abs(wanted.get(hour, 0)) <= tolerance:
            continue
        if world.memory.spans and hour not in there and abs(wanted.get(hour, 0)) <= tolerance:
            continue  # as the first
        small = world.memory.spans and wanted.get(hour, 0) <= tolerance  # sent again, and held by the audit
        right = hour in wanted and hour in there and abs(there[hour] - wanted[hour]) <= tolerance
        if right and (small or hour not in held):
            continue
        shown = from_micro(there[hour]) if hour in there else "nothing"
        exact = float(wanted[hour] / 10**6) if hour in wanted else "nothing"
        found.wrong.append(f"{meter.name} {hour_start(hour):%d %H}Z: {shown} is there, {exact} is right")


def _held(world: World, number: int) -> set[int]:
    """The hours that wait for a person; none without poison."""
    may = "poison" in world.scenario.rates or world.memory.spans or world.doubles.on
    return _in_state(world, number, "held") if may else set()


def _missing(world: World, number: int) -> set[int]:
    """The hours of which nothing was known; none where nothing comes late."""
    return _in_state(world, number, "missing") if "late-energy" in world.scenario.rates else set()


def _in_state(world: World, number: int, state: str) -> set[int]:
    meter = world.gateway.numbers[world.building.meters[number].name]
    find = "SELECT hour FROM hour WHERE meter = ? AND state = ?"
    return {hour for (hour,) in world.look(lambda db: db.execute(find, (meter, state)).fetchall())}


def _states(world: World, number: int) -> dict[int, str]:
    meter = world.gateway.numbers[world.building.meters[number].name]
    return dict(world.look(lambda db: db.execute("SELECT hour, state FROM hour WHERE meter = ?", (meter,)).fetchall()))


def _waits_behind(meter: Meter, held: set[int], hour: int) -> bool:
    """A boundary in doubt is settled by a person before later ones follow."""
    return "cumulative" in meter.name and any(each < hour for each in held)


def _is_blocked(world: World, number: int) -> bool:
    """Whether all of a meter waits, because somebody else seems to fill it."""
    meter = world.gateway.numbers[world.building.meters[number].name]
    return meter in world.look(doubts.blocked)


def _problems(world: World) -> list[str]:
    forgot, late = bool(world.memory.spans), "late-energy" in world.scenario.rates
    doubtful = forgot or world.doubles.on
    over = {"held": "poison" in world.scenario.rates or doubtful, "missing": late or forgot}
    done = ", ".join(f"'{state}'" for state in ("accepted", *(state for state, may in over.items() if may)))
    ledger = "(accepted IS NULL) <> (state = 'held' OR (state = 'missing' AND accepted IS NULL))"
    ledger = "accepted IS NULL AND state = 'accepted'" if doubtful else ledger
    held = " AND text NOT LIKE '% h held%'" if doubtful else ""
    asks = {
        "R17: hours that are not accepted": f"SELECT count(*) FROM hour WHERE state NOT IN ({done}) AND NOT ({WAITS_BEHIND})",
        "R13: messages that are not settled": "SELECT count(*) FROM message WHERE state IN ('open', 'unknown')",
        "R5: readings still without a time": "SELECT count(*) FROM unplaced",
        "R2: rejected readings that were good": "SELECT count(*) FROM rejected"
        " WHERE reason NOT IN ('glitch', 'the counter went backwards')",
        "R24: hours without a ledger": f"SELECT count(*) FROM hour LEFT JOIN ledger USING (meter, hour) WHERE {ledger}",
        "R7: hours that do not reach from boundary to boundary": (
            "SELECT count(*) FROM hour a JOIN hour b ON a.meter = b.meter AND a.hour + 1 = b.hour"
            " WHERE b.boundary - b.consumption <> a.boundary"
        ),
        "R7: holes between hours": (
            "SELECT count(*) FROM (SELECT max(hour) - min(hour) + 1 - count(*) AS holes FROM hour GROUP BY meter) WHERE holes"
        ),
        "errors told": "SELECT count(*) FROM event WHERE level = 'error' AND text NOT LIKE '%API key%'"
        " AND text NOT LIKE '%this value is refused%' AND text NOT LIKE '%is too large for EnerKey%'"
        " AND text NOT LIKE '%there is no meter%' AND text NOT LIKE 'nothing is sent before EnerKey has been read%'"
        + held,
    }
    found = []
    for words, ask in asks.items():
        count = world.look(lambda db, ask=ask: db.execute(ask).fetchone()[0])
        if count:
            found.append(f"{words}: {count}")
    if world.look(lambda db: db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
        found.append("R25: the file is damaged")
    if world.wire.most_in_a_day > world.scenario.share + world.memory.requests:
        found.append(f"R22: {world.wire.most_in_a_day} requests in 24 h, {world.scenario.share} are the share")
    if not doubtful:
        found += _sums(world)
    return [*found, *world.doubles.problems(), *_messages(world)]


def _sums(world: World) -> list[str]:
    """R7: all of a meter's hours at EnerKey are the difference of its first and last boundary."""
    find = (
        "SELECT sum(consumption + (SELECT coalesce(sum(amount), 0) FROM adjustment"
        " WHERE adjustment.meter = hour.meter AND adjustment.hour = hour.hour)), count(*)"
        " FROM hour WHERE meter = ?1 AND state <> 'held'"
    )
    step = 10 ** (6 - world.scenario.decimals)
    found = []
    for number, meter in enumerate(world.building.meters):
        row = (world.gateway.numbers[meter.name],)
        total, count = world.look(lambda db, row=row: db.execute(find, row).fetchone())
        there = sum(world.wire.simulator.hourly(100 + number).values())
        hours = exact_hours(meter.rule, world.known[number], world.settled[number])
        held = _held(world, number)
        exact = sum((value for hour, value in hours.items() if hour not in held), Fraction(0))
        # A counter's hours telescope; others are rounded each, and what is held is rounded on both of its sides.
        rounded = 1 if meter.rule.kind == "counter" and not held else count
        adjusted = len(hours) if world.faults["late-energy"] and meter.rule.kind != "counter" else 0
        runs = (1 + len(held) + adjusted) * step
        if abs((total or 0) - there) >= max(runs, 2) or abs(there - exact) > runs + rounded:
            found.append(f"R7: {meter.name}: {there} is there, {total} were closed, {float(exact)} is right")
    return found


def _messages(world: World) -> list[str]:
    """No value twice, whatever it adds up to; and no message that is too long (R21)."""
    found = []
    undecidable = max(2, 10 ** (6 - world.scenario.decimals))  # a smaller value follows the majority of its message
    items = [item for item in world.wire.simulator.items if item.family == "cumulative" or item.value > undecidable]
    applied = Counter((item.meter, item.family, item.stamp) for item in items)
    twice = [key for key, count in applied.items() if count > 1]
    if (
        twice and not world.doubles.on and not world.faults["duplicate"] + world.faults["late-energy"]
    ):  # an adjustment is a second value
        found.append(f"{len(twice)} values were applied more than once, such as {twice[0]}")
    for push in world.wire.simulator.pushes:
        stamps = [item.stamp for item in push.items]
        if (max(stamps) - min(stamps)).total_seconds() > LONGEST_HOURS * 3600:
            found.append(f"R21: a message from {min(stamps)} to {max(stamps)}")
    return found
