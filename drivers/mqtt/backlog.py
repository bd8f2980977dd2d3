"""Messages that may have waited in the broker while the gateway was away, and have no time of their own. Pure.

Right after a session was resumed nobody knows how old such a message is: it may be from the start of the outage.
Booked at the moment of its arrival, the first one would say that the counter stood still until now, and the last one
that all of the outage's energy passed in one instant: every hour of the outage would be wrong. So of each source only
the newest counts; the energy is then spread over the outage like over any other gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from drivers.mqtt.session import Message
    from drivers.reading import Reading

QUIET = 2.0  # s without any message after which what comes is fresh
LONGEST = 120.0  # s after which what comes is taken as fresh in any case; 100 000 messages pass in less
HELD_AT_MOST = 1.0  # s without a newer one of the same source after which a reading counts


class Held(NamedTuple):
    """A reading that a newer one of its source may still replace. Its message is not acknowledged meanwhile."""

    reading: Reading
    message: Message


class Backlog:
    """What came after the session was resumed. All times are boottime in seconds."""

    def __init__(self, flush: float) -> None:
        """`flush`: seconds of silence after which nothing is held: the broker may be waiting for acknowledgements."""
        self._flush = flush
        self._began: float | None = None
        self._heard = 0.0
        self._held: dict[str, Held] = {}

    def begin(self, boottime: float) -> None:
        """The broker has resumed the session."""
        self._began = self._heard = boottime

    def concerns(self, message: Message) -> bool:
        """Whether the message may have waited. To be asked once for every message, in order."""
        arrived = message.arrived.boottime
        if self._began is not None and (arrived - self._heard >= QUIET or arrived - self._began >= LONGEST):
            self._began = None
        self._heard = max(self._heard, arrived)
        return self._began is not None

    def hold(self, held: Held) -> Held | None:
        """Keep a reading instead of the older one of its source, which is returned."""
        older = self._held.get(held.reading.source)
        self._held[held.reading.source] = held
        return older

    def release(self, boottime: float) -> list[Reading]:
        """The readings that nothing newer has replaced in time."""
        due = [source for source in self._held if boottime >= self._due(source)]
        return [self._held.pop(source).reading for source in due]

    def due(self) -> float:
        """When `release` will have something; infinity when nothing is held."""
        return min((self._due(source) for source in self._held), default=float("inf"))

    def holds(self, message: Message) -> bool:
        """Whether a reading of this message is still held."""
        return any(held.message is message for held in self._held.values())

    def _due(self, source: str) -> float:
        return min(self._heard + self._flush, self._held[source].message.arrived.boottime + HELD_AT_MOST)
