"""Readings that waited for a trusted clock: each is placed, or it is said what became of it (R1, R5)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer import placing
from buffer.hours import Rule
from buffer.model import HOUR_MS, MINUTE_MS
from buffer.placing import AHEAD_MS, EARLIEST_STAMP_MS, Boot, Placed, newest_edge, place
from buffer.readings import StoredReading, UnplacedReading, add, add_unplaced

HOUR = 500_000
TEN = HOUR * HOUR_MS  # "ten o'clock"
A, B, C = 1, 2, 3
QUARTER = 15 * MINUTE_MS
RULES = {
    A: Rule("counter", MINUTE_MS),
    B: Rule("interval", QUARTER, period_ms=QUARTER),
    C: Rule("power", MINUTE_MS, max_gap_ms=3 * MINUTE_MS),
}
STARTS = {B: Rule("interval", QUARTER, period_ms=QUARTER, stamp="start")}


def minutes(count: float) -> int:
    return round(count * MINUTE_MS)


def boot(began: int, now: int, name: str = "this", *, known: bool = True) -> Boot:
    return Boot(name, began, now, known)


def waiting(store, *rows: UnplacedReading) -> None:
    store.write(lambda db: add_unplaced(db, rows))


def left(name: str, meter: int, *samples: tuple[float, int], received: int = 7) -> list[UnplacedReading]:
    """Unstamped readings of a boot, at minutes of its boottime."""
    return [UnplacedReading(name, minutes(at), meter, value, None, received) for at, value in samples]


def known(store, meter: int, *ats: int) -> None:
    store.write(lambda db: add(db, [StoredReading(at, meter, 1, at) for at in ats]))


def run(store, here: Boot, rules=RULES) -> Placed:
    return store.write(lambda db: place(db, here, rules))


def rows(store, table: str = "reading", columns: str = "at, meter, value, received") -> list[tuple]:
    return store.read(lambda db: db.execute(f"SELECT {columns} FROM {table}").fetchall())


def empty(store, table: str) -> bool:
    return rows(store, table, "count(*)") == [(0,)]


# --- this boot --------------------------------------------------------------------------------------------------------


def test_a_reading_gets_its_boots_offset_and_keeps_what_the_untrusted_clock_had_said(store):
    """R1: old and new time stand in the same row; the value is untouched."""
    waiting(store, *left("this", A, (1, 10), (2, 20), received=1_000))
    placed = run(store, boot(TEN, TEN + minutes(10)))
    assert rows(store) == [(TEN + minutes(1), A, 10, 1_000), (TEN + minutes(2), A, 20, 1_000)]
    assert placed.moved == (1_000, TEN + minutes(1))
    assert (len(placed.stored), placed.more, placed.stranded) == (2, False, [])
    assert empty(store, "unplaced")


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (EARLIEST_STAMP_MS - 1, "time before 2015"),
        (EARLIEST_STAMP_MS, None),
        (TEN + AHEAD_MS, None),
        (TEN + AHEAD_MS + 1, "time in the future"),
        (4_070_908_800_000, "time in the future"),  # 2099
        (2**62, "time in the future"),
        (-(2**62), "time before 2015"),
    ],
)
def test_a_sources_own_time_is_believed_between_2015_and_now(store, at: int, reason: str | None):
    """DESIGN 5: while the clock was not trusted nobody could tell; when it is, what cannot be is no reading."""
    waiting(store, UnplacedReading("this", 1, A, 10, at, 7))
    placed = run(store, boot(TEN - HOUR_MS, TEN))
    assert [each.reason for each in placed.refused] == ([reason] if reason else [])
    assert rows(store) == ([] if reason else [(at, A, 10, 7)])
    assert empty(store, "unplaced")


def test_a_sources_own_time_holds_whatever_boot_it_came_in(store):
    waiting(store, UnplacedReading("other", 1, B, 10, TEN, 7))
    assert run(store, boot(TEN + minutes(5), TEN + minutes(9))).stranded == []
    assert rows(store) == [(TEN, B, 10, 7)]


def test_a_second_value_for_an_instant_is_handed_back(store):
    """R4."""
    waiting(store, *left("this", A, (1, 10), (1, 20), (1, 10)))
    placed = run(store, boot(TEN, TEN + minutes(10)))
    assert placed.conflicts == [(StoredReading(TEN + minutes(1), A, 20, 7), 10)]
    assert len(rows(store)) == 1


def test_energy_for_a_closed_hour_is_booked_beside_it(store):
    """R8: the clock was not trusted for a while, and the hour had been closed before."""
    known(store, B, TEN + HOUR_MS)

    def closed(db) -> None:
        db.execute(
            "INSERT INTO counter_state (meter, opening_hour, opening, quality) VALUES (2, ?, 0, 'measured')", (HOUR,)
        )
        db.execute(
            "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (2, ?, 5, 5, 'measured', 0)",
            (HOUR,),
        )

    store.write(closed)
    waiting(store, *left("this", B, (30, 1_000)))
    placed = run(store, boot(TEN, TEN + 2 * HOUR_MS))
    assert [(each.meter, each.adjusted, each.tell) for each in placed.late] == [(B, 1_000, True)]
    assert rows(store, "adjustment", "meter, hour, amount") == [(B, HOUR, 1_000)]


def test_many_readings_are_placed_some_at_a_time(store, monkeypatch):
    """Drivers wait for the writer meanwhile, and a watchdog for them: the basement had no network for a month."""
    monkeypatch.setattr(placing, "AT_ONCE", 3)
    waiting(store, *left("this", A, *[(n, n) for n in range(7)]))
    here = boot(TEN, TEN + HOUR_MS)
    assert [run(store, here).more for _ in range(3)] == [True, True, False]
    assert [value for _, _, value, _ in rows(store)] == list(range(7))


def test_what_a_power_cut_left_half_placed_is_placed_by_the_next_boot_as_it_would_have_been(store, monkeypatch):
    """The offset of a boot is remembered with its first placed reading: its readings are never stranded."""
    monkeypatch.setattr(placing, "AT_ONCE", 3)
    waiting(store, *left("this", A, *[(n, n) for n in range(8)]))
    assert run(store, boot(TEN, TEN + HOUR_MS)).more
    after = boot(TEN + 9 * HOUR_MS, TEN + 10 * HOUR_MS, "next")
    calls = [run(store, after) for _ in range(2)]
    assert [(each.more, each.stranded) for each in calls] == [(True, []), (False, [])]
    assert rows(store) == [(TEN + minutes(n), A, n, 7) for n in range(8)]
    assert [key for (key,) in rows(store, "meta", "key") if key.startswith("boot")] == ["boot_offset:next"]


# --- a boot whose clock was never set ---------------------------------------------------------------------------------


def test_counter_readings_of_a_boot_that_never_knew_the_time_are_dropped_and_counted(store):
    """The next reading carries their energy."""
    known(store, A, TEN)
    waiting(store, *left("lost", A, (1, 10), (2, 20)), *left("this", A, (1, 30)))
    placed = run(store, boot(TEN + 3 * HOUR_MS, TEN + 4 * HOUR_MS))
    ((each,), ats) = placed.stranded, [at for at, *_ in rows(store)]
    assert (each.name, each.readings, each.amount, each.parked) == ("a", 2, None, False)
    assert ats == [TEN, TEN + 3 * HOUR_MS + minutes(1)]
    assert empty(store, "unplaced")
    assert empty(store, "parked")


@pytest.mark.parametrize(
    ("meter", "samples", "amount"),
    [
        (B, [(15, 5), (30, 7), (45, -2)], 10),
        (C, [(0, 60), (1, 60), (2, 120)], 1 + 1.5),  # micro per hour, for a minute each
        (C, [(0, 60), (1, 60), (5, 60), (6, 60)], 2),  # four minutes of silence add nothing (R11)
        (C, [(0, 60), (1, 60), (1, 9999), (2, 60)], 2),  # of one instant the first
    ],
)
def test_energy_of_a_boot_that_never_knew_the_time_is_parked_when_its_hour_is_not_known(store, meter, samples, amount):
    """Every reading is energy: the amount is exact, only its hour is a person's to say."""
    known(store, meter, TEN)
    waiting(store, *left("lost", meter, *[(at, value * 10**6) for at, value in samples]))
    (each,) = run(store, boot(TEN + 2 * HOUR_MS, TEN + 3 * HOUR_MS)).stranded
    assert (each.amount, each.parked) == (amount * 10**6, True)
    assert (each.after, each.before) == (TEN, TEN + 2 * HOUR_MS)
    assert rows(store, "parked", "meter, hour, amount, reason") == [(meter, HOUR, amount * 10**6, "clock")]
    assert empty(store, "unplaced")
    assert len(rows(store)) == 1


