"""Energy on its way while hours close: it is in the hour, or booked beside it, and once (R4, R8)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest

from buffer.hours import Rule
from buffer.model import EPOCH
from tests.fakes.clock import START
from tests.fakes.small_gateway import GRACE, Make, SmallGateway, reading

TEN = (START - EPOCH) // timedelta(hours=1) + 1  # START is 9:55
QUARTERS = Rule("interval", expected_every_ms=900_000, period_ms=900_000)
POWER = Rule("power", expected_every_ms=300_000, max_gap_ms=600_000)


@pytest.fixture
def make(make: Make) -> Make:
    """Of one meter that is not pushed, by its rule."""
    return lambda rule: make("off", rule=rule)


def feed(gateway: SmallGateway, *minutes_and_values: tuple[float, str]) -> None:
    """Readings so many minutes after ten o'clock."""
    ten = START + timedelta(minutes=5)
    gateway.deliver(*[reading("off", ten + timedelta(minutes=m), value) for m, value in minutes_and_values])


def closed(gateway: SmallGateway) -> list[tuple[int, str, str]]:
    """(hours after ten, consumption, adjusted)."""
    return [
        (view.hour - TEN, str(Decimal(view.consumption) / 10**6), str(Decimal(view.adjusted) / 10**6))
        for view in gateway.hours("off")
    ]


def test_a_late_period_is_booked_once_and_told(make: Make):
    """R4, R8: whatever is delivered again, whatever crashes."""
    gateway = make(QUARTERS)
    gateway.clock.advance(2 * 3600)
    feed(gateway, (0, "1"), (15, "1"), (60, "1"), (75, "1"))
    gateway.run(2 * GRACE)
    assert closed(gateway) == [(0, "2", "0")]
    for _ in range(3):
        feed(gateway, (45, "1"), (15, "1"))
        feed(gateway, (30, "1"))
        gateway.crash()
        gateway.run(600)
    feed(gateway, (90, "1"), (105, "1"), (120, "1"))
    gateway.run(2 * GRACE)
    assert closed(gateway) == [(0, "2", "2"), (1, "4", "0")]
    came = "energy came after the hours from 2026-03-02 10:00Z to 2026-03-02 11:00Z had been closed"
    told = f"{came}: 1 were booked as adjustments. More of it within an hour is not told again"
    assert gateway.events() == [("warning", "off", told)]


@pytest.mark.parametrize(("rule", "missing", "energy"), [(QUARTERS, 45, "4"), (POWER, 50, "1")])
def test_energy_that_is_stored_while_its_hour_is_being_closed_is_in_the_hour(
    make: Make, rule: Rule, missing: int, energy: str
):
    """It came too late for the look and too early to be late: nobody else would count it."""
    gateway = make(rule)
    gateway.clock.advance(2 * 3600)
    gateway.run(1)  # what comes with the start is written
    every = rule.expected_every_ms // 60_000
    feed(gateway, *[(minute, "1") for minute in range(0, 76, every) if minute != missing])
    write = gateway.store.write

    def slips_in(work: Callable) -> object:
        gateway.store.write = write
        feed(gateway, (missing, "1"))
        return write(work)

    gateway.store.write = slips_in
    gateway.run(2 * GRACE)
    assert closed(gateway) == [(0, energy, "0")]


def test_late_power_corrects_its_closed_hour_and_goes_into_the_open_one(make: Make):
    """R8, R11: from 10:55 on the source was silent for more than it may, until what it had said came after all."""
    gateway = make(POWER)
    gateway.clock.advance(2 * 3600)
    feed(gateway, *[(minute, "6") for minute in (*range(0, 56, 5), 70)])
    gateway.run(2 * GRACE)
    assert closed(gateway) == [(0, "5.5", "0")]
    feed(gateway, (59, "6"), (68, "6"))
    feed(gateway, *[(minute, "6") for minute in range(75, 126, 5)])
    gateway.run(2 * GRACE)
    assert closed(gateway) == [(0, "5.5", "0.5"), (1, "6", "0")]
    seconds = gateway.store.read(lambda db: db.execute("SELECT covered_seconds FROM hour ORDER BY hour").fetchall())
    assert seconds == [(3300,), (3600,)]


def test_what_is_parked_calls_somebody(make: Make):
    gateway = make(Rule("interval", expected_every_ms=900_000, period_ms=900_000, late="alarm"))
    gateway.clock.advance(2 * 3600)
    feed(gateway, (0, "1"), (75, "1"))
    gateway.run(2 * GRACE)
    feed(gateway, (45, "1.5"))
    ((level, _, text),) = gateway.events()
    assert level == "error"
    assert "1.5 are parked until you decide, 0 were booked as adjustments" in text
