"""`hours METER`: each closed hour with its value, boundary, quality and what became of it, and how much is covered."""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from buffer import overview
from buffer.model import EPOCH, from_micro, hour_start
from buffer.store import DATABASE, Unreadable, read_only
from gateway import terminal
from gateway.clock import SystemClock
from gateway.errors import OK, DatabaseFailure, GatewayError
from gateway.locate import data_dir, find_config

DEFAULT_SPAN = timedelta(hours=48)
COLUMNS = ("hour", "consumption", "boundary", "quality", "state", "accepted")


def configure(parser: argparse.ArgumentParser) -> None:
    """Which meter, which hours, in which form."""
    parser.add_argument("meter", help="the meter's name in the configuration")
    parser.add_argument("--from", dest="since", type=instant, metavar="TIME", help="e.g. 2026-03-01 or 2026-03-01T10:00Z")
    parser.add_argument("--to", dest="until", type=instant, metavar="TIME", help="default: everything after --from")
    parser.add_argument("--all", action="store_true", help="every hour (default: the newest 48 hours)")
    parser.add_argument("--csv", action="store_true", help="comma-separated values")


def run(args: argparse.Namespace) -> int:
    """Show the hours; 1 when the buffer does not know the meter."""
    path = data_dir(find_config(args.config)) / DATABASE
    try:
        with read_only(path) as db:
            known = overview.meter_named(db, args.meter)
            if known is None:
                names = ", ".join(overview.numbers(db)) or "none yet"
                raise GatewayError(f'no meter "{args.meter}" in {path}; known: {names}')
            number, unit, _ = known
            since, until = _span(args)
            views = overview.hours(db, number, since, until)
    except Unreadable as error:
        raise DatabaseFailure(f"{path}: {error}; has the gateway ever run with this data_dir?") from None
    _print(args, unit, [_row(view) for view in views])
    return OK


def instant(text: str) -> datetime:
    """An ISO date or time; UTC where no zone is given."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not an ISO date or time such as 2026-03-01T10:00Z') from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _span(args: argparse.Namespace) -> tuple[int, int]:
    since = EPOCH if args.all else args.since or SystemClock().now().wall - DEFAULT_SPAN
    hour = timedelta(hours=1)
    return (since - EPOCH) // hour, -(-(args.until - EPOCH) // hour) if args.until else 2**40


def _row(view: overview.HourView) -> dict[str, Any]:
    return {
        "hour": hour_start(view.hour).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "consumption": _number(view.consumption),
        "boundary": _number(view.boundary),
        "quality": view.quality,
        "state": view.state,
        "accepted": None if view.accepted is None else _number(view.accepted),
    }


def _number(micro: int) -> str:
    return f"{from_micro(micro).normalize():f}"


def _print(args: argparse.Namespace, unit: str, rows: list[dict[str, Any]]) -> None:
    if args.json:
        terminal.document({"meter": args.meter, "unit": unit, "hours": rows, "coverage": _coverage(rows)})
        return
    if args.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        return
    shown = [(row["hour"][:16] + "Z", row["consumption"], row["boundary"], row["quality"], row["state"]) for row in rows]
    header = ("hour (UTC)", unit, "boundary", "quality", "state")
    terminal.show(terminal.table(header, shown, right=(1, 2)) if rows else f"{args.meter}: no closed hour in this span")
    for line in _coverage(rows):
        terminal.show(line)


def _coverage(rows: Iterable[dict[str, Any]]) -> list[str]:
    months: dict[str, Counter[str]] = {}
    for row in rows:
        counts = months.setdefault(row["hour"][:7], Counter())
        counts.update(["hours", row["state"], *(["estimated"] if row["quality"] == "estimated" else [])])
    return [
        f"{month}: {counts['accepted']} of {counts['hours']} accepted"
        + "".join(f", {counts[what]} {what}" for what in ("estimated", "pending", "claimed", "held", "missing") if counts[what])
        for month, counts in months.items()
    ]
