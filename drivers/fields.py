"""Field types that both drivers' configuration and the gateway's share, and the keys that every source has.

Messages raised here reach the operator as they are: each says what is allowed.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> float:
    """Seconds of a text such as "200ms", "60s", "15m", "1h", "31d"; ValueError with what is allowed."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a duration in quotes such as "200ms", "60s", "15m", "1h" or "31d"')
    return float(match[1]) * _SECONDS[match[2]]


def parse_decimal(value: object) -> Decimal:
    """An exact decimal from a string, an integer, or a float read through its text; ValueError with what is allowed."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError('must be a number, or a number in quotes such as "0.1"')  # noqa: TRY004 - pydantic wants ValueError
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError('must be a number, or a number in quotes such as "0.1"') from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds; written as a text with its unit."""

Exact = Annotated[Decimal, BeforeValidator(parse_decimal)]
"""A decimal number taken exactly as written."""

Kind = Literal["counter", "interval", "power"]


class Strict(BaseModel):
    """Base of everything an operator writes: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceBase(Strict):
    """The keys of a meter's `source` whatever the driver.

    `kind`, `unit` and `expected_every` are None where the operator left them to the profile or the driver's default.
    """

    connection: str
    unit: str | None = None
    kind: Kind | None = None
    scale: Exact = Field(default=Decimal(1))  # multiplies the raw number, giving `unit`
    expected_every: Annotated[Duration, Field(gt=0)] | None = None  # pace; decides what a gap is
    max_gap: Annotated[Duration, Field(gt=0)] | None = None  # power: longer silences add no energy
    period: Annotated[Duration, Field(gt=0)] | None = None  # interval: the time that one value covers
    stamp: Literal["start", "end"] | None = None  # interval: what the value's time marks
