"""From what a message says of its time to an instant. Pure: `now` is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from drivers.base import Now
from drivers.mqtt.values import BLANKS, EXACT, PayloadError, kind_word, number_of, shown, text_number

EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)  # DESIGN 5: an older stamp comes from a clock that was never set
AHEAD = timedelta(minutes=5)  # DESIGN 5: how far a source's clock may run ahead of ours
LARGEST = 20  # power of ten from which a number is no time: nanoseconds have 19 digits
OWN_FORM = "strptime:"
FORMATS = ("auto", "iso", "epoch_s", "epoch_ms", "epoch_ns")

_EPOCH_TEXT = re.compile(r"\d{10,19}(?:\.\d+)?", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_MILLISECONDS_FROM = 10**11  # as seconds this is the year 5138, as milliseconds 1973
_NANOSECONDS_FROM = 10**17  # as milliseconds this is long after the year 9999, as nanoseconds 1973
_MICROSECONDS = {"epoch_s": Decimal(1_000_000), "epoch_ms": Decimal(1_000), "epoch_ns": Decimal("0.001")}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SAMPLE = datetime(2026, 11, 23, 14, 35, 46)  # noqa: DTZ001 - a local time in which no two fields are alike

Zone = ZoneInfo | timezone


@dataclass(frozen=True, slots=True)
class StampForm:
    """How a source writes its times: one of FORMATS, or "strptime:" and a format; the zone of those that name none."""

    form: str = "auto"
    zone: Zone | None = None


def zone_of(text: str) -> Zone:
    """An IANA zone, or a fixed offset such as "+02:00"; raises ValueError with what is allowed."""
    offset = _OFFSET.fullmatch(text)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        if minutes > 14 * 60 or int(offset[3]) > 59:
            raise ValueError('must be an offset between "-14:00" and "+14:00"')
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return ZoneInfo(text)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError('must be an IANA time zone such as "Europe/Helsinki"') from None
    except KeyError:
        raise ValueError('must be an IANA time zone known on this machine, such as "Europe/Helsinki"') from None


def form_fault(text: str) -> str:
    """What is wrong with a time format, as the end of a sentence that begins with the key; "" when nothing is."""
    if text in FORMATS:
        return ""
    if not text.startswith(OWN_FORM):
        return f'must be one of {", ".join(FORMATS)}, or "strptime:" and a format such as "strptime:%d.%m.%Y %H:%M"'
    own = text.removeprefix(OWN_FORM)
    try:
        told = datetime.strptime(_SAMPLE.replace(tzinfo=UTC).strftime(own), own).replace(tzinfo=None)  # noqa: DTZ007 - local on purpose
    except ValueError:
        return "must be a format of Python's strptime after the colon, such as %Y.%m.%d %H:%M:%S"
    if told.replace(minute=0, second=0) != _SAMPLE.replace(minute=0, second=0):
        return "must hold the year, month, day and hour: %Y %m %d %H"
    return ""


def instant_of(found: object, form: StampForm, now: Now) -> datetime:
    """The instant that a piece of a document names (aware UTC); raises PayloadError.

    `now` bounds it above, and only if the clock is trusted.
    """
    if found is None:
        raise PayloadError("no time at the path")
    if isinstance(found, str):
        return believed(_from_text(found.strip(BLANKS), form, now), now)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or form.form not in {"auto", *_MICROSECONDS}:
        raise PayloadError("not a time", kind_word(found))
    return believed(from_epoch(number_of(found, LARGEST), form.form), now)


def believed(at: datetime, now: Now) -> datetime:
    """The instant, if a source's stamp may say so (DESIGN 5); raises PayloadError."""
    if at < EARLIEST:
        raise PayloadError("time before 2015", f"{at.isoformat()}: the source's clock was not set")
    if now.trusted and at > now.wall + AHEAD:
        raise PayloadError("time in the future", f"{at.isoformat()} is {at - now.wall} ahead of this gateway's clock")
    return at


def from_epoch(number: Decimal, form: str) -> datetime:
    """The instant so many seconds, milliseconds or nanoseconds after 1970; raises PayloadError."""
    unit = form if form in _MICROSECONDS else _unit_of(number)
    try:
        return _EPOCH + timedelta(microseconds=int(EXACT.multiply(number, _MICROSECONDS[unit])))
    except OverflowError:
        raise PayloadError("not a time", shown(str(number))) from None


def _unit_of(number: Decimal) -> str:
    if number >= _NANOSECONDS_FROM:
        return "epoch_ns"
    return "epoch_ms" if number >= _MILLISECONDS_FROM else "epoch_s"


def _from_text(text: str, form: StampForm, now: Now) -> datetime:
    if form.form.startswith("epoch") or (form.form == "auto" and _EPOCH_TEXT.fullmatch(text)):
        return from_epoch(text_number(text, LARGEST), form.form)
    stamp = _stamp(text, form.form)
    if stamp.tzinfo is None:
        return _from_local(stamp, form.zone, now)
    try:
        return stamp.astimezone(UTC)
    except OverflowError:
        raise PayloadError("not a time", shown(text)) from None


def _stamp(text: str, form: str) -> datetime:
    try:
        if form.startswith(OWN_FORM):
            return datetime.strptime(text, form.removeprefix(OWN_FORM))  # noqa: DTZ007 - the zone follows
        stamp = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise PayloadError("not a time", shown(text)) from None
    if not any(mark in text for mark in "T :"):  # a day alone is no time
        raise PayloadError("not a time", shown(text))
    return stamp


def _from_local(stamp: datetime, zone: Zone | None, now: Now) -> datetime:
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
        raise PayloadError("no such local time", f"{stamp.isoformat()} was skipped in {zone}")
    if len(meant) > 1 and not now.trusted:
        raise PayloadError("ambiguous local time", f"{stamp.isoformat()} came twice in {zone}")
    return min(meant, key=lambda each: abs(each - now.wall))
