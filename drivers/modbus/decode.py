"""From register words to exact numbers. Pure; knows nothing of pymodbus.

Two registers holding 0x01020304, by the names in manuals:

    name   words on the wire   word order   byte order   also called
    ABCD   0102 0304           big          big          big endian, MSW first
    CDAB   0304 0102           little       big          word swap, LSW first
    BADC   0201 0403           big          little       byte swap
    DCBA   0403 0201           little       little       little endian
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Type = Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"]
Order = Literal["big", "little"]

WIDTHS: dict[str, int] = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "s64": 4, "f32": 2, "f64": 4}
"""Registers that a value of each type takes."""

_FORMATS = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "u64": ">Q", "s64": ">q", "f32": ">f", "f64": ">d"}
_FEWEST_DIGITS, _MOST_DIGITS = 6, 9  # every f32 survives 9 significant digits; every number of 6 digits survives f32
_MARKER = re.compile(r"0[xX]([0-9a-fA-F]{4}|[0-9a-fA-F]{8}|[0-9a-fA-F]{16})")


class NoValue(Exception):  # noqa: N818 - the meter says so; it is no error
    """The words hold no number. `reason` is stable and can be counted; `detail` is the particular case."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep both."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a value stands in its registers. `na`: texts by which this meter says "no value" (see `marker_fault`)."""

    type: Type
    word_order: Order = "big"
    byte_order: Order = "big"
    na: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Registers."""
        return WIDTHS[self.type]


def decode(words: Sequence[int], encoding: Encoding) -> Decimal:
    """The number in exactly `encoding.width` words; raises NoValue for a marker, NaN or infinity: never 0 for them."""
    raw = in_order(words, encoding)
    if len(raw) != 2 * encoding.width:
        raise NoValue("wrong length", f"{len(words)} registers where {encoding.type} takes {encoding.width}")
    if any(bytes.fromhex(marker[2:]) == raw for marker in encoding.na):
        raise NoValue("not available", f"0x{raw.hex().upper()} is this meter's mark for no value")
    number = struct.unpack(_FORMATS[encoding.type], raw)[0]
    if isinstance(number, int):
        return Decimal(number)
    if not math.isfinite(number):
        raise NoValue("not a number", str(number))
    return single(raw, number) if encoding.type == "f32" else Decimal(repr(number))


def encode(value: int | float, encoding: Encoding) -> tuple[int, ...]:  # noqa: PYI041 - ints stay exact
    """The words that `decode` reads as `value`: for simulated meters and tests."""
    raw = struct.pack(_FORMATS[encoding.type], value)
    words = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    return tuple(struct.unpack(f">{len(words)}H", in_order(words, encoding)))


def in_order(words: Iterable[int], encoding: Encoding) -> bytes:
    """The bytes, most significant first."""
    ordered = list(words)
    if encoding.word_order == "little":
        ordered.reverse()
    return b"".join(word.to_bytes(2, encoding.byte_order) for word in ordered)


def single(raw: bytes, number: float) -> Decimal:
    """The shortest decimal that means the same f32: 47.11 and not 47.11000061035156.

    A meter turns its own decimal count into the nearest f32. Up to 6 digits the shortest decimal is that count again;
    beyond, neither text is, and both lie within half a step of the f32, as the count does. The shortest decimals of two
    floats are in the order of the floats and equal for equal ones, so a counter never runs backwards by them, and
    differences between boundaries add up without remainder. Integers below 2**24 are exact either way.
    """
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS):
        text = f"{number:.{digits}g}"
        if struct.pack(">f", float(text)) == raw:  # even the largest f32 is rounded to none that is beyond
            return Decimal(text)
    return Decimal(f"{number:.{_MOST_DIGITS}g}")


def marker_fault(text: str) -> str:
    """What is wrong with an `na` marker; "" when nothing is. Its length says which values it can mark."""
    if _MARKER.fullmatch(text):
        return ""
    return 'must be "0x" and 4, 8 or 16 hex digits (1, 2 or 4 registers, most significant first), such as "0x7FFFFFFF"'


def hexed(words: Iterable[int]) -> str:
    """Words as people compare them with a manual: "4238 51EC"."""
    return " ".join(f"{word:04X}" for word in words)
