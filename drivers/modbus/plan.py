"""Which requests fetch a device's values: the cheapest ones within its limits, never splitting a value. Pure.

Registers between two values are read for nothing where that takes less time on the wire than a second request. What a
device refuses is learned as a `Shape` and remembered: how many registers it takes in one request, and at which
registers a new request has to begin.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Table = Literal["holding", "input"]

MOST_REGISTERS = 125  # the protocol's limit for FC3 and FC4
USUAL_REGISTERS = 60  # many meters take less than 125 (10 to 96 are all seen)
REGISTERS = 65_536


class Place(NamedTuple):
    """Where a value stands."""

    table: Table
    register: int
    width: int

    @property
    def end(self) -> int:
        """The register after it."""
        return self.register + self.width


@dataclass(frozen=True, slots=True)
class Block:
    """One request, and the values it fetches."""

    table: Table
    start: int
    count: int
    places: tuple[Place, ...]

    def words_of(self, place: Place, words: Sequence[int]) -> Sequence[int]:
        """One value's part of the answer."""
        at = place.register - self.start
        return words[at : at + place.width]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a device has taught: `limit` registers a request, and the places at which a request has to begin."""

    limit: int = USUAL_REGISTERS
    cuts: frozenset[tuple[Table, int]] = field(default_factory=frozenset)


class Cost(NamedTuple):
    """What decides between reading over a hole and asking twice: seconds, of which only the ratio matters.

    `request` for one more request: its frame and the answer's, the rests, the device's thinking. `register` for each
    register in an answer. No hole of more than `max_hole` registers is read.
    """

    request: float
    register: float
    max_hole: int = MOST_REGISTERS

    def of(self, blocks: Iterable[Block]) -> float:
        """Of these requests."""
        return sum(self.request + self.register * block.count for block in blocks)


USUAL_COST = Cost(
    0.1135, 0.00208
)  # RTU at 9600 baud, answers after 40 ms, a gap of 60 ms: a request is worth 54 registers


def plan(places: Iterable[Place], shape: Shape, cost: Cost = USUAL_COST) -> list[Block]:
    """The cheapest requests, in the order of tables and registers; of two plans of one cost that with fewer.

    No request is above the limit, but a value wider than it still gets its own. A value that begins at a cut begins a
    request, and no hole is read over one. Two values that overlap may share a request.
    """
    wanted = sorted(set(places))
    blocks = [Block(*place, (place,)) for place in wanted if place.width > shape.limit]
    for table in sorted({place.table for place in wanted}):
        row = [place for place in wanted if place.table == table and place.width <= shape.limit]
        cuts = sorted(register for of, register in shape.cuts if of == table)
        blocks += _cheapest(row, cuts, shape.limit, cost)
    return sorted(blocks, key=lambda block: block.places)


def split(block: Block, shape: Shape) -> Shape | None:
    """After "illegal address": a shape that reads the block in two parts; None when it holds only one value.

    First the widest hole is left out, since most meters refuse holes; without any, the search halves the values. So
    what can be read together stays together.
    """
    if len(block.places) == 1:
        return None
    holes = _holes(block)
    behind = max(holes)[1] if holes else block.places[len(block.places) // 2].register
    return _cut(block, shape, [behind])


def without_holes(block: Block, shape: Shape) -> Shape | None:
    """After silence, which costs a timeout each time: all holes left out at once, then every value asked for alone.

    None when the block holds only one value.
    """
    behind = [register for _, register in _holes(block)]
    return _cut(block, shape, behind or [place.register for place in block.places[1:]])


def halved(block: Block, shape: Shape) -> Shape | None:
    """After "illegal value": a smaller limit; None when the block is as small as its widest value."""
    widest = max(place.width for place in block.places)
    limit = max(widest, block.count // 2)
    return replace(shape, limit=limit) if limit < block.count else None


def to_text(shape: Shape) -> str:
    """For the driver's memory."""
    return json.dumps({"limit": shape.limit, "cuts": sorted(shape.cuts)})


def from_text(text: str, limit: int) -> Shape:
    """What was remembered, never above the configured limit; nothing learned where the text is not ours."""
    try:
        stored = json.loads(text)
        cuts = frozenset((table, int(register)) for table, register in stored["cuts"] if table in {"holding", "input"})
        return Shape(max(1, min(limit, int(stored["limit"]))), cuts)
    except (ValueError, KeyError, TypeError, OverflowError):
        return Shape(limit)


def _holes(block: Block) -> list[tuple[int, int]]:
    """How many registers each request for nothing has, and the register after it."""
    holes, reached = [], block.start
    for place in block.places:
        if place.register > reached:
            holes.append((place.register - reached, place.register))
        reached = max(reached, place.end)
    return holes


def _cut(block: Block, shape: Shape, registers: Iterable[int]) -> Shape | None:
    cuts = shape.cuts | {(block.table, register) for register in registers}
    return replace(shape, cuts=cuts) if cuts != shape.cuts else None


class _Way(NamedTuple):
    """To have fetched the first values of a row: seconds and requests so far, and the value with which the last begins."""

    seconds: float
    requests: int
    began: int


def _cheapest(row: Sequence[Place], cuts: Sequence[int], limit: int, cost: Cost) -> list[Block]:
    """Dynamic programming over the sorted values: the best way to the first n of them, for each n.

    Requests over neighbours are enough: where two requests' values interleave, either takes the other's without growing.
    """
    best = [_Way(0.0, 0, 0), *[_Way(inf, 0, 0)] * len(row)]
    for began in range(len(row)):
        for end, count in _spans(row, began, cuts, limit, cost.max_hole):
            seconds = best[began].seconds + cost.request + cost.register * count
            best[end] = min(best[end], _Way(seconds, best[began].requests + 1, began))
    blocks, end = [], len(row)
    while end:
        values = tuple(row[best[end].began : end])
        start = values[0].register
        blocks.append(Block(values[0].table, start, max(place.end for place in values) - start, values))
        end = best[end].began
    return blocks


def _spans(
    row: Sequence[Place], began: int, cuts: Sequence[int], limit: int, max_hole: int
) -> Iterator[tuple[int, int]]:
    """The requests that may begin with this value: up to which (exclusive) they reach, and over how many registers."""
    first = reached = row[began].register
    for at, place in enumerate(row[began:], began):
        if at > began and (place.register - reached > max_hole or _barred(cuts, reached, place.register)):
            return
        reached = max(reached, place.end)
        if reached - first > limit:
            return
        yield at + 1, reached - first


def _barred(cuts: Sequence[int], reached: int, register: int) -> bool:
    """Whether a request over `reached` registers may not go on to this one: it, or the hole before it, has a cut."""
    nearest = bisect_left(cuts, min(reached, register))
    return nearest < len(cuts) and cuts[nearest] <= register
