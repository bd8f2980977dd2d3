"""From the files to drafts: every section, connection and meter checked by itself, as far as it can be read.

A draft may hold stand-ins for wrong values (`gateway.validating`), so that relations between drafts are still checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from drivers import registry
from drivers.fields import SourceBase
from gateway.enerkey.contract import Contract
from gateway.faults import Findings, Origin, Place, is_secret, literal_secrets, nearest, some, with_lines
from gateway.locate import Unreadable, read_text
from gateway.sections import (
    NAME,
    NAME_RULE,
    AccountSection,
    BufferSection,
    ClockSection,
    EnerkeySection,
    File,
    GatewaySection,
    HoursSection,
    MeterSection,
)
from gateway.spreadsheet import RawMeter, read_meters, typed
from gateway.tomlfile import UNREADABLE, TomlFile, parse
from gateway.validating import Checked, check_table

_HEADER = re.compile(rf"\s*\[{{1,2}}\s*({'|'.join(File.model_fields)})\b[A-Za-z0-9_. -]*\]{{0,2}}\s*")
ALIKE = 0.8  # how much of an unknown key must be that of a known one to be taken for it without doubt
_ONE_KEY = re.compile(r"\s*(?:([A-Za-z0-9_-]+)\s*=?[^=]*|source\s*=\s*\{.*)")  # no key of a source holds a secret


@dataclass(frozen=True, slots=True)
class ConnectionDraft:
    """A connection; `driver` is None where nothing tells which one it is."""

    name: str
    place: Place
    driver: str | None
    checked: Checked[BaseModel] | None


@dataclass(frozen=True, slots=True)
class MeterDraft:
    """A meter; `id` is its name, or its place where the name is missing or not unique.

    `connection` is the one the source names, or (then not `certain`) the one it probably means; None where nothing tells.
    """

    id: str
    section: Checked[MeterSection]
    source: Checked[SourceBase] | None
    connection: ConnectionDraft | None
    certain: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that could be read."""

    file: Checked[File]
    connections: Mapping[str, ConnectionDraft]
    meters: tuple[MeterDraft, ...]


def read(path: Path, findings: Findings) -> Draft | None:
    """Read a configuration and the spreadsheet it names; None where there is nothing to go on with."""
    document = _document(path, findings)
    if document is None or document.content is None:
        return None
    lines = document.text.split("\n")
    origin = Origin(
        str(path),
        document.lines,
        lines,
        secrets=literal_secrets(document.content),
        doubtful=_doubtful({key: document.content.get(key) for key in ("enerkey", "connections")}),
    )
    file = check_table(File, document.content, Place(origin), findings)
    connections = {
        name: _connection(name, table, file.at(("connections", name)), findings)
        for name, table in _readable(file.written(("connections",)), dict).items()
    }
    seen: set[str] = set()
    meters = [_meter(raw, file, connections, seen, findings) for raw in _raw_meters(path, file, findings)]
    return Draft(file, connections, tuple(meters))


def check_file(path: Path, model: type[BaseModel], findings: Findings) -> None:
    """A file that a source names: every mistake in it, where it stands. That it cannot be read at all, its driver says."""
    try:
        read_text(path)
    except Unreadable:
        return
    document = _document(path, findings)
    if document is not None and document.content is not None:
        origin = Origin(str(path), document.lines, document.text.split("\n"))
        check_table(model, document.content, Place(origin), findings)


def _document(path: Path, findings: Findings) -> TomlFile | None:
    try:
        text = read_text(path)
    except Unreadable as error:
        findings.add(Place(Origin(str(path), fixed_line=error.line)), error.reason)
        findings.forbidden += error.forbidden
        return None
    document = parse(text)
    lines = text.split("\n")
    secrets = literal_secrets(document.content)
    keys_at = {line: keys for keys, line in document.lines.items()}
    for fault in document.faults:
        keys = keys_at.get(fault.line or 0, ())
        text_shown = lines if fault.line and _may_be_shown(lines[fault.line - 1]) else ()
        origin = Origin(str(path), text=text_shown, fixed_line=fault.line, fixed_column=fault.column, secrets=secrets)
        findings.add(Place(origin).below(keys), fault.message)
    return document


def _may_be_shown(line: str) -> bool:
    """Whether a line that is not TOML surely holds no secret: a header, or one key that we know, and that holds none."""
    if _HEADER.fullmatch(line):
        return True
    match = _ONE_KEY.fullmatch(line)
    return bool(match and (not match[1] or (match[1] in _known_keys() and not is_secret(match[1]))))


@cache
def _known_keys() -> frozenset[str]:
    """Every key of every table that holds a plain value."""
    drivers = [registry.config_of(each) for each in registry.names()]
    models: list[type[BaseModel]] = [
        GatewaySection,
        ClockSection,
        HoursSection,
        BufferSection,
        EnerkeySection,
        AccountSection,
        Contract,
        MeterSection,
    ]
    models += [model for each in drivers for model in (each.Connection, each.Source)]
    return frozenset(key for model in models for key in model.model_fields)


def _doubtful(content: object, *, inside: bool = False) -> tuple[str, ...]:
    """Texts under keys that nobody knows: secrets perhaps, under a name that only their owner would recognise."""
    if isinstance(content, dict):
        tables = {key: isinstance(value, dict) for key, value in content.items()}
        found = [
            _doubtful(
                value, inside=not tables[key] and key not in _known_keys() and not nearest(key, _known_keys(), ALIKE)
            )
            for key, value in content.items()
        ]
        return tuple(text for each in found for text in each)
    if isinstance(content, list):
        return tuple(text for value in content for text in _doubtful(value, inside=inside))
    return with_lines(content) if inside and isinstance(content, str) else ()


