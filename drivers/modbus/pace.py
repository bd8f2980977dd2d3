"""When to poll, when to try again. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

HOUR = 3600.0
LONGEST_DEVICE_PAUSE = 300.0  # s; a meter that is back is found within this time
DEAD = 3  # failures in a row from which on a device's tries are spread
PROBES = 0.05  # of the line's time that tries of dead devices may take together
SHORTEST_PAUSE = (
    1.0  # s between two attempts to open a connection: the floor that keeps a refusal from becoming a busy loop
)
LONGEST_PAUSE = 60.0  # s
ROUNDING = (
    1e-6  # of a poll: seconds since 1970 are floats, and a slot must not be found a second time just before itself
)
SAME_SLOT = 0.001  # s before an hour's edge that are the edge


def slot_after(epoch: float, poll: float) -> float:
    """The first slot after `epoch` (seconds since 1970). Slots count from each full hour, so one is on every edge."""
    hour = math.floor(epoch / HOUR) * HOUR
    passed = math.floor((epoch - hour) / poll + ROUNDING)
    slot = hour + (passed + 1) * poll
    return slot if slot < hour + HOUR - SAME_SLOT else hour + HOUR


def retry_slot(epoch: float, failures: int, poll: float) -> float:
    """When a device that has failed `failures` times in a row is asked again: after poll, 2 x, 4 x, … 5 minutes.

    On a slot of its own schedule, unless that would be later than the pause.
    """
    pause = min(poll * 2.0 ** min(failures - 1, 16), LONGEST_DEVICE_PAUSE)
    return epoch + pause if pause < poll else slot_after(epoch + pause - poll, poll)


def spread(slot: float, earliest: float, step: float, taken: Sequence[float], cost: float) -> float:
    """When to try a dead device, which takes `cost` seconds of the line: `slot`, or some steps before where others are tried then.

    `taken` are the times of the other dead devices, which mostly died together. Tries keep so far apart that they take PROBES of
    the line's time, or as far as they can where there are more devices than that allows: one that is back is found in time.
    """
    apart = min(cost / PROBES, LONGEST_DEVICE_PAUSE / (len(taken) + 1))
    best, most = slot, -1.0
    while slot >= earliest:
        distance = min((abs(slot - other) for other in taken), default=apart)
        if distance >= apart:
            return slot
        if distance > most:
            best, most = slot, distance
        slot -= step
    return best


def before_edge(start: float, cost: float) -> float | None:
    """The full hour that a try of `cost` seconds from `start` would run into, None where it ends before (seconds since 1970).

    The readings right after the hour's edge are its boundaries: a dead device must not delay them.
    """
    edge = (math.floor(start / HOUR) + 1) * HOUR
    return edge if start + cost > edge else None


@dataclass(slots=True)
class Reconnecting:
    """When the connection may be opened again. All times are boottime."""

    due: float = float("-inf")
    failures: int = 0

    def failed(self, boottime: float, random: Random) -> None:
        """It could not be opened, or was lost: pause 1 s to 60 s, doubling, with jitter above the floor."""
        self.failures += 1
        longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(self.failures, 16))
        self.due = boottime + random.uniform(max(SHORTEST_PAUSE, longest / 2), longest)

    def answered(self) -> None:
        """A device has answered: only this proves that a connection works (an open socket does not)."""
        self.failures = 0
