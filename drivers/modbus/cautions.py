"""What works on a Modbus line and should be looked at all the same: settings that do not fit each other. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.address import Address, Serial, address_of
from drivers.modbus.limits import limits_of
from drivers.modbus.plan import Block, Shape, plan
from drivers.modbus.profile import known
from drivers.modbus.target import parts_of, target_of
from drivers.modbus.wiretime import BEHIND_A_GATEWAY, WORST_THINKING, wire_of
from drivers.registry import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from drivers.modbus.connection import Connection
    from drivers.modbus.device import Limits
    from drivers.modbus.source import Source

TCP_REQUEST = 0.020  # s for a request and its answer over Ethernet
TCP_REGISTER = 0.001  # s for each register: a serial line of 19 200 baud may be behind
ROOM = 1.25  # times the round's usual time: what a poll interval should have
RTU_BITS, ASCII_BITS = 11, 10  # of a character (Modbus over serial line 1.02, sections 2.5.1 and 2.5.2)


class Asked(NamedTuple):
    """A device as it is going to be asked."""

    number: int
    limits: Limits
    blocks: Sequence[Block]
    sources: Mapping[str, Source]


def cautions_of(connection: Connection, sources: Mapping[str, Source]) -> Iterator[Fault]:
    """Each at the key to look at; `sources` are free of mistakes."""
    address = address_of(connection.url)
    devices = _devices(connection, address, sources)
    yield from _of_characters(address)
    for device in devices:
        yield from _of_timeout(connection, address, device)
    for path, gap in _gaps(connection, sources):
        if 0 < gap < address.silence:
            yield Fault(path, _of_gap(address, gap))
    if devices:
        yield from _of_poll(connection, address, devices)


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


def round_time(address: Address, devices: Sequence[Asked]) -> float:
    """Seconds in which all devices are asked once and answer as usual; where a network hides the line, as is assumed of it."""
    wire = wire_of(address) or BEHIND_A_GATEWAY
    seconds = 0.0
    for device in devices:
        gap = device.limits.gap_on_change if len(devices) > 1 else device.limits.gap
        for block in device.blocks:
            tcp = TCP_REQUEST + TCP_REGISTER * block.count + gap
            seconds += wire.cycle(block.count, gap) if address.untagged else tcp
            gap = device.limits.gap
    return seconds


def _devices(connection: Connection, address: Address, sources: Mapping[str, Source]) -> list[Asked]:
    grouped: dict[int, dict[str, Source]] = defaultdict(dict)
    for name, source in sources.items():
        grouped[source.device][name] = source
    devices = []
    for number, group in grouped.items():
        limits = limits_of(connection, address, group.values())
        places = {part.place for each in group.items() for part in parts_of(target_of(*each))}
        devices.append(Asked(number, limits, plan(places, Shape(limits.max_registers)), group))
    return devices


def _of_characters(address: Address) -> Iterator[Fault]:
    """Nothing of 8N1: it is no standard and what very many meters have."""
    serial, usual = address.serial, ASCII_BITS if address.ascii else RTU_BITS
    if serial is None or serial.bits == usual or serial == Serial(serial.baudrate, "N", 1, 8):
        return
    size = serial.bytesize
    form = f"{size}{serial.parity}{serial.stopbits}"
    words = f"{form} makes characters of {serial.bits} bits where the standard has {usual}"
    yield Fault(("connection", "url"), f"{words}: {size}E1, {size}O1 or {size}N2; look at the meters' own settings")


def _of_timeout(connection: Connection, address: Address, device: Asked) -> Iterator[Fault]:
    """The timeout runs until an answer begins; through a network it arrives as a whole."""
    if not address.untagged:
        return
    longest = max((block.count for block in device.blocks), default=1)
    over_network = 0.0 if address.serial else BEHIND_A_GATEWAY.exchange(longest)
    floor = WORST_THINKING + over_network
    if device.limits.timeout >= floor:
        return
    said = next((name for name, source in device.sources.items() if source.timeout is not None), None)
    path = (said or "connection", "timeout")
    if said is None and connection.timeout is None:
        return
    takes = f", and its answer of {longest} registers takes {_ms(over_network)} at 9600 baud" if over_network else ""
    words = f"a meter may take {_ms(WORST_THINKING)} to begin its answer{takes}"
    least = math.ceil(floor * 10) * 100
    yield Fault(
        path,
        f'{words}; what comes after {_ms(device.limits.timeout)} is lost, and a danger to the next answer: at least "{least}ms"',
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


def _of_poll(connection: Connection, address: Address, devices: Sequence[Asked]) -> Iterator[Fault]:
    seconds = round_time(address, devices)
    if seconds <= connection.poll:
        return
    requests = sum(len(device.blocks) for device in devices)
    of = f"{len(devices)} devices with {requests} requests" if len(devices) > 1 else f"{requests} requests"
    behind = "if the line behind the gateway has 9600 baud" if address.untagged else "if answers take 20 ms"
    at = f"at {address.serial.baudrate} baud" if address.serial else behind
    least = math.ceil(seconds * ROOM)
    yield Fault(
        ("connection", "poll"),
        f'a round of {of} takes about {seconds:.1f} s {at}: a poll every {connection.poll:g} s cannot be kept; at least "{least}s"',
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
