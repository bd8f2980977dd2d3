"""The same words in every order, and which numbers look like a meter's."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.decode import WIDTHS, Encoding, encode
from drivers.modbus.orders import ORDERS, USUAL, guesses, in_all_orders, likely, mark, order_of, short, value_of
from drivers.modbus.source import Source
from drivers.modbus.target import target_of

CASES = Path(__file__).parents[3] / "profiles" / "cases.csv"


def marked(*words: int) -> set[tuple[str, str]]:
    """Type and order of what looks like a meter's."""
    return {(guess.type, guess.order) for guess in guesses(words) if guess.likely}


@given(st.sampled_from(USUAL), st.sampled_from(sorted(ORDERS)), st.integers(0, 32_000))
def test_what_was_written_in_an_order_is_read_back_in_it(type_, order, number):
    """Whatever the type and the order; the others show what they make of the same words."""
    words = encode(number, Encoding(type_, *ORDERS[order]))
    assert value_of(words, type_, order) == number
    shown = {(guess.type, guess.order): guess.value for guess in guesses(words)}
    if WIDTHS[type_] > 1:
        assert shown[type_, order] == number
        assert {order for name, order in shown if name == type_} == set(ORDERS)


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=6))
def test_no_words_break_it(words):
    """Every value that fits is there, a single register only in the two orders that differ for it."""
    found = guesses(words)
    fitting = [name for name in USUAL if WIDTHS[name] <= len(words)]
    assert len(found) == sum(4 if WIDTHS[name] > 1 else 2 for name in fitting)
    assert all(short(guess.value) for guess in found)
    assert not any(guess.likely for guess in found if guess.value is None or guess.value == 0)


def test_the_order_of_every_shipped_meter_is_among_those_marked():
    """Captured and computed words of all profiles: the right order is marked for 97 %, with at most two marks on average."""
    hits = marks = total = 0
    for row in csv.DictReader(CASES.read_text("utf-8").splitlines()):
        facts = {"profile": row["profile"], "point": row["point"], "unit": row["unit"] or None}
        target = target_of("", Source.model_validate({"connection": "", "device": 1} | facts))
        words = [int(word, 16) for word in row["image"].split("=")[1].split()] if ";" not in row["image"] else []
        plain = target.place.width == target.encoding.width == len(words) and target.encoding.type in USUAL
        if row["reading"] == "none" or not plain:
            continue
        found = marked(*words)
        hits += (target.encoding.type, order_of(target.encoding)) in found
        marks += len(found)
        total += 1
    assert total > 300
    assert hits / total >= 0.97
    assert marks / total <= 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((0x4366, 0x199A), {("f32", "ABCD")}),  # 230.1
        ((0x199A, 0x4366), {("f32", "CDAB")}),
        ((0x6643, 0x9A19), {("f32", "BADC")}),
        ((0x0000, 0x0000, 0x0459, 0x04D9), {("u64", "ABCD"), ("s64", "ABCD")}),
        ((0x3039,), {("u16", "ABCD"), ("s16", "ABCD")}),
        ((0xFFFF, 0xFFFF), set()),
        ((0, 0), set()),
    ],
)
def test_what_looks_like_a_meters_is_marked(words, what):
    """Rounded floats, counters that have not filled their register; swapped bytes only where nothing else will do."""
    assert marked(*words) == what


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        ((0xFFFF,), True),
        ((0x7FFF, 0xFFFF), True),
        ((0xFFFF, 0x7FFF), True),
        ((0x8000, 0x0000, 0x0000, 0x0000), True),
        ((0x7FC0, 0x0000), True),
        ((0, 0), False),
        ((0x8000, 0x0001), False),
    ],
)
def test_the_usual_marks_for_no_value_are_known(words, is_one):
    """In either order of words."""
    assert mark(words) is is_one
    assert not (is_one and likely(words, Encoding("u32" if len(words) == 2 else "u16")))


def test_a_source_in_all_orders_keeps_its_scale():
    """And its fraction; of a sum there is nothing to say."""
    facts = {"connection": "", "device": 1, "type": "u32", "scale": "0.1"}
    target = target_of("", Source.model_validate(facts | {"register": 5}))
    assert in_all_orders(target, (1, 0)) == {
        "ABCD": Decimal("6553.6"),
        "CDAB": Decimal("0.1"),
        "BADC": Decimal("1677721.6"),
        "DCBA": Decimal("25.6"),
    }
    summed = target_of("", Source.model_validate(facts | {"registers": [5, 9]}))
    assert in_all_orders(summed, (1, 0, 1, 0)) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("12345.678", "12345.678"),
        ("1E-40", "1e-40"),
        ("-81920", "-81920"),
        ("1.8E19", "1.8e+19"),
        ("0E-6", "0"),
    ],
)
def test_a_table_shows_exactly_what_could_be_a_meters(value, text):
    """And of the rest only how large it is."""
    assert short(Decimal(value)) == text


def test_a_table_shows_a_dash_for_no_number():
    """NaN is no 0."""
    assert short(value_of((0x7FC0, 0), "f32", "ABCD")) == "-"
