"""Values that are more than one register, on a fake line: sums of several, and SunSpec models that must be found first."""

from __future__ import annotations

from decimal import Decimal

import pytest

from drivers.base import LineError
from drivers.modbus.wire import ExceptionAnswer, NoAnswer
from tests.fakes.modbus_driver import Line, source

SUNS = (0x5375, 0x6E53)
ENERGY = {"profile": "sunspec-meter", "point": "energy_import_total"}


# --- sums -------------------------------------------------------------------------------------------------------------


def tariffs(**keys) -> Line:
    """A meter m that adds up registers 10 and 100."""
    line = Line({"m": source(register=None, registers=[10, 100], **keys)})
    line.bus.put(1, 10, 0, 1000)
    line.bus.put(1, 100, 0, 234)
    return line


def values(line: Line, name: str = "m") -> list[Decimal]:
    return [reading.value for reading in line.store.of(name)]


def test_a_sum_is_one_reading_a_round():
    """Of all its registers, wherever they stand."""
    line = tariffs(scale="0.1")
    line.run(5 * 60 + 30)
    assert values(line) == [Decimal("123.4")] * 6
    assert line.driver.health().counts["readings"] == 6
    assert line.problem("m") == ""
    assert line.driver.last_reads()["m"].raw == "0000 03E8 0000 00EA"
    assert line.driver.last_reads()["m"].where == "device 1, holding 10 + holding 100"


def test_the_instant_of_a_sum_is_that_of_its_last_register():
    """Nothing of it was counted later."""
    line = tariffs()
    began = line.clock.now().wall
    line.run(1)
    (reading,) = line.store.of("m")
    assert (reading.at - began).total_seconds() == pytest.approx(0.04)


@pytest.mark.parametrize("answer", [ExceptionAnswer(0x02), NoAnswer("no answer within 1 s")])
def test_a_sum_with_one_register_missing_is_no_reading(answer):
    """All of them or none: half a sum would be a fall of the counter. The reason is told."""
    line = tariffs()
    line.bus.say(1, (0, 1000), answer)
    line.run(30)
    assert values(line) == []
    assert [rejected.source for rejected in line.store.rejected] == ["m"]
    assert line.problem("m")
    line.run(3 * 60)
    assert values(line)
    assert set(values(line)) == {1234}


def test_a_register_that_is_always_refused_never_lets_half_a_sum_through():
    """Also in the rounds in which it rests and is not asked for."""
    line = Line({"m": source(register=None, registers=[10, 500]), "other": source(register=200)})
    line.bus.put(1, 10, 0, 1000)
    line.bus.put(1, 200, 0, 7)
    line.run(3 * 3600)
    assert values(line) == []
    assert len(line.store.of("other")) > 170
    assert {rejected.reason for rejected in line.store.rejected} == {"illegal address"}
    assert line.problem("m").startswith("illegal address")


def test_a_mark_in_one_register_leaves_the_sum_without_a_reading():
    """With all the words, so that the operator sees which one it was."""
    line = tariffs(na=["0xFFFFFFFF"])
    line.bus.put(1, 100, 0xFFFF, 0xFFFF)
    line.run(30)
    assert values(line) == []
    (rejected,) = line.store.rejected
    assert (rejected.reason, rejected.payload) == ("not available", "0000 03E8 FFFF FFFF")


def test_a_line_that_breaks_in_the_middle_of_a_sum_leaves_no_half_of_it():
    """The first register came, the second did not."""
    line = tariffs()
    line.bus.say(1, (0, 1000), LineError("reset"))
    line.run(0.5)
    assert values(line) == []
    line.run(120)
    assert set(values(line)) == {1234}


def test_a_sum_that_could_not_be_asked_for_says_where_it_stands():
    """All its registers, as a sum that was read does."""
    line = tariffs()
    line.bus.opening = LineError("refused")
    line.run(1)
    assert line.problem("m") == "no connection: refused"
    assert line.driver.last_reads()["m"].where == "device 1, holding 10 + holding 100"


# --- SunSpec ----------------------------------------------------------------------------------------------------------


