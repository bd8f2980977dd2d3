"""The read plan of a connection before anything is asked: its requests, and how long a round of them takes. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.address import address_of
from drivers.modbus.learned import shape_key
from drivers.modbus.limits import TCP_REGISTER, TCP_REQUEST, Want, wants_of
from drivers.modbus.plan import REGISTERS, Block, Shape, from_text, plan
from drivers.modbus.wiretime import USUAL_THINKING, assumed_wire, wire_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.modbus.address import Address
    from drivers.modbus.connection import Connection
    from drivers.modbus.source import Source
    from drivers.modbus.target import Target


class Span(NamedTuple):
    """A part of a request, `at` so many registers from its first: the sources that want it; none for a hole.

    Several sources may read the same registers, and values may overlap.
    """

    sources: tuple[str, ...]
    at: int
    registers: int


class PlannedRequest(NamedTuple):
    """One request from `first` on; with `sunspec` that counts from the ID register of such a model.

    `seconds` with the rest before it and the device's thinking; `wire`: its two frames alone, where the line's speed is
    known.
    """

    table: str
    first: int
    registers: int
    spans: tuple[Span, ...]
    seconds: float
    wire: float | None
    sunspec: str = ""


class PlannedDevice(NamedTuple):
    """A device's part of a round. `learned`: what it has taught, beyond the configuration."""

    number: int
    requests: tuple[PlannedRequest, ...]
    seconds: float
    learned: bool


class PlannedLine(NamedTuple):
    """A connection's round, and the seconds between two of them. `assumed`: what `seconds` stand on, for people."""

    devices: tuple[PlannedDevice, ...]
    seconds: float
    poll: float
    assumed: str

    @property
    def requests(self) -> int:
        """In a round."""
        return sum(len(device.requests) for device in self.devices)

    @property
    def share(self) -> float:
        """Of the time between two polls that a round takes: above 1 the line cannot keep up."""
        return self.seconds / self.poll


def planned(connection: Connection, sources: Mapping[str, Source], memory: Mapping[str, str]) -> PlannedLine:
    """What the driver will ask in a round in which every value is wanted. `memory`: what the driver remembers."""
    address = address_of(connection.url)
    wants = wants_of(connection, sources)
    devices = tuple(_device(want, address, memory, alone=len(wants) == 1) for want in wants)
    return PlannedLine(devices, sum(device.seconds for device in devices), connection.poll, _assumed(address))


def _device(want: Want, address: Address, memory: Mapping[str, str], *, alone: bool) -> PlannedDevice:
    fresh = Shape(want.limits.max_registers)
    shape = from_text(memory.get(shape_key(want.number, want.targets, want.limits.max_registers), ""), fresh.limit)
    wire = wire_of(address)
    requests = []
    for model, targets in _by_model(want.targets).items():
        for block in plan((target.place for target in targets), shape, want.cost):
            shown = _request(block, targets, want.cost.of([block]), wire.exchange(block.count) if wire else None)
            requests.append(shown._replace(first=block.start - bool(model) * REGISTERS, sunspec=model))
    seconds = sum(request.seconds for request in requests)
    if not alone:
        silence = assumed_wire(address).silence if address.untagged else 0.0
        seconds += max(want.limits.gap_on_change, silence) - max(want.limits.gap, silence)
    return PlannedDevice(want.number, tuple(requests), seconds, shape != fresh)


def _by_model(targets: Sequence[Target]) -> dict[str, list[Target]]:
    """The targets of each SunSpec model, whose registers nobody knows before the device is asked; "" for all others."""
    found: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        number = f" no. {target.instance}" if target.instance > 1 else ""
        found[f"{'/'.join(map(str, target.sunspec))}{number}" if target.sunspec else ""].append(target)
    return found


def _request(block: Block, targets: Sequence[Target], seconds: float, wire: float | None) -> PlannedRequest:
    values, holes, reached = [], [], block.start
    for place in block.places:
        if place.register > reached:
            holes.append(Span((), reached - block.start, place.register - reached))
        reached = max(reached, place.end)
        names = dict.fromkeys(target.source for target in targets if target.place == place)
        values.append(Span(tuple(names), place.register - block.start, place.width))
    spans = tuple(sorted([*values, *holes], key=lambda span: span.at))
    return PlannedRequest(block.table, block.start, block.count, spans, seconds, wire)


def _assumed(address: Address) -> str:
    if not address.untagged:
        return f"{TCP_REQUEST * 1000:g} ms a request and {TCP_REGISTER * 1000:g} ms a register"
    speed = "" if address.serial else "9600 baud behind the gateway, and "
    return f"{speed}answers that begin after {USUAL_THINKING * 1000:g} ms"
