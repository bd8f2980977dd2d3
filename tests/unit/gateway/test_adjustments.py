"""Adjustments reach EnerKey exactly once, with their hour or after it (R8, R12-R16)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import postings
from buffer.hours import Rule
from buffer.journal import PendingHour
from buffer.model import EPOCH, hour_start, to_ms
from gateway.composing import cumulative_items
from gateway.simulator.enerkey import random_faults
from tests.fakes.clock import START
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours, hour_number, reading

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1
FAULTS = ["lost-request", "lost-answer", "500-before", "500-after", "503"]
INSERT_HOUR = (
    "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, 'measured', 0)"
)


@pytest.fixture
def make(make: Make) -> Make:
    """An EnerKey that books a second message for an hour as the gateway takes it."""

    def build(*meters: str, same_hour: str = "sum", **settings) -> SmallGateway:
        return make(*meters, server={"same_hour": same_hour}, same_hour=same_hour, **settings)

    return build


def adjust(gateway: SmallGateway, hour: int, amount: int, meter: str = "a") -> None:
    """As `late` and `corrections` write it, now."""
    row = (gateway.numbers[meter], hour, amount, "late", "gateway", to_ms(gateway.clock.wall))
    insert = "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.execute(insert, row))


def ledger(gateway: SmallGateway, meter: str = "a") -> dict[int, int | None]:
    return {view.hour: view.accepted for view in gateway.hours(meter)}


def unposted(gateway: SmallGateway, meter: str = "a") -> list[tuple[int, int]]:
    return gateway.store.read(lambda db: postings.unposted(db, gateway.numbers[meter]))


@pytest.mark.parametrize("same_hour", ["sum", "replace"])
@pytest.mark.parametrize("amount", [70_000, -70_000])
def test_an_adjustment_to_an_accepted_hour_is_posted(make: Make, same_hour: str, amount: int):
    """The difference where EnerKey sums, the value that the hour shall have where it replaces."""
    gateway = make(same_hour=same_hour)
    closed_hours(gateway, EIGHT - 3, 4)
    gateway.run(1)
    adjust(gateway, EIGHT - 1, amount)
    assert gateway.hours()[2].unposted == amount
    gateway.run(3600)
    assert [item.value for item in gateway.simulator.items[4:]] == [amount if same_hour == "sum" else 500_000 + amount]
    expected = dict.fromkeys(range(EIGHT - 3, NINE), 500_000) | {EIGHT - 1: 500_000 + amount}
    assert gateway.simulator.hourly(100) == ledger(gateway) == expected
    assert set(gateway.states()) == {"accepted"}
    assert gateway.hours()[2].unposted == 0
    gateway.run(86_400)
    assert len(gateway.messages()) == 2


@pytest.mark.parametrize("same_hour", ["sum", "replace"])
def test_an_hour_that_was_never_sent_goes_with_its_adjustments_as_one_number(make: Make, same_hour: str):
    gateway = make(same_hour=same_hour)
    closed_hours(gateway, EIGHT, 1)
    adjust(gateway, EIGHT, 70_000)
    adjust(gateway, EIGHT, -20_000)
    gateway.run(2 * 3600)
    assert [item.value for item in gateway.simulator.items] == [550_000]
    assert ledger(gateway) == {EIGHT: 550_000}
    assert unposted(gateway) == []


def test_what_comes_while_its_hour_is_under_way_is_posted_after_it(make: Make):
    """R14: the message in the air is not changed, and the hour is not sent anew."""
    gateway: SmallGateway
    late = [70_000]

    def handler(request: httpx.Request) -> httpx.Response:
        if late:
            adjust(gateway, EIGHT, late.pop())
        return transport(gateway.simulator).handler(request)

    gateway = make(handler=handler)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(2 * 3600)
    assert [item.value for item in gateway.simulator.items] == [500_000, 70_000]
    assert ledger(gateway) == {EIGHT: 570_000}


@pytest.mark.parametrize("same_hour", ["sum", "replace"])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_adjustment_of_unknown_fate_is_read_back_and_counted_once(make: Make, same_hour: str, fault: str):
    """R14-R16: with new hours in the same message."""
    gateway = make(same_hour=same_hour)
    closed_hours(gateway, EIGHT - 1, 2)
    gateway.run(1)
    adjust(gateway, EIGHT, 70_000)
    adjust(gateway, EIGHT - 1, -30_000)
    closed_hours(gateway, NINE, 1)
    gateway.simulator.faults = iter([fault])
    gateway.run(3600)
    assert [state for state, _ in gateway.messages()][:2] == ["accepted", "verified"]
    assert gateway.simulator.hourly(100) == {EIGHT - 1: 470_000, EIGHT: 570_000, NINE: 500_000}
    assert ledger(gateway) == gateway.simulator.hourly(100)
    assert unposted(gateway) == []


def test_a_crash_with_an_adjustment_in_the_air_loses_and_doubles_nothing(make: Make):
    """R12: the intent holds what it takes along."""
    gateway: SmallGateway

    class PowerCut(BaseException):
        pass

    def cut(_: object) -> None:
        raise PowerCut

    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    adjust(gateway, EIGHT, 70_000)
    gateway.clock.advance(600)
    gateway.simulator.faults = cut
    with pytest.raises(PowerCut):
        gateway.run(1)
    assert gateway.states() == ["claimed"]
    gateway.simulator.faults = None
    gateway.crash()
    gateway.run(3600)
    assert gateway.simulator.hourly(100) == ledger(gateway) == {EIGHT: 570_000}


def test_an_adjustment_that_enerkey_refuses_is_held_with_its_words_and_others_go_on(make: Make):
    """An API that takes no negative values; R23."""
    gateway: SmallGateway

    def handler(request: httpx.Request) -> httpx.Response:
        if b":-" in request.read():
            return httpx.Response(400, text="value must not be negative")
        return transport(gateway.simulator).handler(request)

    gateway = make(handler=handler)
    closed_hours(gateway, EIGHT - 5, 6)
    gateway.run(1)
    for hour, amount in ((EIGHT - 5, -1000), (EIGHT - 4, 70_000), (EIGHT - 3, -2000), (EIGHT - 2, 30_000)):
        adjust(gateway, hour, amount)
    gateway.run(6 * 3600)
    assert gateway.states() == ["held", "accepted", "held", "accepted", "accepted", "accepted"]
    words = "EnerKey refused -0.001000 for 2026-03-02 03:00Z, held until somebody decides: HTTP 400: value must not be negative"
    assert ("error", "a", words) in gateway.events()
    assert gateway.simulator.hourly(100)[EIGHT - 4] == 570_000
    assert unposted(gateway) == [(EIGHT - 5, -1000), (EIGHT - 3, -2000)]


def test_a_read_back_that_does_not_fit_holds_the_hour_and_posts_nothing_more(make: Make):
    gateway: SmallGateway
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    adjust(gateway, EIGHT, 70_000)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(301)
    adjust_at_enerkey(gateway, EIGHT, "7")
    gateway.run(86_400)
    assert gateway.states() == ["held"]
    assert gateway.simulator.hourly(100) == {EIGHT: 7_570_000}


def adjust_at_enerkey(gateway: SmallGateway, hour: int, value: str) -> None:
    """Somebody else's hand."""
    body = f'[{{"timestamp":"{hour_start(hour):%Y-%m-%dT%H:%M:%SZ}","value":{value}}}]'
    url = "http://localhost/api/v2/Values/PushConsumptionsForMeter?meterId=100"
    headers = {"Authorization": "one", "Content-Type": "application/json"}
    transport(gateway.simulator).handler(httpx.Request("POST", url, headers=headers, content=body))


