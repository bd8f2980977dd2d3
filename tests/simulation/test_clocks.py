"""Hours are the same as with a right clock from the start, whatever the box's clock does (R1, R5, R6, R8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from buffer.hours import Rule
from buffer.model import to_ms
from tests.fakes.box import DECADES, FIRST, YESTERDAY, Box, Scenario, boot, power_cut, restart, step, sync

MINUTE, HOUR = 60, 3600  # s
COUNTER = Rule("counter", expected_every_ms=60_000)
POWER = Rule("power", expected_every_ms=60_000, max_gap_ms=180_000)
Make = Callable[..., Box]


def register(second: float) -> str:
    """A register that rises by 1 to 11 kWh in an hour, faster and slower by the minute."""
    minute, rest = divmod(second, MINUTE)
    pace = Random(int(minute)).randrange(1_000, 11_000)
    return f"{_total(int(minute)) + pace * rest / 3600 / 1000:.6f}"


def _total(minutes: int, known: list[float] = [1000.0]) -> float:  # noqa: B006 - what was added up already
    while len(known) <= minutes:
        known.append(known[-1] + Random(len(known) - 1).randrange(1_000, 11_000) / 60 / 1000)
    return known[minutes]


def load(second: float) -> str:
    return f"{Random(int(second // 600)).randrange(1_000, 9_000) / 1000:.3f}"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Box] = []

    def build(rule: Rule = COUNTER, **settings) -> Box:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Box(directory, rule, meter=register if rule.kind == "counter" else load, **settings))
        return made[-1]

    yield build
    for box in made:
        box.close()


def compared(make: Make, scenario: Scenario, until: int, rule: Rule = COUNTER) -> Box:
    """The box that lived through it; its hours are those of a box whose clock was right, to 2 millionths."""
    box, right = make(rule), make(rule, right=True)
    for each in (box, right):
        each.live(scenario, until)
    found, wanted = box.hours(), right.hours()
    assert found.keys() == wanted.keys()
    assert wanted
    assert max(abs(found[hour] - wanted[hour]) for hour in wanted) <= 2
    assert box.hours_closed_unvouched == 0
    assert box.opened.count("unplaced") == 0
    return box


def texts(box: Box, *levels: str) -> list[str]:
    return [text for level, _, text in box.opened.events() if level in (levels or ("info", "warning", "error"))]


@pytest.mark.parametrize("rule", [COUNTER, POWER], ids=["counter", "power"])
@pytest.mark.parametrize(
    ("wrong_by", "synced_at"),
    [
        (DECADES, 10 * MINUTE),
        (YESTERDAY, 10 * MINUTE + 9),
        (YESTERDAY, 75 * MINUTE),
        (HOUR, 75 * MINUTE),
        (90, 10 * MINUTE),
    ],
)
def test_a_box_that_boots_with_a_wrong_clock_gets_its_hours_right(make: Make, rule, wrong_by, synced_at):
    """Also when the clock is set after the edge of an hour, or between a poll and its delivery."""
    box = make(rule)
    box.live([(0, boot(wrong_by))], synced_at)
    assert (box.opened.count("reading"), box.opened.count("hour")) == (0, 0)
    assert box.opened.count("unplaced") == (synced_at - 7) // 60 + 1 - (synced_at % 60 in range(8, 12))
    box = compared(make, [(0, boot(wrong_by)), (synced_at, sync())], 4 * HOUR, rule)
    (placed,) = [text for text in texts(box) if text.startswith("the clock is trusted now")]
    assert placed.endswith(f" was {FIRST:%Y-%m-%d %H:%M}:07Z")


def test_every_reading_keeps_what_the_untrusted_clock_had_called_it(make: Make):
    """R1: the old time stands beside the new one."""
    box = compared(make, [(0, boot(YESTERDAY)), (10 * MINUTE, sync())], HOUR + 20 * MINUTE)
    rows = box.opened.store.read(lambda db: db.execute("SELECT at, received FROM reading ORDER BY at").fetchall())
    assert [at for at, _ in rows[:12]] == [to_ms(FIRST) + (7 + 60 * n) * 1000 for n in range(12)]
    moved = [at - received for at, received in rows]
    assert moved[:10] == [86_400_000] * 10
    assert all(-5_000 <= each <= 0 for each in moved[10:])


def test_a_poll_that_is_on_its_way_while_the_clock_is_set_is_placed_where_it_was_taken(make: Make):
    """R5: its time is the old clock's. Taken for the new clock's it would be a reading of yesterday."""
    box = compared(make, [(0, boot(YESTERDAY)), (10 * MINUTE + 9, sync())], 2 * HOUR)
    first = box.opened.store.read(lambda db: db.execute("SELECT min(at) FROM reading").fetchone()[0])
    assert first == to_ms(FIRST) + 7_000


def test_a_process_that_dies_while_its_readings_wait_loses_none(make: Make):
    compared(make, [(0, boot(DECADES)), (300, restart()), (600, sync()), (601, restart()), (9000, restart())], 4 * HOUR)


def test_a_boot_that_never_knew_the_time_costs_a_counter_nothing(make: Make):
    """Its readings are dropped and counted; the next one carries the energy."""
    lost = [(75 * MINUTE, power_cut()), (78 * MINUTE, boot(YESTERDAY)), (95 * MINUTE, power_cut())]
    begin = [(0, boot(YESTERDAY)), (10 * MINUTE, sync())]
    box = compared(make, [*begin, *lost, (97 * MINUTE, boot(YESTERDAY)), (107 * MINUTE, sync())], 4 * HOUR)
    (told,) = [text for text in texts(box, "warning") if "never set" in text]
    assert told.startswith("17 readings of 1 counters (off) came while the clock was never set: dropped")


def test_power_of_a_boot_that_never_knew_the_time_is_parked_and_somebody_is_called(make: Make):
    """It crossed the edge of an hour: nobody knows what belongs where, but how much it is."""
    box = make(POWER)
    lost = [(65 * MINUTE, power_cut()), (66 * MINUTE, boot(YESTERDAY)), (96 * MINUTE, power_cut())]
    box.live([(0, boot()), (1, sync()), *lost, (140 * MINUTE, boot(YESTERDAY)), (150 * MINUTE, sync())], 5 * HOUR)
    parked = box.opened.store.read(lambda db: db.execute("SELECT amount, reason FROM parked").fetchall())
    polls = [float(load(minute * 60 + 7)) for minute in range(66, 96)]
    wanted = sum((left + right) / 2 / 60 for left, right in pairwise(polls))
    assert [(pytest.approx(wanted * 10**6, abs=2), "clock")] == parked
    (alarm,) = texts(box, "error")
    assert "30 readings came while the clock was never set, after 2027-01-15 09:54:07Z and before" in alarm
    assert box.opened.count("unplaced") == 0


def test_power_of_a_boot_that_lies_within_one_hour_is_booked_there(make: Make):
    box = make(POWER)
    lost = [(75 * MINUTE, power_cut()), (76 * MINUTE, boot(YESTERDAY)), (95 * MINUTE, power_cut())]
    scenario = [(0, boot()), (1, sync()), *lost, (96 * MINUTE, boot(YESTERDAY)), (150 * MINUTE, sync())]
    box.live(scenario, 5 * HOUR)
    right = make(POWER, right=True)
    right.live(scenario, 5 * HOUR)
    assert box.opened.count("parked") == 0
    found, wanted = box.hours(), right.hours()
    lacking = {hour: wanted[hour] - found[hour] for hour in wanted}
    assert 0 <= lacking.pop("+2 h") <= 400_000  # a few minutes around it, of which nobody knows (R11)
    assert set(lacking.values()) == {0}


@pytest.mark.parametrize("by", [HOUR, -HOUR, 5 * 86_400, -61], ids=str)
def test_a_large_step_that_nobody_vouches_for_moves_no_reading(make: Make, by):
    """The clock is distrusted until NTP has set it right; it is told twice, with both numbers."""
    box = compared(make, [(0, boot()), (1, sync()), (80 * MINUTE, step(by)), (90 * MINUTE, sync())], 4 * HOUR)
    steps = [text for text in texts(box) if text.startswith("the clock was set by")]
    assert len(steps) == 2
    assert "NTP vouched for the time before, readings wait until somebody vouches again" in steps[0]


@pytest.mark.parametrize("by", [3, -3, -59], ids=str)
def test_a_small_step_in_the_middle_of_an_hour_is_told_and_changes_nothing(make: Make, by):
    box = compared(make, [(0, boot()), (1, sync()), (95 * MINUTE, step(by)), (99 * MINUTE, step(-by))], 4 * HOUR)
    steps = [text for text in texts(box) if text.startswith("the clock was set by")]
    assert [text.split(":")[0] for text in steps] == [f"the clock was set by {sign:+.1f} s" for sign in (by, -by)]


def test_a_clock_that_is_set_back_over_a_closed_hour_reopens_nothing(make: Make):
    """R8: NTP itself had been wrong by an hour. What was closed stays, what comes again is late, the next hours close."""
    box = make()
    box.live([(0, boot(HOUR)), (1, lambda box: setattr(box.authority, "word", "wrong NTP"))], 2 * HOUR)
    before = box.opened.hours("off")
    assert before
    box.live([(2 * HOUR, sync())], 2 * HOUR + 9 * MINUTE)
    assert not box.clock.now().trusted
    (told,) = texts(box, "error")
    assert "before 2027-01-15 11:00:00Z, the end of the newest closed hour: not trusted, readings wait" in told
    box.live([], 5 * HOUR)
    assert box.clock.now().trusted
    after = box.opened.hours("off")
    assert after[: len(before)] == before
    assert len({view.hour for view in after}) == len(after) > len(before)
    assert box.opened.count("unplaced") == 0


def test_a_virtual_machine_whose_clock_is_always_trusted_closes_its_hours(make: Make):
    """Nobody vouches for a guest's clock; its steps are told, and believed."""
    box, right = make(mode="always"), make(right=True)
    for each in (box, right):
        each.live([(0, boot()), (100 * MINUTE, step(120)), (104 * MINUTE, step(-120))], 4 * HOUR)
    assert box.hours() == pytest.approx(right.hours(), abs=2)
    assert (
        len([text for text in texts(box, "warning") if text.endswith('believed, because [clock] trust is "always"')])
        == 2
    )


