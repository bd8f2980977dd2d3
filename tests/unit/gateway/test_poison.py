"""An hour that EnerKey refuses is found among the others and held; everything else goes on (R17, R23)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from buffer.model import EPOCH, hour_start
from gateway.enerkey.models import stamp
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.uploader import MOST_REFUSALS, PARKED
from tests.fakes.clock import START, FakeClock
from tests.fakes.picky_enerkey import WORDS, PickyEnerkey
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours, hour_number

NINE = (START - EPOCH) // timedelta(hours=1)
YEAR = 8760


@pytest.fixture
def make(make: Make) -> Callable[..., tuple[SmallGateway, PickyEnerkey]]:
    """With an EnerKey that refuses `bad`: hours since the epoch of the first meter."""

    def build(
        *meters: str, bad: Sequence[int], whole: bool = True, told: bool = False, **settings
    ) -> tuple[SmallGateway, PickyEnerkey]:
        """`told`: the gateway knows whether a refusal is a whole one."""
        servers: list[PickyEnerkey] = []
        shift = 1 if "cumulative" in meters[0] else 0

        def answering(simulator: EnerkeySimulator) -> PickyEnerkey:
            servers.append(PickyEnerkey(simulator, [stamp(hour_start(hour + shift)) for hour in bad], 100, whole=whole))
            return servers[0]

        return make(*meters, answering=answering, whole_refusals=told, **settings), servers[0]

    return build


def held(gateway: SmallGateway, meter: str = "a") -> list[int]:
    return [view.hour for view in gateway.hours(meter) if view.state == "held"]


@pytest.mark.parametrize(
    ("place", "whole", "told"),
    [(0, True, False), (0, False, False), (5461, True, True), (8759, True, True), (8759, False, False)],
)
def test_one_bad_hour_in_a_year_is_found_with_thirty_requests(make: Make, place: int, whole: bool, told: bool):
    """R23: also where a refused message has applied its other hours, or where nobody knows."""
    bad = NINE - YEAR + place
    gateway, server = make("a", bad=[bad], whole=whole, told=told, most_hours=YEAR)
    closed_hours(gateway, NINE - YEAR, YEAR)
    gateway.run(20 * 700)
    assert len(server.sizes) + server.reads <= 30
    assert held(gateway) == [bad]
    assert gateway.simulator.hourly(100) == {hour: 500_000 for hour in range(NINE - YEAR, NINE) if hour != bad}
    assert [state for state in gateway.states() if state != "accepted"] == ["held"]


@pytest.mark.parametrize("told", [True, False])
def test_several_bad_hours_are_each_found(make: Make, told: bool):
    bad = [NINE - 700, NINE - 699, NINE - 350, NINE - 1]
    gateway, _ = make("a", bad=bad, told=told)
    closed_hours(gateway, NINE - 744, 744)
    gateway.run(100 * 700)
    assert held(gateway) == bad
    assert len(gateway.simulator.hourly(100)) == 740
    assert set(gateway.simulator.hourly(100).values()) == {500_000}


def test_a_held_hour_is_told_with_its_value_and_the_servers_words(make: Make):
    gateway, _ = make("a", bad=[NINE - 2], told=True)
    closed_hours(gateway, NINE - 3, 3)
    gateway.run(1)
    words = f"EnerKey refused 0.500000 for 2026-03-02 07:00Z, held until somebody decides: HTTP 400: {WORDS}"
    assert [event for event in gateway.events() if event[0] != "info"] == [("error", "a", words)]
    gateway.run(2 * 86_400)
    assert held(gateway) == [NINE - 2]  # nobody tries again by himself


def test_the_other_meters_do_not_wait_for_the_search(make: Make):
    """R23: with one refused message resting, all others go in the same second."""
    gateway, _ = make("a", "b", "cumulative", bad=[NINE - 5])
    closed_hours(gateway, NINE - 24, 24, ("a", "b", "cumulative"))
    gateway.run(1)
    assert set(gateway.states("b")) == set(gateway.states("cumulative")) == {"accepted"}
    assert set(gateway.states("a")) == {"claimed"}


def test_new_hours_of_the_same_meter_go_between_the_steps_of_the_search(make: Make):
    """They were not in the refused message, so they do not wait for the end of the search."""
    gateway, server = make("a", bad=[NINE - 744])
    closed_hours(gateway, NINE - 744, 744)
    gateway.run(300)
    closed_hours(gateway, NINE, 1)
    gateway.run(700)
    assert held(gateway) == []
    assert NINE in gateway.simulator.hourly(100)
    assert server.sizes[:3] == [744, 1, 372]


def test_a_search_survives_a_restart(make: Make):
    """A gateway that is killed again and again must still come to the end of it."""
    gateway, server = make("a", bad=[NINE - 300], told=True)
    closed_hours(gateway, NINE - 744, 744)
    for _ in range(12):
        gateway.uploader.step(gateway.clock.now())
        gateway.crash()
    gateway.run(1)
    assert held(gateway) == [NINE - 300]
    assert len(server.sizes) <= 15


def test_a_lost_answer_in_the_search_loses_and_doubles_nothing(make: Make):
    gateway, _ = make("a", bad=[NINE - 30], whole=False)
    chance = iter(["lost-answer", None, "lost-request", "500-after", None] * 10)
    gateway.simulator.faults = chance
    closed_hours(gateway, NINE - 48, 48)
    gateway.run(86_400)
    assert held(gateway) == [NINE - 30]
    assert gateway.simulator.hourly(100) == {hour: 500_000 for hour in range(NINE - 48, NINE) if hour != NINE - 30}


@pytest.mark.parametrize("told", [True, False])
def test_boundaries_before_a_refused_one_go_and_later_ones_wait(make: Make, told: bool):
    """A boundary left out would make EnerKey derive one number for two hours, with energy in the wrong one."""
    gateway, _ = make("cumulative", bad=[NINE - 10], told=told)
    closed_hours(gateway, NINE - 48, 48, ("cumulative",))
    gateway.run(12 * 3600)
    assert held(gateway, "cumulative") == [NINE - 10]
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 48, NINE - 10), 500_000)
    assert set(gateway.states("cumulative")[39:]) == {"pending"}
    stamps = [hour_number(item.stamp) for item in gateway.simulator.items]
    assert len(stamps) == len(set(stamps))  # never two readings for one boundary
    closed_hours(gateway, NINE, 3, ("cumulative",))
    gateway.run(86_400)
    assert set(gateway.states("cumulative")[39:]) == {"pending"}


def test_where_every_hour_is_refused_the_meter_rests_for_a_day(make: Make):
    """Then it is not the hours: a wrong unit, a meter of another kind."""
    gateway, server = make("a", "b", bad=range(NINE - 744, NINE), told=True)
    closed_hours(gateway, NINE - 744, 744, ("a", "b"))
    gateway.run(PARKED - 60)
    assert len(server.sizes) == MOST_REFUSALS
    assert gateway.uploader.snapshot()["parked"] == ["a"]
    assert set(gateway.states("b")) == {"accepted"}


@pytest.mark.parametrize("status", [405, 415])
def test_an_endpoint_that_is_not_there_holds_no_hour(tmp_path: Path, status: int):
    """The path or form in [enerkey.contract] is wrong: with another one the same hours go."""
    clock = FakeClock()
    simulator = EnerkeySimulator(now=lambda: clock.wall)
    gateway = SmallGateway(tmp_path, clock, simulator, handler=lambda _: httpx.Response(status))
    closed_hours(gateway, NINE - 3, 3)
    gateway.run(3600)
    assert gateway.states() == ["pending"] * 3
    assert len(gateway.messages()) == 1
    assert gateway.uploader.snapshot()["parked"] == ["a"]
    gateway.close()
    simulator.close()
