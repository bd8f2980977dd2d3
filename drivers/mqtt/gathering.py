"""When what has come is stored and acknowledged: few commits, and a broker that never waits for us for long. Pure.

A commit writes a whole page of 4 KiB however little is in it: messages that come one by one are gathered. A broker sends
only so many ahead of their acknowledgements, and how many it does not say: our receive maximum bounds it above, and
brokers have limits of their own (10 with RabbitMQ, 20 with mosquitto and MQTT 3.1.1, 1 where an operator wants order). One
that had to stop shows it: half as many as were acknowledged, or more, follow the acknowledgement at once. As long as they
do, just so many are taken for its limit, and nothing is waited for.

With MQTT 3.1.1 nobody tells the broker a limit, and most have 20. Once 20 wait, one that still sends has another limit, and
is listened to; when it falls quiet, by the pace of the batch so far, it is taken to have stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.mqtt.port import Message

QUIET = 6  # times the batch's own pace: once in 400 is a gap between messages of many meters longer by chance
QUIET_AT_MOST = 2.0  # s
AT_ONCE = 0.2  # s after an acknowledgement within which a broker has sent what it held back
INFINITY = float("inf")


class Gathering:
    """The messages of one batch. All times are boottime in seconds."""

    def __init__(self, patience: float, most: int) -> None:
        """`patience`: s that the first message of a batch may wait; `most`: messages in a batch, of any QoS."""
        self._patience = patience
        self._most = most
        self._window = self._limit = self._usual = most
        self._first = self._newest = INFINITY
        self._count = 0
        self._unacknowledged = 0
        self._acknowledged_at = -INFINITY
        self._acknowledged = 0
        self._followed = 0
        self._hurried = False

    def window(self, messages: int, usual: int | None = None) -> None:
        """How many messages of QoS 1 may wait for their acknowledgement: less than stops the broker.

        `usual`: where that is not known, how many brokers mostly have. To be said once for each connection.
        """
        self._window = self._limit = min(messages, self._most)
        self._usual = min(usual or self._window, self._window)

    @property
    def room(self) -> int:
        """How many messages still fit into the batch."""
        return self._most - self._count

    def add(self, message: Message) -> None:
        """A message waits to be stored."""
        arrived = message.arrived.boottime
        self._first, self._newest = min(self._first, arrived), arrived
        self._count += 1
        self._unacknowledged += message.qos > 0
        if self._acknowledged and 0 <= arrived - self._acknowledged_at <= AT_ONCE:
            self._followed += message.qos > 0
            if 2 * self._followed >= self._acknowledged and not self._hurried:
                self._hurried = True
                self._limit = min(self._window, self._acknowledged)

    def due(self, *, hurry: bool) -> float:
        """When the batch is to be stored: -infinity for at once, infinity while nothing waits. `hurry`: wait for little."""
        if not self._count:
            return INFINITY
        if self._count >= self._most or self._unacknowledged >= self._limit:
            return -INFINITY
        latest = self._first + min(self._patience, AT_ONCE if hurry or self._hurried else INFINITY)
        if self._unacknowledged < self._usual or self._usual == self._limit:
            return latest
        pace = (self._newest - self._first) / self._count
        return min(latest, self._newest + min(QUIET_AT_MOST, max(AT_ONCE, QUIET * pace)))

    def stored(self, boottime: float) -> None:
        """The batch is durable and acknowledged: the next one begins."""
        if not self._count:
            return
        self._acknowledged_at, self._acknowledged = boottime, self._unacknowledged
        self._first, self._newest = INFINITY, INFINITY
        self._count, self._unacknowledged, self._followed = 0, 0, 0
        self._hurried, self._limit = False, self._window
