"""`scan URL`: who answers on a Modbus line, what they probably are, and the configuration to paste."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from gateway import logs, terminal
from gateway.commands.common import seconds
from gateway.commands.lines import connection_to, devices_of, must_be_free
from gateway.commands.outlook import Outlook
from gateway.commands.progress import Progress, span
from gateway.errors import FAILED, OK, GatewayError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.modbus.address import Address, Serial
    from drivers.modbus.scan import Found, Search
    from gateway.commands.scanning import Device, Wire

TIMEOUT = 0.3  # s; who is slower is heard all the same, and asked again
THROUGH_A_SERVER = 0.5  # s: a serial server adds time of its own
PATIENT = 1.0  # s at least
MORE_PATIENT = 4  # times the operator's own timeout
TRIED_LINES = 8  # settings of a serial line, unless they are named


def configure(parser: argparse.ArgumentParser) -> None:
    """Where, which ids, at which speeds."""
    lines = "tcp://192.0.2.10, rtu+tcp://192.0.2.10:4001, rtu:///dev/ttyUSB0 or ascii:///dev/ttyUSB0"
    parser.add_argument("url", metavar="URL", help=lines)
    parser.add_argument("--ids", metavar="LIST", help="such as 1-32,100 (default: 1-247)")
    parser.add_argument("--baudrate", metavar="LIST", help="serial line: only these, such as 9600,19200")
    parser.add_argument("--parity", metavar="LIST", help="serial line: only these of N, E and O")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help=f"for an answer (default: {TIMEOUT:g}, through a serial server {THROUGH_A_SERVER:g})",
    )
    parser.add_argument(
        "--thorough", action="store_true", help="more patience, more registers, and every speed to the end"
    )
    by_name = "ask for maker and product, too (function 0x2B); some devices need a restart after it"
    parser.add_argument("--names", action="store_true", help=by_name)
    parser.add_argument("--ids-only", action="store_true", help="do not ask what the devices are")


def run(args: argparse.Namespace) -> int:
    """0 when somebody answered, else 1."""
    from drivers.modbus.address import address_of  # noqa: PLC0415 - pydantic
    from gateway.commands.scanning import Wire, look_at_all, search_through, worth_a_look  # noqa: PLC0415 - pymodbus

    logs.configure(verbose=args.verbose, usual=logging.CRITICAL)
    connection = connection_to(args.url)
    address = address_of(connection.url)
    search = _search(args, address)
    must_be_free(args, connection)
    wire, progress, outlook = Wire(connection, address), Progress(), Outlook(looks=not args.ids_only)
    devices: list[Device] = []
    stopped, broken = False, None
    try:
        search_through(search, wire, progress, outlook, None if args.json else _tell)
        worth = [] if args.ids_only else worth_a_look(search)
        wire.allow(search.timeout)
        for device in look_at_all(worth, wire, progress, outlook, by_name=args.names):
            devices.append(device)  # noqa: PERF402 - what is there when it is stopped counts
    except KeyboardInterrupt:
        stopped = True
    except GatewayError as error:  # the line is gone: what was found before is shown first
        if not search.found:
            raise
        broken = error
    finally:
        progress.clear()
        wire.close()
    _report(args, search, wire, devices, complete=not (stopped or broken))
    if broken:
        raise broken
    return OK if search.found else FAILED


def _search(args: argparse.Namespace, address: Address) -> Search:
    from drivers.modbus.config import RTU_DEVICES  # noqa: PLC0415
    from drivers.modbus.limits import TIMEOUTS  # noqa: PLC0415
    from drivers.modbus.scan import KNOCK, MORE_KNOCKS, TAGGED, Search, ids_of  # noqa: PLC0415

    try:
        ids = ids_of(args.ids, devices_of(args.url)) if args.ids else list(RTU_DEVICES)
    except ValueError as error:
        raise WrongUsage(f"--ids {error}") from None
    longest = max(PATIENT, TIMEOUTS[address.scheme])
    short = THROUGH_A_SERVER if address.scheme not in TAGGED and address.serial is None else TIMEOUT
    usual = longest if args.thorough else short
    timeout = usual if args.timeout is None else args.timeout
    if timeout < 0.05:
        raise WrongUsage("--timeout must be a number of seconds from 0.05 to 3600")
    return Search(
        _lines(args, address),
        ids,
        timeout,
        longest=longest if args.timeout is None else timeout * MORE_PATIENT,
        knocks=MORE_KNOCKS if args.thorough else (KNOCK,),
        everywhere=args.thorough,
    )


def _lines(args: argparse.Namespace, address: Address) -> Sequence[Serial | None]:
    """The settings to try: the options', else the URL's, and the likely ones of what neither says."""
    from drivers.modbus import profile  # noqa: PLC0415
    from drivers.modbus.address import BAUDRATES, said_in  # noqa: PLC0415
    from drivers.modbus.scan import likely_lines, lines_of  # noqa: PLC0415

    if address.serial is None:
        if args.baudrate or args.parity:
            raise WrongUsage("--baudrate and --parity are for serial lines: rtu:// and ascii://")
        return [None]
    speeds = [int(each) if each.isascii() and each.isdecimal() else 0 for each in _listed(args.baudrate)]
    if not set(speeds) <= set(BAUDRATES):
        raise WrongUsage(f"--baudrate {args.baudrate} must be of {', '.join(map(str, BAUDRATES))}")
    parities = [each.upper() for each in _listed(args.parity)]
    if not set(parities) <= {"N", "E", "O"}:
        raise WrongUsage(f"--parity {args.parity} must be of N, E, O")
    said = {key: getattr(address.serial, key) for key in said_in(args.url)}
    if "baudrate" in said and not speeds:
        speeds = [said["baudrate"]]
    if "parity" in said and not parities:
        parities = [said["parity"]]
    form = {key: said[key] for key in ("bytesize", "stopbits") if key in said}
    likely = likely_lines([profile.load(name) for name in profile.names()], ascii=address.ascii)
    if not (speeds or parities or form):
        return likely[:TRIED_LINES]
    return lines_of(speeds, parities, likely if speeds else likely[:TRIED_LINES], **form)


def _listed(text: str | None) -> list[str]:
    return [each.strip() for each in text.split(",")] if text else []


def _tell(found: Found) -> None:
    from drivers.modbus.scan import in_words  # noqa: PLC0415 - pydantic

    took = "" if found.took is None else f" in {found.took * 1000:.0f} ms"
    setting = f" at {in_words(found.line)}" if found.line else ""
    terminal.show(terminal.wrapped(f"device {found.device} answers{took}{setting}: {found.answer}", "  "))


def _report(args: argparse.Namespace, search: Search, wire: Wire, devices: Sequence[Device], *, complete: bool) -> None:
    from gateway.commands import scan_report  # noqa: PLC0415

    report = scan_report.Report(args.url, wire, search, devices, complete=complete, looks=not args.ids_only)
    if args.json:
        terminal.document(report.document())
    else:
        report.show(took=span(wire.elapsed))
