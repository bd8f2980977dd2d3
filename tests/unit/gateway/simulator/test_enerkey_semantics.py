"""What no public page tells of EnerKey, knob by knob: the probe and the simulation turn each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from buffer.model import hour_of, to_ms
from gateway.simulator.books import SameHour
from gateway.simulator.enerkey import EnerkeySimulator, Fault
from gateway.simulator.http import Request, Response

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = hour_of(to_ms(datetime(2026, 3, 2, 10, tzinfo=UTC)))
ONE = 1_000_000
CONSUMPTIONS, READINGS = "PushConsumptionsForMeter", "PushCumulativeReadingsForMeter"
Make = Callable[..., EnerkeySimulator]


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **how: float) -> None:
        self.now += timedelta(**how)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def make(time: Time) -> Iterator[Make]:
    """Makes simulators that live by `time` and are closed after the test."""
    made: list[EnerkeySimulator] = []

    def make(**kwargs) -> EnerkeySimulator:
        made.append(EnerkeySimulator(now=time, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def push(*items: tuple[int, object], what: str = CONSUMPTIONS, key: str = "k") -> Request:
    """A message of meter 7: (hour of the day, value)."""
    body = json.dumps([{"timestamp": f"2026-03-02T{hour:02}:00:00Z", "value": value} for hour, value in items])
    headers = {"authorization": key, "content-type": "application/json"}
    return Request("POST", f"/api/v2/Values/{what}?meterId=7", headers, body.encode())


def read_back(simulator: EnerkeySimulator, key: str = "k") -> dict[str, float]:
    target = "/api/v2/Values/Hourly?meterId=7&from=2026-03-02T00:00:00Z&to=2026-03-02T23:00:00Z"
    answer = simulator.handle(Request("GET", target, {"authorization": key}))
    return {row["timestamp"][11:13]: row["value"] for row in json.loads(answer.body)}


def status(response: Response | None) -> int | None:
    return response.status if response else None


# --- a second value of an hour ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("same_hour", "found"), [("sum", 3.5), ("replace", 2.5), ("first-wins", 1)])
@pytest.mark.parametrize("together", [True, False])
def test_a_second_value_of_an_hour_is_summed_replaces_or_is_ignored(
    make: Make, same_hour: SameHour, found: float, together: bool
):
    """Within one message and over two."""
    simulator = make(same_hour=same_hour)
    values = [(10, 1), (10, 2.5)]
    for items in [values] if together else [[each] for each in values]:
        assert status(simulator.handle(push(*items))) == 200
    assert read_back(simulator) == {"10": found}


def test_the_first_reading_of_a_boundary_may_win(make: Make):
    """Cumulative readings follow the same rule as consumptions."""
    simulator = make(same_hour="first-wins")
    simulator.handle(push((10, 100), (11, 101), what=READINGS))
    simulator.handle(push((11, 105), what=READINGS))
    assert read_back(simulator) == {"10": 1}


@pytest.mark.parametrize(("hour_stamp", "found"), [("start", {"10": 1, "11": 4}), ("end", {"09": 1, "10": 2, "11": 2})])
def test_a_consumption_is_stamped_with_the_start_or_the_end_of_its_hour(make: Make, hour_stamp: str, found: dict):
    """Half past is the same hour for both; readings have an instant and not an hour."""
    simulator = make()
    simulator.hour_stamp = hour_stamp
    message = push((10, 1), (11, 2))
    halves = Request(
        message.method, message.target, message.headers, push((11, 2)).body.replace(b":00:00Z", b":30:00Z")
    )
    simulator.handle(message)
    simulator.handle(halves)
    assert read_back(simulator) == found
    readings = push((10, 5), (11, 7), what=READINGS)
    simulator.handle(Request("POST", readings.target.replace("=7", "=9"), readings.headers, readings.body))
    assert simulator.hourly(9) == {HOUR: 2 * ONE}


# --- read-back that lags ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [CONSUMPTIONS, READINGS])
def test_a_read_back_shows_a_push_only_after_the_lag(make: Make, time: Time, what: str):
    """What is booked already is not shown yet."""
    simulator = make()
    simulator.lag = 600.0
    simulator.handle(push((9, 5), (10, 7), what=what))
    time.pass_(seconds=599)
    assert read_back(simulator) == {}
    assert simulator.hourly(7) != {}
    time.pass_(seconds=1)
    assert read_back(simulator) == ({"09": 5, "10": 7} if what == CONSUMPTIONS else {"09": 2})


def test_pushes_come_to_light_one_by_one_and_once(make: Make, time: Time):
    """Each push is added to what is shown when its own lag is over, however often it is asked."""
    simulator = make()
    simulator.lag = 600.0
    simulator.handle(push((10, 1)))
    time.pass_(seconds=300)
    simulator.handle(push((10, 2)))
    time.pass_(seconds=300)
    assert [read_back(simulator)["10"] for _ in range(3)] == [1, 1, 1]
    time.pass_(seconds=300)
    assert [read_back(simulator)["10"] for _ in range(3)] == [3, 3, 3]


def test_a_restart_neither_forgets_nor_repeats_what_was_shown(make: Make, time: Time, tmp_path):
    """The file knows how far the lag has come."""
    first = make(store=tmp_path / "enerkey.db")
    first.lag = 60.0
    first.handle(push((10, 1)))
    time.pass_(seconds=60)
    assert read_back(first) == {"10": 1}
    first.close()
    second = make(store=tmp_path / "enerkey.db")
    second.lag = 60.0
    assert read_back(second) == {"10": 1}


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decimals", "found"), [(6, 1.123456), (3, 1.123), (0, 1)])
def test_a_value_is_kept_with_so_many_decimals(make: Make, decimals: int, found: float):
    """Rounded half up, as each value arrives."""
    simulator = make()
    simulator.decimals = decimals
    simulator.handle(push((10, 1.123456)))
    assert read_back(simulator) == {"10": found}


def test_rounding_happens_before_summing(make: Make):
    """Two values that round down stay rounded down."""
    simulator = make()
    simulator.decimals = 0
    simulator.handle(push((10, 1.4), (10, 1.4)))
    assert read_back(simulator) == {"10": 2}


# --- a bad item among good ones ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["text", None, 1e30])
@pytest.mark.parametrize(("partial", "found"), [(False, {}), (True, {"08": 1, "10": 3})])
def test_a_400_applies_nothing_or_the_good_items(make: Make, bad: object, partial: bool, found: dict):
    """The answer is the same and names the bad item."""
    simulator = make()
    simulator.partial = partial
    answer = simulator.handle(push((8, 1), (9, bad), (10, 3)))
    assert status(answer) == 400
    assert "item 2" in json.loads(answer.body)["message"]
    assert read_back(simulator) == found


@pytest.mark.parametrize(("partial", "found"), [(False, {}), (True, {"08": 1, "10": 3})])
def test_items_may_be_refused_for_what_they_are(make: Make, partial: bool, found: dict):
    """Poison: valid, and refused every time, with words of the server's own."""
    simulator = make()
    simulator.partial = partial
    simulator.refuses = lambda item: "too much" if item.value > 100 * ONE else None
    answer = simulator.handle(push((8, 1), (9, 101), (10, 3)))
    assert (status(answer), json.loads(answer.body)["message"]) == (400, "2026-03-02T09:00:00+00:00: too much")
    assert read_back(simulator) == found


