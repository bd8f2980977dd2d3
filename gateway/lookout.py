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
from gateway.messages import draft_of, everything
from gateway.reads import Wanted, fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from buffer.store import Connection, Store
    from drivers.base import Clock, Now
    from gateway.composing import Draft
    from gateway.line import Line
    from gateway.messages import DeliveryRules, PushedMeter
    from gateway.reads import Reads

log = logging.getLogger(__name__)

MOST_HOURS = 8760  # in one look
PROOF_HOLDS = 31 * 86_400.0  # s; all that this process sends it knows, and a year of backlog may take days to send
WITHOUT_BUDGET = 60.0  # s until the budget is asked again
READ_REFUSED = 3600.0  # s; a look that EnerKey refuses is a matter for a person
AUDIT_EVERY = 86_400.0  # s
AUDIT_PAUSE = 900.0  # s that audits wait for a key or for the budget
AUDIT_COMPANY = 12 * 3600.0  # s that an audit comes early, where several meters are read in one request
AUDIT_AGE = 3600.0  # s; an older audit is renewed by whatever else reads the meter


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

    def __init__(  # noqa: PLR0913, PLR0917 - every port by name
        self,
        store: Store,
        line: Line,
        reads: Reads,
        meters: Mapping[int, PushedMeter],
        rules: DeliveryRules,
        clock: Clock,
        random: Random,
    ) -> None:
        """Nothing is asked yet."""
        self._store = store
        self._line = line
        self._reads = reads
        self._meters = meters
        self._rules = rules
        self._clock = clock
        self._random = random
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
        if after == 0 or (after is not None and after > to_ms(now.wall)):
            self._looked.discard(meter.id)  # a new doubt: whatever was read before it proves nothing
        if doubted and meter.id not in self._looked:
            return True
        recent = hour_of(to_ms(now.wall)) - self._old(now.boottime)
        old = [hour for hour in draft.values if doubted or hour < recent]
        proofs = [proof for proof in self._proofs.get(meter.id, []) if proof.until > now.boottime]
        self._proofs[meter.id] = proofs
        old = [hour for hour in old if not any(proof.first <= hour < proof.end for proof in proofs)]
        if doubted:
            return bool(old)
        known = self._store.read(lambda db: journal.in_ledger(db, meter.id, old)) if old else {}
        return any(hour not in known for hour in old)  # an adjustment goes to an hour that is known to be there

    def proved(self, meter: int, hours: Sequence[int], now: float, *, clean: bool) -> None:
        """EnerKey was just read for these hours, sorted, and those that wait are not there.

        `clean`: and none fitted to nothing. Else a person decides, and may change something there: it is soon read again.
        """
        if hours:
            first, end = hours[0], hours[-1] + 1
            before = self._proofs.get(meter, []) if clean else []
            wider = [proof for proof in before if proof.first < first or proof.end > end]
            holds = PROOF_HOLDS if clean else self._old(now) * 3600.0
            self._proofs[meter] = [*wider, _Proof(first, end, now + holds)]

    def _old(self, now: float) -> int:
        """How many hours an hour may have waited without being old: what comes late by the cadence alone is not."""
        return max(self._rules.old_hours, 2 * pacing.cadence(len(self._meters), self._line.share(now)))

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
        whole = self._whole(meter, draft)
        wholes = {meter.id: whole} | self._others(meter, self._reach(meter.id, whole), max(whole.values), now)
        wanted = {each: self._wanted(each, whole, now) for each, whole in wholes.items()}
        found = self._reads.read(list(wanted.values()), slot)
        for each, read in found.items():
            if read.values is None:
                return self._not_seen(meter, read.answer.fate)
            self._failed.pop(each, None)
            self._record(self._meters[each], wholes[each], self._shown(each, wanted[each].first, read.values))
            self.overhear(each, wanted[each].first, wanted[each].end, read.values, now)
        return Looked(asked=True, until=now.boottime)

    def _whole(self, meter: PushedMeter, draft: Draft) -> Draft:
        whole = self._store.read(lambda db: everything(db, meter, self._rules, MOST_HOURS))
        return whole if whole.values.keys() >= draft.values.keys() else draft

    def _others(self, meter: PushedMeter, first: int, last: int, now: Now) -> dict[int, Draft]:
        """What waits of other meters that have to be looked at as well, and about which the same request can ask."""
        found: dict[int, Draft] = {}
        if not self._reads.several:
            return found
        free = self._store.read(lambda db: journal.without_open_message(db, self._meters)) - {meter.id}
        for other in (self._meters[number] for number in sorted(free)):
            ends = self._ends(other.id)
            if ends is None:
                continue
            wider = min(first, ends[0] - self._reach_back(other.id)), max(last, ends[1])
            if not fits(wider[1] + 1 - wider[0], len(found) + 2):
                continue
            if (draft := self._needs_a_look(other, now)) is not None:
                found[other.id] = self._whole(other, draft)
                first, last = wider
        return found

    def _ends(self, meter: int) -> tuple[int, int] | None:
        return self._store.read(lambda db: journal.pending_ends(db, meter))

    def _needs_a_look(self, meter: PushedMeter, now: Now) -> Draft | None:
        """The next message of a meter, where that needs a look which is possible now."""
        after = self._store.read(lambda db: looks.look_after(db, meter.id)) or 0
        if after > to_ms(now.wall) or self._failed.get(meter.id, pacing.Pause()).until > now.boottime:
            return None
        draft = self._store.read(lambda db: draft_of(db, meter, self._rules, self._rules.most_hours))
        return draft if draft is not None and self.is_needed(meter, draft, now) else None

    def _reach_back(self, meter: int) -> int:
        """How far before its first hour a meter is read: where boundaries are sent, one of somebody else's may be there."""
        return boundaries.REACH_BACK if self._meters[meter].family == "cumulative" else 0

    def _reach(self, meter: int, whole: Draft) -> int:
        return min(whole.values) - self._reach_back(meter)

    def _wanted(self, meter: int, whole: Draft, now: Now) -> Wanted:
        first, end = self.widened(meter, self._reach(meter, whole), max(whole.values) + 1, now)
        return Wanted(meter, self._meters[meter].enerkey_id, first, end)

    def _shown(self, meter: int, first: int, server: Mapping[int, int]) -> Mapping[int, int]:
        return boundaries.derived(server, first) if self._meters[meter].family == "cumulative" else server

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
        series = self._store.read(lambda db: looks.series(db, meter.id))
        verdicts = self._verdicts(meter, whole, ledger, server, series)
        found = {hour: whole.values[hour] for hour in hours if verdicts[hour] == "accepted"}
        held = [hour for hour in hours if verdicts[hour] == "held"]
        now = self._clock.now()

        def work(db: Connection) -> None:
            own = meter.family == "consumption"
            seen = looks.Seen(found, whole.adjusted, held, own, whole.values, server)
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
                if any(hour not in ledger for hour in held):
                    words += f". {_SOMEBODY} {meter.name}"
                note(db, to_ms(now.wall), "warning", meter.name, words)

        self._store.write(work)
        if meter.id not in self._looked:
            self._looked.add(meter.id)
            self._proofs[meter.id] = []
        self.proved(meter.id, hours, now.boottime, clean=not held)
        log.info("%s: read before sending: %d h are there, %d h held", meter.name, len(found), len(held))

    def _verdicts(
        self,
        meter: PushedMeter,
        whole: Draft,
        ledger: Mapping[int, int],
        server: Mapping[int, int],
        series: looks.Series,
    ) -> Mapping[int, verify.Verdict]:
        verdicts = verify.read_back(whole.values, ledger, server, tolerance=self._rules.tolerance)
        if meter.family == "cumulative":
            return boundaries.doubted(verdicts, ledger, server, **series._asdict())
        return verdicts

    # --- after sending ------------------------------------------------------------------------------------------------

    def audit_next(self, now: Now) -> bool:
        """Compare the meter that waited longest for it with what it was accepted for, and others with it.

        False when none is due.
        """
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
        return self._audit(meter, slot, self._audits, now)

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

    def _audit(self, meter: int, slot: int, audits: dict[int, float], now: Now) -> bool:
        ledgers = {meter: self._accepted_lately(meter, now)}
        if not ledgers[meter]:
            audits[meter] = now.boottime + AUDIT_EVERY
            return False
        if self._reads.several:
            soon = [each for each, at in audits.items() if each != meter and at <= now.boottime + AUDIT_COMPANY]
            ledgers |= {each: ledger for each in soon if (ledger := self._accepted_lately(each, now))}
        wanted = [
            Wanted(each, self._meters[each].enerkey_id, min(ledger), max(ledger) + 1)
            for each, ledger in ledgers.items()
        ]
        for each, read in self._reads.read(wanted, slot).items():
            if read.values is None:
                again = self._clock.now().boottime + READ_REFUSED
                audits |= {each: max(again, at) for each, at in audits.items() if each in ledgers}
            else:
                self._compare(self._meters[each], ledgers[each], read.values, now)
        return True

    def widened(self, meter: int, first: int, end: int, now: Now) -> tuple[int, int]:
        """The hours that a read of this meter should reach over, so that it serves as its audit as well."""
        if not self._is_audit_welcome(meter, now.boottime):
            return first, end
        ledger = self._accepted_lately(meter, now)
        wider = min([first, *ledger]), max([end, *(hour + 1 for hour in ledger)])
        return wider if wider[1] - wider[0] <= MOST_HOURS else (first, end)

    def overhear(self, meter: int, first: int, end: int, server: Mapping[int, int], now: Now) -> None:
        """These hours of a meter were read for another reason after `now`: its audit, where that reaches no further."""
        if not self._is_audit_welcome(meter, now.boottime):
            return
        ledger = self._accepted_lately(meter, now)
        if ledger and first <= min(ledger) and max(ledger) < end:
            self._compare(self._meters[meter], ledger, server, now)

    def _is_audit_welcome(self, meter: int, now: float) -> bool:
        """Whether the last audit is old enough to be renewed by the way: the next one is then a day from now."""
        return self._audits is not None and self._audits.get(meter, float("inf")) <= now + AUDIT_EVERY - AUDIT_AGE

    def _accepted_lately(self, meter: int, now: Now) -> dict[int, int]:
        """What is audited: accepted in the last two days and long enough ago to be readable."""
        now_ms, settle_ms = to_ms(now.wall), round(self._rules.settle * 1000)
        ledger = self._store.read(lambda db: looks.accepted_lately(db, meter, now_ms - settle_ms, now_ms))
        return _newest(ledger)

    def _compare(self, meter: PushedMeter, ledger: Mapping[int, int], server: Mapping[int, int], now: Now) -> None:
        now_ms = to_ms(now.wall)
        differing = verify.audit(ledger, server, self._rules.tolerance)

        if differing:
            self._proofs.pop(meter.id, None)  # a person decides, and may change something there

        def work(db: Connection) -> None:
            if meter.family == "consumption":
                self._find_strangers(db, meter, server, now_ms)
            looks.audited(db, meter.id, differing, server, now_ms)
            if differing:
                hour = differing[0]
                words = f"{len(differing)} h held: {_shown(hour, server)}, accepted was {from_micro(ledger[hour])}"
                note(db, now_ms, "error", meter.name, words)
                log.warning("%s: %s", meter.name, words)

        self._store.write(work)
        if self._audits is not None:
            self._audits[meter.id] = now.boottime + AUDIT_EVERY

    def _find_strangers(self, db: Connection, meter: PushedMeter, server: Mapping[int, int], now_ms: int) -> None:
        tolerance = self._rules.tolerance + 10 ** (6 - self._rules.decimals)  # also what rounding makes of a sum
        ours = looks.strangers(db, meter.id, server, tolerance)
        if not ours:
            return
        looks.found_strangers(db, meter.id, ours, server, now_ms)
        shown = _shown(min(ours), server)
        words = f"{len(ours)} h held: {shown}, which nothing of this meter's was accepted for. {_SOMEBODY} {meter.name}"
        note(db, now_ms, "error", meter.name, words)
        log.warning("%s: %s", meter.name, words)


def _newest(ledger: Mapping[int, int]) -> dict[int, int]:
    last = max(ledger, default=0)
    return {hour: accepted for hour, accepted in ledger.items() if hour > last - MOST_HOURS}


_SOMEBODY = "Somebody else fills this meter: nothing of it is sent until: meter-gateway takeover"


def _shown(hour: int, server: Mapping[int, int]) -> str:
    there = from_micro(server[hour]) if hour in server else "nothing"
    return f"EnerKey shows {there} for {hour_start(hour):%Y-%m-%d %H:%M}Z"
