"""Meters from a spreadsheet: a CSV file, one meter a row.

Columns named like a meter's keys (`name`, `enerkey_id`, `push`, `unit`, `max_rate`, ...) are those; every other column is a key of its
source (`connection`, `device`, `point`, `topic`, ...). Keys that both have, such as `unit`, are the meter's; `source_unit` is the source's.
An empty cell is a key that is not there; a list is written with blanks between its elements. Separator: comma, semicolon or
tab, whichever the header uses most.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from drivers import registry
from drivers.fields import SourceBase
from gateway.faults import Findings, Origin, Place, nearest
from gateway.locate import Unreadable, read_text
from gateway.sections import MeterSection
from gateway.tomlfile import UNREADABLE

METER_COLUMNS = tuple(name for name in MeterSection.model_fields if name != "source")
REQUIRED_COLUMNS = ("name", "push", "unit", "connection")
SOURCE_PREFIX = "source_"

_SEPARATORS = (",", ";", "\t")
_TRUTH = {"true": True, "false": False}
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
_HEX = re.compile(r"0x[0-9A-Fa-f]{1,8}")
_CSV_ERRORS = {  # what the csv module says, and what that means
    "unexpected end of data": 'a cell begins with a quote " and never ends',
    "expected after": "after the quote that ends a cell there must be a separator",
    "field larger": f"a cell is longer than {csv.field_size_limit()} characters",
}


class RawMeter(NamedTuple):
    """A meter as written; `cells` says that its values are texts from a spreadsheet."""

    table: dict[str, Any]
    place: Place
    cells: bool = False


def read_meters(path: Path, named_at: Place, findings: Findings) -> list[RawMeter]:
    """The meters of a CSV file. What is wrong with the file itself is reported where the configuration names it."""
    try:
        text = read_text(path)
    except Unreadable as error:
        if error.line is None:
            findings.add(named_at, f"{path} {error.reason}", str(path))
            findings.forbidden += error.forbidden
        else:
            findings.add(
                Place(Origin(str(path), fixed_line=error.line)), f'{error.reason}: "CSV UTF-8" in a spreadsheet program'
            )
        return []
    text = text.replace("\r", "\n")  # what old spreadsheet programs on a Mac write
    lines = text.split("\n")
    before = len(findings)
    rows = _rows(text, Origin(str(path), text=lines), findings)
    if not rows:
        findings.add(Place(Origin(str(path), fixed_line=1)), "is empty: write a header row and one meter a row")
        return []
    header = [cell.strip() for cell in rows[0][1]]
    top = Place(Origin(str(path), text=lines, fixed_line=rows[0][0]))
    if len(rows) == 1 and len(findings) == before:
        findings.add(top, "has no meters below its header: write one meter a row")
    columns = _checked_columns(header, top, findings)
    return [
        _meter(columns, cells, Place(Origin(str(path), text=lines, fixed_line=line)), findings)
        for line, cells in rows[1:]
    ]


def typed(table: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Cells as the types that the model's keys want; what does not look like one stays text, for the model to refuse."""
    hexadecimal = issubclass(model, SourceBase)  # addresses in manuals are
    return {
        key: _typed(value, model.model_fields[key].annotation, hexadecimal=hexadecimal)
        if key in model.model_fields
        else value
        for key, value in table.items()
    }


def source_keys() -> set[str]:
    """Every key that some driver's source knows."""
    return {name for driver in registry.names() for name in registry.config_of(driver).Source.model_fields}


def source_columns() -> dict[str, str]:
    """The columns of those keys that a meter has, too, and the source's key that each one is."""
    return {f"{SOURCE_PREFIX}{key}": key for key in METER_COLUMNS if key in source_keys()}


def _rows(text: str, origin: Origin, findings: Findings) -> list[tuple[int, list[str]]]:
    """The rows that hold something, each with its first line."""
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(_SEPARATORS, key=first.count), strict=True)
    rows = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        findings.add(Place(Origin(origin.file, text=origin.text, fixed_line=line)), f"is not CSV: {_in_words(error)}")
    return rows


def _in_words(error: csv.Error) -> str:
    said = str(error)
    return next((words for begin, words in _CSV_ERRORS.items() if begin in said), said)


def _other_words() -> dict[str, str]:
    """What other programs call a key of some driver's source."""
    sources = [registry.config_of(driver).Source for driver in registry.names()]
    words = [(other, key, source) for source in sources for other, key in getattr(source, "other_words", {}).items()]
    return {other: key for other, key, source in words if key in source.model_fields}


def _checked_columns(header: list[str], place: Place, findings: Findings) -> list[str]:
    """The header with each column under the name that was meant; "" for columns to pass over."""
    known, others = {*METER_COLUMNS, *source_keys(), *source_columns()}, _other_words()
    columns: list[str] = []
    for name in header:
        other = others.get(name.casefold(), "")
        meant = (
            name if name in known or not name else (other not in header and other) or nearest(name, known - set(header))
        )
        if name and name not in known:
            findings.add(place.at(name, f"column {name}"), "unknown column", suggestion=other or nearest(name, known))
        if meant and meant in columns:
            findings.add(place.at(name, f"column {name}"), "is there twice; keep one of them", "")
            meant = ""
        columns.append(meant)
    for name in REQUIRED_COLUMNS:
        if name not in columns:
            findings.add(place.at(name, f"column {name}"), "missing; every meter needs it")
    return columns


def _meter(columns: list[str], cells: list[str], place: Place, findings: Findings) -> RawMeter:
    if len(cells) > len(columns):
        findings.add(
            place,
            f"has {len(cells)} cells, the header only {len(columns)}; put quotes around a cell with a separator in it",
        )
    filled = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column and cell.strip()}
    filled |= {
        column: UNREADABLE for column in REQUIRED_COLUMNS if column not in columns
    }  # reported once, in the header
    table: dict[str, Any] = {key: value for key, value in filled.items() if key in METER_COLUMNS}
    shared = source_columns()
    source = {shared.get(key, key): value for key, value in filled.items() if key not in METER_COLUMNS}
    return RawMeter({**table, "source": source}, place, cells=True)


def _types_in(annotation: object) -> set[object]:
    arguments = get_args(annotation)
    return {annotation}.union(*(_types_in(argument) for argument in arguments)) if arguments else {annotation}


def _takes_text(annotation: object) -> bool:
    """Whether text is one of the things that a key takes as a whole; a list of texts is not."""
    if get_origin(annotation) in {Annotated, Union, UnionType}:
        return any(
            _takes_text(each) for each in get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
        )
    return annotation is str


def _typed(cell: object, annotation: object, *, hexadecimal: bool) -> object:
    if not isinstance(cell, str):
        return cell
    types = _types_in(annotation)
    if bool in types and cell.lower() in _TRUTH:
        return _TRUTH[cell.lower()]
    if int in types and _WHOLE.fullmatch(cell):
        return int(cell)
    if int in types and hexadecimal and _HEX.fullmatch(cell):
        return int(cell, 16)
    if any(get_origin(each) is tuple for each in types) and not _takes_text(annotation):
        return cell.split()
    return cell
