"""The whole database held against its own rules: what is not right, where, and what to do. Reads only."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from buffer.closing import imbalance
from buffer.files import is_damage
from buffer.readings import newest_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buffer.frozen import Sample
    from buffer.store import Connection

MOST = 20  # findings of one kind
COARSEST = 1_000_000  # micro: what rounding to whole units may change in a value that was sent
RESTART = "restart the service: it salvages what can be read (sudo systemctl restart meter-gateway)"
COMPARE = "compare with EnerKey: meter-gateway hours {meter}; then say which is right"
REPORT = "the gateway never writes this: keep a copy (meter-gateway backup) and report it"


class Finding(NamedTuple):
    """One thing that is not right: of which meter and hour, in words, and what a person does next."""

    what: str
    todo: str
    meter: str | None = None
    hour: int | None = None


class Checked(NamedTuple):
    """Rows by table, newest reading by meter's name, and what is not right."""

    tables: dict[str, int]
    newest: dict[str, Sample]
    findings: list[Finding]


def check(db: Connection) -> Checked:
    """Everything, on a read-only connection. A file that cannot be read to the end is a finding, too."""
    checked = Checked({}, {}, [])
    steps: list[Callable[[Connection, Checked], None]] = [_file, _content, _sums, _journal]
    for step in steps:
        try:
            step(db, checked)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            if not any(finding.todo == RESTART for finding in checked.findings):
                checked.findings.append(Finding(f"the file is damaged: {error}", RESTART))
    return checked


def _file(db: Connection, checked: Checked) -> None:
    problems = [row[0] for row in db.execute(f"PRAGMA integrity_check({MOST})")]
    checked.findings.extend(Finding(f"the file is damaged: {text}", RESTART) for text in problems if text != "ok")


def _content(db: Connection, checked: Checked) -> None:
    tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%' ORDER BY name"
    for (table,) in db.execute(tables).fetchall():
        checked.tables[table] = db.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608 - from the schema
    names = _names(db)
    checked.newest.update({names[meter]: sample for meter, sample in newest_samples(db).items() if meter in names})


# --- R7 ---------------------------------------------------------------------------------------------------------------


def _sums(db: Connection, checked: Checked) -> None:
    names = _names(db)
    for (meter,) in db.execute("SELECT meter FROM counter_state ORDER BY meter").fetchall():
        off = imbalance(db, meter)
        if off == 0:
            continue
        hour = _first_break(db, meter)
        by = "an hour is not there" if off is None else f"they are {off} micro off"
        what = f"its hours do not add up to its boundaries ({by})"
        checked.findings.append(Finding(what, COMPARE.format(meter=names[meter]), names[meter], hour))


def _first_break(db: Connection, meter: int) -> int | None:
    """The first hour that does not begin where the one before it ended."""
    row = db.execute(
        "SELECT hour FROM (SELECT hour, boundary - consumption AS began, lag(hour) OVER w AS before, lag(boundary) OVER w AS stood"
        " FROM hour WHERE meter = ?1 AND hour >= (SELECT opening_hour FROM counter_state WHERE meter = ?1)"
        " WINDOW w AS (ORDER BY hour)) WHERE hour <> before + 1 OR began <> stood ORDER BY hour LIMIT 1",
        (meter,),
    ).fetchone()
    return row[0] if row else None


# --- the journal ------------------------------------------------------------------------------------------------------

_OPEN = "SELECT id FROM message WHERE state IN ('open', 'unknown')"
_IN_LEDGER = "(SELECT 1 FROM ledger WHERE ledger.meter = hour.meter AND ledger.hour = hour.hour)"
_OPEN_ONE = "(SELECT 1 FROM message_hour WHERE message_hour.meter = hour.meter AND message_hour.hour = hour.hour AND message IN ({open}))"

_CARRIED = (
    "SELECT message_hour.meter, message_hour.hour, sum(value) AS value FROM message_hour JOIN message ON message.id = message"
    " WHERE message.state = 'accepted' OR message_hour.fate = 'accepted' GROUP BY 1, 2"
)
_POSTED = "coalesce((SELECT sum(posted) FROM adjustment WHERE adjustment.meter = hour.meter AND adjustment.hour = hour.hour), 0)"
_DIFFERS = (
    "USING (meter, hour) WHERE state = 'accepted' AND accepted IS NOT sent.value"
    f" AND abs(accepted - consumption - {_POSTED}) >= {COARSEST}"
)
_PARTS = {
    "open": _OPEN,
    "open_one": _OPEN_ONE.format(open=_OPEN),
    "ledger": _IN_LEDGER,
    "carried": _CARRIED,
    "differs": _DIFFERS,
}
_RULES = (  # what, what to do, which (meter, hour)
    (
        "claimed, but no message of open fate names it, so it waits for ever",
        REPORT,
        "SELECT meter, hour FROM hour WHERE state = 'claimed' AND NOT EXISTS {open_one}",
    ),
    (
        "in a message of open fate, but not claimed: it could be sent twice",
        REPORT,
        "SELECT meter, hour FROM message_hour LEFT JOIN hour USING (meter, hour) WHERE message IN ({open}) AND state IS NOT 'claimed'",
    ),
    (
        "in two messages of open fate: it may be counted twice",
        REPORT,
        "SELECT meter, hour FROM message_hour WHERE message IN ({open}) GROUP BY meter, hour HAVING count(*) > 1",
    ),
    (
        "accepted, but not in the ledger",
        COMPARE,
        "SELECT meter, hour FROM hour WHERE state = 'accepted' AND NOT EXISTS {ledger}",
    ),
    (
        "in the ledger, but waits to be sent: it would be counted twice",
        REPORT,
        "SELECT meter, hour FROM hour WHERE state = 'pending' AND EXISTS {ledger}",
    ),
    (
        "in the ledger, but its hour is not there",
        COMPARE,
        "SELECT ledger.meter, ledger.hour FROM ledger LEFT JOIN hour USING (meter, hour) WHERE hour.id IS NULL",
    ),
    (
        "the ledger has neither what its messages carried nor the hour with its posted adjustments",
        COMPARE,
        "SELECT hour.meter, hour.hour FROM ledger JOIN hour USING (meter, hour) LEFT JOIN ({carried}) AS sent {differs}",
    ),
)


def _journal(db: Connection, checked: Checked) -> None:
    names = _names(db)
    for what, todo, find in _RULES:
        rows = db.execute(find.format_map(_PARTS)).fetchall()
        shown = rows if len(rows) <= MOST else rows[: MOST - 1]
        checked.findings.extend(_found(what, todo, shown, names))
        if len(rows) > len(shown):
            checked.findings.append(Finding(f"{what}: {len(rows) - len(shown)} more hours", REPORT))


def _found(what: str, todo: str, rows: list[tuple[int, int]], names: dict[int, str]) -> Iterator[Finding]:
    for meter, hour in rows:
        name = names.get(meter, str(meter))
        yield Finding(what, todo.format(meter=name), name, hour)


def _names(db: Connection) -> dict[int, str]:
    return dict(db.execute("SELECT id, name FROM meter"))
