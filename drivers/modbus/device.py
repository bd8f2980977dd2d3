"""One device on the bus: its requests, what it refuses and what follows from that, and how it has been doing."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from drivers.base import AnswerError, NotStored
from drivers.modbus import wire
from drivers.modbus.doubts import Doubts
from drivers.modbus.learned import BY_SILENCE, confirmed_in, rest, shape_key, with_confirmed
from drivers.modbus.pace import HOUR
from drivers.modbus.plan import (
    USUAL_COST,
    Block,
    Cost,
    Place,
    Shape,
    from_text,
    halved,
    plan,
    split,
    to_text,
    without_holes,
)
from drivers.modbus.sunspec import Walk
from drivers.modbus.target import model_of, settled
from drivers.modbus.wire import Aside, ExceptionAnswer, NoAnswer, Pause, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from drivers.base import Now, Ports
    from drivers.modbus.sunspec import Model
    from drivers.modbus.target import Target
    from drivers.modbus.wire import Asking, Heard

BUSY_RETRIES = 2
BUSY_PAUSE = (0.1, 0.5)  # s; between these by chance
ACKNOWLEDGE_PAUSE = 1.0  # s: the device has begun something long
MOST_PLANS = 100  # kept of one device: as many sets of values as may rest at the same time, mostly none
RESTART = 10.0  # s without an answer in which a device may be restarted
QUIET = 1.0  # s after a silence, at most; or half the timeout

RETRIES = {wire.BUSY: BUSY_RETRIES, wire.DEVICE_FAILURE: 1, wire.ACKNOWLEDGE: 1}


class Limits(NamedTuple):
    """What a device needs. `gap` in general, `gap_on_change` after another device was asked; seconds."""

    timeout: float
    gap: float
    gap_on_change: float
    max_registers: int


class Problem(NamedTuple):
    """Why there is no reading. `reason` is stable and can be counted."""

    reason: str
    detail: str
    raw: str = ""


class Look(NamedTuple):
    """What one request brought for one target: words, or a problem. `took` in real seconds."""

    target: Target
    at: datetime
    words: Sequence[int]
    problem: Problem | None
    took: float | None


@dataclass(slots=True)
class Round:
    """One poll of a device, begun at `now`; the next one is `poll` seconds later.

    `failure` when the device as a whole gave no answer; else `looks` holds what came, value by value.
    """

    now: Now
    poll: float
    looks: list[Look] = field(default_factory=list)
    failure: Problem | None = None
    heard: bool = False  # the device has answered a request, or refused it


class Device:
    """A device and the values wanted from it."""

    def __init__(
        self, number: int, targets: Sequence[Target], limits: Limits, ports: Ports, cost: Cost = USUAL_COST
    ) -> None:
        """Asks nothing yet, not even `ports.memory`. `cost`: what its requests cost, for the read plan."""
        self.number = number
        self.targets = targets
        self.limits = limits
        self.sums = any(target.whole is not None for target in targets)
        self.due = float("-inf")  # boottime
        self.slot = 0.0  # the slot that `due` stands for, in seconds since 1970
        self.failures = 0  # polls in a row without an answer
        self.failing_since = ""  # for people
        self.problem = ""
        self.tried = False
        self.answered_once = False
        self.refusing = ""  # why the last answers held no value
        self.refusing_told = False
        self.counts: Counter[str] = Counter()
        self._ports = ports
        self._doubts = Doubts()
        self._mute = False  # nothing at all was heard in the last round
        self._shape: Shape | None = None
        self._confirmed = 0  # how often it was found to be still so
        self._again: float | None = None  # boottime from which on it is put to the test
        self._tested: Shape | None = None  # what was learned, while a round does without it
        self._floating = [target for target in targets if target.sunspec]  # as configured, wherever they are found
        self._models: set[Model] = set()  # that hold our targets
        self._seen = 0.0  # boottime of the last answer with values
        self._cost = cost
        self._key = shape_key(number, targets, limits.max_registers)
        self._at: dict[Place, list[Target]] = {}  # the targets by place, made anew when they move
        self._plans: dict[frozenset[Place], list[Block]] = {}  # made anew when the shape changes

    @property
    def costs(self) -> float:
        """Seconds of the line that a request in vain takes at most: the timeout, and the quiet after it."""
        return self.limits.timeout + max(QUIET, self.limits.timeout / 2)

    @property
    def unwell(self) -> bool:
        """Whether its next poll may be news."""
        return self.failures > 0 or bool(self.refusing)

    def reading(self, into: Round, *, changed: bool) -> Asking[None]:
        """Ask for every value that is not resting. Raises LineError and SetupError; `into` holds what came."""
        gap = self.limits.gap_on_change if changed else self.limits.gap
        if self._floating and not (yield from self._finding_models(gap, into)):
            return
        wanted = self._doubts.awake(self._places(), into.now.boottime)
        self._test(into)
        while wanted:
            block = self._next(wanted, into)
            try:
                heard = yield from self._asking(block, gap)
            except AnswerError as error:
                if not (isinstance(error, ExceptionAnswer) and error.code in wire.REFUSALS):
                    self._unanswered(wanted, block, error, into)
                    return
                into.heard = True
                self.counts["refusals"] += 1
                if self._learns(error, block):
                    continue
                self._doubts.rest_refused(block.places, into.now.boottime, into.poll)
                self._look(block.places, (), _problem(error), None, into)
            else:
                self._answered(block, heard, into)
            gap = self.limits.gap
            wanted.difference_update(block.places)
        self._mute = self._mute and not into.heard
        if self._tested is not None:
            yield Aside()
            self._tested = None
            self._remember(self.shape)

    def _finding_models(self, gap: float, into: Round) -> Asking[bool]:
        """Put the targets of SunSpec at the registers where this device has their models; False when the round is over."""
        if self.failures or not (yield from self._models_stay(gap, into)):
            self._settle(())
        if into.looks:
            return False
        if all(self._doubts.rests(target.place, into.now.boottime) for target in self.targets if target.sunspec):
            return True
        walk = Walk(self.counts["walks in vain"])
        while walk.wanted is not None:
            walk.heard((yield from self._words(walk.wanted, gap, into)))
            if into.looks:
                self.counts["walks in vain"] += 1
                return False
        self._settle(walk.models)
        missing = [target for target in self.targets if target.sunspec]
        if missing:
            places = [target.place for target in missing]
            short = any(model_of(target, walk.models) for target in missing)
            found = f"{walk.found}; one ends before this register" if short else walk.found
            self._doubts.rest_refused(places, into.now.boottime, into.poll)
            self._look(places, (), Problem("no such model", found), None, into)
        return True

    def _models_stay(self, gap: float, into: Round) -> Asking[bool]:
        """Whether our models are where they were, as far as there was time for a restart with another firmware."""
        if into.now.boottime - self._seen > RESTART:
            for model in self._models:
                words = yield from self._words(model.header, gap, into)
                if words != (model.number, model.length):
                    return False
        return True

    def _words(self, place: Place, gap: float, into: Round) -> Asking[Sequence[int] | None]:
        """What stands there, None where it is refused; after a silence the round is over, and `into` holds why."""
        block = Block(*place, (place,))
        try:
            heard = yield from self._asking(block, gap)
        except AnswerError as error:
            if isinstance(error, ExceptionAnswer) and error.code in wire.REFUSALS:
                into.heard = True
            else:
                self._unanswered({target.place for target in self.targets}, block, error, into)
            return None
        into.heard = True
        return heard.answer.words

    def _settle(self, models: Sequence[Model]) -> None:
        """Where the targets of SunSpec are; those whose model is not among these are nowhere."""
        self._models = {model for target in self._floating if (model := model_of(target, models))}
        self.targets = settled(self.targets, self._floating, models)
        self._at = {}

    @property
    def shape(self) -> Shape:
        """What is known of the requests that the device takes."""
        if self._shape is None:
            remembered = self._ports.memory.get(self._key) or ""
            self._shape = from_text(remembered, self.limits.max_registers)
            self._confirmed = confirmed_in(remembered)
        return self._shape

    def _test(self, into: Round) -> None:
        """Ask as if nothing had been learned, once in a while: what a meter refused while it started, it may give now.

        Not in an hour's first round, whose readings are the boundaries, and not while the device is failing.
        """
        if self._as_before():  # the line broke under the test: some gateways hang up where others refuse
            return
        fresh = Shape(self.limits.max_registers)
        if self.shape == fresh:
            return
        if self._again is None:
            self._again = into.now.boottime + rest(self._confirmed)
        into_hour = into.now.wall.timestamp() % HOUR
        if into.now.boottime >= self._again and not self.failures and (into_hour >= into.poll or into.poll > HOUR / 2):
            self._tested, self._shape, self._plans = self.shape, fresh, {}

    def _as_before(self) -> bool:
        """The test went wrong, if there was one: what was learned is still so."""
        tested, self._tested = self._tested, None
        return tested is not None and self._remember(tested, self._confirmed + 1)

    def _places(self) -> Iterable[Place]:
        """Where there is something to be read."""
        if not self._at:
            for target in self.targets:
                self._at.setdefault(target.place, []).append(target)
        return [place for place, targets in self._at.items() if not targets[0].sunspec] if self._floating else self._at

    def _asking(self, block: Block, gap: float) -> Asking[Heard]:
        """One request, repeated where the device asks for patience: a busy device has said nothing about the value."""
        request = Request(self.number, block, self.limits.timeout, gap)
        tried = 0
        while True:
            self.counts["requests"] += 1
            try:
                heard: Heard = yield request
            except ExceptionAnswer as error:
                if tried >= RETRIES.get(error.code, 0):
                    raise
                patience = (
                    ACKNOWLEDGE_PAUSE if error.code == wire.ACKNOWLEDGE else self._ports.random.uniform(*BUSY_PAUSE)
                )
                yield Pause(patience)
                tried += 1
            else:
                return heard

    def _next(self, wanted: set[Place], into: Round) -> Block:
        """The next request: those that brought nothing come last, since some devices are silent where others refuse.

        After a round without any answer a single value is asked for, each time another one: either the device is dead,
        or it is silent at a register or a hole that the usual request contains.
        """
        if self._mute and not into.heard:
            place = min(sorted(wanted), key=lambda place: self._doubts.times((place,)))
            return plan([place], self.shape, self._cost)[0]
        return self._doubts.first(self._planned(wanted))

    def _planned(self, wanted: set[Place]) -> list[Block]:
        """A plan costs more than its requests, and is mostly the one of the round before."""
        key = frozenset(wanted)
        if key not in self._plans:
            if len(self._plans) > MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan(wanted, self.shape, self._cost)
        return self._plans[key]

    def _learns(self, error: ExceptionAnswer, block: Block) -> bool:
        """Whether smaller requests may go better; they are remembered over restarts."""
        if len(block.places) > 1 and self._as_before():
            return True
        if error.code == wire.ILLEGAL_ADDRESS:
            return self._remember(split(block, self.shape))
        return error.code == wire.ILLEGAL_VALUE and self._remember(halved(block, self.shape))

    def _remember(self, shape: Shape | None, confirmed: int = 0) -> bool:
        if shape is None:
            return False
        self._shape, self._confirmed, self._again, self._plans = shape, confirmed, None, {}
        with suppress(NotStored):  # learned again after the next start
            self._ports.memory.put(self._key, with_confirmed(to_text(shape), confirmed))
        return True

    def _answered(self, block: Block, heard: Heard, into: Round) -> None:
        into.heard = True
        self._seen = heard.now.boottime
        self._doubts.answered(block)
        (words, took, since), looks = heard.answer, into.looks
        at = heard.now.wall - timedelta(seconds=since) if since else heard.now.wall
        for place in block.places:
            part = block.words_of(place, words)
            for target in self._at[place]:
                looks.append(Look(target, at, part, None, took))

    def _unanswered(self, wanted: set[Place], block: Block, error: AnswerError, into: Round) -> None:
        """The round is over: one timeout is what a device may cost the others.

        Where the device has answered before in this round, only this request is in doubt, and rests. One that is so
        again and again is made smaller, as if it had been refused.
        """
        if isinstance(error, NoAnswer):
            self.counts["timeouts"] += 1
        elif isinstance(error, wire.BadAnswer):
            self.counts["bad_answers"] += 1
        else:  # an exception that may be over soon: busy, a failure in the device, a gateway that got no answer
            self.counts["refusals"] += 1
        problem = _problem(error)
        smaller = self._as_before()
        if not smaller:
            doubted = self._doubts.unanswered(block)
            smaller = doubted and self._remember(without_holes(block, self.shape), BY_SILENCE)
        self._mute = not into.heard
        if self._mute:
            into.failure = problem
        elif not smaller:
            self._doubts.rest_unanswered(block.places, into.now.boottime, into.poll)
        self._look(sorted(wanted), (), problem, None, into)

    def _look(
        self, places: Sequence[Place], words: Sequence[int], problem: Problem | None, took: float | None, into: Round
    ) -> None:
        """The moment at which the answer has arrived stands for the value.

        The meter took it some milliseconds before, mostly the same number each time. That shifts every boundary alike,
        so it adds up to nothing: 40 ms at 100 kW move 1 Wh from one hour to its neighbour.
        """
        at = self._ports.clock.now().wall
        into.looks += [Look(target, at, words, problem, took) for target in self.targets if target.place in places]


def _problem(error: AnswerError) -> Problem:
    reason = error.reason if isinstance(error, (NoAnswer, wire.BadAnswer, ExceptionAnswer)) else "bad answer"
    return Problem(reason, str(error), error.raw[:64].hex(" "))
