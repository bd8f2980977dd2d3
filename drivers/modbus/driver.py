"""The Modbus driver: every device of a connection, one request at a time, on the slots of the wall clock."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, cast

from drivers.base import LineError, NotStored, SetupError
from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.cautions import hint
from drivers.modbus.device import Device, Look, Problem, Round
from drivers.modbus.health import health_of
from drivers.modbus.limits import devices_of
from drivers.modbus.loop import Loop
from drivers.modbus.pace import Reconnecting
from drivers.modbus.prompt import PromptBus
from drivers.modbus.reader import Reader, completed
from drivers.modbus.storing import KEPT, Storing
from drivers.modbus.turns import Turns
from drivers.modbus.wire import Aside, Unfinished, asked_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from drivers.base import Clock, DeliverTogether, Driver, Health, LastRead, Now, Ports
    from drivers.modbus.connection import Connection
    from drivers.modbus.source import Source
    from drivers.modbus.wire import Asking, Bus, Wish
    from drivers.reading import Reading, Rejected

log = logging.getLogger(__name__)

LONGEST_STEP = 10.0  # s, and what one request takes: whoever watches the thread must see that it lives
LONGEST_END = 2.0  # s, and what one request takes, for a turn that is under way when the service stops
GATHER = 2.0  # s for which readings of one round may wait for the round's end
LOST_TOO_OFTEN = 2  # times before, with no answer in between


def build(name: str, connection: BaseModel, sources: Mapping[str, BaseModel], ports: Ports) -> ModbusDriver:
    """A driver that has touched nothing yet."""
    settings = cast("Connection", connection)
    address = address_of(settings.url)
    bus = (PromptBus if address.scheme == "tcp" else PymodbusBus)(settings, address, alone=False)
    return ModbusDriver(name, settings, cast("Mapping[str, Source]", sources), ports, bus)


def share(
    drivers: Sequence[Driver], clock: Clock, deliver: DeliverTogether, longest_wait: float
) -> Sequence[Loop | Storing]:
    """One thread for what is as usual on all Modbus TCP connections, and one that stores what it reads."""
    shareable = [each for each in cast("Sequence[ModbusDriver]", drivers) if each.shareable]
    if not shareable:
        return ()
    storing = Storing(deliver)
    loop = Loop(clock, storing, longest_wait)
    for each in shareable:
        each.share(loop)
    return loop, storing


class ModbusDriver:
    """One line and the devices on it. See `drivers.base.Driver`."""

    def __init__(
        self, name: str, connection: Connection, sources: Mapping[str, Source], ports: Ports, bus: Bus
    ) -> None:
        """`bus` is closed with the driver."""
        self.name = name
        self.wake = Event()
        self._poll = connection.poll
        self._ports = ports
        self._bus = bus
        self._devices = devices_of(connection, sources, ports)
        self._turns = Turns(self._devices, connection.poll)
        self._reader = Reader(ports.clock, ports.memory)
        self._reconnecting = Reconnecting()
        address = address_of(connection.url)
        self._network = address.serial is None
        self._hints = {
            device.number: hint(address, [each for each in sources.values() if each.device == device.number])
            for device in self._devices
        }
        self._outage = ""  # why there is no connection; "" when there is one
        self._interrupted = False  # no device has answered since an outage that was told
        self._needs_person = False  # and the operator was told that only a person can end it
        self._asked: int | None = None  # the device that was asked last
        self._ready_since: float | None = None
        self._looks: list[Look] = []  # of the round: what they say is found out at its end, all at once
        self._batch: list[Reading | Rejected] = []
        self._gathering_since: float | None = (
            None  # boottime; None before the first reading of a batch, or after a refusal
        )
        self._not_stored = ""
        self._counts: Counter[str] = Counter()
        self.ripe = False  # what is gathered is to be stored now
        self._loop: Loop | None = None
        self._lent = False  # to the loop, whose alone everything is then
        self._broken_off: tuple[Asking[float], Wish] | None = None  # a turn that is under way, and what it wants next

    def step(self, now: Now) -> float | None:
        """Read one device that is due, or go on with it; returns at once when none is, or when the loop does it."""
        if self._lent:
            return None
        turn, wish = self._broken_off or (self.turn(now), None)
        self._broken_off = None
        try:
            due = asked_on(self._bus, self._ports.clock, turn, wish, now.boottime + LONGEST_STEP)
        except Unfinished as unfinished:
            self._broken_off = turn, unfinished.wish
            return now.boottime
        if self.ripe:
            self._deliver()
            return None if self._lends(due) else due
        return due

    def turn(self, now: Now) -> Asking[float]:
        """Ask one device that is due, or none; the boottime of the next turn. Then `ripe` says whether to store."""
        self.ripe = True
        self._turns.realign(now)
        device = self._turns.next(now)
        if device is None:
            return self._turns.earliest(now)
        if device.unwell or not self._bus.is_open:
            yield Aside()
        if not self._connected(now):
            return self._reconnecting.due
        after = yield from self._reading(device, now)
        due = self._turns.earliest(after)
        self.ripe = due > after.boottime or not self._bus.is_open or self._gathered(after)
        return due

    @property
    def shareable(self) -> bool:
        """Whether its line can be asked without waiting for it."""
        resting = any(device.limits.gap or device.limits.gap_on_change for device in self._devices)
        return isinstance(self._bus, PromptBus) and not resting

    def share(self, loop: Loop) -> None:
        """From now on `loop` does what is as usual."""
        self._loop = loop

    def break_off(self, turn: Asking[float] | None, wish: Wish | None) -> None:
        """The loop is through with it: `turn` is to be gone on with where it wants `wish`. From here on it is its own thread's again."""
        self._broken_off = None if turn is None or wish is None else (turn, wish)
        self._lent = False
        self.wake.set()

    def batch(self) -> Sequence[Reading | Rejected]:
        """What is gathered, for whoever stores it."""
        self._understand()
        batch, self._batch, self._gathering_since = self._batch, [], None
        return batch

    def told(self, not_stored: str) -> None:
        """What became of a batch: stored, or why not."""
        if not_stored and not self._not_stored:
            log.warning("%s: readings could not be stored, trying again: %s", self.name, not_stored)
        self._not_stored = not_stored and f"readings could not be stored: {not_stored}"

    def poll(self, now: Now) -> None:
        """Read every device once."""
        for device in self._devices:
            if self._connected(now):
                asked_on(self._bus, self._ports.clock, self._reading(device, now))
            else:
                self._look_in_vain(device)
            now = self._ports.clock.now()
        self._deliver()

    def health(self) -> Health:
        """As the protocol says; `counts` besides: timeouts, reconnects, requests."""
        told = self._outage or self._not_stored
        counters = (self._counts, self._reader.counts)
        return health_of(self._devices, counters, max(0, self._bus.opened - 1), told, self._ready_since)

    def last_reads(self) -> Mapping[str, LastRead]:
        """As the protocol says."""
        return self._reader.last_reads.copy()

    def close(self) -> None:
        """As the protocol says; a round that is cut short is delivered."""
        if self._loop is not None:
            self._loop.give_back(self)
        if self._broken_off is not None:
            turn, wish = self._broken_off
            self._broken_off = None
            self._deliver()
            with suppress(Exception):  # it may be what ends the process, and what is gathered is worth more
                until = self._ports.clock.now().boottime + LONGEST_END
                asked_on(self._bus, self._ports.clock, turn, wish, until)
        self._deliver()
        self._bus.close()

    def _connected(self, now: Now) -> bool:
        if self._bus.is_open:
            return True
        if now.boottime < self._reconnecting.due:
            return False
        try:
            self._bus.open()
        except (LineError, SetupError) as error:
            self._lost(error, now)
            for device in self._devices:
                self._look_in_vain(device)
            return False
        self._asked = None
        self._outage = ""
        return True

    def _lends(self, due: float) -> bool:
        """To the loop, once every device has been tried and as long as the line is as usual."""
        if self._loop is None or self._ready_since is None or not cast("PromptBus", self._bus).at_ease:
            return False
        self._lent = True
        self._loop.lend(self, cast("PromptBus", self._bus), due)
        return True

    def _reading(self, device: Device, now: Now) -> Asking[Now]:
        """One poll of one device; the time after it."""
        got = Round(now, self._poll)
        changed = self._asked is not None and self._asked != device.number
        self._asked = device.number
        self._counts["polls"] += 1
        lost: LineError | SetupError | None = None
        try:
            yield from device.reading(got, changed=changed)
        except (LineError, SetupError) as error:
            lost = error
        after = self._ports.clock.now()
        if lost is None and got.failure is None:
            self._device_answers(device, got)
        else:
            problem = got.failure or Problem("no connection", str(lost))
            self._device_fails(device, problem, after)
        self._take(completed(got.looks) if device.sums else got.looks, after)
        broke = lost is not None and device.failures == 1
        if not broke:  # else it is asked again on the next line, after the others
            self._turns.had(device, after)
        if lost is not None:
            self._lost(self._with_cause(lost), after)
            self._look_in_vain(device)
        self._note_first_round(device, after)
        return after

    def _device_answers(self, device: Device, got: Round) -> None:
        if got.looks:
            device.answered_once = True
            self._reconnecting.answered()
            if self._interrupted:
                self._ports.note("info", self.name, "connected again")
                self._interrupted = self._needs_person = False
            self._gives(device, got.looks)
        if device.failures and got.looks:
            if device.failing_since:
                failed = "1 failed poll" if device.failures == 1 else f"{device.failures} failed polls"
                self._ports.note("info", self._subject(device), f"answers again, after {failed}")
            self._turns.failing -= 1
            device.failures = 0
            device.failing_since = device.problem = ""

    def _gives(self, device: Device, looks: Sequence[Look]) -> None:
        """It answers; whether with a value. Told when it gives none twice in a row: at their start, some do not."""
        refused = [look.problem.detail for look in looks if look.problem is not None]
        if len(refused) < len(looks):
            if device.refusing_told:
                self._ports.note("info", self._subject(device), "gives values again")
            device.refusing, device.refusing_told = "", False
            return
        if device.refusing and not device.refusing_told:
            device.refusing_told = True
            words = f"answers and gives no value: {refused[0]}; are its registers those of this meter?"
            self._ports.note("warning", self._subject(device), words)
        device.refusing = refused[0]

    def _device_fails(self, device: Device, problem: Problem, now: Now) -> None:
        """Told once: the first time for a device that has never answered, else when it happens twice in a row.

        A corrupt frame now and then is usual on RS-485 and nothing to tell anybody.
        """
        self._turns.failing += not device.failures
        device.failures += 1
        device.problem = problem.detail
        if device.failing_since or problem.reason == "no connection":
            return
        if device.failures > 1 or not device.answered_once:
            device.failing_since = f"{now.wall:%Y-%m-%d %H:%M} UTC"
            look_at = "" if device.answered_once else self._hints[device.number]
            words = f"{problem.detail}; it is asked again with growing pauses"
            self._ports.note("warning", self._subject(device), f"{words}; {look_at}" if look_at else words)

    def _take(self, looks: Sequence[Look], now: Now) -> None:
        if looks and self._gathering_since is None:
            self._gathering_since = now.boottime
        self._looks += looks

    def _understand(self) -> None:
        looks, self._looks = self._looks, []
        self._batch += self._reader.take_all(looks)

    def _gathered(self, now: Now) -> bool:
        return self._gathering_since is not None and now.boottime - self._gathering_since >= GATHER

    def _lost(self, error: LineError | SetupError, now: Now) -> None:
        """There is no connection. Told once per outage, or twice when it turns out to need a person."""
        self._bus.close()
        self._reconnecting.failed(now.boottime, self._ports.random)
        if isinstance(error, SetupError) and not self._needs_person:
            self._needs_person = True
            self._ports.note("error", self.name, f"{error}; a person must mend this")
        elif not self._interrupted:
            self._ports.note("warning", self.name, f"{error}; trying again")
        self._outage, self._interrupted = str(error), True

    def _with_cause(self, error: LineError | SetupError) -> LineError | SetupError:
        """Opened and lost again and again without an answer in between: somebody else has a gateway's only place, mostly."""
        if not self._network or isinstance(error, SetupError) or self._reconnecting.failures < LOST_TOO_OFTEN:
            return error
        return LineError(f"{error}; many gateways take one connection at a time: does another program use this one?")

    def _look_in_vain(self, device: Device) -> None:
        self._understand()  # what came before is no news after it
        problem = Problem("no connection", self._outage or "no connection")
        at = self._ports.clock.now().wall
        for target in device.targets:
            self._reader.show(Look(target.whole or target, at, (), problem, None))

    def _note_first_round(self, device: Device, now: Now) -> None:
        device.tried = True
        if self._ready_since is None and all(each.tried for each in self._devices):
            self._ready_since = now.boottime

    def _deliver(self) -> None:
        """Make the gathered readings durable. What is not stored is offered again with the next batch, or when nothing is due."""
        batch = [*(self._loop.unstored(self) if self._loop else ()), *self.batch()]
        if not batch:
            return
        try:
            self._ports.deliver(batch)
        except NotStored as error:
            self.told(str(error))
            self._batch = batch[-KEPT:]
            return
        self.told("")

    def _subject(self, device: Device) -> str:
        return f"{self.name}, device {device.number}"
