"""A meter that another feed has filled: left to it until an instant, and from there on exactly once (DESIGN 6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from buffer.corrections import CorrectionError
from buffer.model import HOUR_MS, hour_start
from gateway.correcting import correct
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours, ramp
from tests.unit.gateway.test_deciding import AFTERWARDS, DAY, EIGHT, NINE, OWN, SEVEN, adjust, by_hand, decide, say


@pytest.fixture
def make(make: Make) -> Make:
    """A new database: its meters are read before they send."""
    return lambda *meters, **settings: make(*meters, **{"looked": False} | settings)


def taken(gateway: SmallGateway, hour: int, meter: str = "a") -> str:
    return say(gateway, "takeover", meter, at=hour * HOUR_MS)


def old_system(gateway: SmallGateway, first: int, count: int, meter: str = "a") -> None:
    """Filled hours of ours, and of the other feed with other numbers."""
    closed_hours(gateway, first, 12, (meter,))
    if meter == "a":
        for hour in range(first, first + count):
            by_hand(gateway, hour, "0.7")
    else:
        for hour in range(first, first + count + 1):
            by_hand(gateway, hour, str(300 + hour % 100), "PushCumulativeReadingsForMeter")
    gateway.run(60)


def test_the_usual_installation_is_one_command(make: Make):
    """The old system filled the meter until yesterday; hours before the takeover are never sent, those after once."""
    gateway = make()
    old_system(gateway, NINE - 12, 8)
    assert gateway.asked == ["GET"]
    assert "never (8 closed hours left to the other feed)" in taken(gateway, NINE - 4).replace(
        "sent, those before ", ""
    )
    gateway.run(AFTERWARDS)
    assert gateway.states() == ["dropped"] * 8 + ["accepted"] * 4
    filled = dict.fromkeys(range(NINE - 12, NINE - 4), 700_000)
    assert gateway.simulator.hourly(100) == filled | dict.fromkeys(range(NINE - 4, NINE), OWN)
    assert gateway.count("doubt") == 0
    closed_hours(gateway, NINE, 1)
    gateway.run(AFTERWARDS)
    assert gateway.states()[-1] == "accepted"


def test_a_cumulative_meter_begins_anew_at_the_takeover(make: Make):
    """Its first message is the opening boundary and the first hour's end, and no reading stands where another one does."""
    gateway = make("cumulative")
    old_system(gateway, NINE - 12, 8, "cumulative")
    with pytest.raises(CorrectionError, match=r"there must never be two: --at 2026-03-02T06:00Z"):
        taken(gateway, NINE - 4, "cumulative")
    taken(gateway, NINE - 3, "cumulative")
    gateway.run(60)
    first = next(push for push in gateway.simulator.pushes if len(push.items) > 1)
    assert [item.stamp for item in first.items] == [hour_start(NINE - 3), hour_start(NINE - 2)]
    gateway.run(AFTERWARDS)
    assert gateway.states("cumulative") == ["dropped"] * 9 + ["accepted"] * 3
    there = gateway.simulator.hourly(100)
    assert [there[hour] for hour in range(NINE - 3, NINE)] == [OWN] * 3
    stamps = [item.stamp for item in gateway.simulator.items]
    assert len(stamps) == len(set(stamps))


def test_a_meter_that_had_sent_before_begins_anew_too(make: Make):
    """Whatever was accepted before the takeover proves nothing about the series from there on."""
    gateway = make("cumulative", looked=True)
    closed_hours(gateway, NINE - 12, 4, ("cumulative",))
    gateway.run(60)
    assert gateway.states("cumulative") == ["accepted"] * 4
    taken(gateway, NINE - 4, "cumulative")
    rows = [(1, NINE - 8 + n, OWN, 10**9 + (n + 5) * OWN, "measured", 0) for n in range(8)]
    insert = "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.executemany(insert, rows))
    taken(gateway, NINE - 4, "cumulative")
    gateway.run(AFTERWARDS)
    anew = next(push for push in gateway.simulator.pushes if push.items[0].stamp == hour_start(NINE - 4))
    assert [item.stamp for item in anew.items] == [hour_start(NINE - 4), hour_start(NINE - 3)]
    assert gateway.states("cumulative") == ["accepted"] * 4 + ["dropped"] * 4 + ["accepted"] * 4


def test_a_takeover_while_the_message_is_being_made_is_heard(make: Make):
    """R14: the hours are not claimed for a message that was drafted before; the delivery goes on with the rest."""
    gateway = make(looked=True)
    closed_hours(gateway, NINE - 4, 4)
    write, words = gateway.store.write, [NINE - 2]

    def meanwhile(work: Callable) -> object:
        if words and "intent" in work.__code__.co_freevars:
            hour = words.pop()
            write(
                lambda db: correct(
                    db, {"what": "takeover", "meter": "a", "author": "ada", "at": hour * HOUR_MS}, 10**13
                )
            )
        return write(work)

    gateway.store.write = meanwhile
    gateway.run(AFTERWARDS)
    assert words == []
    assert gateway.states() == ["dropped"] * 2 + ["accepted"] * 2
    assert set(gateway.simulator.hourly(100)) == {SEVEN, EIGHT}


def test_a_takeover_before_anything_was_found_costs_nothing(make: Make):
    """Who knows when the old system ended says so at once."""
    gateway = make()
    closed_hours(gateway, NINE - 4, 4)
    taken(gateway, EIGHT)
    gateway.run(60)
    assert gateway.states() == ["dropped"] * 3 + ["accepted"]
    assert set(gateway.simulator.hourly(100)) == {EIGHT}


