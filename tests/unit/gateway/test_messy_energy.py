"""Messy interval and power sources, slow meters and odd days: from what is delivered to closed hours.

The mirror of the counter's table: what a counter's next reading repairs, these sources lose or are told of, never
invent. No value at all (NaN, error answers, markers) ends in the drivers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from buffer.hours import Rule
from buffer.model import MICRO, hour_start
from tests.fakes.clock import FakeClock
from tests.fakes.small_gateway import GRACE, Make, SmallGateway, hour_number, ramp, reading

TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)
QUARTERS = Rule("interval", expected_every_ms=900_000, period_ms=900_000, max_rate=40 * MICRO)
NET = Rule("interval", expected_every_ms=900_000, period_ms=900_000, net=True)
POWER = Rule("power", expected_every_ms=300_000, max_gap_ms=900_000, max_rate=40 * MICRO)
ON_CHANGE = Rule("power", expected_every_ms=300_000, hold_ms=3_600_000)
Open = Callable[..., SmallGateway]


@pytest.fixture
def opened(make: Make) -> Open:
    """A gateway of one meter that is not pushed, at a moment."""
    return lambda rule, now: make("off", rule=rule, clock=FakeClock(now))


def closed(gateway: SmallGateway) -> list[tuple[str, str]]:
    """Consumption and quality of each hour."""
    return [(f"{(Decimal(view.consumption) / MICRO).normalize():f}", view.quality) for view in gateway.hours("off")]


def rejected(gateway: SmallGateway) -> list[str]:
    return [row[0] for row in gateway.store.read(lambda db: db.execute("SELECT reason FROM rejected").fetchall())]


def quarters(*values: str) -> list[tuple[float, str]]:
    """Periods that end 10:15, 10:30 ..., and the one before them; "" is none."""
    return [(15.0 * number, value) for number, value in enumerate(["1", *values]) if value]


def steadily(minutes: int, **instead: str) -> list[tuple[float, str]]:
    """6 kW every five minutes, but `at_20="0"` says something else at 10:20; "" is no sample."""
    other = {int(key.removeprefix("at_")): value for key, value in instead.items()}
    samples = [(float(minute), other.get(minute, "6")) for minute in range(0, minutes + 1, 5)]
    return [sample for sample in samples if sample[1]]


SERIES = {
    "four quarters": (QUARTERS, quarters("1", "1", "1", "1"), [("4", "measured")], []),
    "a quarter of zero is a zero": (QUARTERS, quarters("1", "0", "1", "1"), [("3", "measured")], []),
    "an error code of -1": (QUARTERS, quarters("1", "-1", "1", "1"), [("3", "estimated")], ["negative"]),
    "a meter that counts both ways": (NET, quarters("1", "-1", "1", "1"), [("2", "measured")], []),
    "a glitch of 6553.5": (QUARTERS, quarters("1", "6553.5", "1", "1"), [("3", "estimated")], ["more than max_rate allows"]),
    "as much as the fuse allows": (QUARTERS, quarters("1", "10", "1", "1"), [("13", "measured")], []),
    "a hair more": (QUARTERS, quarters("1", "10.000001", "1", "1"), [("3", "estimated")], ["more than max_rate allows"]),
    "a hair more, backwards": (QUARTERS, quarters("1", "-11", "1", "1"), [("3", "estimated")], ["negative"]),
    "beyond every counter": (
        QUARTERS, quarters("1", "1E+30", "1", "1"), [("3", "estimated")], ["beyond what a counter can hold"],
    ),
    "two quarters swapped in delivery": (QUARTERS, [(0, "1"), (15, "1"), (45, "3"), (30, "2"), (60, "1")], [("7", "measured")], []),
    "the same quarter twice": (QUARTERS, [*quarters("1", "2", "1", "1"), (30, "2")], [("5", "measured")], []),
    "another value for a quarter": (
        QUARTERS, [*quarters("1", "2", "1", "1"), (30, "9")], [("5", "measured")], ["another value for the same instant"],
    ),
    "an hour and a half of silence": (
        QUARTERS, quarters("1", "1", "", "", "", "", "", "", "1", "1", "1", "1"),
        [("2", "estimated"), ("0", "missing"), ("4", "measured")], [],
    ),
    "steady power": (POWER, steadily(60), [("6", "measured")], []),
    "a sample of zero is a zero": (POWER, steadily(60, at_20="0"), [("5.5", "measured")], []),
    "power with an error code of -1": (POWER, steadily(60, at_20="-1"), [("6", "measured")], ["negative"]),
    "a power glitch of 6553.5": (POWER, steadily(60, at_20="6553.5"), [("6", "measured")], ["more than max_rate allows"]),
    "two samples swapped in delivery": (POWER, [*steadily(60, at_20="", at_25="0"), (20, "0")][::-1], [("5", "measured")], []),
    "the same sample twice": (POWER, [*steadily(60), (20, "6")], [("6", "measured")], []),
    "twenty silent minutes": (POWER, steadily(60, at_20="", at_25="", at_30=""), [("4", "estimated")], []),
    "half an hour of silence": (
        POWER, steadily(60, at_20="", at_25="", at_30="", at_35="", at_40=""), [("3", "estimated")], [],
    ),
    "a second more than half an hour": (
        POWER, [*steadily(60, at_15="", at_20="", at_25="", at_30="", at_35="", at_40=""), (899 / 60, "6")],
        [("0", "missing")], [],
    ),
    "a silence that takes a second of the hour": (
        POWER, [*steadily(120, at_60="", at_65="", at_70=""), (3599 / 60, "6")], [("5.998333", "estimated"), ("4.5", "estimated")], [],
    ),
    "power that is told when it changes": (ON_CHANGE, [(0, "6"), (30, "0"), (60, "0")], [("3", "measured")], []),
    "a change that comes after its keep-alive": (
        ON_CHANGE, [(0, "6"), (20, "6"), (90, "0"), (120, "0")], [("0", "missing"), ("0", "estimated")], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SERIES)
def test_the_hours_of_a_messy_source_are_right(opened: Open, name: str):
    """R2, R4, R11: what is in a value counts once; what is no value is kept with its reason and counts nothing."""
    rule, samples, hours, reasons = SERIES[name]
    gateway = opened(rule, TEN + timedelta(hours=4))
    gateway.deliver(*[reading("off", TEN + timedelta(minutes=minute), value) for minute, value in samples])
    gateway.run(2 * GRACE)
    assert closed(gateway) == hours
    assert rejected(gateway) == reasons


def test_a_meter_that_sends_a_day_of_hourly_values_at_once_has_measured_hours(opened: Open):
    """DESIGN 5: series in one message are counter readings at full hours."""
    gateway = opened(Rule("counter", expected_every_ms=86_400_000), TEN + timedelta(days=1))
    for day in range(3):
        first = TEN + timedelta(days=day)
        gateway.deliver(*[reading("off", first + timedelta(hours=n), str(24 * day + n)) for n in range(24)])
        gateway.run(86_400)
    assert closed(gateway) == [("1", "measured")] * 71


def test_a_meter_that_reports_every_three_hours_has_interpolated_hours(opened: Open):
    """DESIGN 5: its pace is no gap."""
    gateway = opened(Rule("counter", expected_every_ms=3 * 3_600_000), TEN + timedelta(hours=13))
    rising = ramp("off", TEN - timedelta(minutes=20), TEN + timedelta(hours=13), timedelta(hours=3), per_hour="1.5")
    gateway.deliver(*rising)
    gateway.run(2 * GRACE)
    assert closed(gateway) == [("1.5", "interpolated")] * 11


@pytest.mark.parametrize(("year", "month", "day", "length"), [(2026, 3, 29, 23), (2026, 10, 25, 25), (2026, 6, 1, 24)])
def test_a_local_day_has_as_many_hours_as_it_really_has(opened: Open, year: int, month: int, day: int, length: int):
    """R10: the clocks of Helsinki go forward and back; UTC knows nothing of it, and no energy is lost or doubled."""
    zone = ZoneInfo("Europe/Helsinki")
    begin = datetime(year, month, day, tzinfo=zone).astimezone(UTC)
    end = (datetime(year, month, day, tzinfo=zone) + timedelta(days=1)).astimezone(UTC)
    gateway = opened(Rule("counter", expected_every_ms=1_200_000), end + timedelta(hours=2))
    gateway.deliver(*ramp("off", begin - timedelta(hours=2), end + timedelta(hours=1), timedelta(minutes=20)))
    gateway.run(2 * GRACE)
    of_the_day = [
        view
        for view in gateway.hours("off")
        if hour_start(view.hour).astimezone(zone).date() == begin.astimezone(zone).date()
    ]
    assert [view.hour for view in of_the_day] == list(range(hour_number(begin), hour_number(end)))
    assert len(of_the_day) == length
    assert {view.consumption for view in of_the_day} == {6 * MICRO}
