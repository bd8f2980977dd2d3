"""Modbus TCP without waiting: what `drivers.modbus.loop` asks of a connection while all is as usual."""

from __future__ import annotations

from typing import cast

from drivers.modbus import tagged
from drivers.modbus.bus import FRESH, PymodbusBus
from drivers.modbus.line import monotonic
from drivers.modbus.wire import Answer, Request


class PromptBus(PymodbusBus):
    """A line whose frames have numbers, on a socket of its own. Not TLS: there, bytes may have been read before they are asked for."""

    @property
    def at_ease(self) -> bool:
        """Whether the last answer was the usual one and nothing has come since: the next request needs to wait for nothing."""
        return self._line is not None and self._line.settled and not self._line.ready()

    @property
    def deadline(self) -> float:
        """Until when an answer to what `begin` has sent may begin, on the axis of `line.monotonic`."""
        return cast("float", self._line.deadline)

    def fileno(self) -> int:
        """What becomes readable when something is heard; of an open line."""
        return cast("int", self._line.socket.fileno())

    def begin(self, request: Request) -> bool:
        """Send without waiting for anything; False where that cannot be, and nothing was sent: then it is for `read`.

        So it is with late bytes, with a connection that was closed while it was idle, and where another question goes first.
        """
        line, now = self._line, monotonic()
        if line is None or not line.settled or request.gap or self._awaited.mistakable(request, now):
            return False
        unlooked = now - line.last < FRESH
        if now < self._quiet_until or (not unlooked and line.ready()):
            return False
        line.expect(request.timeout, 0, 0)
        try:
            if not line.send_at_once(tagged.frame(line, request)):
                return False
        except OSError:
            return False
        line.settled = False
        self._begun, self._unlooked = request, unlooked
        return True

    def at_hand(self) -> Answer | None:
        """The usual answer to what `begin` has sent, where it has come; None for anything else, which `read` then judges."""
        line, request = self._line, self._begun
        assert request is not None
        try:
            line.hear_at_once()
        except OSError:  # the next look at the line says it again
            return None
        words = tagged.usual(line.transaction_id, request, line.heard)
        if words is None:
            return None
        self._show(line)
        line.settled, self._begun, self._silences = True, None, 0
        self._awaited.answered(request)
        return Answer(words, line.last - line.started)