def test_a_device_that_is_always_late_costs_one_message_an_hour(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT - 5, 6)
    gateway.run(1)
    for minute in range(12 * 60):
        if minute % 5 == 0:
            adjust(gateway, EIGHT - minute % 3, 1000)
        gateway.run(60)
    gateway.run(3600)
    assert len(gateway.messages()) <= 1 + 13
    assert sum(gateway.simulator.hourly(100).values()) == 6 * 500_000 + 144_000


def test_what_is_smaller_than_the_last_decimal_waits_for_more(make: Make):
    """Rounding loses nothing over time."""
    gateway = make(decimals=3)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    adjust(gateway, EIGHT, 400)
    gateway.run(2 * 3600)
    assert len(gateway.messages()) == 1
    adjust(gateway, EIGHT, 400)
    gateway.run(2 * 3600)
    assert gateway.simulator.hourly(100) == {EIGHT: 501_000}
    assert sum(amount for _, amount in unposted(gateway)) == -200


def test_late_energy_of_an_interval_source_arrives_in_its_hour(make: Make):
    """R4, R16: end to end, also where nothing else of the hour came."""
    rule = Rule("interval", expected_every_ms=900_000, period_ms=900_000, stamp="end")
    gateway = make(rule=rule)
    first = hour_start(NINE - 4)
    quarters = [first + timedelta(minutes=15 * n) for n in range(1, 20)]
    late = {quarters[5], *quarters[8:12]}  # one of the second hour, all of the third
    gateway.clock.step_wall((quarters[-1] - gateway.clock.wall).total_seconds())
    gateway.deliver(*[reading("a", at, Decimal("0.25")) for at in quarters if at not in late])
    gateway.run(1800)
    before = gateway.simulator.hourly(100)
    gateway.deliver(*[reading("a", at, Decimal("0.25")) for at in sorted(late)])
    gateway.run(2 * 3600)
    assert before == {NINE - 4: 1_000_000, NINE - 3: 750_000, NINE - 1: 1_000_000}
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 4, NINE), 1_000_000)
    assert ledger(gateway) == gateway.simulator.hourly(100)


