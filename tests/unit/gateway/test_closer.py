"""When hours are frozen, and with what in them (R5-R9, R26)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest

from buffer.counter import CounterRule
from buffer.hours import Rule
from buffer.model import EPOCH
from buffer.store import StoreError
from tests.fakes.clock import START, FakeClock
from tests.fakes.small_gateway import GRACE, Make, SmallGateway, ramp, reading

NINE = (START - EPOCH) // timedelta(hours=1)  # START is 9:55
TEN = NINE + 1


@pytest.fixture
def make(make: Make) -> Make:
    """Of one meter that is not pushed, where none is named."""
    return lambda *meters, **settings: make(*(meters or ("off",)), **settings)


def feed(gateway: SmallGateway, *minutes_and_values: tuple[float, str]) -> None:
    gateway.deliver(*[reading("off", START + timedelta(minutes=m), value) for m, value in minutes_and_values])


def closed(gateway: SmallGateway, meter: str = "off") -> dict[int, str]:
    return {view.hour: str(Decimal(view.consumption) / 10**6) for view in gateway.hours(meter)}


def test_an_hour_closes_when_the_reading_after_its_end_has_rested(make: Make):
    gateway = make()
    feed(gateway, (0, "0"))
    gateway.clock.advance(600)
    feed(gateway, (10, "1"))  # 10:05 opens the meter at 10:00
    gateway.run(3500)
    gateway.clock.advance(100)
    feed(gateway, (70, "7"))  # 11:05
    gateway.run(GRACE - 1)
    assert closed(gateway) == {}
    gateway.run(GRACE)
    assert closed(gateway) == {TEN: "6"}


def test_neighbours_that_overtook_each_other_within_grace_are_both_used(make: Make):
    gateway = make()
    feed(gateway, (0, "0"), (10, "1"))
    gateway.run(4300)
    feed(gateway, (70, "70"))  # 11:05 first
    gateway.run(GRACE / 2)
    feed(gateway, (64, "10"))  # then 10:59
    gateway.run(GRACE)
    assert closed(gateway) == {TEN: "19.5"}  # 10 + 60/6 - 0.5


def test_a_reading_later_than_grace_changes_no_closed_hour(make: Make):
    """R8: totals stay, the frozen boundary is the next hour's beginning."""
    gateway = make()
    feed(gateway, (0, "0"), (10, "1"))
    gateway.run(4300)
    feed(gateway, (70, "7"))
    gateway.run(2 * GRACE)
    assert closed(gateway) == {TEN: "6"}
    feed(gateway, (64, "6.9"))
    gateway.run(3600)
    feed(gateway, (130, "13"))
    gateway.run(2 * GRACE)
    assert closed(gateway) == {TEN: "6", TEN + 1: "6"}


def test_an_hour_without_a_reading_after_its_end_stays_open(make: Make):
    """R6: it is never closed short."""
    gateway = make()
    feed(gateway, (0, "0"), (10, "1"))
    gateway.run(10 * 3600 + 600)
    assert closed(gateway) == {}
    feed(gateway, (610, "61"))
    gateway.run(2 * GRACE)
    assert list(closed(gateway)) == list(range(TEN, TEN + 10))
    assert {view.quality for view in gateway.hours("off")[1:-1]} == {"estimated"}


def test_nothing_is_booked_under_an_untrusted_clock(make: Make):
    """R5: readings wait, and get their time from boottime once the clock is trusted."""
    clock = FakeClock(START - timedelta(days=3), trusted=False)
    gateway = make(clock=clock)
    for value in range(4):
        gateway.deliver(reading("off", clock.wall, str(value), stamped=False))
        gateway.run(1800)
    assert (gateway.count("reading"), gateway.count("unplaced")) == (0, 4)
    clock.step_wall(3 * 86_400)
    clock.trusted = True
    gateway.run(2 * GRACE)
    assert (gateway.count("reading"), gateway.count("unplaced")) == (4, 0)
    assert closed(gateway) == {TEN: "2"}  # readings of 9:55, 10:25, 10:55, 11:25
    told = "the clock is trusted now (configured); 4 readings were placed in time"
    moved = "2026-02-27 09:55:00Z was 2026-03-02 09:55:00Z"
    assert ("info", "clock", f"{told}: {moved}") in gateway.events()


