"""What every driver is, what it is given, and how it fails.

DriverError
├── LineError          the connection is unusable: reopen it, pause, try again
├── AnswerError        this answer is no reading: count it, go on with the next device
└── SetupError         the operator must change something: said once, not retried in a hurry

NotStored              raised by `deliver`: nothing of the batch is durable, nothing may be acknowledged
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from random import Random
from threading import Event
from typing import NamedTuple, Protocol

from drivers.reading import Reading, Rejected


class DriverError(Exception):
    """A driver's own failure; `raw` carries the bytes or words that led to it, for diagnosis."""

    def __init__(self, message: str, *, raw: bytes = b"") -> None:
        """Keep the message for people and the raw bytes for diagnosis."""
        super().__init__(message)
        self.raw = raw


class LineError(DriverError):
    """The connection itself is unusable."""


class AnswerError(DriverError):
    """One device gave no usable answer; the connection goes on."""


class SetupError(DriverError):
    """Only the operator can mend this (permission, certificate, address)."""


class NotStored(Exception):  # noqa: N818 - named for what the driver must act on
    """The store could not make a batch durable; the driver keeps it unacknowledged or lets the next poll cover it."""


class Now(NamedTuple):
    """One look at the clock.

    `boottime` is seconds since boot (CLOCK_BOOTTIME, or its scaled stand-in): schedules use only this. `wall` is aware UTC.
    `trusted` says whether `wall` may decide which hour something belongs to (reliability R5).
    """

    boottime: float
    wall: datetime
    trusted: bool


class Clock(Protocol):
    """The only source of time and the only way to wait."""

    def now(self) -> Now:
        """One consistent look at boottime, wall and trust."""
        ...

    def wait(self, wake: Event, until: float | None) -> bool:
        """Wait until `wake` is set or boottime reaches `until` (None: for ever); True when woken. Does not clear `wake`."""
        ...


class KeyValues(Protocol):
    """What a driver must remember over restarts (split plans, filters, aliases): the table `driver_state`."""

    def get(self, key: str) -> str | None:
        """The value stored under `key` for this connection, or None."""
        ...

    def put(self, key: str, value: str) -> None:
        """Store `value` durably under `key` for this connection; raises NotStored."""
        ...


Deliver = Callable[[Sequence[Reading | Rejected]], None]
"""When it returns, the whole batch is durable; raises NotStored when none of it is. Blocks; thread-safe."""

DeliverTogether = Callable[[Sequence[tuple[str, Sequence[Reading | Rejected]]], int], None]
"""The same for several polled connections, by their names; besides, for how many connections nobody else delivers."""

Note = Callable[[str, str, str], None]
"""`note(level, subject, text)`: an event that an operator should know; level is info, warning or error."""


@dataclass(frozen=True, slots=True)
class LastRead:
    """The newest look at one source, good or not, for `read` and `status`."""

    at: datetime
    raw: str  # words in hex, or the payload, cut to 200 characters
    value: Decimal | None = None  # None when it was no reading
    unit: str = ""
    problem: str = ""  # why it was no reading
    took_ms: float | None = None  # round trip, where there is one
    where: str = ""  # "device 1 holding 1024" or the topic


@dataclass(slots=True)
class Health:
    """How one connection is, for `status`. Counters count since start."""

    state: str = "starting"  # starting | ok | trouble
    detail: str = ""  # one sentence when not ok
    ready_since: float | None = None  # boottime of the SUBACK or the end of the first poll round; None before it
    counts: dict[str, int] = field(default_factory=dict)  # e.g. polls, readings, timeouts, rejected
    devices: dict[str, str] = field(default_factory=dict)  # device -> "ok" or what is wrong
    device_counts: dict[str, dict[str, int]] = field(default_factory=dict)  # device -> e.g. requests, timeouts


class Driver(Protocol):
    """One connection and the sources behind it, owned by one thread at a time: the one that calls `step`, or a `Helper`'s.

    A driver is built without touching the wire; the first `step` opens it. `step` acts once (one device's poll, one message
    batch) and returns quickly: no longer than one request's timeout per call where the wire allows.
    """

    name: str
    wake: Event  # set by the driver when it has work before `next_due`, or by the supervisor to stop

    def step(self, now: Now) -> float | None:
        """Decide and act once; returns the boottime at which it wants to be called again, None: not before it is woken."""
        ...

    def poll(self, now: Now) -> None:
        """Look at every source once now (Modbus: read; MQTT: keep listening); for `read`. Delivers like `step`."""
        ...

    def health(self) -> Health:
        """A snapshot that any thread may take."""
        ...

    def last_reads(self) -> Mapping[str, LastRead]:
        """Newest look per source id; a snapshot that any thread may take."""
        ...

    def close(self) -> None:
        """Release the wire; called by the owner thread, or after it has ended. Never raises, may be called twice."""
        ...


class Helper(Protocol):
    """Serves several drivers of one kind, in a thread of its own."""

    name: str
    wake: Event

    def step(self, now: Now) -> float | None:
        """As `Driver.step`."""
        ...

    def close(self) -> None:
        """As `Driver.close`."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a driver is given besides its configuration."""

    clock: Clock
    deliver: Deliver
    memory: KeyValues
    note: Note
    random: Random
    client_id: str  # stable identity of this gateway on this connection (MQTT client id)