# --- cumulative meters ------------------------------------------------------------------------------------------------


def test_an_adjustment_of_a_cumulative_meter_enters_its_next_boundary(make: Make):
    """Never a second reading for one boundary; from there on the sent series stands above the register."""
    gateway = make("cumulative")
    closed_hours(gateway, EIGHT - 3, 4, ("cumulative",))
    gateway.run(1)
    adjust(gateway, EIGHT - 2, 70_000, "cumulative")
    gateway.run(600)
    assert len(gateway.messages()) == 2
    closed_more(gateway, NINE, 2, EIGHT - 3)
    gateway.run(3 * 3600)
    served = gateway.simulator.hourly(100)
    assert served == dict.fromkeys(range(EIGHT - 3, NINE + 2), 500_000) | {NINE: 570_000}
    assert ledger(gateway, "cumulative") == served
    assert unposted(gateway, "cumulative") == []
    stamps = [item.stamp for item in gateway.simulator.items]
    assert len(stamps) == len(set(stamps)) == 7


def closed_more(gateway: SmallGateway, hour: int, count: int, first: int) -> None:
    """Hours that go on from those that `closed_hours` made from `first` on."""
    rows = [(1, hour + n, 500_000, (hour + n + 1 - first) * 500_000 + 10**9) for n in range(count)]
    insert = (
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, 'measured', 0)"
    )
    gateway.store.write(lambda db: db.executemany(insert, rows))


def test_a_series_never_falls_however_much_is_taken_back(make: Make):
    """EnerKey would take it for another register: each boundary takes as much as its hour has."""
    gateway = make("cumulative")
    closed_hours(gateway, EIGHT, 1, ("cumulative",))
    gateway.run(1)
    adjust(gateway, EIGHT, -1_200_000, "cumulative")
    closed_more(gateway, NINE, 4, EIGHT)
    gateway.run(5 * 3600)
    assert gateway.simulator.hourly(100) == {
        EIGHT: 500_000, NINE: 0, NINE + 1: 0, NINE + 2: 300_000, NINE + 3: 500_000,
    }  # fmt: skip
    assert unposted(gateway, "cumulative") == []


