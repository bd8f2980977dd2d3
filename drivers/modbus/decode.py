"""From register words to exact numbers. Pure; knows nothing of pymodbus.

Two registers holding 0x01020304, by the names in manuals:

    name   words on the wire   word order   byte order   also called
    ABCD   0102 0304           big          big          big endian, MSW first
    CDAB   0304 0102           little       big          word swap, LSW first
    BADC   0201 0403           big          little       byte swap
    DCBA   0403 0201           little       little       little endian

The types beside integers and IEEE 754, most significant register first:

    name                     what the registers hold                                            -123456 or 123456
    bcd16 … bcd64            four decimal digits a register                                     0012 3456 (bcd32)
    mod1k32 … mod1k64        0 to 999 a register, in powers of 1000; all signed alike           007B 01C8 (mod1k32)
    mod10k32 … mod10k64      0 to 9999 a register, in powers of 10 000; all signed alike        000C 0D80 (mod10k32)
    sm16, sm32               magnitude, the highest bit is the sign                             8001 E240 (sm32)
    iskra_t5, iskra_t6       8 bits of decimal exponent, 24 of mantissa (t6: signed)            FD01 E240 is 123.456
    acc32, acc64             SunSpec accumulator: unsigned; 0 may mean "not there"              0001 E240 (acc32)
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Type = Literal[
    "u16", "s16", "u32", "s32", "u48", "s48", "u64", "s64", "f32", "f64",
    "bcd16", "bcd32", "bcd48", "bcd64",
    "mod1k32", "mod1k48", "mod1k64", "mod10k32", "mod10k48", "mod10k64",
    "sm16", "sm32", "iskra_t5", "iskra_t6", "acc32", "acc64",
]  # fmt: skip
Order = Literal["big", "little"]

_ISKRA = "iskra_t"
WIDTHS: dict[str, int] = {name: 2 if name.startswith(_ISKRA) else int(name[-2:]) // 16 for name in get_args(Type)}
"""Registers that a value of each type takes."""

_FLOATS = {"f32": ">f", "f64": ">d"}
_INTEGERS = {name: name[0] == "s" for name in WIDTHS if re.fullmatch(r"(u|s|acc)\d\d", name)}  # -> whether signed
_BASES = {"mod1k": 1000, "mod10k": 10_000}  # of one register
_FEWEST_DIGITS, _MOST_DIGITS = 6, 9  # every f32 survives 9 significant digits; every number of 6 digits survives f32
_SHORTER = tuple(f"%.{digits}g" for digits in range(_FEWEST_DIGITS, _MOST_DIGITS))
_F32 = struct.Struct(">f")
_MARKER = re.compile(r"(?:([a-z0-9_]+):)?0[xX]((?:[0-9a-fA-F]{4}){1,4})")


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
    return decoder(encoding)(words)


@cache
def decoder(encoding: Encoding) -> Callable[[Sequence[int]], Decimal]:
    """`decode` for one encoding: what all its values have in common is found out once."""
    type_, width = encoding.type, encoding.width
    pack = struct.Struct(f"{'>' if encoding.byte_order == 'big' else '<'}{width}H").pack
    backwards = encoding.word_order == "little"
    marks = _marks(encoding)
    number = _numbers(type_)

    def decoded(words: Sequence[int]) -> Decimal:
        if len(words) != width:
            raise NoValue("wrong length", f"{len(words)} registers where {type_} takes {width}")
        raw = pack(*reversed(words)) if backwards else pack(*words)
        if raw in marks:
            raise NoValue("not available", f"0x{raw.hex().upper()} is this meter's mark for no value")
        return number(raw)

    return decoded


def encode(value: float | Decimal, encoding: Encoding) -> tuple[int, ...]:
    """The words that `decode` reads as `value`: for simulated meters and tests. OverflowError where it does not fit."""
    raw = _raw(value, encoding.type)
    words = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    return tuple(struct.unpack(f">{len(words)}H", in_order(words, encoding)))


def end_of(type_: Type) -> int | None:
    """The count at which a counter of this type begins again at 0; None where the type has no such end."""
    width = WIDTHS[type_]
    if base := _base(type_):
        return int(base**width)
    if type_.startswith("bcd"):
        return int(10 ** (4 * width))
    return 1 << 16 * width if type_.startswith(("u", "acc")) else None


def is_float(type_: Type) -> bool:
    """Whether the smallest step changes with the value, so that the type tells no resolution."""
    return type_ in _FLOATS or type_.startswith(_ISKRA)


def _numbers(type_: Type) -> Callable[[bytes], Decimal]:
    """How bytes of this type, most significant first, become a number; it raises NoValue."""
    signed = _INTEGERS.get(type_)
    if signed is not None:
        return lambda raw: Decimal(int.from_bytes(raw, "big", signed=signed))
    if type_ in _FLOATS:
        return _single if type_ == "f32" else _double
    return partial(_special, type_=type_)


def _double(raw: bytes) -> Decimal:
    number = struct.unpack(">d", raw)[0]
    if not math.isfinite(number):
        raise NoValue("not a number", str(number))
    return Decimal(repr(number))


def _special(raw: bytes, type_: Type) -> Decimal:
    """What is neither an integer nor IEEE 754."""
    if base := _base(type_):
        return _modular(raw, base)
    if type_.startswith("bcd"):
        if not raw.hex().isdecimal():
            raise NoValue("not a number", f"0x{raw.hex().upper()} has a digit above 9")
        return Decimal(raw.hex())
    if type_.startswith(_ISKRA):
        mantissa = int.from_bytes(raw[1:], "big", signed=type_ == "iskra_t6")
        return Decimal(mantissa).scaleb(int.from_bytes(raw[:1], "big", signed=True))
    sign = 1 << (8 * len(raw) - 1)  # "sm"
    number = int.from_bytes(raw, "big")
    return Decimal(sign - number if number & sign else number)


def _modular(raw: bytes, base: int) -> Decimal:
    """Registers that each hold so many decimal digits; those of a negative number are all negative or 0."""
    digits = struct.unpack(f">{len(raw) // 2}h", raw)
    if any(abs(digit) >= base for digit in digits) or (min(digits) < 0 < max(digits)):
        raise NoValue("not a number", f"0x{raw.hex().upper()} are not {len(digits)} registers of 0 to {base - 1}")
    number = 0
    for digit in digits:
        number = number * base + digit
    return Decimal(number)


def _raw(value: float | Decimal, type_: Type) -> bytes:
    """The bytes of a value, most significant first."""
    if type_ in _FLOATS:
        return struct.pack(_FLOATS[type_], value)
    size = 2 * WIDTHS[type_]
    if type_.startswith(_ISKRA):
        sign, digits, exponent = Decimal(value).as_tuple()
        mantissa = int("".join(map(str, digits))) * (-1 if sign else 1)
        signed = type_ == "iskra_t6"
        return int(exponent).to_bytes(1, "big", signed=True) + mantissa.to_bytes(3, "big", signed=signed)
    number = int(value)
    end = end_of(type_)
    if end is not None and abs(number) >= end:
        raise OverflowError(f"{number} does not fit into {type_}")
    if base := _base(type_):
        sign_of = -1 if number < 0 else 1
        powers = [base**power for power in reversed(range(WIDTHS[type_]))]
        return struct.pack(f">{len(powers)}h", *(sign_of * (abs(number) // power % base) for power in powers))
    if type_.startswith("bcd"):
        return bytes.fromhex(f"{number:0{2 * size}d}")
    if type_.startswith("sm") and number < 0:
        number = (1 << (8 * size - 1)) - number
    return number.to_bytes(size, "big", signed=_INTEGERS.get(type_, False))


def _base(type_: Type) -> int:
    """What one register of a "mod" type counts to; 0 for the others."""
    return _BASES.get(type_[:-2], 0)


def _marks(encoding: Encoding) -> frozenset[bytes]:
    """The bytes of those markers that are about this type."""
    split = (marker.rpartition(":") for marker in encoding.na)
    return frozenset(bytes.fromhex(text[2:]) for only, _, text in split if only in {"", encoding.type})


def in_order(words: Iterable[int], encoding: Encoding) -> bytes:
    """The bytes, most significant first."""
    ordered = list(words)
    if encoding.word_order == "little":
        ordered.reverse()
    return b"".join(word.to_bytes(2, encoding.byte_order) for word in ordered)


def _single(raw: bytes) -> Decimal:
    """The shortest decimal that means the same f32: 47.11 and not 47.11000061035156.

    A meter turns its own decimal count into the nearest f32. Up to 6 digits the shortest decimal is that count again;
    beyond, neither text is, and both lie within half a step of the f32, as the count does. The shortest decimals of two
    floats are in the order of the floats and equal for equal ones, so a counter never runs backwards by them, and
    differences between boundaries add up without remainder. Integers below 2**24 are exact either way.
    """
    (number,) = _F32.unpack(raw)
    if not math.isfinite(number):
        raise NoValue("not a number", str(number))
    for shorter in _SHORTER:
        text = shorter % number
        if _F32.pack(float(text)) == raw:  # even the largest f32 is rounded to none that is beyond
            return Decimal(text)
    return Decimal(f"{number:.{_MOST_DIGITS}g}")


def marker_fault(text: str) -> str:
    """What is wrong with an `na` marker; "" when nothing is. Its length, and its type if it names one, say what it can mark."""
    match = _MARKER.fullmatch(text)
    if not match:
        return (
            'must be "0x" and 4, 8, 12 or 16 hex digits (1 to 4 registers, most significant first), such as "0x7FFFFFFF"; '
            'for one type only "s32:0x7FFFFFFF"'
        )
    only, digits = match.groups()
    if only and only not in WIDTHS:
        return f'must name one of {", ".join(WIDTHS)} before the colon, such as "s32:0x7FFFFFFF"'
    if only and len(digits) != 4 * WIDTHS[only]:
        return f'must have {4 * WIDTHS[only]} hex digits for {only}, such as "s32:0x7FFFFFFF"'
    return ""


def hexed(words: Iterable[int]) -> str:
    """Words as people compare them with a manual: "4238 51EC"."""
    return " ".join(f"{word:04X}" for word in words)