def test_a_source_that_reports_changes_holds_its_value_in_what_is_parked(store):
    rules = {C: Rule("power", MINUTE_MS, hold_ms=10 * MINUTE_MS)}
    waiting(store, *left("lost", C, (0, 60_000_000), (10, 0), (30, 60_000_000), (50, 0)))
    (each,) = run(store, boot(TEN, TEN + minutes(5)), rules).stranded
    assert each.amount == 10_000_000


def test_power_that_holds_no_energy_is_told_and_nothing_is_parked(store):
    waiting(store, *left("lost", C, (0, 60)))
    (each,) = run(store, boot(TEN, TEN + minutes(5))).stranded
    assert (each.amount, each.parked, each.after) == (0, False, None)
    assert empty(store, "parked")


def test_without_a_reading_before_it_nobody_knows_the_hour(store):
    waiting(store, *left("lost", B, (20, 5)))
    (each,) = run(store, boot(TEN + minutes(50), TEN + minutes(55))).stranded
    assert (each.parked, each.after, each.hour) == (True, None, HOUR)


@pytest.mark.parametrize(("meter", "samples"), [(B, [(16, 5), (20, 6)]), (C, [(0, 60), (1, 80), (2, 100)])])
def test_a_boot_that_lies_within_one_hour_is_placed_there(store, meter, samples):
    """The reading before it and the beginning of this boot are in the same hour, so all of it is."""
    known(store, meter, TEN - 5 * HOUR_MS, TEN - 1, TEN, TEN + minutes(5))
    waiting(store, *left("lost", meter, *samples))
    (each,) = run(store, boot(TEN + minutes(55), TEN + 5 * HOUR_MS)).stranded
    assert (each.parked, each.hour) == (False, HOUR)
    ats = [at for at, *_ in rows(store)][3:]
    assert len(ats) == 1 + len(samples)
    assert TEN + minutes(5) == ats[0] < ats[1] < ats[-1] <= TEN + minutes(55)
    assert ats[-1] - ats[1] == minutes(samples[-1][0] - samples[0][0])
    if meter == B:
        assert ats[1] - QUARTER >= ats[0]  # its period is behind the one before it
    assert empty(store, "unplaced")
    assert empty(store, "parked")