@pytest.mark.parametrize("seed", range(6))
def test_whatever_fails_every_adjustment_counts_once(make: Make, seed: int):
    """R16: total and hours, for both families, with crashes between."""
    random = Random(seed)
    gateway = make("a", "cumulative")
    start = EIGHT - 3
    closed_hours(gateway, start, 4, ("a", "cumulative"))
    gateway.simulator.faults = random_faults(dict.fromkeys(FAULTS, 0.1), random)
    wanted = dict.fromkeys(range(start, NINE), 500_000)
    made = 0
    for n in range(12):
        rows = [(meter, NINE + n, 500_000, (NINE + n + 1 - start) * 500_000 + 10**9) for meter in (1, 2)]
        gateway.store.write(lambda db, rows=rows: db.executemany(INSERT_HOUR, rows))
        wanted[NINE + n] = wanted.get(NINE + n, 0) + 500_000
        for _ in range(random.randrange(4)):
            hour, amount = random.randrange(start, NINE + n + 2), random.randrange(-90_000, 90_000)
            for meter in ("a", "cumulative"):
                adjust(gateway, hour, amount, meter)
            wanted[hour] = wanted.get(hour, 0) + amount
            made += amount
        gateway.run(random.uniform(0, 7200))
        gateway.crash()
    gateway.simulator.faults = None
    gateway.run((hour_start(NINE + 14) - gateway.clock.wall).total_seconds() + 86_400)
    assert set(gateway.states("a")) == set(gateway.states("cumulative")) == {"accepted"}
    later = wanted.pop(NINE + 12, 0)  # of an hour that is not closed yet
    assert {hour: value for hour, value in gateway.simulator.hourly(100).items() if value} == {
        hour: value for hour, value in wanted.items() if value
    }
    assert sum(gateway.simulator.hourly(101).values()) == 16 * 500_000 + made - later
    for number, meter in enumerate(("a", "cumulative")):
        assert ledger(gateway, meter) == gateway.simulator.hourly(100 + number)


@settings(max_examples=150, deadline=None)
@given(
    consumptions=st.lists(st.integers(0, 10**7), min_size=1, max_size=20),
    adjustments=st.lists(st.tuples(st.integers(-5, 25), st.integers(-(10**8), 10**7)), max_size=8),
    decimals=st.integers(0, 6),
)
def test_the_sent_series_rises_by_the_hours_and_what_entered(
    consumptions: list[int], adjustments: list[tuple[int, int]], decimals: int
):
    """R7: nothing is lost to rounding, and nothing enters before its hour."""
    boundary, rows = 10**9, []
    for hour, consumption in enumerate(consumptions):
        boundary += consumption
        rows.append(PendingHour(hour, consumption, boundary))
    draft = cumulative_items(rows, {-1}, first=False, decimals=decimals, unposted=sorted(adjustments))
    numbers = [value for _, value in draft.items]
    assert numbers == sorted(numbers)
    step = 10 ** (6 - decimals)
    assert abs(sum(draft.values.values()) - sum(consumptions) - sum(draft.adjusted.values())) <= step
    for hour in range(len(consumptions)):
        there = sum(amount for of, amount in adjustments if of <= hour)
        entered = sum(amount for of, amount in draft.adjusted.items() if of <= hour)
        assert entered == there or (entered > there and draft.adjusted.get(hour, 0) <= 0)


@settings(max_examples=200, deadline=None)
@given(amount=st.integers(-100, 100), fitting=st.dictionaries(st.integers(1, 9), st.integers(-50, 50), min_size=1))
def test_what_is_taken_of_several_adjustments_is_the_whole_amount(amount: int, fitting: dict[int, int]):
    """And where it is all of them, each is taken completely."""
    parts = postings._divided(amount, fitting)
    assert sum(parts.values()) == amount
    if amount == sum(fitting.values()):
        assert parts == {number: rest for number, rest in fitting.items() if rest} or parts == fitting


def test_an_adjustment_before_the_first_message_goes_with_the_first_boundary(make: Make):
    gateway = make("cumulative")
    closed_hours(gateway, EIGHT - 1, 2, ("cumulative",))
    adjust(gateway, EIGHT - 1, 70_000, "cumulative")
    gateway.run(1)
    assert gateway.simulator.hourly(100) == {EIGHT - 1: 570_000, EIGHT: 500_000}
    assert [hour_number(item.stamp) for item in gateway.simulator.items] == [EIGHT - 1, EIGHT, NINE]
