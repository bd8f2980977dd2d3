"""Messages that may have waited in the broker while the gateway was away, and have no time of their own. Pure.

Right after a session was resumed nobody knows how old such a message is: it may be from the start of the outage, or one
that was stored just before the connection broke. Booked at the moment of its arrival, the first one would say that the
counter stood still until now, and the last one that all of the outage's energy passed in one instant: every hour of the
outage would be wrong. So of each source only the newest counts; the energy is then spread over the outage like over any
other gap. A message is told from the newest by waiting a moment for the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from drivers.mqtt.port import Message
    from drivers.reading import Reading

QUIET = 2.0  # s without any message or acknowledgement after which what comes is fresh
LONGEST = 120.0  # s after which what comes is taken as fresh in any case; 100 000 messages pass in less
HELD_FOR = 1.0  # s without a newer one of the same source after which a reading counts


class Held(NamedTuple):
    """A reading that a newer one of its source may still replace. Its message is not acknowledged meanwhile (R3)."""

    reading: Reading
    message: Message


class Backlog:
    """What came after the session was resumed. All times are boottime in seconds."""

    def __init__(self, flush: float) -> None:
        """`flush`: seconds without any message or acknowledgement after which nothing newer is expected."""
        self._flush = flush
        self._began: float | None = None
        self._heard = 0.0
        self._room = 0
        self._held: dict[str, Held] = {}  # by source, the oldest first
        self._answered: dict[str, float] = {}  # by source, the first acknowledgement since what is held of it came

    def begin(self, boottime: float, room: int) -> None:
        """The broker has resumed the session. `room`: messages that may be held without its waiting for us."""
        self._room = room
        self._began = self._heard = boottime

    @property
    def lasts(self) -> bool:
        """Whether what came last may have waited."""
        return self._began is not None

    def concerns(self, message: Message) -> bool:
        """Whether the message may have waited. To be asked once for every message, in order."""
        arrived = message.arrived.boottime
        if self._began is not None and (arrived - self._heard >= QUIET or arrived - self._began >= LONGEST):
            self._began = None
        self._heard = max(self._heard, arrived)
        return self._began is not None

    def acknowledged(self, boottime: float) -> None:
        """The broker has been told to go on: one whose window was full has sent nothing for as long as that took."""
        self._heard = max(self._heard, boottime)
        for source in self._held:
            self._answered.setdefault(source, boottime)

    def hold(self, held: Held) -> list[Held]:
        """Keep a reading; returns what is given up for it: the older one of its source, and the oldest message."""
        source = held.reading.source
        given_up = [self._pop(source)] if source in self._held else []
        self._held[source] = held
        if len(self._held) > self._room and len(self.messages()) > self._room:
            oldest = next(iter(self._held.values())).message
            sources = [name for name, each in self._held.items() if each.message is oldest]
            given_up += [self._pop(name) for name in sources]
        return given_up

    def release(self, boottime: float, *, owing: bool = False) -> list[Reading]:
        """The readings that nothing newer has replaced in time. To be asked only when no message waits for us.

        `owing`: acknowledgements are still to be sent, and the broker may be waiting for them.
        """
        due = [source for source in self._held if boottime >= self._due(source, owing=owing)]
        return [self._pop(source).reading for source in due]

    def due(self, *, owing: bool = False) -> float:
        """When `release` will have something; infinity when nothing is held, or only an acknowledgement will show."""
        return min((self._due(source, owing=owing) for source in self._held), default=float("inf"))

    def messages(self) -> set[int]:
        """The `id()` of every message of which a reading is held."""
        return {id(each.message) for each in self._held.values()}

    def _due(self, source: str, *, owing: bool) -> float:
        due = min(self._heard + self._flush, self._held[source].message.arrived.boottime + HELD_FOR)
        answered = self._answered.get(source)
        if answered is None:
            return float("inf") if owing else due
        return max(due, answered + self._flush)

    def _pop(self, source: str) -> Held:
        self._answered.pop(source, None)
        return self._held.pop(source)
