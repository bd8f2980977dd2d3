"""One device: what it refuses, what follows from that, and what is remembered."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from drivers.base import LineError
from drivers.modbus.decode import decode
from drivers.modbus.device import BUSY_PAUSE, Device, Limits, Round
from drivers.modbus.plan import USUAL_COST, Cost
from drivers.modbus.target import target_of
from drivers.modbus.wire import BadAnswer, ExceptionAnswer, NoAnswer, asked_on
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.modbus_bus import FakeBus
from tests.fakes.modbus_driver import source

POLL = 60.0
LIMITS = Limits(timeout=1.0, gap=0.06, gap_on_change=0.1, max_registers=60)


class Meter:
    """Device 1 with u16 values at the given registers, each holding its own address."""

    def __init__(
        self,
        *registers: int,
        limits: Limits = LIMITS,
        memory: dict[str, str] | None = None,
        cost: Cost = USUAL_COST,
    ) -> None:
        self.clock = FakeClock()
        self.bus = FakeBus(self.clock)
        self.bus.open()
        self.store = FakePorts(self.clock, memory)
        targets = [target_of(str(at), source(register=at, type="u16")) for at in registers]
        for at in registers:
            self.bus.put(1, at, at)
        self.device = Device(1, targets, limits, self.store.ports, cost)

    def poll(self, *, changed: bool = False) -> Round:
        """One round; then the clock goes on to the next slot."""
        got = Round(self.clock.now(), POLL)
        self.bus.asked.clear()
        asked_on(self.bus, self.clock, self.device.reading(got, changed=changed))
        self.clock.advance(got.now.boottime + POLL - self.clock.boottime)
        return got

    @property
    def requests(self) -> list[tuple[int, int]]:
        """Start and count of the last round's."""
        return [(asked.start, asked.count) for asked in self.bus.asked]


def values(got: Round) -> dict[str, Decimal]:
    return {look.target.source: decode(look.words, look.target.encoding) for look in got.looks if look.problem is None}


def reasons(got: Round) -> dict[str, str]:
    return {look.target.source: look.problem.reason for look in got.looks if look.problem is not None}


def read(*registers: int) -> dict[str, int]:
    return {str(at): at for at in registers}


def test_values_side_by_side_take_one_request_and_one_instant():
    """So that import and export of a meter belong together."""
    meter = Meter(10, 11, 15)
    meter.bus.put(1, 12, 0, 0, 0)
    got = meter.poll()
    assert meter.requests == [(10, 6)]
    assert values(got) == read(10, 11, 15)
    assert len({look.at for look in got.looks}) == 1


def test_the_instant_is_the_answers_arrival():
    """Not the beginning of the round."""
    meter = Meter(10, 100)
    began = meter.clock.now().wall
    got = meter.poll()
    assert [(look.at - began).total_seconds() for look in got.looks] == pytest.approx([0.02, 0.04])


def test_the_instant_is_the_answers_arrival_where_the_line_was_listened_to_behind_it():
    """A gap of seconds would else be that much energy of the next hour."""
    meter = Meter(10, 100)
    meter.bus.since = 5.0
    began = meter.clock.now().wall
    got = meter.poll()
    assert [(look.at - began).total_seconds() for look in got.looks] == pytest.approx([0.02, 5.04])


def test_two_sources_of_one_register_are_read_once():
    """Each gets its look."""
    meter = Meter(10)
    twin = target_of("twin", source(register=10, type="s16"))
    meter.device.targets = [*meter.device.targets, twin]
    assert set(values(meter.poll())) == {"10"} | {"twin"}
    assert meter.requests == [(10, 1)]


def test_the_longer_gap_is_kept_only_before_the_first_request_after_another_device():
    """A meter needs rest after a neighbour's frame."""
    meter = Meter(10, 100, 200)
    meter.poll(changed=True)
    assert [asked.gap for asked in meter.bus.asked] == [0.1, 0.06, 0.06]
    meter.poll(changed=False)
    assert [asked.gap for asked in meter.bus.asked] == [0.06, 0.06, 0.06]
    assert {asked.timeout for asked in meter.bus.asked} == {1.0}