@pytest.mark.parametrize(
    ("rules", "after", "began", "at", "fits"),
    [
        (RULES, 5, 59.99, 0, True),
        (RULES, 5, 60, 0, True),  # a boot that began at the edge: what was before it is before the edge
        (RULES, 5, 60.01, 0, False),
        (RULES, 44, 60, 0, True),
        (RULES, 46, 60, 0, False),  # a whole period does not fit any more
        (RULES, 5, 60, 56, False),  # longer than there is room
        (STARTS, 5, 60, 0, True),
        (STARTS, 29, 60, 0, True),
        (STARTS, 31, 60, 0, False),  # the period before it, and its own
    ],
)
def test_energy_is_put_into_an_hour_only_when_all_of_it_must_be_there(store, rules, after, began, at, fits):
    known(store, B, TEN + minutes(after))
    waiting(store, *left("lost", B, (at, 5)))
    (each,) = run(store, boot(TEN + minutes(began), TEN + 9 * HOUR_MS), rules).stranded
    assert each.parked is not fits


def test_where_the_boot_has_no_id_of_its_own_what_is_left_may_be_of_this_boot(store):
    """Then it lies somewhere before now, not before the boot."""
    known(store, B, TEN + minutes(5))
    waiting(store, *left("process1", B, (20, 5)))
    (each,) = run(store, boot(TEN, TEN + 5 * HOUR_MS, "process2", known=False)).stranded
    assert (each.parked, each.before) == (True, TEN + 5 * HOUR_MS)


def test_a_second_value_for_an_instant_of_such_a_boot_is_handed_back_too(store):
    known(store, C, TEN + minutes(5))
    waiting(store, *left("lost", C, (1, 60), (1, 70)))
    placed = run(store, boot(TEN + minutes(50), TEN + HOUR_MS))
    assert [(row.value, first) for row, first in placed.conflicts] == [(70, 60)]


