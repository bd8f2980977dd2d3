"""What a person knows better is dated, has an author, and never alters what is closed (R8)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from buffer.corrections import CorrectionError
from buffer.hours import Rule
from buffer.model import EPOCH, MICRO, to_ms
from gateway.correcting import correct
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.small_gateway import GRACE, SmallGateway, reading

TEN = (START - EPOCH) // timedelta(hours=1) + 1  # START is 9:55


@pytest.fixture
def gateway(tmp_path: Path):
    clock = FakeClock()
    simulator = EnerkeySimulator(now=lambda: clock.wall)
    made = SmallGateway(tmp_path, clock, simulator, ("off",))
    yield made
    made.close()
    simulator.close()


def feed(gateway: SmallGateway, *minutes_and_values: tuple[float, str]) -> None:
    gateway.deliver(*[reading("off", START + timedelta(minutes=m), value) for m, value in minutes_and_values])


def say(gateway: SmallGateway, what: str, **values) -> str:
    """As the command does it: instants in minutes after START, values in the meter's unit."""
    asked = {"what": what, "meter": "off", "author": "ada", "final": None}
    for name, value in values.items():
        instant = name in {"at", "since", "until"}
        asked[name] = to_ms(START + timedelta(minutes=value)) if instant else round(value * MICRO)
    meter, done = gateway.store.write(lambda db: correct(db, asked, to_ms(gateway.clock.wall)))
    gateway.closer.saw({meter: done.reaches}, gateway.clock.boottime)
    return done.text


def closed(gateway: SmallGateway) -> dict[int, str]:
    return {view.hour - TEN: f"{Decimal(view.consumption) / MICRO:f}" for view in gateway.hours("off")}


def adjustments(gateway: SmallGateway) -> list[tuple]:
    find = "SELECT hour, amount, author, reason FROM adjustment"
    return [
        (hour - TEN, amount / MICRO, author, reason)
        for hour, amount, author, reason in gateway.store.read(lambda db: db.execute(find).fetchall())
    ]


def test_a_replacement_said_in_time_is_booked_on_both_sides(gateway):
    """The old one went from 1006 to 1006.4, the new one from 37 to 38; nothing is an adjustment."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"), (70, "38"), (80, "39"))
    said = say(gateway, "replaced", at=66, old_final=1006.4, new_initial=37)
    gateway.run(7200)
    feed(gateway, (130, "44"))
    gateway.run(2 * GRACE + 3600)
    assert closed(gateway) == {0: "5.333333", 1: "6.566667"}  # boundaries 1001, 1006 + 5/6 x 0.4, 1006.4 + 6.5
    assert adjustments(gateway) == []
    assert said == "meter replaced at 2026-03-02 11:01:00Z: the old one stood at 1006.4, the new one began at 37"
    assert ("info", "off", f"{said} (ada)") in gateway.events()
    assert not any(level == "error" for level, _, _ in gateway.events())


def test_a_word_that_comes_while_its_hour_is_being_closed_is_heard(gateway, monkeypatch):
    """Between the closer's look and its commit: frozen without it, the hour would never hear of the replacement."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"), (70, "38"), (80, "39"), (90, "40"), (130, "44"))
    decide, spoken = gateway.closer._decide, []

    def spoken_after(db, edges):
        decided = decide(db, edges)
        if not spoken and any(each.hours for each in decided):
            spoken.append("once")
            say(gateway, "replaced", at=66, old_final=1006.4, new_initial=37)
        return decided

    gateway.run(3600)  # 10:55, before the hour from 10:00 may be closed
    monkeypatch.setattr(gateway.closer, "_decide", spoken_after)
    gateway.run(4 * 3600)
    assert spoken
    assert closed(gateway) == {0: "5.333333", 1: "6.566667"}
    assert adjustments(gateway) == []


def test_a_replacement_said_late_is_an_adjustment_to_its_hour(gateway):
    """R8: the hours stay as they were closed; what was not booked across the swap is added beside them."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"), (70, "38"), (80, "39"), (90, "40"), (130, "44"))
    gateway.run(4 * 3600)
    before = closed(gateway)
    said = say(gateway, "replaced", at=66, old_final=1006.4, new_initial=37)
    assert closed(gateway) == before
    assert adjustments(gateway) == [(1, pytest.approx(0.4 + 1), "ada", said.partition(";")[0])]


def test_saying_it_again_corrects_by_the_difference(gateway):
    """A slip of the pen is mended by the right numbers; each word stays on record."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"), (70, "38"), (80, "39"), (90, "40"), (130, "44"))
    gateway.run(4 * 3600)
    say(gateway, "replaced", at=66, old_final=1060.4, new_initial=37)
    say(gateway, "replaced", at=66, old_final=1006.4, new_initial=37)
    assert [amount for _, amount, _, _ in adjustments(gateway)] == [pytest.approx(55.4), pytest.approx(-54)]


