"""What an operator may write: the sections of the configuration file, with their defaults, limits and meanings.

`docs/configuration.md` is generated from these models.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from buffer.retention import SHORTEST_DAYS
from drivers.fields import LARGEST, Duration, Exact, Size, Strict, Words, parse_duration
from gateway import secrets
from gateway.enerkey.contract import Contract, check_url
from gateway.locate import DEFAULT_DATA

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = 'must be up to 64 letters, digits and "-", "_", ".", beginning with a letter or digit'
LONGEST_BURST = 3600.0  # s
LONGEST_KEPT = 20 * 366 * 86_400.0  # s
SMALLEST_DATABASE = 16 * 2**20  # bytes


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(NAME_RULE)
    return value


def _absolute(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be a path in quotes")  # noqa: TRY004 - pydantic wants ValueError
    if not Path(value).is_absolute() or "\0" in str(value):
        raise ValueError('must be an absolute path, beginning with "/"')
    return Path(value)


def _settle(value: object) -> float | None:
    if value == "auto":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "auto"') from None


def _decimals(value: object) -> object:
    return None if value == "auto" else value


def parse_burst(value: str) -> tuple[int, float]:
    """Requests and seconds of a text such as "20/10s"; ValueError with what is allowed."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*/(.+)", value, re.ASCII)
    try:
        most, within = (int(match[1]), parse_duration(match[2])) if match else (0, 0.0)
    except ValueError:
        most, within = 0, 0.0
    if not most or not 0 < within <= LONGEST_BURST:
        raise ValueError('must be requests per time, such as "20/10s", the time at most an hour')
    return most, within


def _burst(value: str) -> str:
    parse_burst(value)
    return value


def _reference(value: str) -> str:
    try:
        secrets.parse(value)
    except secrets.SecretError as error:
        raise ValueError(str(error)) from None
    return value


def _key_table(value: object) -> object:
    """A key that is written without a table around it."""
    if isinstance(value, str):
        return {"key": value}
    if not isinstance(value, dict):
        raise ValueError("must be text in quotes, or a table with key and expires")  # noqa: TRY004 - pydantic wants ValueError
    return value


