"""Field types that both drivers' configuration and the gateway's share, and the keys that every source has.

Messages raised here reach the operator as they are: each says what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LONGEST = 366 * 86_400.0  # s; no meter is read less often
LARGEST = Decimal(9_000_000_000_000)  # what int64 micro can hold
SMALLEST_SCALE, LARGEST_SCALE = Decimal("1e-12"), Decimal("1e12")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)
_NUMBER = 'must be a number such as 0.1 or "0.1"'
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|MiB|GB|GiB)", re.ASCII)
_BYTES = {"MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> float:
    """Seconds of a text such as "200ms", "60s", "15m", "1h", "31d"; ValueError with what is allowed."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a duration in quotes such as "200ms", "60s", "15m", "1h" or "31d"')
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(value: object) -> int:
    """Bytes of a text such as "500MB" or "2GiB"; ValueError with what is allowed."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a size in quotes such as "500MB" or "2GiB"')
    return int(Decimal(match[1]) * _BYTES[match[2]])


def parse_decimal(value: object) -> Decimal:
    """An exact decimal from a string, an integer, or a float read through its text; ValueError with what is allowed."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError(_NUMBER)  # noqa: TRY004 - pydantic wants ValueError
    try:
        number = Decimal(value if isinstance(value, int) else str(value).strip())
    except InvalidOperation:
        comma = isinstance(value, str) and "," in value
        raise ValueError('must be a number with a decimal point, such as "0.1"' if comma else _NUMBER) from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number


def _scale(value: Decimal) -> Decimal:
    # copy_abs: abs() itself raises beyond the largest exponent
    if not SMALLEST_SCALE <= value.copy_abs() <= LARGEST_SCALE:
        raise ValueError(
            "must be between 0.000000000001 and 1000000000000, with a minus or without; 0 would lose every value"
        )
    return value


def is_file(path: str | Path) -> bool:
    """Whether there is a file that may be seen; what stands in the way is no crash."""
    try:
        return Path(path).is_file()
    except OSError:  # a directory above that may not be entered
        return False


class Words(str):
    """In an `Annotated`: what a value of the type is, in the operator's words. The rest of "write ..."."""

    __slots__ = ()


Duration = Annotated[float, BeforeValidator(parse_duration), Words('a duration such as "60s"')]
"""Seconds; written as a text with its unit."""

Size = Annotated[int, BeforeValidator(parse_size), Words('a size such as "2GiB"')]
"""Bytes; written as a text with its unit."""

Exact = Annotated[Decimal, BeforeValidator(parse_decimal), Words("a number")]
"""A decimal number taken exactly as written."""

Scale = Annotated[Exact, AfterValidator(_scale)]
"""A factor that loses no value."""

Kind = Literal["counter", "interval", "power"]


class OtherWords:
    """In an `Annotated`: what other programs call a value of the type, in small letters, and what it is here."""

    __slots__ = ("words",)

    def __init__(self, words: Mapping[str, str]) -> None:
        """Only for saying what was meant: none of them is taken."""
        self.words = words


def meant_value(annotation: object, value: str) -> str:
    """The value that was probably meant, by other programs' words for it or but for its capitals; "" where nobody knows."""
    arguments = get_args(annotation)
    words = {key: word for each in arguments if isinstance(each, OtherWords) for key, word in each.words.items()}
    words |= {each.casefold(): each for each in arguments if isinstance(each, str) and not isinstance(each, Words)}
    if value.casefold() in words:
        return words[value.casefold()]
    below = (meant_value(each, value) for each in arguments if not isinstance(each, str | OtherWords))
    return next(filter(None, below), "")


class Strict(BaseModel):
    """Base of everything an operator writes: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    other_words: ClassVar[
        Mapping[str, str]
    ] = {}  # other programs' keys: the key here, or a sentence that says what to do


class SourceBase(Strict):
    """The keys of a meter's `source` whatever the driver.

    `kind`, `unit` and `expected_every` are None where the operator left them to the profile or the driver's default.
    """

    connection: Annotated[str, Words("the name of a connection in quotes")] = Field(
        description="Name of the connection: the NAME of a `[connections.NAME]`."
    )
    unit: Annotated[str, Words('a unit such as "kWh"')] | None = Field(
        None, description="Unit of what is read, after `scale`. May be left out where a profile knows it."
    )
    kind: Kind | None = Field(
        None,
        description="`counter`: an ever-rising register. `interval`: the amount of a period. `power`: a rate, added up over "
        "time. Default: the profile's, else `counter`.",
    )
    scale: Scale = Field(default=Decimal(1), description="What is read times this is in `unit`.")
    expected_every: Annotated[Duration, Field(gt=0, le=LONGEST)] | None = Field(
        None,
        description='Time between two readings; decides what is a gap. Default: Modbus `poll`, MQTT `"15m"`.',
    )
    report: Literal["regular", "on_change"] = Field(
        "regular",
        description="`on_change`: the source speaks when its value has changed, and at the latest after `expected_every`; up to there "
        "the value holds.",
    )
    lateness: Annotated[Duration, Field(ge=0, le=LONGEST)] | None = Field(
        None,
        description="How late readings with a time of their own may come: so long an hour rests before it is closed. Default: "
        "`[hours] grace`.",
    )
    direction: Literal["one", "net"] = Field(
        "one",
        description="Only for `interval` and `power`: `net` takes negative values, too. Else they are rejected, as a counter's always "
        "are: what is exported has a register and a meter of its own.",
    )
    max_gap: Annotated[Duration, Field(gt=0, le=LONGEST)] | None = Field(
        None,
        description="Only for `power`: a longer silence adds no energy. Default: three times `expected_every`, at least "
        '`"60s"`.',
    )
    period: Annotated[Duration, Field(gt=0, le=LONGEST)] | None = Field(
        None, description="Only for `interval`, and needed there: the time that one value covers."
    )
    stamp: Literal["start", "end"] | None = Field(
        None, description="Only for `interval`, and needed there: which end of the period the value's time marks."
    )
    resolution: Annotated[Exact, Field(gt=0, le=LARGEST)] | None = Field(
        None,
        description="Only for `counter`: the register's smallest step, in `unit`; within two of them it may fall without meaning "
        "anything. Default: what the register's type tells, MQTT 0.000001.",
    )
    rollover: Annotated[Exact, Field(gt=0, le=LARGEST)] | None = Field(
        None,
        description="Only for `counter`: the value at which the register begins again at 0, in `unit`, such as 1000000 for six "
        "digits. Default: the profile's, or the end of an unsigned register type.",
    )
    reset: Literal["never", "zero"] | None = Field(
        None,
        description="Only for `counter`: `zero` for sources that begin again at 0 by themselves, such as pulse counters after a "
        "power cut. Default `never`: a counter that falls was replaced, nothing is booked across it, and you are told.",
    )
