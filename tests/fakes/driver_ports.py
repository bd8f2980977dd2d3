"""What a driver is given besides its configuration, kept in lists so that a test can look at it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from drivers.base import Clock, NotStored, Ports
from drivers.reading import Reading, Rejected


class FakePorts:
    """A store, a memory and an operator's log.

    `batches` holds what each successful `deliver` brought, in order. While `full` is set, `deliver` and the memory's
    `put` raise NotStored, as the store does when the disk is full; `refused` counts the deliveries that met it. `puts` counts
    what the memory was asked to write.
    """

    def __init__(self, clock: Clock, memory: dict[str, str] | None = None) -> None:
        self.batches: list[list[Reading | Rejected]] = []
        self.notes: list[tuple[str, str, str]] = []
        self.memory: dict[str, str] = {} if memory is None else memory
        self.full = False
        self.refused = 0
        self.puts = 0
        self.spoken_for: list[int] = []  # by each `deliver_together`
        self.ports = Ports(clock, self.deliver, self, lambda *note: self.notes.append(note), Random(1), "gateway-test")

    @property
    def readings(self) -> list[Reading]:
        """All that is stored, in the order of its arrival."""
        return [item for batch in self.batches for item in batch if isinstance(item, Reading)]

    @property
    def rejected(self) -> list[Rejected]:
        """The rejections that are stored."""
        return [item for batch in self.batches for item in batch if isinstance(item, Rejected)]

    def of(self, source: str) -> list[Reading]:
        """The readings of one source."""
        return [reading for reading in self.readings if reading.source == source]

    def deliver(self, batch: Sequence[Reading | Rejected]) -> None:
        if self.full:
            self.refused += 1
            raise NotStored("disk full")
        self.batches.append(list(batch))

    def deliver_together(self, batches: Sequence[tuple[str, Sequence[Reading | Rejected]]], connections: int) -> None:
        self.deliver([item for _, batch in batches for item in batch])
        self.spoken_for.append(connections)

    def get(self, key: str) -> str | None:
        return self.memory.get(key)

    def put(self, key: str, value: str) -> None:
        self.puts += 1
        if self.full:
            raise NotStored("disk full")
        self.memory[key] = value
