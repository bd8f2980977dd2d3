"""Boundaries that EnerKey has and the database does not know are neither sent again nor continued blindly (R19)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from buffer.hours import Rule
from buffer.model import EPOCH
from gateway import boundaries
from tests.fakes.clock import START
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours

NINE = (START - EPOCH) // timedelta(hours=1)
INTERVAL = Rule("interval", expected_every_ms=900_000, period_ms=900_000, stamp="end")


@pytest.fixture
def make(make: Make) -> Make:
    """Of one meter, which is read before it sends."""

    def build(meter: str, rule: Rule | None = None) -> SmallGateway:
        rules = {} if rule is None else {meter: rule}
        return make(meter, rule_of=rules, looked=False, old_hours=6)

    return build


def empty(gateway: SmallGateway) -> None:
    """The card is replaced by an empty one."""
    gateway.close()
    for file in gateway.directory.iterdir():
        file.unlink()
    gateway.open()


@pytest.mark.parametrize("meter", ["a", "cumulative"])
def test_an_hour_that_is_closed_after_the_look_is_looked_for_as_well(make: Make, meter: str):
    """R19: an empty database fills up again in pieces, and everything that ended before it began may be there."""
    gateway = make(meter)
    closed_hours(gateway, NINE - 5, 5, (meter,))
    gateway.run(10)
    before = gateway.simulator.hourly(100)
    empty(gateway)
    closed_hours(gateway, NINE - 5, 2, (meter,))
    gateway.run(120)
    rest = [
        (gateway.numbers[meter], NINE - 5 + n, 500_000, (n + 1) * 500_000 + 10**9, "measured", 0) for n in (2, 3, 4)
    ]
    insert = "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.executemany(insert, rest))
    gateway.run(120)
    assert gateway.simulator.hourly(100) == before
    assert gateway.states(meter) == ["accepted"] * 5
    assert gateway.messages() == []


def test_a_boundary_that_is_there_is_not_sent_again_as_the_opening_of_an_empty_database(make: Make):
    """R19: the hour before the first one ends with it."""
    gateway = make("cumulative")
    closed_hours(gateway, NINE - 3, 2, ("cumulative",))
    gateway.run(10)
    before = len(gateway.simulator.items)
    empty(gateway)
    closed_hours(gateway, NINE - 1, 1, ("cumulative",))
    gateway.run(120)
    assert len(gateway.simulator.items) == before
    assert gateway.states("cumulative") == ["held"]


def test_a_running_total_that_began_anew_is_not_sent_after_the_old_one(make: Make):
    """R19: EnerKey would see it fall, and nobody here knows where it stood."""
    gateway = make("cumulative", INTERVAL)
    closed_hours(gateway, NINE - 8, 5, ("cumulative",))
    gateway.run(10)
    before = len(gateway.simulator.items)
    empty(gateway)
    closed_hours(gateway, NINE - 1, 1, ("cumulative",))
    gateway.run(120)
    assert len(gateway.simulator.items) == before
    assert gateway.states("cumulative") == ["held"]
    assert [level for level, subject, _ in gateway.events() if subject == "cumulative"] == ["warning"]


def test_a_running_total_whose_hours_are_all_there_is_not_continued_either(make: Make):
    """R19: the hours are the same; the level is not known."""
    gateway = make("cumulative", INTERVAL)
    closed_hours(gateway, NINE - 3, 2, ("cumulative",))
    gateway.run(10)
    before = len(gateway.simulator.items)
    empty(gateway)
    closed_hours(gateway, NINE - 3, 2, ("cumulative",))
    gateway.run(120)
    assert gateway.states("cumulative") == ["accepted", "accepted"]
    insert = (
        "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, 5, 5, 'measured', 0)"
    )
    gateway.store.write(lambda db: db.execute(insert, (gateway.numbers["cumulative"], NINE - 1)))
    gateway.run(120)
    assert gateway.states("cumulative") == ["accepted", "accepted", "held"]
    assert len(gateway.simulator.items) == before


COUNTER = {"counter": True, "begun": False}


def test_a_boundary_that_is_certainly_there_is_held_although_its_hour_shows_nothing():
    """Of a sum 0 is as good as nothing; a boundary would be there twice."""
    assert boundaries.doubted({5: "pending", 6: "held"}, {}, {5: 0, 6: 9}, **COUNTER) == {5: "held", 6: "held"}


def test_an_hour_without_weight_behind_all_that_enerkey_shows_is_still_to_be_sent():
    """Otherwise its boundary would be left out, and the next hour's energy spread over both."""
    assert boundaries.doubted({5: "accepted", 6: "accepted"}, {}, {5: 9}, **COUNTER) == {5: "accepted", 6: "pending"}
    assert boundaries.doubted({5: "accepted", 6: "accepted"}, {}, {6: 9}, **COUNTER) == {5: "accepted", 6: "accepted"}


@pytest.mark.parametrize(("counter", "begun"), [(True, False), (True, True), (False, True)])
def test_what_is_known_is_continued(counter: bool, begun: bool):
    """A register stands where it stands; a total where this database brought it."""
    found = boundaries.doubted({6: "pending"}, {4: 7, 5: 7}, {4: 7, 5: 7}, counter=counter, begun=begun)
    assert found == {6: "pending"}


def test_what_somebody_else_sent_before_the_first_boundary_of_this_database_is_no_doubt():
    """Only a gap within its own series is."""
    begun = {"counter": False, "begun": True}
    assert boundaries.doubted({6: "pending"}, {5: 7}, {2: 1, 5: 7}, **begun) == {6: "pending"}
    assert boundaries.doubted({6: "pending"}, {3: 7}, {3: 7, 4: 1}, **begun) == {6: "held"}


def test_zeros_of_a_server_that_lists_every_hour_are_no_boundaries():
    """A new meter there would never begin."""
    assert boundaries.derived({0: 0, 1: 0, 2: 0}, 0) == {}
    assert boundaries.derived({0: 0, 1: 5, 2: 0, 3: 4, 4: 0}, 0) == {1: 5, 2: 0, 3: 4}
    assert boundaries.derived({1: 0, 2: 0}, 0) == {1: 0, 2: 0}
