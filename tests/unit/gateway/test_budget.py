"""Requests are few, in their turn, and never more than allowed (R22, R23)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from buffer.model import EPOCH, hour_start
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours, hour_number

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1


class Log:
    """An EnerKey that notes when it was asked for what."""

    def __init__(self, simulator: EnerkeySimulator, clock: FakeClock) -> None:
        self.asked: list[tuple[float, str, int]] = []  # boottime, method, meter
        self._clock, self._serve = clock, transport(simulator).handler
        self.takes = 0.0  # s for an answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((self._clock.boottime, request.method, int(request.url.params["meterId"])))
        self._clock.advance(self.takes)
        return self._serve(request)


@pytest.fixture
def make(make: Make) -> Callable[..., tuple[SmallGateway, Log]]:
    """With what its EnerKey was asked."""

    def build(*meters: str, **settings) -> tuple[SmallGateway, Log]:
        logs: list[Log] = []
        clock = FakeClock()

        def answering(simulator: EnerkeySimulator) -> Log:
            logs.append(Log(simulator, clock))
            return logs[0]

        return make(*meters, clock=clock, answering=answering, **settings), logs[0]

    return build


@pytest.mark.parametrize(("burst", "seconds"), [((20, 10.0), 20.0), ((3, 60.0), 1020.0)])
def test_no_burst_is_larger_than_allowed(make: Make, burst: tuple[int, float], seconds: float):
    """50 meters at the full hour: as fast as the burst limit lets them, and no faster."""
    names = [f"m{number}" for number in range(50)]
    gateway, log = make(*names, burst=burst)
    closed_hours(gateway, EIGHT, 1, names)
    gateway.run(seconds)
    times = [at for at, _, _ in log.asked]
    assert len(times) == 50
    most, within = burst
    assert all(later - earlier >= within for earlier, later in zip(times, times[most:], strict=False))


def test_read_backs_count_in_the_burst(make: Make):
    gateway, log = make("a", "b", burst=(1, 100.0), settle=50.0)
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(500)
    assert [method for _, method, _ in log.asked] == ["POST", "GET", "POST"]
    assert all(later[0] - earlier[0] >= 100 for earlier, later in zip(log.asked, log.asked[1:], strict=False))


def test_live_hours_do_not_wait_for_the_backlog_of_others(make: Make):
    """And the backlog goes on meanwhile: one push of four."""
    backlog, live = ["cumulative-old-a", "cumulative-old-b"], [f"live-{number}" for number in range(9)]
    gateway, log = make(*backlog, *live, most_hours=24)
    closed_hours(gateway, NINE - 240, 200, backlog)
    closed_hours(gateway, EIGHT, 1, live)
    gateway.run(60)
    order = ["old" if meter < 102 else "live" for _, method, meter in log.asked if method == "POST"]
    assert order[:12] == ["live", "live", "live", "old"] * 3
    assert set(order[12:]) == {"old"}


def test_a_backlog_of_consumptions_goes_newest_first(make: Make):
    """The present hour never waits for the past; every hour arrives once."""
    gateway, _ = make("a", most_hours=48)
    closed_hours(gateway, NINE - 120, 120)
    gateway.run(1)
    firsts = [hour_number(push.items[0].stamp) for push in gateway.simulator.pushes]
    assert firsts == [NINE - 48, NINE - 96, NINE - 120]
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 120, NINE), 500_000)


def test_a_backlog_of_boundaries_goes_oldest_first(make: Make):
    gateway, _ = make("cumulative", most_hours=48)
    closed_hours(gateway, NINE - 120, 120, ("cumulative",))
    gateway.run(1)
    stamps = [item.stamp for item in gateway.simulator.items]
    assert stamps == sorted(stamps)
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 120, NINE), 500_000)


def test_nobody_starves_where_the_budget_is_short(make: Make):
    """R22, R23: with a share far too small everybody has his turn, and nobody many more than another."""
    names = [f"m{number}" for number in range(10)]
    gateway, log = make(*names, requests_per_day=6)
    for day in range(5):
        closed_hours(gateway, NINE - 24 + 24 * day, 24, names)
        gateway.run(86_400)
    counts = Counter(meter for _, method, meter in log.asked if method == "POST")
    assert counts.total() >= 25
    assert min(counts[100 + number] for number in range(10)) >= counts.total() // 10 - 1


def test_too_many_meters_for_the_day_are_pushed_less_often(make: Make):
    """Every 2 h at even hours of UTC, with both hours in one message."""
    names = [f"m{number}" for number in range(5)]
    gateway, log = make(*names, requests_per_day=100)
    for hour in range(NINE, NINE + 7):
        gateway.run((hour_start(hour + 1) - gateway.clock.wall).total_seconds())
        closed_hours(gateway, hour, 1, names)
    gateway.run(60)
    hours = [(at - log.asked[0][0]) / 3600 for at, _, meter in log.asked if meter == 100]
    assert hours == pytest.approx([0, 2, 4], abs=0.02)
    assert gateway.uploader.snapshot()["cadence_hours"] == 2


def test_the_servers_count_is_kept_between_its_words(make: Make):
    """R22: where an answer does not tell what is left, the last word less what was asked since counts."""
    gateway: SmallGateway
    told = iter(["105"])

    def handler(_: httpx.Request) -> httpx.Response:
        word = next(told, None)
        return httpx.Response(200, headers={"X-Rate-Limit": word} if word else {})

    names = [f"m{number}" for number in range(10)]
    gateway, _ = make(*names, requests_per_day=10_000)
    gateway.close()
    gateway._transport = httpx.MockTransport(handler)
    gateway.open()
    closed_hours(gateway, EIGHT, 1, names)
    gateway.run(60)
    assert len(gateway.messages()) == 6  # down to 100, the hundredth of the share that is left to others


def test_after_an_outage_one_request_goes_first_and_the_rest_follow_slowly(make: Make):
    """Reliability 3.7: 40 meters wait, and the server that has just come back is asked once, then in growing numbers."""
    names = [f"m{number}" for number in range(40)]
    gateway, log = make(*names)
    serve, down = log._serve, True

    def fails_at_first(request: httpx.Request) -> httpx.Response:
        if down:
            raise httpx.ConnectError("no line", request=request)
        return serve(request)

    log._serve = fails_at_first
    closed_hours(gateway, EIGHT, 1, names)
    gateway.run(3600)
    assert gateway.uploader.snapshot()["outage"]
    down, log.asked = False, []
    gateway.run(900)
    times = [at - log.asked[0][0] for at, _, _ in log.asked]
    assert times[:6] == pytest.approx([0, 30, 45, 52.5, 56.25, 58.125])
    assert times[6] - times[5] < 1
    assert gateway.states("m39") == ["accepted"]
    assert not gateway.uploader.snapshot()["recovering"]


def test_after_a_429_of_the_day_the_backlog_gives_way_and_live_hours_go_at_a_longer_cadence(make: Make):
    """Reliability 3.7: the share is halved; what fits it goes on, and `status` shows both numbers."""
    gateway, log = make("cumulative-old", "live", requests_per_day=80, most_hours=24)
    closed_hours(gateway, NINE - 24 * 90, 24 * 89, ("cumulative-old",))
    gateway.run(5)
    assert gateway.uploader.snapshot()["budget"] == {
        "share": 80, "in_use": 80, "spent": 20, "remaining": 39_980, "reserved_for_reads": 8,
    }  # fmt: skip
    serve = log._serve
    log._serve = lambda _: httpx.Response(429, headers={"Retry-After": "60"})
    closed_hours(gateway, EIGHT, 1, ("live",))
    gateway.run(30)
    assert gateway.uploader.snapshot()["cadence_hours"] == 2
    assert gateway.uploader.snapshot()["budget"]["in_use"] == 40
    log._serve, log.asked = serve, []
    gateway.run(7200)
    assert [meter for _, _, meter in log.asked] == [101]
    assert gateway.states("live") == ["accepted"]


def test_the_backlog_leaves_a_day_of_live_hours_their_requests_also_after_a_restart(make: Make):
    """Reliability 3.7: of 80 a day 8 are for reads and 48 for two meters' hours; what was spent is in the journal."""
    gateway, _ = make("cumulative-old", "live", requests_per_day=80, most_hours=24)
    closed_hours(gateway, NINE - 24 * 90, 24 * 89, ("cumulative-old",))
    gateway.run(600)
    assert len(gateway.simulator.pushes) == 24
    gateway.crash()
    gateway.run(600)
    assert len(gateway.simulator.pushes) == 24
    closed_hours(gateway, EIGHT, 1, ("live",))
    gateway.run(60)
    assert gateway.states("live") == ["accepted"]
    gateway.run(86_400)
    assert len(gateway.simulator.pushes) == 49


def test_a_burst_limit_lower_than_ours_is_learned(make: Make):
    """The server takes 12 in 10 s; we begin with 20, and after its 429 keep to half of that."""
    names = [f"m{number}" for number in range(60)]
    gateway, log = make(*names)
    gateway.simulator.burst = (12, 10.0)
    answers: list[int] = []
    serve = log._serve

    def noted(request: httpx.Request) -> httpx.Response:
        response = serve(request)
        answers.append(response.status_code)
        return response

    log._serve = noted
    closed_hours(gateway, EIGHT, 1, names)
    gateway.run(300)
    assert answers.count(429) == 1
    assert answers.count(200) == 60
    assert gateway.uploader.snapshot()["budget"]["in_use"] == 40_000
