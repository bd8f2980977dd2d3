"""Delivery: takes pending hours from the journal, sends one message at a time, and settles every fate (R12-R15).

One worker sends and reads back, in turns while both wait. A message whose fate is unknown rests for `settle`, then the
hours themselves are read: only what they prove returns an hour to pending.
"""

from __future__ import annotations

import logging
from collections import deque
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from buffer import identity, journal, looks
from buffer.journal import Intent
from buffer.model import Accepted, Fate, Refused, Unknown, from_micro, hour_of, hour_start, to_ms
from buffer.readings import note, note_once
from buffer.store import StoreError
from gateway import pacing
from gateway.enerkey.models import push_body
from gateway.knocking import Knocker
from gateway.line import Line, said
from gateway.lookout import Lookout
from gateway.messages import DeliveryRules, PushedMeter, Waiting, draft_of, waiting
from gateway.reads import Reads
from gateway.settling import Settler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from random import Random

    from buffer.store import Connection, Store
    from drivers.base import Clock, Now
    from gateway.composing import Draft
    from gateway.enerkey.client import EnerkeyClient
    from gateway.enerkey.contract import Contract
    from gateway.keys import KeyRing

log = logging.getLogger(__name__)

IDLE = 60.0  # s; the longest sleep while nothing is due
STEPPED = 2.0  # s; a clock that moved more against the time since boot was set
UNCHECKED = 10.0  # s; the check of the database wakes this worker when it is done
AFTER_FAILURE = 5.0  # s before the store is tried again
PARKED = 86_400.0  # s; a meter that EnerKey does not know gets one try a day (reliability 3.8)
MOST_REFUSALS = 64  # per meter and day: where every hour is refused it is not the hours (reliability 3.8)


class _Outgoing(NamedTuple):
    message: int
    meter: PushedMeter
    body: bytes
    values: Mapping[int, int]
    slot: int


