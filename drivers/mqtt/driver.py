"""The MQTT driver: messages in, one durable batch, then their acknowledgements (reliability R3, R4 and 3.5)."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, cast

from drivers.base import Health, LastRead, NotStored
from drivers.mqtt.backlog import HELD_FOR, Backlog, Held
from drivers.mqtt.config import Connection, pace
from drivers.mqtt.gathering import AT_ONCE, Gathering
from drivers.mqtt.outgoing import Outgoing
from drivers.mqtt.session import PahoSession
from drivers.mqtt.source import Source, kind_of, mark_of
from drivers.mqtt.staleness import Expected, Staleness
from drivers.mqtt.supervisor import NEVER, Supervisor
from drivers.mqtt.topics import covers
from drivers.mqtt.translator import Translator
from drivers.mqtt.wear import Wear
from drivers.reading import Reading, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from drivers.base import Clock, DeliverTogether, Driver, Helper, Now, Ports
    from drivers.mqtt.port import Message, Session

log = logging.getLogger(__name__)

WINDOW = 20  # messages that brokers send ahead of acknowledgements with MQTT 3.1.1 (mosquitto.conf(5))
MOST = 500  # messages in one batch
YOUNG = 60.0  # s of a connection in which messages are stored soon: somebody may stand there and wait for them
LOOK_AFTER = 10  # messages translated between two looks at the clock
RETRY_FIRST = 0.5  # s until a batch that was not stored is offered again; doubles
RETRY_LONGEST = 15.0  # s
PATIENCE = 60.0  # s of a store that takes nothing, until the broker is left to keep the messages


def build(name: str, connection: BaseModel, sources: Mapping[str, BaseModel], ports: Ports) -> MqttDriver:
    """A driver that has touched nothing yet. `connection.password` is the secret itself, not a reference to it."""
    settings = cast("Connection", connection)
    session = PahoSession(settings, settings.client_id or ports.client_id, ports.clock)
    return MqttDriver(name, settings, cast("Mapping[str, Source]", sources), ports, session)


def share(drivers: Sequence[Driver], clock: Clock, deliver: DeliverTogether, longest_wait: float) -> Sequence[Helper]:
    """Nothing: a broker has a thread of its own, and paho another one."""
    del drivers, clock, deliver, longest_wait
    return ()


class MqttDriver:
    """One broker and the sources behind its topics. See `drivers.base.Driver`."""

    def __init__(
        self, name: str, connection: Connection, sources: Mapping[str, Source], ports: Ports, session: Session
    ) -> None:
        """`session` is closed with the driver."""
        self.name = name
        self.wake = session.wake
        self._connection = connection
        self._sources = sources
        self._ports = ports
        self._session = session
        topics = [source.topic for source in sources.values()]
        self._supervisor = Supervisor(name, connection, topics, session, ports)
        self._translator = Translator(sources, ports.memory)
        self._outgoing = Outgoing(sources.values(), self._translator.births.lost, session.publish)
        self._backlog = Backlog(HELD_FOR)
        self._gathering = Gathering(connection.flush, MOST)
        self._wear = Wear(WINDOW)
        expected = {
            each: Expected(source.topic, pace(connection, source), mark_of(source)) for each, source in sources.items()
        }
        self._staleness = Staleness(expected)
        self._connects = 0  # those that were noticed
        self._taken: deque[Message] = deque()  # not translated yet
        self._batch: list[Reading | Rejected] = []  # translated, not stored yet
        self._unacknowledged: list[Message] = []  # translated, in the order of their arrival
        self._acknowledged = 0
        self._failing = _Failing()

    def step(self, now: Now) -> float:
        """Take what has come, store it, acknowledge it; connect when due. Waits for nothing but `deliver`."""
        refused = bool(self._failing.detail)  # there is a batch that the store did not take
        if not refused:
            self._taken.extend(self._session.take(self._gathering.room - len(self._taken)))
        full = len(self._taken) >= self._gathering.room
        due = self._supervisor.step(now)  # after `take`: a message is never ahead of its Connected
        self._notice_connection()
        self._outgoing.speak(now, self._supervisor.connects if self._supervisor.connected else None)
        if refused and now.boottime < self._failing.retry_at:
            return min(due, self._failing.retry_at)
        if not refused:
            gathered = self._translate(now, drained=not full)
            due = min(due, self._tell_silence(now.boottime))
            if gathered > self._ports.clock.now().boottime:
                return min(due, gathered, self._backlog.due(owing=self._owing), self._outgoing.due())
        if not self._store():
            return min(due, self._failing.retry_at)
        self._acknowledge()
        return now.boottime if full or self._taken else min(due, self._backlog.due(), self._outgoing.due())

    def poll(self, now: Now) -> None:
        """Keep listening: sources speak when they like."""
        self.step(now)

    def health(self) -> Health:
        """As the protocol says; `counts` besides: ignored (a matter of course), reconnects, dropped_qos0."""
        counts = {key: self._translator.counts[key] for key in ("messages", "readings", "rejected", "ignored")}
        counts["acknowledged"] = self._acknowledged
        counts["reconnects"] = max(0, self._supervisor.connects - 1)
        counts["dropped_qos0"] = self._session.dropped()
        detail = self._failing.detail or self._supervisor.detail or self._staleness.all_silent
        ready = self._supervisor.ready_since
        state = "trouble" if detail else "ok" if ready is not None else "starting"
        return Health(state, detail, ready, counts, self._devices())

    def last_reads(self) -> Mapping[str, LastRead]:
        """As the protocol says."""
        return self._translator.last_reads.copy()

    def close(self) -> None:
        """Store what was gathered and disconnect; what is not acknowledged stays at the broker."""
        if self._batch and not self._failing.detail and self._store():
            self._acknowledge()
        self._session.close()

    def _tell_silence(self, boottime: float) -> float:
        """Tell of meters that fell silent or speak again; returns when (boottime) the next one may have to be told."""
        since = self._supervisor.listening_since
        heard, passed = self._translator.heard, self._translator.passed
        for level, meter, text in self._staleness.look(boottime, since, heard, self._refused(), passed):
            self._ports.note(level, meter or self.name, text)
        return self._staleness.due

    def _refused(self) -> dict[str, str]:
        """Sources whose subscription the broker refuses, and why."""
        return {
            name: why
            for each, why in self._supervisor.refused.items()
            for name, source in self._sources.items()
            if covers(each, source.topic)
        }

    def _notice_connection(self) -> None:
        if self._connects == self._supervisor.connects:
            return
        self._connects = self._supervisor.connects
        window = self._connection.receive_maximum
        if self._supervisor.version == "5":
            self._gathering.window(max(1, window // 2))
        else:
            window = WINDOW
            self._gathering.window(MOST, usual=WINDOW)
        self._wear.begin(self._ports.clock.now().boottime, limited=self._supervisor.version != "5")
        if self._supervisor.resumed_at is not None:
            self._backlog.begin(self._supervisor.resumed_at, max(1, window // 2))

    def _translate(self, now: Now, *, drained: bool) -> float:
        """Into the batch; returns when (boottime) it is to be stored. `drained`: no more messages wait in the session."""
        until = now.boottime + AT_ONCE
        boottime = now.boottime
        while self._taken and boottime < until:
            message = self._taken.popleft()
            self._unacknowledged.append(message)
            self._gathering.add(message)
            self._batch += self._fresh(message)
            if not len(self._taken) % LOOK_AFTER:
                boottime = self._ports.clock.now().boottime
        released = self._backlog.release(boottime, owing=self._owing) if drained and not self._taken else []
        self._batch += released
        if released or self._taken or not self._supervisor.connected:
            return -NEVER
        since = self._supervisor.listening_since
        young = since is None or boottime - since < YOUNG
        return self._gathering.due(hurry=young or self._backlog.lasts)

    @property
    def _owing(self) -> bool:
        """Whether there is something to acknowledge besides what is held back."""
        return len(self._unacknowledged) > len(self._backlog.messages())

    def _fresh(self, message: Message) -> list[Reading | Rejected]:
        """What the message says, without what a newer message of the backlog may still replace."""
        items = self._translator.translate(message)
        if not self._backlog.concerns(message):
            return items
        fresh: list[Reading | Rejected] = []
        for item in items:
            if isinstance(item, Rejected) or item.stamped or kind_of(self._sources[item.source]) == "interval":
                fresh.append(item)
            else:
                for given_up in self._backlog.hold(Held(item, message)):
                    fresh += self._translator.given_up(given_up.reading.source, given_up.message)
        return fresh

    def _store(self) -> bool:
        """Make the batch durable; False when it is to be offered again later."""
        if not self._batch:
            return True
        batch, self._batch = self._batch, []  # after any other error it is not offered again: the worker dies of that
        try:
            self._ports.deliver(batch)
        except NotStored as error:
            self._batch = batch
            self._not_stored(str(error))
            return False
        if self._failing.withheld:
            self._ports.note("info", self.name, "readings are stored again; connecting")
            self._supervisor.resume(self._ports.clock.now())
        self._failing = _Failing()
        return True

    def _not_stored(self, why: str) -> None:
        now = self._ports.clock.now()
        failing = self._failing
        failing.again(now, why)
        if not failing.withheld and now.boottime - failing.since >= PATIENCE:
            failing.withheld = True
            text = f"nothing could be stored for {PATIENCE:g} s ({why}): disconnected, the broker keeps the messages"
            self._supervisor.withhold(text)
            self._ports.note("error", self.name, text)

    def _acknowledge(self) -> None:
        """Acknowledge all messages whose content is durable: everything translated but what is held."""
        held = self._backlog.messages()
        done = [message for message in self._unacknowledged if id(message) not in held]
        self._unacknowledged = [message for message in self._unacknowledged if id(message) in held]
        self._acknowledged += self._session.acknowledge(done)
        boottime = self._ports.clock.now().boottime
        self._gathering.stored(boottime)
        if done:
            self._backlog.acknowledged(boottime)
        if done and (hint := self._wear.stored(boottime, sum(message.qos > 0 for message in done))):
            self._ports.note("info", self.name, hint)

    def _devices(self) -> dict[str, str]:
        refused = self._refused()
        return {name: self._device(name, refused.get(name)) for name in self._sources}

    def _device(self, name: str, refused: str | None) -> str:
        if refused:
            return f"subscription refused: {refused}"
        if silent := self._staleness.words.get(name):
            return silent
        read = self._translator.last_reads.get(name)
        if read is None:
            return "nothing heard yet: does the topic exist, and may this user read it?"
        return read.problem or "ok"


class _Failing:
    """A store that takes nothing: since when, and when to try again. All times are boottime."""

    def __init__(self) -> None:
        self.since = 0.0
        self.retry_at = -NEVER
        self.detail = ""
        self.withheld = False
        self._pause = 0.0

    def again(self, now: Now, why: str) -> None:
        if not self._pause:
            self.since = now.boottime
            log.warning("readings could not be stored, trying again: %s", why)
        self._pause = min(RETRY_LONGEST, 2 * self._pause or RETRY_FIRST)
        self.retry_at = now.boottime + self._pause
        self.detail = f"readings could not be stored: {why}"
