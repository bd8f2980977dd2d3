"""The driver on a fake line, in virtual time: its slots, its rounds, and what one device's trouble costs the others."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from drivers.modbus.wire import BadAnswer, ExceptionAnswer, NoAnswer
from tests.fakes.modbus_driver import HOUR_EDGE, Line, four, one, source

TIMEOUT = 1.0


def seconds(instant: datetime) -> float:
    """Since the last full minute."""
    return instant.second + instant.microsecond / 1e6


# --- rounds and slots -------------------------------------------------------------------------------------------------


def test_every_source_has_its_reading_from_the_first_round_on():
    """At once, not at the first slot."""
    line = four()
    line.run(1)
    assert {reading.source: reading.value for reading in line.store.readings} == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_one_deliver_per_poll_round():
    """A commit for all the meters of a round, not one for each."""
    line = four()
    line.run(5 * 60 + 30)
    assert [sorted(item.source for item in batch) for batch in line.store.batches] == [list("abcd")] * 6


def test_polls_stand_on_the_wall_clocks_slots_with_one_on_each_hours_edge():
    """After the first round, wherever the start was."""
    line = Line({"a": source()}, poll="7m")
    line.bus.put(1, 10, 0, 7)
    line.clock.wall += timedelta(seconds=17.3)
    line.run(2 * 3600)
    asked = [asked.wall for asked in line.bus.asked]
    assert all(seconds(at) < 0.01 for at in asked[1:])
    assert [at.minute for at in asked[1:11]] == [56, 0, 7, 14, 21, 28, 35, 42, 49, 56]
    assert {at.hour for at in asked if at.minute == 0} == {10, 11}


@pytest.mark.parametrize("poll", ["1s", "60s", "1h"])
def test_no_slot_is_left_out_and_none_is_polled_twice(poll):
    """Over an hour with its edges."""
    line = one(poll=poll)
    line.run(3600 * 1.5)
    slots = [asked.wall.replace(microsecond=0) for asked in line.bus.asked[1:]]
    assert len({later - earlier for earlier, later in pairwise(slots)}) <= 1
    assert HOUR_EDGE in slots


def test_the_reading_of_the_hours_edge_is_taken_right_after_it():
    """So that the boundary is interpolated over milliseconds."""
    line = four()
    line.run(600)
    for name in "abcd":
        after = min(reading.at for reading in line.store.of(name) if reading.at >= HOUR_EDGE)
        assert after - HOUR_EDGE < timedelta(seconds=0.1)


def test_a_wall_clock_set_forward_moves_the_slots():
    """The next poll is on a slot of the new time."""
    line = one()
    line.run(90)
    line.clock.step_wall(1234.5)
    line.run(600)
    assert {round(seconds(asked.wall), 1) for asked in line.bus.asked[3:]} == {0.0}
    gaps = [later.boottime - earlier.boottime for earlier, later in pairwise(line.bus.asked)]
    assert max(gaps) < 120


def test_a_wall_clock_set_back_does_not_stop_the_polls():
    """Not for the time by which it was set back."""
    line = one()
    line.run(90)
    line.clock.step_wall(-5 * 3600)
    line.run(600)
    assert len(line.bus.asked) >= 11
    gaps = [later.boottime - earlier.boottime for earlier, later in pairwise(line.bus.asked)]
    assert max(gaps) <= 60.1
    assert {round(seconds(asked.wall), 1) for asked in line.bus.asked[3:]} == {0.0}


def test_a_wall_clock_set_back_just_when_a_poll_is_due_does_not_stop_the_polls():
    """The slot that was due is one of the old time."""
    line = one()
    line.run(10)
    line.clock.advance(line.step() - line.clock.boottime + 0.01)
    line.clock.step_wall(-5 * 3600)
    line.run(600)
    assert len(line.bus.asked) >= 11
    gaps = [later.boottime - earlier.boottime for earlier, later in pairwise(line.bus.asked)]
    assert max(gaps) <= 60.1


def test_a_wall_clock_slewed_back_a_little_does_not_make_a_slot_come_twice():
    """NTP takes tenths of a second at a time."""
    line = one()
    line.run(10)
    for _ in range(2):
        line.clock.wait(line.driver.wake, line.step())
        line.clock.step_wall(-0.2)
        line.run(10)
    gaps = [later.boottime - earlier.boottime for earlier, later in pairwise(line.bus.asked)]
    assert len(gaps) == 2
    assert min(gaps) > 59


def test_a_clock_that_wakes_the_driver_a_little_early_does_not_make_it_poll_twice():
    """Waits end a hair before their time."""
    line = one()
    line.run(30)
    for _ in range(5):
        due = line.step()
        line.clock.advance(due - line.clock.boottime - 0.0004)
        line.step()
        line.clock.advance(0.0004)
        line.step()
    walls = [asked.wall for asked in line.bus.asked]
    assert all(later - earlier > timedelta(seconds=30) for earlier, later in pairwise(walls[1:]))


def test_poll_looks_at_every_device_once_whether_it_is_due_or_not():
    """What `read` shows."""
    line = four()
    line.run(10)
    line.bus.asked.clear()
    line.driver.poll(line.clock.now())
    assert [asked.device for asked in line.bus.asked] == [1, 2, 3, 4]
    assert len(line.store.batches[-1]) == 4


# --- devices in trouble -----------------------------------------------------------------------------------------------


def test_a_dead_device_costs_the_others_one_timeout_per_round_at_most():
    """The three healthy ones have every slot, and never more than a timeout after it."""
    line = four()
    line.bus.dead.add(2)
    line.run(3600)
    for name in "acd":
        instants = [reading.at for reading in line.store.of(name)]
        assert len(instants) == 61
        assert all(seconds(at) <= TIMEOUT + 0.1 for at in instants)
    assert not line.store.of("b")


def test_a_device_known_to_be_dead_comes_last_and_delays_nobody():
    """From its second try on the others are read first."""
    line = four()
    line.bus.dead.add(1)
    line.run(1800)
    for name in "bcd":
        assert all(seconds(reading.at) <= 0.1 for reading in line.store.of(name)[1:])


def test_a_dead_device_is_tried_again_with_pauses_growing_to_five_minutes():
    """Once per try, and it is found within five minutes when it is back."""
    line = four()
    line.bus.dead.add(2)
    line.run(1800)
    pauses = [round((later.boottime - earlier.boottime) / 60) for earlier, later in pairwise(line.bus.of(2))]
    assert pauses == [1, 2, 4, 5, 5, 5, 5]
    line.bus.dead.clear()
    back = line.clock.wall
    line.run(600)
    assert line.store.of("b")[0].at - back <= timedelta(seconds=300)
    regular = [reading.at for reading in line.store.of("b")]
    assert max(later - earlier for earlier, later in pairwise(regular)) <= timedelta(seconds=61)


def test_a_dead_device_is_told_once_and_once_when_it_is_back():
    """On transitions, not on cycles."""
    line = four()
    line.bus.dead.add(2)
    line.run(3600)
    assert [(level, subject) for level, subject, _ in line.store.notes] == [("warning", "main, device 2")]
    line.bus.dead.clear()
    line.run(600)
    assert line.store.notes[1][:2] == ("info", "main, device 2")
    assert re.fullmatch(r"answers again, after \d+ failed polls", line.store.notes[1][2])
    assert len(line.store.notes) == 2


def test_a_device_that_failed_once_is_said_to_have_failed_one_poll():
    """Not "polls"."""
    line = four()
    line.bus.dead.add(2)
    line.run(59)
    line.bus.dead.clear()
    line.run(600)
    assert [words for _, _, words in line.store.notes][1:] == ["answers again, after 1 failed poll"]


def test_one_lost_frame_of_a_good_device_is_nothing_to_tell():
    """Usual on RS-485; twice in a row is not."""
    line = one()
    line.run(10)
    line.bus.say(1, NoAnswer("noise"))
    line.run(120)
    assert not line.store.notes
    line.bus.say(1, NoAnswer("dead"), NoAnswer("dead"))
    line.run(300)
    assert [level for level, _, _ in line.store.notes] == ["warning", "info"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (BadAnswer("1 registers instead of 2: 0001", raw=b"\1\2"), "bad answer"),
        (NoAnswer("no answer within 1 s"), "no answer"),
        (ExceptionAnswer(0x01), "illegal function"),
        (ExceptionAnswer(0x02), "illegal address"),
        (ExceptionAnswer(0x0B), "gateway got no answer from the device"),
    ],
)
def test_what_is_no_answer_is_rejected_with_its_reason_and_never_0(answer, reason):
    """R2: in the batch with everything else, and told to who looks."""
    line = four()
    line.bus.say(2, answer)
    line.run(1)
    rejected = [item for item in line.store.rejected if item.source == "b"]
    assert [item.reason for item in rejected] == [reason]
    assert not line.store.of("b")
    assert line.problem("b").startswith(reason)
    assert len(line.store.readings) == 3


def test_a_nan_is_rejected_with_its_words_and_the_device_is_well():
    """It answers; only its number is none."""
    line = Line({"a": source(type="f32")})
    line.bus.put(1, 10, 0x7FC0, 0)
    line.run(1)
    assert [(item.reason, item.payload) for item in line.store.rejected] == [("not a number", "7FC0 0000")]
    assert not line.store.readings
    assert line.driver.health().devices == {"1": "ok"}


def test_a_refused_batch_is_split_within_its_round():
    """0x02 and 0x03 on a multi-register read cost requests, not readings."""
    line = Line({str(at): source(register=at, type="u16") for at in (10, 14, 15, 40)})
    for at in (10, 14, 15, 40):
        line.bus.put(1, at, at)
    line.bus.limit[1] = 3
    line.run(1)
    assert {int(item.source): item.value for item in line.store.batches[0]} == {at: at for at in (10, 14, 15, 40)}
