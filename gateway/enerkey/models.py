"""Bodies to EnerKey and answers from it: pure functions between stamped micro values and exact JSON.

No number passes through a float: bodies are written digit by digit from micro, answers are read as decimals.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from buffer.model import MICRO, hour_of, hour_start, to_micro, to_ms
from gateway.enerkey.contract import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.enerkey.contract import Contract

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)", re.ASCII)


class OddAnswer(ValueError):  # noqa: N818 - says what was received
    """The body is not the answer that the contract describes: nothing may be concluded from it."""


def push_body(contract: Contract, meter_id: int, items: Iterable[tuple[datetime, int]]) -> bytes:
    """The body of one message: (instant, micro) of one meter, as compact UTF-8 JSON in the contract's shape.

    The same for consumptions and cumulative readings. ValueError for an instant that `stamp` cannot write.
    """
    return written_body(contract, meter_id, ((stamp(at), number(micro)) for at, micro in items))


def written_body(contract: Contract, meter_id: int, items: Iterable[tuple[str, str]]) -> bytes:
    """The same from items that are written already: a time, and a JSON value."""
    timestamp, value, meter = _name(contract.timestamp_key), _name(contract.value_key), _name(contract.meter_key)
    within = f",{meter}:{meter_id}" if contract.meter_key and not contract.values_key else ""
    rows = ",".join(f'{{{timestamp}:"{at}",{value}:{written}{within}}}' for at, written in items)
    if not contract.values_key:
        return f"[{rows}]".encode()
    beside = f"{meter}:{meter_id}," if contract.meter_key else ""
    return f"{{{beside}{_name(contract.values_key)}:[{rows}]}}".encode()


def hourly_target(contract: Contract, meter_ids: Sequence[int], from_hour: int, to_hour: int) -> str:
    """Path and query that ask for the hours [from, to) of one meter, or of several where the contract has `{meters}`."""
    meters = ",".join(str(meter) for meter in meter_ids)
    since, until = stamp(hour_start(from_hour)), stamp(hour_start(to_hour))
    return endpoint(contract.hourly_values).filled(meter=meters, meters=meters, **{"from": since, "to": until})


def parse_hourly(contract: Contract, body: bytes, meter_ids: Sequence[int]) -> dict[int, dict[int, int]]:
    """Micro by hour since the epoch, by meter, from the answer to a read of hourly values; a null value is no value.

    A meter that was asked for and that the answer does not name is missing: whether it has nothing there is not said. Where
    one alone was asked for, rows without a name are its rows, as they are where the contract has no `{meters}`.
    OddAnswer for everything that is not exactly that: a wrong conclusion here would count energy twice.
    """
    try:
        by_meter = _by_meter(contract, exact_json(body), meter_ids)
        found = {
            meter: [(_hour(row[contract.timestamp_key]), _micro(row[contract.value_key])) for row in rows]
            for meter, rows in by_meter.items()
        }
    except KeyError as error:
        raise OddAnswer(f"the answer has no {error}") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise OddAnswer(f"the answer is not an array of hourly values: {error}") from None
    if len(meter_ids) == 1 and meter_ids[0] not in found:
        raise OddAnswer(f"the answer does not name the meter {meter_ids[0]}")
    if any(len({hour for hour, _ in rows}) < len(rows) for rows in found.values()):
        raise OddAnswer("the answer names one hour twice")
    return {meter: {hour: micro for hour, micro in rows if micro is not None} for meter, rows in found.items()}


def within(values: Mapping[int, int], from_hour: int, to_hour: int) -> dict[int, int]:
    """The hours [from, to) of an answer. OddAnswer when it also holds later ones.

    Rows from before the range are harmless (an API that answers whole days). A row at or after its end is what an API
    would give that stamps hours by their end: then no row means what it seems to.
    """
    late = [hour for hour in values if hour >= to_hour]
    if late:
        raise OddAnswer(
            f"the answer holds {stamp(hour_start(min(late)))}, but {stamp(hour_start(to_hour))} was its end"
        )
    return {hour: micro for hour, micro in values.items() if hour >= from_hour}


def number(micro: int) -> str:
    """Micro as a JSON number: exact, without exponent and trailing zeros."""
    units, fraction = divmod(abs(micro), MICRO)
    digits = f"{units}.{fraction:06d}".rstrip("0").rstrip(".")
    return f"-{digits}" if micro < 0 else digits


def stamp(at: datetime) -> str:
    """An instant as EnerKey's pages write it: `2017-01-01T00:00:00Z`. ValueError without zone or with a fraction."""
    if at.utcoffset() is None or at.microsecond:
        raise ValueError(f"{at.isoformat()} must have a zone and no fraction of a second")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_stamp(text: object) -> datetime:
    """The instant of `2017-01-01T00:00:00Z` or `...+02:00`, in the offset given; ValueError for anything else."""
    if not isinstance(text, str) or not _STAMP.fullmatch(text):
        raise ValueError(f"{str(text)[:40]!r} is no time such as 2017-01-01T00:00:00Z or 2017-01-01T02:00:00+02:00")
    return datetime.fromisoformat(text)


def exact_json(body: bytes) -> object:
    """JSON with every number as the Decimal that was written; ValueError also for a key given twice.

    NaN and Infinity, which Python would read and JSON does not have, become text: no number for anybody.
    """
    try:
        return json.loads(
            body.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=str,
            object_pairs_hook=_once,
        )
    except ArithmeticError:
        raise ValueError("holds a number beyond all bounds") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _name(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _by_meter(contract: Contract, document: object, asked: Sequence[int]) -> dict[int, list[dict[str, object]]]:
    """The rows of each meter that the answer names. Raises KeyError, TypeError or ValueError."""
    if contract.values_key:
        if not isinstance(document, dict):
            raise TypeError(f"it should be an object with {contract.values_key!r}")
        document = document[contract.values_key]
    key, by_text = contract.answer_meter_key, {str(meter): meter for meter in asked}
    if contract.reads_many and not key and not (len(asked) == 1 and isinstance(document, list)):
        if not isinstance(document, dict):
            raise TypeError("it should be an object with the meters' ids as keys")
        return {_asked_for(meter, by_text): _rows(rows) for meter, rows in document.items()}
    rows = _rows(document)
    if not contract.reads_many or (len(asked) == 1 and not any(key in row for row in rows)):
        return {asked[0]: rows}
    found: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        found.setdefault(_asked_for(row[key], by_text), []).append(row)
    return found


def _rows(document: object) -> list[dict[str, object]]:
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise TypeError("it should be an array of objects")
    return document


def _asked_for(meter: object, by_text: Mapping[str, int]) -> int:
    """The meter that an answer names, as a number or in digits; ValueError when it is none of those asked for."""
    found = by_text.get(str(meter)) if isinstance(meter, (Decimal, str)) else None
    if found is None:
        raise ValueError(f"it names the meter {str(meter)[:40]!r}, which was not asked for")
    return found


def _hour(text: object) -> int:
    at = parse_stamp(text)
    if at.astimezone(UTC) != hour_start(hour_of(to_ms(at))):
        raise ValueError(f"{text} is not the beginning of an hour")
    return hour_of(to_ms(at))


def _micro(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, Decimal):
        raise TypeError(f"{str(value)[:40]!r} is not a number")
    return to_micro(value)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise ValueError(f"the key {twice!r} stands there twice")
    return found