def test_hours_before_a_takeover_to_come_are_never_sent_when_they_close(make: Make):
    """The old system runs until then."""
    gateway = make()
    taken(gateway, NINE + 2)
    for each in ramp("a", hour_start(NINE), hour_start(NINE + 4), (hour_start(1) - hour_start(0)) / 6):
        gateway.clock.advance(max(0.0, (each.at - gateway.clock.wall).total_seconds()))
        gateway.deliver(each)
        gateway.run(1)
    gateway.run(AFTERWARDS)
    assert gateway.states() == ["dropped", "dropped", "accepted", "accepted"]
    assert set(gateway.simulator.hourly(100)) == {NINE + 2, NINE + 3}


@pytest.mark.parametrize("meter", ["a", "cumulative"])
def test_nothing_of_the_hours_before_is_posted_later(make: Make, meter: str):
    """Late energy of theirs is the other feed's, too; it enters no boundary."""
    gateway = make(meter)
    closed_hours(gateway, NINE - 4, 4, (meter,))
    adjust(gateway, SEVEN - 1, 70_000)
    taken(gateway, EIGHT, meter)
    adjust(gateway, SEVEN, 90_000)
    gateway.run(AFTERWARDS)
    assert gateway.simulator.hourly(100) == {EIGHT: OWN}


def test_where_the_other_feed_goes_on_later_the_meter_is_not_taken_over(make: Make):
    """Both numbers would be summed."""
    gateway = make()
    old_system(gateway, NINE - 12, 8)
    with pytest.raises(CorrectionError, match=r"EnerKey shows 0.7 for 2026-03-02 04:00Z, which is later.*05:00Z on at"):
        taken(gateway, NINE - 6)
    assert gateway.states().count("dropped") == 0


def test_what_the_other_feed_wrote_since_it_was_found_is_found_before_anything_is_sent(make: Make):
    """It was not switched off in time: the meter rests again, and nothing is added to its hours."""
    gateway = make()
    old_system(gateway, NINE - 12, 8)
    by_hand(gateway, EIGHT, "0.7")
    taken(gateway, NINE - 4)
    gateway.run(AFTERWARDS)
    assert "POST" not in gateway.asked
    assert gateway.states() == ["dropped"] * 8 + ["pending"] * 3 + ["held"]
    taken(gateway, NINE)
    assert gateway.states() == ["dropped"] * 12


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (NINE * HOUR_MS + 60_000, r"begins with a full hour: --at 2026-03-02T09:00Z or 2026-03-02T10:00Z"),
        ((NINE + 9000) * HOUR_MS, r"more than 31 days ahead: is the year right\?"),
    ],
)
def test_an_instant_that_cannot_be_meant_changes_nothing(make: Make, at: int, words: str):
    """And says what can."""
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    with pytest.raises(CorrectionError, match=words):
        say(gateway, "takeover", at=at)
    assert gateway.states() == ["pending"]


def test_hours_of_a_message_that_is_not_settled_are_not_left_to_anybody(make: Make):
    """R14: nobody knows yet whether they are there."""
    gateway = make(looked=True)
    closed_hours(gateway, EIGHT, 1)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(60)
    with pytest.raises(CorrectionError, match="is not settled yet; try again"):
        taken(gateway, NINE)
    taken(gateway, EIGHT)
    gateway.run(AFTERWARDS)
    assert gateway.states() == ["accepted"]


def test_a_meter_whose_foreign_hours_are_all_decided_goes_on(make: Make):
    """One hour that was typed in by hand needs no takeover."""
    gateway = make()
    closed_hours(gateway, EIGHT - 3, 4)
    by_hand(gateway, SEVEN, "7")
    gateway.run(60)
    decide(gateway, "accept", SEVEN)
    gateway.run(AFTERWARDS)
    assert gateway.states() == ["accepted"] * 4
    assert gateway.simulator.hourly(100)[SEVEN] == 7_000_000


def test_a_takeover_said_twice_is_said_once_and_an_earlier_one_brings_back_what_is_named(make: Make):
    """A slip of the year costs nothing: the hours are named, read and sent."""
    gateway = make()
    closed_hours(gateway, NINE - 4, 4)
    taken(gateway, NINE)
    taken(gateway, NINE)
    assert gateway.states() == ["dropped"] * 4
    with pytest.raises(CorrectionError, match="no hour of it is in doubt"):
        decide(gateway, "resend", SEVEN, EIGHT)
    taken(gateway, SEVEN)
    decide(gateway, "resend", SEVEN, EIGHT)
    gateway.run(60)
    assert gateway.states() == ["dropped"] * 2 + ["accepted"] * 2


def test_the_audit_finds_another_feed_beside_ours(make: Make):
    """An hour that waits, between accepted ones, is filled by somebody else: the meter rests."""
    gateway = make(looked=True, push_estimated=False)
    closed_hours(gateway, EIGHT - 2, 3)
    gateway.store.write(lambda db: db.execute("UPDATE hour SET quality = 'estimated' WHERE hour = ?", (SEVEN,)))
    gateway.run(60)
    assert gateway.states() == ["accepted", "pending", "accepted"]
    by_hand(gateway, SEVEN, "7")
    gateway.run(DAY + 60)
    assert gateway.states() == ["accepted", "held", "accepted"]
    (_, view, _) = gateway.hours()
    assert view.doubt
    assert (view.doubt.why, view.doubt.shown, view.doubt.value) == ("foreign", 7_000_000, OWN)
    closed_hours(gateway, NINE + 24, 1)
    gateway.run(AFTERWARDS)
    assert gateway.states()[-1] == "pending"
    (told,) = [text for level, _, text in gateway.events() if level == "error"]
    assert told == (
        "1 h held: EnerKey shows 7.000000 for 2026-03-02 07:00Z, which nothing of this meter's was accepted for."
        " Somebody else fills this meter: nothing of it is sent until: meter-gateway takeover a"
    )
