"""From a message's bytes to an exact number and the time it belongs to. Pure: `now` is given, nothing is kept.

Numbers stay as written: a JSON number keeps its digits (`Written`), a text is read as decimal. Nothing passes through
binary floating point except what a JMESPath function (`sum`, `avg`) computes, which is taken in its shortest form.
"""

from __future__ import annotations

import json
import math
import re
from codecs import getincrementaldecoder
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from drivers.base import AnswerError, Now
from drivers.mqtt.config import Source, TimeFormat, reads_json
from drivers.mqtt.expressions import Expression, ExpressionFailed, compile_expression, find

LONGEST = 256 * 1024  # bytes; a meter's message is three orders of magnitude smaller
LARGEST = 18  # power of ten from which a number is no meter's (int64 micro ends at 9e12)
SMALLEST = -30  # below it too: a register that a device takes for a float gives 1e-45, which must not round to 0
EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)  # DESIGN 5: an older stamp comes from a clock that was never set
AHEAD = timedelta(minutes=5)  # DESIGN 5: how far a source's clock may run ahead of ours

_BOM = "\ufeff"
_BLANKS = " \t\r\n\0"  # C programs send the terminating zero too
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_EPOCH_TEXT = re.compile(r"\d{10,19}(?:\.\d+)?", re.ASCII)
_MILLISECONDS_FROM = 10**11  # as seconds this is the year 5138, as milliseconds 1973
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = Context(prec=60)  # more digits than any meter has; bounds the work that a hostile number can cause


class PayloadError(AnswerError):
    """A message that is no reading. `reason` is stable and countable; `expected`: it happens on a healthy topic."""

    def __init__(self, reason: str, detail: str = "", *, expected: bool = False) -> None:
        """Keep the three."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.expected = expected


class Sample(NamedTuple):
    """A number with the source's scale applied, and its own time (aware UTC) where it has one."""

    value: Decimal
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Mapping:
    """A source's way from payload to sample, compiled once. `value` None: the whole payload."""

    json: bool
    value: Expression | None
    time: Expression | None
    time_format: TimeFormat
    zone: ZoneInfo | None
    scale: Decimal


def mapping_of(source: Source) -> Mapping:
    """Compile what the operator wrote."""
    return Mapping(
        json=reads_json(source),
        value=compile_expression(source.value) if source.value else None,
        time=compile_expression(source.time) if source.time else None,
        time_format=source.time_format,
        zone=ZoneInfo(source.tz) if source.tz else None,
        scale=source.scale,
    )


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
    """What stands at a key that an object has twice, with different values: RFC 8259 does not say which one counts."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {key: Twice() for key, value in pairs if not _same(found[key], value)}
    return found


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # true is not 1


_DECODER = json.JSONDecoder(parse_float=Written.parse, object_pairs_hook=_object)  # `loads` would make one each time


class Body:
    """One message's payload, decoded at most once however many sources look into it."""

    def __init__(self, payload: bytes) -> None:
        """Decodes nothing yet."""
        self._payload = payload

    @cached_property
    def text(self) -> str:
        """The payload as text without the blanks around it; raises PayloadError."""
        if len(self._payload) > LONGEST:
            raise PayloadError("payload too large", f"more than {LONGEST // 1024} KiB")
        try:
            text = self._payload.decode().removeprefix(_BOM).strip(_BLANKS)
        except UnicodeDecodeError as error:
            raise PayloadError("not text", f"byte {error.start + 1} is not UTF-8") from None
        if not text:
            raise PayloadError("empty payload", expected=True)  # a cleared retained message, or a device that is gone
        return text

    @cached_property
    def document(self) -> Any:  # noqa: ANN401 - any JSON document
        """The payload as JSON; a key that is there twice, with different values, is `Twice`. Raises PayloadError."""
        try:
            return _DECODER.decode(self.text)
        except json.JSONDecodeError as error:
            raise PayloadError("not JSON", f"{error.msg} at character {error.pos + 1}") from None
        except ValueError:
            raise PayloadError("not JSON", "a number with thousands of digits") from None
        except RecursionError:
            raise PayloadError("not JSON", "too deeply nested") from None


def extract(body: Body, mapping: Mapping, now: Now) -> Sample:
    """The sample that a source finds in a message; raises PayloadError and nothing else.

    `now` bounds the source's time above, and only if the clock is trusted.
    """
    if not mapping.json:
        return Sample(_scaled(_text_number(body.text), mapping.scale), None)
    value = _scaled(_number(_found(mapping.value, body.document)), mapping.scale)
    at = _time(_found(mapping.time, body.document), mapping, now) if mapping.time else None
    return Sample(value, at)


