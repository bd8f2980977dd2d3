"""Pauses, manners towards the server, and the request budget."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import Accepted, NotSent, Refused, Unknown
from gateway.pacing import (
    BIN,
    DAY,
    FIRST_GAP,
    HEARSAY,
    LONGEST_PAUSE,
    Burst,
    Left,
    Manners,
    Pause,
    Pushes,
    cadence,
    may_push,
    may_read,
    push_offset,
    room_for_backlog,
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
    assert untold.after(Accepted(200), 2000.0, RANDOM).until == float("-inf")


def test_a_retry_after_of_nothing_still_pauses():
    assert after(NotSent("429", limited=True, retry_after=0.0)).until >= 101.0


DOWN = [NO_LINE] * 3
SICK = [Unknown("HTTP 503")] * 3


@pytest.mark.parametrize("trouble", [DOWN, SICK], ids=["unreachable", "doubtful"])
def test_after_an_outage_one_request_goes_first_and_each_answer_doubles_the_rate(trouble: list):
    """Reliability 3.7: a canary, then a ramp, then the normal rate within about a minute."""
    manners, now, gaps = after(*trouble), 1000.0, []
    for _ in range(20):
        manners = manners.after(Accepted(200), now, RANDOM)
        if manners.until == float("-inf"):
            break
        gaps.append(manners.until - now)
        now = manners.until
    assert gaps == [30.0, 15.0, 7.5, 3.75, 1.875]


@pytest.mark.parametrize("worse", [NO_LINE, Unknown("HTTP 500")], ids=["not sent", "unknown"])
def test_a_request_that_goes_wrong_on_the_way_up_begins_the_ramp_again(worse: NotSent | Unknown):
    """The server was not well yet."""
    manners = after(*DOWN).after(Accepted(200), 1000.0, RANDOM).after(Accepted(200), 1030.0, RANDOM)
    assert manners.ramp.gap == 15.0
    again = manners.after(worse, 1045.0, RANDOM)
    assert again.ramp.gap == FIRST_GAP
    assert again.until >= 1045.0 + FIRST_GAP


def test_a_canary_of_unknown_fate_lets_nothing_follow_at_once():
    """The wire is there, the server is not yet."""
    assert after(*DOWN).after(Unknown("HTTP 503"), 1000.0, RANDOM).until == 1000.0 + FIRST_GAP


def test_without_an_outage_nothing_is_held_back():
    """One failure, or two, are no reason for a ramp (R23)."""
    assert after(NO_LINE, NO_LINE, Accepted(200)).until == float("-inf")
    assert after(Unknown("a"), Accepted(200)).until == float("-inf")


LIMITED = NotSent("HTTP 429", limited=True, retry_after=60.0)


def test_a_429_halves_the_share_once_and_it_grows_back_in_half_a_day():
    """Reliability 3.7: several 429s of one episode are one, since what was halved has had no time to show."""
    manners = after(LIMITED, LIMITED, LIMITED, now=0.0)
    assert manners.day.of(40_000, 0.0) == 20_000
    assert manners.day.of(40_000, 6 * 3600.0) == 30_000
    assert manners.day.of(40_000, 12 * 3600.0) == 40_000
    assert manners.day.of(40_000, 10**6) == 40_000
    assert manners.rate.of(20, 0.0) == 20


def test_every_new_episode_halves_again_down_to_an_eighth():
    """Nobody is shut out for good."""
    manners, shares = Manners(), []
    for _ in range(5):
        manners = manners.after(LIMITED, 0.0, RANDOM).after(Accepted(200), 0.0, RANDOM)
        shares.append(manners.day.of(800, 0.0))
    assert shares == [400, 200, 100, 100, 100]
    assert manners.day.of(1, 0.0) == 1


def test_a_429_while_the_day_has_room_halves_the_rate_and_not_the_share():
    """It came too fast: the burst limit of the server is lower than ours."""
    manners = Manners().after(LIMITED, 0.0, RANDOM, left=30_000)
    assert (manners.day.of(40_000, 0.0), manners.rate.of(20, 0.0)) == (40_000, 10)
    spent = Manners().after(LIMITED, 0.0, RANDOM, left=0)
    assert (spent.day.of(40_000, 0.0), spent.rate.of(20, 0.0)) == (20_000, 20)


@given(
    fates=st.lists(st.sampled_from([LIMITED, NO_LINE, Unknown("503"), Accepted(200)]), max_size=30),
    gap=st.floats(0, 10**5),
    share=st.integers(1, 40_000),
)
def test_the_share_in_use_is_never_more_than_the_operators(fates: list, gap: float, share: int):
    """R22: whatever happens, and whenever; so that a restart, which forgets the halving, keeps it as well."""
    manners, now = Manners(), 0.0
    for fate in fates:
        manners = manners.after(fate, now, RANDOM)
        assert 1 <= manners.day.of(share, now) <= share
        now += gap


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
    assert may_push(spent, spent, 1000, left, 1.0) is push
    assert may_read(spent, 1000, left, 1.0) is read


def test_the_servers_word_that_nothing_is_left_does_not_count_for_ever():
    """Otherwise nobody would ever ask again."""
    assert not may_push(0, 0, 1000, Left(0, 0.0), HEARSAY - 1)
    assert may_push(0, 0, 1000, Left(0, 0.0), HEARSAY)


def test_reads_within_their_part_take_nothing_from_pushes():
    """Else live hours would wait for the audits; and together they never exceed the share (R22)."""
    assert may_push(999, 899, 1000, None, 0.0)
    assert not may_push(999, 900, 1000, None, 0.0)
    assert not may_push(1000, 899, 1000, None, 0.0)


@given(st.lists(st.tuples(st.floats(0, 20_000), st.booleans()), max_size=60), st.floats(0, 10**5))
def test_pushes_of_the_day_are_never_fewer_than_were_made(gaps: list[tuple[float, bool]], rest: float):
    """And by one bin more at most."""
    pushes, now, made = Pushes(), 0.0, []
    for gap, backlog in gaps:
        now += gap
        pushes.add(now, backlog=backlog)
        made.append((now, backlog))
    now += rest
    counted = pushes.made(now)
    for which, count in enumerate(counted):
        chosen = [at for at, backlog in made if backlog or not which]
        assert sum(at > now - DAY for at in chosen) <= count <= sum(at >= now - DAY - BIN for at in chosen)


@pytest.mark.parametrize(
    ("share", "regular", "live", "reads", "room"),
    [
        (40_000, 4800, 4800, 200, 31_200),
        (3000, 2400, 0, 300, 300),
        (3000, 2400, 2500, 300, 200),
        (3000, 2400, 2400, 400, 200),
        (3000, 2400, 2600, 900, 150),
        (1000, 500, 700, 0, 200),
        (6, 10, 4, 0, 6),
        (9, 5, 5, 0, 4),
        (5, 4, 4, 1, 1),
    ],
)
def test_the_backlog_has_what_a_day_of_live_hours_leaves_and_a_twentieth_at_least(
    share: int, regular: int, live: int, reads: int, room: int
):
    """Reliability 3.7: live before backlog, nobody starves."""
    assert room_for_backlog(share, regular, live, reads) == room


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
        now = max(now + gap, burst.until(most))
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
