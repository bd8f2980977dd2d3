"""Messages whose fate is unknown: they rest for `settle`, then their hours are read and each is decided (R14, R15)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from buffer import journal
from buffer.model import Fate, Refused, from_micro, hour_start, to_ms
from buffer.readings import note
from gateway import pacing, verify
from gateway.line import said
from gateway.reads import Wanted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from random import Random

    from buffer.journal import OpenMessage
    from buffer.store import Connection, Store
    from drivers.base import Clock, Now
    from gateway.line import Line
    from gateway.messages import DeliveryRules
    from gateway.reads import Overhears, Reads

log = logging.getLogger(__name__)

WITHOUT_BUDGET = 60.0  # s until a read-back asks again whether the budget has room
COMPANY = 300.0  # s that a read-back waits for others that will be due, where they can be read in one request
READ_REFUSED = 3600.0  # s; a read-back that EnerKey refuses is a matter for a person


class Settler:
    """Settles with one read at a time; part of the delivery worker, in its thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - every port by name
        self,
        store: Store,
        line: Line,
        reads: Reads,
        names: Mapping[int, str],
        rules: DeliveryRules,
        clock: Clock,
        random: Random,
        lookout: Overhears,
    ) -> None:
        """`names` of the meters by number; the lookout hears what was read."""
        self._store = store
        self._line = line
        self._reads = reads
        self._names = names
        self._rules = rules
        self._clock = clock
        self._random = random
        self._lookout = lookout
        self._rests: dict[int, pacing.Pause] = {}  # message of unknown fate -> until when it rests

    def next(self, now: Now) -> bool:
        """Settle the message that has waited longest and may be read back, and others with it; False when there is none."""
        messages = self._store.read(lambda db: journal.unknown_messages(db, self._line.keys.account))
        rest = pacing.Pause(0, now.boottime + self._rules.settle)
        self._rests = {message.id: self._rests.get(message.id, rest) for message in messages}
        if self.due > now.boottime:
            return False
        self._settle([message for message in messages if self._rests[message.id].until <= now.boottime], now)
        return True

    def rests(self, message: int, now: float) -> None:
        """The fate of this message has become unknown now."""
        self._rests[message] = pacing.Pause(0, now + self._rules.settle)

    @property
    def due(self) -> float:
        """When (boottime) the next message may be read back; infinity when none waits."""
        return gathered([rest.until for rest in self._rests.values()], COMPANY if self._reads.several else 0.0)

    def _settle(self, messages: Sequence[OpenMessage], now: Now) -> None:
        """Messages that are due, longest waiting first; the others are left for next time where one is all that can be done."""
        message = messages[0]
        if self._rules.on_unknown == "hold":
            words = "the fate of a message is unknown, and on_unknown is hold"
            self._record(message, dict.fromkeys(message.values, "held"), words, None)
            return
        slot = self._line.keys.usable("values", now.boottime)
        if slot is None:
            self._rest(message, self._line.keys.again("values"))
        elif not self._line.may_read(now):
            self._rest(message, now.boottime + WITHOUT_BUDGET)
        else:
            self._read_back(messages, slot, now)

    def _read_back(self, messages: Sequence[OpenMessage], slot: int, now: Now) -> None:
        wanted = {message.meter: self._wanted(message, now) for message in messages}
        found = self._reads.read(list(wanted.values()), slot)
        for message in messages:
            read = found.get(message.meter)
            if read is None:
                continue
            if read.values is None:
                self._failed(message, read.answer.fate)
                continue
            self._decide(message, read.values)
            own = wanted[message.meter]
            self._lookout.overhear(own.meter, own.first, own.end, read.values, now)

    def _wanted(self, message: OpenMessage, now: Now) -> Wanted:
        first, end = self._lookout.widened(message.meter, min(message.values), max(message.values) + 1, now)
        return Wanted(message.meter, message.enerkey_id, first, end)

    def _decide(self, message: OpenMessage, server: Mapping[int, int]) -> None:
        hours = sorted(message.values)
        ledger = self._store.read(lambda db: journal.in_ledger(db, message.meter, hours))
        verdicts = verify.read_back(message.values, ledger, server, tolerance=self._rules.tolerance)
        self._record(message, verdicts, _proved(verdicts, message, server), server)
        clean = "held" not in verdicts.values()
        self._lookout.proved(message.meter, hours, self._clock.now().boottime, clean=clean)

    def _failed(self, message: OpenMessage, fate: Fate) -> None:
        now = self._clock.now().boottime
        if not isinstance(fate, Refused):
            self._rests[message.id] = self._rests[message.id].failed(now, self._random)
        elif fate.why != "key":  # a refused key: with the other one at once
            log.warning("%s: read-back refused: %s", self._name(message.meter), said(fate))
            self._rest(message, now + READ_REFUSED)

    def _rest(self, message: OpenMessage, until: float) -> None:
        self._rests[message.id] = pacing.Pause(self._rests[message.id].failures, until)

    def _record(
        self, message: OpenMessage, verdicts: dict[int, verify.Verdict], words: str, shown: Mapping[int, int] | None
    ) -> None:
        now_ms = to_ms(self._clock.now().wall)
        level = "warning" if "held" in verdicts.values() else "info"

        def work(db: Connection) -> None:
            journal.settle_by_hour(db, message.id, verdicts, words, now_ms, shown=shown)
            note(db, now_ms, level, self._name(message.meter), words)

        try:
            self._store.write(work)
        except journal.JournalError:  # a person decided while it was read
            log.info("%s: was decided while it was read back", self._name(message.meter))
            return
        self._rests.pop(message.id, None)
        log.log(logging.WARNING if level == "warning" else logging.INFO, "%s: %s", self._name(message.meter), words)

    def _name(self, meter: int) -> str:
        return self._names.get(meter, f"meter {meter}")


def gathered(untils: Collection[float], company: float) -> float:
    """When the first of several rests is over, and those that end at most `company` later with it; infinity for none."""
    first = min(untils, default=float("inf"))
    return max((until for until in untils if until <= first + company), default=first)


def _proved(verdicts: Mapping[int, verify.Verdict], message: OpenMessage, server: Mapping[int, int]) -> str:
    held = [hour for hour, verdict in verdicts.items() if verdict == "held"]
    if held:
        hour = held[0]
        there = from_micro(server[hour]) if hour in server else "nothing"
        return (
            f"{len(held)} h held: EnerKey shows {there} for {hour_start(hour):%Y-%m-%d %H:%M}Z,"
            f" sent was {from_micro(message.values[hour])}"
        )
    accepted = sum(verdict == "accepted" for verdict in verdicts.values())
    return f"read back: {accepted} h accepted, {len(verdicts) - accepted} h not applied and pending again"
