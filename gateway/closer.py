"""Closes hours: `Watermarks` say when, the pure functions of `buffer` say what, the closer reads, freezes and tells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from buffer.closing import (
    epochs_of,
    freeze,
    frozen_of,
    hold,
    imbalance,
    inputs_after,
    said_so_far,
    tell_until,
    told_until,
)
from buffer.corrections import GATEWAY, Word, newest_ends, noticed
from buffer.counter import OBJECTIONS, CounterRule, Epoch, Verdict, judge
from buffer.doubts import unbalanced
from buffer.frozen import Frozen, Sample
from buffer.hours import ClosedHour, Rule, Span, close_hours, gaps, open_meter, question, reach, scan_after
from buffer.model import HOUR_MS, from_micro, hour_start, to_ms
from buffer.placing import Boot, Placed, Refused, newest_edge, place
from buffer.readings import Rejection, differing, newest_per_meter, note, note_once, reject, samples_of, unsuspect
from buffer.store import StoreError
from gateway.machine import MADE_UP
from gateway.verdicts import (
    LONG_GAP_MS,
    Told,
    doubt_told,
    dropped,
    gap_told,
    late_told,
    placed_told,
    question_told,
    suspected,
    verdict_told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from buffer.readings import StoredReading
    from buffer.store import Connection, Store
    from drivers.base import Now
    from gateway.clock import News, Trust
    from gateway.watermarks import Watermarks

log = logging.getLogger(__name__)

UNTRUSTED_LOOK = 1.0  # s between looks at a clock that is not trusted yet
AFTER_FAILURE = 5.0  # s before the store is tried again
UNBOUNDED = CounterRule()
HOURS_PER_DAY = 24
EVERYTHING = -(2**62)  # an instant before every reading


@dataclass(frozen=True, slots=True)
class ClosingMeter:
    """What the closer must know of one meter."""

    id: int
    name: str
    rule: Rule
    connection: str = ""
    counter: CounterRule = UNBOUNDED
    start_value: int = 0  # running totals of interval and power sources begin here


class _Decision(NamedTuple):
    """What is to become of one meter; `after` is None while it has no opening yet."""

    meter: ClosingMeter
    before: Frozen | None
    after: Frozen | None
    hours: Sequence[ClosedHour]
    doubt: Told | None
    objection: str  # in short why the newest reading is not believed
    verdicts: Sequence[Verdict]  # not told yet
    gaps: Sequence[Told]  # that are closed now
    suspects: Sequence[Sample] = ()  # not recorded yet
    believed: Sequence[int] = ()  # instants of readings that may have been recorded as suspects, and are good

    @property
    def progress(self) -> bool:
        return self.after is not None and (self.before is None or self.after.edge > self.before.edge)


class _Facts(NamedTuple):
    """What the buffer knows of one meter."""

    frozen: Frozen | None
    epochs: Sequence[Epoch]
    told_until: int
    inputs_after: int | None


class Placer:
    """Attends to the clock: asks who vouches for it, tells what happens to it, places what waited for it (R1, R5)."""

    def __init__(self, store: Store, meters: Mapping[int, ClosingMeter], boot_id: str, trust: Trust) -> None:
        """Look into the file for the newest closed hour, and ask whoever may vouch a first time."""
        self._store = store
        self._meters = meters
        self._boot_id = boot_id
        self._trust = trust
        self._placed_at: int | None = None  # the trust's `changes` when everything was placed
        self._untold: list[News] = []
        newest = store.read(newest_edge)
        if newest is not None:
            trust.closed_until(hour_start(newest))
        trust.ask(float("-inf"))

    def attend(self, now: Now) -> None:
        """Ask and tell. Raises StoreError when it cannot be told yet."""
        if not now.trusted:
            self._trust.ask(now.boottime)
        news = self._trust.news(now.boottime)
        for each in news:
            log.log(logging.getLevelNamesMapping()[each.level.upper()], "clock: %s", each.text)
        self._untold += news
        if self._untold:
            self._store.write(self._tell(to_ms(now.wall)))
            self._untold = []

    @property
    def done(self) -> bool:
        """Nothing waits for the clock; a reading that is being stored at this moment looks at the clock itself."""
        return self._placed_at == self._trust.changes

    def place(self, now: Now) -> dict[int, int]:
        """Place what waits, or a part of it, and return each meter's newest instant (ms)."""
        changes = self._trust.changes
        known = not self._boot_id.startswith(MADE_UP)
        boot = Boot(self._boot_id, to_ms(now.wall) - round(now.boottime * 1000), to_ms(now.wall), known)
        rules = {number: meter.rule for number, meter in self._meters.items()}

        def work(db: Connection) -> Placed:
            placed = place(db, boot, rules)
            reject(db, [self._differing(row, first) for row, first in placed.conflicts])
            reject(db, [self._refused(each, boot.now_ms) for each in placed.refused])
            for subject, told in placed_told(placed, self._trust.reason or "it was a moment ago"):
                note(db, boot.now_ms, told.level, subject, told.text)
            for late in placed.late:
                if late.tell and late.meter in self._meters:
                    note(db, boot.now_ms, late_told(late).level, self._meters[late.meter].name, late_told(late).text)
            return placed

        placed = self._store.write(work)
        self._placed_at = None if placed.more else changes
        newest: dict[int, int] = {}
        for row in placed.stored:
            if row.meter in self._meters:
                newest[row.meter] = max(row.at, newest.get(row.meter, row.at))
        return newest

    def _tell(self, now_ms: int) -> Callable[[Connection], None]:
        def work(db: Connection) -> None:
            for each in self._untold:
                note(db, now_ms, each.level, "clock", each.text)

        return work

    def _differing(self, row: StoredReading, first: int) -> Rejection:
        meter = self._meters.get(row.meter)
        return differing(row, first, meter.connection if meter else "", meter.name if meter else None)

    def _refused(self, refused: Refused, now_ms: int) -> Rejection:
        meter = self._meters.get(refused.meter)
        connection, name = (meter.connection, meter.name) if meter else ("", None)
        return Rejection(now_ms, connection, name, refused.reason, refused.detail, str(from_micro(refused.value)))


