"""Whether a broker's narrow window wears out the card, and what to do about it. Pure.

A commit of 20 readings writes 12 kB, one of 80 writes 24 kB. 200 meters at 60 s come to 170 MB a day at a broker that sends
20 messages ahead of their acknowledgements (130 with mosquitto 2.0.11, which does not keep to it), and to 65 at one that sends more.
"""

from __future__ import annotations

WATCHED = 3600.0  # s of a connection
PER_COMMIT, PER_READING = 8_200, 190  # bytes
NARROW = 2  # times the usual window: batches that are larger are not the window's fault
MUCH = 100_000_000  # bytes a day (DESIGN 12)
DAY = 86_400.0


class Wear:
    """The commits of one connection. All times are boottime in seconds."""

    def __init__(self, window: int) -> None:
        """`window`: messages that most brokers send ahead."""
        self._window = window
        self._since: float | None = None
        self._commits = self._messages = 0
        self._told = False

    def begin(self, boottime: float, *, limited: bool) -> None:
        """A connection begins; `limited`: nobody has told the broker how many to send ahead."""
        self._since = boottime if limited and not self._told else None
        self._commits = self._messages = 0

    def stored(self, boottime: float, messages: int) -> str:
        """A batch of so many messages was stored; returns what an operator should know, once."""
        if self._since is None:
            return ""
        self._commits += 1
        self._messages += messages
        if boottime - self._since < WATCHED:
            return ""
        written = self._commits * PER_COMMIT + self._messages * PER_READING
        a_day = written * DAY / (boottime - self._since)
        self._since = None
        each = self._messages / self._commits
        if a_day < MUCH or not self._window <= each <= NARROW * self._window:
            return ""
        self._told = True
        return (
            f"with MQTT 3.1.1 this broker sends so few messages ahead that every {each:.0f} are a commit: some "
            f"{a_day / 1e6:.0f} MB are written a day. max_inflight_messages 1000 in mosquitto.conf halves that, as MQTT 5 does"
        )
