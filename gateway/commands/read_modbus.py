"""`read tcp://…` and its like: registers or a profile of any Modbus device, without a configuration."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from drivers.modbus.decode import WIDTHS, hexed
from gateway import logs, terminal
from gateway.commands.lines import connection_to, failure, must_be_free
from gateway.errors import FAILED, OK, GatewayError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import LastRead
    from drivers.modbus.bus import PymodbusBus
    from drivers.modbus.config import Connection
    from drivers.modbus.decode import Type
    from drivers.modbus.profile import Profile
    from drivers.modbus.wire import Answer, Request

FLAGS = ("--device", "--register", "--count", "--table", "--type", "--profile", "--timeout")
USUAL_COUNT = 4  # registers: enough for every type
FEWER = 2  # where the device does not have four
ROUNDS = 3  # of a profile: a device that is silent at some registers is asked again without them
PAUSES = {5: 1.0, 6: 0.3}  # s before a busy device is asked once more, by its exception

# What is met besides the meaning of an exception, and what to try.
ADVICE = {
    1: "it does not know this function: try the other table (--table {other})",
    2: "it has no such registers. Manuals often count from 1: try --register {before}; or the other table "
    "(--table {other}){printed}; or fewer registers (--count)",
    3: "mostly too many registers at once, or an odd number where it wants pairs: try another --count",
    4: "a fault in the device, or a gateway that has no device of this id",
    5: "it needs more time: try again",
    6: "it is busy: try again",
    10: "the gateway answers, and has no way to this id: look at its settings",
    11: "the gateway answers, the device does not: is it the right id, is the device on, do speed and parity fit?",
}


def configure(group: Any) -> None:  # noqa: ANN401 - argparse's group has no public name
    """Which device, and what of it."""
    group.add_argument("--device", type=_number, metavar="ID", help="its unit id (default: 1)")
    group.add_argument("--register", type=_number, metavar="N", help="the first one, counted from 0; 0x400 is 1024")
    group.add_argument(
        "--count", type=_number, metavar="N", help=f"how many registers (default: {USUAL_COUNT}, or the type's)"
    )
    group.add_argument("--table", choices=("holding", "input"), help="default: holding")
    group.add_argument("--type", choices=tuple(WIDTHS), metavar="TYPE", help=f"one of {', '.join(WIDTHS)}")
    group.add_argument("--profile", metavar="NAME", help="all values of a meter family, see docs/meters.md")
    group.add_argument("--timeout", type=_timeout, metavar="SECONDS", help="for its answer (default: the line's)")


def run(args: argparse.Namespace) -> int:
    """0 when what was asked for was read, else 1."""
    logs.configure(verbose=args.verbose, usual=logging.CRITICAL)
    _make_sense(args)
    connection = connection_to(args.url)
    must_be_free(args, connection)
    if args.profile is not None:
        return _read_profile(args, connection)
    return _read_registers(args, connection)


def _make_sense(args: argparse.Namespace) -> None:
    args.device = 1 if args.device is None else args.device
    if not 0 <= args.device <= 255:
        raise WrongUsage(f"--device {args.device} must be 1 to 247 on RTU, 0 to 255 on TCP")
    if (args.register is None) == (args.profile is None):
        raise WrongUsage(
            "say what to read: --register N or --profile NAME; meter-gateway scan URL finds out what is there"
        )
    for flag in ("count", "table", "type"):
        if args.profile is not None and getattr(args, flag) is not None:
            raise WrongUsage(f"--{flag} goes with --register: a profile knows its own")
    if args.register is not None:
        _fit(args)


def _fit(args: argparse.Namespace) -> None:
    args.table = args.table or "holding"
    width = WIDTHS[args.type] if args.type else 1
    left = 65_536 - args.register
    if left < width:
        raise WrongUsage(f"--register {args.register} must be at most {65_536 - width}")
    if args.count is None:
        args.counts = [width] if args.type else [min(each, left) for each in (USUAL_COUNT, FEWER, 1)]
    elif not width <= args.count <= min(125, left):
        raise WrongUsage(f"--count {args.count} must be {width} to {min(125, left)} here")
    else:
        args.counts = [args.count]


# --- registers --------------------------------------------------------------------------------------------------------


def _read_registers(args: argparse.Namespace, connection: Connection) -> int:
    from drivers.base import LineError, SetupError  # noqa: PLC0415
    from drivers.modbus.address import address_of  # noqa: PLC0415
    from drivers.modbus.bus import PymodbusBus  # noqa: PLC0415 - pymodbus

    address = address_of(connection.url)
    bus = PymodbusBus(connection, address)
    try:
        bus.open()
        answer = _answer(bus, args, connection)
    except (LineError, SetupError) as error:
        raise failure(error, address) from None
    finally:
        bus.close()
    if args.json:
        terminal.document(_facts(args, answer))
    else:
        _show(args, answer)
    return OK


def _answer(bus: PymodbusBus, args: argparse.Namespace, connection: Connection) -> Answer:
    """The words; fewer where the number was not the operator's wish. Raises GatewayError with advice."""
    from drivers.base import AnswerError  # noqa: PLC0415
    from drivers.modbus.wire import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ExceptionAnswer  # noqa: PLC0415

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
    from drivers.modbus.wire import ExceptionAnswer  # noqa: PLC0415

    try:
        return bus.read(request)
    except ExceptionAnswer as error:
        if error.code not in PAUSES:
            raise
        bus.pause(PAUSES[error.code])
        return bus.read(request)


