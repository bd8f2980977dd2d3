"""`takeover METER --at TIME`: hours before that are left to the other feed, those from then on are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffer import overview, takeover
from buffer.deciding import shown
from buffer.model import to_ms
from gateway import terminal
from gateway.commands.common import configuration, no_meter
from gateway.commands.hours import instant
from gateway.doubting import option, ranges
from gateway.errors import OK, GatewayError
from gateway.report import stored

if TYPE_CHECKING:
    import argparse

    from buffer.doubts import Doubt
    from gateway.config import Config

MOST_RANGES = 12


def configure(parser: argparse.ArgumentParser) -> None:
    """Which meter, and from when on."""
    parser.add_argument("meter", metavar="METER", help="the meter's name in the configuration")
    when = "a full hour, e.g. 2026-03-01T10:00Z; UTC where no zone is given (default: only show what is there)"
    parser.add_argument("--at", type=instant, metavar="TIME", help=when)


def run(args: argparse.Namespace) -> int:
    """Take the meter over, or show what is there and what would happen."""
    config = configuration(args)
    pushes = {meter.name: meter.push for meter in config.meters}
    if args.meter not in pushes:
        raise no_meter(args.meter, pushes, "the configuration")
    if args.at is None:
        return _explain(args, config)
    from gateway.commands.telling import author, tell  # noqa: PLC0415 - to look needs no wiring

    asked = {"what": "takeover", "meter": args.meter, "author": author(), "at": to_ms(args.at)}
    done = tell(config, asked, command="takeover")
    if args.json:
        terminal.document({"meter": args.meter, "done": done})
    else:
        terminal.show(terminal.wrapped(f"{args.meter}: {done}", "  "))
    return OK


def _explain(args: argparse.Namespace, config: Config) -> int:
    with stored(config.gateway.data_dir) as db:
        known = overview.meter_named(db, args.meter)
        if known is None:
            raise GatewayError(f"{args.meter}: the gateway has not run with this meter yet")
        number, unit, push = known
        stands = takeover.standing(db, number)
        dropped = takeover.would_drop(db, number, stands.suggested) if stands.suggested is not None else 0
    told = _document(args.meter, unit, push, stands, dropped)
    if args.json:
        terminal.document(told)
        return OK
    for line in _lines(told):
        terminal.show(terminal.wrapped(line, "    "))
    return OK


def _document(name: str, unit: str, push: str, stands: takeover.Standing, dropped: int) -> dict[str, Any]:
    return {
        "meter": name,
        "unit": unit,
        "push": push,
        "taken_over": None if stands.taken_over is None else option(stands.taken_over),
        "foreign": [
            _range(first, last, stands.foreign) for first, last in ranges(each.hour for each in stands.foreign)
        ],
        "waiting": stands.unsent,
        "waiting_from": None if stands.first is None else option(stands.first),
        "suggested": None if stands.suggested is None else option(stands.suggested),
        "left_to_the_other_feed": dropped,
    }


def _range(first: int, last: int, foreign: list[Doubt]) -> dict[str, Any]:
    inside = [each for each in foreign if first <= each.hour <= last]
    return {
        "from": option(first),
        "to": option(last + 1),
        "hours": len(inside),
        "shown": shown(sum(each.shown or 0 for each in inside)),
        "ours": shown(sum(each.expected for each in inside)),
    }


def _lines(told: dict[str, Any]) -> list[str]:
    name, unit = told["meter"], told["unit"]
    found = []
    if told["taken_over"]:
        found.append(f"{name} is this gateway's from {told['taken_over']} on; hours before that are never sent")
    found += [
        f"{name}: EnerKey has {each['hours']} h from {each['from']} to {each['to']} from somebody else:"
        f" {each['shown']} {unit} there, {each['ours']} {unit} here"
        for each in told["foreign"][:MOST_RANGES]
    ]
    if more := len(told["foreign"][MOST_RANGES:]):
        found.append(f"and {more} more ranges: --json")
    if not told["foreign"]:
        waits = (
            f"{told['waiting']} h from {told['waiting_from']} on wait" if told["waiting"] else "no closed hour waits"
        )
        found.append(f"{name}: no hour of another feed was found at EnerKey; {waits}")
        if not told["taken_over"]:
            found.append(f"to leave hours to another feed all the same: meter-gateway takeover {name} --at TIME")
        return found
    found.append(
        f"Nothing of {name} is sent for now. To leave what is there to the other feed and send all that follows:"
    )
    found.append(f"  meter-gateway takeover {name} --at {told['suggested']}")
    found.append(
        f"Then {told['left_to_the_other_feed']} of {told['waiting']} closed hours are never sent. Switch the other feed off first."
    )
    if told["push"] == "cumulative":
        found.append("The first message is the reading at that instant and the one an hour later, as for a new meter.")
    return found
