"""`read tcp://… --register`: raw words, and what they can mean in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from drivers.base import AnswerError, LineError, SetupError
from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.decode import WIDTHS, hexed
from drivers.modbus.limits import limits_of
from drivers.modbus.orders import ORDERS, guesses, mark, short
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ExceptionAnswer, NoAnswer, Request
from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.lines import failure
from gateway.commands.watching import wait, watch
from gateway.errors import OK, GatewayError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from decimal import Decimal

    from drivers.modbus.config import Connection
    from drivers.modbus.decode import Type
    from drivers.modbus.orders import Guess
    from drivers.modbus.wire import Answer
    from gateway.commands.watching import Row

PAUSES = {5: 1.0, 6: 0.3}  # s before a busy device is asked once more, by its exception

# What is met besides the meaning of an exception, and what to try.
ADVICE = {
    1: "it does not know this function: try the other table (--table {other})",
    2: "it has no such registers. {before}Else the other table (--table {other}), or fewer registers (--count)",
    3: "mostly too many registers at once, or an odd number where it wants pairs: try another --count",
    4: "a fault in the device, or a gateway that has no device of this id",
    5: "it needs more time: try again",
    6: "it is busy: try again",
    10: "the gateway answers, and has no way to this id: look at its settings",
    11: "the gateway answers, the device does not: is it the right id, is the device on, do speed and parity fit?",
}


def run(args: argparse.Namespace, connection: Connection) -> int:
    """0 when they were read. Raises GatewayError with what to try."""
    registers = Registers(args, connection)
    try:
        if args.watch is not None:
            return watch(registers, args.watch, as_json=args.json)
        answer = registers.read()
    finally:
        registers.close()
    if args.json:
        terminal.document(_facts(args, answer))
    else:
        _show(args, answer)
    return OK


class Registers:
    """Some registers of a device, and their line."""

    rows_key = "values"

    def __init__(self, args: argparse.Namespace, connection: Connection) -> None:
        """Opens nothing."""
        self._args = args
        self._connection = connection
        self._address = address_of(connection.url)
        self._bus = PymodbusBus(connection, self._address)
        self._shown: dict[str, tuple[int, Type, str]] = {}  # name -> register, type and order

    def read(self) -> Answer:
        """The words. Raises GatewayError with what to try."""
        try:
            if not self._bus.is_open:
                self._bus.open()
            return _answer(self._bus, self._args, self._connection)
        except (LineError, SetupError) as error:
            raise failure(error, self._address) from None

    def look(self) -> tuple[list[Row], dict[str, Any]]:
        """A row for every way to read the words that looked like a meter's at first; for all where none did."""
        facts = {"url": self._args.url, "device": self._args.device, "table": self._args.table}
        at = SystemClock().now().wall.isoformat()
        try:
            answer = self.read()
        except GatewayError as error:
            if not self._shown:
                raise
            return [_row(name, key, at, "", None, str(error)) for name, key in self._shown.items()], facts
        found = _guesses(self._args, answer.words)
        if not self._shown:
            likely = [each for each in found if each[1].likely] or found
            self._shown = {_name(self._args, *each): (each[0], each[1].type, each[1].order) for each in likely}
        values = {(register, guess.type, guess.order): guess.value for register, guess in found}
        raw = hexed(answer.words)
        return [_row(name, key, at, raw, values.get(key), "no number") for name, key in self._shown.items()], facts

    def rest(self, clock: SystemClock, until: float) -> None:
        """As the protocol says."""
        wait(clock, until)

    def close(self) -> None:
        """Release the line."""
        self._bus.close()


def _name(args: argparse.Namespace, register: int, guess: Guess) -> str:
    return f"{args.table} {register} {guess.type} {guess.order}"


def _row(name: str, key: tuple[int, Type, str], at: str, raw: str, value: Decimal | None, problem: str) -> Row:
    known = value is not None
    register, kind, order = key
    told = {
        "name": name,
        "register": register,
        "type": kind,
        "order": order,
        "at": at,
        "raw": raw,
        "unit": "",
        "counts": known,
    }
    return told | {"value": str(value) if known else None, "problem": "" if known else problem}


def _answer(bus: PymodbusBus, args: argparse.Namespace, connection: Connection) -> Answer:
    """The words; fewer where the number was not the operator's wish. Raises GatewayError with advice."""
    counts = list(args.counts)
    while True:
        count = counts.pop(0)
        try:
            return _patient(bus, _request(args, connection, count))
        except AnswerError as error:
            smaller = isinstance(error, ExceptionAnswer) and error.code in {ILLEGAL_ADDRESS, ILLEGAL_VALUE}
            if not (smaller and counts):
                raise GatewayError(_advised(error, args)) from None


