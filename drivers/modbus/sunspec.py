"""Where a device's SunSpec models begin: the walk along the chain. Pure; the device asks what `wanted` says.

"SunS" stands at one of three registers; then follow the models, each with its ID, its length L and L registers more. The
chain ends with ID 0xFFFF. One device is asked a handful of times, once after each start and each failure, and when a model is
no longer where it was: firmware moves models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.plan import REGISTERS, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

BASES = (40_000, 50_000, 0)
MARK = (0x5375, 0x6E53)  # "SunS"
END = 0xFFFF
HEADER = 2  # registers: ID and L
MOST_MODELS = 200  # a chain of empty models would else be walked through 32 000 requests


class Model(NamedTuple):
    """A model of a device: `register` holds its number, the next one its length, which so many registers follow."""

    number: int
    register: int
    length: int

    @property
    def header(self) -> Place:
        """What tells it from others."""
        return Place("holding", self.register, HEADER)

    @property
    def end(self) -> int:
        """The register after it."""
        return self.register + HEADER + self.length


class Walk:
    """One walk. `models`: the models in the order of the chain."""

    def __init__(self, first: int = 0) -> None:
        """Begin at the base of this number: one that is silent must not hide the others for ever."""
        self.models: list[Model] = []
        self.wanted: Place | None = None
        self._bases = [BASES[(first + turn) % len(BASES)] for turn in range(len(BASES))]
        self._asked = 0
        self._marked = False
        self._next_base()

    def heard(self, words: Sequence[int] | None) -> None:
        """The words of `wanted`; None where the device gives none."""
        if self.wanted is None:
            return
        if words is None:
            self.refused()
            return
        here = self.wanted
        if not self._marked:
            if tuple(words) != MARK:
                self._next_base()
                return
            self._marked = True
            self._go(here.end)
            return
        model, length = words
        if model == END:
            self.wanted = None
            return
        self.models.append(Model(model, here.register, length))
        self._go(here.end + length)

    def refused(self) -> None:
        """The device gives none of `wanted`: no map here, or a chain without an end."""
        if self._marked:
            self.wanted = None
        else:
            self._next_base()

    @property
    def found(self) -> str:
        """For people."""
        if self._marked:
            return (
                f"this device has the SunSpec models {', '.join(str(model.number) for model in self.models) or 'none'}"
            )
        return f'there is no "SunS" at {", ".join(map(str, BASES))}'

    def _next_base(self) -> None:
        self.wanted = Place("holding", self._bases.pop(0), len(MARK)) if self._bases else None

    def _go(self, register: int) -> None:
        self._asked += 1
        inside = register + HEADER <= REGISTERS and self._asked <= MOST_MODELS
        self.wanted = Place("holding", register, HEADER) if inside else None
