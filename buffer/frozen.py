"""What is frozen of a meter: where its hours end, and where its source was then. `counter` and `hours` go on from it."""

from __future__ import annotations

from typing import NamedTuple

from buffer.model import Quality

Sample = tuple[int, int]  # (ms since the epoch, micro)


class Former(NamedTuple):
    """A track that was left for a lower level: a source that comes back to it was only away."""

    raw: int
    changed: int
    offset: int
    level: int  # where the new track began


class Track(NamedTuple):
    """Where a register is: its highest value, since when it shows it (ms), and what makes it the total.

    `awaits`: the register was changed for another one, and its first reading will say where that is.
    """

    raw: int
    changed: int
    offset: int = 0
    former: Former | None = None
    awaits: bool = False

    @property
    def total(self) -> int:
        """The sum of all energy, as far as this track tells it."""
        return self.raw + self.offset

    def without(self, energy: int) -> Track:
        """The track after some energy has left the total: it is parked, and the hours go on without it."""
        former = self.former._replace(offset=self.former.offset - energy) if self.former else None
        return self._replace(offset=self.offset - energy, former=former)


class Frozen(NamedTuple):
    """What is already closed: the edge, the boundary value there with its quality, and the newest sample up to it.

    `track` is where a counter's register was at the tail (`buffer.counter`); other kinds have none.
    """

    edge: int
    boundary: int
    quality: Quality
    tail: Sample | None
    track: Track | None = None
