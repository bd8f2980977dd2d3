"""Pauses, manners towards the server, and the request budget."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import Accepted, NotSent, Refused, Unknown
from gateway.pacing import (
    HEARSAY,
    LONGEST_PAUSE,
    Burst,
    Left,
    Manners,
    Pause,
    cadence,
    may_push,
    may_read,
    push_offset,
    slot,
    turns,
)

RANDOM = Random(1)
NO_LINE = NotSent("ConnectError")


def after(*fates, now: float = 100.0) -> Manners:
    manners = Manners()
    for fate in fates:
        manners = manners.after(fate, now, RANDOM)
    return manners


def test_pauses_double_from_a_second_to_a_quarter_of_an_hour():
    pause, longest = Pause(), []
    for failures in range(1, 2000):
        pause = pause.failed(0.0, RANDOM)
        assert pause.failures == failures
        longest.append(pause.until)
    assert 0.1 <= longest[0] <= 1.0
    assert all(0 < until <= LONGEST_PAUSE for until in longest)
    assert max(longest) > 0.9 * LONGEST_PAUSE


def test_pauses_are_jittered_so_that_gateways_do_not_return_together():
    seen = {Pause(9).failed(0.0, Random(seed)).until for seed in range(20)}
    assert len(seen) == 20


def test_three_connect_failures_in_a_row_are_an_outage_and_any_answer_ends_it():
    assert not after(NO_LINE, NO_LINE).outage
    out = after(NO_LINE, NO_LINE, NO_LINE)
    assert out.outage
    assert out.until > 100.0
    for fate in (Accepted(200), Refused("data", 400, ""), NotSent("429", limited=True), Unknown("HTTP 503")):
        assert not out.after(fate, 200.0, RANDOM).outage


def test_a_single_unknown_fate_makes_nobody_wait():
    """R23: one meter's 5xx does not stop the others."""
    assert after(Unknown("HTTP 500"), Unknown("HTTP 500")).until == float("-inf")
    assert after(Unknown("a"), Unknown("b"), Accepted(200), Unknown("c"), Unknown("d")).until == float("-inf")


def test_three_unknown_fates_in_a_row_are_the_servers_trouble():
    assert after(Unknown("a"), Unknown("b"), Unknown("c")).until > 100.0


def test_a_limit_is_waited_for_as_told_and_else_with_growing_pauses():
    told = after(NotSent("429", limited=True, retry_after=600.0))
    assert 700.0 <= told.until <= 760.0
    assert not told.outage
    untold = after(*[NotSent("429", limited=True)] * 20)
    assert untold.limited.failures == 20
    assert 100.0 < untold.until <= 100.0 + LONGEST_PAUSE
    assert untold.after(Accepted(200), 2000.0, RANDOM) == Manners()


def test_a_retry_after_of_nothing_still_pauses():
    assert after(NotSent("429", limited=True, retry_after=0.0)).until >= 101.0


@pytest.mark.parametrize(
    ("spent", "left", "push", "read"),
    [
        (0, None, True, True),
        (899, None, True, True),
        (900, None, False, True),  # the last tenth is for read-backs
        (1000, None, False, False),
        (0, Left(11, 0.0), True, True),
        (0, Left(10, 0.0), False, True),
        (0, Left(0, 0.0), False, False),
    ],
)
def test_the_budget_is_the_stricter_of_our_share_and_the_servers_word(
    spent: int, left: Left | None, push: bool, read: bool
):
    """R22."""
    assert may_push(spent, 1000, left, 1.0) is push
    assert may_read(spent, 1000, left, 1.0) is read


def test_the_servers_word_that_nothing_is_left_does_not_count_for_ever():
    """Otherwise nobody would ever ask again."""
    assert not may_push(0, 1000, Left(0, 0.0), HEARSAY - 1)
    assert may_push(0, 1000, Left(0, 0.0), HEARSAY)


def test_a_meters_offset_is_fixed_and_spread():
    offsets = [push_offset("gateway", f"meter-{number}", 900.0) for number in range(200)]
    assert offsets == [push_offset("gateway", f"meter-{number}", 900.0) for number in range(200)]
    assert 0 <= min(offsets) < 50
    assert 850 < max(offsets) < 900
    assert push_offset("gateway", "meter", 0.0) == 0
    assert push_offset("other", "meter-1", 900.0) != offsets[1]


@pytest.mark.parametrize(
    ("meters", "share", "hours"),
    [(0, 100, 1), (200, 40_000, 1), (1334, 40_000, 2), (200, 3000, 2), (100, 3000, 1), (300, 3000, 3), (500, 20, 24)],
)
def test_meters_are_pushed_less_often_when_their_requests_would_not_fit_the_day(meters: int, share: int, hours: int):
    """Reliability 3.7: hourly within 0.8 of the share, else every 2, 3, 4, 6, 12 or 24 h."""
    assert cadence(meters, share) == hours


@pytest.mark.parametrize(
    ("hour", "every", "due"), [(10, 1, 11), (10, 2, 12), (11, 2, 14), (0, 24, 24), (22, 24, 24), (23, 24, 48)]
)
def test_an_hour_is_due_at_the_first_slot_after_its_end(hour: int, every: int, due: int):
    assert slot(hour, every) == due


@given(gaps=st.lists(st.floats(0, 5), max_size=60), most=st.integers(1, 20))
def test_no_window_holds_more_requests_than_a_burst(gaps: list[float], most: int):
    """R22: whoever waits as told never exceeds it, whenever he comes."""
    burst, now, made = Burst(most, 10.0), 0.0, []
    for gap in gaps:
        now = max(now + gap, burst.until)
        burst = burst.after(now)
        made.append(now)
    assert all(later - earlier >= 10.0 - 1e-6 for earlier, later in zip(made, made[most:], strict=False))


def test_live_hours_come_before_the_backlog_and_the_backlog_has_every_fourth_turn():
    due = {1: True, 2: False, 3: True, 4: False}
    served = {1: 9.0, 2: 5.0, 3: 1.0, 4: 7.0}
    assert turns(due, served, 0) == turns(due, served, 2) == [3, 1, 2, 4]
    assert turns(due, served, 3) == [2, 4, 3, 1]
    assert turns({1: True, 3: True}, served, 9) == [3, 1]


def test_a_request_whose_answer_does_not_tell_what_is_left_counts_too():
    assert Left(5, 1.0).less_one() == Left(4, 1.0)
    assert Left(0, 1.0).less_one() == Left(0, 1.0)