class Closer:
    """The worker that freezes hours."""

    def __init__(
        self,
        store: Store,
        meters: Iterable[ClosingMeter],
        watermarks: Watermarks,
        boot_id: str,
        trust: Trust,
        on_closed: Callable[[], None],
    ) -> None:
        """`on_closed` is called after hours have been frozen."""
        self.name = "closer"
        self.wake = Event()
        self._store = store
        self._meters = {meter.id: meter for meter in meters}
        self._marks = watermarks
        self._trust = trust
        trust.attended_by(self.wake)
        self._placer = Placer(store, self._meters, boot_id, trust)
        self._on_closed = on_closed
        self._doubted: dict[int, str] = {}
        self._stale = False
        self._news_from: dict[int, int] = {}  # by meter: a reading before this instant (ms) passes no new edge
        self._restore()

    def saw(self, newest: Mapping[int, int], boottime: float) -> None:
        """The collector stored readings; `newest` is each meter's latest instant (ms). Called by any thread."""
        further = [meter for meter, at in newest.items() if at >= self._news_from.get(meter, EVERYTHING)]
        if not further:
            return
        reached = [(meter, self._reach(meter, newest[meter])) for meter in further]
        if self._marks.saw_all(reached, boottime):
            self.wake.set()
        for meter, edge in reached:
            self._news_from[meter] = scan_after(edge + 1, self._meters[meter].rule)

    def step(self, now: Now) -> float:
        """Place what waited for the clock, then close what may be closed; nothing under an untrusted clock (R5)."""
        try:
            self._placer.attend(now)
            if not now.trusted:
                return now.boottime + UNTRUSTED_LOOK
            if self._stale:
                self._restore()
            if not self._placer.done:
                self.saw(self._placer.place(now), now.boottime)
            return self._close_due(now) if self._placer.done else now.boottime
        except StoreError as error:
            self._stale = True  # R26: only the file knows what was frozen
            log.warning("hours not closed: %s", error)
            return now.boottime + AFTER_FAILURE

    def _restore(self) -> None:
        def look(db: Connection) -> dict[int, tuple[int, Frozen | None]]:
            ends = newest_ends(db)
            newest = {meter: max(at, ends.get(meter, at)) for meter, at in newest_per_meter(db, self._meters).items()}
            return {meter: (at, frozen_of(db, meter)) for meter, at in newest.items()}

        for meter, (at, frozen) in self._store.read(look).items():
            self._marks.restored(meter, frozen.edge if frozen else None, self._reach(meter, at))
        self._news_from.clear()  # a file that was salvaged may have lost edges
        self._stale = False

    def _reach(self, meter: int, at: int) -> int:
        return reach((at, 0), self._meters[meter].rule)

    # --- closing ----------------------------------------------------------------------------------------------------

    def _close_due(self, now: Now) -> float:
        limit, into_hour = divmod(to_ms(now.wall), HOUR_MS)
        edges = self._marks.due(now.boottime, limit).edges
        if edges:
            self._close(edges, now)
        later = self._marks.due(now.boottime, limit)
        return min(later.again, now.boottime + (HOUR_MS - into_hour) / 1000) if later.ahead else later.again

    def _close(self, edges: Mapping[int, int], now: Now) -> None:
        """Decide and freeze.

        Counters are decided outside the writer, while drivers go on storing: a reading that slips in between changes no
        total. Of the others every reading is energy: it is in the hour when it was stored before, late when after.
        """
        counters = {meter: edge for meter, edge in edges.items() if self._meters[meter].rule.kind == "counter"}
        others = {meter: edge for meter, edge in edges.items() if meter not in counters}
        said, decided = self._store.read(lambda db: (said_so_far(db), self._decide(db, counters)))

        def work(db: Connection) -> list[_Decision]:
            # A word that came in between is an input: an hour frozen without it would never hear of it.
            heard = decided if said_so_far(db) == said else self._decide(db, counters)
            decisions = [*heard, *self._decide(db, others)]
            self._freeze(db, decisions, to_ms(now.wall))
            return decisions

        decisions = self._store.write(work)
        for each in decisions:
            edge = each.after.edge if each.after else None
            if each.hours:
                self._trust.closed_until(hour_start(each.hours[-1].hour + 1))
            self._marks.closed(each.meter.id, edge, progress=each.progress, boottime=now.boottime)
            self._doubted[each.meter.id] = each.objection
        if any(each.hours for each in decisions):
            self._on_closed()

    def _decide(self, db: Connection, edges: Mapping[int, int]) -> list[_Decision]:
        meters = [self._meters[meter] for meter in edges]
        facts = {
            meter.id: _Facts(
                frozen_of(db, meter.id), epochs_of(db, meter.id), told_until(db, meter.id), inputs_after(db, meter.id)
            )
            for meter in meters
        }
        since = {meter.id: _scanned_after(facts[meter.id], meter.rule) for meter in meters}
        samples = samples_of(db, since)
        return [self._decided(meter, facts[meter.id], samples[meter.id], edges[meter.id]) for meter in meters]

    def _decided(self, meter: ClosingMeter, facts: _Facts, samples: Sequence[Sample], limit: int) -> _Decision:
        if meter.rule.kind != "counter":
            return _Decision(meter, facts.frozen, *_closed(meter, facts.frozen, samples, limit), None, "", (), ())
        judged = judge(samples, facts.frozen, meter.counter, facts.epochs)
        tail = facts.frozen.tail if facts.frozen else None
        asked = question(tail, judged.good, meter.rule, {epoch.at for epoch in facts.epochs})
        if asked:
            limit = min(limit, asked[0][0] // HOUR_MS)
        after, hours = _closed(meter, facts.frozen, judged.good, limit, judged.doubtful)
        if after:
            track = judged.track_at(after.edge * HOUR_MS, facts.frozen.track if facts.frozen else None)
            after = after._replace(track=track.without(sum(hour.parked for hour in hours)) if track else None)
        # Without an opening nobody could remember what was told: it is told with the opening.
        told = facts.told_until
        verdicts = [verdict for verdict in judged.verdicts if after and verdict.at > told]
        suspects = [sample for sample in judged.suspects if after and sample[0] > told]
        believed = [at for at, _ in judged.good if at <= told]
        doubt, objection = doubt_told(judged, meter.name), judged.objection
        if asked and doubt is None:
            doubt = question_told(asked, meter.name)
            objection = doubt.text
        closed = _gaps_closed(meter.rule, tail, judged.good, hours)
        return _Decision(meter, facts.frozen, after, hours, doubt, objection, verdicts, closed, suspects, believed)

    def _freeze(self, db: Connection, decisions: Iterable[_Decision], now_ms: int) -> None:
        for each in decisions:
            name = each.meter.name
            if each.after is not None and (each.hours or each.before is None):
                freeze(db, each.meter.id, each.hours, each.after, now_ms)
                _check_sums(db, each, now_ms)
            self._tell(db, each, now_ms)
            for told in each.gaps:
                note(db, now_ms, told.level, name, told.text)
            if each.doubt and each.objection != self._doubted.get(each.meter.id, ""):
                note_once(db, now_ms, each.doubt.level, name, each.doubt.text)

    def _tell(self, db: Connection, decision: _Decision, now_ms: int) -> None:
        """Each verdict and each suspect once: as an event, and in `rejected`."""
        meter = decision.meter
        dismissed = [at for verdict in decision.verdicts for at, _ in verdict.samples]
        unsuspect(db, meter.name, [*decision.believed, *dismissed], OBJECTIONS)
        for verdict in decision.verdicts:
            event = verdict_told(verdict, meter.name)
            note(db, now_ms, event.level, meter.name, event.text)
            reject(db, dropped(verdict, meter.connection, meter.name))
            noticed(db, Word(meter.id, meter.name, GATEWAY, now_ms), verdict)
        reject(db, suspected(decision.suspects, decision.objection, meter.connection, meter.name))
        told = [verdict.at for verdict in decision.verdicts] + [at for at, _ in decision.suspects]
        if told:
            tell_until(db, meter.id, max(told))


def _check_sums(db: Connection, decision: _Decision, now_ms: int) -> None:
    """R7 at every close, of the day's hours: with those of the days before, each checked in its turn, all of them add up.

    To sum up years at every midnight would hold up the writer for seconds; `buffer check` does that, and beside it. Once
    they did not add up, later hours wait as well until somebody has decided about those that are held.
    """
    if not decision.hours:
        return
    if unbalanced(db, decision.meter.id):
        hold(db, decision.meter.id)
        return
    first = decision.hours[0].hour
    off = imbalance(db, decision.meter.id, first - first % HOURS_PER_DAY)
    if off == 0:
        return
    hold(db, decision.meter.id)
    by = "an hour is not there" if off is None else f"they are {from_micro(off).normalize():f} off"
    text = f"its hours do not add up to its boundaries ({by}): the file was changed or is damaged; nothing more of this meter is sent"
    note(db, now_ms, "error", decision.meter.name, text)


def _scanned_after(facts: _Facts, rule: Rule) -> int:
    frozen = scan_after(facts.frozen.edge, rule) if facts.frozen else EVERYTHING
    return frozen if facts.inputs_after is None else max(frozen, facts.inputs_after)


def _closed(
    meter: ClosingMeter, opened: Frozen | None, samples: Sequence[Sample], limit: int, doubtful: Sequence[Span] = ()
) -> tuple[Frozen | None, Sequence[ClosedHour]]:
    """The state after closing what may be closed, and the hours closed."""
    opened = opened or open_meter(samples, meter.rule, limit, meter.start_value)
    if opened is None:
        return None, ()
    later = [sample for sample in samples if sample[0] > scan_after(opened.edge, meter.rule)]
    hours, after = close_hours(opened, later, meter.rule, limit, doubtful)
    return after, hours


def _gaps_closed(
    rule: Rule, tail: Sample | None, good: Sequence[Sample], hours: Sequence[ClosedHour]
) -> Sequence[Told]:
    """The long gaps, and those with a hole, whose last edge is frozen now."""
    if not hours:
        return ()
    found = []
    for left, right in gaps(tail, good, rule):
        parked = sum(hour.parked for hour in hours if left[0] <= hour.hour * HOUR_MS < right[0])
        now = hours[0].hour < (right[0] - 1) // HOUR_MS <= hours[-1].hour + 1
        if parked or (now and right[0] - left[0] > LONG_GAP_MS):
            found.append(gap_told(left, right, rule.gap, parked))
    return found
