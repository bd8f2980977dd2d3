"""Words become exact numbers, in every type and order; what is no number becomes a reason, never 0 (reliability R2)."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import ModbusTcpClient

from drivers.modbus.decode import WIDTHS, Encoding, NoValue, decode, encode, hexed, in_order, marker_fault

INTEGERS = {
    "u16": (0, 2**16 - 1),
    "s16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "s32": (-(2**31), 2**31 - 1),
    "u64": (0, 2**64 - 1),
    "s64": (-(2**63), 2**63 - 1),
}
PYMODBUS = {
    "u16": "UINT16",
    "s16": "INT16",
    "u32": "UINT32",
    "s32": "INT32",
    "u64": "UINT64",
    "s64": "INT64",
    "f32": "FLOAT32",
    "f64": "FLOAT64",
}
ORDERS = [("big", "big"), ("little", "big"), ("big", "little"), ("little", "little")]
orders = st.sampled_from(ORDERS)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
doubles = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def integers(draw) -> tuple[str, int]:
    type_ = draw(st.sampled_from(sorted(INTEGERS)))
    return type_, draw(st.integers(*INTEGERS[type_]))


@pytest.mark.parametrize(
    ("type_", "order", "words", "value"),
    [
        # the table in facts and manuals: 0x01020304 by its four names
        ("u32", ("big", "big"), "0102 0304", 0x01020304),  # ABCD
        ("u32", ("little", "big"), "0304 0102", 0x01020304),  # CDAB
        ("u32", ("big", "little"), "0201 0403", 0x01020304),  # BADC
        ("u32", ("little", "little"), "0403 0201", 0x01020304),  # DCBA
        ("s32", ("little", "big"), "FFFE FFFF", -2),
        ("u64", ("big", "big"), "0102 0304 0506 0708", 0x0102030405060708),
        ("u64", ("little", "big"), "0708 0506 0304 0102", 0x0102030405060708),
        ("u64", ("big", "little"), "0201 0403 0605 0807", 0x0102030405060708),
        ("u64", ("little", "little"), "0807 0605 0403 0201", 0x0102030405060708),
        ("s64", ("big", "big"), "FFFF FFFF FFFF FFFF", -1),
        ("u16", ("big", "big"), "0102", 0x0102),
        ("u16", ("little", "big"), "0102", 0x0102),  # one register has no word order
        ("u16", ("big", "little"), "0102", 0x0201),
        ("s16", ("big", "big"), "8000", -32768),
        ("f32", ("big", "big"), "423C 70A4", Decimal("47.11")),
        ("f32", ("little", "big"), "70A4 423C", Decimal("47.11")),
        ("f32", ("big", "little"), "3C42 A470", Decimal("47.11")),
        ("f32", ("little", "little"), "A470 3C42", Decimal("47.11")),
        ("f64", ("big", "big"), "4047 8E14 7AE1 47AE", Decimal("47.11")),
        ("f64", ("little", "big"), "47AE 7AE1 8E14 4047", Decimal("47.11")),
        ("f64", ("big", "little"), "4740 148E E17A AE47", Decimal("47.11")),
        ("f64", ("little", "little"), "AE47 E17A 148E 4740", Decimal("47.11")),
    ],
)
def test_words_written_by_hand_have_their_value(type_, order, words, value):
    """Each type in each order, against words that a person can compare with a manual."""
    assert decode([int(word, 16) for word in words.split()], Encoding(type_, *order)) == value


@given(integers(), orders)
def test_every_integer_survives_the_registers(number, order):
    """Integers are exact in all types and orders, up to the last of 64 bits."""
    type_, value = number
    encoding = Encoding(type_, *order)
    words = encode(value, encoding)
    assert len(words) == encoding.width == WIDTHS[type_]
    assert decode(words, encoding) == value


@given(doubles, orders)
def test_every_f64_survives_the_registers(value, order):
    """The decimal of an f64 means exactly that f64 again."""
    encoding = Encoding("f64", *order)
    assert float(decode(encode(value, encoding), encoding)) == value


@given(singles, orders)
def test_every_f32_survives_the_registers(value, order):
    """The decimal of an f32 means exactly that f32 again, however short it is."""
    encoding = Encoding("f32", *order)
    again = float(decode(encode(value, encoding), encoding))
    assert struct.pack(">f", again) == struct.pack(">f", value)


@given(st.decimals(min_value=0, max_value=999_999, places=2).filter(lambda number: len(number.as_tuple().digits) <= 6))
def test_a_meters_own_six_digits_come_out_of_an_f32_as_they_stand_on_its_display(shown):
    """47.11 and not 47.11000061035156: hours are differences of these numbers."""
    assert decode(encode(float(shown), Encoding("f32")), Encoding("f32")) == shown


@given(st.integers(-(2**24), 2**24))
def test_whole_numbers_in_an_f32_are_exact_up_to_its_24_bits(value):
    """A pulse counter in an f32 loses nothing."""
    assert decode(encode(value, Encoding("f32")), Encoding("f32")) == value


@given(singles, singles)
def test_a_counter_in_an_f32_never_runs_backwards_by_its_decimals(one, other):
    """The shortest decimals are in the order of the floats."""
    low, high = sorted((one, other))
    encoding = Encoding("f32")
    decoded = decode(encode(low, encoding), encoding), decode(encode(high, encoding), encoding)
    assert decoded[0] < decoded[1] if low < high else decoded[0] == decoded[1]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ((0x47C4, 0xCEFE), "100765.984"),
        ((0x7F7F, 0xFFFF), "3.4028235E+38"),  # the largest
        ((0x7F7F, 0xFFFE), "3.4028233E+38"),
        ((0x0000, 0x0001), "1.40130E-45"),  # the smallest
        ((0x8000, 0x0000), "0"),
    ],
)
def test_an_f32_has_as_many_digits_as_it_needs(words, value):
    """Nine where eight would mean its neighbour."""
    assert decode(words, Encoding("f32")) == Decimal(value)


@given(integers(), st.sampled_from(["big", "little"]))
def test_integers_read_as_pymodbus_reads_them(number, word_order):
    """Cross-check with a conversion that is not ours, where it has one (it knows no swapped bytes)."""
    type_, value = number
    theirs = ModbusTcpClient.DATATYPE[PYMODBUS[type_]]
    words = ModbusTcpClient.convert_to_registers(value, theirs, word_order)
    assert decode(words, Encoding(type_, word_order)) == value
    assert list(encode(value, Encoding(type_, word_order))) == words


@given(st.sampled_from(["f32", "f64"]), singles, st.sampled_from(["big", "little"]))
def test_floats_read_as_pymodbus_reads_them(type_, value, word_order):
    """The same cross-check for IEEE 754."""
    theirs = ModbusTcpClient.DATATYPE[PYMODBUS[type_]]
    words = ModbusTcpClient.convert_to_registers(value, theirs, word_order)
    ours = float(decode(words, Encoding(type_, word_order)))
    assert struct.unpack(">f", struct.pack(">f", ours))[0] == value
    assert list(encode(value, Encoding(type_, word_order))) == words


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("type_", ["f32", "f64"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_no_value(type_, number, order):
    """R2: a meter that wakes up says NaN, and that is not 0."""
    encoding = Encoding(type_, *order)
    with pytest.raises(NoValue) as refused:
        decode(encode(number, encoding), encoding)
    assert refused.value.reason == "not a number"


@pytest.mark.parametrize("words", [(0x7FC0, 0), (0xFFC0, 0), (0x7FFF, 0xFFFF), (0x7F80, 1)])
def test_every_bit_pattern_of_nan_is_no_value(words):
    """Schneider's 0xFFC00000, SunSpec's 0x7FC00000, all ones below the sign, a signalling one."""
    with pytest.raises(NoValue, match="not a number"):
        decode(words, Encoding("f32"))


@pytest.mark.parametrize(
    ("type_", "order", "words", "marker"),
    [
        ("u16", ("big", "big"), (0xFFFF,), "0xFFFF"),
        ("s16", ("big", "big"), (0x8000,), "0x8000"),
        ("u32", ("big", "big"), (0xFFFF, 0xFFFF), "0xFFFFFFFF"),
        ("s32", ("little", "big"), (0xFFFF, 0x7FFF), "0x7FFFFFFF"),  # Carlo Gavazzi's "EEE"
        ("s32", ("little", "little"), (0xFFFF, 0xFF7F), "0x7FFFFFFF"),
        ("u64", ("big", "big"), (0xFFFF,) * 4, "0xffffffffffffffff"),
        ("s64", ("big", "big"), (0x8000, 0, 0, 0), "0x8000000000000000"),
        ("f32", ("big", "big"), (0x4974, 0x23F0), "0x497423F0"),  # Itron's 999999
        ("f32", ("big", "big"), (0xFFC0, 0), "0xFFC00000"),  # said before it is found to be a NaN
    ],
)
def test_a_meters_own_mark_for_no_value_is_no_value(type_, order, words, marker):
    """R2: the mark is written most significant first, whatever order the words come in."""
    encoding = Encoding(type_, *order, na=("0x1234", marker))
    with pytest.raises(NoValue) as refused:
        decode(words, encoding)
    assert refused.value.reason == "not available"
    assert marker[2:].upper() in refused.value.detail


def test_a_mark_rejects_only_values_of_its_own_width_and_only_itself():
    """0xFFFF marks 16 bits: 65535 in 32 bits is a number, and so is the mark's neighbour."""
    assert decode((0, 0xFFFF), Encoding("u32", na=("0xFFFF",))) == 65535
    assert decode((0xFFFE,), Encoding("u16", na=("0xFFFF",))) == 65534
    assert decode((0xFFFF,), Encoding("u16")) == 65535


