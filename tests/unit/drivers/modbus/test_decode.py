"""Words become exact numbers, in every type and order; what is no number becomes a reason, never 0 (reliability R2)."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import ModbusTcpClient

from drivers.modbus.decode import WIDTHS, Encoding, NoValue, decode, encode, end_of, hexed, in_order, marker_fault

INTEGERS = {
    "u16": (0, 2**16 - 1),
    "s16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "s32": (-(2**31), 2**31 - 1),
    "u64": (0, 2**64 - 1),
    "s64": (-(2**63), 2**63 - 1),
}
OTHERS = {
    "u48": (0, 2**48 - 1),
    "s48": (-(2**47), 2**47 - 1),
    "bcd16": (0, 9999),
    "bcd32": (0, 10**8 - 1),
    "bcd48": (0, 10**12 - 1),
    "bcd64": (0, 10**16 - 1),
    "mod1k32": (-(10**6) + 1, 10**6 - 1),
    "mod1k48": (-(10**9) + 1, 10**9 - 1),
    "mod1k64": (-(10**12) + 1, 10**12 - 1),
    "mod10k32": (-(10**8) + 1, 10**8 - 1),
    "mod10k48": (-(10**12) + 1, 10**12 - 1),
    "mod10k64": (-(10**16) + 1, 10**16 - 1),
    "sm16": (-(2**15) + 1, 2**15 - 1),
    "sm32": (-(2**31) + 1, 2**31 - 1),
    "iskra_t5": (0, 2**24 - 1),
    "iskra_t6": (-(2**23), 2**23 - 1),
    "acc32": (0, 2**32 - 1),
    "acc64": (0, 2**64 - 1),
}  # types that pymodbus has no conversion for
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


@st.composite
def every_integer(draw) -> tuple[str, int]:
    ranges = INTEGERS | OTHERS
    type_ = draw(st.sampled_from(sorted(ranges)))
    return type_, draw(st.integers(*ranges[type_]))


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
        ("u48", ("big", "big"), "0102 0304 0506", 0x010203040506),
        ("u48", ("little", "big"), "0506 0304 0102", 0x010203040506),
        ("u48", ("big", "little"), "0201 0403 0605", 0x010203040506),
        ("u48", ("little", "little"), "0605 0403 0201", 0x010203040506),
        ("s48", ("big", "big"), "FFFF FFFF FFFE", -2),
        ("bcd16", ("big", "big"), "9876", 9876),
        ("bcd32", ("big", "big"), "0012 3456", 123456),
        ("bcd32", ("little", "big"), "3456 0012", 123456),
        ("bcd32", ("little", "little"), "5634 1200", 123456),
        ("bcd64", ("big", "big"), "1234 5678 9012 3456", 1234567890123456),
        # Schneider FA146443: registers 1700 to 1703 hold 4567, 0123, 0000, 0000 and mean 1 234 567 Wh
        ("mod10k64", ("little", "big"), "11D7 007B 0000 0000", 1234567),
        ("mod10k48", ("big", "big"), "0000 007B 11D7", 1234567),
        ("mod10k32", ("big", "big"), "FF85 EE29", -1234567),  # FA212766: each register from -9999 to 9999
        ("mod1k48", ("big", "big"), "0001 00EA 0237", 1234567),
        ("sm16", ("big", "big"), "8005", -5),
        ("sm32", ("big", "big"), "8001 E240", -123456),
        ("sm32", ("big", "big"), "8000 0000", 0),
        ("iskra_t5", ("big", "big"), "FD01 E240", Decimal("123.456")),
        ("iskra_t5", ("big", "big"), "03FF FFFF", 16777215000),
        ("iskra_t6", ("big", "big"), "FDFE 1DC0", Decimal("-123.456")),
        ("acc32", ("big", "big"), "FFFF FFFF", 2**32 - 1),
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


@given(every_integer(), orders)
def test_every_integer_survives_the_registers(number, order):
    """Integers are exact in all types and orders, up to the last of 64 bits."""
    type_, value = number
    encoding = Encoding(type_, *order)
    words = encode(value, encoding)
    assert len(words) == encoding.width == WIDTHS[type_]
    assert decode(words, encoding) == value


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        ("bcd16", "FFFF"),
        ("bcd16", "00A0"),
        ("bcd32", "1234 567F"),
        ("mod10k32", "0000 2710"),  # 10000
        ("mod1k32", "03E8 0000"),  # 1000
        ("mod10k32", "0001 FFFF"),  # 1 and -1
        ("mod10k64", "FFFF FFFF 8000 0000"),
    ],
)
def test_registers_that_are_not_decimal_digits_are_no_value(type_, words):
    """All ones, or a register that means something else: rejected, not counted."""
    with pytest.raises(NoValue, match="not a number"):
        decode([int(word, 16) for word in words.split()], Encoding(type_))


@given(st.sampled_from(sorted(WIDTHS)), orders, st.data())
def test_any_words_are_a_finite_number_or_no_value(type_, order, data):
    """Whatever a meter sends: nothing but NoValue is raised, and no infinity comes out."""
    encoding = Encoding(type_, *order)
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=encoding.width, max_size=encoding.width))
    with suppress(NoValue):
        assert decode(words, encoding).is_finite()


@pytest.mark.parametrize("type_", sorted(INTEGERS | OTHERS))
def test_a_counter_begins_again_at_the_end_of_its_type(type_):
    """The last value that fits, and one more; signed types and those with an exponent have no end to rely on."""
    low, high = (INTEGERS | OTHERS)[type_]
    unsigned = type_.startswith(("u", "acc", "bcd", "mod"))
    assert end_of(type_) == (high + 1 if unsigned else None)
    if low == 0 and unsigned:
        assert decode(encode(high, Encoding(type_)), Encoding(type_)) == high


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("u16", 65536),
        ("bcd16", 10_000),
        ("mod10k32", 10**8),
        ("mod1k32", -(10**6)),
        ("iskra_t5", 2**24),
        ("s48", 2**47),
    ],
)
def test_what_does_not_fit_into_a_type_is_not_cut_off(type_, value):
    """A simulated meter never shows another number than it was told."""
    with pytest.raises((OverflowError, struct.error)):
        encode(value, Encoding(type_))


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


def test_a_mark_that_names_a_type_is_about_that_type_alone():
    """SunSpec: 0x80000000 is no value in an s32 and a number in a u32."""
    na = ("s32:0x80000000", "u16:0xFFFF")
    with pytest.raises(NoValue, match="not available"):
        decode((0x8000, 0), Encoding("s32", na=na))
    assert decode((0x8000, 0), Encoding("u32", na=na)) == 2**31
    assert decode((0xFFFF,), Encoding("s16", na=na)) == -1


@pytest.mark.parametrize("text", ["0xFFFF", "0X7fffffff", "0xFFFFFFFFFFFF", "0x8000000000000000", "s32:0x80000000"])
def test_a_mark_of_one_to_four_registers_is_understood(text):
    """In either case of letters."""
    assert not marker_fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FFFF",
        "0x",
        "0xFFF",
        "0xFFFFFF",
        "0xFFFFFFFFFFFFFFFFFFFF",
        "0xGGGG",
        "65535",
        "0xFFFF ",
        "s31:0x7FFFFFFF",
        "s32:0xFFFF",
        ":0xFFFF",
    ],
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
