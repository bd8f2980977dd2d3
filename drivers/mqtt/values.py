"""What a piece of a payload is worth: an exact number, or the reason why it is none. Pure.

Numbers stay as written: a JSON number keeps its digits (`Written`), a text is read as decimal. Nothing passes through
binary floating point except what a JMESPath function (`sum`, `avg`) computes, which is taken in its shortest form.
"""

from __future__ import annotations

import math
import re
from codecs import getincrementaldecoder
from decimal import Context, Decimal
from typing import Any

from drivers.base import AnswerError

LARGEST = 18  # power of ten from which a number is no meter's (int64 micro ends at 9e12)
SMALLEST = -30  # below it too: a register that a device takes for a float gives 1e-45, which must not round to 0
BOM = "\ufeff"
BLANKS = " \t\r\n\0"  # C programs send the terminating zero too
EXACT = Context(prec=60)  # more digits than any meter has; bounds the work that a hostile number can cause

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


class PayloadError(AnswerError):
    """A message that is no reading. `reason` is stable and countable; `expected`: it happens on a healthy topic."""

    def __init__(self, reason: str, detail: str = "", *, expected: bool = False) -> None:
        """Keep the three."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.expected = expected


class Written(float):
    """A JSON number that remembers its digits."""

    __slots__ = ("digits",)
    digits: str

    @classmethod
    def parse(cls, digits: str) -> Written:
        """As `json.loads(parse_float=…)` wants it."""
        number = cls(digits)
        number.digits = digits
        return number


Written.__name__ = "float"  # jmespath tells types by the class's name, not by isinstance


class Twice:
    """What stands at a key that is there twice, with different values: RFC 8259 does not say which one counts."""


def table_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object from its keys and values; what is there twice, with different values, is `Twice`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {key: Twice() for key, value in pairs if not _same(found[key], value)}
    return found


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # true is not 1


def number_of(found: object, largest: int = LARGEST) -> Decimal:
    """The number that a piece of a document is, as a number or in quotes; raises PayloadError."""
    if found is None:
        raise PayloadError("no value at the path", expected=True)
    if isinstance(found, str):
        return text_number(found.strip(BLANKS), largest)
    if isinstance(found, Written):
        return text_number(found.digits, largest)
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return _plain_number(found, largest)
    raise PayloadError("not a number", kind_word(found))


def text_number(text: str, largest: int = LARGEST) -> Decimal:
    """The number that a text is; raises PayloadError."""
    if not _NUMBER.fullmatch(text):
        raise PayloadError("not a number", shown(text))
    return bounded(Decimal(text), largest)


def bounded(number: Decimal, largest: int = LARGEST) -> Decimal:
    """The number, if it can be a meter's (or, below another power of ten, a time); raises PayloadError."""
    if number and number.adjusted() >= largest:
        raise PayloadError("number too large", f"10^{number.adjusted()}")
    if number and number.adjusted() < SMALLEST:
        raise PayloadError("number too small", f"10^{number.adjusted()}")
    return number


def scaled(number: Decimal, scale: Decimal, offset: Decimal = Decimal(0)) -> Decimal:
    """The number times scale plus offset, exactly; raises PayloadError beyond the bounds."""
    value = bounded(EXACT.multiply(number, scale))
    return bounded(EXACT.add(value, offset)) if offset else value


def _plain_number(found: float, largest: int) -> Decimal:
    if isinstance(found, float) and not math.isfinite(found):
        raise PayloadError("not a number", repr(found))
    return bounded(Decimal(found) if isinstance(found, int) else Decimal(repr(float(found))), largest)


def printable(payload: bytes, most: int) -> str:
    """A payload for people: text with its unprintable characters as dots, or hex; cut to `most` characters."""
    start = payload[: 4 * most]
    try:
        text = getincrementaldecoder("utf-8-sig")().decode(start, final=start == payload)  # may end within a character
    except UnicodeDecodeError:
        return payload[: most // 2].hex()[:most]
    text = text[:most]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "·" for letter in text)


def kind_word(found: object) -> str:
    """What a piece of a document is, in JSON's words."""
    kinds = {bool: "true or false", list: "an array", dict: "an object", Twice: "the key is there twice"}
    return kinds.get(type(found), "a number")


def shown(text: str) -> str:
    """A short text for people."""
    return printable(text.encode("utf-8", "replace"), 40)