def _request(args: argparse.Namespace, connection: Connection, count: int) -> Request:
    from drivers.modbus.address import address_of  # noqa: PLC0415
    from drivers.modbus.limits import limits_of  # noqa: PLC0415
    from drivers.modbus.plan import Block, Place  # noqa: PLC0415
    from drivers.modbus.wire import Request  # noqa: PLC0415

    limits = limits_of(connection, address_of(connection.url), ())
    place = Place(args.table, args.register, count)
    return Request(args.device, Block(*place, (place,)), args.timeout or limits.timeout, limits.gap)


def _advised(error: Exception, args: argparse.Namespace) -> str:
    """What came instead of an answer, and what to try."""
    from drivers.modbus.wire import ExceptionAnswer, NoAnswer  # noqa: PLC0415

    where = f"device {args.device}, {args.table} {args.register}"
    if isinstance(error, ExceptionAnswer):
        printed = args.register - (40_001 if args.table == "holding" else 30_001)
        words = {
            "other": "input" if args.table == "holding" else "holding",
            "before": max(args.register - 1, 0),
            "printed": f"; a manual's {args.register} is register {printed}" if 0 <= printed < 10_000 else "",
        }
        return f"{where}: {error}; {ADVICE[error.code].format(**words)}"
    if isinstance(error, NoAnswer):
        again = "; on a serial line speed and parity must fit, too" if args.url.startswith("rtu") else ""
        return (
            f"{where}: {error}: is it the right id, and is the device on?{again}; meter-gateway scan finds who is there"
        )
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


def _guesses(args: argparse.Namespace, words: Sequence[int]) -> list[tuple[int, Any]]:
    """What the words can mean, with each value's register: of one type all along, else what begins at the first."""
    from drivers.modbus.orders import guesses  # noqa: PLC0415

    if args.type is None:
        return [(args.register, guess) for guess in guesses(words)]
    width = WIDTHS[args.type]
    types = cast("Sequence[Type]", [args.type])
    starts = range(0, len(words) - width + 1, width)
    return [(args.register + at, guess) for at in starts for guess in guesses(words[at : at + width], types)]


def _show(args: argparse.Namespace, answer: Answer) -> None:
    from drivers.modbus.orders import mark  # noqa: PLC0415

    count = f"{len(answer.words)} register{'s' * (len(answer.words) > 1)}"
    took = f"{answer.took * 1000:.0f} ms"
    terminal.show(terminal.wrapped(f"device {args.device}, {args.table} {args.register}: {count} in {took}", "  "))
    rows = [(str(args.register + at), f"{word:04X}", str(word)) for at, word in enumerate(answer.words)]
    terminal.show(terminal.table(("register", "hex", "decimal"), rows, right=(0, 2)))
    terminal.show()
    terminal.show(orders_table(_guesses(args, answer.words), several=args.type is not None))
    if any(guess.likely for _, guess in _guesses(args, answer.words)):
        terminal.show(
            terminal.wrapped("* looks like a meter's: compare with its display; read --watch shows what counts")
        )
    if mark(answer.words):
        terminal.show(terminal.wrapped('Such words mostly mean "no value": not fitted, or not available now.'))
    elif not any(answer.words):
        terminal.show(terminal.wrapped("All 0: nothing counted yet, or nothing there. 0 does not tell the order."))


