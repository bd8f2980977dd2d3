"""The probe itself: what is sent in which order, what is looked at then, and the way back, however it ends.

Questions do not wait for each other: each has an hour of its own, so that all of a round are sent, and then one wait and
one look answer them. A lost answer is settled by that look; what it cannot settle was not found out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import MICRO, Accepted, Refused
from gateway.line import said
from gateway.probing import judging
from gateway.probing.plan import (
    DIGITS,
    FIRST,
    LESS,
    LEVEL,
    REGISTER,
    RUN,
    SECOND,
    STRIDE,
    UNKNOWN_METER,
    YEAR,
    Hours,
    abroad,
    item,
    patience,
)
from gateway.probing.restoring import Area, Left, Ways, flatten, restore
from gateway.probing.wire import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffer.model import Fate
    from gateway.probing.judging import Proof
    from gateway.probing.plan import Row
    from gateway.probing.wire import Wire

FIRST_LOOK = 1.0  # s; the next ones come after a quarter of the time that has passed: so well is the delay known
MONTH = 31 * 24
ENOUGH = 8  # answers before anything is concluded of the rate limit
FUTURE, PAST = "an hour two days ahead", "an hour 400 days ago"
NO_NUMBER = "a text for a number"
REGISTER_ROUND = ({1: LEVEL + FIRST}, {2: LEVEL + 4 * MICRO}, {5: LEVEL - MICRO})  # again, older, lower


class Meters(NamedTuple):
    """The EnerKey ids of the meters that are probed."""

    consumption: int
    cumulative: int | None


@dataclass(slots=True)
class Result:
    """What came of a probe. `ended`: why it did not come to its end."""

    proofs: list[Proof] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    ended: str = ""

    def value(self, name: str) -> str | None:
        """What was found of this name so far."""
        return next((proof.value for proof in self.proofs if proof.name == name), None)


class Commission:
    """One probe. `before`: what the consumption meter shows in the run of hours that begins with `hours.base`."""

    def __init__(  # noqa: PLR0913, PLR0917 - what is asked, where, and who hears of it
        self,
        wire: Wire,
        meters: Meters,
        hours: Hours,
        before: Mapping[int, int],
        longest_lag: float,
        burst: str,
        tell: Callable[[str], None],
    ) -> None:
        self.result = Result()
        self._wire = wire
        self._meter = meters.consumption
        self._hours = hours
        self._longest_lag = longest_lag
        self._burst = burst
        self._tell = tell
        self._run = Area(meters.consumption, hours.base, hours.base + RUN, before)
        self._areas = {"run": self._run}
        if meters.cumulative is not None and hours.register is not None:
            self._register: Area | None = Area(meters.cumulative, hours.register, hours.register + REGISTER, {})
        else:
            self._register = None
        self._boundaries: set[int] = set()  # of the register: those that may have a reading
        self._shows: dict[Area, Mapping[int, int]] = {self._run: before}
        self._asked = self._hours.of("first")  # the hour whose value has shown
        self._began = 0.0  # when (boottime) that was sent
        self._lag: float | None = None
        self._shift = 0

    def run(self) -> Result:
        """Ask everything, and bring back what was; never raises Ended."""
        try:
            self._ask()
        except Ended as end:
            self.result.ended = str(end)
        finally:
            self._bring_back()
        if len(self._wire.heard) >= ENOUGH:
            self.result.proofs += judging.limits(self._wire.heard, self._burst)
        self.result.proofs.sort(key=lambda proof: int(proof.step.removeprefix("P")))
        return self.result

    def _ask(self) -> None:
        self._tell("P2: sending 3 and waiting until it shows")
        self._first()
        self._look_around()
        self._tell(f"P3, P4, P6, P7, P8, P13: sending, then waiting {patience(self._lag or 0):.0f} s")
        self._second_round()
        self._tell(f"P5, P9{', P10' if self._register else ''}: sending, then waiting {patience(self._lag or 0):.0f} s")
        self._third_round()
        self.result.proofs.append(self._largest())

    # --- P2 -----------------------------------------------------------------------------------------------------------

    def _first(self) -> None:
        """Nothing can be concluded before one value has shown: one that may be lost is sent again, for another hour."""
        for question in ("first", "again"):
            self._asked = self._hours.of(question)
            self._began = self._wire.clock.now().boottime
            fate = self._push([item(self._asked, FIRST)])
            if isinstance(fate, Refused):
                raise Ended(f"EnerKey refuses a plain hourly value: {said(fate)}")
            if self._until_shown():
                break
            if isinstance(fate, Accepted) or question == "again":
                self.result.proofs.append(judging.lag(None))
                late = f"what was sent does not show after {self._longest_lag:.0f} s"
                raise Ended(f"{late}: wait longer with --longest-lag, and look at EnerKey")
        self.result.proofs.append(judging.lag(self._lag))
        self._stamp_seen()
        if self.result.value("hour_stamp") is None:
            raise Ended("the value shows in another hour than the one it was sent for")

    def _stamp_seen(self) -> None:
        seen = self._seen(self._run, self._asked)
        self.result.proofs.append(judging.hour_stamp(seen))
        self._shift = next(iter(seen))

    def _until_shown(self) -> bool:
        """Look again and again, later each time; False when the longest delay has passed."""
        while True:
            self._look(self._run)
            passed = self._wire.clock.now().boottime - self._began
            if self._seen(self._run, self._asked):
                self._lag = passed
                return True
            if passed >= self._longest_lag:
                return False
            self._wire.wait(min(max(FIRST_LOOK, passed / 4), self._longest_lag - passed))

    # --- P3, P4, P6, P7, P8, P13 --------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """P1 for the hours elsewhere: only those that are read and empty are taken."""
        hours = self._hours
        for name, first, length in (("october", hours.october, 2), ("future", hours.future, 1), ("old", hours.old, 1)):
            area = Area(self._meter, first - 1, first + length + 1, {})
            if self._look(area) and not any(self._shows[area].values()):
                self._areas[name] = area

    def _second_round(self) -> None:
        hours, shift = self._hours, self._shift
        before = self._shows[self._run].get(self._asked + shift, 0)
        second = self._push([item(self._asked, SECOND)])
        message = self._push([item(hours.of("message"), FIRST), item(hours.of("message"), SECOND)])
        digits = self._push([item(hours.of("digits"), DIGITS)])
        half = self._push([item(hours.of("half"), FIRST, past=timedelta(minutes=30))])
        last = self._push([item(hours.of("last"), FIRST, past=timedelta(minutes=59, seconds=59))])
        offset = self._push([abroad(hours.of("offset"), FIRST)])
        october = self._elsewhere(
            "october", [item(hours.october - shift, FIRST), item(hours.october + 1 - shift, SECOND)]
        )
        future = self._elsewhere("future", [item(hours.future, FIRST)])
        old = self._elsewhere("old", [item(hours.old, FIRST)])
        unknown = self._unknown_meter()
        if self._register:
            self._readings({0: LEVEL, 1: LEVEL + FIRST, 3: LEVEL + FIRST + SECOND})
        self._wait_and_look()
        now = self._shows[self._run].get(self._asked + shift, 0)
        seen = {name: self._seen(self._run, hours.of(name)) for name in ("message", "digits", "half", "last", "offset")}
        self.result.proofs += [
            judging.same_hour(second, before, now),
            judging.same_message(message, seen["message"], shift),
            judging.decimals(digits, seen["digits"], shift),
            judging.stamped("stamp_half", "half past", half, seen["half"]),
            judging.stamped("stamp_last_second", "59:59", last, seen["last"]),
            judging.offset(offset, seen["offset"], shift),
            self._judged_elsewhere("october", october, judging.repeated),
            self._judged_elsewhere("future", future, lambda *found: judging.taken("future_hour", FUTURE, *found)),
            self._judged_elsewhere("old", old, lambda *found: judging.taken("old_hour", PAST, *found)),
            unknown,
        ]

    def _elsewhere(self, name: str, rows: list[Row]) -> Fate | None:
        return self._push(rows) if name in self._areas else None

    def _judged_elsewhere(
        self, name: str, fate: Fate | None, judge: Callable[[Fate, Mapping[int, int]], Proof]
    ) -> Proof:
        if fate is None:
            step, finding = {
                "october": ("P8", "repeated_hour"),
                "future": ("P13", "future_hour"),
                "old": ("P13", "old_hour"),
            }[name]
            return judging.Proof(step, finding, None, "not asked: its hours could not be read, or have values")
        area = self._areas[name]
        return judge(fate, {hour - area.since - 1: gain for hour, gain in area.changed(self._shows[area]).items()})

    def _unknown_meter(self) -> Proof:
        """Only where a read says that it is not there is anything sent to it: nothing for somebody else's meter."""
        values, fate = self._wire.read(UNKNOWN_METER, self._hours.base, self._hours.base + 1)
        if values is not None or not isinstance(fate, Refused):
            return judging.unknown_meter(
                None, f"a read of meter {UNKNOWN_METER} is answered, so nothing was sent to it"
            )
        return judging.unknown_meter(self._wire.push("consumption", UNKNOWN_METER, [item(self._hours.base, 0)]))

    # --- P5, P9, P10 --------------------------------------------------------------------------------------------------

    def _third_round(self) -> None:
        joins = self.result.value("same_hour") in {"sum", "replace"}
        hour = self._asked if joins else self._hours.of("negative")
        before = self._shows[self._run].get(hour + self._shift, 0)
        register = self._seen_register()
        negative = self._push([item(hour, LESS)])
        what, invalid = self._invalid(negative)
        good, fine = self._hours.of("good"), self._hours.of("fine")
        mixed = self._push([item(good, FIRST), invalid, item(fine, SECOND)])
        readings = [self._readings(rows) for rows in REGISTER_ROUND] if self._register else []
        self._wait_and_look()
        now = self._shows[self._run].get(hour + self._shift, 0)
        kept = sum(bool(self._seen(self._run, each)) for each in (good, fine))
        self.result.proofs += [
            judging.negatives(negative, before, now),
            judging.refusal(mixed, kept, what, understood=what != NO_NUMBER),
        ]
        if readings:
            self.result.proofs += judging.readings(readings, register, self._seen_register())

    def _invalid(self, negative: Fate) -> tuple[str, Row]:
        """An item that is refused when it comes alone, as far as one is known; else one that is no number."""
        if self.result.value("future_hour") == "refused":
            return "an hour in the future", item(self._hours.future, FIRST)
        if isinstance(negative, Refused):
            return "a negative value", item(self._hours.of("negative"), LESS)
        stamp, _ = item(self._hours.of("negative"), 0)
        return NO_NUMBER, (stamp, '"none"')

    def _readings(self, values: Mapping[int, int]) -> Fate:
        """Send readings of the register, by hours after its first boundary."""
        if self._register is None:
            raise AssertionError("asked only where there is one")
        first = self._register.since + 1
        rows = [item(first + hour, micro) for hour, micro in values.items()]
        fate = self._wire.push("cumulative", self._register.meter, rows)
        if not isinstance(fate, Refused):
            self._boundaries |= {first + hour for hour in values}
        return fate

    def _seen_register(self) -> dict[int, int]:
        if self._register is None:
            return {}
        gains = self._register.changed(self._shows.get(self._register, {}))
        return {hour - self._register.since - 1: gain for hour, gain in gains.items()}

    # --- P12 ----------------------------------------------------------------------------------------------------------

    def _largest(self) -> Proof:
        """Zeros change no sum; where a second value is not joined to the first they would spoil the hours for ever."""
        if self.result.value("same_hour") not in {"sum", "replace"}:
            return judging.largest(None, "the largest message was not asked for: a zero would keep its hour")
        self._tell("P12: sending zeros for a year")
        for span in (YEAR, MONTH):
            values, fate = self._wire.read(self._meter, self._hours.this - span, self._hours.this)
            if values is None:
                continue
            taken = {hour for area in self._areas.values() for hour in range(area.since, area.until)}
            taken |= {hour for hour, micro in values.items() if micro}
            free = [hour for hour in range(self._hours.this - span, self._hours.this) if hour not in taken]
            days = (free[-1] - free[0] + 1) // 24 if free else 0
            fate = self._wire.push("consumption", self._meter, [item(hour - self._shift, 0) for hour in free])
            if isinstance(fate, Accepted):
                return judging.largest(days, f"a message of {days} days ({len(free)} values) is taken")
            if not isinstance(fate, Refused):
                break
        return judging.largest(None, f"no large message was seen to be taken: {said(fate)}")

    # --- the way back -------------------------------------------------------------------------------------------------

    def _bring_back(self) -> None:
        wire, result = self._wire, self.result
        wire.returning = True
        if not wire.sent:
            return
        wire.stop.clear()
        self._tell("taking away what was sent; Ctrl-C leaves it there")
        try:
            waited_out = any(proof.name == "lag" for proof in result.proofs)
            if self._lag is None and not waited_out and self._until_shown():
                self._stamp_seen()
            if self._lag is None:
                result.left = [Left(meter, at, None, 0) for meter, at, _ in wire.sent]
                return
            shift = self._shift if result.value("hour_stamp") else None
            ways = Ways(result.value("same_hour"), result.value("negatives"), shift, self._lag)
            result.left = restore(wire, list(self._areas.values()), ways)
            if self._register and self._boundaries:
                adds = result.value("reading_again") == "adds"
                result.left += flatten(wire, self._register, self._boundaries, adds=adds, lag=self._lag)
        except Ended as end:
            result.ended = "; ".join(words for words in (result.ended, f"on the way back: {end}") if words)
            result.left = [Left(meter, at, None, 0) for meter, at, _ in wire.sent]

    # --- looking ------------------------------------------------------------------------------------------------------

    def _push(self, rows: list[Row]) -> Fate:
        return self._wire.push("consumption", self._meter, rows)

    def _look(self, area: Area) -> bool:
        values, _ = self._wire.read(area.meter, area.since, area.until)
        if values is not None:
            self._shows[area] = values
        return values is not None

    def _wait_and_look(self) -> None:
        self._wire.wait(patience(self._lag or 0.0))
        for area in [*self._areas.values(), *([self._register] if self._register else [])]:
            if not self._look(area):
                raise Ended("EnerKey does not answer reads any more")

    def _seen(self, area: Area, hour: int) -> dict[int, int]:
        """What is there more than before around an hour, by hours from it."""
        gains = area.changed(self._shows[area])
        return {other - hour: gains[other] for other in range(hour - 1, hour - 1 + STRIDE) if other in gains}
