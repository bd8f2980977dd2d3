"""Whether a broker's narrow window wears out the card, and what to do about it. Pure.

A commit of 20 readings writes three pages, 12 KiB; one of 80 writes 23 KiB. 200 meters at 60 s come to 170 MB a day at a
broker that sends 20 messages ahead of their acknowledgements, and to 80 MB at one that sends more.
"""

from __future__ import annotations

WATCHED = 3600.0  # s of a connection
COMMIT = 12_000  # bytes that 20 readings cost
MUCH = 100_000_000  # bytes a day (DESIGN 12)
DAY = 86_400.0


class Wear:
    """The commits of one connection. All times are boottime in seconds."""

    def __init__(self, window: int) -> None:
        """`window`: messages of a batch that a broker with the usual limit ends."""
        self._window = window
        self._since: float | None = None
        self._narrow = 0
        self._told = False

    def begin(self, boottime: float, *, limited: bool) -> None:
        """A connection begins; `limited`: nobody has told the broker how many to send ahead."""
        self._since = boottime if limited and not self._told else None
        self._narrow = 0

    def stored(self, boottime: float, messages: int) -> str:
        """A batch of so many messages was stored; returns what an operator should know, once."""
        if self._since is None:
            return ""
        self._narrow += messages == self._window
        if boottime - self._since < WATCHED:
            return ""
        a_day = self._narrow * COMMIT * DAY / (boottime - self._since)
        self._since = None
        if a_day < MUCH:
            return ""
        self._told = True
        return (
            f"with MQTT 3.1.1 this broker sends {self._window} messages ahead, so each {self._window} are a commit: some "
            f"{a_day / 1e6:.0f} MB are written a day. max_inflight_messages 1000 in mosquitto.conf halves that, as MQTT 5 does"
        )
