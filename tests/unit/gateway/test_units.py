"""Units by name, and the exact numbers between them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.model import INT64
from gateway.units import AMOUNTS, RATES, allowed, factor, micro_by, nearest, to_micro


@pytest.mark.parametrize(
    ("source", "meter", "kind", "by"),
    [
        ("kWh", "MWh", "counter", Fraction(1, 1000)),
        ("Wh", "kWh", "interval", Fraction(1, 1000)),
        ("GJ", "MWh", "counter", Fraction(10, 36)),
        ("J", "kWh", "counter", Fraction(1, 3_600_000)),
        ("Wmin", "kWh", "counter", Fraction(1, 60_000)),
        ("l", "m3", "counter", Fraction(1, 1000)),
        ("m³", "m3", "counter", Fraction(1)),
        ("kvarh", "Mvarh", "counter", Fraction(1, 1000)),
        ("W", "kWh", "power", Fraction(1, 1000)),
        ("l/s", "m3", "power", Fraction(36, 10)),
        ("m3/h", "l", "power", Fraction(1000)),
    ],
)
def test_a_factor_is_exact(source: str, meter: str, kind: str, by: Fraction):
    """No rounding before the one at the end; power gives the unit per hour."""
    assert factor(source, meter, kind) == by


@pytest.mark.parametrize(
    ("source", "meter", "kind"),
    [
        ("m3", "kWh", "counter"),
        ("kWh", "kvarh", "counter"),
        ("W", "kWh", "counter"),
        ("kWh", "kWh", "power"),
        ("pulse", "kWh", "counter"),
        ("count", "pulse", "counter"),
        ("kwh", "kWh", "counter"),
        ("kWh", "kW", "counter"),
    ],
)
def test_where_no_factor_exists_there_is_none(source: str, meter: str, kind: str):
    """A volume is no energy, an amount is no rate, and an unknown unit is nothing."""
    assert factor(source, meter, kind) is None


def test_there_and_back_is_the_same_number():
    """For every pair of units of one quantity."""
    for one, other in product(AMOUNTS, AMOUNTS):
        there, back = factor(one, other, "counter"), factor(other, one, "counter")
        assert (there is None) == (AMOUNTS[one].quantity != AMOUNTS[other].quantity)
        assert there is None or back is None or there * back == 1


def test_every_rate_gathers_in_some_amount():
    """Otherwise no meter could use it."""
    assert all(any(factor(rate, amount, "power") for amount in AMOUNTS) for rate in RATES)


@pytest.mark.parametrize(
    ("name", "kind", "meant"),
    [("kwh", "counter", "kWh"), ("KWH", "counter", "kWh"), ("mwh", "counter", "MWh"), (" m3 ", "counter", "m3"),
     ("kw", "power", "kW"), ("m3h", "power", "m3/h"), ("furlong", "counter", None)],
)  # fmt: skip
def test_another_spelling_leads_to_the_unit(name: str, kind: str, meant: str | None):
    """The case of letters first: it is the commonest slip."""
    assert nearest(name, kind) == meant


def test_what_is_allowed_depends_on_kind_and_quantity():
    """The lists that an error shows."""
    assert allowed("counter", "mass") == ["kg", "t"]
    assert allowed("power", "energy") == ["W", "kW", "MW"]
    assert allowed("power", "mass") == []


def test_micro_is_rounded_half_up_away_from_zero_once():
    """5 J are 1.388... millionths of a kilowatt-hour."""
    assert to_micro(Decimal("0.0000005"), Fraction(1)) == 1
    assert to_micro(Decimal("-0.0000005"), Fraction(1)) == -1
    assert to_micro(Decimal("0.00000049"), Fraction(1)) == 0
    assert to_micro(Decimal(5), Fraction(1, 3_600_000)) == 1


@pytest.mark.parametrize("value", ["1e30", "-1e30", "1E+999999999", "9223372036854.775808"])
def test_what_int64_cannot_hold_is_an_overflow(value: str):
    """DESIGN 2; and at once, however long the number would be."""
    with pytest.raises(OverflowError, match="beyond what a counter can hold"):
        to_micro(Decimal(value), Fraction(1))


def test_the_smallest_numbers_are_nothing():
    """Without becoming a fraction of a billion digits."""
    assert to_micro(Decimal("1E-999999999"), Fraction(1)) == 0
    assert to_micro(Decimal(0), Fraction(10**9)) == 0


@given(st.decimals(-9_000_000_000_000, 9_000_000_000_000, allow_nan=False, places=9))
@settings(max_examples=100)
def test_micro_is_never_more_than_half_a_millionth_off(value: Decimal):
    """And what is allowed fits into int64."""
    micro = to_micro(value, Fraction(1))
    assert abs(Fraction(value) * 10**6 - micro) <= Fraction(1, 2)
    assert abs(micro) <= INT64


@given(
    st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-(10**13), 10**13, places=7),
    st.sampled_from([unit.size / AMOUNTS["kWh"].size for unit in AMOUNTS.values()])
    | st.fractions(Fraction(1, 10**9), Fraction(10**9)),
)
def test_a_factor_that_is_known_before_gives_the_same_micro(value, by):
    """The quick way rounds as the long one does, at every exponent and for factors without a finite decimal."""
    try:
        expected = to_micro(value, by)
    except OverflowError:
        with pytest.raises(OverflowError):
            micro_by(by)(value)
    else:
        assert micro_by(by)(value) == expected


@pytest.mark.parametrize("value", ["1E+999999999", "-9.3E+12", "9223372036854.7758075"])
def test_a_factor_that_is_known_before_lets_nothing_overflow(value):
    """Neither a hostile exponent nor a value just beyond int64 becomes a micro."""
    with pytest.raises(OverflowError):
        micro_by(Fraction(1))(Decimal(value))


@pytest.mark.parametrize(
    ("value", "micro"), [("0.0000005", 1), ("-0.0000005", -1), ("0.00000049", 0), ("1E-999999", 0)]
)
def test_a_factor_that_is_known_before_rounds_half_up_once(value, micro):
    """Halves go away from zero; what is too small to count is 0."""
    assert micro_by(Fraction(1))(Decimal(value)) == micro