def test_illegal_address_splits_the_request_at_its_holes_and_is_learned():
    """0x02 on a multi-register read: smaller requests in the same round, and from then on."""
    meter = Meter(10, 11, 15, 16)
    got = meter.poll()
    assert meter.requests == [(10, 7), (10, 2), (15, 2)]
    assert values(got) == read(10, 11, 15, 16)
    assert got.failure is None
    meter.poll()
    assert meter.requests == [(10, 2), (15, 2)]


def test_what_was_learned_survives_a_restart():
    """The first request of the new process is already the right one."""
    before = Meter(10, 11, 15)
    before.poll()
    after = Meter(10, 11, 15, memory=before.store.memory)
    after.poll()
    assert after.requests == [(10, 2), (15, 1)]


def test_other_registers_in_the_configuration_begin_with_nothing_learned():
    """What was learned was learned of other requests."""
    before = Meter(10, 11, 15)
    before.poll()
    after = Meter(10, 15, memory=before.store.memory)
    after.poll()
    assert after.requests[0] == (10, 6)


def test_a_value_that_is_refused_alone_does_not_take_its_neighbours_with_it():
    """0x02 for one register: the others have their values in the same round, it has its reason."""
    meter = Meter(10, 11, 13)
    meter.device.targets = [*meter.device.targets, target_of("12", source(register=12, type="u16"))]
    got = meter.poll()
    assert values(got) == read(10, 11, 13)
    assert reasons(got) == {"12": "illegal address"}
    assert got.failure is None


def test_a_refused_value_is_asked_for_again_with_pauses_growing_to_an_hour():
    """Firmware changes; the line is not kept busy with it until then."""
    meter = Meter(10)
    meter.device.targets = [*meter.device.targets, target_of("500", source(register=500, type="u16"))]
    asked = []
    for minute in range(60 * 6):
        meter.poll()
        if (500, 1) in meter.requests:
            asked.append(minute)
        assert (10, 1) in meter.requests
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert set(pauses[6:]) == {60}


def test_a_refused_value_that_is_given_is_asked_for_in_every_round_again():
    """The pauses start anew."""
    meter = Meter(10)
    meter.device.targets = [*meter.device.targets, target_of("500", source(register=500, type="u16"))]
    for _ in range(8):
        meter.poll()
    meter.bus.put(1, 500, 500)
    rounds = [values(meter.poll()) for _ in range(130)]
    first = next(at for at, got in enumerate(rounds) if "500" in got)
    assert all("500" in got for got in rounds[first:])
    meter.bus.say(1, (10,), ExceptionAnswer(0x02))
    assert reasons(meter.poll()) == {"500": "illegal address"}
    assert "500" in values(meter.poll())


def test_one_register_that_is_not_there_leaves_most_of_its_neighbours_in_common_requests():
    """The refused request is halved until it stands alone; what is left beside it are four requests, not fifteen."""
    meter = Meter(*range(10, 26))
    meter.bus.empty(1)
    for at in range(10, 26):
        if at != 13:
            meter.bus.put(1, at, at)
    got = meter.poll()
    assert values(got) == read(*(at for at in range(10, 26) if at != 13))
    assert reasons(got) == {"13": "illegal address"}
    meter.poll()  # the refused one is asked for once more, then it rests for longer
    meter.poll()
    assert meter.requests == [(10, 2), (12, 1), (14, 4), (18, 8)]


def test_a_device_is_asked_as_it_is_cheapest_on_its_line():
    """Where a request costs nothing, no hole is read."""
    meter = Meter(10, 14)
    meter.bus.put(1, 11, 0, 0, 0)
    meter.poll()
    assert meter.requests == [(10, 5)]
    meter = Meter(10, 14, cost=Cost(0.0, 1.0))
    meter.poll()
    assert meter.requests == [(10, 1), (14, 1)]


def test_what_an_earlier_version_has_learned_is_still_kept():
    """Key and text as they stand in databases: the hole before 14 is not tried again."""
    meter = Meter(10, 14, memory={"shape/1/2fb68882": '{"limit": 60, "cuts": [["holding", 14]]}'})
    meter.poll()
    assert meter.requests == [(10, 1), (14, 1)]