def orders_table(found: Sequence[tuple[int, Any]], *, several: bool) -> str:
    """A line for each type (or register), a column for each order."""
    from drivers.modbus.orders import ORDERS, short  # noqa: PLC0415

    cells: dict[str, dict[str, str]] = {}
    for register, guess in found:
        row = cells.setdefault(f"{register} {guess.type}" if several else guess.type, {})
        row[guess.order] = ("* " if guess.likely else "") + short(guess.value)
    rows = [(name, *(row.get(order, "") for order in ORDERS)) for name, row in cells.items()]
    return terminal.table(("type", *ORDERS), rows, right=(1, 2, 3, 4))


# --- a profile --------------------------------------------------------------------------------------------------------


def _read_profile(args: argparse.Namespace, connection: Connection) -> int:
    profile = _profile(args.profile)
    reads = _poll(args, connection, profile)
    failed = [read for read in reads.values() if read.value is None]
    if args.json:
        rows = [{"point": point, **_plain(read)} for point, read in reads.items()]
        terminal.document({"url": args.url, "device": args.device, "profile": args.profile, "points": rows})
    else:
        _show_points(args, profile, reads)
    return OK if len(failed) < len(reads) else FAILED


def _plain(read: LastRead) -> dict[str, Any]:
    value = None if read.value is None else str(read.value)
    return {**asdict(read), "at": read.at.isoformat(), "value": value}


def _profile(name: str) -> Profile:
    import difflib  # noqa: PLC0415

    from drivers.modbus.profile import BadProfile, UnknownProfile, load, names  # noqa: PLC0415

    try:
        return load(name)
    except UnknownProfile:
        close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise GatewayError(f'there is no profile "{name}"; docs/meters.md lists them{meant}') from None
    except BadProfile as error:
        raise GatewayError(f"{name}: {error}") from None


def _poll(args: argparse.Namespace, connection: Connection, profile: Profile) -> dict[str, LastRead]:
    """Every point that was asked for, as the driver itself reads it."""
    from drivers.modbus.source import Source  # noqa: PLC0415
    from gateway.clock import SystemClock  # noqa: PLC0415
    from gateway.wiring import driver_for_url  # noqa: PLC0415

    about: dict[str, Any] = {"connection": "url", "device": args.device, "profile": args.profile}
    if args.timeout:
        about["timeout"] = f"{args.timeout * 1000:.0f}ms"
    sources = {point: Source.model_validate(about | {"point": point}) for point in profile.points}
    clock = SystemClock()
    driver = driver_for_url("modbus", connection, sources, clock)
    try:
        for _ in range(ROUNDS):
            driver.poll(clock.now())
            reads = dict(driver.last_reads())
            if not any(read.value is not None for read in reads.values()) or all(
                not read.problem.startswith("no answer") for read in reads.values()
            ):
                break
    finally:
        driver.close()
    return {point: reads[point] for point in profile.points if point in reads}


def _show_points(args: argparse.Namespace, profile: Profile, reads: dict[str, LastRead]) -> None:
    terminal.show(terminal.wrapped(f"device {args.device} as {profile.manufacturer} {profile.model}", "  "))
    problems = {read.problem for read in reads.values()}
    if len(problems) == 1 and "" not in problems:
        terminal.show(terminal.coloured("FAIL", "FAIL") + " " + terminal.wrapped(problems.pop(), "  "))
        return
    rows = []
    for point, read in reads.items():
        took = "" if read.took_ms is None else f"{read.took_ms:.0f} ms"
        value = f"{read.value:f}" if read.value is not None else "-"
        rows.append((point, value, read.unit or ("?" if read.value is not None else ""), read.raw, took))
    terminal.show(terminal.table(("point", "value", "unit", "words", "took"), rows, right=(1, 4)))
    for problem in dict.fromkeys(read.problem for read in reads.values() if read.problem):
        points = ", ".join(point for point, read in reads.items() if read.problem == problem)
        terminal.show(terminal.wrapped(f"{problem}: {points}", "  "))
    if any(read.value is not None and not read.unit for read in reads.values()):
        terminal.show(terminal.wrapped("?: the unit is set in the meter: look at its display"))


def _number(text: str) -> int:
    try:
        number = int(text, 0) if text.isascii() and not text.startswith(("-", "+", "_")) else -1
    except ValueError:
        number = int(text) if text.isascii() and text.isdecimal() else -1  # "007"
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 65535, or such as 0x400")
    return number


def _timeout(text: str) -> float:
    try:
        span = float(text)
    except ValueError:
        span = 0.0
    if not 0.05 <= span <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.05 to 30")
    return span