def _patient(bus: PymodbusBus, request: Request) -> Answer:
    try:
        return bus.read(request)
    except ExceptionAnswer as error:
        if error.code not in PAUSES:
            raise
        bus.pause(PAUSES[error.code])
        return bus.read(request)


def _request(args: argparse.Namespace, connection: Connection, count: int) -> Request:
    limits = limits_of(connection, address_of(connection.url), ())
    place = Place(args.table, args.register, count)
    return Request(args.device, Block(*place, (place,)), args.timeout or limits.timeout, limits.gap)


def _advised(error: Exception, args: argparse.Namespace) -> str:
    """What came instead of an answer, and what to try."""
    where = f"device {args.device}, {args.table} {args.register}"
    if isinstance(error, ExceptionAnswer):
        before = f"Manuals often count from 1: try --register {args.register - 1}. " if args.register else ""
        for table, first in (("holding", 40_001), ("input", 30_001)):
            if first <= args.register < first + 9999:
                printed = f"A manual's {args.register} is mostly --table {table} --register {args.register - first}"
                before = f"{printed}, or counts from 1: --register {args.register - 1}. "
        words = {"other": "input" if args.table == "holding" else "holding", "before": before}
        return f"{where}: {error}; {ADVICE[error.code].format(**words)}"
    if isinstance(error, NoAnswer):
        again = " On a serial line speed and parity must fit, too." if args.url.startswith(("rtu:", "ascii:")) else ""
        return f"{where}: {error}: is it the right id, and is the device on?{again} meter-gateway scan URL finds who is there"
    return f"{where}: {error}"


def _facts(args: argparse.Namespace, answer: Answer) -> dict[str, Any]:
    return {
        "url": args.url,
        "device": args.device,
        "table": args.table,
        "register": args.register,
        "took_ms": round(answer.took * 1000, 1),
        "words": list(answer.words),
        "raw": hexed(answer.words),
        "values": [
            {
                "register": register,
                "type": guess.type,
                "order": guess.order,
                "value": None if guess.value is None else str(guess.value),
                "likely": guess.likely,
            }
            for register, guess in _guesses(args, answer.words)
        ],
    }


def _guesses(args: argparse.Namespace, words: Sequence[int]) -> list[tuple[int, Guess]]:
    """What the words can mean, with each value's register: of one type all along, else what begins at the first."""
    if args.type is None:
        return [(args.register, guess) for guess in guesses(words)]
    width = WIDTHS[args.type]
    types = cast("Sequence[Type]", [args.type])
    starts = range(0, len(words) - width + 1, width)
    return [(args.register + at, guess) for at in starts for guess in guesses(words[at : at + width], types)]


def _show(args: argparse.Namespace, answer: Answer) -> None:
    count = f"{len(answer.words)} register{'s' * (len(answer.words) > 1)}"
    took = f"{answer.took * 1000:.0f} ms"
    terminal.show(terminal.wrapped(f"device {args.device}, {args.table} {args.register}: {count} in {took}", "  "))
    rows = [(str(args.register + at), f"{word:04X}", str(word)) for at, word in enumerate(answer.words)]
    terminal.show(terminal.table(("register", "hex", "decimal"), rows, right=(0, 2)))
    terminal.show()
    terminal.show(_orders_table(_guesses(args, answer.words), several=args.type is not None))
    if any(guess.likely for _, guess in _guesses(args, answer.words)):
        terminal.show(
            terminal.wrapped("* looks like a meter's: compare with its display; read --watch shows what counts")
        )
    if mark(answer.words):
        terminal.show(terminal.wrapped('Such words mostly mean "no value": not fitted, or not available now.'))
    elif not any(answer.words):
        terminal.show(terminal.wrapped("All 0: nothing counted yet, or nothing there. 0 does not tell the order."))


def _orders_table(found: Sequence[tuple[int, Guess]], *, several: bool) -> str:
    """A line for each type (or register), a column for each order."""
    cells: dict[str, dict[str, str]] = {}
    for register, guess in found:
        row = cells.setdefault(f"{register} {guess.type}" if several else guess.type, {})
        row[guess.order] = ("* " if guess.likely else "") + short(guess.value)
    rows = [(name, *(row.get(order, "") for order in ORDERS)) for name, row in cells.items()]
    return terminal.table(("type", *ORDERS), rows, right=(1, 2, 3, 4))
