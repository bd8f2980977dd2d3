"""Presets: what is known of a sender of MQTT messages, as data in `drivers/presets/NAME.toml`.

A point is a table of keys of a `source`; a key that the operator writes as well wins. `{device}` and `{channel}` in a
topic or an expression stand for what the meter says under these names: one template for many meters.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from drivers.fields import Strict

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).resolve().parent.parent / "presets"
FILLINGS = ("device", "channel")
LONGEST_FILLING = 200  # characters

_HOLE = re.compile(r"\{(" + "|".join(FILLINGS) + r")\}")
_FORBIDDEN = re.compile(r"""[+#{}"'`\\\x00-\x1f\x7f]""")  # would end a quoted name, or widen a topic


class UnknownPreset(Exception):  # noqa: N818 - the operator's mistake, not a failure
    """There is no preset of this name."""


class Preset(Strict):
    """One sender of messages. `common` and `points` hold keys of a source; `needs` those that only the operator knows, and why."""

    device: str
    evidence: Literal["sample", "document"]  # fed with a message that a device sent, or with one made after a document
    source: str
    note: str = ""
    needs: dict[str, str] = Field(default_factory=dict)
    common: dict[str, Any] = Field(default_factory=dict)
    points: dict[str, dict[str, Any]] = Field(min_length=1)


def names() -> list[str]:
    """Every shipped preset."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def load(name: str) -> Preset:
    """A shipped preset; raises UnknownPreset."""
    if name not in names():
        raise UnknownPreset(name)
    return parse((FOLDER / f"{name}.toml").read_text("utf-8"), name)


def parse(text: str, name: str) -> Preset:
    """A preset from its text; raises ValueError that names it."""
    try:
        return Preset.model_validate(tomllib.loads(text))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"preset {name}: {error}") from error


def found(name: object) -> Preset | None:
    """The preset of a name, where there is one."""
    try:
        return load(name) if isinstance(name, str) else None
    except UnknownPreset:
        return None


def filled(table: Mapping[str, Any]) -> dict[str, Any]:
    """A source's table with what its preset knows, and with its device and channel put in their places."""
    preset = found(table.get("preset"))
    known: dict[str, Any] = {}
    if preset is not None:
        point = table.get("point") or next(iter(preset.points))
        known = {**preset.common, **(preset.points.get(point, {}) if isinstance(point, str) else {})}
    elif isinstance(table.get("preset"), str):
        known = {"topic": "unknown"}  # what such a preset would have known is not missed as well
    values = {each: _text(table[each]) for each in FILLINGS if each in table}
    merged = {**known, **table}
    return {key: value if key in FILLINGS else _put(value, values) for key, value in merged.items()}


def holes(value: object) -> set[str]:
    """The names of the places in a topic or expression that nothing was put into."""
    texts = value if isinstance(value, tuple | list) else (value,)
    return {name for each in texts if isinstance(each, str) for name in _HOLE.findall(each)}


def emptied(text: str) -> str:
    """A topic or expression with a plain word in every such place, so that the rest of it can be checked."""
    return _HOLE.sub("x", text)


def filling_fault(text: str) -> str:
    """What is wrong with a device or channel, as the end of a sentence that begins with the key; "" when nothing is."""
    if not text.strip() or len(text) > LONGEST_FILLING or _FORBIDDEN.search(text):
        return f"must be 1 to {LONGEST_FILLING} characters, without quotes, braces, backslashes, + and #"
    return ""


def _text(value: object) -> str:
    """A device as it is put in: numbers are taken too; what is neither is reported elsewhere."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return "" if filling_fault(text) else text


def _put(value: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401 - any value of a table
    if isinstance(value, str):
        return _HOLE.sub(lambda hole: values.get(hole[1]) or hole[0], value)
    if isinstance(value, list | tuple):
        return type(value)(_put(each, values) for each in value)
    return value
