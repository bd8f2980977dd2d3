"""What dead devices cost the living ones of their line, in requests and in the line's time; virtual time throughout.

A try in vain takes the timeout and the quiet after it (`DRAIN`), in which nothing else can be asked.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.bus import DRAIN
from drivers.modbus.pace import HOUR, LONGEST_DEVICE_PAUSE, PROBES, before_edge, spread
from tests.fakes.clock import START
from tests.fakes.modbus_driver import Line, source

TIMEOUT = 1.0  # s
DEVICES = 32
CYCLE = 0.165  # s at 9600 baud: 17 characters before and after the device's thinking, and the rest when it changes
GROWN = 600.0  # s after which the pauses have grown to their full length, whatever the poll interval
MEASURED = 900.0  # s
HOUR_EDGE = START.replace(hour=10, minute=0)
TEN = 1_772_445_600.0  # 2026-03-02 10:00 UTC


def line(dead: int, living: int = DEVICES, latency: float = CYCLE, **keys) -> Line:
    """32 meters or fewer, of which the first so many have died together."""
    devices = range(1, min(DEVICES, dead + living) + 1)
    made = Line({f"m{at}": source(device=at) for at in devices}, url="rtu:///dev/ttyUSB0", **keys)
    for device in devices:
        made.bus.put(device, 10, 0, device)
    made.bus.dead |= set(range(1, dead + 1))
    made.bus.latency = latency
    return made


@cache
def steady(dead: int, poll: str) -> tuple[Line, dict[int, list[float]]]:
    """The line after its pauses have grown, and when each dead device was tried in a quarter of an hour."""
    made = line(dead, poll=poll)
    made.run(GROWN)
    made.bus.asked.clear()
    for _ in range(3):
        made.run(MEASURED / 3)
    return made, {device: [asked.boottime for asked in made.bus.of(device)] for device in range(1, dead + 1)}


POLLS = ["1s", "10s", "60s"]  # the first is more than the line can do: a round takes 4.5 s


@pytest.mark.parametrize("poll", POLLS)
def test_one_dead_device_costs_the_others_a_timeout_in_five_minutes(poll):
    """One request each time, whatever the poll interval."""
    (tries,) = steady(1, poll)[1].values()
    assert 1 < len(tries) <= MEASURED / LONGEST_DEVICE_PAUSE
    late = 10 if poll == "1s" else 0  # a line that cannot keep its polls serves the living ones first
    assert all(300 <= round(later - earlier) <= 300 + late for earlier, later in pairwise(tries))


@pytest.mark.parametrize("poll", POLLS)
def test_five_dead_devices_take_less_than_a_twentieth_of_the_lines_time(poll):
    """Also of a line that has no time left: 5 x (1 s + 0.6 s) in 300 s are 2.7 %."""
    tries = sum(len(each) for each in steady(5, poll)[1].values())
    assert tries * (TIMEOUT + DRAIN) / MEASURED <= PROBES


@pytest.mark.parametrize("poll", POLLS)
def test_devices_that_died_together_are_not_tried_together(poll):
    """Between two of them the living ones have the line for many rounds."""
    tries = sorted(at for each in steady(5, poll)[1].values() for at in each)
    assert min(later - earlier for earlier, later in pairwise(tries)) >= 2 * TIMEOUT / PROBES - 10


@pytest.mark.parametrize("poll", ["10s", "60s"])
def test_the_living_ones_miss_no_poll(poll):
    """Beside five dead ones, for a quarter of an hour."""
    made = steady(5, poll)[0]
    for device in (6, 19, 32):
        assert len(made.bus.of(device)) == MEASURED / float(poll[:-1])


@pytest.mark.parametrize(("poll", "living"), [("1s", 3), ("2s", 10), ("10s", 27)])
def test_the_hours_edge_is_read_right_after_it_beside_dead_devices(poll, living):
    """No try begins that would end after it: the boundary of a living meter is not a second late.

    Every way in which the tries can lie to the hour is tried by beginning at another second.
    """
    for begin in range(8):
        made = line(5, living, 0.02, poll=poll, timeout="3s")
        made.clock.advance(300 - 90 + begin * 1.1)  # the pauses are still short: many tries
        made.run(120)
        edges = [asked for asked in made.bus.asked if asked.device > 5 and asked.wall.hour == 10]
        first = {asked.device: asked.wall for asked in reversed(edges)}
        assert len(first) == living
        assert max(first.values()) - HOUR_EDGE < timedelta(seconds=0.6)


def test_one_that_is_back_does_not_make_the_others_be_tried_into_the_hours_edge():
    """Those that are still dead go on giving way."""
    for begin in range(8):
        made = line(5, 3, 0.02, poll="1s", timeout="3s")
        made.clock.advance(300 - 90 + begin * 1.1)
        made.run(20)
        made.bus.dead.remove(1)
        made.run(100)
        assert made.store.of("m1")[0].at < HOUR_EDGE
        edges = [asked for asked in made.bus.asked if asked.device > 5 and asked.wall.hour == 10]
        first = {asked.device: asked.wall for asked in reversed(edges)}
        assert max(first.values()) - HOUR_EDGE < timedelta(seconds=0.6)


@pytest.mark.parametrize("poll", ["10s", "60s", "1h"])
@pytest.mark.parametrize("dead", [5, 20])
def test_devices_that_are_back_are_found_within_five_minutes(dead, poll):
    """All of them, however many they were and however long they were away."""
    made = line(dead, poll=poll)
    made.run(1000)
    made.bus.dead.clear()
    back = made.clock.wall
    made.run(LONGEST_DEVICE_PAUSE + 5)
    for device in range(1, dead + 1):
        assert any(reading.at > back for reading in made.store.of(f"m{device}"))


slots = st.floats(TEN, TEN + HOUR)


@given(slots, st.lists(slots, max_size=31), st.floats(0.1, 60), st.floats(1, 300))
def test_a_try_is_only_ever_moved_towards_now_and_not_beyond(slot, taken, cost, step):
    """So that who is back is found no later than without the others."""
    earliest = slot - 290
    assert earliest <= spread(slot, earliest, step, taken, cost) <= slot


@given(st.lists(st.floats(0, 300), max_size=6))
def test_a_try_keeps_away_from_the_others_where_there_is_room(others):
    """Six others at most, 40 s each: the line has 300 s."""
    taken = [TEN + at for at in others]
    chosen = spread(TEN + 300, TEN + 2, 1.0, taken, cost=1.0)
    assert min((abs(chosen - other) for other in taken), default=20) >= 20 - 1e-6


@given(slots, st.floats(0.1, 60))
def test_nothing_that_costs_time_is_begun_before_an_hours_edge_that_it_would_run_into(start, cost):
    """What ends before may begin."""
    edge = before_edge(start, cost)
    left = HOUR - start % HOUR
    assert (edge is None) == (cost <= left)
    assert edge is None or edge % HOUR == 0 < edge - start <= HOUR
