"""Keeps one session connected: opens it, falls back to MQTT 3.1.1, pauses, and tells the operator once per change.

paho's own reconnecting is not used: its pause has no jitter, grows to two minutes, and starts again at every CONNACK,
so two clients with one identity would throw each other out every second for ever.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from drivers.base import NotStored
from drivers.mqtt.port import Connected, Ended, Happening, Session, Subscribed
from drivers.mqtt.topics import minimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from random import Random

    from drivers.base import KeyValues, Now, Ports
    from drivers.mqtt.config import Connection, Protocol
    from drivers.mqtt.reasons import Reason

log = logging.getLogger(__name__)

NEVER = float("inf")
SHORTEST_PAUSE = 1.0  # s
LONGEST_PAUSE = 60.0  # s; more would hide a network that is back
SETUP_PAUSE = 60.0  # s; a wrong password does not mend itself, and brokers ban those who hurry
STABLE = 60.0  # s that a connection must last before the pauses begin anew
FLAPPING = 3  # connections in a row that did not last, after which the operator hears of them as one trouble

ID_IN_USE = "does another client use this gateway's client id?"
FILTERS = "filters"  # key in the driver's memory: what the session at the broker is subscribed to


def pause_after(failures: int, reason: Reason, random: Random) -> float:
    """Seconds until the next attempt after so many failures in a row (at least one)."""
    if reason.trouble == "setup":
        return SETUP_PAUSE * random.uniform(0.75, 1.25)
    longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 10))
    return max(SHORTEST_PAUSE, longest * random.uniform(0.5, 1.0))


class Versions:
    """Which MQTT version to try. A round begins with the one that was accepted last, at first with 5."""

    def __init__(self, configured: Protocol) -> None:
        """`auto` means 5, then 3.1.1."""
        self._order: Sequence[str] = ("5", "3.1.1") if configured == "auto" else (configured,)
        self._position = 0

    @property
    def current(self) -> str:
        """The version for the next attempt."""
        return self._order[self._position]

    def accepted(self) -> None:
        """The broker speaks it: the next round begins with it."""
        others = [each for each in self._order if each != self.current]
        self._order, self._position = (self.current, *others), 0

    def refused(self) -> bool:
        """The broker does not; True when there is another one to try at once."""
        self._position = (self._position + 1) % len(self._order)
        return self._position > 0


class SubscribedFilters:
    """What the session at the broker is subscribed to, remembered over restarts: old filters live on there."""

    def __init__(self, wanted: Iterable[str], memory: KeyValues) -> None:
        """`wanted`: the filters of the configuration."""
        self.wanted = minimal(wanted)
        self._memory = memory

    def known(self) -> bool:
        """Whether there was a session before."""
        return self._memory.get(FILTERS) is not None

    def stale(self) -> list[str]:
        """Filters to unsubscribe."""
        return sorted(set(self._remembered()) - set(self.wanted))

    def about_to_ask(self) -> None:
        """Remember the old and the new ones before the broker hears of them. Raises NotStored."""
        self._remember({*self._remembered(), *self.wanted})

    def answered(self) -> None:
        """The broker has answered: only the wanted ones are left. Raises NotStored."""
        self._remember(set(self.wanted))

    def _remembered(self) -> list[str]:
        try:
            stored = json.loads(self._memory.get(FILTERS) or "[]")
        except ValueError:
            return []
        return [each for each in stored if isinstance(each, str)] if isinstance(stored, list) else []

    def _remember(self, filters: set[str]) -> None:
        if not self.known() or filters != set(self._remembered()):
            self._memory.put(FILTERS, json.dumps(sorted(filters)))


class Supervisor:
    """The life of one connection to a broker; `step` is called by the owner and returns at once."""

    def __init__(
        self, name: str, connection: Connection, filters: Iterable[str], session: Session, ports: Ports
    ) -> None:
        """Opens nothing yet. `filters` may cover each other."""
        self._name = name
        self._connection = connection
        self._session = session
        self._ports = ports
        self._versions = Versions(connection.protocol)
        self._filters = SubscribedFilters(filters, ports.memory)
        self._had_session = self._filters.known()
        self._open = False
        self._due = float("-inf")
        self._failures = 0  # attempts in a row that led to nothing, and
        self._short_lived = 0  # connections in a row among them
        self._connected_at: float | None = None
        self._said: set[str] = set()  # kinds of trouble told in this outage
        self._told_forgetting = False  # that the session was not kept, since a connection last lasted
        self._refused: Mapping[str, str] = {}
        self._withheld = ""
        self.resumed_at: float | None = None  # boottime at which the broker began to send what had waited, if it did
        self.ready_since: float | None = None
        self.listening_since: float | None = None  # boottime of the open connection's SUBACK, if it has come
        self.detail = ""  # what is wrong, in one sentence; "" when nothing is
        self.connects = 0

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the open connection."""
        return self._connected_at is not None

    @property
    def version(self) -> str:
        """The MQTT version of the newest attempt."""
        return self._versions.current

    @property
    def refused(self) -> Mapping[str, str]:
        """Filters that the broker refused on the newest connection, with its reason."""
        return self._refused

    def step(self, now: Now) -> float:
        """Take in what happened, connect when due; returns the boottime of the next attempt or decision."""
        if now.boottime >= self._lasted_at():  # before what happened: a quiet connection gives no other occasion
            self._failures = self._short_lived = 0
            self._told_forgetting = False
            self._back()
        for happening in self._session.happenings():
            self._take_in(happening, now)
        if self._open or self._withheld:
            return self._lasted_at()
        if now.boottime >= self._due:
            self._connect(now)
        return NEVER if self._open else self._due

    def _lasted_at(self) -> float:
        """When the connection will have lasted, if that changes anything."""
        if self._connected_at is None or not (self._failures or self._said or self._told_forgetting):
            return NEVER
        return self._connected_at + STABLE

    def withhold(self, why: str) -> None:
        """Disconnect and stay away, so that the broker keeps what comes; `why` for the operator."""
        self._withheld = self.detail = why
        self._session.shut()
        self._open = False
        self._connected_at = self.listening_since = None

    def resume(self, now: Now) -> None:
        """Connect again."""
        self._withheld = self.detail = ""
        self._due = now.boottime

    def _connect(self, now: Now) -> None:
        try:
            self._filters.about_to_ask()
        except NotStored as error:
            self._due = now.boottime + LONGEST_PAUSE
            self.detail = f"not connected: what is subscribed cannot be remembered: {error}"
            return
        self._open = True
        self._session.open(self._versions.current, self._filters.wanted, self._filters.stale())

    def _take_in(self, happening: Happening, now: Now) -> None:
        if isinstance(happening, Connected):
            self._accepted(happening, now)
        elif isinstance(happening, Subscribed):
            self._subscribed(happening)
        else:
            self._ended(happening, now)

    def _accepted(self, happening: Connected, now: Now) -> None:
        self._versions.accepted()
        self._connected_at = now.boottime
        self.connects += 1
        self.resumed_at = now.boottime if happening.resumed else None
        self.detail = "connected; the broker has not confirmed the subscription yet"
        log.info("%s: connected with MQTT %s, session %s", self._name, self._versions.current, _kept(happening.resumed))
        forgot = self._had_session and not happening.resumed and self._connection.session_expiry
        if forgot and not self._told_forgetting:
            self._told_forgetting = True
            text = "the broker had not kept the session: messages published while the gateway was away are lost"
            self._ports.note("warning", self._name, f"{text}; counters make up for it with their next message")

    def _subscribed(self, happening: Subscribed) -> None:
        self._had_session = True
        self.ready_since = self.listening_since = happening.at
        newly = {each: why for each, why in happening.refused.items() if each not in self._refused}
        self._refused = happening.refused
        self.detail = "; ".join(_refusal(each, why) for each, why in happening.refused.items())
        try:
            self._filters.answered()
        except NotStored as error:
            log.warning("%s: what is subscribed could not be remembered: %s", self._name, error)
        if self._short_lived < FLAPPING:
            self._back()
        for each, why in newly.items():
            self._ports.note("error", self._name, _refusal(each, why))

    def _back(self) -> None:
        """The trouble that was told is over."""
        if self._said:
            self._said.clear()
            self._ports.note("info", self._name, "connected again")

    def _ended(self, happening: Ended, now: Now) -> None:
        reason = happening.reason
        was_connected = self.connected
        self._open = False
        self._connected_at = self.listening_since = None
        if reason.trouble == "version" and self._versions.refused():
            log.info("%s: %s; trying MQTT %s", self._name, reason.text, self._versions.current)
            self._due = now.boottime
            return
        self._failures += 1
        self._short_lived += was_connected
        self._due = now.boottime + pause_after(self._failures, reason, self._ports.random)
        self.detail = reason.text
        if was_connected and self._short_lived >= FLAPPING:
            self.detail += f"; so ended {self._short_lived} connections in a row: {ID_IN_USE}"
            self._tell("flapping", "warning", f"connection lost: {self.detail}")
        elif reason.trouble == "setup":
            self._tell("setup", "error", f"no connection: {reason.text}; a person must mend this")
        elif not self._said:
            what = "connection lost" if was_connected else "no connection"
            self._tell("line", "warning", f"{what}: {reason.text}; trying again")

    def _tell(self, kind: str, level: str, text: str) -> None:
        """Once per outage."""
        if kind not in self._said:
            self._said.add(kind)
            self._ports.note(level, self._name, text)


def _kept(resumed: bool) -> str:  # noqa: FBT001 - one place
    return "resumed" if resumed else "new"


def _refusal(topic_filter: str, why: str) -> str:
    return f'the broker refuses the subscription to "{topic_filter}": {why}; check the rights of this user'
