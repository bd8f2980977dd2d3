"""The command line: which commands exist, what they share, and how every failure leaves the process.

A command's module is imported only when it is chosen, so that `--version` and `--help` load neither pydantic nor httpx.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from gateway import __version__, logs, terminal
from gateway.errors import OK, DatabaseFailure, GatewayError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMANDS: dict[str, str] = {
    "check": "check the configuration offline; every mistake at once",
    "run": "read the meters and push their hours (what the service runs)",
    "demo": "watch the whole gateway work against simulated meters and a simulated EnerKey",
    "scan": "find the meters on a Modbus line: who answers, what it probably is, what to write",
    "read": "read the meters now: raw words or payload, and the decoded value; with a URL any device, without a configuration",
    "status": "how the gateway, its connections and its meters are",
    "hours": "a meter's hours: value, boundary, quality and what became of them",
    "probe": "find out on a test meter how EnerKey's API behaves (commissioning)",
    "push": "what would be sent now, byte for byte (--dry-run)",
    "resolve": "hours in doubt, with both numbers; decide them",
    "takeover": "a meter that another feed has filled: from when on it is this gateway's",
    "adopt": "a database that was copied or moved: it belongs to this machine now",
    "meter": "say what you know: a meter was replaced or retired, or an estimate",
    "backup": "a consistent copy of the database, also while the service runs",
    "restore": "put a backup in the place of the database",
    "buffer": "look whether the database is right: the file, the sums, the journal",
    "simulate": "simulated EnerKey server, Modbus meters or MQTT devices",
}
PROGRAM = "meter-gateway"
IO_FAILURE = DatabaseFailure.code
WIDE = 60  # columns from which on an option and its explanation stand side by side


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
    try:
        code = _run(argv)
        sys.stdout.flush()  # here, where a reader who has left can be told from a failure
    except GatewayError as error:
        _say(str(error), error.code, as_json="--json" in argv)
        return error.code
    except BrokenPipeError:  # `meter-gateway hours x | head`: the reader has had enough
        _give_up_stdout()
        return OK
    except OSError as error:  # `meter-gateway hours x > a-full-disk`
        if "-v" in argv or "--verbose" in argv:
            raise
        _give_up_stdout()
        _say(str(error), IO_FAILURE, as_json=False)
        return IO_FAILURE
    return code


def _give_up_stdout() -> None:
    """What is still in the buffer must not fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str]) -> int:
    try:
        args = _parsed(argv)
    except SystemExit as end:  # argparse ends so after --help and --version
        return end.code if isinstance(end.code, int) else OK
    if args.no_color:
        os.environ["NO_COLOR"] = "1"
    return int(args.run(args))


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    word = _first_word(argv)
    parser = _parser(word)
    if word is not None and word not in COMMANDS:
        parser.error(f'there is no command "{word}"{_meant(word, COMMANDS)}')
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        speaker = parser.command or parser
        is_option = unknown[0].startswith("-")
        what = f"there is no option {unknown[0]}" if is_option else f'"{unknown[0]}" is one word too many'
        speaker.error(what + (_meant(unknown[0], speaker.options()) if is_option else ""))
    if parser.command is None:
        parser.print_help()
        parser.exit()
    return args


def _first_word(argv: Sequence[str]) -> str | None:
    """The first word that is neither an option nor an option's value: the command."""
    words = iter(argv)
    for word in words:
        if word in {"-c", "--config"}:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


class _Help(argparse.HelpFormatter):
    """Argparse's help, short enough for a phone: one word for all options above, and no line that repeats "COMMAND"."""

    def __init__(self, prog: str, **kwargs: Any) -> None:  # noqa: ANN401 - argparse's own, more with each release
        super().__init__(prog, max_help_position=24 if terminal.width() >= WIDE else 8, **kwargs)

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None,
    ) -> str:
        needed = [action for action in actions if action.required or not action.option_strings]
        text = super()._format_usage(usage, needed, groups, prefix)
        if prefix is not None:  # not for people: argparse takes the names of subcommands from here
            return text
        line = " ".join(text.split())  # broken by argparse, in its own way
        return terminal.wrapped(line.replace(self._prog, f"{self._prog} [options]", 1), "  ") + "\n\n"

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - argparse's own
        # No abbreviations: the one of today is ambiguous tomorrow.
        super().__init__(formatter_class=_Help, allow_abbrev=False, **kwargs)
        self.command: _Parser | None = None
        self._below: Any = None

    def add_subparsers(self, **kwargs: Any) -> Any:  # noqa: ANN401 - argparse's own
        """As argparse does it; remembered, because what a command shares with others its own commands share too."""
        self._below = super().add_subparsers(**kwargs)
        return self._below

    def below(self) -> list[_Parser]:
        """The parsers of its own commands."""
        return list(self._below.choices.values()) if self._below else []

    def options(self) -> list[str]:
        """Every option that it knows."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Wrong usage."""
        raise WrongUsage(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def _parser(word: str | None) -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="Reads meters over Modbus and MQTT and brings every hour of every meter to EnerKey exactly once.",
        epilog=f"{PROGRAM} COMMAND --help tells what a command takes; {PROGRAM} demo needs neither meters nor an account.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    _common(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == word:
            command = cast("Command", import_module(f"gateway.commands.{name}"))
            _common(sub, default=argparse.SUPPRESS)  # what was said before the command stays said
            command.configure(sub)
            for below in sub.below():
                _common(below, default=argparse.SUPPRESS)
            sub.set_defaults(run=command.run)
            parser.command = sub
    return parser


def _common(parser: argparse.ArgumentParser, **default: Any) -> None:  # noqa: ANN401 - argparse's own
    where = "configuration (default: $METER_GATEWAY_CONFIG, else /etc/meter-gateway/config.toml)"
    parser.add_argument("-c", "--config", metavar="FILE", help=where, **default)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text", **default)
    parser.add_argument("--no-color", action="store_true", help="plain text (also with NO_COLOR set)", **default)
    parser.add_argument("-v", "--verbose", action="store_true", help="log more", **default)


def _say(message: str, code: int, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": code, "message": message}}) + "\n")
    words = f"{PROGRAM}: {message}"
    logs.last_words(terminal.wrapped(words, "  ") if sys.stderr.isatty() else words)