def test_a_contradiction_found_when_readings_are_placed_is_kept_as_rejected(make: Make):
    """R4: two values for one instant while the clock was not trusted; the first stays, the second can be seen."""
    clock = FakeClock(START, trusted=False)
    gateway = make(clock=clock)
    gateway.deliver(reading("off", START, "1"), reading("off", START, "2"))
    clock.trusted = True
    gateway.run(1)
    rejected = gateway.store.read(lambda db: db.execute("SELECT source, reason, payload FROM rejected").fetchall())
    assert [tuple(row) for row in rejected] == [("off", "another value for the same instant", "2.000000")]


def test_no_hour_that_ends_in_the_future_is_closed(make: Make):
    """R6: a source's clock runs 5 min ahead."""
    gateway = make()
    feed(gateway, (0, "0"), (10, "1"))
    gateway.run(3600)  # 10:55
    feed(gateway, (69, "7"))  # stamped 11:04
    gateway.run(240)
    assert closed(gateway) == {}
    gateway.run(120)  # past 11:00
    assert list(closed(gateway)) == [TEN]


def test_looking_again_and_again_closes_nothing_twice(make: Make):
    gateway = make()
    feed(gateway, *[(10 * n, str(n)) for n in range(31)])
    gateway.run(8 * 3600)
    before = gateway.hours("off")
    for _ in range(3):
        gateway.crash()
        gateway.run(3600)
    assert gateway.hours("off") == before
    assert [view.hour for view in before] == list(range(TEN, TEN + 4))


def test_what_was_stored_before_a_crash_waits_until_its_connection_is_ready_again(make: Make):
    """The broker may still hold the reading before it."""
    gateway = make()
    feed(gateway, (0, "0"), (10, "1"))
    gateway.run(4300)
    feed(gateway, (70, "70"))  # 11:05, while 10:59 is on its way
    gateway.ready = None
    gateway.crash()
    gateway.run(3600)  # the broker is down
    assert closed(gateway) == {}
    gateway.ready = gateway.clock.boottime
    gateway.run(GRACE / 2)
    feed(gateway, (64, "10"))
    gateway.run(GRACE)
    assert closed(gateway) == {TEN: "19.5"}


def test_a_reading_that_goes_backwards_is_told_once_and_closes_nothing(make: Make):
    """R9."""
    gateway = make()
    feed(gateway, (0, "100"), (10, "101"))
    gateway.run(4300)
    for n in range(4):
        feed(gateway, (70 + n, "0"))
        gateway.run(600)
    assert closed(gateway) == {}
    warnings = [event for event in gateway.events() if event[0] == "warning"]
    assert len(warnings) == 1
    assert warnings[0][1] == "off"
    assert warnings[0][2].startswith("the counter went backwards: 0 (2026-03-02 11:05:00Z) adds nothing")
    feed(gateway, (115, "108"))
    gateway.run(3600)
    assert closed(gateway) == {TEN: "4.166667"}  # the line from 10:05 to 11:50
    told = "4 readings between 0 and 0 from 2026-03-02 11:05:00Z on did not fit to 101 (2026-03-02 10:05:00Z)"
    assert gateway.events()[-1] == ("warning", "off", f"{told} and to what came after: dropped")


def test_dropped_readings_stay_visible_and_are_told_once_also_across_a_restart(make: Make):
    """R2, R9: the verdict is an event with its numbers, its readings are in `rejected`."""
    gateway = make()
    feed(gateway, (0, "100"), (10, "101"), (20, "0"), (30, "102"), (90, "103"))
    gateway.run(7200)
    gateway.crash()
    feed(gateway, (150, "104"))
    gateway.run(7200)
    assert len(closed(gateway)) == 2
    find = "SELECT connection, source, reason, payload FROM rejected"
    assert gateway.store.read(lambda db: db.execute(find).fetchall()) == [("bench", "off", "glitch", "0")]
    assert [text for _, _, text in gateway.events() if "did not fit" in text] == [
        "a reading of 0 (2026-03-02 10:15:00Z) did not fit to 101 (2026-03-02 10:05:00Z) and to what came after: dropped"
    ]


def test_readings_that_nobody_believes_yet_are_visible_once(make: Make):
    """DESIGN 5: held for the operator, who finds them in `rejected`, each once, also after a restart."""
    gateway = make(counter=CounterRule(10**7))
    feed(gateway, (0, "1000"), (10, "1001"), (60, "1006"), (64, "0"), (66, "1007"), (70, "5000"), (75, "5000.5"))
    gateway.run(7200)
    gateway.crash()
    feed(gateway, (135, "5002"))
    gateway.run(2 * 7200)
    find = "SELECT reason, payload FROM rejected ORDER BY at"
    seen = [tuple(row) for row in gateway.store.read(lambda db: db.execute(find).fetchall())]
    assert seen == [
        ("glitch", "0"),
        ("the counter rose faster than max_rate", "5000"),
        ("the counter rose faster than max_rate", "5000.5"),
        ("the counter stays above what max_rate allows", "5002"),
    ]


