"""What rests because it was asked for in vain, for how long, and when a silence teaches that a request was too large."""

from __future__ import annotations

import pytest

from drivers.modbus.doubts import DOUBTED, EARLY, LOST, LOST_AT_MOST, MOST_GIVEN, REFUSED_AT_MOST, Doubts
from drivers.modbus.plan import Block, Place

POLL = 60.0
POWER, ENERGY = Place("holding", 10, 2), Place("holding", 20, 2)
BOTH = Block("holding", 10, 12, (POWER, ENERGY))
ALONE = Block("holding", 10, 2, (POWER,))


def rests(doubts: Doubts, *, refused: bool, times: int = 12) -> list[float]:
    """Seconds for which the value rests after each attempt in vain; it is asked for again as soon as it may."""
    now, found = 0.0, []
    for _ in range(times):
        if refused:
            doubts.rest_refused([POWER], now, POLL)
        else:
            doubts.rest_unanswered([POWER], now, POLL)
        until = now
        while doubts.rests(POWER, until):
            until += EARLY
        found.append(until - now + EARLY)
        now = until
    return found


@pytest.mark.parametrize("refused", [False, True])
def test_a_value_that_never_came_rests_twice_as_long_each_time_up_to_an_hour(refused: bool):
    """The device does not have it, or is silent where others refuse: each attempt costs the line a timeout."""
    assert rests(Doubts(), refused=refused) == [60, 120, 240, 480, 960, 1920, *[REFUSED_AT_MOST] * 6]


def test_a_value_that_came_before_and_is_refused_rests_up_to_an_hour_too():
    """A refusal is the device's own word."""
    doubts = Doubts()
    doubts.answered(BOTH)
    assert rests(doubts, refused=True)[-1] == REFUSED_AT_MOST


def test_a_value_that_came_before_is_asked_for_within_five_minutes_however_often_its_answer_was_lost():
    """Like a device that is silent altogether: the line is to blame, and it may be mended at any time."""
    doubts = Doubts()
    doubts.answered(BOTH)
    assert rests(doubts, refused=False) == [60, 120, 240, *[LOST_AT_MOST] * 9]


def test_one_that_came_again_begins_anew():
    """One poll is not skipped yet."""
    doubts = Doubts()
    rests(doubts, refused=False)
    doubts.answered(ALONE)
    assert not doubts.rests(POWER, 0.0)
    assert rests(doubts, refused=False, times=2) == [60, 120]


def test_where_polls_are_rarer_than_the_longest_rest_each_one_asks():
    """A poll of two hours is not made one of four."""
    doubts = Doubts()
    for _ in range(5):
        doubts.rest_unanswered([POWER], 0.0, 7200.0)
    assert not doubts.rests(POWER, 7200.0)


def test_a_rest_concerns_its_own_value_only():
    """The others are read on."""
    doubts = Doubts()
    doubts.rest_refused([POWER], 0.0, POLL)
    assert doubts.awake([POWER, ENERGY], 1.0) == {ENERGY}
    assert doubts.awake([POWER, ENERGY], POLL) == {POWER, ENERGY}


def test_a_request_that_never_came_is_made_smaller_after_two_silences():
    """A device that is silent at a hole is understood soon after the start."""
    doubts = Doubts()
    assert [doubts.unanswered(BOTH) for _ in range(DOUBTED)] == [False, True]


def test_a_request_that_came_before_is_made_smaller_only_after_many_silences_in_a_row():
    """A bad line loses two answers in a row within hours; that it loses five has other reasons."""
    doubts = Doubts()
    doubts.answered(BOTH)
    assert [doubts.unanswered(BOTH) for _ in range(LOST)] == [False] * (LOST - 1) + [True]
    doubts.answered(BOTH)
    assert doubts.times(BOTH.places) == 0
    assert not doubts.unanswered(BOTH)


def test_values_that_came_one_by_one_do_not_speak_for_the_request_with_all_of_them():
    """Between them there may be a hole at which the device is silent."""
    doubts = Doubts()
    doubts.answered(ALONE)
    doubts.answered(Block("holding", 20, 2, (ENERGY,)))
    assert [doubts.unanswered(BOTH) for _ in range(DOUBTED)] == [False, True]


def test_only_so_many_requests_are_remembered():
    """Sets of values that rest make many requests in years; what is forgotten is only whom to be patient with."""
    doubts = Doubts()
    doubts.answered(BOTH)
    others = [
        Block("holding", register, 1, (Place("holding", register, 1),)) for register in range(100, 100 + MOST_GIVEN)
    ]
    for block in [*others[1:], BOTH]:
        doubts.answered(block)
    assert not any(doubts.unanswered(BOTH) for _ in range(DOUBTED))
    doubts.answered(others[0])
    assert doubts.unanswered(BOTH)
