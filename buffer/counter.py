"""What a counter's readings mean: a state machine over readings in time order, pure (R9, DESIGN 5, reliability 3.3).

    normal ──below the last reading, or faster than max_rate──> suspect
    suspect ──a reading that continues the old track──────────> normal, the suspects were a glitch
    suspect ──three consistent readings over ten minutes──────> rollover | reset | replaced (a lower level)
                                                                held (a higher one: only a person can know)

Where `max_rate` is not known, a reading that rises waits for the next one: when that falls back to where the register
was before, the rise was a glitch. A suspect adds nothing and closes nothing. What is good becomes part of the *total*:
the register's value plus an offset that each confirmed rollover, reset or replacement moves, so that the total never
falls and its differences are energy. The judgement depends on the readings alone, never on when they came: the same
readings give the same totals however they are grouped, and a restart from a frozen edge gives what one pass over
everything would have given.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer.frozen import Former, Frozen, Sample, Track
from buffer.model import HOUR_MS, MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS_ALLOWED = 2  # of the register's resolution: within them it may fall (noise), and rise beyond max_rate (DESIGN 5)
CONFIRMED_BY = 3  # consistent readings that make a new level
CONFIRMED_AFTER_MS = 10 * MINUTE_MS  # and that they must span
FLOAT32_DIGITS = 23  # bits of a float32's fraction: its step at a value is the value / 2^23
PLAUSIBLE_ROLLOVER = 10  # without max_rate: a rollover moves by at most a tenth of the register's range

BACKWARDS = "the counter went backwards"
TOO_FAST = "the counter rose faster than max_rate"
HELD = "the counter stays above what max_rate allows"
OBJECTIONS = (BACKWARDS, TOO_FAST, HELD)

Kind = Literal["glitch", "rollover", "reset", "replaced", "returned"]


@dataclass(frozen=True, slots=True)
class CounterRule:
    """What is known of a counter. All in micro; `max_rate` per hour, None for no bound.

    `rollover` is the value at which the register starts again at zero; `reset`: whether the source may start again at
    zero by itself. `float32`: the register's step grows with its value.
    """

    max_rate: int | None = None
    resolution: int = 1
    float32: bool = False
    rollover: int | None = None
    reset: Literal["never", "zero"] = "never"

    def band(self, value: int) -> int:
        """How far a register at this value may move without meaning anything."""
        step = max(self.resolution, (value >> FLOAT32_DIGITS) + 1) if self.float32 else self.resolution
        return STEPS_ALLOWED * step

    def allows(self, rise: int, at: int, track: Track) -> bool:
        """Whether a register may have risen by so much since it last moved."""
        if self.max_rate is None:
            return True
        return rise <= self.max_rate * (at - track.changed) // HOUR_MS + self.band(track.raw)

    def may_roll_over(self, rise: int, at: int, track: Track) -> bool:
        """Whether a fall may be the register's own turn at `rollover`, which then means this rise."""
        if self.rollover is None or rise < 0:
            return False
        return self.allows(rise, at, track) if self.max_rate else rise <= self.rollover // PLAUSIBLE_ROLLOVER


class Epoch(NamedTuple):
    """From this instant the register is another one: a person said so, or the configuration changed.

    `old_final` is what the old register stood at, None where that is unknown; `new_initial` what the new one began at, None
    where its first reading decides and nothing is booked up to it. `final`: a person's word for a meter that is silent, so
    it counts without a reading after it.
    """

    at: int
    old_final: int | None = None
    new_initial: int | None = None
    final: bool = False


class Verdict(NamedTuple):
    """What became of suspects. `samples` are theirs, as the register said; `at` is the instant that decided it."""

    at: int
    kind: Kind
    before: Sample
    samples: tuple[Sample, ...]


class Judged(NamedTuple):
    """The totals that may be used, each with its track, in time order; the verdicts; and what is suspect still."""

    good: list[Sample]
    tracks: list[Track]
    verdicts: list[Verdict]
    suspects: tuple[Sample, ...]
    objection: str  # why the newest suspect is one; "" without suspects
    doubtful: list[tuple[int, int]]  # (ms, ms): in between, energy may be missing that nobody can know

    def track_at(self, at: int, before: Track | None) -> Track | None:
        """The track of the newest good sample at or before an instant; `before` when there is none."""
        end = bisect_right(self.good, at, key=lambda sample: sample[0])
        return self.tracks[end - 1] if end else before