def test_what_turned_out_good_is_not_rejected_any_more(make: Make):
    """R2: `rejected` holds what takes no part in the sums; a new meter's first readings do, once they are confirmed."""
    gateway = make()
    feed(gateway, (0, "1000"), (10, "1001"), (60, "1006"), (66, "3"), (68, "4"))
    gateway.run(4400)
    assert gateway.count("rejected") == 2
    feed(gateway, (90, "5"), (130, "9"))
    gateway.run(7200)
    assert gateway.count("rejected") == 0


def test_a_suspect_that_was_a_glitch_is_told_as_one(make: Make):
    """One row for one reading: first as suspect, then as what it was."""
    gateway = make()
    feed(gateway, (0, "1000"), (10, "1001"), (60, "1006"), (66, "3"))
    gateway.run(4400)
    reasons = "SELECT reason FROM rejected"
    assert gateway.store.read(lambda db: db.execute(reasons).fetchall()) == [("the counter went backwards",)]
    feed(gateway, (90, "1009"), (130, "1013"))
    gateway.run(7200)
    assert gateway.store.read(lambda db: db.execute(reasons).fetchall()) == [("glitch",)]


def test_after_a_replacement_the_hours_go_on_and_somebody_is_called(make: Make):
    """DESIGN 5: a confirmed drop books nothing across it; the offset survives a restart."""
    gateway = make()
    feed(gateway, (0, "1000"), (10, "1001"), (60, "1006"), (70, "3"), (80, "4"), (90, "5"))
    gateway.run(7200)
    assert closed(gateway) == {TEN: "5.5"}  # 10:55 1006, 11:05 3: flat in between
    gateway.crash()
    feed(gateway, (120, "8"), (130, "9"), (180, "14"), (190, "15"))
    gateway.run(7200)
    assert closed(gateway) == {TEN: "5.5", TEN + 1: "5.5", TEN + 2: "6"}
    assert [view.quality for view in gateway.hours("off")] == ["estimated", "estimated", "interpolated"]
    (alarm,) = [text for level, _, text in gateway.events() if level == "error"]
    assert alarm.startswith("the register fell from 1006 (2026-03-02 10:55:00Z) to 3 (2026-03-02 11:05:00Z)")
    assert "meter-gateway meter replaced off --at TIME" in alarm