def _found(expression: Expression | None, document: object) -> object:
    if expression is None:
        return document
    try:
        return find(expression, document)
    except ExpressionFailed as error:
        raise PayloadError("expression failed", str(error)) from None


def _number(found: object) -> Decimal:
    if found is None:
        raise PayloadError("no value at the path", expected=True)
    if isinstance(found, str):
        return _text_number(found.strip(_BLANKS))
    if isinstance(found, Written):
        return _text_number(found.digits)
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return _plain_number(found)
    raise PayloadError("not a number", _kind(found))


def _plain_number(found: float) -> Decimal:
    if isinstance(found, float) and not math.isfinite(found):
        raise PayloadError("not a number", repr(found))
    return _bounded(Decimal(found) if isinstance(found, int) else Decimal(repr(float(found))))


def _text_number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise PayloadError("not a number", _shown(text))
    return _bounded(Decimal(text))


def _bounded(number: Decimal) -> Decimal:
    if number and number.adjusted() >= LARGEST:
        raise PayloadError("number too large", f"10^{number.adjusted()}")
    if number and number.adjusted() < SMALLEST:
        raise PayloadError("number too small", f"10^{number.adjusted()}")
    return number


def _scaled(number: Decimal, scale: Decimal) -> Decimal:
    return _bounded(_EXACT.multiply(number, scale))


def _time(found: object, mapping: Mapping, now: Now) -> datetime:
    if found is None:
        raise PayloadError("no time at the path")
    if isinstance(found, str):
        at = _from_text(found.strip(_BLANKS), mapping, now)
    elif isinstance(found, bool) or not isinstance(found, (int, float)) or mapping.time_format == "iso":
        raise PayloadError("not a time", _kind(found))
    else:
        at = _from_epoch(_number(found), mapping.time_format)
    if at < EARLIEST:
        raise PayloadError("time before 2015", f"{at.isoformat()}: the source's clock was not set")
    if now.trusted and at > now.wall + AHEAD:
        raise PayloadError("time in the future", f"{at.isoformat()} is {at - now.wall} ahead of this gateway's clock")
    return at


def _from_text(text: str, mapping: Mapping, now: Now) -> datetime:
    if mapping.time_format.startswith("epoch") or (mapping.time_format == "auto" and _EPOCH_TEXT.fullmatch(text)):
        return _from_epoch(_text_number(text), mapping.time_format)
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        stamp = None
    if stamp is None or not any(mark in text for mark in "T :"):  # a day alone is no time
        raise PayloadError("not a time", _shown(text))
    if stamp.tzinfo is None:
        return _from_local(stamp, mapping.zone, now)
    try:
        return stamp.astimezone(UTC)
    except OverflowError:
        raise PayloadError("not a time", _shown(text)) from None


def _from_epoch(number: Decimal, time_format: TimeFormat) -> datetime:
    milliseconds = time_format == "epoch_ms" or (time_format == "auto" and number >= _MILLISECONDS_FROM)
    microseconds = int(_EXACT.multiply(number, Decimal(1_000 if milliseconds else 1_000_000)))
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise PayloadError("not a time", _shown(str(number))) from None


def _from_local(stamp: datetime, zone: ZoneInfo | None, now: Now) -> datetime:
    """A time without a zone. Where it names two instants (the hour repeated in autumn), the one nearer to now."""
    if zone is None:
        raise PayloadError("time without a zone", f"{stamp.isoformat()}: set tz")
    try:
        instants = sorted({stamp.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)})
        wanted = stamp.replace(fold=0)
        meant = [each for each in instants if each.astimezone(zone).replace(tzinfo=None, fold=0) == wanted]
    except OverflowError:
        raise PayloadError("not a time", stamp.isoformat()) from None
    if not meant:
        raise PayloadError("no such local time", f"{stamp.isoformat()} was skipped in {zone.key}")
    if len(meant) > 1 and not now.trusted:
        raise PayloadError("ambiguous local time", f"{stamp.isoformat()} came twice in {zone.key}")
    return min(meant, key=lambda each: abs(each - now.wall))


def printable(payload: bytes, most: int) -> str:
    """A payload for people: text with its unprintable characters as dots, or hex; cut to `most` characters."""
    start = payload[: 4 * most]
    try:
        whole = start == payload  # else it may end within a character
        text = (payload.decode() if whole else getincrementaldecoder("utf-8")().decode(start)).removeprefix(_BOM)
    except UnicodeDecodeError:
        return payload[: most // 2].hex()[:most]
    text = text[:most]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "·" for letter in text)


def _kind(found: object) -> str:
    kinds = {bool: "true or false", list: "an array", dict: "an object", Twice: "the key is there twice"}
    return kinds.get(type(found), "a number")


def _shown(text: str) -> str:
    return printable(text.encode("utf-8", "replace"), 40)
