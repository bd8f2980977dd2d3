"""Blocks of the configuration, ready to be pasted: what `read URL` has found out about a meter."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gateway.sections import NAME
from gateway.units import AMOUNTS, RATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_NAME = 40
_USUAL = {"energy": "kWh", "volume": "m3", "reactive energy": "kvarh"}  # of meters at EnerKey, by what they measure


def table(header: str, keys: Mapping[str, Any], comments: Iterable[str] = ()) -> str:
    """A section with its keys, below comments."""
    lines = [*(f"# {each}" for each in comments), header]
    return "\n".join([*lines, *(f"{key} = {written(value)}" for key, value in keys.items())])


def meter(name: str, source: Mapping[str, Any], unit: str, kind: str, comments: Iterable[str]) -> str:
    """A `[[meters]]` block that collects and does not push yet; `unit` is what the source counts in."""
    about = {"name": name, "push": "off", "unit": meter_unit(unit, kind)}
    return "\n".join((table("[[meters]]", about, comments), table("[meters.source]", source)))


def meter_unit(unit: str, kind: str) -> str:
    """The usual unit of a meter whose source counts in `unit`."""
    known = (RATES if kind == "power" else AMOUNTS).get(unit)
    return _USUAL.get(known.quantity, unit) if known else unit


def name_of(words: Iterable[str], taken: set[str]) -> str:
    """A name for a meter, made of words and unlike those that are taken, among which it is then."""
    plain = "-".join(filter(None, (re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in words)))[:LONGEST_NAME]
    stem = plain.strip("-").lower() or "meter"
    name, number = stem, 2
    while name in taken or not NAME.fullmatch(name):
        name, number = f"{stem}-{number}", number + 1
    taken.add(name)
    return name


def written(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(written(each) for each in value)}]"
    if not isinstance(value, str):
        return str(value)
    if '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"  # paths with quoted keys are readable so
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