def test_illegal_value_halves_the_request_and_is_learned():
    """0x03: the meter takes fewer registers than its manual says."""
    meter = Meter(*range(40))
    meter.bus.limit[1] = 12
    got = meter.poll()
    assert values(got) == read(*range(40))
    assert got.failure is None
    meter.poll()
    assert meter.requests == [(0, 10), (10, 10), (20, 10), (30, 10)]
    after = Meter(*range(40), memory=meter.store.memory)
    after.poll()
    assert after.requests[0] == (0, 10)


def test_a_full_disk_costs_the_memory_and_not_the_reading():
    """It is learned again after the next start."""
    meter = Meter(10, 15)
    meter.store.full = True
    assert values(meter.poll()) == read(10, 15)
    meter.poll()
    assert meter.requests == [(10, 1), (15, 1)]
    assert not meter.store.memory


def test_a_busy_device_is_asked_twice_more_after_a_rest_and_its_answer_counts():
    """0x06 says nothing of the value; once stored as 0 by another program (home-assistant 51103)."""
    meter = Meter(10)
    meter.bus.say(1, ExceptionAnswer(0x06), ExceptionAnswer(0x06))
    assert values(meter.poll()) == read(10)
    assert len(meter.bus.paused) == 2
    assert all(BUSY_PAUSE[0] <= pause <= BUSY_PAUSE[1] for pause in meter.bus.paused)


@pytest.mark.parametrize(
    ("code", "requests", "pauses"),
    [(0x06, 3, 2), (0x05, 2, 1), (0x04, 2, 1), (0x0A, 1, 0), (0x0B, 1, 0)],
)
def test_a_device_that_cannot_answer_fails_as_a_whole_after_its_retries(code, requests, pauses):
    """Busy, needing time, out of order, or not behind its gateway: no value, never 0, and no second request in vain."""
    meter = Meter(10, 100, 200)
    meter.bus.say(1, *[ExceptionAnswer(code)] * 10)
    got = meter.poll()
    assert got.failure is not None
    assert f"0x{code:02X}" in got.failure.detail
    assert set(reasons(got)) == {"10", "100", "200"}
    assert not values(got)
    assert (len(meter.bus.asked), len(meter.bus.paused)) == (requests, pauses)
    assert code != 0x05 or meter.bus.paused == [1.0]


def test_a_function_that_the_device_does_not_know_is_a_refusal_of_the_value():
    """0x01: the operator has named the wrong table; the device is well."""
    meter = Meter(10, 100)
    meter.bus.say(1, ExceptionAnswer(0x01))
    got = meter.poll()
    assert reasons(got) == {"10": "illegal function"}
    assert values(got) == read(100)
    assert got.failure is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [(NoAnswer("no answer within 1 s"), "no answer"), (BadAnswer("1 registers instead of 2", raw=b"\1"), "bad answer")],
)
def test_a_silent_or_babbling_device_fails_after_one_request(error, reason):
    """However many requests it would take: one timeout is all that it costs the others."""
    meter = Meter(10, 100, 200)
    meter.bus.say(1, error)
    got = meter.poll()
    assert len(meter.bus.asked) == 1
    assert got.failure is not None
    assert got.failure.reason == reason
    assert reasons(got) == dict.fromkeys(("10", "100", "200"), reason)


def test_silence_in_the_middle_of_a_round_costs_only_what_was_not_read_yet():
    """The device has answered, so it is not dead; the round still ends after one timeout."""
    meter = Meter(10, 100, 200)
    meter.bus.say(1, (10,), NoAnswer("no answer within 1 s"))
    got = meter.poll()
    assert values(got) == read(10)
    assert reasons(got) == {"100": "no answer", "200": "no answer"}
    assert got.failure is None
    assert values(meter.poll()) == read(10, 100, 200)


def test_one_register_that_a_device_leaves_unanswered_does_not_silence_the_others():
    """Some devices are silent where others answer 0x02 (node-modbus-serial 505): the rest is read in every round."""
    meter = Meter(100, 200)
    meter.device.targets = [*meter.device.targets, target_of("10", source(register=10, type="u16"))]
    meter.bus.silent_holes.add(1)
    meter.poll()
    for _ in range(100):
        assert values(meter.poll()) == read(100, 200)
    assert meter.device.counts["timeouts"] < 10


