"""What a read-back proves (R14, R15; reliability 3.1, rule 6)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.verify import read_back

H = 490_000


@pytest.mark.parametrize(
    ("sent", "ledger", "server", "verdict"),
    [
        (5_000, None, None, "pending"),
        (5_000, None, 5_000, "accepted"),
        (5_000, None, 0, "pending"),  # a server that says 0 for hours it does not know
        (5_000, None, 5_001, "accepted"),  # rounded there
        (5_000, None, 10_000, "held"),  # twice
        (5_000, None, 700, "held"),  # somebody else's
        (5_000, 300, 300, "pending"),
        (5_000, 300, 5_300, "accepted"),
        (5_000, 300, 5_000, "held"),
        (5_000, 300, None, "held"),  # what was accepted is gone
        (-200, 300, 100, "accepted"),
        (-200, 300, 300, "pending"),
        (-300, 300, 0, "accepted"),
        (-300, 300, None, "accepted"),  # an hour of 0 may not be listed
    ],
)
def test_one_hour_is_decided_by_three_numbers(sent: int, ledger: int | None, server: int | None, verdict: str):
    found = read_back(
        {H: sent}, {} if ledger is None else {H: ledger}, {} if server is None else {H: server}, tolerance=1
    )
    assert found == {H: verdict}


@pytest.mark.parametrize("value", [0, 1, 2])
@pytest.mark.parametrize("listed", [True, False])
def test_an_hour_too_small_to_decide_follows_the_majority(value: int, listed: bool):
    small = {H + 2: value} if listed else {}
    sent = {H: 5_000, H + 1: 6_000, H + 2: value}
    assert read_back(sent, {}, {H: 5_000, H + 1: 6_000} | small, tolerance=1)[H + 2] == "accepted"
    assert read_back(sent, {}, {} if not listed else {H + 2: 0}, tolerance=1)[H + 2] == "pending"


@pytest.mark.parametrize("value", [0, 2])
def test_alone_such_an_hour_is_applied_when_enerkey_knows_it(value: int):
    assert read_back({H: value}, {}, {H: value}, tolerance=1) == {H: "accepted"}
    assert read_back({H: value}, {}, {}, tolerance=1) == {H: "pending"}


@pytest.mark.parametrize(("shown", "verdict"), [(7_000, "pending"), (8_000, "accepted")])
def test_a_correction_by_the_last_digit_that_is_sent_goes_by_the_nearer_value(shown: int, verdict: str):
    """The rest of its message, which was applied, does not speak for it: each hour is decided by itself."""
    sent = {H: 50_000, H + 1: 60_000, H + 2: 1_000}
    server = {H: 50_000, H + 1: 60_000, H + 2: shown}
    assert read_back(sent, {H + 2: 7_000}, server, tolerance=500)[H + 2] == verdict


def test_an_hour_of_nothing_that_enerkey_shows_something_for_is_held():
    assert read_back({H: 0}, {}, {H: 700}, tolerance=1) == {H: "held"}


def test_a_partly_applied_message_is_decided_hour_by_hour():
    sent = {H: 5_000, H + 1: 6_000, H + 2: 7_000}
    found = read_back(sent, {}, {H: 5_000, H + 2: 1}, tolerance=1)
    assert found == {H: "accepted", H + 1: "pending", H + 2: "pending"}


def test_the_tolerance_is_what_the_sent_decimals_round():
    assert read_back({H: 5_000_000}, {}, {H: 5_004_900}, tolerance=5_000) == {H: "accepted"}
    assert read_back({H: 5_000_000}, {}, {H: 5_006_000}, tolerance=5_000) == {H: "held"}


HOURS = st.dictionaries(st.integers(H, H + 30), st.integers(0, 10**9), min_size=1)


@settings(max_examples=150, deadline=None)
@given(sent=HOURS, before=HOURS, applied=st.booleans(), noise=st.integers(-3, 3))
def test_all_or_nothing_is_always_told_apart_up_to_two_tolerances(
    sent: dict[int, int], before: dict[int, int], applied: bool, noise: int
):
    """R16: no hour of weight is doubled or lost, whatever was there before."""
    tolerance = 3
    after = before | {hour: before.get(hour, 0) + value for hour, value in sent.items()} if applied else before
    server = {hour: value + noise for hour, value in after.items()}
    for hour, verdict in read_back(sent, before, server, tolerance=tolerance).items():
        if sent[hour] > 2 * tolerance:
            assert verdict == ("accepted" if applied else "pending")
        else:
            assert verdict != "held"
