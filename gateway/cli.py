"""The command line: which commands exist, what they share, and how every failure leaves the process.

A command's module is imported only when it is chosen, so that `--version` and `--help` load neither pydantic nor httpx.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from gateway import __version__
from gateway.errors import OK, USAGE, GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: tuple[tuple[str, str], ...] = (
    ("check", "check the configuration offline; every mistake at once"),
    ("run", "read the meters and push their hours (what the service runs)"),
    ("demo", "watch the whole gateway work against simulated meters and a simulated EnerKey"),
    ("read", "read the meters now: raw words or payload, and the decoded value"),
    ("status", "how the gateway, its connections and its meters are"),
    ("hours", "a meter's hours: value, boundary, quality and what became of them"),
    ("push", "what would be sent now, byte for byte (--dry-run)"),
    ("simulate", "simulated EnerKey server, Modbus meters or MQTT devices"),
)

INTERRUPTED = 130


class Command(Protocol):
    """What a module in `gateway.commands` offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code. A GatewayError becomes one line on stderr and its own code."""
        ...


def run(argv: Sequence[str]) -> int:
    """Parse, run, and turn every expected failure into a sentence and an exit code."""
    chosen = next((word for word in argv if word in dict(COMMANDS)), None)
    args = _parser(chosen).parse_args(argv)
    if chosen is None:
        _parser(None).print_help()
        return OK
    if args.no_color:
        os.environ["NO_COLOR"] = "1"
    try:
        return int(args.run(args))
    except GatewayError as error:
        _say(str(error), error.code, as_json=args.json)
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `meter-gateway hours x | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Wrong usage, as JSON too where that was asked for."""
        if "--json" in sys.argv:
            _say(message, USAGE, as_json=True)
            raise SystemExit(USAGE)
        super().error(message)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="meter-gateway",
        description="Reads meters over Modbus and MQTT and brings every hour of every meter to EnerKey exactly once.",
    )
    parser.add_argument("--version", action="version", version=f"meter-gateway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS:
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            command = cast("Command", import_module(f"gateway.commands.{name}"))
            _common(sub)
            command.configure(sub)
            sub.set_defaults(run=command.run)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    where = "default: $METER_GATEWAY_CONFIG, else /etc/meter-gateway/config.toml"
    parser.add_argument("-c", "--config", metavar="FILE", help=where)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--no-color", action="store_true", help="plain text (also with NO_COLOR set)")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")


def _say(message: str, code: int, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": code, "message": message}}) + "\n")
    sys.stderr.write(f"meter-gateway: {message}\n")