def test_after_a_reset_only_what_the_reset_did_not_count_is_added(gateway):
    """A new meter that began at 5, taken for a reset to zero: 5 too much was booked."""
    gateway.close()
    gateway._counter = gateway._counter.__class__(max_rate=10**9, reset="zero")
    gateway.open()
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"), (70, "6"), (80, "7"), (90, "8"), (130, "12"))
    gateway.run(4 * 3600)
    say(gateway, "replaced", at=66, old_final=1006, new_initial=5)
    assert [amount for _, amount, _, _ in adjustments(gateway)] == [-5]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"old_final": 1005, "new_initial": 37},
            "the last reading was 1006 (2026-03-02 10:55:00Z), more than the final 1005",
        ),
        (
            {"old_final": 1007, "new_initial": 39},
            "the first reading was 38 (2026-03-02 11:05:00Z), less than the initial 39",
        ),
    ],
)
def test_a_word_that_the_readings_contradict_is_refused_with_both_numbers(gateway, values, words):
    """A slip of the pen must not become energy."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"), (70, "38"))
    with pytest.raises(CorrectionError, match="off: ") as refused:
        say(gateway, "replaced", at=66, **values)
    assert words in str(refused.value)
    assert gateway.count("epoch") == 0


def test_a_replacement_where_none_was_noticed_is_refused(gateway):
    """A closed hour without a fall of the register had none."""
    feed(gateway, *[(10 * n, str(n)) for n in range(30)])
    gateway.run(6 * 3600)
    with pytest.raises(CorrectionError, match="no replacement was noticed"):
        say(gateway, "replaced", at=66, old_final=100, new_initial=0)


def test_a_retired_meter_closes_what_it_left_open(gateway):
    """It died at 10:55 and hung there until 12:30; its display said 1010."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"))
    gateway.run(5 * 3600)
    assert closed(gateway) == {}
    say(gateway, "retire", at=155, final=1010)
    gateway.run(2 * GRACE)
    assert closed(gateway) == {0: "5.210526", 1: "2.526316", 2: "1.263158"}
    assert {view.quality for view in gateway.hours("off")} == {"estimated"}
    gateway.crash()
    gateway.run(3600)
    assert len(closed(gateway)) == 3


def test_a_retired_meter_is_closed_also_when_the_word_came_while_nobody_ran(gateway):
    """Without a service the command writes it into the buffer; the next start finds it."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"))
    gateway.run(3600)
    asked = {
        "what": "retire",
        "meter": "off",
        "author": "ada",
        "at": to_ms(START + timedelta(minutes=65)),
        "final": None,
    }
    gateway.store.write(lambda db: correct(db, asked, 0))
    gateway.crash()
    gateway.run(2 * GRACE + 3600)
    assert closed(gateway) == {0: "5"}


def test_an_estimate_fills_the_hours_of_a_dead_meter(gateway):
    """Three hours with 9 in all, and the meter that comes back later counts from where it is."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"))
    gateway.run(5 * 3600)
    say(gateway, "estimate", since=65, until=245, total=9)
    gateway.run(2 * GRACE)
    assert closed(gateway) == {0: "5", 1: "3", 2: "3", 3: "3"}
    assert {view.quality for view in gateway.hours("off")[1:]} == {"estimated"}
    feed(gateway, (280, "1019"), (300, "1020"), (310, "1021"))
    gateway.run(3600)
    assert closed(gateway)[4] == "1.5"


