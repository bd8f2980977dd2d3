"""What a device has taught is put to the test again: rarely, never at an hour's edge, and without losing a reading."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.learned import LONGEST, confirmed_in, rest, with_confirmed
from drivers.modbus.plan import Shape, from_text, to_text
from tests.fakes.modbus_driver import Line, source

HOUR = 3600


def meter(*registers: int, memory: dict[str, str] | None = None, **keys) -> Line:
    """Device 1 with a u16 at each of these registers, which holds its own address."""
    line = Line({str(at): source(register=at, type="u16") for at in registers}, memory, **keys)
    for at in registers:
        line.bus.put(1, at, at)
    return line


def hours(line: Line, count: float) -> None:
    """Let them pass, some at a time: the fake's patience is bounded."""
    for _ in range(int(count)):
        line.run(HOUR)
    line.run((count % 1) * HOUR)


def requests(line: Line, seconds: float) -> set[tuple[int, int]]:
    """Start and count of what is asked in so many seconds."""
    line.bus.asked.clear()
    line.run(seconds)
    return {(asked.start, asked.count) for asked in line.bus.asked}


def whole(line: Line) -> list[float]:
    """When the whole row of six registers was asked for in one request."""
    return [asked.boottime for asked in line.bus.asked if asked.count == 6]


def test_what_a_meter_refuses_while_it_starts_makes_its_reads_small_for_an_hour_and_not_for_ever():
    """0x02 for everything at first, as some do; then its registers are there."""
    line = meter(10, 11, 15)
    line.bus.empty(1)
    line.run(30)
    for at in range(10, 16):
        line.bus.put(1, at, at)
    assert (10, 6) not in requests(line, 600)
    hours(line, 1)
    assert requests(line, 600) == {(10, 6)}
    again = meter(10, 11, 15, memory=line.store.memory)
    again.bus.put(1, 12, 12, 13, 14)
    assert requests(again, 90) == {(10, 6)}


def test_a_hole_that_stays_is_asked_for_ever_more_rarely():
    """After 1 h, 4 h, 16 h; also over a restart."""
    line = meter(10, 15)
    line.bus.asked.clear()
    hours(line, 24)
    tries = whole(line)
    assert [round((later - earlier) / HOUR) for earlier, later in pairwise(tries)] == [1, 4, 16]
    again = meter(10, 15, memory=line.store.memory)
    hours(again, 48)
    assert whole(again) == []


def test_a_test_that_goes_wrong_costs_no_reading():
    """The round goes on with what was learned."""
    line = meter(10, 15)
    hours(line, 6)
    assert len(whole(line)) == 3
    assert len(line.store.of("10")) == len(line.store.of("15")) == 6 * 60 + 1
    assert not line.store.rejected


def test_a_limit_that_was_learned_is_tested_too():
    """0x03 from a busy gateway."""
    line = meter(*range(10, 30))
    line.bus.limit[1] = 8
    assert (10, 20) in requests(line, 30)
    line.bus.limit.clear()
    assert (10, 20) not in requests(line, 600)
    hours(line, 1)
    assert requests(line, 600) == {(10, 20)}


def test_no_test_is_made_in_an_hours_first_round():
    """Its readings are the boundaries; a device that is silent at holes would lose one."""
    line = meter(10, 15, poll="10m")
    hours(line, 30)
    minutes = {asked.wall.minute for asked in line.bus.asked[1:] if asked.count == 6}
    assert minutes
    assert 0 not in minutes


def test_a_device_that_is_silent_at_holes_is_hardly_ever_tested():
    """That costs a timeout and the rest of a round: first after nearly three days."""
    line = meter(10, 15)
    line.bus.silent_holes.add(1)
    line.run(600)
    line.bus.asked.clear()
    hours(line, 60)
    assert whole(line) == []
    hours(line, 6)
    assert len(whole(line)) == 1
    line.bus.asked.clear()
    readings = len(line.store.of("15"))
    hours(line, 2)
    assert whole(line) == []
    assert len(line.store.of("15")) == readings + 120


def test_a_gateway_that_hangs_up_at_a_hole_loses_a_test_and_no_device():
    """What was learned is still so: asked again on the next connection, and tested more rarely."""
    line = meter(10, 11, 15)
    line.run(30)
    line.bus.cutting_holes.add(1)
    line.bus.asked.clear()
    hours(line, 4.5)
    assert len(whole(line)) == 1
    before = len(line.store.readings)
    assert requests(line, 600) == {(10, 2), (15, 1)}
    assert len(line.store.readings) - before == 3 * 10
    assert line.driver.health().state == "ok"


def test_a_line_that_breaks_under_a_test_puts_it_off():
    """Nothing was found out; it comes with the next one."""
    line = meter(10, 11, 15)
    line.bus.empty(1)
    line.run(30)
    for at in range(10, 16):
        line.bus.put(1, at, at)
    hours(line, 1)
    line.bus.cutting.add(1)
    line.run(120)
    line.bus.cutting.clear()
    assert (10, 6) not in requests(line, 600)
    hours(line, 4)
    assert requests(line, 600) == {(10, 6)}


def test_tests_become_rare_and_never_stop():
    """Once a month in the end."""
    rests = [rest(times) / HOUR for times in range(7)]
    assert rests == [1, 4, 16, 64, 256, 720, 720]
    assert rest(10**9) == LONGEST


@given(
    st.integers(0, 1000),
    st.integers(1, 125),
    st.sets(st.tuples(st.sampled_from(["holding", "input"]), st.integers(0, 65535))),
)
def test_a_shape_and_the_number_of_its_tests_share_a_text(confirmed, limit, cuts):
    """What was stored before there were tests reads as never tested."""
    shape = Shape(limit, frozenset(cuts))
    text = with_confirmed(to_text(shape), confirmed)
    assert (from_text(text, 125), confirmed_in(text)) == (shape, confirmed)
    assert confirmed_in(to_text(shape)) == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"confirmed": null}', '{"confirmed": "x"}', '{"confirmed": -3}', "7"])
def test_a_text_that_is_not_ours_tells_of_no_test(text):
    """Never an error."""
    assert confirmed_in(text) == 0