@pytest.mark.parametrize(("seed", "rule"), [(0, COUNTER), (1, POWER), (2, COUNTER), (3, POWER)])
def test_whatever_happens_to_a_clock_that_is_set_once_in_each_boot(make: Make, seed, rule):
    """Boots in the past and the future, steps by hand, restarts, power cuts: the same hours as with a right clock."""
    random = Random(seed)
    scenario: Scenario = []
    at = 0
    while at < 6 * HOUR:
        scenario.append((at, boot(random.choice([DECADES, YESTERDAY, -7 * HOUR, 11 * HOUR, -45.0, 0.0]))))
        at += random.randrange(30, 80 * MINUTE)
        scenario.append((at, sync()))
        for _ in range(random.randrange(4)):
            at += random.randrange(10, 40 * MINUTE)
            scenario.append(
                (at, random.choice([restart(), step(random.choice([-1, 1]) * random.randrange(61, 99_999))]))
            )
            at += random.randrange(1, 40 * MINUTE)
            scenario.append((at, sync()))
        at += random.randrange(40, 20 * MINUTE)
        scenario.append((at, power_cut()))
        at += random.randrange(5, 10 * MINUTE)
    scenario += [(at, boot(YESTERDAY)), (at + 500, sync())]
    compared(make, scenario, at + 3 * HOUR, rule)
