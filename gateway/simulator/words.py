"""A contract's words on the wire: which endpoint a request is meant for, and hours as the answer has them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from gateway.enerkey.models import number, stamp

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.enerkey.contract import Contract


def fit(template: str, target: str) -> dict[str, str] | None:
    """The placeholders of a contract's path and query as a request fills them; None when it is another endpoint.

    Query parameters come in any order; one that is missing leaves its placeholder out.
    """
    wanted_path, _, wanted_query = template.partition("?")
    path, _, query = target.partition("?")
    found = _placed(wanted_path, unquote(path))
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, pattern in parse_qsl(wanted_query, keep_blank_values=True):
        if found is None or (name not in given and "{" not in pattern):
            return None
        if name in given:
            part = _placed(pattern, given[name])
            found = None if part is None else found | part
    return found


def _placed(pattern: str, text: str) -> dict[str, str] | None:
    parts = re.split(r"\{([^{}]*)\}", pattern)  # literal, name, literal, name, ... literal
    expression = "".join("(.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    match = re.fullmatch(expression, text)
    return None if match is None else dict(zip(parts[1::2], match.groups(), strict=True))


def as_asked(at: datetime, asked: datetime, *, utc: bool) -> str:
    """An hour's time with the offset of the one that was asked for; `utc`: with Z."""
    return stamp(at) if utc else at.astimezone(asked.tzinfo).isoformat(timespec="seconds")


def hours_text(contract: Contract, hours: dict[int, list[tuple[str, int]]]) -> str:
    """The hours of each meter, named in the rows or as keys where the contract asks for several."""
    key = contract.answer_meter_key if contract.reads_many else ""
    rows = {
        meter: _rows(contract, values, f",{json.dumps(key)}:{meter}" if key else "") for meter, values in hours.items()
    }
    if contract.reads_many and not key:
        text = "{" + ",".join(f'"{meter}":[{each}]' for meter, each in rows.items()) + "}"
    else:
        text = f"[{','.join(each for each in rows.values() if each)}]"
    return f"{{{json.dumps(contract.values_key)}:{text}}}" if contract.values_key else text


def _rows(contract: Contract, hours: list[tuple[str, int]], named: str) -> str:
    timestamp, value = json.dumps(contract.timestamp_key), json.dumps(contract.value_key)
    return ",".join(f'{{{timestamp}:"{at}",{value}:{number(micro)}{named}}}' for at, micro in hours)
