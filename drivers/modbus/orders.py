"""The same words in all four orders, and which of the numbers look like a meter's. Pure.

Manuals seldom say the order, and two of four numbers often look possible. What helps: a meter's counter has not filled its
register yet, so the highest byte of an integer is 0 (or all ones below 0); a float of a meter is neither tiny nor huge,
and was mostly rounded to a few digits before it became a float.
"""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, cast

from drivers.modbus.decode import WIDTHS, Encoding, NoValue, Order, Type, decode, in_order, is_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.modbus.target import Target

ORDERS: dict[str, tuple[Order, Order]] = {
    "ABCD": ("big", "big"),
    "CDAB": ("little", "big"),
    "BADC": ("big", "little"),
    "DCBA": ("little", "little"),
}
"""Word order and byte order by the names in manuals."""

USUAL: tuple[Type, ...] = ("u16", "s16", "u32", "s32", "f32", "u64", "s64", "f64")
SMALLEST, LARGEST = Decimal("0.001"), Decimal(10) ** 9  # of a float that looks like a meter's
FEW_DIGITS = 6  # of a number that was rounded before it became a float
AS_SMALL = 16  # times the least integer: still as likely
NO_VALUE = ({0xFFFF}, {0x7FFF, 0xFFFF}, {0x8000, 0x0000}, {0x7FC0, 0x0000})  # words of the usual marks


class Guess(NamedTuple):
    """One way to read the words. `value` None: they are no number that way. `likely`: it looks like a meter's."""

    type: Type
    order: str
    value: Decimal | None
    likely: bool = False


def guesses(words: Sequence[int], types: Sequence[Type] = USUAL) -> list[Guess]:
    """The value that begins at the first word: every type that fits, in every order that differs for it."""
    found = [
        Guess(type_, order, value_of(words[: WIDTHS[type_]], type_, order))
        for type_ in types
        if WIDTHS[type_] <= len(words)
        for order in ORDERS
        if WIDTHS[type_] > 1 or order in {"ABCD", "BADC"}
    ]
    return _marked(found, words)


def value_of(words: Sequence[int], type_: str, order: str) -> Decimal | None:
    """The number, or None where the words are none."""
    try:
        return decode(words, Encoding(cast("Type", type_), *ORDERS[order]))
    except NoValue:
        return None


def in_all_orders(target: Target, words: Sequence[int]) -> dict[str, Decimal | None]:
    """What a target's value would be in each order, its scale included. Of a sum nothing: its terms have orders each."""
    if target.terms:
        return {}
    values: dict[str, Decimal | None] = {}
    for order, (word_order, byte_order) in ORDERS.items():
        encoding = replace(target.encoding, word_order=word_order, byte_order=byte_order)
        try:
            values[order] = replace(target, encoding=encoding).value(words)
        except NoValue:
            values[order] = None
    return values


def order_of(encoding: Encoding) -> str:
    """The name of an encoding's order."""
    return next(name for name, each in ORDERS.items() if each == (encoding.word_order, encoding.byte_order))


def likely(words: Sequence[int], encoding: Encoding) -> bool:
    """Whether the words of one value look like a meter's in this encoding; 0 says nothing and is no."""
    try:
        value = decode(words, encoding)
    except NoValue:
        return False
    if not value or mark(words):
        return False
    if is_float(encoding.type):
        return SMALLEST <= abs(value) < LARGEST
    raw = in_order(words, encoding)
    return len(raw) == 2 or raw[0] == 0 or (raw[0] == 0xFF and value < 0)


def mark(words: Sequence[int]) -> bool:
    """Whether the words are what many meters say instead of a value: all ones, 0x7FFF…, 0x8000…, NaN."""
    return any(set(words) == each for each in NO_VALUE) or (len(words) == 1 and words[0] in {0xFFFF, 0x7FFF, 0x8000})


def digits(value: Decimal) -> int:
    """Significant digits."""
    return len(value.normalize().as_tuple().digits)


def _marked(found: Sequence[Guess], words: Sequence[int]) -> list[Guess]:
    """Mark what is likely, of each width; single registers only where nothing is wider."""
    possible = [
        each
        for each in found
        if each.value is not None and likely(words[: WIDTHS[each.type]], Encoding(each.type, *ORDERS[each.order]))
    ]
    best: set[Guess] = set()
    for width in {WIDTHS[each.type] for each in possible} - ({1} if len(words) > 1 else set()):
        alike = [each for each in possible if WIDTHS[each.type] == width]
        best |= set(_roundest([each for each in alike if is_float(each.type)]))
        best |= set(_least([each for each in alike if not is_float(each.type)]))
    return [each._replace(likely=each in best) for each in found]


def _roundest(floats: Sequence[Guess]) -> Sequence[Guess]:
    return _unswapped([each for each in floats if each.value and digits(each.value) <= FEW_DIGITS] or floats)


def _least(whole: Sequence[Guess]) -> Sequence[Guess]:
    whole = _unswapped(whole)
    least = min((abs(each.value) for each in whole if each.value), default=Decimal(0))
    return [each for each in whole if each.value and abs(each.value) <= least * AS_SMALL]


def _unswapped(alike: Sequence[Guess]) -> Sequence[Guess]:
    """Swapped words are met every day, swapped bytes hardly ever."""
    return [each for each in alike if ORDERS[each.order][1] == "big"] or alike


def short(value: Decimal | None) -> str:
    """For a table: exact where it could be a meter's, else its size only."""
    if value is None:
        return "-"
    if value and not SMALLEST <= abs(value) < Decimal(10) ** 12:
        return f"{float(value):.3g}" if math.isfinite(float(value)) else "-"
    if value == value.to_integral_value():
        return f"{value:f}".partition(".")[0]
    return f"{value.quantize(Decimal('0.000001')).normalize():f}"
