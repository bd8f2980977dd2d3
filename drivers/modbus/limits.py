"""What each device of a connection needs, after the operator's words, its profile and the line's kind. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from drivers.modbus.address import Address, address_of
from drivers.modbus.connection import Connection
from drivers.modbus.device import Device, Limits
from drivers.modbus.plan import USUAL_REGISTERS
from drivers.modbus.profile import known
from drivers.modbus.source import Source
from drivers.modbus.target import parts_of, target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.base import Ports

TIMEOUTS = {"tcp": 1.0, "tls": 1.0, "rtu": 1.0, "ascii": 1.0, "rtu+tcp": 1.5, "ascii+tcp": 1.5}  # s
GAPS = {"tcp": 0.0, "tls": 0.0, "rtu": 0.060, "ascii": 0.060, "rtu+tcp": 0.100, "ascii+tcp": 0.100}
# s; Eastron's manuals want 60 ms
GAP_ON_CHANGE = 0.100  # s on a bus, when another device is asked than before


def devices_of(connection: Connection, sources: Mapping[str, Source], ports: Ports) -> list[Device]:
    """The devices in the order in which their first sources stand."""
    address = address_of(connection.url)
    grouped: dict[int, dict[str, Source]] = defaultdict(dict)
    for name, source in sources.items():
        grouped[source.device][name] = source
    return [
        Device(
            number,
            [part for each in group.items() for part in parts_of(target_of(*each))],
            limits_of(connection, address, group.values()),
            ports,
        )
        for number, group in grouped.items()
    ]


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
