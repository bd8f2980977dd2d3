"""What the counters of a simulated meter show instead of the truth, after faults of their values. Pure but for its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from gateway.simulator.meters import Register

NEARLY_FULL = 2  # counts before a counter that is to roll over is full


class Shown:
    """The counters of one meter."""

    def __init__(self, counters: Sequence[Register]) -> None:
        """They show the truth."""
        self._counters = counters
        self._rolled = False
        self._from: dict[int, float] = {}  # register -> count from which on it shows what has been counted since

    def words(self, words: Sequence[int], first: int, kinds: AbstractSet[str], *, rolls: bool) -> list[int]:
        """The registers from `first` on, in an answer that meets these kinds of fault.

        `rolls`: a counter is to roll over one day, so until then it is nearly full.
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
        begun = self._from.get(counter.address)
        if "counter-reset" in kinds or ("rollover" in kinds and not self._rolled):
            self._rolled = True
            begun = self._from[counter.address] = counted
        if rolls and not self._rolled:
            begun = self._from.setdefault(counter.address, counted)
            return counter.pack(counter.full - NEARLY_FULL + min(counted - begun, NEARLY_FULL - 1))
        return words if begun is None else counter.pack(counted - begun)
