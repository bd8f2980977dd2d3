"""What no public page tells of EnerKey and only a probe asks for: more of the simulator's knobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from buffer.model import hour_of, hour_start, to_ms
from gateway.enerkey.contract import Contract
from gateway.enerkey.models import stamp, written_body
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import Request
from gateway.simulator.pushed import Manner

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = hour_of(to_ms(datetime(2026, 3, 2, 6, tzinfo=UTC)))
ONE = 1_000_000
CONSUMPTIONS, READINGS = "PushConsumptionsForMeter", "PushCumulativeReadingsForMeter"
Make = Callable[..., EnerkeySimulator]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes simulators that are closed after the test."""
    made: list[EnerkeySimulator] = []

    def make(**kwargs) -> EnerkeySimulator:
        made.append(EnerkeySimulator(now=lambda: NOW, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def post(server: EnerkeySimulator, body: bytes, family: str = CONSUMPTIONS) -> int:
    """The status that a message of meter 7 gets."""
    headers = {"authorization": "k", "content-type": "application/json"}
    response = server.handle(Request("POST", f"/api/v2/Values/{family}?meterId=7", headers, body))
    assert response is not None
    return response.status


def push(server: EnerkeySimulator, *values: str, hour: int = HOUR, family: str = CONSUMPTIONS) -> int:
    """The same for values of one hour."""
    return post(server, written_body(Contract(), 7, [(stamp(hour_start(hour)), value) for value in values]), family)


def hours(server: EnerkeySimulator) -> dict[int, int]:
    return server.hourly(7)


def test_a_second_value_may_be_refused(make: Make):
    """Also within one message."""
    server = make(same_hour="reject")
    assert push(server, "1") == 200
    assert push(server, "2") == 400
    assert push(server, "3", "4", hour=HOUR - 5) == 400
    assert hours(server) == {HOUR: ONE}


def test_a_negative_consumption_may_be_refused(make: Make):
    """Readings are another matter."""
    server = make()
    server.negatives = False
    assert push(server, "-1") == 400
    assert hours(server) == {}


def test_hours_of_one_local_name_may_be_one(make: Make):
    """On the day of the change two hours are called 03:00 in Finland."""
    server = make()
    server.rules.zone = ZoneInfo("Europe/Helsinki")
    first = hour_of(to_ms(datetime(2025, 10, 26, 0, tzinfo=UTC)))
    assert (
        push(server, "1", hour=first) == push(server, "2", hour=first + 1) == push(server, "4", hour=first + 2) == 200
    )
    assert hours(server) == {first: 3 * ONE, first + 2: 4 * ONE}


@pytest.mark.parametrize(("ahead", "status"), [(1, 400), (100, 200)])
def test_how_far_ahead_an_hour_may_be_is_a_knob(make: Make, ahead: int, status: int):
    """An hour ahead, by default."""
    server = make()
    server.manner = Manner(ahead=timedelta(hours=ahead))
    assert push(server, "1", hour=HOUR + 50) == status


def test_an_offset_may_go_unheard(make: Make):
    """The digits are then taken as UTC."""
    server = make()
    server.manner = Manner(offsets=False)
    body = b'[{"timestamp":"2026-03-02T06:00:00+02:00","value":1}]'
    assert post(server, body) == 200
    assert hours(server) == {HOUR: ONE}


def test_the_limit_may_go_untold_and_reads_may_be_free(make: Make):
    """What the public page says of X-Rate-Limit is one copy of it."""
    server = make()
    server.tells_limit, server.counts_reads = False, False
    response = server.handle(Request("GET", "/", {"authorization": "k"}))
    assert response is not None
    assert "X-Rate-Limit" not in response.headers
    assert server.requests() == 0
    assert push(server, "1") == 200
    assert server.requests() == 1


@pytest.mark.parametrize(
    ("rule", "status", "found"),
    [
        ("placed", 200, {HOUR: ONE, HOUR + 1: 3 * ONE}),
        ("ignored", 200, {HOUR: 2 * ONE, HOUR + 1: 2 * ONE}),
        ("refused", 400, {HOUR: 2 * ONE, HOUR + 1: 2 * ONE}),
    ],
)
def test_an_older_reading_is_placed_ignored_or_refused(make: Make, rule, status, found):
    """One between two that are there."""
    server = make()
    server.older_reading = rule
    assert push(server, "10", family=READINGS) == push(server, "14", family=READINGS, hour=HOUR + 2) == 200
    assert push(server, "11", family=READINGS, hour=HOUR + 1) == status
    assert hours(server) == found


@pytest.mark.parametrize(
    ("rule", "status", "found"), [("negative", 200, {HOUR: -3 * ONE}), ("nothing", 200, {}), ("refused", 400, {})]
)
def test_a_lower_reading_is_negative_nothing_or_refused(make: Make, rule, status, found):
    """A register that fell."""
    server = make()
    server.rules.lower_reading = rule
    assert push(server, "10", family=READINGS) == 200
    assert push(server, "7", family=READINGS, hour=HOUR + 1) == status
    assert hours(server) == found


def test_a_second_reading_has_a_rule_of_its_own(make: Make):
    """Summing consumptions says nothing of readings."""
    server = make(same_hour="sum")
    server.rules.same_reading = "replace"
    for value, hour in (("10", HOUR), ("11", HOUR + 1), ("11", HOUR + 1)):
        assert push(server, value, family=READINGS, hour=hour) == 200
    assert hours(server) == {HOUR: ONE}