@pytest.mark.parametrize("type_", sorted(WIDTHS))
@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_number_of_words_is_no_value(type_, off):
    """Neither cut off nor filled up with 0."""
    with pytest.raises(NoValue) as refused:
        decode([0] * (WIDTHS[type_] + off), Encoding(type_))
    assert refused.value.reason == "wrong length"
    assert str(WIDTHS[type_] + off) in refused.value.detail


@pytest.mark.parametrize("text", ["0xFFFF", "0X7fffffff", "0x8000000000000000"])
def test_a_mark_of_one_two_or_four_registers_is_understood(text):
    """In either case of letters."""
    assert not marker_fault(text)


@pytest.mark.parametrize(
    "text", ["", "FFFF", "0x", "0xFFF", "0xFFFFFF", "0xFFFFFFFFFFFF", "0xGGGG", "65535", "0xFFFF "]
)
def test_any_other_mark_is_told_apart_with_an_example(text):
    """The message says what is allowed."""
    assert "0x7FFFFFFF" in marker_fault(text)


def test_words_are_shown_as_in_a_manual():
    """Four hex digits each."""
    assert hexed([0x4238, 0xEC]) == "4238 00EC"
    assert not hexed([])


def test_the_bytes_of_an_order_are_most_significant_first():
    """What `na` is compared with."""
    assert in_order((0x0403, 0x0201), Encoding("u32", "little", "little")) == b"\1\2\3\4"
