"""What the buffer holds: hours, messages and their fates; and the units in which it counts.

Values are integers of 10⁻⁶ of the meter's unit ("micro"); times are integer milliseconds since the epoch (readings) and
integer hours since the epoch (hours), UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

MICRO = 1_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
INT64 = 2**63 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

Kind = Literal["counter", "interval", "power"]
Quality = Literal["measured", "interpolated", "estimated", "missing"]
QUALITIES: tuple[Quality, ...] = ("measured", "interpolated", "estimated", "missing")


def weakest(*qualities: Quality) -> Quality:
    """The weakest of the qualities (R11)."""
    return max(qualities, key=QUALITIES.index)


def to_micro(value: Decimal) -> int:
    """An exact finite decimal as micro, rounded once, half up (away from zero); OverflowError beyond int64."""
    magnitude = value.adjusted()  # first, so that 1E+999999 and 1E-999999 cost nothing
    if magnitude < -7:
        return 0
    numerator, denominator = value.as_integer_ratio() if magnitude < 19 else (INT64, 1)
    micro = round_half_up(numerator * MICRO, denominator)
    if abs(micro) > INT64:
        raise OverflowError(f"{value} is beyond what a counter can hold")
    return micro


def from_micro(micro: int) -> Decimal:
    """Micro as an exact decimal."""
    return Decimal(micro).scaleb(-6)


def round_half_up(numerator: int, denominator: int) -> int:
    """The nearest integer to numerator / denominator, halves away from zero; denominator > 0."""
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def to_ms(at: datetime) -> int:
    """Milliseconds since the epoch of an aware time, rounded down."""
    return (at - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    """Aware UTC time of milliseconds since the epoch."""
    return EPOCH + timedelta(milliseconds=ms)


def hour_of(ms: int) -> int:
    """The hour since the epoch in which an instant lies."""
    return ms // HOUR_MS


def hour_start(hour: int) -> datetime:
    """The instant at which an hour begins."""
    return EPOCH + timedelta(hours=hour)


# --- fates of a message (DESIGN 2, reliability 3.8) ------------------------------------------------------------------

RefusedFor = Literal["data", "meter", "key", "size", "endpoint"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """EnerKey answered 2xx, completely: every item is applied."""

    status: int


@dataclass(frozen=True, slots=True)
class Refused:
    """EnerKey said no; `why`: because of the data, the meter, the key, the message's size, or the endpoint (path, form).

    Nothing of it is applied; only a refusal because of the data may have applied the message's other hours.
    """

    why: RefusedFor
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was applied and the message is fine: no connection, or the rate limit (`retry_after` in seconds)."""

    text: str
    limited: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been applied or not: never sent again before a read-back has proved that it was not (R14)."""

    text: str


Fate = Accepted | Refused | NotSent | Unknown
