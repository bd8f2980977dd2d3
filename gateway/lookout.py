"""Looks at EnerKey that no doubt has asked for: before old hours are sent (R19), and daily at what was accepted (R18).

What an hour's own message cannot tell, such a look does: that a database was restored and has forgotten what it sent, that
somebody else fills the same meter, that a proxy delivered a message twice. It decides with the same three numbers as a
read-back, and never sends anything again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from buffer import journal, looks
from buffer.model import Fate, Refused, from_micro, hour_of, hour_start, to_ms
from buffer.readings import note, note_once
from gateway import boundaries, pacing, verify
from gateway.line import said
from gateway.messages import everything

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from buffer.store import Connection, Store
    from drivers.base import Clock, Now
    from gateway.composing import Draft
    from gateway.line import Line
    from gateway.messages import DeliveryRules, PushedMeter

log = logging.getLogger(__name__)

MOST_HOURS = 8760  # in one look
WITHOUT_BUDGET = 60.0  # s until the budget is asked again
READ_REFUSED = 3600.0  # s; a look that EnerKey refuses is a matter for a person
AUDIT_EVERY = 86_400.0  # s
AUDIT_PAUSE = 900.0  # s that audits wait for a key or for the budget


class _Proof(NamedTuple):
    """Nothing of [first, end) that waits is at EnerKey, believed until then (boottime)."""

    first: int
    end: int
    until: float


class Looked(NamedTuple):
    """Whether a request was made, and until when (boottime) the meter waits."""

    asked: bool
    until: float
    unknown_meter: bool = False


class Lookout:
    """Looks and audits; part of the delivery worker, in its thread."""

    def __init__(
        self,
        store: Store,
        line: Line,
        meters: Mapping[int, PushedMeter],
        rules: DeliveryRules,
        clock: Clock,
        random: Random,
    ) -> None:
        """Nothing is asked yet."""
        self._store = store
        self._line = line
        self._meters = meters
        self._rules = rules
        self._clock = clock
        self._random = random
        self._old = max(rules.old_hours, 2 * pacing.cadence(len(meters), rules.requests_per_day))
        self._proofs: dict[int, list[_Proof]] = {}
        self._looked: set[int] = set()  # meters that this process has looked at: what it reads of them since is a proof
        self._failed: dict[int, pacing.Pause] = {}
        self._audits: dict[int, float] | None = None  # meter -> when (boottime) it is audited next

    # --- before sending -----------------------------------------------------------------------------------------------

    def is_needed(self, meter: PushedMeter, draft: Draft, now: Now) -> bool:
        """Whether EnerKey has to be read before this message may go. Not where the key cannot read (`on_unknown`)."""
        if self._rules.on_unknown == "hold":
            return False
        after = self._store.read(lambda db: looks.look_after(db, meter.id))
        doubted = after is not None
        if after is not None and after > to_ms(now.wall):
            self._looked.discard(meter.id)  # whatever was read before then proves nothing
        if doubted and meter.id not in self._looked:
            return True
        old = [hour for hour in draft.values if doubted or hour < hour_of(to_ms(now.wall)) - self._old]
        proofs = [proof for proof in self._proofs.get(meter.id, []) if proof.until > now.boottime]
        self._proofs[meter.id] = proofs
        old = [hour for hour in old if not any(proof.first <= hour < proof.end for proof in proofs)]
        if doubted:
            return bool(old)
        known = self._store.read(lambda db: journal.in_ledger(db, meter.id, old)) if old else {}
        return any(hour not in known for hour in old)  # an adjustment goes to an hour that is known to be there

    def proved(self, meter: int, hours: Sequence[int], now: float) -> None:
        """EnerKey was just read for these hours, sorted, and those that wait are not there."""
        if hours:
            proof = _Proof(hours[0], hours[-1] + 1, now + self._old * 3600.0)
            self._proofs[meter] = [*self._proofs.get(meter, []), proof]

    def look(self, meter: PushedMeter, draft: Draft, now: Now) -> Looked:
        """Read all that waits of a meter, and record what is there."""
        after = self._store.read(lambda db: looks.look_after(db, meter.id)) or 0
        slot = self._line.keys.usable("values", now.boottime)
        if after > to_ms(now.wall):
            return Looked(asked=False, until=now.boottime + (after - to_ms(now.wall)) / 1000)
        if slot is None:
            return Looked(asked=False, until=self._line.keys.again("values"))
        if not self._line.may_read(now):
            return Looked(asked=False, until=now.boottime + WITHOUT_BUDGET)
        whole = self._store.read(lambda db: everything(db, meter, self._rules, MOST_HOURS))
        if not whole.values.keys() >= draft.values.keys():
            whole = draft
        hours = sorted(whole.values)
        first = hours[0] - (boundaries.REACH_BACK if meter.family == "cumulative" else 0)
        found = self._line.read(meter.enerkey_id, first, hours[-1] + 1, slot)
        if found.values is None:
            return self._not_seen(meter, found.answer.fate)
        self._failed.pop(meter.id, None)
        server = boundaries.derived(found.values, first) if meter.family == "cumulative" else found.values
        self._record(meter, whole, server)
        return Looked(asked=True, until=now.boottime)

    def _not_seen(self, meter: PushedMeter, fate: Fate) -> Looked:
        now = self._clock.now()
        if not isinstance(fate, Refused):
            self._failed[meter.id] = self._failed.get(meter.id, pacing.Pause()).failed(now.boottime, self._random)
            log.info("%s: could not be read before it is sent: %s", meter.name, said(fate))
            return Looked(asked=True, until=self._failed[meter.id].until)
        if fate.why == "key":
            return Looked(asked=True, until=now.boottime)  # with the other one at once
        words = (
            f"nothing is sent before EnerKey has been read, and it refuses that ({said(fate)}): check the meter's enerkey_id and"
            ' [enerkey.contract] hourly_values; where no key may read, set on_unknown = "hold"'
        )
        self._store.write(lambda db: note_once(db, to_ms(now.wall), "error", meter.name, words))
        log.warning("%s: %s", meter.name, words)
        return Looked(asked=True, until=now.boottime + READ_REFUSED, unknown_meter=fate.why == "meter")

    def _record(self, meter: PushedMeter, whole: Draft, server: Mapping[int, int]) -> None:
        hours = sorted(whole.values)
        reach = [min([*server, *hours]), *hours]
        ledger = self._store.read(lambda db: journal.in_ledger(db, meter.id, reach))
        verdicts = verify.read_back(whole.values, ledger, server, tolerance=self._rules.tolerance)
        series = self._store.read(lambda db: looks.series(db, meter.id))
        if meter.family == "cumulative":
            verdicts = boundaries.doubted(verdicts, ledger, server, **series._asdict())
        found = {hour: whole.values[hour] for hour in hours if verdicts[hour] == "accepted"}
        held = [hour for hour in hours if verdicts[hour] == "held"]
        now = self._clock.now()

        def work(db: Connection) -> None:
            waiting = [hour for hour in hours if verdicts[hour] == "pending"]
            seen = looks.Seen(found, whole.adjusted, held, meter.family == "consumption", waiting)
            looks.looked(db, meter.id, seen, to_ms(now.wall))
            if meter.family == "cumulative" and not held and boundaries.unbased(server, **series._asdict()):
                looks.look_again(db, meter.id)  # all of it is there; what follows would not continue it
            if found:
                there = f"{len(found)} h were at EnerKey already, found before they were sent"
                note(db, to_ms(now.wall), "info", meter.name, there)
            if held:
                hour = held[0]
                sent = f"to be sent was {from_micro(whole.values[hour])}"
                words = f"{len(held)} h held before they were sent: {_shown(hour, server)}, {sent}"
                note(db, to_ms(now.wall), "warning", meter.name, words)

        self._store.write(work)
        if meter.id not in self._looked:
            self._looked.add(meter.id)
            self._proofs[meter.id] = []
        self.proved(meter.id, hours, now.boottime)
        log.info("%s: read before sending: %d h are there, %d h held", meter.name, len(found), len(held))

    # --- after sending ------------------------------------------------------------------------------------------------

    def audit_next(self, now: Now) -> bool:
        """Compare the meter that waited longest for it with what it was accepted for; False when none is due."""
        if self._rules.on_unknown == "hold":
            return False
        if self._audits is None:
            self._audits = self._first_audits(now)
        meter = min(self._audits, key=lambda meter: (self._audits or {})[meter], default=None)
        if meter is None or self._audits[meter] > now.boottime:
            return False
        slot = self._line.keys.usable("values", now.boottime)
        if slot is None or not self._line.may_read(now):
            self._audits = {each: max(at, now.boottime + AUDIT_PAUSE) for each, at in self._audits.items()}
            return False
        return self._audit(self._meters[meter], slot, self._audits, now)

    @property
    def due(self) -> float:
        """When (boottime) the next audit is."""
        return min((self._audits or {}).values(), default=float("inf"))

    def _first_audits(self, now: Now) -> dict[int, float]:
        now_ms = to_ms(now.wall)
        last = self._store.write(lambda db: looks.audits(db, self._meters.keys(), now_ms))
        return {
            meter: now.boottime + (at - now_ms) / 1000 + AUDIT_EVERY + self._meters[meter].offset
            for meter, at in last.items()
        }

    def _audit(self, meter: PushedMeter, slot: int, audits: dict[int, float], now: Now) -> bool:
        audits[meter.id] = now.boottime + AUDIT_EVERY
        now_ms, settle_ms = to_ms(now.wall), round(self._rules.settle * 1000)
        ledger = self._store.read(lambda db: looks.accepted_lately(db, meter.id, now_ms - settle_ms, now_ms))
        if not ledger:
            return False
        last = max(ledger)
        ledger = {hour: accepted for hour, accepted in ledger.items() if hour > last - MOST_HOURS}
        found = self._line.read(meter.enerkey_id, min(ledger), last + 1, slot)
        if found.values is None:
            audits[meter.id] = self._clock.now().boottime + READ_REFUSED
            return True
        server = found.values
        differing = verify.audit(ledger, server, self._rules.tolerance)

        def work(db: Connection) -> None:
            looks.audited(db, meter.id, differing, now_ms)
            if differing:
                hour = differing[0]
                words = f"{len(differing)} h held: {_shown(hour, server)}, accepted was {from_micro(ledger[hour])}"
                note(db, now_ms, "error", meter.name, words)
                log.warning("%s: %s", meter.name, words)

        self._store.write(work)
        return True


def _shown(hour: int, server: Mapping[int, int]) -> str:
    there = from_micro(server[hour]) if hour in server else "nothing"
    return f"EnerKey shows {there} for {hour_start(hour):%Y-%m-%d %H:%M}Z"
