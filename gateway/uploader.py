"""Delivery: takes pending hours from the journal, sends one message at a time, and settles every fate (R12-R15).

One worker sends and reads back. A message whose fate is unknown rests for `settle`, then the hours themselves are read: only what
they prove returns an hour to pending.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from threading import Event
from typing import Literal, NamedTuple

from buffer import journal
from buffer.journal import Intent, OpenMessage
from buffer.model import Accepted, Fate, NotSent, Refused, Unknown, from_micro, hour_start, to_ms
from buffer.readings import note
from buffer.store import Connection, Store, StoreError
from drivers.base import Clock, Now
from gateway import composing, pacing, verify
from gateway.enerkey.client import Answer, EnerkeyClient
from gateway.enerkey.contract import Contract
from gateway.enerkey.models import push_body
from gateway.keys import KeyRing

log = logging.getLogger(__name__)

IDLE = 60.0  # s; the longest sleep while nothing is due
AFTER_FAILURE = 5.0  # s before the store is tried again
PARKED = 86_400.0  # s; a meter that EnerKey does not know gets one try a day (reliability 3.8)


@dataclass(frozen=True, slots=True)
class PushedMeter:
    """What delivery must know of one meter."""

    id: int
    name: str
    enerkey_id: int
    family: composing.Family
    offset: float  # s after the hour


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """The operator's settings for delivery, in seconds and counts."""

    settle: float
    on_unknown: Literal["verify", "hold"]
    same_hour: Literal["sum", "replace"]
    hour_stamp: Literal["start", "end"]
    decimals: int
    most_hours: int  # per message
    requests_per_day: int
    push_estimated: bool = True


class _Outgoing(NamedTuple):
    message: int
    meter: PushedMeter
    body: bytes
    slot: int


