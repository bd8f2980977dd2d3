"""What works on a Modbus line and should be looked at all the same: settings that do not fit each other. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivers.modbus.address import Address, Serial, address_of
from drivers.modbus.limits import wants_of
from drivers.modbus.planned import planned
from drivers.modbus.profile import known
from drivers.modbus.target import target_of
from drivers.modbus.wiretime import WORST_THINKING, assumed_wire
from drivers.registry import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from drivers.modbus.connection import Connection
    from drivers.modbus.planned import PlannedLine
    from drivers.modbus.source import Source

ROOM = 1.25  # times the round's usual time: what a poll interval should have
RTU_BITS, ASCII_BITS = 11, 10  # of a character (Modbus over serial line 1.02, sections 2.5.1 and 2.5.2)


def cautions_of(connection: Connection, sources: Mapping[str, Source]) -> Iterator[Fault]:
    """Each at the key to look at; `sources` are free of mistakes."""
    address = address_of(connection.url)
    line = planned(connection, sources, {})
    yield from _of_characters(address)
    for want, device in zip(wants_of(connection, sources), line.devices, strict=True):
        longest = max((request.registers for request in device.requests), default=1)
        own = next((name for name, source in sources.items() if source.device == want.number and source.timeout), None)
        if own or connection.timeout:
            yield from _of_timeout(address, want.limits.timeout, longest, (own or "connection", "timeout"))
    for path, gap in _gaps(connection, sources):
        if 0 < gap < address.silence:
            yield Fault(path, _of_gap(address, gap))
    yield from _of_poll(address, line)
    yield from _of_ratios(sources)
    yield from _of_twins(sources)


def hint(address: Address, sources: Iterable[Source]) -> str:
    """What to look at where one of these sources' device has never answered; "" where there is nothing to say."""
    if address.serial is None:
        return ""
    line = settings_text(address.serial)
    for source in sources:
        profile = known(source.profile)
        if profile and profile.serial:
            factory = settings_text(Serial(profile.serial.baudrate, profile.serial.parity, profile.serial.stopbits))
            if factory != line:
                return f"the line has {line}, and {source.profile} leaves the factory with {factory}"
    return f"are its id and {line} as set in the meter?"


def settings_text(serial: Serial) -> str:
    """As a meter's menu says it: "9600 baud 8N1"."""
    return f"{serial.baudrate} baud {serial.bytesize}{serial.parity}{serial.stopbits}"


def _of_characters(address: Address) -> Iterator[Fault]:
    """Nothing of 8N1: it is no standard and what very many meters have."""
    serial, usual = address.serial, ASCII_BITS if address.ascii else RTU_BITS
    if serial is None or serial.bits == usual or serial == Serial(serial.baudrate, "N", 1, 8):
        return
    size = serial.bytesize
    form = f"{size}{serial.parity}{serial.stopbits}"
    words = f"{form} makes characters of {serial.bits} bits where the standard has {usual}"
    yield Fault(("connection", "url"), f"{words}: {size}E1, {size}O1 or {size}N2; look at the meters' own settings")


def _of_timeout(address: Address, timeout: float, longest: int, path: tuple[str, str]) -> Iterator[Fault]:
    """The timeout runs until an answer begins; through a network it arrives as a whole. `longest`: registers of a request."""
    if not address.untagged:
        return
    over_network = 0.0 if address.serial else assumed_wire(address).exchange(longest)
    floor = WORST_THINKING + over_network
    if timeout >= floor:
        return
    takes = f", and its answer of {longest} registers takes {_ms(over_network)} at 9600 baud" if over_network else ""
    words = f"a meter may take {_ms(WORST_THINKING)} to begin its answer{takes}"
    least = math.ceil(floor * 10) * 100
    yield Fault(
        path, f'{words}; what comes after {_ms(timeout)} is lost, and a danger to the next answer: at least "{least}ms"'
    )


def _gaps(connection: Connection, sources: Mapping[str, Source]) -> Iterator[tuple[tuple[str, str], float]]:
    if connection.gap is not None:
        yield ("connection", "gap"), connection.gap
    for name, source in sources.items():
        if source.gap is not None:
            yield (name, "gap"), source.gap


def _of_gap(address: Address, gap: float) -> str:
    assert address.serial is not None
    at = f"3.5 characters at {address.serial.baudrate} baud take {_ms(address.silence)}"
    return f"{_ms(gap)} is less than the silence that RTU needs: {at}; so long is waited in any case"


def _of_poll(address: Address, line: PlannedLine) -> Iterator[Fault]:
    if line.share <= 1:
        return
    many = len(line.devices) > 1
    of = f"{len(line.devices)} devices with {line.requests} requests" if many else f"{line.requests} requests"
    behind = "if the line behind the gateway has 9600 baud" if address.untagged else "if answers take 20 ms"
    at = f"at {address.serial.baudrate} baud" if address.serial else behind
    yield Fault(
        ("connection", "poll"),
        f"a round of {of} takes about {line.seconds:.1f} s {at}: a poll every {line.poll:g} s cannot be kept; "
        f'at least "{math.ceil(line.seconds * ROOM)}s"',
    )


def _of_ratios(sources: Mapping[str, Source]) -> Iterator[Fault]:
    for name, source in sources.items():
        if source.ct_ratio is not None and source.ct_ratio < 1:
            yield Fault(
                (name, "ct_ratio"), "makes values smaller; a transformer's type plate has the larger current first"
            )


def _of_twins(sources: Mapping[str, Source]) -> Iterator[Fault]:
    """Mostly a block that was copied and not changed."""
    first: dict[tuple[int, str], str] = {}
    for name, source in sources.items():
        owner = first.setdefault((source.device, target_of("", source).identity), name)
        if owner != name:
            yield Fault(
                (name, "device"), f'reads the same as meter "{owner}": is it another device, or another register?'
            )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
