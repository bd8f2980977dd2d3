"""What registers do: roll over, begin again at zero, and give way to another one, as a person says (R9).

The world goes on counting the energy; a reading shows what the register makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.corrections import Word, replaced
from buffer.counter import CounterRule
from buffer.model import HOUR_MS, MINUTE_MS, to_ms
from buffer.store import StoreError
from tests.fakes.small_gateway import NEVER_TOO_FAST

if TYPE_CHECKING:
    from tests.simulation.world import World

FASTEST = 5_000_000  # micro per hour: nothing in the building is faster
MODULUS = 10**12  # micro
LOW = (
    8 * FASTEST
)  # micro: what a register may reach until its new level is confirmed, with a bus that is silent for hours
APART_MS = 4 * HOUR_MS  # from one turn of a register to the next
CONFIRMED_MS = 3 * HOUR_MS  # time for the readings that confirm a new level, during which no glitch disturbs them

RULES = {
    "": NEVER_TOO_FAST,
    "rollover": CounterRule(max_rate=FASTEST, rollover=MODULUS),
    "reset": CounterRule(max_rate=FASTEST, reset="zero"),
    "replaced": CounterRule(max_rate=FASTEST),
}


class _Turn(NamedTuple):
    """After this instant (ms) the register shows so much less than the world has counted."""

    at: int
    less: int


class _Said(NamedTuple):
    """A person's word."""

    number: int
    at: int
    old_final: int
    new_initial: int


class Registers:
    """The registers of all counters."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kind = world.scenario.turn
        building = world.building
        begins = [building.loads[meter.number].at(building.first) for meter in building.meters]
        # Each rolls over at some time from which it can still be confirmed.
        window = (building.first + CONFIRMED_MS, building.last - 3 * CONFIRMED_MS)
        times = [world.random.randrange(*window) if self._kind == "rollover" else building.first for _ in begins]
        ends = [building.loads[meter.number].at(at) for meter, at in zip(building.meters, times, strict=True)]
        before = [end - begin for begin, end in zip(begins, ends, strict=True)]
        self._turns = [[_Turn(0, 0)] for _ in begins]
        if self._kind == "rollover":
            self._turns = [[_Turn(0, begin - MODULUS + left)] for begin, left in zip(begins, before, strict=True)]

    def count(self) -> None:
        """How many registers have rolled over, for the figures."""
        if self._kind != "rollover":
            return
        building = self._world.building
        for meter in building.meters:
            rest = -self._turns[meter.number][0].less
            ends = [building.loads[meter.number].at(at) + rest for at in (building.first, building.last)]
            self._world.faults["rollover"] += meter.rule.kind == "counter" and ends[0] // MODULUS != ends[1] // MODULUS

    @property
    def rule(self) -> CounterRule:
        return RULES[self._kind]

    def shown(self, number: int, at: int, counted: int) -> int:
        """What a counter says for an instant at which so much had been counted."""
        if self._world.building.meters[number].rule.kind != "counter":
            return counted
        value = counted - next(turn.less for turn in reversed(self._turns[number]) if turn.at < at)
        return value % MODULUS if self._kind == "rollover" else value

    def steady(self, number: int, at: int) -> bool:
        """Whether a counter has not turned lately."""
        load, earlier = self._world.building.loads[number], max(at - CONFIRMED_MS, self._world.building.first + 1)
        return self.shown(number, earlier, load.at(earlier)) <= self.shown(number, at, load.at(at))

    def _may_turn(self, number: int, at: int) -> bool:
        building = self._world.building
        apart = at - self._turns[number][-1].at >= APART_MS
        inside = building.first + CONFIRMED_MS <= at <= building.last - 3 * CONFIRMED_MS  # the bus may be silent
        return apart and inside and building.meters[number].rule.kind == "counter"

    def read(self, number: int, at: int, counted: int) -> None:
        """A reading is safe: by chance its register begins again at zero."""
        if self._kind != "reset" or not self._may_turn(number, at) or not self._world.clock.now().trusted:
            return
        # One that rises past where it was before the new level is confirmed was a glitch, for all that anybody can know.
        if self.shown(number, at, counted) > LOW and self._world.happens("reset"):
            self._turns[number].append(_Turn(at, counted))

    def replace(self, fault: str) -> None:
        """A meter is taken out and another one put in."""
        world, at = self._world, self._world.clock.true_ms
        if HOUR_MS - at % HOUR_MS < 15 * MINUTE_MS:
            return  # whoever does it says so within the hour
        may = [meter.number for meter in world.building.meters if self._may_turn(meter.number, at)]
        if not may:
            return
        world.faults[fault] += 1
        number = world.random.choice(may)
        counted = world.building.loads[number].at(at)
        old_final = self.shown(number, at, counted)
        new_initial = world.random.choice((0, world.random.randrange(old_final + 1), old_final + 10**9))
        self._turns[number].append(_Turn(at, counted - new_initial))
        world.at(at, self.say, _Said(number, at, old_final, new_initial))

    def say(self, said: _Said) -> None:
        """An event of the world; a word that was not heard is said again."""
        world = self._world
        name = world.building.meters[said.number].name
        word = Word(world.gateway.numbers[name], name, "a person", to_ms(world.clock.now().wall))
        try:
            world.gateway.store.write(lambda db: replaced(db, word, said.at, said.old_final, said.new_initial))
        except StoreError:
            world.at(world.clock.true_ms + 5000, self.say, said)
        world.known[said.number][said.at] = world.building.loads[said.number].at(said.at)
