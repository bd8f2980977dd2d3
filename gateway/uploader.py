"""Delivery: takes pending hours from the journal, sends one message at a time, and settles every fate (R12-R15).

One worker sends and reads back, in turns while both wait. A message whose fate is unknown rests for `settle`, then the
hours themselves are read: only what they prove returns an hour to pending.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer import journal
from buffer.journal import Intent, OpenMessage
from buffer.model import Accepted, Fate, Refused, Unknown, from_micro, hour_start, to_ms
from buffer.readings import note
from buffer.store import StoreError
from gateway import composing, pacing, verify
from gateway.enerkey.models import push_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from random import Random

    from buffer.store import Connection, Store
    from drivers.base import Clock, Now
    from gateway.enerkey.client import Answer, EnerkeyClient
    from gateway.enerkey.contract import Contract
    from gateway.keys import KeyRing

log = logging.getLogger(__name__)

IDLE = 60.0  # s; the longest sleep while nothing is due
AFTER_FAILURE = 5.0  # s before the store is tried again
PARKED = 86_400.0  # s; a meter that EnerKey does not know gets one try a day (reliability 3.8)
READ_REFUSED = 3600.0  # s; a read-back that EnerKey refuses is a matter for a person


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

    @property
    def tolerance(self) -> int:
        """What rounding may change in a value, in micro: half a unit of the last digit sent."""
        step: int = 10 ** (6 - self.decimals)
        return max(1, step // 2)


class _Outgoing(NamedTuple):
    message: int
    meter: PushedMeter
    body: bytes
    hours: int
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
        self._manners = pacing.Manners()
        self._asked = pacing.Pause()  # for the time, while the clock is not trusted
        self._left: pacing.Left | None = None
        self._rests: dict[int, pacing.Pause] = {}  # message of unknown fate -> until when it rests
        self._parked: dict[int, float] = {}  # meter that EnerKey does not take -> until when it is not tried
        self._blocked: dict[int, float] = {}  # meter that has nothing to send for now -> until when it is not asked
        self._most = {meter.id: rules.most_hours for meter in meters}
        self._served: dict[int, float] = {}
        self._settled_last = False
        self._orphans = True

    def step(self, now: Now) -> float:
        """Settle one unknown fate or send one message; returns when to be called again (boottime)."""
        try:
            if self._orphans:
                self._store.write(lambda db: journal.orphaned_intents(db, to_ms(now.wall)))
                self._orphans = False
            if now.boottime < self._manners.until:
                return self._manners.until
            if not now.trusted:
                return self._ask_the_time(now)
            return self._act(now)
        except StoreError as error:
            # What was sent may be unrecorded: the journal decides, and an intent still open there has an unknown fate.
            self._orphans = True
            log.warning("delivery waits for the store: %s", error)
            return now.boottime + AFTER_FAILURE

    def close(self) -> None:
        """Close the connection to EnerKey that is kept alive."""
        self._client.close()

    def snapshot(self) -> dict[str, object]:
        """For `status`; any thread may take it."""
        return {
            "outage": self._manners.outage,
            "limited": self._manners.limited.failures > 0,
            "doubtful": self._manners.doubtful.failures >= pacing.DOUBT_AFTER,
            "remaining": self._left.requests if self._left else None,
            "keys": self._keys.snapshot(),
            "parked": [self._meters[meter].name for meter in list(self._parked)],
        }

    def _act(self, now: Now) -> float:
        turns = (self._push_next, self._settle_next) if self._settled_last else (self._settle_next, self._push_next)
        if any(turn(now) for turn in turns):
            return self._clock.now().boottime  # at once again, but a stop may come between
        return self._next_due(now)

    # --- an untrusted clock -------------------------------------------------------------------------------------------

    def _ask_the_time(self, now: Now) -> float:
        """Not counted in the budget, whose bins an untrusted clock would misplace; the pauses keep it to 100 a day."""
        if now.boottime >= self._asked.until:
            slot = self._keys.usable("look", now.boottime) or 0
            answer = self._client.look(self._keys.secret(slot))
            self._heard(answer, "look", slot)
            self._asked = self._asked.failed(now.boottime, self._random)
        after = self._clock.now()
        return after.boottime if after.trusted else max(self._manners.until, self._asked.until)

    # --- unknown fates ------------------------------------------------------------------------------------------------

    def _settle_next(self, now: Now) -> bool:
        messages = self._store.read(journal.unknown_messages)
        rest = pacing.Pause(0, now.boottime + self._rules.settle)
        self._rests = {message.id: self._rests.get(message.id, rest) for message in messages}
        for message in messages:
            if self._rests[message.id].until <= now.boottime:
                self._settle(message, now)
                self._settled_last = True
                return True
        return False

    def _settle(self, message: OpenMessage, now: Now) -> None:
        if self._rules.on_unknown == "hold":
            words = "the fate of a message is unknown, and on_unknown is hold"
            self._record(message, dict.fromkeys(message.values, "held"), words)
            return
        slot = self._keys.usable("values", now.boottime)
        spent = self._store.read(lambda db: journal.spent(db, to_ms(now.wall)))
        if slot is None:
            self._rest(message, self._keys.again("values"))
        elif not pacing.may_read(spent, self._rules.requests_per_day, self._left, now.boottime):
            self._rest(message, now.boottime + IDLE)
        else:
            self._read_back(message, slot, now)

    def _read_back(self, message: OpenMessage, slot: int, now: Now) -> None:
        hours = sorted(message.values)
        self._store.write(lambda db: journal.spend(db, to_ms(now.wall)))
        found = self._client.hourly_values(message.enerkey_id, hours[0], hours[-1] + 1, self._keys.secret(slot))
        news = self._heard(found.answer, "values", slot)
        if news:
            self._store.write(lambda db: note(db, to_ms(now.wall), "error", "delivery", news))
        if found.values is None:
            self._read_failed(message, found.answer.fate)
            return
        ledger = self._store.read(lambda db: journal.in_ledger(db, message.meter, hours))
        verdicts = verify.read_back(
            message.values,
            ledger,
            found.values,
            tolerance=self._rules.tolerance,
            replaces=self._rules.same_hour == "replace",
        )
        self._record(message, verdicts, _proved(verdicts, message, found.values))

    def _read_failed(self, message: OpenMessage, fate: Fate) -> None:
        now = self._clock.now().boottime
        if not isinstance(fate, Refused):
            self._rests[message.id] = self._rests[message.id].failed(now, self._random)
        elif fate.why != "key":  # a refused key: with the other one at once
            log.warning("%s: read-back refused: %s", self._name(message.meter), _said(fate))
            self._rest(message, now + READ_REFUSED)

    def _rest(self, message: OpenMessage, until: float) -> None:
        self._rests[message.id] = pacing.Pause(self._rests[message.id].failures, until)

    def _record(self, message: OpenMessage, verdicts: dict[int, verify.Verdict], words: str) -> None:
        now_ms = to_ms(self._clock.now().wall)
        level = "warning" if "held" in verdicts.values() else "info"

        def work(db: Connection) -> None:
            journal.settle_by_hour(db, message.id, verdicts, words, now_ms)
            note(db, now_ms, level, self._name(message.meter), words)

        self._store.write(work)
        self._rests.pop(message.id, None)
        log.log(logging.WARNING if level == "warning" else logging.INFO, "%s: %s", self._name(message.meter), words)

    def _name(self, meter: int) -> str:
        return self._meters[meter].name if meter in self._meters else f"meter {meter}"

    # --- sending ------------------------------------------------------------------------------------------------------

    def _push_next(self, now: Now) -> bool:
        due = [meter for meter, at in self._due_times(now).items() if at <= now.boottime]
        if not due or not self._budget_allows(now):
            return False
        for meter in sorted(due, key=lambda meter: self._served.get(meter, 0.0)):
            outgoing = self._begin(self._meters[meter], now)
            if outgoing:
                self._served[meter] = now.boottime
                self._settled_last = False
                self._send(outgoing)
                return True
        return False

    def _budget_allows(self, now: Now) -> bool:
        spent = self._store.read(lambda db: journal.spent(db, to_ms(now.wall)))
        return pacing.may_push(spent, self._rules.requests_per_day, self._left, now.boottime)

    def _begin(self, meter: PushedMeter, now: Now) -> _Outgoing | None:
        """Make the intent durable (R12); None when the meter has to wait."""
        slot = self._keys.usable(meter.family, now.boottime)
        if slot is None:
            self._blocked[meter.id] = self._keys.again(meter.family)
            return None
        draft = self._store.read(lambda db: draft_of(db, meter, self._rules, self._most[meter.id]))
        if draft is None:
            self._blocked[meter.id] = now.boottime + IDLE
            return None
        body = push_body(self._contract, meter.enerkey_id, draft.items)
        intent = Intent(meter.id, meter.family, meter.enerkey_id, body, draft.values, slot)
        message = self._store.write(lambda db: journal.begin(db, intent, self._boot_id, to_ms(now.wall)))
        return _Outgoing(message, meter, body, len(draft.values), slot)

    def _send(self, outgoing: _Outgoing) -> None:
        meter = outgoing.meter
        answer = self._client.push(meter.family, meter.enerkey_id, outgoing.body, self._keys.secret(outgoing.slot))
        key_news = self._heard(answer, meter.family, outgoing.slot)
        now = self._clock.now()
        words = key_news or self._consequence(answer.fate, outgoing, now.boottime)

        def work(db: Connection) -> None:
            journal.settle(db, outgoing.message, answer.fate, to_ms(now.wall))
            if words:
                note(db, to_ms(now.wall), "error", "delivery" if key_news else meter.name, words)

        self._store.write(work)
        if words:
            log.warning("%s: %s", meter.name, words)

    def _consequence(self, fate: Fate, outgoing: _Outgoing, now: float) -> str:
        """Draw the meter's own conclusion from a fate; what an operator should hear of it."""
        meter = outgoing.meter
        if isinstance(fate, Unknown):
            self._rests[outgoing.message] = pacing.Pause(0, now + self._rules.settle)
            log.info("%s: fate unknown (%s); read back in %.0f s", meter.name, fate.text, self._rules.settle)
        if isinstance(fate, Accepted):
            self._parked.pop(meter.id, None)
        if not isinstance(fate, Refused):
            return ""
        said = _said(fate)
        if fate.why == "size" and outgoing.hours > 1:
            self._most[meter.id] = outgoing.hours // 2
            return f"a message of {outgoing.hours} hours is too large for EnerKey ({said}); half as many from now on"
        if fate.why in {"meter", "size"}:
            self._parked[meter.id] = now + PARKED
            return f"EnerKey does not take meter {meter.enerkey_id} ({said}); tried again in a day"
        if fate.why == "data":
            return f"EnerKey refused {outgoing.hours} h, held until somebody decides: {said}"
        return ""

    def _heard(self, answer: Answer, family: str, slot: int) -> str:
        """Draw the conclusions that concern every meter; what an operator should hear of a key."""
        now = self._clock.now()
        outage = self._manners.outage
        self._manners = self._manners.after(answer.fate, now.boottime, self._random)
        if self._manners.outage != outage:
            _tell_outage(answer.fate, over=outage)
        if answer.remaining is not None:
            self._left = pacing.Left(answer.remaining, now.boottime)
        if answer.date is not None:
            self._on_date(now.wall, answer.date)
        if isinstance(answer.fate, Accepted):
            self._keys.accepted(slot, family, now.wall)
            return ""
        fate = answer.fate
        new = isinstance(fate, Refused) and fate.why == "key" and self._keys.refused(slot, family, now.boottime)
        return f"EnerKey refuses API key {slot + 1} for {family}: {_said(fate)}" if new else ""

    # --- when ---------------------------------------------------------------------------------------------------------

    def _due_times(self, now: Now) -> dict[int, float]:
        estimated = self._rules.push_estimated
        oldest = self._store.read(lambda db: journal.oldest_pending(db, self._meters, estimated=estimated))
        return {
            meter: max(
                now.boottime + (self._due_wall(meter, hour) - now.wall).total_seconds(),
                self._parked.get(meter, 0.0),
                self._blocked.get(meter, 0.0),
            )
            for meter, hour in oldest.items()
        }

    def _due_wall(self, meter: int, hour: int) -> datetime:
        return hour_start(hour + 1) + timedelta(seconds=self._meters[meter].offset)

    def _next_due(self, now: Now) -> float:
        later = [at for at in self._due_times(now).values() if at > now.boottime]
        return min([now.boottime + IDLE, *later, *(rest.until for rest in self._rests.values())])


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


def _said(fate: Fate) -> str:
    """The server's or the network's own words."""
    if isinstance(fate, Refused):
        return f"HTTP {fate.status}: {fate.text}"
    return f"HTTP {fate.status}" if isinstance(fate, Accepted) else fate.text


def _tell_outage(fate: Fate, *, over: bool) -> None:
    if over:
        log.info("EnerKey answers again")
    else:
        log.warning("EnerKey cannot be reached (%s); trying again with growing pauses", _said(fate))


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
