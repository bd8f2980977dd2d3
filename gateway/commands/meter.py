"""`meter replaced | retire | estimate | book | drop`: what a person knows and the meter cannot say. Dated, kept with the person's name."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from buffer.model import to_ms
from gateway import terminal, units
from gateway.commands.common import configuration, no_meter, plain
from gateway.commands.hours import instant
from gateway.commands.telling import author, tell
from gateway.errors import OK, GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config import Meter

TIME = "TIME"
VALUE = "VALUE"
DESTINATIONS = {
    "--from": "since",
    "--to": "until",
    "--at": "at",
    "--old-final": "old_final",
    "--new-initial": "new_initial",
    "--total": "total",
    "--into": "into",
}
INSTANTS = ("at", "since", "until", "into")
VALUES = ("old_final", "new_initial", "final", "total")


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per kind of knowledge."""
    kinds = parser.add_subparsers(title="what to say", dest="what", metavar="WHAT", required=True)
    replaced = _kind(kinds, "replaced", "another meter (or register) hangs here now")
    _common(replaced)
    _needs(replaced, "--at", instant, "when, e.g. 2026-03-01T10:30Z; UTC where no zone is given")
    _needs(replaced, "--old-final", value, "what the old meter stood at")
    _needs(replaced, "--new-initial", value, "what the new one began at")
    retire = _kind(kinds, "retire", "the meter is gone; its last value closes what is open")
    _common(retire)
    _needs(retire, "--at", instant, "since when it is gone")
    retire.add_argument("--final", type=value, metavar=VALUE, help="what it stood at (default: its last reading)")
    estimate = _kind(kinds, "estimate", "energy that a dead meter could not count")
    _common(estimate)
    _needs(estimate, "--from", instant, "a full hour")
    _needs(estimate, "--to", instant, "a full hour")
    _needs(estimate, "--total", value, "energy or volume in that time")
    book = _kind(kinds, "book", "what is parked becomes a correction to its hours")
    _common(book)
    book.add_argument("--into", type=instant, metavar=TIME, help="all of it to the hour of this instant")
    _common(_kind(kinds, "drop", "what is parked was no energy"))


def _kind(kinds: Any, name: str, words: str) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's own
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("meter", metavar="NAME", help="the meter's name in the configuration")
    parser.add_argument("--unit", metavar="UNIT", help="unit of the values (default: the meter's unit in EnerKey)")


def _needs(parser: argparse.ArgumentParser, option: str, kind: Callable[[str], object], words: str) -> None:
    metavar = TIME if kind is instant else VALUE
    parser.add_argument(option, type=kind, metavar=metavar, help=words, required=True, dest=DESTINATIONS.get(option))


def value(text: str) -> Decimal:
    """A plain number, as a display shows it."""
    try:
        number = Decimal(plain(text))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or number < 0:
        raise argparse.ArgumentTypeError(f'"{text}" must be a number such as 1234.5')
    return number


def run(args: argparse.Namespace) -> int:
    """Say it to the running service, or to the buffer where no service runs."""
    config = configuration(args)
    meters = {meter.name: meter for meter in config.meters}
    if args.meter not in meters:
        raise no_meter(args.meter, meters, "the configuration")
    asked = _asked(args, meters[args.meter])
    text = tell(config, asked, command="meter")
    if args.json:
        terminal.document({"meter": args.meter, "done": text})
    else:
        terminal.show(terminal.wrapped(f"{args.meter}: {text}", "  "))
    return OK


def _asked(args: argparse.Namespace, meter: Meter) -> dict[str, Any]:
    asked: dict[str, Any] = {"what": args.what, "meter": meter.name, "author": author()}
    factor = units.factor(args.unit or meter.unit, meter.unit, "counter")
    if factor is None:
        raise GatewayError(f"{args.unit} cannot become {meter.unit}, the meter's unit")
    for name in INSTANTS:
        if getattr(args, name, None) is not None:
            asked[name] = to_ms(getattr(args, name))
    for name in VALUES:
        given = getattr(args, name, None)
        asked[name] = None if given is None else units.to_micro(given, factor)
    return asked
