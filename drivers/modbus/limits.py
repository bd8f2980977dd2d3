"""What each device of a connection needs, after the operator's words, its profile and the line's kind. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.address import Address, address_of
from drivers.modbus.connection import Connection
from drivers.modbus.device import Device, Limits
from drivers.modbus.plan import MOST_REGISTERS, USUAL_REGISTERS, Cost
from drivers.modbus.profile import known
from drivers.modbus.source import Source
from drivers.modbus.target import Target, parts_of, target_of
from drivers.modbus.wiretime import assumed_wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.base import Ports

TIMEOUTS = {"tcp": 1.0, "tls": 1.0, "rtu": 1.0, "ascii": 1.0, "rtu+tcp": 1.5, "ascii+tcp": 1.5}  # s
GAPS = {"tcp": 0.0, "tls": 0.0, "rtu": 0.060, "ascii": 0.060, "rtu+tcp": 0.100, "ascii+tcp": 0.100}
# s; Eastron's manuals want 60 ms
GAP_ON_CHANGE = 0.100  # s on a bus, when another device is asked than before

TCP_REQUEST = 0.020  # s for a request and its answer over Ethernet: mostly the device's own time
TCP_REGISTER = 0.001  # s: its two bytes at 19 200 baud, since a serial line may be behind; over Ethernet alone nothing


class Want(NamedTuple):
    """A device, the values wanted from it, what it needs and what its requests cost."""

    number: int
    targets: tuple[Target, ...]
    limits: Limits
    cost: Cost


def devices_of(connection: Connection, sources: Mapping[str, Source], ports: Ports) -> list[Device]:
    """The devices in the order in which their first sources stand."""
    return [Device(want.number, want.targets, want.limits, ports, want.cost) for want in wants_of(connection, sources)]


def wants_of(connection: Connection, sources: Mapping[str, Source]) -> list[Want]:
    """The same, without anything that could ask them."""
    address = address_of(connection.url)
    grouped: dict[int, dict[str, Source]] = defaultdict(dict)
    for name, source in sources.items():
        grouped[source.device][name] = source
    wants = []
    for number, group in grouped.items():
        limits = limits_of(connection, address, group.values())
        targets = tuple(part for each in group.items() for part in parts_of(target_of(*each)))
        wants.append(Want(number, targets, limits, cost_of(address, limits, group.values())))
    return wants


def cost_of(address: Address, limits: Limits, sources: Iterable[Source]) -> Cost:
    """What decides how a device's registers are read: the wire's time, where its speed is known or can be assumed."""
    most = min([profile.max_hole for source in sources if (profile := known(source.profile))], default=MOST_REGISTERS)
    if not address.untagged:
        return Cost(TCP_REQUEST + limits.gap, TCP_REGISTER, most)
    wire = assumed_wire(address)
    return Cost(wire.cycle(0, limits.gap), wire.frames.register * wire.character, most)


def limits_of(connection: Connection, address: Address, sources: Iterable[Source]) -> Limits:
    """The operator's word about the device, then about the connection, then the profile's or the line's default."""
    sources = list(sources)
    profiles = [profile for source in sources if (profile := known(source.profile))]
    longest = max([TIMEOUTS[address.scheme], *(each.timeout for each in profiles if each.timeout)])
    timeout = _said(sources, "timeout") or connection.timeout or longest
    most = _said(sources, "max_registers") or min([each.max_registers for each in profiles], default=USUAL_REGISTERS)
    own = _said(sources, "gap")
    gap = own if own is not None else connection.gap
    change = connection.gap_on_change
    if gap is not None:
        return Limits(timeout, gap, max(gap, change or 0.0), int(most))
    gaps = [each.gap for each in profiles if each.gap and address.untagged]
    usual = max([GAPS[address.scheme], *gaps])
    if change is None:
        change = GAP_ON_CHANGE if address.untagged else usual
    return Limits(timeout, usual, max(usual, change), int(most))


def _said(sources: Iterable[Source], key: str) -> float | None:
    """What the first source that says something says; `check` sees to it that they agree."""
    return next((getattr(source, key) for source in sources if getattr(source, key) is not None), None)
