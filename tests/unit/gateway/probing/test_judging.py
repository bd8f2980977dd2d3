"""What answers prove: never more than they do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import MICRO, Accepted, Fate, Refused, Unknown
from gateway.probing import judging
from gateway.probing.judging import Heard
from gateway.probing.plan import DIGITS, FIRST, LESS, SECOND

YES, NO, LOST = Accepted(200), Refused("data", 400, "no"), Unknown("ReadTimeout")
fates = st.sampled_from([YES, NO, LOST])
micros = st.sampled_from([0, FIRST, SECOND, FIRST + SECOND, FIRST + 2 * SECOND, LESS, DIGITS]) | st.integers(
    -(10**8), 10**8
)


@pytest.mark.parametrize(
    ("fate", "now", "value"),
    [
        (YES, FIRST + SECOND, "sum"),
        (LOST, FIRST + SECOND, "sum"),
        (YES, SECOND, "replace"),
        (LOST, SECOND, "replace"),
        (YES, FIRST, "first-wins"),
        (LOST, FIRST, None),
        (NO, FIRST, "reject"),
        (NO, FIRST + 2 * SECOND, None),
        (YES, FIRST + 2 * SECOND, None),
    ],
)
def test_a_second_value_proves_by_what_shows_and_not_by_the_answer_alone(fate: Fate, now: int, value: str | None):
    """After a lost answer, an unchanged hour may mean a lost request."""
    assert judging.same_hour(fate, FIRST, now).value == value


@given(fates, micros, micros)
def test_nothing_is_concluded_from_a_lost_answer_and_an_unchanged_hour(fate: Fate, before: int, now: int):
    """Whatever the numbers are: first-wins, ignored and refused need an answer."""
    proofs = [judging.same_hour(fate, before, now), judging.negatives(fate, before, now)]
    for proof in proofs:
        if isinstance(fate, Unknown):
            assert proof.value not in {"first-wins", "ignored", "refused", "reject"}
        assert proof.words


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        (DIGITS, "6"),
        (1_123_450, "5"),
        (1_123_460, "5"),
        (1_123_000, "3"),
        (1_120_000, "2"),
        (MICRO, "0"),
        (2 * MICRO, None),
    ],
)
def test_decimals_are_counted_whether_rounded_or_cut_off(shown: int, kept: str | None):
    """Any other number is none of both."""
    assert judging.decimals(YES, {0: shown}, 0).value == kept


def test_what_counts_for_the_limit_follows_the_majority():
    """Somebody else with the same key makes it fall by more, or between two requests of ours."""
    heard = [Heard("read", left) for left in (100, 100, 100, 99, 99)] + [Heard("push", left) for left in (98, 97, 95)]
    values = {proof.name: proof.value for proof in judging.limits(heard, "20 requests in 10 s")}
    assert values == {"rate_limit": "present", "limit_push": "counted", "limit_read": "free", "burst": "not met"}


def test_a_limit_that_is_not_told_is_absent_and_a_429_is_met():
    """Both are findings."""
    values = {proof.name: proof.value for proof in judging.limits([Heard("push", None, limited=True)], "20 in 10 s")}
    assert values == {"rate_limit": "absent", "burst": "met"}


@pytest.mark.parametrize(
    ("fate", "kept", "value"),
    [
        (NO, 0, "whole"),
        (NO, 1, "partial"),
        (NO, 2, "partial"),
        (YES, 2, None),
        (LOST, 0, None),
        (Refused("size", 413, ""), 0, None),
    ],
)
def test_only_a_refusal_for_the_data_tells_whether_it_is_whole(fate: Fate, kept: int, value: str | None):
    """R15: it decides whether a refused message is read back."""
    assert judging.refusal(fate, kept, "a negative value").value == value
