"""Which requests fetch a device's values: few, within its limits, never splitting a value. Pure.

What a device refuses is learned as a `Shape` and remembered: how many registers it takes in one request, and at which
registers a new request has to begin.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Table = Literal["holding", "input"]

MOST_REGISTERS = 125  # the protocol's limit for FC3 and FC4
USUAL_REGISTERS = 60  # many meters take less than 125 (10 to 96 are all seen)
WIDEST_HOLE = (
    8  # registers read for nothing rather than a second request: 16 bytes cost less than a request's 13 and the gap
)
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


def plan(places: Iterable[Place], shape: Shape) -> list[Block]:
    """The requests, in the order of tables and registers. A value wider than the limit still gets its own request."""
    blocks: list[Block] = []
    for place in sorted(set(places)):
        joined = _joined(blocks[-1], place, shape) if blocks else None
        if joined:
            blocks[-1] = joined
        else:
            blocks.append(Block(place.table, place.register, place.width, (place,)))
    return blocks


def without_holes(block: Block, shape: Shape) -> Shape | None:
    """After "illegal address": a shape that reads the block in smaller parts; None when it holds only one value.

    First the holes are left out, since most meters refuse those; then every value is asked for alone.
    """
    behind_holes = [
        place.register
        for before, place in zip(block.places, block.places[1:], strict=False)
        if place.register > before.end
    ]
    starts = behind_holes or [place.register for place in block.places[1:]]
    cuts = shape.cuts | {(block.table, register) for register in starts}
    return replace(shape, cuts=cuts) if cuts != shape.cuts else None


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


def _joined(block: Block, place: Place, shape: Shape) -> Block | None:
    end = max(block.start + block.count, place.end)
    if place.table != block.table or (place.table, place.register) in shape.cuts:
        return None
    if place.register - (block.start + block.count) > WIDEST_HOLE or end - block.start > shape.limit:
        return None
    return replace(block, count=end - block.start, places=(*block.places, place))
