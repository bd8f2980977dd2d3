"""`read tcp://…` and its like: registers or a profile of any Modbus device, without a configuration."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from drivers.modbus.decode import WIDTHS
from drivers.modbus.otherwords import TYPES
from gateway import logs
from gateway.commands.common import LONGEST_NUMBER, plain, quoted, span
from gateway.commands.lines import connection_to, devices_of, must_be_free
from gateway.errors import WrongUsage

FLAGS = ("--device", "--register", "--count", "--table", "--type", "--profile", "--local-echo", "--timeout")
USUAL_COUNT = 4  # registers: enough for every type
FEWER = 2  # where the device does not have four


def configure(group: Any) -> None:  # noqa: ANN401 - argparse's group has no public name
    """Which device, and what of it."""
    group.add_argument("--device", type=_device, metavar="ID", help="its unit id (default: 1)")
    group.add_argument("--register", type=_number, metavar="N", help="the first one, counted from 0; 0x400 is 1024")
    group.add_argument(
        "--count", type=_number, metavar="N", help=f"how many registers (default: {USUAL_COUNT}, or the type's)"
    )
    group.add_argument("--table", choices=("holding", "input"), help="which of its tables (default: holding)")
    group.add_argument("--type", type=_type, metavar="TYPE", help=f"one of {', '.join(WIDTHS)}")
    group.add_argument("--profile", metavar="NAME", help="all values of a meter family, see docs/meters.md")
    group.add_argument(
        "--local-echo", action="store_true", default=None, help="the RS-485 adapter hears its own requests: skip them"
    )
    group.add_argument("--timeout", type=span(0.05, 30), metavar="SECONDS", help="for its answer (default: the line's)")


def run(args: argparse.Namespace) -> int:
    """0 when what was asked for was read, else 1."""
    logs.configure(verbose=args.verbose, usual=logging.CRITICAL)
    _make_sense(args)
    if args.local_echo and not args.url.startswith(("rtu", "ascii")):
        raise WrongUsage("--local-echo is for RS-485 adapters: rtu:// or rtu+tcp://")
    connection = connection_to(args.url, local_echo=bool(args.local_echo))
    devices = devices_of(connection.url)
    if args.device not in devices:
        raise WrongUsage(f"--device {args.device} must be {devices[0]} to {devices[-1]} on this line")
    must_be_free(args, connection)
    if args.profile is not None:
        from gateway.commands import read_points  # noqa: PLC0415 - pymodbus

        return read_points.run(args, connection)
    from gateway.commands import read_registers  # noqa: PLC0415 - as above

    return read_registers.run(args, connection)


def _make_sense(args: argparse.Namespace) -> None:
    args.device = 1 if args.device is None else args.device
    if args.register is not None and args.profile is not None:
        raise WrongUsage("--register or --profile: one of the two")
    if args.register is None and args.profile is None:
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


def _type(text: str) -> str:
    if text in WIDTHS:
        return text
    meant = text.casefold() if text.casefold() in WIDTHS else TYPES.get(text.casefold(), "")
    asked = f"; did you mean {meant}?" if meant else ""
    raise argparse.ArgumentTypeError(f"{quoted(text)} must be one of {', '.join(WIDTHS)}{asked}")


def _device(text: str) -> int:
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{quoted(text)} must be an id from 1 to 247, on TCP from 0 to 255") from None


def _number(text: str) -> int:
    unsigned = len(text) <= LONGEST_NUMBER and not text.startswith(("-", "+"))
    try:
        number = int(plain(text), 0) if unsigned else -1
    except ValueError:
        number = int(text) if plain(text).isdecimal() else -1  # "007"
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{quoted(text)} must be a number from 0 to 65535, or such as 0x400")
    return number
