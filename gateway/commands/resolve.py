"""`resolve`: every hour in doubt with both numbers; and a person's decision about it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from buffer import doubts, journal, overview
from buffer.deciding import SAID, shown
from buffer.model import from_ms, hour_of, to_ms
from gateway import doubting, terminal
from gateway.commands.common import configuration, no_meter
from gateway.commands.hours import instant
from gateway.doubting import OPTIONS, option
from gateway.errors import OK, WrongUsage
from gateway.faults import counted
from gateway.locate import data_dir, find_config
from gateway.report import gather, stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from buffer.store import Connection

MOST_HOURS = 12  # of a meter, where several are listed


def configure(parser: argparse.ArgumentParser) -> None:
    """Which meter, which hours, and one decision."""
    parser.add_argument("meter", metavar="METER", nargs="?", help="only this meter (needed for a decision)")
    what = "an hour by its beginning, or the first and the last of several (default: all that are in doubt)"
    parser.add_argument("--hour", metavar="FROM[..TO]", type=hours, help=what)
    decision = parser.add_mutually_exclusive_group()
    for name, words in OPTIONS.items():
        decision.add_argument(f"--{name}", dest="decision", action="store_const", const=name, help=words)


def hours(text: str) -> tuple[int, int]:
    """The first and the last hour; an instant within an hour stands for it."""
    first, dots, last = text.partition("..")
    found = tuple(hour_of(to_ms(instant(part))) for part in ((first, last) if dots else (first, first)))
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins: FROM..TO, the first and the last hour")
    return found[0], found[1]


def run(args: argparse.Namespace) -> int:
    """List what is in doubt, or decide it."""
    if args.decision:
        return _decide(args)
    directory = data_dir(find_config(args.config))
    listed = listing(directory, args.meter, args.hour)
    if args.json:
        terminal.document({"meters": listed})
    else:
        _show(listed, args.meter)
    return OK


def _decide(args: argparse.Namespace) -> int:
    from gateway.commands.telling import author, tell  # noqa: PLC0415 - the list needs no wiring
    from gateway.delivery import settle_ms  # noqa: PLC0415

    if args.meter is None:
        raise WrongUsage(f"--{args.decision} needs a meter: meter-gateway resolve lists what is in doubt")
    config = configuration(args)
    names = [meter.name for meter in config.meters]
    if args.meter not in names:
        raise no_meter(args.meter, names, "the configuration")
    asked: dict[str, Any] = {"what": "resolve", "meter": args.meter, "author": author(), "decision": args.decision}
    with stored(config.gateway.data_dir) as db:
        asked["settle"] = settle_ms(config, db)
    if args.hour:
        asked["first"], asked["last"] = args.hour
    done = tell(config, asked, command="resolve")
    if args.json:
        terminal.document({"meter": args.meter, "decision": args.decision, "said": SAID[args.decision], "done": done})
    else:
        terminal.show(terminal.wrapped(f"{args.meter}: {done}", "  "))
    return OK


# --- the list ---------------------------------------------------------------------------------------------------------


def listing(directory: Path, only: str | None, span: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Every meter with something in doubt."""
    not_taken = set((gather(directory)["delivery"] or {}).get("parked", []))
    with stored(directory) as db:
        known = overview.numbers(db)
        if only is not None and only not in known:
            raise no_meter(only, known, str(directory))
        messages = journal.unknown_messages(db)
        found = [
            _meter(db, meter, known[meter.name], messages, span, not_taken=meter.name in not_taken)
            for meter in overview.meters(db)
            if only in {None, meter.name}
        ]
    return [each for each in found if each["held"] or each["unknown"] or each["parked"] or each["not_taken"]]


def _meter(
    db: Connection,
    meter: overview.MeterOverview,
    number: int,
    messages: Sequence[journal.OpenMessage],
    span: tuple[int, int] | None,
    *,
    not_taken: bool,
) -> dict[str, Any]:
    held = doubts.of_meter(db, number, *(span or ()))
    unknown = [message for message in messages if message.meter == number]
    return {
        "meter": meter.name,
        "unit": meter.unit,
        "push": meter.push,
        "blocked": any(doubt.why == "foreign" for doubt in held),
        "held": [doubting.row(doubt) for doubt in held],
        "decisions": doubting.decisions(held, cumulative=meter.push == "cumulative") if held else [],
        "unknown": [
            {
                "from": option(min(message.values)),
                "to": option(max(message.values)),
                "hours": len(message.values),
                "since": from_ms(message.fate_at).isoformat(),
            }
            for message in unknown
        ],
        "parked": shown(meter.parked) if meter.parked else None,
        "not_taken": not_taken,
    }


def _show(listed: list[dict[str, Any]], only: str | None) -> None:
    if not listed:
        terminal.show(f"{only}: nothing is in doubt" if only else "nothing is in doubt")
    for number, meter in enumerate(listed):
        if number:
            terminal.show()
        terminal.show(terminal.coloured(f"{meter['meter']} ({meter['unit']})", "bold"))
        if meter["held"]:
            _show_held(meter, MOST_HOURS if only is None else len(meter["held"]))
        for message in meter["unknown"]:
            _show_unknown(meter["meter"], message)
        if meter["parked"]:
            _say(f"{meter['parked']} {meter['unit']} are parked: meter-gateway meter book {meter['meter']}, or drop")
        if meter["not_taken"]:
            _say("EnerKey does not take this meter: check its enerkey_id; it is tried once a day")


def _show_held(meter: dict[str, Any], most: int) -> None:
    rows = meter["held"][:most]
    header = ("hour", "EnerKey shows", "ours", "why")
    cells = [(row["hour"], _there(row), row["ours"], doubting.WHY[row["why"]]) for row in rows]
    terminal.show(terminal.table(header, cells, right=(1, 2)))
    if more := len(meter["held"]) - len(rows):
        _say(f"and {more} more: meter-gateway resolve {meter['meter']}")
    for words in dict.fromkeys(row["words"] for row in rows if row["words"] and row["why"] == "refused"):
        _say(f"EnerKey's words: {words}")
    name = meter["meter"]
    if meter["blocked"]:
        _say(f"nothing of this meter is sent until: meter-gateway takeover {name}")
    several = "" if len(rows) == 1 else " (or FROM..TO, or no --hour for all)"
    _say(f"to decide: meter-gateway resolve {name} --hour {rows[0]['hour']} DECISION{several}")
    for decision in meter["decisions"]:
        _say(f"  --{decision:<8} {OPTIONS[decision]}")


def _show_unknown(name: str, message: dict[str, Any]) -> None:
    alone = message["from"] == message["to"]
    span = message["from"] if alone else f"{message['from']}..{message['to']}"
    _say(
        f"a message with {counted(message['hours'], 'hour')} has an unknown fate since {message['since'][:16]}Z; it is read back"
        " by itself. Who knows better says --accept (EnerKey has it) or --resend (it has not):"
    )
    _say(f"  meter-gateway resolve {name} --hour {span} --accept")


def _there(row: dict[str, Any]) -> str:
    if row["seen_at"] is None:
        return "not read"
    return row["shown"] or "nothing"


def _say(line: str) -> None:
    terminal.show(terminal.wrapped(f"  {line}", "      "))