class Uploader:
    """The delivery worker."""

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root hands over every port by name
        self,
        store: Store,
        client: EnerkeyClient,
        contract: Contract,
        meters: Sequence[PushedMeter],
        rules: DeliveryRules,
        keys: KeyRing,
        clock: Clock,
        random: Random,
        boot_id: str,
        on_date: Callable[[datetime, datetime], None],
    ) -> None:
        """`on_date(wall, server's Date)` lets an answer bear witness to the clock."""
        self.name = "delivery"
        self.wake = Event()
        self._store = store
        self._client = client
        self._contract = contract
        self._meters = {meter.id: meter for meter in meters}
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._random = random
        self._boot_id = boot_id
        self._on_date = on_date
        self._pause = pacing.Pause()
        self._remaining: int | None = None
        self._rests: dict[int, pacing.Pause] = {}  # unknown message -> until when it rests
        self._parked: dict[int, float] = {}
        self._most = {meter.id: rules.most_hours for meter in meters}
        self._served: dict[int, float] = {}
        self._orphans = True

    def step(self, now: Now) -> float:
        """Settle one unknown fate or send one message; returns when to be called again (boottime)."""
        try:
            if self._orphans:
                self._store.write(lambda db: journal.orphaned_intents(db, to_ms(now.wall)))
                self._orphans = False
            if now.boottime < self._pause.until:
                return self._pause.until
            if not now.trusted:
                return self._ask_the_time(now)
            return self._settle_next(now) or self._push_next(now) or self._next_due(now)
        except StoreError as error:
            # What was sent may be unrecorded: the journal decides, and an intent still open there has an unknown fate.
            self._orphans = True
            log.warning("delivery waits for the store: %s", error)
            return now.boottime + AFTER_FAILURE

    def snapshot(self) -> dict[str, object]:
        """For `status`."""
        return {
            "resting_until": self._pause.until if self._pause.failures else None,
            "outage": self._pause.outage,
            "remaining": self._remaining,
            "keys": self._keys.snapshot(),
            "parked": [self._meters[meter].name for meter in self._parked],
        }

    # --- an untrusted clock ---------------------------------------------------------------------------------------------

    def _ask_the_time(self, now: Now) -> float:
        slot = self._keys.usable("look", now.boottime)
        answer = self._client.look(self._keys.secret(slot or 0))
        self._heard(answer, "look", slot or 0)
        self._pause = self._pause.failed(now.boottime, self._random) if answer.date is None else pacing.Pause()
        return max(self._pause.until, now.boottime + 1.0)

    # --- unknown fates --------------------------------------------------------------------------------------------------

    def _settle_next(self, now: Now) -> float | None:
        for message in self._store.read(journal.unknown_messages):
            rest = self._rests.setdefault(message.id, pacing.Pause(0, now.boottime + self._rules.settle))
            if rest.until <= now.boottime:
                self._settle_unknown(message, now)
                return now.boottime
        return None

    def _settle_unknown(self, message: OpenMessage, now: Now) -> None:
        if self._rules.on_unknown == "hold":
            held: dict[int, journal.HourFate] = dict.fromkeys(message.values, "held")
            self._record(message, held, "held: on_unknown is hold", now)
            return
        hours = sorted(message.values)
        slot = self._keys.usable("values", now.boottime)
        budget_left = self._store.read(lambda db: journal.spent(db, to_ms(now.wall)))
        if slot is None or not pacing.may_read(budget_left, self._rules.requests_per_day, self._remaining):
            self._rests[message.id] = self._rests[message.id].resting(now.boottime, pacing.FIRST_PAUSE * 60)
            return
        self._store.write(lambda db: journal.spend(db, to_ms(now.wall)))
        found = self._client.hourly_values(message.enerkey_id, hours[0], hours[-1] + 1, self._keys.secret(slot))
        self._heard(found.answer, "values", slot)
        if found.values is None:
            self._after_trouble(found.answer.fate, now)
            self._rests[message.id] = self._rests[message.id].failed(now.boottime, self._random)
            return
        self._pause = pacing.Pause()
        ledger = self._store.read(lambda db: journal.in_ledger(db, message.meter, hours))
        fates = verify.read_back(
            message.values, ledger, found.values,
            tolerance=max(1, 10 ** (6 - self._rules.decimals) // 2), replaces=self._rules.same_hour == "replace",
        )  # fmt: skip
        self._record(message, fates, _proved(fates, message, found.values), now)

    def _record(self, message: OpenMessage, fates: dict[int, journal.HourFate], words: str, now: Now) -> None:
        name = self._meters[message.meter].name if message.meter in self._meters else f"meter {message.meter}"

        def work(db: Connection) -> None:
            journal.settle_by_hour(db, message.id, fates, words, to_ms(now.wall))
            note(db, to_ms(now.wall), "warning" if "held" in fates.values() else "info", name, words)

        self._store.write(work)
        self._rests.pop(message.id, None)

    # --- sending --------------------------------------------------------------------------------------------------------

    def _push_next(self, now: Now) -> float | None:
        due = [meter for meter, at in self._due_times(now).items() if at <= now.boottime]
        for meter in sorted(due, key=lambda meter: self._served.get(meter, 0.0)):
            outgoing = self._begin(self._meters[meter], now)
            if outgoing:
                self._served[meter] = now.boottime
                self._send(outgoing)
                return self._clock.now().boottime
        return None

    def _begin(self, meter: PushedMeter, now: Now) -> _Outgoing | None:
        slot = self._keys.usable(meter.family, now.boottime)
        if slot is None:
            return None
        now_ms = to_ms(now.wall)

        def work(db: Connection) -> _Outgoing | None:
            if not pacing.may_push(journal.spent(db, now_ms), self._rules.requests_per_day, self._remaining):
                return None
            draft = draft_of(db, meter, self._rules, self._most[meter.id])
            if draft is None:
                return None
            body = push_body(self._contract, meter.enerkey_id, draft.items)
            intent = Intent(meter.id, meter.family, meter.enerkey_id, body, draft.values, slot)
            return _Outgoing(journal.begin(db, intent, self._boot_id, now_ms), meter, body, slot)

        return self._store.write(work)  # durable before the first byte (R12)

    def _send(self, outgoing: _Outgoing) -> None:
        meter = outgoing.meter
        answer = self._client.push(meter.family, meter.enerkey_id, outgoing.body, self._keys.secret(outgoing.slot))
        self._heard(answer, meter.family, outgoing.slot)
        now = self._clock.now()

        def work(db: Connection) -> None:
            journal.settle(db, outgoing.message, answer.fate, to_ms(now.wall))
            if isinstance(answer.fate, Refused) and answer.fate.why != "key":
                note(db, to_ms(now.wall), "error", meter.name, f"EnerKey refused a message: {answer.fate.text}")

        try:
            self._store.write(work)
        finally:
            self._after(answer.fate, outgoing, now)

    def _after(self, fate: Fate, outgoing: _Outgoing, now: Now) -> None:
        meter = outgoing.meter
        if isinstance(fate, Unknown):
            self._rests[outgoing.message] = pacing.Pause(0, now.boottime + self._rules.settle)
            log.warning("%s: fate unknown (%s); read back in %.0f s", meter.name, fate.text, self._rules.settle)
            return
        if isinstance(fate, Refused) and fate.why == "meter":
            self._parked[meter.id] = now.boottime + PARKED
        elif isinstance(fate, Refused) and fate.why == "size":
            self._most[meter.id] = max(1, self._most[meter.id] // 2)
        self._after_trouble(fate, now)

    def _after_trouble(self, fate: Fate, now: Now) -> None:
        if isinstance(fate, NotSent):
            failed = self._pause.failed(now.boottime, self._random)
            self._pause = failed if fate.retry_after is None else pacing.Pause().resting(now.boottime, fate.retry_after)
            if failed.failures == pacing.OUTAGE_AFTER:
                log.warning("EnerKey cannot be reached (%s); trying again with growing pauses", fate.text)
        elif not isinstance(fate, Unknown):
            if self._pause.outage:
                log.info("EnerKey answers again")
            self._pause = pacing.Pause()

    def _heard(self, answer: Answer, family: str, slot: int) -> None:
        now = self._clock.now()
        if answer.remaining is not None:
            self._remaining = answer.remaining
        if answer.date is not None:
            self._on_date(now.wall, answer.date)
        if isinstance(answer.fate, Refused) and answer.fate.why == "key":
            self._keys.refused(slot, family, now.boottime, answer.fate.text)
        elif isinstance(answer.fate, Accepted):
            self._keys.accepted(slot, family, now.wall)

    # --- when -----------------------------------------------------------------------------------------------------------

    def _due_times(self, now: Now) -> dict[int, float]:
        estimated = self._rules.push_estimated
        oldest = self._store.read(lambda db: journal.oldest_pending(db, self._meters, estimated=estimated))
        return {
            meter: max(
                now.boottime + (self._due_wall(meter, hour) - now.wall).total_seconds(), self._parked.get(meter, 0.0)
            )
            for meter, hour in oldest.items()
        }

    def _due_wall(self, meter: int, hour: int) -> datetime:
        return hour_start(hour + 1) + timedelta(seconds=self._meters[meter].offset)

    def _next_due(self, now: Now) -> float:
        soonest = min(
            [
                now.boottime + IDLE,
                *(at for at in self._due_times(now).values() if at > now.boottime),
                *(rest.until for rest in self._rests.values()),
            ]
        )
        return max(soonest, now.boottime + 0.05)


def draft_of(db: Connection, meter: PushedMeter, rules: DeliveryRules, most_hours: int) -> composing.Draft | None:
    """The next message of a meter as it would be sent now; None when nothing may be sent."""
    hours = journal.pending(db, meter.id, most_hours, estimated=rules.push_estimated)
    if not hours:
        return None
    if meter.family == "consumption":
        return composing.consumption_items(hours, decimals=rules.decimals, stamp=rules.hour_stamp)
    if journal.held_before(db, meter.id, hours[-1].hour):
        return None  # a boundary in doubt is settled by a person before later ones follow
    accepted = journal.in_ledger(db, meter.id, [row.hour - 1 for row in hours])
    first = not journal.ever_accepted(db, meter.id)
    return composing.cumulative_items(hours, accepted, first=first, decimals=rules.decimals)


def _proved(fates: dict[int, journal.HourFate], message: OpenMessage, server: dict[int, int]) -> str:
    held = [hour for hour, fate in fates.items() if fate == "held"]
    if held:
        hour = held[0]
        there = from_micro(server[hour]) if hour in server else "nothing"
        return (
            f"{len(held)} h held: EnerKey shows {there} for {hour_start(hour):%Y-%m-%d %H:%M}Z,"
            f" sent was {from_micro(message.values[hour])}"
        )
    accepted = sum(fate == "accepted" for fate in fates.values())
    return f"read back: {accepted} h accepted, {len(fates) - accepted} h not applied and sent again"
