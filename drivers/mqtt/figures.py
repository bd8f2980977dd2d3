"""The numbers in a message, each with the keys of a source that lead to it. Pure; payloads are hostile, everything is bounded."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from drivers.mqtt.body import Body, Form
from drivers.mqtt.preset import holes
from drivers.mqtt.stamps import EARLIEST, StampForm, instant_of
from drivers.mqtt.values import PayloadError, Twice, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.base import Now
    from drivers.mqtt.body import Format

MOST_FIGURES = 200  # of one message
MOST_NODES = 5_000  # looked at in one message
DEEPEST = 10  # objects and arrays in one another
MOST_ELEMENTS = 6  # of an array of numbers that is taken for phases or tariffs
MOST_DEVICES = 20  # told apart in one array
LONGEST_KEY = 120  # characters

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TIMES = (
    "timestamp", "time", "ts", "t", "datetime", "date_time", "created", "last_seen", "lastseen", "received_at", "updated", "rtc",
)  # fmt: skip
_UNITS = ("unit", "units", "uom", "unit_of_measurement")
_IDENTITIES = ("id", "serial", "meter", "meter_id", "device", "device_id", "name", "address")


class Figure(NamedTuple):
    """A number: `keys` lead to it (`value`, and `each`, `where`, `time` where needed), `names` are its own and those around."""

    keys: Mapping[str, Any]
    number: Decimal
    names: tuple[str, ...]
    unit: str  # as it stands beside the number
    zone_missing: bool  # the time names none


def form_of(body: Body) -> tuple[Form, object] | None:
    """How a payload is written, and what it decodes to; None where it is nothing that has numbers in it."""
    with suppress(PayloadError):
        return Form("raw"), number_of(body.text)
    with suppress(PayloadError):
        document = body.read(Form("json"))
        return (Form("json"), document) if isinstance(document, dict | list) else None
    with suppress(PayloadError):
        if lines := body.read(Form("influx")):
            return Form("influx"), lines
    return _csv(body)


def _csv(body: Body) -> tuple[Form, object] | None:
    with suppress(PayloadError):
        rows = body.read(Form("csv", header=False))
        if rows and len(rows[0]) > 1 and len(rows) < MOST_FIGURES:
            header = len(rows) > 1 and not any(_is_number(cell) for cell in rows[0])
            form = Form("csv", header)
            return form, body.read(form)
    return None


def figures(form: Form, document: object, now: Now) -> list[Figure]:
    """Every number of a decoded payload, in its order."""
    if form.format == "raw":
        return [Figure({}, document, (), "", zone_missing=False)] if isinstance(document, Decimal) else []
    walk = _Walk(now)
    if form.format == "json":
        walk.into(document, "", (), ())
    else:
        walk.rows(document if isinstance(document, list) else [], form.format)
    return walk.found


class _Walk:
    """One message."""

    def __init__(self, now: Now) -> None:
        self.found: list[Figure] = []
        self._now = now
        self._nodes = 0
        self._around: dict[str, Any] = {}  # `each` and `where` of the item that is looked into

    def into(
        self, node: object, path: str, names: tuple[str, ...], parents: tuple[tuple[str, dict[str, Any]], ...]
    ) -> None:
        """`names`: the nearest first. `parents`: objects around, the outermost first, with their paths."""
        self._nodes += 1
        if self._nodes > MOST_NODES or len(self.found) >= MOST_FIGURES or len(parents) > DEEPEST:
            return
        if isinstance(node, dict):
            here = (*parents, (path, node))
            for key, value in node.items():
                if is_usable(key):
                    self.into(value, _joined(path, quoted(key)), (key, *names), here)
        elif isinstance(node, list):
            self._array(node, path, names, parents)
        elif path and _is_number(node):
            self._note(path, number_of(node), names, parents)

    def _array(
        self, node: list[Any], path: str, names: tuple[str, ...], parents: tuple[tuple[str, dict[str, Any]], ...]
    ) -> None:
        if 1 < len(node) <= MOST_ELEMENTS and all(_is_number(each) for each in node):
            parts = [f"{path or '@'}[{number}]" for number in range(len(node))]
            self._note(parts, sum(map(number_of, node), Decimal(0)), names, parents)
            return
        items = [each for each in node if isinstance(each, dict)]
        if not items or self._around:
            return
        key = next((key for key in _IDENTITIES if all(isinstance(each.get(key), str | int) for each in items)), None)
        newest = {str(each[key]): each for each in items} if key else {"": items[-1]}
        for name, item in list(newest.items())[:MOST_DEVICES]:
            if key and not _is_quotable(name):
                continue
            where = f"{quoted(key)}=={_literal(item[key])}" if key else None
            self._around = {"each": path or "[]"} | ({"where": where} if where else {})
            self.into(item, "", (*((name,) if name else ()), *names), ())
        self._around = {}

    def rows(self, rows: Sequence[Any], form: Format) -> None:
        """Of a CSV, or the lines of the line protocol."""
        for row in rows[:MOST_DEVICES]:
            if form == "influx":
                tags = row["tags"].items()
                where = " && ".join(f"tags.{quoted(key)}=='{value}'" for key, value in tags if _is_quotable(value))
                self._around = {"where": where} if where else {}
                parents = (("", {"time": row["time"]}),)
                for key, value in islice(row["fields"].items(), MOST_FIGURES - len(self.found)):
                    if is_usable(key) and _is_number(value):
                        self._note(f"fields.{quoted(key)}", number_of(value), (key, row["measurement"]), parents)
            elif isinstance(row, dict):
                self.into(row, "", (), ())
            else:
                self._cells(row)

    def _cells(self, row: list[str]) -> None:
        """A row without names: its words say which one it is, and perhaps the unit."""
        words = {
            number: cell
            for number, cell in enumerate(row)
            if cell and not _is_number(cell) and self._time(cell) is None
        }
        where = " && ".join(f"[{number}]=='{cell}'" for number, cell in words.items() if _is_quotable(cell))
        self._around = {"where": where} if where else {}
        times = {f"[{number}]": cell for number, cell in enumerate(row) if not _is_number(cell) and self._time(cell)}
        for number, cell in enumerate(row[: MOST_FIGURES - len(self.found)]):
            if _is_number(cell):
                keys = {"value": f"[{number}]", **self._around, **({"time": next(iter(times))} if times else {})}
                behind = row[number + 1] if number + 1 in words else ""
                self.found.append(Figure(keys, number_of(cell), tuple(words.values()), behind, zone_missing=False))

    def _note(
        self,
        path: str | list[str],
        number: Decimal,
        names: tuple[str, ...],
        parents: tuple[tuple[str, dict[str, Any]], ...],
    ) -> None:
        time, zone_missing = self._time_near(parents)
        keys = {"value": path, **self._around} | ({"time": time} if time else {})
        nearest = parents[-1][1] if parents else {}
        unit = next((nearest[key] for key in _UNITS if isinstance(nearest.get(key), str)), "")
        self.found.append(Figure(keys, number, names, unit, zone_missing))

    def _time_near(self, parents: Sequence[tuple[str, dict[str, Any]]]) -> tuple[str, bool]:
        """The path of the time that is nearest to a number and can be believed."""
        for path, node in reversed(parents):
            known = {key.lower(): key for key in node if isinstance(key, str)}
            for word in _TIMES:
                if word in known and (told := self._time(node[known[word]])) is not None:
                    return _joined(path, quoted(known[word])), told == "no zone"
        return "", False

    def _time(self, found: object) -> str | None:
        """Whether something is a time, and whether it names a zone; None where it is none."""
        try:
            at = instant_of(found, StampForm(), self._now)
        except PayloadError as error:
            return "no zone" if error.reason == "time without a zone" else None
        return "zone" if at >= EARLIEST else None


def quoted(key: str) -> str:
    """A key as JMESPath wants it."""
    return key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _literal(found: object) -> str:
    return f"'{found}'" if isinstance(found, str) else f"`{json.dumps(found)}`"


def is_usable(key: object) -> bool:
    """Whether a name can stand in a configuration: our own places in braces, and what no terminal shows, cannot."""
    return isinstance(key, str) and 0 < len(key) <= LONGEST_KEY and key.isprintable() and not holes(key)


def _is_quotable(text: object) -> bool:
    """Whether a text can stand between single quotes in an expression."""
    return isinstance(text, str) and is_usable(text) and not {"'", "\\"} & {*text}


def _is_number(found: object) -> bool:
    if isinstance(found, bool | Twice | None | dict | list):
        return False
    try:
        number_of(found)
    except PayloadError:
        return False
    return True