def test_a_message_of_bad_items_only_applies_nothing(make: Make):
    """Also where good items would be applied."""
    simulator = make()
    simulator.partial = True
    simulator.refuses = lambda item: "no"
    assert status(simulator.handle(push((8, 1)))) == 400
    assert simulator.pushes == []


# --- keys and limits --------------------------------------------------------------------------------------------------


def test_a_key_is_refused_from_the_moment_it_expires(make: Make, time: Time):
    """The other key goes on."""
    simulator = make(keys=["k", "new"])
    simulator.expires = {"k": NOW + timedelta(seconds=3599.5)}
    time.pass_(seconds=3599)
    assert status(simulator.handle(push((10, 1)))) == 200
    time.pass_(seconds=1)
    assert status(simulator.handle(push((10, 1)))) == 401
    assert status(simulator.handle(push((10, 1), key="new"))) == 200
    assert simulator.hourly(7) == {HOUR: 2 * ONE}


def test_a_burst_is_refused_until_its_seconds_are_over(make: Make, time: Time):
    """Retry-After is just long enough, and what was refused does not count."""
    simulator = make()
    simulator.burst = (2, 10.0)
    assert [status(simulator.handle(push((10, 1)))) for _ in range(4)] == [200, 200, 429, 429]
    time.pass_(seconds=4)
    refused = simulator.handle(push((10, 1)))
    assert refused.headers["Retry-After"] == "6"
    time.pass_(seconds=6)
    assert status(simulator.handle(push((10, 1)))) == 200
    assert simulator.requests() == 3


def test_a_body_that_is_too_large_is_refused_whole(make: Make):
    """413, nothing applied; half of it may go."""
    simulator = make()
    whole = push((9, 1), (10, 1))
    simulator.largest_body = len(whole.body) - 1
    assert status(simulator.handle(whole)) == 413
    assert status(simulator.handle(push((9, 1)))) == 200
    assert simulator.hourly(7) == {HOUR - 1: ONE}


# --- delivery that goes wrong -----------------------------------------------------------------------------------------


def test_a_request_may_be_delivered_twice(make: Make):
    """The client sees one answer, the books two pushes."""
    simulator = make()
    faults: list[Fault | None] = ["duplicate"]
    simulator.faults = iter(faults)
    assert status(simulator.handle(push((10, 1)))) == 200
    assert simulator.hourly(7) == {HOUR: 2 * ONE}
    assert (len(simulator.pushes), simulator.requests()) == (2, 2)


@pytest.mark.parametrize("by_asking", [True, False])
def test_a_zombie_is_carried_out_minutes_after_the_client_gave_up(make: Make, time: Time, by_asking: bool):
    """It is in the books from its moment on, whoever looks first, and carries that moment's time."""
    simulator = make()
    simulator.zombie_after = 200.0
    faults: list[Fault | None] = ["zombie"]
    simulator.faults = iter(faults)
    assert simulator.handle(push((10, 1))) is None
    time.pass_(seconds=199)
    assert read_back(simulator) == {}
    assert simulator.pushes == []
    time.pass_(seconds=50)
    if by_asking:
        assert read_back(simulator) == {"10": 1}
    assert simulator.hourly(7) == {HOUR: ONE}
    assert [each.at for each in simulator.pushes] == [NOW + timedelta(seconds=200)]
    time.pass_(seconds=5000)
    assert simulator.hourly(7) == {HOUR: ONE}


def test_zombies_rise_in_the_order_of_their_moments(make: Make, time: Time):
    """On a server that replaces, the later one wins."""
    simulator = make(same_hour="replace")
    faults: list[Fault | None] = ["zombie", "zombie"]
    simulator.faults = iter(faults)
    simulator.zombie_after = 300.0
    simulator.handle(push((10, 1)))
    simulator.zombie_after = 100.0
    simulator.handle(push((10, 2)))
    time.pass_(seconds=1000)
    assert read_back(simulator) == {"10": 1}
