"""What the simulated EnerKey accepts as a push: pure reading of a body, strict, naming the item that is wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import INT64, hour_of, hour_start, to_micro, to_ms
from gateway.enerkey.models import exact_json, parse_stamp
from gateway.simulator.books import Family, Item, Push

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.enerkey.contract import Contract

HOUR = timedelta(hours=1)
LONGEST_SPAN = timedelta(days=365)  # of one message, from EnerKey's public page


class Rejected(Exception):  # noqa: N818 - what the sender is told
    """The request is refused and nothing of it is applied."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        """The HTTP status, the sentence for the sender, and headers that go with it."""
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


class Read(NamedTuple):
    """What a body says: its good items as a message, None without any; and what is wrong with the first bad one."""

    push: Push | None
    refused: Rejected | None


class Manner(NamedTuple):
    """How times are read: how far ahead they may be, and whether an offset such as +02:00 is heard."""

    ahead: timedelta = HOUR
    offsets: bool = True


def read_push(
    contract: Contract, family: Family, meter: str | None, body: bytes, now: datetime, manner: Manner
) -> Read:
    """The message in a body. `meter` is the id that the path gave. Raises Rejected where the whole cannot be read."""
    document = _document(body)
    rows = _rows(contract, document)
    named = [] if meter is None else [whole(meter)]
    if contract.meter_key:
        named += [_meter_in(contract, holder) for holder in ([document] if contract.values_key else rows)]
    if len(set(named)) != 1:
        raise Rejected(400, "the message must name one meter")
    items: list[Item] = []
    refused: Rejected | None = None
    for place, row in enumerate(rows, start=1):
        try:
            items.append(_item(contract, family, named[0], row, manner, now))
        except (ValueError, ArithmeticError) as error:
            refused = refused or Rejected(400, f"item {place}: {error}")
    _check_span(family, items)
    return Read(Push(now, named[0], family, tuple(items)) if items else None, refused)


def whole(text: str) -> int:
    """A meter's id as a path or query gives it. Raises Rejected."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Rejected(400, f"{text[:40]!r} is no meter's id: it must be one whole number")
    return int(text)


def _document(body: bytes) -> object:
    try:
        return exact_json(body)
    except ValueError as error:
        raise Rejected(400, f"the body is not JSON: {error}") from None


def _rows(contract: Contract, document: object) -> list[object]:
    rows = document
    if contract.values_key:
        beside = {contract.values_key, contract.meter_key} - {""}
        if not isinstance(document, dict) or set(document) != beside:
            raise Rejected(400, f"the body must be an object with {_list(beside)}")
        rows = document[contract.values_key]
    if not isinstance(rows, list) or not rows:
        raise Rejected(400, "the values must be an array with at least one item")
    return rows


def _meter_in(contract: Contract, holder: object) -> int:
    meter = holder.get(contract.meter_key) if isinstance(holder, dict) else None
    if not isinstance(meter, Decimal) or meter != meter.to_integral_value() or abs(meter) > INT64:
        raise Rejected(400, f"{contract.meter_key} must be a meter's id: one whole number")
    return int(meter)


def _item(contract: Contract, family: Family, meter: int, row: object, manner: Manner, now: datetime) -> Item:
    """One value; ValueError or ArithmeticError says what is wrong with it."""
    keys = {contract.timestamp_key, contract.value_key}
    if contract.meter_key and not contract.values_key:
        keys.add(contract.meter_key)
    if not isinstance(row, dict) or set(row) != keys:
        raise ValueError(f"must be an object with {_list(keys)}")
    at = parse_stamp(row[contract.timestamp_key])
    instant = at.astimezone(UTC) if manner.offsets else at.replace(tzinfo=UTC)
    micro = _micro(row[contract.value_key])
    if family == "cumulative" and instant != hour_start(hour_of(to_ms(instant))):
        raise ValueError(f"a reading must be of a full hour, not of {at.isoformat()}")
    if instant > now + manner.ahead:
        raise ValueError(f"{instant.isoformat()} is in the future")
    return Item(meter, family, instant, micro)


def _micro(value: object) -> int:
    if not isinstance(value, Decimal):
        raise ValueError(f"{str(value)[:40]!r} is not a number")  # noqa: TRY004 - one error for one item
    return to_micro(value)


def _check_span(family: Family, items: Sequence[Item]) -> None:
    if not items:
        return
    length = HOUR if family == "consumption" else timedelta(0)  # a consumption reaches to the end of its hour
    first, last = min(item.stamp for item in items), max(item.stamp for item in items)
    if last + length - first > LONGEST_SPAN:
        raise Rejected(400, f"the message spans more than {LONGEST_SPAN.days} days: from {first} to {last}")


def _list(keys: set[str]) -> str:
    return " and ".join(sorted(keys)) + " and nothing else"