def test_two_boots_within_one_hour_follow_each_other(store):
    """Power of both must not be mixed."""
    known(store, C, TEN + minutes(1))
    waiting(store, *left("first", C, (0, 60), (1, 60)), *left("second", C, (0, 70), (1, 70)))
    run(store, boot(TEN + minutes(59), TEN + HOUR_MS))
    assert [value for *_, value, _ in rows(store)] == [1, 60, 60, 70, 70]


def test_a_reading_of_this_boot_that_came_first_does_not_bound_what_was_before_it(store):
    """The clock was trusted, and a reading stored, before what waited was looked at."""
    known(store, C, TEN + minutes(1), TEN + minutes(58))
    waiting(store, *left("lost", C, (0, 60), (1, 60)))
    (each,) = run(store, boot(TEN + minutes(50), TEN + HOUR_MS)).stranded
    assert (each.after, each.parked) == (TEN + minutes(1), False)


def test_a_meter_that_has_left_the_configuration_is_settled_as_what_it_was(store):
    waiting(store, *left("lost", A, (1, 5)))
    (each,) = run(store, boot(TEN, TEN + 1), {}).stranded
    assert each.amount is None
    assert empty(store, "unplaced")


boots = st.lists(
    st.tuples(
        st.sampled_from(["this", "one", "two"]),
        st.sampled_from([A, B]),
        st.integers(0, 200),
        st.none() | st.sampled_from([TEN - HOUR_MS, TEN, TEN + HOUR_MS, TEN + 10 * HOUR_MS, 5]),
    ),
    max_size=30,
    unique_by=lambda row: row[:3],
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boots, st.none() | st.integers(0, 119), st.integers(60, 200), st.integers(1, 40))
def test_nothing_is_silently_lost_and_nothing_waits_for_ever(store, came, before, began, at_once):
    """Whatever boots the readings are of: what is placed, parked, refused and counted as dropped is what came."""
    waited = [
        UnplacedReading(name, minutes(at), meter, 2**number, stamp, 7)  # no two values, and no two sums, are the same
        for number, (name, meter, at, stamp) in enumerate(came)
    ]
    stored, parked, placed, still = store.write(lambda db: _look(db, waited, before, began, at_once))
    assert still == 0
    told = [row.value for each in placed for row, _ in each.conflicts]
    told += [row.value for each in placed for row in each.refused]
    seen = [value for _, value in stored if value] + told
    assert len(seen) == len(set(seen))
    everything = {meter: sum(row.value for row in waited if row.meter == meter) for meter in (A, B)}
    found = {meter: sum(row.value for row in waited if row.meter == meter and row.value in seen) for meter in (A, B)}
    assert found[B] + sum(parked) == everything[B]
    lost = [row for row in waited if row.meter == A and row.value not in seen]
    assert len(lost) == sum(each.readings for some in placed for each in some.stranded if each.meter == A)
    assert all(row.boot_id != "this" and row.source_at is None for row in lost)


def _look(db, unplaced: Sequence[UnplacedReading], before: int | None, began: int, at_once: int):
    """Inside one transaction that is undone: the file is the same for every example."""
    db.execute("SAVEPOINT example")
    if before is not None:
        add(db, [StoredReading(TEN + minutes(before), meter, 0, 7) for meter in (A, B, C)])
    add_unplaced(db, unplaced)
    found: list[Placed] = []
    usual, placing.AT_ONCE = placing.AT_ONCE, at_once
    while not found or found[-1].more:
        found.append(place(db, boot(TEN + minutes(began), TEN + 9 * HOUR_MS), RULES))
    placing.AT_ONCE = usual
    stored = db.execute("SELECT meter, value FROM reading").fetchall()
    parked = [amount for (amount,) in db.execute("SELECT amount FROM parked")]
    still = db.execute("SELECT count(*) FROM unplaced").fetchone()[0]
    db.execute("ROLLBACK TO example")
    return stored, parked, found, still


def test_the_newest_closed_hour_of_any_meter_is_found(store):
    """It is the floor of every later boot's clock."""
    assert store.read(newest_edge) is None
    insert = (
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, 0, 0, 'measured', 0)"
    )
    store.write(lambda db: db.executemany(insert, [(A, 5), (B, 9), (A, 7)]))
    assert store.read(newest_edge) == 10
