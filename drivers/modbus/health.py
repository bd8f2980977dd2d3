"""How a Modbus connection and its devices are, for `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.base import Health

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.modbus.device import Device

COUNTED = ("polls", "readings", "rejected", "timeouts", "requests")
COUNTED_OF_DEVICES = ("requests", "timeouts", "bad_answers", "refusals")
MOST_NAMED = 3  # devices in one sentence


def health_of(
    devices: Sequence[Device],
    counters: Sequence[Mapping[str, int]],
    reconnects: int,
    trouble: str,
    ready_since: float | None,
) -> Health:
    """Of a connection: `trouble` is its own, "" for none; `counters` are its own, those of its devices come besides."""
    everywhere = [*counters, *(device.counts for device in devices)]
    # by key: another thread must not walk through a counter to which the owner may add one
    named = {key: sum(each[key] for each in everywhere) for key in COUNTED}
    named["reconnects"] = reconnects
    states = {str(device.number): _state(device) for device in devices}
    detail = trouble or _failing(states)
    state = "trouble" if detail else "ok" if ready_since is not None else "starting"
    counted = {str(device.number): {key: device.counts[key] for key in COUNTED_OF_DEVICES} for device in devices}
    return Health(state, detail, ready_since, named, states, counted)


def _state(device: Device) -> str:
    if device.failures:
        since = f" (since {device.failing_since})" if device.failing_since else ""
        return f"{device.problem}{since}"
    if device.refusing:
        return f"gives no value: {device.refusing}"
    return "ok" if device.tried else "not read yet"


def _failing(devices: Mapping[str, str]) -> str:
    """What is wrong with which devices, in one sentence; "" where nothing is."""
    failing = [f"device {number}: {state}" for number, state in devices.items() if state not in {"ok", "not read yet"}]
    if len(failing) <= MOST_NAMED:
        return "; ".join(failing)
    return f"{len(failing)} of {len(devices)} devices: {'; '.join(failing[:MOST_NAMED])}; …"
