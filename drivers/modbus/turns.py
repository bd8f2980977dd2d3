"""Which device of a line is read now, and which next. Pure."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from drivers.modbus.pace import DEAD, LONGEST_DEVICE_PAUSE, before_edge, retry_slot, slot_after, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import Now
    from drivers.modbus.device import Device

WALL_STEP = 0.5  # s between the wall clock and boottime from which on the slots are found anew


class Turns:
    """Every device's `slot` and `due`."""

    def __init__(self, devices: Sequence[Device], poll: float) -> None:
        """All are due now."""
        self.failing = 0  # devices that do not answer
        self._devices = devices
        self._poll = poll
        self._offset: float | None = None  # wall minus boottime, for which the slots were found

    def realign(self, now: Now) -> None:
        """Where the wall clock was set, what is due later is due at the new clock's slots."""
        epoch = now.wall.timestamp()
        offset = epoch - now.boottime
        stepped = self._offset is not None and abs(offset - self._offset) > WALL_STEP
        if self._offset is None or stepped:
            self._offset = offset
        if not stepped:
            return
        for device in self._devices:
            device.slot = min(device.slot, epoch)
            if device.due > now.boottime:
                _schedule(device, slot_after(epoch, self._poll), now)

    def next(self, now: Now) -> Device | None:
        """The device to read now. Those that fail come last, so that they delay nobody; but not for ever."""
        due = [device for device in self._devices if device.due <= now.boottime]
        if not self.failing:
            return min(due, key=attrgetter("due"), default=None)
        ready = [device for device in due if _ready(device, now) <= now.boottime]
        return min(ready, key=self._rank, default=None)

    def earliest(self, now: Now) -> float:
        """When the next one is to be read (boottime)."""
        if not self.failing:
            return min([device.due for device in self._devices])
        return min(_ready(device, now) for device in self._devices)

    def had(self, device: Device, now: Now) -> None:
        """It was read, or was not; when again."""
        epoch = now.wall.timestamp()
        served = max(epoch, device.slot)
        slot = retry_slot(served, device.failures, self._poll) if device.failures else slot_after(served, self._poll)
        if device.failures >= DEAD:
            others = [each.slot for each in self._devices if each.failures >= DEAD and each is not device]
            step = min(self._poll, LONGEST_DEVICE_PAUSE / len(self._devices))
            slot = spread(slot, served + device.costs, step, others, device.costs)
        _schedule(device, slot, now)

    def _rank(self, device: Device) -> float:
        """What waits for an hour's edge waits for the devices that are due there, too."""
        return device.due + (self._poll + device.costs if device.failures else 0.0)


def _ready(device: Device, now: Now) -> float:
    """When a device may be read: one that fails not where it would run into the hour's edge."""
    if not device.failures:
        return device.due
    epoch = now.wall.timestamp()
    edge = before_edge(epoch + max(0.0, device.due - now.boottime), device.costs)
    return device.due if edge is None else now.boottime + edge - epoch


def _schedule(device: Device, slot: float, now: Now) -> None:
    device.slot = slot
    device.due = now.boottime + slot - now.wall.timestamp()