class Uploader:
    """The delivery worker of one account, over the meters that it has: what stops one account stops no other (R23)."""

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
        self.wake = Event()
        self._store = store
        self._contract = contract
        self._meters = {meter.id: meter for meter in meters}
        self._rules = rules
        self._clock = clock
        self._random = random
        self._boot_id = boot_id
        burst = pacing.Burst(*rules.burst)
        self._line = Line(store, client, keys, rules.requests_per_day, burst, clock, random, on_date)
        self.name = self._line.name
        self._knocker = Knocker(self._line, rules, clock)
        reads = Reads(self._line, contract, clock)
        self._lookout = Lookout(store, self._line, reads, self._meters, rules, clock, random)
        names = {meter.id: meter.name for meter in meters}
        self._settler = Settler(store, self._line, reads, names, rules, clock, random, self._lookout)
        self._asked = pacing.Pause()  # for the time, while the clock is not trusted
        self._asked_with = 0.0  # wall time less boottime (s) then
        self._parked: dict[int, float] = {}  # meter that EnerKey does not take -> until when it is not tried
        self._blocked: dict[int, float] = {}  # meter that has nothing to send for now -> until when it is not asked
        self._refusals: dict[int, deque[float]] = {}  # meter -> when its data were refused, the last day's
        self._most = {meter.id: rules.most_hours for meter in meters}
        self._served: dict[int, float] = {}
        self._live_in_a_row = 0
        self._settled_last = False
        self._orphans = True
        self._begun = False
        self._ours = False
        self._waits = False  # for the store, and it was said

    def step(self, now: Now) -> float:
        """Settle one unknown fate or send one message; returns when to be called again (boottime)."""
        if not self._store.checked:
            return now.boottime + UNCHECKED
        try:
            due = self._step(now)
        except StoreError as error:
            # What was sent may be unrecorded: the journal decides, and an intent still open there has an unknown fate.
            self._orphans = True
            log.log(logging.DEBUG if self._waits else logging.WARNING, "delivery waits for the store: %s", error)
            self._waits = True
            return now.boottime + AFTER_FAILURE
        self._waits = False
        return due

    def close(self, *, clean: bool = True) -> None:
        """Close the connection to EnerKey that is kept alive, and mark that the gateway stopped by itself (`clean`)."""
        self._line.close()
        if self._begun and clean:
            try:
                self._store.write(self._end_run)
            except StoreError as error:
                log.warning("stopped without a mark, so the next start reads before it sends: %s", error)

    def snapshot(self) -> dict[str, object]:
        """For `status`; any thread may take it."""
        parked = [self._meters[meter].name for meter in list(self._parked)]
        cadence = self._cadence(self._clock.now())
        return self._line.snapshot() | {"parked": parked, "cadence_hours": cadence}

    def _step(self, now: Now) -> float:
        if self._orphans:
            account = self._line.keys.account
            self._store.write(lambda db: journal.orphaned_intents(db, to_ms(now.wall), account))
            self._orphans = False
        if now.boottime < (free := self._line.until(now.boottime)):
            return free
        if not now.trusted:
            return self._ask_the_time(now)
        self._ours = self._ours or self._store.read(identity.stranger) is None
        if not self._ours:  # R20; `adopt` may end it at any time
            return now.boottime + IDLE
        if not self._begun:
            self._begin_run(now)
        self._tell_of_expiry(now)
        return self._act(now)

    def _begin_run(self, now: Now) -> None:
        readable, account = to_ms(now.wall) + round(self._rules.settle * 1000), self._line.keys.account
        self._store.write(lambda db: looks.run_begins(db, self._boot_id, readable, account))
        self._line.recall(now)
        self._begun = True

    def _end_run(self, db: Connection) -> None:
        self._line.remember(db)
        looks.run_ends(db, self._line.keys.account)

    def _tell_of_expiry(self, now: Now) -> None:
        news = self._line.keys.today(now.wall.date())
        if news:
            at, name = to_ms(now.wall), self.name
            new = self._store.write(lambda db: [each for each in news if note_once(db, at, "warning", name, each)])
            for words in new:
                log.warning("%s: %s", name, words)

    def _act(self, now: Now) -> float:
        turns = (self._push_next, self._settle_next) if self._settled_last else (self._settle_next, self._push_next)
        if any(turn(now) for turn in (*turns, self._lookout.audit_next)):
            return self._clock.now().boottime  # at once again, but a stop may come between
        return self._next_due(now)

    def _ask_the_time(self, now: Now) -> float:
        """The pauses keep it to 100 requests a day. An answer that did not help says the same until the clock is set."""
        set_to = now.wall.timestamp() - now.boottime
        if now.boottime >= self._asked.until or abs(set_to - self._asked_with) > STEPPED:
            heard = self._line.look(now)
            after_answer = self._asked.told(now.boottime, pacing.LONGEST_PAUSE, self._random)
            self._asked = after_answer if heard else self._asked.failed(now.boottime, self._random)
            self._asked_with = set_to
        after = self._clock.now()
        again = min(self._asked.until, after.boottime + IDLE)
        return after.boottime if after.trusted else max(self._line.until(after.boottime), again)

    def _settle_next(self, now: Now) -> bool:
        settled = self._settler.next(now)
        self._settled_last = self._settled_last or settled
        return settled

    # --- sending ------------------------------------------------------------------------------------------------------

    def _push_next(self, now: Now) -> bool:
        waits = self._waiting()
        live_since = hour_of(to_ms(now.wall)) - pacing.LIVE
        due = {
            meter: each.newest >= live_since
            for meter, each in waits.items()
            if self._due(meter, each, now) <= now.boottime
        }
        if not due or not self._line.may_push(now):
            return False
        if not self._line.may_catch_up(now, len(self._meters) * 24 / self._cadence(now)):
            due = {meter: live for meter, live in due.items() if live}
        for meter in pacing.turns(due, self._served, self._live_in_a_row):
            if self._serve(self._meters[meter], now):
                self._live_in_a_row = self._live_in_a_row + 1 if due[meter] else 0
                self._settled_last = False
                return True
        return False

    def _serve(self, meter: PushedMeter, now: Now) -> bool:
        """Send a meter's next message, or look before it; False when the meter has to wait."""
        slot = self._line.keys.usable(meter.family, now.boottime)
        if slot is None:
            self._blocked[meter.id] = self._line.keys.again(meter.family)
            return False
        draft = self._store.read(lambda db: draft_of(db, meter, self._rules, self._most[meter.id]))
        if draft is None:
            self._blocked[meter.id] = now.boottime + IDLE
            return False
        if self._lookout.is_needed(meter, draft, now):
            looked = self._lookout.look(meter, draft, now)
            self._blocked[meter.id] = looked.until
            if looked.unknown_meter:
                self._parked[meter.id] = now.boottime + PARKED
            return looked.asked
        if (knocked := self._knocker.before(meter, slot, now)) is not None:
            self._blocked[meter.id] = knocked.until
            return knocked.asked
        try:
            outgoing = self._begin(meter, draft, slot, now)
        except journal.JournalError:  # a person decided about these hours in between
            log.info("%s: its hours have changed, they are looked at again", meter.name)
            self._blocked[meter.id] = now.boottime + AFTER_FAILURE
            return False
        self._served[meter.id] = now.boottime
        self._send(outgoing)
        return True

    def _begin(self, meter: PushedMeter, draft: Draft, slot: int, now: Now) -> _Outgoing:
        """Make the intent durable (R12)."""
        body = push_body(self._contract, meter.enerkey_id, draft.items)
        intent = Intent(meter.id, meter.family, meter.enerkey_id, body, draft.values, slot, draft.adjusted)
        message = self._store.write(
            lambda db: journal.begin(db, intent, self._boot_id, to_ms(now.wall), self._line.keys.account)
        )
        return _Outgoing(message, meter, body, draft.values, slot)

    def _send(self, outgoing: _Outgoing) -> None:
        meter = outgoing.meter
        now = self._clock.now()
        backlog = max(outgoing.values) < hour_of(to_ms(now.wall)) - pacing.LIVE
        pushed = self._line.push(meter.family, meter.enerkey_id, outgoing.body, outgoing.slot, backlog=backlog)
        fate, now = pushed.answer.fate, self._clock.now()
        words = pushed.key_news or self._consequence(fate, outgoing, now.boottime)

        def work(db: Connection) -> None:
            journal.settle(db, outgoing.message, fate, to_ms(now.wall), whole=self._rules.whole_refusals)
            self._line.remember(db)
            if words:
                note(db, to_ms(now.wall), "error", self.name if pushed.key_news else meter.name, words)

        self._store.write(work)
        if words:
            log.warning("%s: %s", meter.name, words)

    def _consequence(self, fate: Fate, outgoing: _Outgoing, now: float) -> str:
        """Draw the meter's own conclusion from a fate; what an operator should hear of it."""
        meter, hours = outgoing.meter, len(outgoing.values)
        if isinstance(fate, Unknown):
            self._settler.rests(outgoing.message, now)
            log.info("%s: fate unknown (%s); read back in %.0f s", meter.name, fate.text, self._rules.settle)
        if isinstance(fate, Accepted):
            self._parked.pop(meter.id, None)
        if not isinstance(fate, Refused):
            return ""
        if fate.why == "data":
            return self._refused(fate, outgoing, now)
        if fate.why == "size" and hours > 1:
            self._most[meter.id] = hours // 2
            return f"a message of {hours} hours is too large for EnerKey ({said(fate)}); half as many from now on"
        if fate.why in {"meter", "size", "endpoint"}:
            self._parked[meter.id] = now + PARKED
            return f"EnerKey does not take meter {meter.enerkey_id} ({said(fate)}); tried again in a day"
        return ""

    def _refused(self, fate: Refused, outgoing: _Outgoing, now: float) -> str:
        """One hour of the message is bad: found when it is alone, else looked for among half as many (R23)."""
        meter, hours = outgoing.meter, sorted(outgoing.values)
        refusals = self._refusals.setdefault(meter.id, deque())
        refusals.append(now)
        while refusals[0] <= now - PARKED:
            refusals.popleft()
        if len(refusals) >= MOST_REFUSALS:
            self._parked[meter.id] = refusals[0] + PARKED
        if len(hours) > 1:
            self._settler.rests(outgoing.message, now)
            log.info("%s: EnerKey refused %d h (%s): looking for the bad one", meter.name, len(hours), said(fate))
            return ""
        value = from_micro(outgoing.values[hours[0]])
        what = f"{value} for {hour_start(hours[0]):%Y-%m-%d %H:%M}Z"
        return f"EnerKey refused {what}, held until somebody decides: {said(fate)}"

    # --- when ---------------------------------------------------------------------------------------------------------

    def _waiting(self) -> dict[int, Waiting]:
        return self._store.read(lambda db: waiting(db, self._meters.values(), self._rules))

    def _cadence(self, now: Now) -> int:
        return pacing.cadence(len(self._meters), self._line.share(now.boottime))

    def _due(self, meter: int, waits: Waiting, now: Now) -> float:
        wall = hour_start(pacing.slot(waits.oldest, self._cadence(now))) + timedelta(seconds=self._meters[meter].offset)
        at = now.boottime + (wall - now.wall).total_seconds()
        return max(at, self._parked.get(meter, 0.0), self._blocked.get(meter, 0.0))

    def _next_due(self, now: Now) -> float:
        dues = (self._due(meter, waits, now) for meter, waits in self._waiting().items())
        return min(
            [now.boottime + IDLE, *(at for at in dues if at > now.boottime), self._settler.due, self._lookout.due]
        )
