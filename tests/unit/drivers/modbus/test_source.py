"""What an operator may write about a register, key by key."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from drivers.modbus.source import Source

BY_REGISTER = {"connection": "main", "device": 7, "register": 1024, "type": "u32"}


def source(**changes) -> Source:
    return Source.model_validate(BY_REGISTER | changes)


def fault(**changes) -> tuple[str, str]:
    """The key and the message of the one mistake."""
    with pytest.raises(ValidationError) as refused:
        source(**changes)
    (error,) = refused.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


def test_a_register_needs_little_and_leaves_the_rest_open():
    """None means: the profile's, or the driver's default."""
    plain = source()
    assert (plain.register, plain.type, plain.scale) == (1024, "u32", Decimal(1))
    assert plain.table is plain.word_order is plain.byte_order is plain.na is plain.kind is plain.unit is None
    assert plain.timeout is plain.gap is plain.max_registers is None


def test_a_factor_is_taken_as_it_is_written():
    """As text or as a TOML float: 0.1 is a tenth and not 0.1000000000000000055."""
    assert source(scale="0.1").scale == source(scale=0.1).scale == Decimal("0.1")
    assert source(scale=1000).scale == 1000


def test_marks_for_no_value_are_written_as_a_list():
    """TOML has lists, the model a tuple."""
    assert source(na=["0xFFFFFFFF", "0x7FFFFFFF"]).na == ("0xFFFFFFFF", "0x7FFFFFFF")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("device", 256, "less than or equal to 255"),
        ("device", -1, "greater than or equal to 0"),
        ("device", "7", "valid integer"),
        ("device", True, "valid integer"),
        ("register", 65_536, "less than 65536"),
        ("register", -1, "greater than or equal to 0"),
        ("register", 1024.0, "valid integer"),
        ("type", "float", "'u16', 's16', 'u32'"),
        ("table", "coil", "'holding' or 'input'"),
        ("word_order", "CDAB", "'big' or 'little'"),
        ("byte_order", "swapped", "'big' or 'little'"),
        ("scale", "a tenth", "must be a number"),
        ("scale", "NaN", "must be a finite number"),
        ("scale", True, "must be a number"),
        ("timeout", "0s", "greater than or equal to 0.05"),
        ("timeout", 1, "must be a duration in quotes"),
        ("timeout", "31s", "less than or equal to 30"),
        ("gap", "11s", "less than or equal to 10"),
        ("max_registers", 0, "greater than or equal to 1"),
        ("max_registers", 126, "less than or equal to 125"),
        ("kind", "meter", "'counter', 'interval' or 'power'"),
        ("regster", 5, "not permitted"),
    ],
)
def test_a_mistake_names_its_key_and_what_is_allowed(key, value, said):
    """One mistake, one message, at the key that has it."""
    at, message = fault(**{key: value})
    assert at == key
    assert said in message


def test_a_wrong_mark_for_no_value_is_named_by_its_place():
    """Which one of the list."""
    at, message = fault(na=["0xFFFF", "65535"])
    assert at == "na.1"
    assert "0x7FFFFFFF" in message


def test_a_factor_of_zero_is_refused():
    """R2: it would turn every value into 0."""
    assert fault(scale=0)[0] == "scale"


@pytest.mark.parametrize("key", ["connection", "device"])
def test_what_every_register_needs_is_asked_for(key):
    """Without a default."""
    with pytest.raises(ValidationError, match=key):
        Source.model_validate({each: value for each, value in BY_REGISTER.items() if each != key})


@pytest.mark.parametrize(
    ("written", "ratio"), [("200/5", 40), (40, 40), ("0.5", "0.5"), (0.1, "0.1"), ("1/1000", "0.001"), ("100 / 5", 20)]
)
def test_a_ratio_is_written_as_on_the_type_plate_or_as_a_number(written, ratio):
    """Exactly, either way; for transformers and for pulses."""
    assert source(ct_ratio=written).ct_ratio == source(pulse_weight=written).pulse_weight == Decimal(ratio)


@pytest.mark.parametrize(
    "written",
    [
        "200/0",
        0,
        "-5",
        "-200/5",
        "200/5/1",
        "/5",
        "200/",
        "a/b",
        "200:5",
        "1e400/NaN",
        "1e999999/1e-999999",
        "1e13",
        "1e-13",
        "0/0",
        True,
    ],
)
def test_a_ratio_that_would_lose_or_turn_every_value_is_refused(written):
    """R2: it would turn every value into 0 or its opposite."""
    assert fault(ct_ratio=written)[0] == "ct_ratio"


def test_lists_are_taken_from_a_file_and_from_a_spreadsheets_texts():
    """A spreadsheet has only texts, split at blanks."""
    assert (
        source(register=None, registers=["40", "42"]).registers == source(register=None, registers=[40, 42]).registers
    )
    assert source(points=["a", "b"]).points == ("a", "b")
    for wrong in ([], [40, -1], [40, 65_536], [40, "x"], [40, 1.5], "40", True):
        with pytest.raises(ValidationError) as refused:
            source(register=None, registers=wrong)
        assert {error["loc"][0] for error in refused.value.errors()} == {"registers"}
    assert fault(points=[])[0] == "points"
    assert source(register=None, registers=40).registers == (40,)  # what a cell with one address is
