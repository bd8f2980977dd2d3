"""Numbers on the command line, as every command takes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from gateway.commands.common import LARGEST_ID, enerkey_id, fraction, plain, span, whole
from gateway.commands.meter import value
from gateway.commands.read_modbus import _number
from gateway.commands.simulate import _fault
from gateway.commands.watching import every

TYPES = {
    "whole": whole(0, 65_535),
    "fraction": fraction(0, 1000),
    "span": span(0, 3600),
    "value": value,
    "every": every,
    "register": _number,
    "rate": lambda text: _fault(f"{text}:lost-answer"),
}
FULLWIDTH, ARABIC = "\N{FULLWIDTH DIGIT ONE}", "\N{ARABIC-INDIC DIGIT ONE}"


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("text", ["1_0", "0_1", "1_", " 1", "1 ", "\t1", FULLWIDTH, ARABIC, ""])
def test_what_only_python_takes_for_a_number_is_none(kind: Callable[[str], object], text: str):
    """A slip of the finger must not become another value: it is refused, and the message says what is allowed."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be|is not RATE:KIND"):
        kind(text)


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_a_number_in_digits_is_one(kind: Callable[[str], object]):
    """The same types take it."""
    assert kind("1")


@pytest.mark.parametrize("text", ["0", "10", "0.5", "1e3", "-1", "+1"])
def test_how_numbers_are_written(text: str):
    """Signs, points and exponents are; whether they are allowed is for each type to say."""
    assert plain(text) == text


@pytest.mark.parametrize("text", ["0", "9223372036854775808", "1_0", "boiler"])
def test_an_enerkey_id_says_what_is_allowed(text: str):
    """As the configuration does: no id is larger than what the database can hold."""
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number from 1 to 9223372036854775807"):
        enerkey_id(text)
    assert enerkey_id("9223372036854775807") == LARGEST_ID
