"""Which values of a device rest because they were asked for in vain, and what its silences teach. Pure.

A device refuses what it does not have, or is silent at it; a line loses answers to anything. What tells the two apart after a
silence is what has come before: a value at all, and those of a request together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.modbus.pace import HOUR, LONGEST_DEVICE_PAUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.modbus.plan import Block, Place

REFUSED_AT_MOST = HOUR  # s between two attempts at a value that the device does not have
LOST_AT_MOST = LONGEST_DEVICE_PAUSE  # s of one that it has given: no longer than a device that is silent altogether
DOUBTED = 2  # times in a row that a request brings nothing, until it is made smaller
LOST = 5  # the same of one that was answered before: each tenth answer lost by chance makes that one poll in 100 000
EARLY = 0.5  # s by which a poll may come before the end of a value's rest and still ask for it
MOST_GIVEN = 100  # requests of which is known that they were answered


@dataclass(slots=True)
class _Rest:
    times: int  # in a row that it was asked for in vain
    until: float  # boottime


class Doubts:
    """About the values and the requests of one device, since the start."""

    def __init__(self) -> None:
        """There are none."""
        self._rests: dict[Place, _Rest] = {}
        self._times: Counter[tuple[Place, ...]] = Counter()  # in a row that a request for these brought nothing
        self._given: set[tuple[Place, ...]] = set()  # what was answered in one request

    def answered(self, block: Block) -> None:
        """All its values have come."""
        if block.places not in self._given:
            if len(self._given) >= MOST_GIVEN:
                self._given.clear()
            self._given.add(block.places)
        if self._times:
            self._times.pop(block.places, None)
        if self._rests:
            for place in block.places:
                self._rests.pop(place, None)

    def unanswered(self, block: Block) -> bool:
        """It brought nothing, not even a refusal; whether that is so often enough for a smaller request."""
        self._times[block.places] += 1
        return self._times[block.places] >= (LOST if block.places in self._given else DOUBTED)

    def times(self, places: tuple[Place, ...]) -> int:
        """How often in a row a request for these brought nothing."""
        return self._times[places]

    def first(self, blocks: Sequence[Block]) -> Block:
        """The one to be asked for next: those that brought nothing come last."""
        return min(blocks, key=lambda block: self._times[block.places]) if self._times else blocks[0]

    def rest_refused(self, places: Iterable[Place], boottime: float, poll: float) -> None:
        """Do not ask for these in the next rounds: for one poll, two, four … up to an hour."""
        for place in places:
            self._rest(place, boottime, poll, REFUSED_AT_MOST)

    def rest_unanswered(self, places: Iterable[Place], boottime: float, poll: float) -> None:
        """The same; up to five minutes for those that have come before."""
        given = {place for block in self._given for place in block}
        for place in places:
            self._rest(place, boottime, poll, LOST_AT_MOST if place in given else REFUSED_AT_MOST)

    def _rest(self, place: Place, boottime: float, poll: float, most: float) -> None:
        times = self._rests[place].times + 1 if place in self._rests else 1
        pause = min(poll * 2.0 ** min(times - 1, 16), max(most, poll))
        self._rests[place] = _Rest(times, boottime + pause - EARLY)

    def rests(self, place: Place, boottime: float) -> bool:
        """Whether it is not asked for now."""
        rest = self._rests.get(place)
        return rest is not None and boottime < rest.until

    def awake(self, places: Iterable[Place], boottime: float) -> set[Place]:
        """Those of them that are asked for now."""
        return {place for place in places if not self.rests(place, boottime)} if self._rests else set(places)
