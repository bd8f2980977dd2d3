"""What becomes of a counter's gap, and who is told (reliability 3.3)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest

from buffer.hours import Rule
from buffer.model import EPOCH
from tests.fakes.clock import START
from tests.fakes.small_gateway import GRACE, Make, SmallGateway, reading

TEN = (START - EPOCH) // timedelta(hours=1) + 1  # START is 9:55


@pytest.fixture
def make(make: Make) -> Make:
    """Of one meter that is not pushed."""
    return partial(make, "off")


def feed(gateway: SmallGateway, *minutes_and_values: tuple[float, str]) -> None:
    gateway.deliver(*[reading("off", START + timedelta(minutes=m), value) for m, value in minutes_and_values])


def closed(gateway: SmallGateway) -> dict[int, str]:
    return {view.hour: str(Decimal(view.consumption) / 10**6) for view in gateway.hours("off")}


def paced(gap: str | None = None, **more) -> Rule:
    return Rule("counter", expected_every_ms=600_000, gap=gap, **more)


def fed_over_a_gap(gateway: SmallGateway, hours: float) -> None:
    """10 before the gap from 10:25 on, 5 per hour in it, 6 per hour around it; then let the hours close."""
    feed(gateway, (0, "7"), (10, "8"), (20, "9"), (30, "10"))
    back = 30 + 60 * hours
    gateway.run(600)
    gateway.clock.advance(back * 60 + 3000)
    feed(gateway, *[(back + 10 * n, str(10 + 5 * hours + n)) for n in range(7)])
    gateway.run(2 * GRACE)


def parked(gateway: SmallGateway) -> list[tuple[int, int]]:
    return gateway.store.read(lambda db: db.execute("SELECT hour, amount FROM parked ORDER BY hour").fetchall())


def test_a_long_gap_is_spread_and_told_once(make: Make):
    """Reliability 3.3: the total is known, its shape is not; longer than six hours, somebody should know."""
    gateway = make(rule=paced())
    fed_over_a_gap(gateway, 7)
    gateway.crash()
    feed(gateway, (30 + 420 + 70, "52"))
    gateway.run(7200)
    assert closed(gateway) == {TEN: "5.416667"} | dict.fromkeys(range(TEN + 1, TEN + 7), "5") | {TEN + 7: "5.583333"}
    told = "no reading from 2026-03-02 10:25:00Z to 2026-03-02 17:25:00Z (7.0 h): the 35 used in it are spread"
    assert [text[: len(told)] for level, _, text in gateway.events() if level == "warning"] == [told]


def test_a_gap_of_some_hours_is_spread_without_a_word(make: Make):
    gateway = make(rule=paced())
    fed_over_a_gap(gateway, 6)
    assert len(closed(gateway)) == 7
    assert [event for event in gateway.events() if event[0] != "info"] == []


def test_the_energy_of_a_hole_is_parked_and_the_hours_go_on_without_it(make: Make):
    """Reliability 3.3, R7: sums and boundaries go on exactly, also across a restart; nothing is lost."""
    gateway = make(rule=paced("hole"))
    fed_over_a_gap(gateway, 3)
    gateway.crash()
    feed(gateway, *[(210 + 70 + 10 * n, str(32 + n)) for n in range(7)])
    gateway.run(7200)
    views = gateway.hours("off")
    assert closed(gateway) == {TEN: "5.416667", TEN + 1: "0", TEN + 2: "0", TEN + 3: "5.583333", TEN + 4: "6"}
    assert [view.state for view in views] == ["pending", "missing", "missing", "pending", "pending"]
    assert parked(gateway) == [(TEN + 1, 5_000_000), (TEN + 2, 5_000_000)]
    assert sum(view.consumption for view in views) == views[-1].boundary - 7_500_000
    (told,) = [text for level, _, text in gateway.events() if level == "warning"]
    assert told.endswith("of the 15 used in it 10 are parked: the hours within it are missing")


def test_more_than_a_month_of_silence_waits_for_a_person(make: Make):
    """Reliability 3.3: asked once, also across restarts; the hours before it close, those in it stay open."""
    gateway = make(rule=paced())
    fed_over_a_gap(gateway, 32 * 24)
    for _ in range(3):
        gateway.crash()
        gateway.run(7200)
    assert closed(gateway) == {}
    (asked,) = [text for level, _, text in gateway.events() if level == "error"]
    assert asked.startswith(
        "no reading from 2026-03-02 10:25:00Z to 2026-04-03 10:25:00Z (32 days), in which 3840 were"
    )
    gateway.close()
    decided = make(clock=gateway.clock, rule=paced("spread"))
    decided.run(7200)
    assert len(closed(decided)) == 32 * 24 + 1


def test_what_a_person_said_about_a_register_decides_a_gap_too(make: Make):
    """DESIGN 5: a dated word of a person needs no second question."""
    gateway = make(rule=paced())
    fed_over_a_gap(gateway, 32 * 24)
    at = int((START + timedelta(minutes=30) - EPOCH).total_seconds() * 1000) + 60_000
    gateway.store.write(
        lambda db: db.execute(
            "INSERT INTO epoch (meter, at, old_final, new_initial, final, reason, author, recorded_at)"
            " VALUES (?, ?, 10000000, 10000000, 0, 'estimate', 'me', 0)",
            (gateway.numbers["off"], at),
        )
    )
    gateway.run(7200)
    assert len(closed(gateway)) == 32 * 24 + 1


def test_a_source_that_reports_changes_is_where_it_was_until_it_says_otherwise(make: Make):
    """DESIGN 5: held flat while it is known to be alive, here for an hour; two hours are a gap."""
    gateway = make(rule=paced(hold_ms=3_600_000))
    feed(gateway, (0, "7"), (30, "8"), (70, "10"), (130, "10"), (250, "16"))
    gateway.run(6 * 3600)
    assert closed(gateway) == {TEN: "1", TEN + 1: "2", TEN + 2: "2.75", TEN + 3: "3"}
    assert [view.quality for view in gateway.hours("off")] == ["measured", "measured", "estimated", "estimated"]


def test_a_gap_is_told_with_its_hours_and_not_with_those_before_it(make: Make):
    """What ends the gap is there already when the hours before it close."""
    gateway = make(rule=paced())
    gateway.clock.advance(12 * 3600)
    feed(gateway, *[(10 * n, str(n)) for n in range(8)])
    gateway.run(GRACE / 2)
    feed(gateway, (70 + 480, "55"))
    gateway.run(GRACE / 2 + 10)
    assert list(closed(gateway)) == [TEN]
    assert gateway.events() == []
    gateway.run(GRACE)
    assert [level for level, _, _ in gateway.events()] == ["warning"]
    assert list(closed(gateway)) == list(range(TEN, TEN + 9))