class SunSpec(Line):
    """A device with a common model, perhaps others, and a meter of model 203 that has counted 12 340 Wh."""

    def __init__(self, base: int = 40_000, poll: str = "60s", **keys) -> None:
        super().__init__({"m": source(register=None, type=None, **ENERGY | keys)}, poll=poll)
        self.map(base)

    def map(self, base: int, *before: tuple[int, int], model: int = 203) -> int:
        """Write the map; the register of the meter's ID."""
        at = base
        self.bus.put(1, at, *SUNS)
        at += 2
        for other, length in ((1, 66), *before):
            self.bus.put(1, at, other, length, *[0] * length)
            at += 2 + length
        self.bus.put(1, at, model, 105, *[0] * 105, 0xFFFF, 0)
        self.bus.put(1, at + 46, 0, 1234)
        self.bus.put(1, at + 54, 1)
        return at

    @property
    def requests(self) -> list[tuple[int, int]]:
        return [(asked.start, asked.count) for asked in self.bus.asked]


@pytest.mark.parametrize("base", [40_000, 50_000, 0])
def test_a_sunspec_meter_is_found_and_read_with_its_exponent_in_one_request(base):
    """Value and scale factor apart would make a spike now and then (tjko/sunspec-monitor 4)."""
    line = SunSpec(base)
    line.run(30)
    assert values(line) == [12_340]
    assert line.requests[-1] == (base + 70 + 46, 9)


def test_the_walk_is_made_once():
    """Then a poll has one request, and one for the model's ID and length where there was time for a restart since the last."""
    line = SunSpec(poll="5s")
    line.run(3)
    walked = len(line.bus.asked)
    line.run(50)
    assert len(line.bus.asked) == walked + 10
    line = SunSpec()
    line.run(30)
    line.run(10 * 60)
    assert line.requests[-2:] == [(40_070, 2), (40_070 + 46, 9)]
    assert len(line.bus.asked) == walked + 2 * 10
    assert len(values(line)) == 11


def test_a_meter_that_was_away_is_looked_for_again():
    """Its new firmware has one model more before the meter's: read at the old place it would be another number."""
    line = SunSpec()
    line.run(30)
    line.bus.dead.add(1)
    line.run(5 * 60)
    line.bus.empty(1)
    line.map(40_000, (101, 50))
    line.bus.dead.clear()
    line.run(20 * 60)
    assert set(values(line)) == {12_340}
    assert line.requests[-1] == (40_000 + 70 + 52 + 46, 9)


def test_a_model_that_moves_between_two_polls_is_looked_for_before_anything_is_read():
    """R2: a restart with another firmware takes less than a minute. Where the energy stood there is the power now."""
    line = SunSpec()
    line.run(30)
    line.bus.empty(1)
    at = line.map(40_000, (160, 8))
    line.bus.put(1, 40_070 + 46, 0, 7, 0, 0, 0, 0, 0, 0, 0)
    line.run(5 * 60)
    assert values(line) == [12_340] * 6
    assert line.requests[-1] == (at + 46, 9)


def test_a_model_that_is_gone_between_two_polls_gives_no_value():
    """R2: another one stands there."""
    line = SunSpec()
    line.run(30)
    line.map(40_000, model=103)
    line.run(5 * 60)
    assert values(line) == [12_340]
    assert line.problem("m") == "no such model: this device has the SunSpec models 1, 103"


def test_a_silence_at_a_models_id_is_one_of_the_device():
    """It costs one timeout, and the models are looked for again."""
    line = SunSpec()
    line.run(30)
    line.bus.dead.add(1)
    before = len(line.bus.asked)
    line.run(60)
    assert len(line.bus.asked) == before + 1
    assert line.problem("m").startswith("no answer")
    line.bus.dead.clear()
    line.run(5 * 60)
    assert set(values(line)) == {12_340}
    assert len(values(line)) >= 4


def test_a_register_behind_the_end_of_its_model_is_never_read():
    """R2: it is another model's."""
    line = Line({"m": source(register=110, type="acc32", sunspec=203)})
    SunSpec.map(line, 40_000)  # type: ignore[arg-type]
    line.run(5 * 60)
    assert values(line) == []
    assert line.problem("m").endswith("the SunSpec models 1, 203; one ends before this register")


