"""`hours METER`: each closed hour with its value, boundary, quality and what became of it, and how much is covered."""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from buffer import overview
from buffer.model import EPOCH, from_micro, hour_start
from gateway import doubting, terminal
from gateway.clock import SystemClock
from gateway.commands.common import no_meter
from gateway.errors import OK
from gateway.locate import data_dir, find_config
from gateway.report import stored

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_SPAN = timedelta(hours=48)
COLUMNS = (
    "hour",
    "consumption",
    "boundary",
    "quality",
    "state",
    "accepted",
    "adjusted",
    "unposted",
    "doubt",
    "ours",
    "shown",
)
PROBLEMS = ("estimated", "pending", "claimed", "held", "missing", "dropped")
MOST_DOUBTS = 8  # lines; the rest is in `resolve`
MOST_COLUMNS = 100  # of a plot: longer bars tell no more
WIDE = 72  # columns that the whole table may need; on less, a day's hours stand under its date


def configure(parser: argparse.ArgumentParser) -> None:
    """Which meter, which hours, in which form."""
    parser.add_argument("meter", metavar="METER", help="the meter's name in the configuration")
    example = "e.g. 2026-03-01 or 2026-03-01T10:00Z"
    parser.add_argument("--from", dest="since", type=instant, metavar="TIME", help=example)
    parser.add_argument("--to", dest="until", type=instant, metavar="TIME", help="default: everything after --from")
    parser.add_argument("--all", action="store_true", help="every hour (default: the newest 48 hours)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="comma-separated values")
    form.add_argument("--plot", action="store_true", help="bars instead of a table")


def run(args: argparse.Namespace) -> int:
    """Show the hours; 1 when the buffer does not know the meter."""
    directory = data_dir(find_config(args.config))
    with stored(directory) as db:
        known = overview.meter_named(db, args.meter)
        if known is None:
            raise no_meter(args.meter, overview.numbers(db), str(directory))
        number, unit, push = known
        since, until = _span(args)
        views = overview.hours(db, number, since, until)
        first_open = overview.open_hour(db, number)
    shown_open = first_open if first_open is not None and since <= first_open < until else None
    _print(args, unit, [_row(view, push) for view in views], shown_open, _doubts(args.meter, views))
    return OK


def instant(text: str) -> datetime:
    """An ISO date or time; UTC where no zone is given."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not an ISO date or time such as 2026-03-01T10:00Z') from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _span(args: argparse.Namespace) -> tuple[int, int]:
    until = 2**40 if args.until is None else -(-(args.until - EPOCH) // timedelta(hours=1))
    if args.all:
        return -(2**40), until
    since = args.since or SystemClock().now().wall - DEFAULT_SPAN
    return (since - EPOCH) // timedelta(hours=1), until


def _row(view: overview.HourView, push: str) -> dict[str, Any]:
    return {
        "hour": hour_start(view.hour).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "consumption": _number(view.consumption),
        "boundary": _number(view.boundary),
        "quality": view.quality,
        "state": "closed" if view.state == "pending" and push == "off" else view.state,
        "accepted": None if view.accepted is None else _number(view.accepted),
        "adjusted": _number(view.adjusted) if view.adjusted else None,
        "unposted": _number(view.unposted) if view.unposted and push != "off" else None,
        "doubt": doubting.why(view.doubt) if view.doubt else None,
        "ours": _number(view.doubt.expected) if view.doubt else None,
        "shown": _number(view.doubt.shown) if view.doubt and view.doubt.shown is not None else None,
    }


def _number(micro: int) -> str:
    return f"{from_micro(micro).normalize():f}"


def _doubts(meter: str, views: list[overview.HourView]) -> list[str]:
    """What is held, with both numbers, and what to do."""
    held = [view.doubt for view in views if view.doubt]
    found = [f"{hour_start(doubt.hour):%Y-%m-%d %H:%M}Z held: {doubting.told(doubt)}" for doubt in held[:MOST_DOUBTS]]
    if more := len(held) - len(found):
        found.append(f"and {more} more hours are held")
    if held:
        foreign = any(doubt.why == "foreign" for doubt in held)
        found.append(f"to decide: meter-gateway {'takeover' if foreign else 'resolve'} {meter}")
    return found


def _print(
    args: argparse.Namespace, unit: str, rows: list[dict[str, Any]], first_open: int | None, doubts: list[str]
) -> None:
    still_open = None if first_open is None else hour_start(first_open).strftime("%Y-%m-%dT%H:%M:%SZ")
    if args.json:
        document = {"meter": args.meter, "unit": unit, "hours": rows, "open_from": still_open}
        terminal.document(document | {"coverage": _coverage(rows)})
        return
    if args.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    if rows:
        show = _show_bars if args.plot else _show_table if terminal.width() >= WIDE else _show_by_day
        show(unit, rows)
    else:
        span = "in this span" if args.all or args.since else "in the last 48 hours (--all shows every one)"
        terminal.show(terminal.wrapped(f"{args.meter}: no closed hour {span}"))
    opened = [f"open from {still_open[:16]}Z on"] if still_open else []
    for line in [*doubts, *_adjustments(unit, rows), *opened, *_coverage(rows)]:
        terminal.show(terminal.wrapped(line, "  "))


def _show_table(unit: str, rows: list[dict[str, Any]]) -> None:
    header = ("hour (UTC)", unit, "boundary", "quality", "state")
    numbers = zip(_aligned(rows, "consumption"), _aligned(rows, "boundary"), strict=True)
    shown = [
        (f"{row['hour'][:16]}Z", *values, row["quality"], row["state"])
        for row, values in zip(rows, numbers, strict=True)
    ]
    terminal.show(terminal.table(header, shown, right=(1, 2)))


def _show_bars(unit: str, rows: list[dict[str, Any]]) -> None:
    """One bar per hour, the longest as wide as the terminal; doubt is told in a word, not by a colour."""
    values = _aligned(rows, "consumption")
    most = max(Decimal(row["consumption"]) for row in rows)
    room = min(terminal.width(), MOST_COLUMNS) - len("00:00    estimated") - len(values[0])
    shown = iter(values)
    for day, hours in groupby(rows, lambda row: row["hour"][:10]):
        terminal.show(f"{day} (UTC, {unit})")
        for row in hours:
            doubt = "" if row["quality"] in {"measured", "interpolated"} else f" {row['quality']}"
            line = terminal.bar(Decimal(row["consumption"]), most, room)
            terminal.show(f"{row['hour'][11:16]}  {next(shown)} {line}{doubt}")


def _adjustments(unit: str, rows: Iterable[dict[str, Any]]) -> list[str]:
    return [
        f"{row['hour'][:16]}Z: adjusted by {row['adjusted']} {unit}"
        + (f", {row['unposted']} still to be posted" if row["unposted"] else "")
        for row in rows
        if row["adjusted"]
    ]


def _show_by_day(unit: str, rows: list[dict[str, Any]]) -> None:
    values = iter(_aligned(rows, "consumption"))
    for day, hours in groupby(rows, lambda row: row["hour"][:10]):
        terminal.show(f"{day} (UTC, {unit})")
        for row in hours:
            doubt = "" if row["quality"] in {"measured", row["state"]} else f", {row['quality']}"
            terminal.show(f"{row['hour'][11:16]}  {next(values)}  {row['state']}{doubt}")


def _aligned(rows: list[dict[str, Any]], column: str) -> list[str]:
    """A column's numbers with as many decimals as the longest has, point below point."""
    decimals = max(len(row[column].partition(".")[2]) for row in rows)
    texts = [f"{Decimal(row[column]):.{decimals}f}" for row in rows]
    longest = max(map(len, texts))
    return [text.rjust(longest) for text in texts]


def _coverage(rows: Iterable[dict[str, Any]]) -> list[str]:
    months: dict[str, Counter[str]] = {}
    for row in rows:
        counts = months.setdefault(row["hour"][:7], Counter())
        counts.update(["hours", row["state"], *(["estimated"] if row["quality"] == "estimated" else [])])
    return [
        f"{month}: {counts['accepted']} of {counts['hours']} accepted"
        + "".join(f", {counts[what]} {what}" for what in PROBLEMS if counts[what])
        for month, counts in months.items()
    ]