def judge(samples: Sequence[Sample], frozen: Frozen | None, rule: CounterRule, epochs: Sequence[Epoch] = ()) -> Judged:
    """Judge samples later than the frozen edge, as the register said them; None: the meter has no opening yet."""
    scan = _Scan(rule, frozen)
    since = frozen.edge * HOUR_MS if frozen else None
    told = sorted((each for each in epochs if since is None or each.at > since), key=lambda epoch: epoch.at)
    for sample in samples:
        while told and told[0].at <= sample[0]:
            scan.begin(told.pop(0))
        scan.take(sample)
    if told and told[-1].final:
        for epoch in told:
            scan.begin(epoch)
    return scan.judged()


class _Scan:
    """One pass. `_floor` is a boundary that is frozen already: nothing is taken back (R8)."""

    def __init__(self, rule: CounterRule, frozen: Frozen | None) -> None:
        self._rule = rule
        self._floor = frozen.boundary if frozen else None
        self._track = frozen.track if frozen else None
        self._last = frozen.tail[0] if frozen and frozen.tail else 0
        self._opened = frozen is not None
        self._good: list[Sample] = []
        self._tracks: list[Track] = []
        self._verdicts: list[Verdict] = []
        self._doubtful: list[tuple[int, int]] = []
        self._risen: Sample | None = None  # without max_rate: a rise that the next reading must not take back
        self._suspects: list[Sample] = []  # since the last good one
        self._level = 0  # from here on they agree with each other
        self._level_track = Track(0, 0)  # and stand here
        self._objection = ""

    def judged(self) -> Judged:
        objection = self._objection if self._suspects else ""
        return Judged(self._good, self._tracks, self._verdicts, tuple(self._suspects), objection, self._doubtful)

    def take(self, sample: Sample) -> None:
        """The next reading."""
        track = self._track
        if track and self._risen and sample[1] >= self._risen[1] - self._rule.band(self._risen[1]):
            track = self._settled(sample, track)
        if track is None:
            self._accept(sample, Track(sample[1], sample[0]))
        elif track.awaits:
            self._doubtful.append((self._last, sample[0]))
            self._accept(sample, Track(sample[1], sample[0], track.total - sample[1]))
        elif former := self._returned_to(sample, track):
            self._settled(sample, track)
            self._dismiss(sample[0])
            self._verdict("returned", sample[0], [sample])
            self._accept(sample, Track(former.raw, former.changed, former.offset))
        elif objection := self._objection_to(sample, track):
            self._doubt(sample, track, objection)
        else:
            self._go_on(sample, track)

    def begin(self, epoch: Epoch) -> None:
        """Another register from here on. What is known of the old one's end counts, else nothing up to here."""
        track = self._track
        if track is None:
            return
        final = track.raw if epoch.old_final is None else epoch.old_final
        track = self._settled((epoch.at, final), track)
        self._dismiss(epoch.at)
        if epoch.old_final is None or epoch.final:
            self._doubtful.append((self._last, epoch.at))
        total = max(track.raw, final) + track.offset
        initial = max(track.raw, final) if epoch.new_initial is None else epoch.new_initial
        awaits = epoch.new_initial is None
        self._put(epoch.at, Track(initial, epoch.at, total - initial, awaits=awaits))

    # --- the old track ------------------------------------------------------------------------------------------------

    def _objection_to(self, sample: Sample, track: Track) -> str:
        """Why a sample does not continue a track; "" when it does."""
        rise = sample[1] - track.raw
        if rise < -self._rule.band(track.raw):
            return BACKWARDS
        if not self._rule.allows(rise, sample[0], track):
            return TOO_FAST
        return ""

    def _go_on(self, sample: Sample, track: Track) -> None:
        """A reading that continues the track."""
        track = self._settled(sample, track)
        self._dismiss(sample[0])
        if self._rule.max_rate is None and sample[1] > track.raw:
            self._risen = sample
        else:
            self._accept(sample, track)

    def _settled(self, sample: Sample, track: Track) -> Track:
        """The track after what became of a waiting rise, now that `sample` goes on from where the register was."""
        risen, self._risen = self._risen, None
        if risen is None:
            return track
        if sample[1] < risen[1] - self._rule.band(risen[1]):
            self._suspects.insert(0, risen)
            return track
        return self._accept(risen, track)

    def _accept(self, sample: Sample, track: Track) -> Track:
        """A good sample. Within the noise band the highest value stays: a register that trembles must not count."""
        at, raw = sample
        if raw > track.raw:
            former = track.former
            if former and raw - former.level > self._rule.band(former.level):
                former = None  # the new level lives
            track = Track(raw, at, track.offset, former)
        self._put(at, track)
        return track

    def _put(self, at: int, track: Track) -> None:
        total = max(
            track.total,
            self._good[-1][1] if self._good else track.total,
            track.total if self._floor is None else self._floor,
        )
        if self._good and self._good[-1][0] == at:
            self._good.pop()
            self._tracks.pop()
        self._good.append((at, total))
        self._tracks.append(track)
        self._track, self._last = track, at

    def _dismiss(self, at: int) -> None:
        """The suspects were a glitch."""
        if self._suspects:
            self._verdict("glitch", at, self._suspects)
        self._suspects = []

    def _verdict(self, kind: Kind, at: int, samples: Sequence[Sample]) -> None:
        if self._track is None:
            raise AssertionError("there is no verdict before the first reading")
        self._verdicts.append(Verdict(at, kind, (self._last, self._track.raw), tuple(samples)))

    # --- a track that was left ----------------------------------------------------------------------------------------

    def _returned_to(self, sample: Sample, track: Track) -> Former | None:
        """The track that was left for a lower level which never moved, when a source is back on it."""
        former = track.former
        if former is None or sample[1] < former.raw - self._rule.band(former.raw):
            return None
        if self._rule.max_rate is None:
            return former
        away = self._objection_to(sample, track) and not self._objection_to(sample, Track(former.raw, former.changed))
        return former if away else None

    # --- a new level --------------------------------------------------------------------------------------------------

    def _doubt(self, sample: Sample, track: Track, objection: str) -> None:
        at, raw = sample
        if not self._suspects or self._objection_to(sample, self._level_track):
            self._level, self._level_track = len(self._suspects), Track(raw, at)
        elif raw > self._level_track.raw:
            self._level_track = Track(raw, at)
        self._suspects.append(sample)
        self._objection = objection
        began, first = self._suspects[self._level]
        if len(self._suspects) - self._level < CONFIRMED_BY or at - began < CONFIRMED_AFTER_MS:
            return
        if self._nothing_opened():
            self._begin_again(self._suspects[self._level :])
        elif first < track.raw:
            self._confirm(track, self._suspects[self._level :])
        else:
            self._objection = HELD

    def _confirm(self, track: Track, level: list[Sample]) -> None:
        """Readings agree on a lower level: it is one. Which kind decides what is booked across it."""
        if self._risen:
            track, self._risen = self._accept(self._risen, track), None
        kind, offset = self._lower_level(track, level[0])
        self._suspects = self._suspects[: self._level]
        self._dismiss(level[-1][0])
        self._verdict(kind, level[-1][0], level)
        at, raw = level[0]
        if kind != "rollover":
            self._doubtful.append((self._last, at))
        former = None if kind == "rollover" else Former(track.raw, track.changed, track.offset, raw)
        self._live_on(level, Track(raw, at, offset, former))

    def _lower_level(self, track: Track, first: Sample) -> tuple[Kind, int]:
        """What a confirmed fall was, and the new offset."""
        at, raw = first
        modulus = self._rule.rollover
        if modulus is not None and self._rule.may_roll_over(raw + modulus - track.raw, at, track):
            return "rollover", track.offset + modulus
        if self._rule.reset == "zero" and self._rule.allows(raw, at, track):
            return "reset", track.total
        return "replaced", track.total - raw

    def _nothing_opened(self) -> bool:
        """What was good so far has passed no edge: what came first, a zero of a waking meter, was the glitch."""
        return not self._opened and -(-self._good[0][0] // HOUR_MS) * HOUR_MS > self._last

    def _begin_again(self, level: list[Sample]) -> None:
        self._verdict("glitch", level[-1][0], [*self._good, *self._suspects[: self._level]])
        self._good, self._tracks, self._suspects, self._risen = [], [], [], None
        self._live_on(level, Track(level[0][1], level[0][0]))

    def _live_on(self, level: list[Sample], track: Track) -> None:
        """The readings of a new level count, as any others do."""
        self._suspects = []
        track = self._accept(level[0], track)
        for sample in level[1:]:
            self._go_on(sample, track)
            track = self._track or track