def test_a_hole_that_is_silent_is_learned_like_one_that_is_refused():
    """Not after one lost frame, but after the same request was silent twice and the device answered in between."""
    meter = Meter(10, 15)
    meter.bus.silent_holes.add(1)
    rounds = [values(meter.poll()) for _ in range(6)]
    assert rounds[-2:] == [read(10, 15)] * 2
    assert meter.requests == [(10, 1), (15, 1)]
    after = Meter(10, 15, memory=meter.store.memory)
    after.poll()
    assert after.requests == [(10, 1), (15, 1)]


def test_lost_frames_now_and_then_teach_nothing():
    """A noisy line keeps its large requests."""
    meter = Meter(10, 11)
    for _ in range(5):
        meter.bus.say(1, NoAnswer("noise"))
        meter.poll()
        meter.poll()
        meter.poll()
        assert meter.requests == [(10, 2)]
    assert not meter.store.memory


def test_a_value_that_came_before_is_asked_for_every_five_minutes_while_it_is_silent():
    """A line that was bad for a day costs the value no further hour, and each try costs the line one timeout."""
    meter = Meter(100, 200)
    meter.poll()
    meter.bus.empty(1)
    meter.bus.put(1, 100, 100)
    meter.bus.silent_holes.add(1)
    tries = []
    for number in range(24 * 60):
        assert values(meter.poll()) == read(100)
        tries += [number] * ((200, 1) in meter.requests)
    assert [after - before for before, after in pairwise(tries)] == [1, 2, 4] + [5] * (len(tries) - 4)
    meter.bus.put(1, 200, 200)
    assert read(100, 200) in [values(meter.poll()) for _ in range(5)]


def test_two_lost_frames_in_a_row_teach_nothing_about_a_request_that_came_before():
    """On a line that loses each twentieth answer this happens some times a day."""
    meter = Meter(10, 11)
    meter.poll()
    for _ in range(3):
        meter.bus.say(1, NoAnswer("noise"), (10,), (11,), NoAnswer("noise"))
        for _ in range(5):
            meter.poll()
        assert meter.requests == [(10, 2)]
    assert not meter.store.memory


def test_a_request_that_a_device_leaves_unanswered_from_now_on_is_made_smaller_too():
    """It was exchanged, or has new firmware: that is found without a restart."""
    meter = Meter(10, 12)
    meter.bus.put(1, 11, 0)
    meter.poll()
    meter.bus.empty(1)
    meter.bus.put(1, 10, 10)
    meter.bus.put(1, 12, 12)
    meter.bus.silent_holes.add(1)
    rounds = [values(meter.poll()) for _ in range(14)]
    assert rounds[-1] == read(10, 12)
    assert meter.requests == [(10, 1), (12, 1)]


def test_a_dead_device_teaches_nothing_however_long_it_is_dead():
    """Its usual request is not the reason."""
    meter = Meter(10, 11)
    meter.bus.dead.add(1)
    for _ in range(6):
        meter.poll()
    meter.bus.dead.clear()
    assert values(meter.poll()) == read(10, 11)
    meter.poll()
    assert meter.requests == [(10, 2)]
    assert not meter.store.memory


def test_a_dead_device_is_asked_for_one_value_and_another_each_time():
    """One timeout per try, and a register that is silent by itself hides no other for long."""
    meter = Meter(10, 100, 200)
    meter.bus.dead.add(1)
    tries = []
    for _ in range(4):
        meter.poll()
        tries.append(meter.requests)
    assert [len(requests) for requests in tries] == [1, 1, 1, 1]
    assert {requests[0][0] for requests in tries} == {10, 100, 200}
    meter.bus.dead.clear()
    assert values(meter.poll()) == read(10, 100, 200)


def test_a_line_that_breaks_keeps_what_came_before():
    """The readings of the first request are delivered all the same."""
    meter = Meter(10, 100)
    meter.bus.say(1, (10,), LineError("reset"))
    got = Round(meter.clock.now(), POLL)
    with pytest.raises(LineError):
        asked_on(meter.bus, meter.clock, meter.device.reading(got, changed=False))
    assert values(got) == read(10)


def test_a_device_touches_neither_wire_nor_memory_before_it_is_read():
    """A driver is built before the store is open to it."""
    meter = Meter(10)
    assert not meter.bus.asked
    assert meter.device.counts == {}
