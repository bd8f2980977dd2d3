"""Durations, exact numbers and scales as an operator writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.fields import LARGEST, LONGEST, SourceBase, parse_decimal, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("60s", 60.0),
        ("15m", 900.0),
        ("1h", 3600.0),
        ("31d", 2_678_400.0),
        ("0s", 0.0),
        ("1.5 h", 5400.0),
        (" 2s ", 2.0),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float):
    """Blanks around and between do no harm."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["-1s", "61", "1w", "s", "", "1h30m", "1e3s", "1,5h", "\u0661s", 60, 60.5, True, None, []]
)
def test_what_is_no_duration_is_told_what_one_looks_like(value: object):
    """Numbers without a unit are refused: nobody can tell seconds from minutes."""
    with pytest.raises(
        ValueError, match=r'^must be a duration in quotes such as "200ms", "60s", "15m", "1h" or "31d"$'
    ):
        parse_duration(value)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
@settings(max_examples=50)
def test_no_whole_duration_is_negative_or_lost(number: int, unit: str):
    """Every unit scales the number and keeps its sign."""
    assert (parse_duration(f"{number}{unit}") > 0) == (number > 0)


@given(st.decimals(allow_nan=False, allow_infinity=False))
@settings(max_examples=100)
def test_a_number_in_quotes_is_taken_exactly_as_written(number: Decimal):
    """Never through a float."""
    assert parse_decimal(str(number)) == number


@pytest.mark.parametrize(("value", "exact"), [(0.1, "0.1"), (7, "7"), (" 1e-3 ", "0.001"), (-2.5, "-2.5")])
def test_a_toml_float_is_read_through_its_text(value: object, exact: str):
    """0.1 is a tenth, not the float next to it."""
    assert parse_decimal(value) == Decimal(exact)


def test_an_integer_of_any_length_becomes_a_number():
    """Python refuses to turn more than 4300 digits into text; the limit that follows speaks, not Python."""
    assert parse_decimal(10**5000) == Decimal(10) ** 5000


@pytest.mark.parametrize("value", ["abc", "", "0x10", "1 000", True, None, []])
def test_what_is_no_number_is_told_what_one_looks_like(value: object):
    """True is not 1."""
    with pytest.raises(ValueError, match=r'^must be a number such as 0\.1 or "0\.1"$'):
        parse_decimal(value)


def test_a_decimal_comma_is_named():
    """Spreadsheets of half of Europe write one."""
    with pytest.raises(ValueError, match="with a decimal point"):
        parse_decimal("0,1")


@pytest.mark.parametrize("value", ["Infinity", "NaN", "-inf", float("inf"), float("nan")])
def test_infinity_and_nan_are_no_numbers_here(value: object):
    """They would poison every sum."""
    with pytest.raises(ValueError, match=r"^must be a finite number$"):
        parse_decimal(value)


@pytest.mark.parametrize("scale", ["0", 0.0, "0e5", "1e400", "1e-400", "-1e13", "1e1000000", "1e-1000000"])
def test_a_scale_that_would_lose_every_value_is_refused(scale: object):
    """0 makes every reading 0; 1e400 makes every one unbelievable."""
    with pytest.raises(ValidationError, match=r"must be between 0\.000000000001 and 1000000000000"):
        SourceBase(connection="main", scale=scale)


@pytest.mark.parametrize("scale", ["0.1", "-1", 1000, "1e-12", "1e12"])
def test_a_scale_may_be_small_large_or_negative(scale: object):
    """A current transformer mounted the wrong way round is put right with a minus."""
    assert SourceBase(connection="main", scale=scale).scale == Decimal(str(scale))


@pytest.mark.parametrize("key", ["resolution", "rollover"])
@pytest.mark.parametrize("value", ["0", "-1", "1e13", "1e1000000"])
def test_a_count_of_a_register_is_more_than_nothing_and_can_be_stored(key: str, value: str):
    """Beyond Python's exponents, every factor on it would raise."""
    with pytest.raises(ValidationError, match=r"greater than 0|less than or equal to Decimal\('9000000000000'\)"):
        SourceBase(connection="main", **{key: value})
    assert getattr(SourceBase(connection="main", **{key: "9e12"}), key) == LARGEST


@pytest.mark.parametrize("key", ["expected_every", "max_gap", "period"])
@pytest.mark.parametrize("value", ["0s", "1000d", "9" * 400 + "d"])
def test_a_pace_is_more_than_nothing_and_at_most_a_year(key: str, value: str):
    """An endless one would be infinite seconds."""
    with pytest.raises(ValidationError, match=r"greater than 0|less than or equal to"):
        SourceBase(connection="main", **{key: value})
    assert getattr(SourceBase(connection="main", **{key: "366d"}), key) == LONGEST
