"""Polls stand on slots that count from each full hour; what fails is asked again with growing pauses."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.pace import HOUR, LONGEST_DEVICE_PAUSE, LONGEST_PAUSE, Reconnecting, retry_slot, slot_after

TEN = 1_772_445_600.0  # 2026-03-02 10:00 UTC
epochs = st.floats(TEN, TEN + 4 * HOUR)
polls = st.integers(1000, 3_600_000).map(lambda ms: ms / 1000)


@given(epochs, polls)
def test_the_next_slot_is_later_by_at_most_one_poll(epoch, poll):
    """Never now, so that no slot is polled twice, and never one left out."""
    assert epoch < slot_after(epoch, poll) <= epoch + poll * 1.00001


@given(st.floats(0, HOUR - 1), polls)
def test_every_hour_edge_has_a_slot_whatever_the_interval(into, poll):
    """Also an interval that does not divide the hour: the last one is cut short."""
    slot = TEN + into
    for _ in range(3600 + 2):
        before, slot = slot, slot_after(slot, poll)
        assert slot > before
        if slot >= TEN + HOUR:
            break
    assert slot == TEN + HOUR


def test_slots_of_seven_minutes_count_from_the_full_hour():
    """By hand."""
    slots, slot = [], TEN
    for _ in range(10):
        slot = slot_after(slot, 420)
        slots.append((slot - TEN) / 60)
    assert slots == [7, 14, 21, 28, 35, 42, 49, 56, 60, 67]


def test_pauses_of_a_failing_device_grow_from_one_poll_to_five_minutes():
    """And stay on its slots."""
    pauses = [retry_slot(TEN, failures, 60) - TEN for failures in range(1, 8)]
    assert pauses == [60, 120, 240, 300, 300, 300, 300]


@given(epochs, st.integers(1, 10_000), polls)
def test_a_failing_device_is_asked_again_within_five_minutes(epoch, failures, poll):
    """After any number of failures, with any interval; never at once."""
    slot = retry_slot(epoch, failures, poll)
    assert epoch < slot <= epoch + LONGEST_DEVICE_PAUSE + 1e-6


def test_a_device_read_once_an_hour_is_not_given_up_for_an_hour():
    """Its next try is sooner than its slot."""
    assert retry_slot(TEN, 1, 3600) == TEN + 300


def test_pauses_between_connections_double_from_a_second_to_a_minute_with_jitter():
    """A refusal never becomes a busy loop."""
    random = Random(7)
    reconnecting = Reconnecting()
    pauses = []
    for _ in range(12):
        reconnecting.failed(1000.0, random)
        pauses.append(reconnecting.due - 1000.0)
    longest = [2, 4, 8, 16, 32, *[60] * 7]
    for pause, most in zip(pauses, longest, strict=True):
        assert max(1, most / 2) <= pause <= most
    assert len({round(pause, 3) for pause in pauses[5:]}) > 1


def test_only_an_answer_makes_the_pauses_short_again():
    """An open socket proves nothing."""
    reconnecting = Reconnecting()
    for _ in range(6):
        reconnecting.failed(0.0, Random(1))
    assert reconnecting.due >= LONGEST_PAUSE / 2
    reconnecting.answered()
    reconnecting.failed(0.0, Random(1))
    assert reconnecting.due <= 2


def test_at_first_a_connection_may_be_opened_at_once():
    """Nothing has failed yet."""
    assert Reconnecting().due < 0


@pytest.mark.parametrize("failures", [1, 17, 100_000])
def test_long_outages_do_not_overflow(failures):
    """A year without a connection."""
    reconnecting = Reconnecting(failures=failures)
    reconnecting.failed(0.0, Random(1))
    assert reconnecting.due <= LONGEST_PAUSE