def test_a_level_above_max_rate_holds_the_hours_until_a_person_decides(make: Make):
    """DESIGN 5: what stays excessive is held, never booked and never booked as 0; told once."""
    gateway = make(counter=CounterRule(10**7))
    feed(gateway, (0, "1000"), (10, "1001"), (60, "1006"), (70, "5000"))
    for minute in range(80, 200, 10):
        feed(gateway, (minute, str(5000 + minute // 10)))
        gateway.run(600)
    gateway.run(7200)
    assert closed(gateway) == {}
    (alarm,) = [text for level, _, text in gateway.events() if level == "error"]
    assert alarm.startswith("the counter stays above what max_rate allows: 50")


def test_without_max_rate_a_rise_counts_once_the_next_reading_stands_by_it(make: Make):
    """A torn high reading is seen by what follows it, so the hour waits for one more."""
    gateway = make(counter=CounterRule())
    feed(gateway, (0, "0"), (10, "1"), (64, "6"), (66, "65535"))
    gateway.run(4300)
    assert closed(gateway) == {}
    feed(gateway, (67, "6.2"), (70, "7"), (71, "7"))
    gateway.run(2 * 3600)
    assert closed(gateway) == {TEN: "5.566667"}  # 10:59 6, 11:02 6.2, the glitch between them gone


def test_two_days_of_backlog_within_seconds_close_exactly(make: Make):
    """Every boundary is the line between its true neighbours, whatever the order of arrival within grace."""
    clock = FakeClock(START + timedelta(days=2, hours=1))
    gateway = make(clock=clock, grace=2.0)
    readings = ramp("off", START, START + timedelta(days=2), timedelta(seconds=617), per_hour="6")
    Random(3).shuffle(readings)
    for first in range(0, len(readings), 20):
        gateway.deliver(*readings[first : first + 20])
        gateway.run(0.1)
    gateway.run(5)
    hours = gateway.hours("off")
    assert [view.hour for view in hours] == list(range(TEN, TEN + 47))
    assert max(abs(view.consumption - 6_000_000) for view in hours) <= 1


def test_one_meters_doubt_does_not_hold_up_another(make: Make):
    gateway = make("off-1", "off-2")
    for meter in ("off-1", "off-2"):
        gateway.deliver(reading(meter, START, "100"), reading(meter, START + timedelta(minutes=10), "101"))
    gateway.run(4300)
    gateway.deliver(
        reading("off-1", START + timedelta(minutes=70), "0"), reading("off-2", START + timedelta(minutes=70), "107")
    )
    gateway.run(2 * GRACE)
    assert closed(gateway, "off-1") == {}
    assert closed(gateway, "off-2") == {TEN: "6"}


def test_after_a_failing_store_the_file_is_asked_what_is_frozen(make: Make, monkeypatch):
    """R26: the commit that seemed lost was there."""
    gateway = make()
    feed(gateway, (0, "0"), (10, "1"))
    gateway.run(4300)
    feed(gateway, (70, "7"))
    gateway.run(GRACE - 1)
    write = gateway.store.write

    def committed_but_reported_lost(work):
        write(work)
        raise StoreError("I/O error")

    monkeypatch.setattr(gateway.store, "write", committed_but_reported_lost)
    gateway.run(20)
    monkeypatch.undo()
    gateway.run(60)
    assert closed(gateway) == {TEN: "6"}
    assert gateway.closer.step(gateway.clock.now()) == float("inf")


def test_an_interval_source_closes_by_the_end_of_its_periods(make: Make):
    quarter = Rule("interval", expected_every_ms=900_000, period_ms=900_000)
    gateway = make(rule=quarter)
    gateway.clock.advance(3 * 3600)
    feed(gateway, *[(5 + 15 * n, "0.25") for n in range(9)])  # 10:00 to 12:00, each for the quarter before it
    gateway.run(2 * GRACE)
    assert closed(gateway) == {TEN: "1", TEN + 1: "1"}
    assert [view.boundary for view in gateway.hours("off")] == [1_000_000, 2_000_000]


def test_power_is_integrated_and_its_total_runs_on(make: Make):
    rule = Rule("power", expected_every_ms=60_000, max_gap_ms=120_000)
    gateway = make(rule=rule)
    gateway.clock.advance(3 * 3600)
    feed(gateway, *[(n, "3") for n in range(127)])
    gateway.run(2 * GRACE)
    assert closed(gateway) == {TEN: "3", TEN + 1: "3"}
    assert [view.boundary for view in gateway.hours("off")] == [3_000_000, 6_000_000]


# --- the books are checked at every close ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        ("UPDATE hour SET consumption = consumption + 1 WHERE hour = {last}", "they are 0.000001 off"),
        ("UPDATE hour SET boundary = boundary - 5000000 WHERE hour = {last}", "off"),
        ("UPDATE hour SET consumption = 0 WHERE hour = {first}", "off"),
        ("DELETE FROM hour WHERE hour = {first}", "an hour is not there"),
    ],
)
def test_hours_that_do_not_add_up_stop_the_meter(make: Make, sabotage: str, words: str):
    """R7: a changed or damaged file is noticed at the next close of the same day; nothing more is sent."""
    gateway = make("a", counter=CounterRule(10**12))
    gateway.deliver(*ramp("a", START, START + timedelta(hours=4), timedelta(minutes=10)))
    gateway.run(4 * 3600 + 600)
    last = max(view.hour for view in gateway.hours("a"))
    gateway.store.write(lambda db: db.execute(sabotage.format(first=TEN, last=last)))
    later = ramp("a", START, START + timedelta(hours=16), timedelta(minutes=10))
    gateway.deliver(*later[25:])
    gateway.run(13 * 3600)
    (told,) = {text for level, _, text in gateway.events() if level == "error"}
    assert words in told
    assert "pending" not in gateway.states("a")
    assert gateway.states("a")[-1] == "held"


def test_the_books_balance_over_days(make: Make):
    """The check is no false alarm: three days of hours, of any kind of reading, add up."""
    gateway = make("off", counter=CounterRule(10**12))
    for day in range(3):
        begin = START + timedelta(days=day)
        gateway.deliver(*[reading("off", begin + timedelta(minutes=7 * n), str(1000 * day + n)) for n in range(206)])
        gateway.run(86_400)
    assert len(gateway.hours("off")) >= 70
    assert [event for event in gateway.events() if event[0] == "error"] == []