def test_a_device_without_the_model_is_told_what_it_has():
    """And is looked at again with growing pauses; it answers, only the profile is not its own."""
    line = SunSpec()
    line.bus.empty(1)
    line.map(40_000, model=103)
    line.run(3 * 3600)
    assert values(line) == []
    assert line.problem("m") == "no such model: this device has the SunSpec models 1, 103"
    assert line.driver.health().devices == {"1": "gives no value: this device has the SunSpec models 1, 103"}
    assert len(line.bus.asked) < 60


def test_a_device_without_any_map_says_so():
    """No "SunS" at any of the three bases."""
    line = SunSpec()
    line.bus.empty(1)
    line.run(30)
    assert line.problem("m") == 'no such model: there is no "SunS" at 40000, 50000, 0'


def test_a_device_that_is_silent_at_one_base_is_found_at_the_next():
    """Some devices do not answer where others refuse."""
    line = SunSpec(50_000)
    line.bus.silent_holes.add(1)
    line.run(20 * 60)
    assert set(values(line)) == {12_340}


def test_a_dead_device_costs_one_timeout_however_many_models_are_wanted():
    """As any other does."""
    line = SunSpec()
    line.bus.dead.add(1)
    line.run(0.5)
    assert len(line.bus.asked) == 1
    assert line.problem("m").startswith("no answer")


def test_registers_of_a_model_and_plain_ones_of_the_same_device_do_not_mix():
    """Offset 46 of a model is not register 46."""
    line = Line(
        {
            "m": source(register=46, type="acc32", exponent_register=54, sunspec=203),
            "plain": source(register=46, type="u32"),
            "wide": source(register=46, type="u32", exponent_register=54),
        }
    )
    SunSpec.map(line, 40_000)  # type: ignore[arg-type]
    line.bus.put(1, 46, 0, 5, 0, 0, 0, 0, 0, 0, 2)
    line.run(30)
    assert [values(line, name) for name in ("m", "plain", "wide")] == [[12_340], [5], [500]]


# --- accumulators -----------------------------------------------------------------------------------------------------


def accumulator(memory: dict[str, str] | None = None) -> Line:
    return Line({"m": source(register=10, type="acc32")}, memory)


def test_an_accumulator_of_a_new_meter_may_stand_at_0():
    """It has never counted."""
    line = accumulator()
    line.bus.put(1, 10, 0, 0)
    line.run(30)
    assert values(line) == [0]


def test_an_accumulator_that_has_counted_and_shows_0_is_not_there():
    """A reset that is none would open a new register; it counts again when it is back."""
    line = accumulator()
    line.bus.put(1, 10, 0, 7)
    line.run(30)
    line.bus.put(1, 10, 0, 0)
    line.run(60)
    line.bus.put(1, 10, 0, 8)
    line.run(60)
    assert values(line) == [7, 8]
    assert {rejected.reason for rejected in line.store.rejected} == {"not available"}


def test_that_it_has_counted_is_remembered_over_restarts():
    """A box that starts while the meter wakes up must not take its 0 for a reading."""
    before = accumulator()
    before.bus.put(1, 10, 0, 7)
    before.run(30)
    after = accumulator(before.store.memory)
    after.bus.put(1, 10, 0, 0)
    after.run(30)
    assert values(after) == []


def test_that_it_has_counted_is_written_once_and_not_after_each_start():
    """A hundred inverters wake up at the same minute; whoever polls them must not wait for as many writes."""
    before = accumulator()
    before.bus.put(1, 10, 0, 7)
    before.run(90)
    after = accumulator(before.store.memory)
    after.bus.put(1, 10, 0, 8)
    after.run(90)
    assert (before.store.puts, after.store.puts) == (1, 0)


def test_a_full_disk_costs_the_memory_and_not_the_accumulators_reading():
    """It is remembered with a later one."""
    line = accumulator()
    line.store.full = True
    line.bus.put(1, 10, 0, 7)
    line.run(30)
    line.store.full = False
    line.run(120)
    assert set(values(line)) == {7}
