"""`--watch`: the same look again and again, with what has changed and how fast it counts."""

from __future__ import annotations

import argparse
from collections import defaultdict, deque
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.common import plain
from gateway.errors import OK
from gateway.faults import MOST_NAMES, some

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY = 5.0  # s
WINDOW = timedelta(minutes=5)  # over which a rate is taken: a register counts in steps
HOUR = Decimal(3600)

Row = dict[str, Any]
"""A look at one value: `name`, `at` (ISO 8601 or None), `value` (text or None), `unit`, `problem`, `counts`."""
FOR_PEOPLE = {"name", "counts"}  # keys of a row that no document has


def facts_of(row: Row) -> dict[str, Any]:
    """A row as documents have it: null where nothing is known."""
    facts = {key: None if value == "" else value for key, value in row.items() if key not in FOR_PEOPLE}
    took = facts.get("took_ms")
    return facts if took is None else facts | {"took_ms": round(took, 1)}


class Looking(Protocol):
    """What is looked at. `rows_key`: what a document calls the rows."""

    rows_key: str

    def look(self) -> tuple[Sequence[Row], dict[str, Any]]:
        """Every row now, and what the document says besides."""
        ...

    def rest(self, clock: SystemClock, until: float) -> None:
        """Wait until boottime `until`; who must listen meanwhile does."""
        ...


class Change(NamedTuple):
    """Since the last reading, and per hour over some minutes; None where there is nothing to compare."""

    change: Decimal | None
    rate: Decimal | None


class Changes:
    """What each value was before. Pure."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: dict[str, deque[tuple[datetime, Decimal]]] = defaultdict(deque)

    def of(self, row: Row) -> Change:
        """What has become of a row's value. A reading that was there already changes nothing."""
        seen = self._seen[row["name"]]
        if row["value"] is None or row["at"] is None:
            return Change(None, None)
        at, value = datetime.fromisoformat(row["at"]), Decimal(row["value"])
        fresh = not seen or at > seen[-1][0]
        change = value - seen[-1][1] if seen and fresh else None
        if fresh:
            seen.append((at, value))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > WINDOW:
            seen.popleft()
        return Change(change, _rate(seen) if row["counts"] else None)


def _rate(seen: deque[tuple[datetime, Decimal]]) -> Decimal | None:
    (began, first), (ended, last) = seen[0], seen[-1]
    passed = Decimal(str((ended - began).total_seconds()))
    return (last - first) * HOUR / passed if passed else None


def every(text: str) -> float:
    """Seconds between two looks."""
    try:
        span = float(plain(text))
    except ValueError:
        hint = f"; a name goes before it: read {text} --watch"
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.1 to 3600{hint}") from None
    if not 0.1 <= span <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.1 to 3600")
    return span


def watch(looking: Looking, seconds: float, *, as_json: bool) -> int:
    """Until Ctrl-C, which is how it ends well."""
    clock, changes, screen = SystemClock(), Changes(), terminal.Screen()
    try:
        while True:
            due = clock.now().boottime + seconds
            rows, facts = looking.look()
            told = [(row, changes.of(row)) for row in rows]
            now = clock.now().wall
            if as_json:
                terminal.document(
                    facts | {"at": now.isoformat(), looking.rows_key: [_document(*each) for each in told]}
                )
            elif screen.redraws:
                screen.draw(table(told, now, seconds))
            else:
                for each in told:
                    terminal.show(f"{now:%Y-%m-%dT%H:%M:%SZ} {_line(*each)}")
            looking.rest(clock, due)
    except KeyboardInterrupt:
        terminal.after_interrupt()
        return OK


def wait(clock: SystemClock, until: float) -> None:
    """Rest where nobody has to listen."""
    clock.wait(Event(), until)


def _document(row: Row, change: Change) -> dict[str, Any]:
    return facts_of(row) | {
        key: None if value is None else f"{value:f}" for key, value in _rounded(change)._asdict().items()
    }


def _rounded(change: Change) -> Change:
    return change._replace(rate=None if change.rate is None else change.rate.quantize(Decimal("0.001")))


def _line(row: Row, change: Change) -> str:
    return " ".join(filter(None, [row["name"], *_cells(row, change)]))


def _cells(row: Row, change: Change) -> tuple[str, str, str]:
    """Value, change and rate, for people."""
    if row["value"] is None:
        return f"FAIL {row['problem']}", "", ""
    unit = f" {row['unit']}" if row["unit"] else ""
    moved = "" if change.change is None else f"{change.change:+f}" if change.change else "+0"
    rate = "" if change.rate is None else f"{change.rate:.3g}" if 0 < abs(change.rate) < 100 else f"{change.rate:.0f}"
    return f"{row['value']}{unit}", moved, f"{rate}{unit}/h" if rate else ""


def table(told: Sequence[tuple[Row, Change]], now: datetime, seconds: float) -> str:
    """For a terminal. What is wrong stands below: in a column it would make the table wider than the terminal."""
    rows: list[tuple[str, ...]] = []
    wrong: dict[str, list[str]] = {}
    for row, change in told:
        age = "" if not row["at"] else terminal.ago((now - datetime.fromisoformat(row["at"])).total_seconds())
        value, moved, rate = _cells(row, change)
        if row["value"] is None:
            wrong.setdefault(value, []).append(row["name"])
            value = "FAIL"
        rows.append((row["name"], value, moved, rate, age))
    head = f"{now:%H:%M:%S}Z, every {seconds:g} s; Ctrl-C ends it"
    shown = terminal.table(("meter", "value", "change", "rate", "age"), rows, right=(1, 2, 3, 4))
    return "\n".join([head, shown, *(f"{some(names, MOST_NAMES)}: {value}" for value, names in wrong.items())])
