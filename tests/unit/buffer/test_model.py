"""Units and rounding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.model import (
    INT64,
    MICRO,
    QUALITIES,
    from_micro,
    from_ms,
    hour_of,
    hour_start,
    round_half_up,
    to_micro,
    to_ms,
    weakest,
)


@pytest.mark.parametrize(
    ("value", "micro"),
    [
        ("0", 0),
        ("1.5", 1_500_000),
        ("0.0000005", 1),
        ("-0.0000005", -1),
        ("0.00000049999999999999999999999999999999999999999", 0),  # one rounding, not two
        ("0.0000004", 0),
        ("1E-999999", 0),
        ("9223372036854.775807", INT64),
    ],
)
def test_a_decimal_becomes_micro_rounded_once_half_away_from_zero(value, micro):
    assert to_micro(Decimal(value)) == micro


@pytest.mark.parametrize("value", ["9223372036854.775808", "-1E+19", "1E+25", "1E+999999", "-9E+18"])
def test_what_no_counter_can_hold_overflows_instead_of_wrapping(value):
    with pytest.raises(OverflowError, match="beyond what a counter can hold"):
        to_micro(Decimal(value))


@given(st.integers(-INT64, INT64))
def test_micro_goes_out_and_comes_back_exactly(micro):
    assert to_micro(from_micro(micro)) == micro


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12))
def test_rounding_is_the_nearest_integer_with_halves_away_from_zero(numerator, denominator):
    rounded, exact = round_half_up(numerator, denominator), Fraction(numerator, denominator)
    assert abs(rounded - exact) <= Fraction(1, 2)
    if abs(rounded - exact) == Fraction(1, 2):
        assert abs(rounded) > abs(exact)


@settings(deadline=None)
@given(st.datetimes(datetime(1960, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_an_instant_is_cut_to_its_millisecond_and_lies_in_its_hour(at):
    ms = to_ms(at)
    assert timedelta(0) <= at - from_ms(ms) < timedelta(milliseconds=1)
    assert hour_start(hour_of(ms)) <= at < hour_start(hour_of(ms) + 1)


def test_the_weakest_quality_wins():
    assert weakest("measured", "estimated", "interpolated") == "estimated"
    assert [weakest("measured", quality) for quality in QUALITIES] == list(QUALITIES)
    assert MICRO == 10**6
