"""`simulate modbus`: meters on a socket or a serial port, with what goes wrong in buildings, to point a gateway at."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from drivers.modbus.address import BAUDRATES
from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.common import cannot_listen, host, port, quoted, until_interrupted, wait_for, whole
from gateway.commands.simulate_field import Voice
from gateway.errors import OK, GatewayError, WrongUsage
from gateway.simulator.faults import ALL, BUS, KINDS, NETWORK, NUMBERED, RTU, Fault, fault_of

if TYPE_CHECKING:
    from gateway.simulator.faults import Transport
    from gateway.simulator.meters import ModbusMeter
    from gateway.simulator.modbus import ModbusSimulator, SerialSimulator

PORT = 5020  # 502 is root's
HOST = "127.0.0.1"
BAUDRATE = 9600
NEEDS = {
    NETWORK: "TCP, so no --serial",
    BUS: "a bus: --rtu-over-tcp or --serial",
    RTU: "RTU frames: --rtu-over-tcp, or --serial without --ascii",
    NUMBERED: "Modbus TCP, so no --serial and no --rtu-over-tcp",
}
ONLY = {
    ALL: "",
    NETWORK: " (not on --serial)",
    BUS: " (not on Modbus TCP)",
    RTU: " (only RTU)",
    NUMBERED: " (only on Modbus TCP)",
}
MOST_DEVICES = 247  # ids on one line, Modbus over serial line 2.2

# The simulators themselves are imported when they run.


def configure(parser: argparse.ArgumentParser) -> None:
    """Where it listens, what is there and what goes wrong."""
    line = parser.add_mutually_exclusive_group()
    line.add_argument("--serial", action="store_true", help="a serial port (a pseudo-terminal) instead of Modbus TCP")
    line.add_argument("--rtu-over-tcp", action="store_true", help="RTU frames on TCP, as serial servers pass them on")
    parser.add_argument("--ascii", action="store_const", const=True, help="ASCII frames instead of RTU, with --serial")
    parser.add_argument("--port", type=port, help=f"where to listen; 0 takes a free one (default: {PORT})")
    parser.add_argument("--host", type=host, help=f"the address to listen at (default: {HOST})")
    parser.add_argument(
        "--baudrate",
        type=_baudrate,
        metavar="N",
        help=f"how fast bytes come, with --serial (default: {BAUDRATE})",
    )
    parser.add_argument(
        "--parity",
        type=str.upper,
        choices=("N", "E", "O"),
        help="with --serial: E and O make characters longer, and no more (default: N)",
    )
    device = whole(1, MOST_DEVICES)
    parser.add_argument("--devices", type=device, default=5, metavar="N", help="meters with ids 1 to N (default: 5)")
    parser.add_argument(
        "--mute", action="append", type=device, default=[], metavar="ID", help="one that does not answer; repeatable"
    )
    parser.add_argument("--missing", choices=("silent", "0x04"), help="what other ids answer (default: silent)")
    parser.add_argument(
        "--fault",
        action="append",
        type=_fault,
        default=[],
        metavar="KIND[=N][@ID]",
        help="what goes wrong with every N-th answer of each device, or of one (default: every 5th); repeatable",
    )
    parser.add_argument("--list-faults", action="store_true", help="show the kinds of faults and end")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if args.list_faults:
        return _list_faults(as_json=args.json)
    _check(args)
    from gateway.simulator import building  # noqa: PLC0415 - see above

    meters = building.bus(args.devices, push="off")
    simulator = _simulator(args, building.devices_on_the_bus(meters))
    simulator.mute.update(args.mute)
    simulator.faults = args.fault
    say = Voice(as_json=args.json)
    with until_interrupted() as interrupted:
        connection = building.bus_connection(simulator.url, "10s")
        say.listening(f"Modbus simulator listening on {simulator.url}", simulator.url, meters, connection)
        wait_for(interrupted)
    simulator.stop()
    _sum_up(simulator, say, args)
    return OK


def _check(args: argparse.Namespace) -> None:
    """What does not go together; raises WrongUsage."""
    for key in ("port", "host", "missing") if args.serial else ("baudrate", "parity", "ascii"):
        if getattr(args, key) is not None:
            raise WrongUsage(f"--{key} is of use only {'without' if args.serial else 'with'} --serial")
    transport: Transport = "rtu+tcp" if args.rtu_over_tcp else "tcp"
    if args.serial:
        transport = "ascii" if args.ascii else "rtu"
    for fault in args.fault:
        if transport not in KINDS[fault.kind].on:
            raise WrongUsage(f"--fault {fault.kind} cannot happen on this line: it needs {NEEDS[KINDS[fault.kind].on]}")
    named = [(f"--mute {device}", device) for device in args.mute]
    named += [(f"--fault {fault.kind}@{fault.device}", fault.device) for fault in args.fault if fault.device]
    for option, device in named:
        if device > args.devices:
            raise WrongUsage(f"{option}: the meters have ids 1 to {args.devices}")


def _simulator(args: argparse.Namespace, meters: list[ModbusMeter]) -> ModbusSimulator | SerialSimulator:
    from gateway.simulator.modbus import ModbusSimulator, SerialSimulator  # noqa: PLC0415

    clock = SystemClock()
    if args.serial:
        try:
            return SerialSimulator(meters, clock, args.baudrate or BAUDRATE, args.parity or "N", ascii=bool(args.ascii))
        except OSError as error:
            raise GatewayError(f"cannot make a serial port: {error.strerror}") from None
    where, number = args.host or HOST, PORT if args.port is None else args.port
    try:
        return ModbusSimulator(meters, clock, where, number, missing=args.missing or "silent", rtu=args.rtu_over_tcp)
    except OSError as error:
        raise cannot_listen(where, number, error) from None


def _sum_up(simulator: ModbusSimulator | SerialSimulator, say: Voice, args: argparse.Namespace) -> None:
    facts = {"requests": simulator.requests}
    line = f"{simulator.requests} requests answered"
    if args.fault:
        facts["faults"] = simulator.line.spoilt
        line += f"; {simulator.line.spoilt} answers met a fault"
    if args.serial:
        facts["early"] = simulator.early
        line += f"; {simulator.early} came before 3.5 characters of silence"
    say.line(line, event="summary", **facts)


def _list_faults(*, as_json: bool) -> int:
    if as_json:
        for kind, facts in KINDS.items():
            terminal.document({"fault": kind, "text": facts.text, "on": sorted(facts.on)})
        return OK
    rows = [(kind, facts.text + ONLY[facts.on]) for kind, facts in KINDS.items()]
    terminal.show(terminal.table(("fault", "what happens"), rows))
    return OK


def _baudrate(text: str) -> int:
    known = {str(speed): speed for speed in BAUDRATES}
    if text not in known:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is none of {', '.join(known)}")
    return known[text]


def _fault(text: str) -> Fault:
    try:
        return fault_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
