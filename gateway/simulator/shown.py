"""What the counters of a simulated meter show instead of the truth, after faults of their values. Pure but for its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from gateway.simulator.meters import Register

LEFT = 10_000_000  # micro of the truth's unit until a counter that is to roll over is full


class Shown:
    """The counters of one meter."""

    def __init__(self, counters: Sequence[Register]) -> None:
        """They show the truth."""
        self._counters = counters
        self._from: dict[int, float] = {}  # register -> count from which on it shows what has been counted since

    def words(self, words: Sequence[int], first: int, kinds: AbstractSet[str], *, rolls: bool) -> list[int]:
        """The registers from `first` on, in an answer that meets these kinds of fault.

        `rolls`: they are nearly full when they are read for the first time.
        """
        shown = list(words)
        for counter in self._counters:
            place = counter.address - first
            if place >= 0 and place + counter.size <= len(shown):
                there = slice(place, place + counter.size)
                shown[there] = self._one(counter, shown[there], kinds, rolls=rolls)
        return shown

    def _one(self, counter: Register, words: list[int], kinds: AbstractSet[str], *, rolls: bool) -> list[int]:
        if kinds & {"nan", "sentinel"}:
            return counter.absent(nan="nan" in kinds)
        counted = counter.unpack(words)
        if "counter-reset" in kinds:
            self._from[counter.address] = counted
        elif rolls and counter.address not in self._from:
            self._from[counter.address] = counted - counter.full + max(1, LEFT // counter.step)
        begun = self._from.get(counter.address)
        return words if begun is None else counter.pack((counted - begun) % counter.full)