def _readable(value: object, kind: type[Any]) -> Any:  # noqa: ANN401 - a table or a list, as asked for
    return value if isinstance(value, kind) else kind()


def _raw_meters(path: Path, file: Checked[File], findings: Findings) -> list[RawMeter]:
    raw = []
    for number, table in enumerate(_readable(file.written(("meters",)), list)):
        place = file.at(("meters", number))
        if isinstance(table, dict):
            raw.append(RawMeter(table, place))
        elif table != UNREADABLE:
            findings.add(place, "must be a table: [[meters]]", table)
    if file.value and file.value.meters_file and "meters_file" not in file.guessed:
        raw += read_meters(path.parent / file.value.meters_file, file.at(("meters_file",)), findings)
    return raw


def _connection(name: str, table: object, place: Place, findings: Findings) -> ConnectionDraft:
    if not NAME.fullmatch(name):
        findings.add(place, f"is no name for a connection: it {NAME_RULE}", {})
    if not isinstance(table, dict):
        if table != UNREADABLE:
            findings.add(place, "must be a table: [connections.NAME]", table)
        return ConnectionDraft(name, place, None, None)
    models = {each: registry.config_of(each).Connection for each in registry.names()}
    given = _given(table, "driver", models.values())
    known = isinstance(given, str) and given in models
    if known and "driver" in table:
        return ConnectionDraft(name, place, str(given), check_table(models[str(given)], table, place, findings))
    if not known:
        _report_driver(given, place.at("driver"), findings)
    driver = nearest(given, models) if isinstance(given, str) else _most_alike(table, models)
    checked = check_table(models[driver], table, place, findings, {"driver": driver}) if driver else None
    return ConnectionDraft(name, place, driver or None, checked)


def _report_driver(given: object, place: Place, findings: Findings) -> None:
    names = ", ".join(registry.names())
    if given is None:
        findings.add(place, f"missing: write one of {names}")
    elif not isinstance(given, str):
        findings.add(place, f"must be one of {names}", given)
    elif given != UNREADABLE:
        message = f'unknown driver "{given}"; there are: {names}'
        findings.add(place, message, given, nearest(given, registry.names()))


def _meter(
    raw: RawMeter, file: Checked[File], connections: Mapping[str, ConnectionDraft], seen: set[str], findings: Findings
) -> MeterDraft:
    name = raw.table.get("name")
    usable = isinstance(name, str) and NAME.fullmatch(name)
    place = Place(raw.place.origin, raw.place.keys, f"meters.{name}" if usable else raw.place.shown or "meter")
    section = check_table(MeterSection, typed(raw.table, MeterSection) if raw.cells else raw.table, place, findings)
    unique = usable and name not in seen and name != "connection"  # a driver's faults begin with "connection" or an id
    seen.add(str(name))
    draft = MeterDraft(str(name) if unique else f"{place.shown}#{len(seen)}", section, None, None, certain=False)
    table = section.written(("source",))
    if not isinstance(table, dict):
        return draft
    raw_source = RawMeter(table, section.at(("source",)), raw.cells)
    return _with_source(draft, raw_source, connections, findings, known="connections" not in file.guessed)


def _with_source(
    draft: MeterDraft, raw: RawMeter, connections: Mapping[str, ConnectionDraft], findings: Findings, *, known: bool
) -> MeterDraft:
    """A source is checked against the model of its connection's driver; where there is none, against the likeliest one."""
    models: dict[str, type[SourceBase]] = {each: _source_model(each) for each in registry.names()}
    named = _given(raw.table, "connection", models.values())
    text = named if isinstance(named, str) else ""
    certain = text in connections
    if not certain and known:
        _report_connection(named, connections, raw.place.at("connection"), findings)
    connection = connections.get(text) or connections.get(nearest(text, connections))
    driver = (connection.driver if connection else None) or _most_alike(raw.table, models)
    if not driver:
        return replace(draft, connection=connection, certain=certain)
    table = typed(raw.table, models[driver]) if raw.cells else raw.table
    trusted = None if certain else {"connection": text}
    source = check_table(models[driver], table, raw.place, findings, trusted)
    return replace(draft, source=source, connection=connection, certain=certain)


def _given(table: Mapping[str, Any], key: str, models: Iterable[type[BaseModel]]) -> object:
    """The value of a key, also where the key is misspelt (which its table's check reports); None where it is missing."""
    known = {name for model in models for name in model.model_fields}
    misspelt = (name for name in table if name not in known and nearest(name, known) == key)
    return table.get(key, table.get(next(misspelt, key)))


def _report_connection(
    named: object, connections: Mapping[str, ConnectionDraft], place: Place, findings: Findings
) -> None:
    there = f"; there are: {some(list(connections))}" if connections else "; write a [connections.NAME] first"
    if named is None:
        findings.add(place, f"missing: write the name of a connection{there}")
    elif not isinstance(named, str):
        findings.add(place, "must be the name of a connection in quotes", named)
    elif named != UNREADABLE:
        findings.add(place, f'unknown connection "{named}"{there}', named, nearest(named, connections))


def _source_model(driver: str) -> type[SourceBase]:
    model = registry.config_of(driver).Source
    if not issubclass(model, SourceBase):
        raise AssertionError(f"the driver contract: {model} is a SourceBase")  # noqa: TRY004
    return model


def _most_alike(table: Mapping[str, Any], models: Mapping[str, type[BaseModel]]) -> str | None:
    """The driver whose model knows most of the keys, where one knows more than every other."""
    known = {driver: sum(key in model.model_fields for key in table) for driver, model in models.items()}
    best = max(known.values(), default=0)
    winners = [driver for driver, number in known.items() if number == best]
    return winners[0] if len(winners) == 1 else None