def _day(value: object) -> date:
    """A day as TOML writes it, in quotes or not."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value.strip(), re.ASCII):
        with suppress(ValueError):
            return date.fromisoformat(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("must be a day, written year-month-day")


def _named_tables(value: object) -> object:
    """Tell `[connections]` without a name from a connection with a mistake in it."""
    if not isinstance(value, dict) or any(isinstance(value.get(key), str) for key in ("driver", "url")):
        raise ValueError("must have a name for each connection: [connections.NAME]")
    return value


def _named_accounts(value: object) -> object:
    if not isinstance(value, dict) or any(key in value and not isinstance(value[key], dict) for key in _OF_ACCOUNT):
        raise ValueError("must have a name for each account: [enerkey.accounts.NAME]")
    return value


def _many_tables(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError("must be written with two brackets: [[meters]]")  # noqa: TRY004 - pydantic wants ValueError
    return value


Name = Annotated[str, AfterValidator(_name), Words(NAME_RULE.removeprefix("must be "))]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute), Words("an absolute path")]
Reference = Annotated[str, AfterValidator(_reference), Words(secrets.FORMS)]


class GatewaySection(Strict):
    """Who this gateway is and where it keeps its data."""

    name: Name = Field("meter-gateway", description="Name of this gateway in logs and `status`.")
    data_dir: AbsolutePath = Field(
        DEFAULT_DATA,
        description="Directory of the database `buffer.db` and its lock; an absolute path on a disk that honours fsync.",
    )


class ClockSection(Strict):
    """When the system clock may decide which hour a reading belongs to."""

    trust: Literal["auto", "always"] = Field(
        "auto",
        description="`auto`: readings wait until the clock is known to be set (by NTP, or EnerKey's answers agree). "
        "`always`: believe it; for virtual machines whose host keeps the time.",
    )


class HoursSection(Strict):
    """How readings become hours."""

    grace: Annotated[Duration, Field(ge=0, le=3600)] = Field(
        120.0,
        description="How long a reading that passed the end of an hour rests before that hour is closed for good.",
    )


class ApiKey(Strict):
    """One API key: `{ key = "credential:enerkey-1", expires = "2027-01-31" }`, or only the text of `key`."""

    key: Reference = Field(repr=False, description="Where the key is, or the key itself (warned about).")
    expires: Annotated[date, BeforeValidator(_day), Words("a day, written year-month-day")] | None = Field(
        None,
        description="From this day on (UTC) EnerKey may refuse it. Thirty days before, that is said in the log, by `check` and "
        "by `status`; from the day itself on the other key is used first.",
    )


ApiKeys = Annotated[
    tuple[Annotated[ApiKey, BeforeValidator(_key_table)], ...],
    Field(max_length=2, strict=False, repr=False),
    Words("a list of one or two keys"),
]


class AccountSection(Strict):
    """Another account at EnerKey, for the meters that name it: with its own keys and budget, all else as in `[enerkey]`.

    Whatever keeps one account waiting keeps no other.
    """

    api_keys: ApiKeys = Field((), description="As in `[enerkey]`. Required as soon as a meter of this account pushes.")
    requests_per_day: int | None = Field(
        None,
        ge=1,
        description="This gateway's share of this account's requests in 24 hours. Default: as in `[enerkey]`.",
    )
    burst: Annotated[str, AfterValidator(_burst), Words('requests per time such as "20/10s"')] | None = Field(
        None, description="Most requests of this account within a short time. Default: as in `[enerkey]`."
    )


_OF_ACCOUNT = tuple(AccountSection.model_fields)


class BufferSection(Strict):
    """How long the database keeps what nobody needs any more. Hours, and whatever EnerKey does not have yet, are kept for good."""

    keep_readings: Annotated[Duration, Field(ge=SHORTEST_DAYS * 86_400, le=LONGEST_KEPT)] = Field(
        30 * 86_400.0,
        description="How long readings are kept. Whatever an open hour may still need stays, however old.",
    )
    keep_messages: Annotated[Duration, Field(ge=SHORTEST_DAYS * 86_400, le=LONGEST_KEPT)] = Field(
        90 * 86_400.0,
        description="How long messages to EnerKey are kept that have been settled. Those with an hour that waits for a person stay.",
    )
    max_size: Annotated[Size, Field(ge=SMALLEST_DATABASE)] = Field(
        2 * 2**30,
        description="Largest size of the database. 200 meters read every minute need about 0.6 GB, and 0.2 GB more for each year. "
        "Its log comes on top, and a ballast file of 8 MiB. When it is reached, readings are forgotten before their age.",
    )
    commit_within: Annotated[Duration, Field(ge=0, le=1)] = Field(
        0.2,
        description="How long the readings of one polled connection wait for those of others, so that all of a second are one write "
        'to the disk. "0s": not at all. Only polled readings wait, and only while there is a connection that may still bring some.',
    )


class EnerkeySection(Strict):
    """Where hours go, with which key, and how. May be missing while every meter has `push = "off"`."""

    url: Annotated[str, AfterValidator(check_url), Words("a URL")] = Field(
        "https://api.enerkey.com",
        description="Root of the EnerKey API. `http://` only to this machine itself (simulator).",
    )
    api_keys: ApiKeys = Field(
        (),
        description="One or two API keys in order of preference: `credential:NAME` (systemd), `env:NAME`, `file:/PATH`, "
        "or the key itself (warned about); or tables as below. Required as soon as a meter pushes.",
    )
    requests_per_day: int = Field(40_000, ge=1, description="This gateway's share of the key's requests in 24 hours.")
    burst: Annotated[str, AfterValidator(_burst), Words('requests per time such as "20/10s"')] = Field(
        "20/10s",
        description="Most requests within a short time. Beyond it, and where EnerKey says so itself, the next one waits.",
    )
    same_hour: Literal["sum", "replace", "auto"] = Field(
        "sum",
        description="What EnerKey does with a second value for an hour: adds it, or takes it instead. `auto`: as `probe` found "
        "it, `sum` until then.",
    )
    hour_stamp: Literal["start", "end", "auto"] = Field(
        "start",
        description="Whether consumption items are stamped with the start or the end of their hour. `auto`: as `probe` found it, "
        "`start` until then.",
    )
    settle: Annotated[
        Annotated[float, Field(ge=1, le=7 * 86_400)] | None,
        BeforeValidator(_settle),
        Words('a duration such as "60m", or "auto"'),
    ] = Field(
        None,
        description="How long a message of unknown fate rests before it is read back. `auto` (the default): three times the "
        "longest delay that `probe` measured, at least 10 min; one hour until then.",
    )
    on_unknown: Literal["verify", "hold"] = Field(
        "verify",
        description="A message of unknown fate: `verify` reads back and decides, `hold` waits for a person.",
    )
    push_spread: Annotated[Duration, Field(ge=0, le=3600)] = Field(
        900.0, description="Each meter has a fixed offset after the full hour, somewhere within this time."
    )
    push_decimals: Annotated[
        Annotated[int, Field(ge=0, le=6)] | None,
        BeforeValidator(_decimals),
        Words('a whole number from 0 to 6, or "auto"'),
    ] = Field(
        6,
        description="Most decimals of a number that is sent. Rounding never loses energy. `auto`: as many as `probe` found that "
        "EnerKey keeps, 6 until then.",
    )
    push_estimated: bool = Field(True, description="Whether hours of quality `estimated` are sent.")  # noqa: FBT003 - pydantic's default
    max_days: int = Field(31, ge=1, le=365, description="Most days of hours in one message. EnerKey takes 365.")
    ca_file: AbsolutePath | None = Field(
        None,
        description="Certificate authorities to trust instead of the built-in ones (PEM), for sites that inspect TLS.",
    )
    contract: Contract = Field(
        default_factory=Contract, description="Paths and JSON names of the endpoints: see below."
    )
    accounts: Annotated[dict[str, AccountSection], BeforeValidator(_named_accounts)] = Field(
        default_factory=dict, description="Further accounts: see below."
    )


class MeterSection(Strict):
    """One EnerKey meter and the source of its values."""

    name: Name = Field(description="Name of the meter in this gateway. Its history in the database hangs on it.")
    enerkey_id: int | None = Field(
        None, ge=1, le=2**63 - 1, description='Id of the meter in EnerKey; may be missing while `push = "off"`.'
    )
    push: Literal["consumption", "cumulative", "off"] = Field(
        description="Send each hour's consumption, the register at each full hour, or nothing (collect only)."
    )
    account: Name | None = Field(
        None, description="Whose meter it is: the NAME of an `[enerkey.accounts.NAME]`. Default: `[enerkey]` itself."
    )
    unit: Annotated[str, Words('a unit such as "kWh"')] = Field(
        description="Unit of the meter in EnerKey; readings are converted to it exactly."
    )
    max_rate: Annotated[Exact, Field(gt=0, le=LARGEST)] | None = Field(
        None,
        description="Most that can pass in one hour, in `unit`: main fuse, pipe size. Nothing faster is believed. "
        "Default: the profile's rating, else no limit; a counter's rise then counts one reading later, when that stands by it.",
    )
    gap: Literal["spread", "arrival", "hole"] | None = Field(
        None,
        description="Only for counters: what becomes of the energy of a gap between two readings. `spread`: over its hours, "
        "which are then estimates. `arrival`: all in the hour of the reading after it. `hole`: its hours are missing, the "
        "energy waits for a person. Default: `spread`, and beyond 31 days a person is asked.",
    )
    late: Literal["delta", "next_hour", "alarm"] = Field(
        "delta",
        description="Only for `interval` and `power`: energy that comes after its hour was closed. `delta`: a correction to that "
        "hour, up to 7 days back. `next_hour`: into the next open hour. `alarm`: only told.",
    )
    start_value: Annotated[Exact, Field(ge=0, le=LARGEST)] = Field(
        Decimal(0),
        description="First register value of an `interval` or `power` source whose meter is pushed `cumulative`.",
    )
    source: Annotated[dict[str, Any], Words('a table such as { connection = "main", ... }')] = Field(
        description="Where the values come from: a connection and what to read there."
    )


class File(Strict):
    """The whole file. Connections and meters are checked one by one: their keys depend on the driver."""

    gateway: GatewaySection = Field(default_factory=lambda: GatewaySection.model_validate({}))
    clock: ClockSection = Field(default_factory=lambda: ClockSection.model_validate({}))
    hours: HoursSection = Field(default_factory=lambda: HoursSection.model_validate({}))
    buffer: BufferSection = Field(default_factory=lambda: BufferSection.model_validate({}))
    enerkey: EnerkeySection | None = None
    connections: Annotated[dict[str, Any], BeforeValidator(_named_tables)] = Field(default_factory=dict)
    meters_file: str | None = Field(
        None,
        min_length=1,
        description="A CSV file with more meters, one a row, found from this file's directory. Stands above the first section.",
    )
    meters: Annotated[list[Any], BeforeValidator(_many_tables)] = Field(default_factory=list)