@pytest.mark.parametrize(
    ("what", "values", "words"),
    [
        ("estimate", {"since": 66, "until": 245, "total": 9}, "full hours"),
        ("estimate", {"since": 245, "until": 65, "total": 9}, "full hours"),
        ("estimate", {"since": 5, "until": 65, "total": 9}, "it still had a reading later than that: 1006"),
        ("retire", {"at": 30}, "it still had a reading later than that: 1006"),
        ("retire", {"at": 155, "final": 3}, "it said 1006 (2026-03-02 10:55:00Z) already, more than 3"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(gateway, what, values, words):
    """One sentence with the numbers, nothing half-done."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1006"))
    gateway.run(3600)
    with pytest.raises(CorrectionError) as refused:
        say(gateway, what, **values)
    assert words in str(refused.value)
    assert gateway.count("epoch") == 0


# --- the configuration names another source ---------------------------------------------------------------------------


def reopen(gateway: SmallGateway, register: str, rule: Rule | None = None) -> None:
    """As after an edit of the configuration and a restart."""
    gateway.close()
    gateway.register = register
    gateway._rule_of = {name: rule or before for name, before in gateway._rule_of.items()}
    gateway.open()


def test_across_a_changed_register_nothing_is_booked(gateway):
    """DESIGN 5: a new CT ratio, scale or register is another counter; its hours go on without a jump."""
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1012"))
    gateway.run(3600)
    reopen(gateway, "holding 1024 x 0.1")
    feed(gateway, (70, "101.4"), (120, "102.4"), (130, "102.6"))
    gateway.run(3 * 3600)
    assert closed(gateway) == {0: "11", 1: "1.1"}  # 1001 to 1012, then 0.2 in ten minutes from 11:05 on
    assert [view.quality for view in gateway.hours("off")] == ["estimated", "estimated"]
    told = "the source changed from counter, holding 1024 to counter, holding 1024 x 0.1: nothing is booked in between"
    assert ("info", "off", f"{told} (configuration)") in gateway.events()


def test_the_same_configuration_again_changes_nothing(gateway):
    """A restart is no epoch; neither is a meter that never had a reading."""
    reopen(gateway, "holding 2048")
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1012"))
    reopen(gateway, "holding 2048")
    gateway.crash()
    assert gateway.count("epoch") == 0


def test_a_meter_known_from_before_registers_were_noted_is_taken_as_it_is(gateway):
    """An update of the program is no change of the wiring."""
    feed(gateway, (0, "1000"), (10, "1002"))
    gateway.store.write(lambda db: db.execute("UPDATE meter SET register = ''"))
    gateway.crash()
    assert gateway.count("epoch") == 0
    reopen(gateway, "holding 2")
    assert gateway.count("epoch") == 1


def test_from_a_counter_to_power_and_back_the_total_goes_on(gateway):
    """Readings of another kind are no inputs: a register of 1012 kWh is no power of 1012 kW, nor the other way round."""
    counter, power = gateway._rule_of["off"], Rule("power", 600_000, max_gap_ms=1_800_000)
    feed(gateway, (0, "1000"), (10, "1002"), (60, "1012"), (70, "1014"))
    gateway.run(2 * 3600)
    reopen(gateway, "holding 50", power)
    feed(gateway, *[(70 + 10 * n, "6") for n in range(1, 13)])
    gateway.run(2 * 3600)
    assert closed(gateway) == {0: "12", 1: "4.5", 2: "6"}  # 1001 to 1013; power from 11:15 on
    boundary = gateway.hours("off")[-1].boundary
    reopen(gateway, "holding 1024", counter)
    feed(gateway, (200, "1040"), (240, "1044"), (250, "1045"), (310, "1051"))
    gateway.run(3 * 3600)
    hours = gateway.hours("off")
    assert [view.hour - TEN for view in hours] == [0, 1, 2, 3, 4]
    assert hours[3].boundary - boundary == hours[3].consumption == 4_500_000  # from 13:15 on, 1040 to 1044.5 at 14:00
    assert hours[4].consumption == 6_000_000


# --- what is parked ---------------------------------------------------------------------------------------------------


def park(gateway: SmallGateway) -> None:
    rows = [
        (gateway.numbers["off"], TEN + 3, 2 * MICRO, "gap", 0),
        (gateway.numbers["off"], TEN + 5, MICRO, "clock", 0),
    ]
    insert = "INSERT INTO parked (meter, hour, amount, reason, at) VALUES (?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.executemany(insert, rows))


def test_what_is_parked_can_be_booked_to_its_own_hours(gateway):
    """A person decides; each amount keeps why it was parked, and can be booked once."""
    park(gateway)
    assert say(gateway, "book") == (
        "3 that were parked are booked to its hours from 2026-03-02 13:00Z to 2026-03-02 15:00Z"
    )
    assert adjustments(gateway) == [(3, 2, "ada", "was parked: gap"), (5, 1, "ada", "was parked: clock")]
    with pytest.raises(CorrectionError, match="nothing of it is parked"):
        say(gateway, "book")


def test_what_is_parked_can_be_booked_to_one_hour_or_dropped(gateway):
    """Nothing leaves the books without a word: the event keeps the amount and the person."""
    park(gateway)
    asked = {"what": "book", "meter": "off", "author": "ada", "into": to_ms(START + timedelta(minutes=70))}
    gateway.store.write(lambda db: correct(db, asked, 0))
    assert [(hour, amount) for hour, amount, _, _ in adjustments(gateway)] == [(1, 2), (1, 1)]
    park(gateway)
    said = say(gateway, "drop")
    assert said == "3 that were parked from 2026-03-02 13:00Z to 2026-03-02 15:00Z are dropped"
    assert gateway.events()[-1] == ("info", "off", f"{said} (ada)")
    assert gateway.count("parked") == 0
