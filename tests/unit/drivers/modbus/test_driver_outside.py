"""The driver on a fake line, in virtual time: its connection, its store, and what it tells of itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from drivers import registry
from drivers.base import LineError, SetupError
from drivers.modbus import driver as module
from drivers.modbus.driver import KEPT, LONGEST_STEP, ModbusDriver, build
from drivers.modbus.wire import BadAnswer, ExceptionAnswer, NoAnswer
from drivers.reading import Reading, Rejected
from tests.fakes.clock import START, FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.modbus_driver import LONGEST_WAIT, Line, connection, four, one, source

TIMEOUT = 1.0


# --- the connection ---------------------------------------------------------------------------------------------------


def test_a_driver_touches_nothing_before_its_first_step():
    """Not even the memory: the store may not be open yet."""
    line = one()
    assert line.bus.opened == 0
    assert line.driver.health().state == "starting"
    assert line.driver.last_reads() == {}


def test_a_connection_that_cannot_be_opened_is_tried_with_growing_pauses_and_told_once():
    """And again when it is there."""
    line = four()
    line.bus.opening = LineError("192.0.2.10:502: Connection refused")
    attempts = []
    for _ in range(9):
        attempts.append(line.clock.boottime)
        line.clock.advance(line.step() - line.clock.boottime)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert all(pause >= 1 for pause in pauses)
    assert pauses[0] <= 2
    assert 30 <= pauses[-1] <= 60
    assert line.store.notes == [("warning", "main", "192.0.2.10:502: Connection refused; trying again")]
    assert line.driver.health().state == "trouble"
    assert line.problem("c") == "no connection: 192.0.2.10:502: Connection refused"
    assert line.driver.health().ready_since is None
    line.bus.opening = None
    line.run(61)
    assert len(line.store.batches) >= 1
    assert line.store.notes[1] == ("info", "main", "connected again")
    assert line.driver.health().state == "ok"


def test_what_only_a_person_can_mend_is_told_as_an_error():
    """A port without permission."""
    line = one()
    line.bus.opening = SetupError("/dev/ttyUSB0: no permission")
    line.run(300)
    assert line.store.notes == [("error", "main", "/dev/ttyUSB0: no permission; a person must mend this")]


def test_an_outage_that_turns_out_to_need_a_person_is_told_again():
    """First the adapter was pulled, then it came back under another owner; or the other way round."""
    line = one()
    line.bus.opening = LineError("Input/output error")
    line.run(30)
    line.bus.opening = SetupError("/dev/ttyUSB0: no permission")
    line.run(300)
    assert [level for level, _, _ in line.store.notes] == ["warning", "error"]
    line.bus.opening = LineError("Input/output error")
    line.run(300)
    assert len(line.store.notes) == 2


def test_a_connection_lost_in_a_round_is_opened_again_and_the_round_goes_on():
    """What was read before is stored, the broken one is asked again, after the others."""
    line = four()
    line.run(10)
    line.bus.asked.clear()
    line.bus.say(2, LineError("connection lost: closed by the other end"))
    line.run(80)
    assert [asked.device for asked in line.bus.asked] == [1, 2, 3, 4, 2]
    assert line.driver.health().counts["reconnects"] == 1


def test_what_came_before_the_connection_was_lost_is_stored():
    """The first of two requests was answered."""
    line = Line({"a": source(), "b": source(register=100)})
    line.bus.put(1, 10, 0, 7)
    line.bus.say(1, (0, 7), LineError("reset"))
    line.step()
    assert [reading.source for reading in line.store.readings] == ["a"]


def test_a_device_for_which_the_gateway_cuts_the_connection_does_not_take_the_others_with_it():
    """Each of the others is read in every round."""
    line = four()
    line.bus.cutting.add(1)
    line.run(1800)
    for name in "bcd":
        instants = [reading.at for reading in line.store.of(name)]
        assert len(instants) >= 30
        assert max(later - earlier for earlier, later in pairwise(instants)) <= timedelta(seconds=63)


def test_a_gateway_that_takes_connections_and_closes_them_may_have_another_master():
    """Said when it has happened three times without an answer in between; a serial line has no such reason."""
    hint = "does another program use this one?"
    line = four()
    line.bus.cutting |= {1, 2, 3, 4}
    line.step()
    assert hint not in line.driver.health().detail
    line.run(30)
    assert line.driver.health().detail.endswith(hint)
    serial = four(url="rtu:///dev/ttyUSB0")
    serial.bus.cutting |= {1, 2, 3, 4}
    serial.run(30)
    assert serial.driver.health().detail == "connection lost: closed by the other end"


def test_a_look_at_every_device_says_of_each_that_there_is_no_connection():
    """What `read` shows while the gateway is off: every source, not only the first."""
    line = four()
    line.bus.opening = LineError("192.0.2.10:502: Connection refused")
    line.driver.poll(line.clock.now())
    assert {line.problem(name) for name in "abcd"} == {"no connection: 192.0.2.10:502: Connection refused"}
    assert not line.store.batches


def test_closing_twice_is_once():
    """And never raises."""
    line = one()
    line.run(1)
    line.driver.close()
    line.driver.close()
    assert line.bus.closed == 1


# --- the store --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_stored_is_kept_and_offered_again():
    """Nothing is lost, nothing is twice, and the order stays."""
    line = four()
    line.store.full = True
    line.run(150)
    assert not line.store.batches
    assert line.driver.health().state == "trouble"
    assert "disk full" in line.driver.health().detail
    line.store.full = False
    line.run(60)
    for name in "abcd":
        instants = [reading.at for reading in line.store.of(name)]
        assert len(instants) == 4
        assert instants == sorted(set(instants))
    assert line.driver.health().state == "ok"


def test_what_cannot_be_stored_does_not_wait_for_the_next_poll():
    """A meter read once an hour: its reading must not be at risk for an hour."""
    line = one(poll="1h")
    line.store.full = True
    line.run(15)
    line.store.full = False
    line.run(LONGEST_WAIT)
    assert len(line.store.of("a")) == 1


def test_a_store_that_takes_nothing_is_not_asked_in_a_hurry():
    """Once a round and at the service's ticks between, not once for each device."""
    line = four()
    line.store.full = True
    line.run(600)
    assert 10 <= line.store.refused <= 600 / LONGEST_WAIT + 11


def test_the_batch_that_waits_is_bounded():
    """The newest stay: a counter's newest value covers the older ones."""
    line = Line({str(at): source(register=at, type="u16") for at in range(100)}, poll="1s")
    line.bus.put(1, 0, *range(100))
    line.store.full = True
    line.run(120)
    line.store.full = False
    line.run(60)
    first = line.store.batches[0]
    assert KEPT <= len(first) <= KEPT + 100
    assert first[-1].at > START + timedelta(seconds=119)


def test_what_was_read_when_the_service_stops_in_the_middle_of_a_round_is_delivered():
    """The round of the hour's edge may be the one that is cut short."""
    line = four()
    line.run(10)
    line.clock.wait(line.driver.wake, line.step())
    line.step()
    line.step()
    assert len(line.store.batches) == 1
    line.driver.close()
    assert [[item.source for item in batch] for batch in line.store.batches[1:]] == [["a", "b"]]


def slow(registers: int, seconds: float) -> Line:
    """Meter 1, which needs a request for each register, and so many seconds for each answer."""
    line = Line({f"r{at}": source(register=200 * at) for at in range(registers)}, timeout="30s", poll="1h")
    for at in range(registers):
        line.bus.put(1, 200 * at, 0, at)
    line.bus.latency = seconds
    return line


def test_a_device_that_needs_minutes_for_its_values_is_read_in_many_steps():
    """Each of them is soon over, so that the watchdog sees the thread live; nothing is asked twice, all is delivered at the end."""
    line = slow(registers=70, seconds=4.0)
    steps = []
    while not line.store.batches:
        began = line.clock.boottime
        due = line.step()
        steps.append(line.clock.boottime - began)
    assert max(steps) <= LONGEST_STEP + 4.0
    assert len(line.bus.asked) == 70
    assert [item.value for item in line.store.readings] == list(range(70))
    assert due == line.clock.boottime + 20.0  # the full hour: it began at 09:55


def test_when_the_service_stops_a_device_that_needs_minutes_is_not_read_to_the_end():
    """What other devices gave is delivered before it is waited for."""
    line = slow(registers=70, seconds=4.0)
    line.step()
    asked = len(line.bus.asked)
    line.driver.close()
    assert len(line.bus.asked) == asked + 1
    assert line.bus.closed == 1


def test_closing_does_not_fail_where_the_store_has():
    """Close never raises."""
    line = four()
    line.store.full = True
    line.step()
    line.driver.close()
    assert line.bus.closed == 1


def test_a_slow_round_is_delivered_in_parts():
    """Readings wait two seconds at most for the round's end."""
    line = Line({f"m{device}": source(device=device) for device in range(1, 201)})
    for device in range(1, 201):
        line.bus.put(device, 10, 0, device)
    line.run(30)
    assert len(line.store.readings) == 200
    assert len(line.store.batches) == 2


# --- health -----------------------------------------------------------------------------------------------------------


def test_a_connection_is_ready_when_every_device_has_been_tried_once():
    """From then on the hours' grace counts, dead devices or not."""
    line = four()
    line.bus.dead.add(2)
    line.step()
    assert line.driver.health().ready_since is None
    line.run(10)
    assert line.driver.health().ready_since == pytest.approx(1000 + TIMEOUT + 0.06)


def test_health_names_the_devices_that_do_not_answer_and_counts():
    """What `status` shows."""
    line = four()
    line.bus.dead.add(3)
    line.run(130)
    health = line.driver.health()
    assert health.state == "trouble"
    assert health.detail.startswith("device 3: no answer within 1 s (since 2026-03-02 09:55 UTC)")
    assert (health.devices["1"], health.devices["4"]) == ("ok", "ok")
    assert health.counts == {
        "polls": 11,
        "readings": 9,
        "rejected": 2,
        "timeouts": 2,
        "requests": 11,
        "reconnects": 0,
    }


def test_health_tells_what_is_wrong_now_and_not_the_outage_before():
    """The adapter is plugged in again and the cable to the meters is cut: the first is mended, the second is not."""
    line = four()
    line.bus.opening = SetupError("/dev/ttyUSB0: no permission")
    line.run(10)
    assert line.driver.health().detail == "/dev/ttyUSB0: no permission"
    line.bus.opening = None
    line.bus.dead |= {1, 2, 3, 4}
    line.run(300)
    health = line.driver.health()
    assert health.state == "trouble"
    assert health.detail.startswith("4 of 4 devices: device 1: no answer within 1 s (since 2026-03-02 09:5")
    assert "permission" not in health.detail
    line.bus.dead.clear()
    line.run(600)
    assert line.driver.health().state == "ok"
    assert ("info", "main", "connected again") in line.store.notes


def test_a_device_that_refuses_every_value_is_not_well_and_told_once():
    """It answers, so it is not dead; but it is another meter than the operator thinks. Once is nothing: it may just start."""
    line = four()
    line.bus.empty(2)
    line.run(30)
    refused = "gives no value: exception 0x02: illegal address"
    assert line.driver.health().devices == {"1": "ok", "2": refused, "3": "ok", "4": "ok"}
    assert line.driver.health().detail == f"device 2: {refused}"
    assert not line.store.notes
    line.run(3600)
    assert line.driver.health().devices["2"] == refused
    assert line.store.notes == [
        (
            "warning",
            "main, device 2",
            "answers and gives no value: exception 0x02: illegal address; are its registers those of this meter?",
        )
    ]
    line.bus.put(2, 10, 0, 2)
    line.run(2 * 3600)
    assert line.driver.health().devices["2"] == "ok"
    assert line.store.notes[1:] == [("info", "main, device 2", "gives values again")]


def test_a_device_that_refuses_one_of_its_values_is_well():
    """The value's own meter shows it."""
    line = Line({"a": source(), "b": source(register=100)})
    line.bus.put(1, 10, 0, 7)
    line.run(3600)
    assert line.driver.health().devices == {"1": "ok"}
    assert not line.store.notes
    assert line.problem("b") == "illegal address (exception 0x02)"


def test_a_device_that_has_never_answered_is_told_with_the_lines_settings():
    """Where one that did falls silent, they are not the reason."""
    line = four(url="rtu:///dev/ttyUSB0?baudrate=19200&parity=E")
    line.bus.dead.add(2)
    line.run(90)
    line.bus.dead.add(3)
    line.run(200)
    (_, _, never), (_, _, once) = line.store.notes
    assert never == (
        "no answer within 1 s; it is asked again with growing pauses; are its id and 19200 baud 8E1 as set in the meter?"
    )
    assert once == "no answer within 1 s; it is asked again with growing pauses"


def test_what_goes_wrong_is_counted_for_each_device():
    """A corrupt frame now and then is usual; which meter has many shows where the cable is bad (mbmd 89)."""
    line = four()
    line.bus.say(2, BadAnswer("noise"))
    line.bus.say(3, NoAnswer("noise"))
    line.bus.say(4, ExceptionAnswer(0x02))
    line.run(5)
    assert line.driver.health().device_counts == {
        "1": {"requests": 1, "timeouts": 0, "bad_answers": 0, "refusals": 0},
        "2": {"requests": 1, "timeouts": 0, "bad_answers": 1, "refusals": 0},
        "3": {"requests": 1, "timeouts": 1, "bad_answers": 0, "refusals": 0},
        "4": {"requests": 1, "timeouts": 0, "bad_answers": 0, "refusals": 1},
    }


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_a_refusal_that_may_be_over_soon_is_counted_too(code):
    """No request is without a fate: a meter that always says so has as many refusals as it was asked."""
    line = four()
    line.bus.say(4, ExceptionAnswer(code))
    line.run(5)
    assert line.driver.health().device_counts["4"] == {"requests": 1, "timeouts": 0, "bad_answers": 0, "refusals": 1}


def test_health_of_a_device_that_has_not_been_read_says_so():
    """Not "ok" before anybody has asked."""
    line = four()
    line.step()
    assert line.driver.health().devices == {"1": "ok", "2": "not read yet", "3": "not read yet", "4": "not read yet"}
    assert line.driver.health().state == "starting"


def test_last_reads_are_a_snapshot():
    """Any thread may look while the owner goes on."""
    line = one()
    line.run(1)
    before = line.driver.last_reads()
    line.run(60)
    assert before["a"].at < line.driver.last_reads()["a"].at
    assert before["a"].value == Decimal(7)


def test_the_driver_is_found_by_its_name_and_built_without_touching_the_wire():
    """By the registry; nothing listens on the documentation's address."""
    assert registry.driver_of("modbus") is module
    clock = FakeClock()
    built = build("main", connection(), {"a": source()}, FakePorts(clock).ports)
    assert isinstance(built, ModbusDriver)
    assert built.health().counts["requests"] == 0
    built.close()


def test_batches_hold_readings_and_rejections_only():
    """The types that leave the drivers."""
    line = four()
    line.bus.dead.add(1)
    line.run(300)
    assert {type(item) for batch in line.store.batches for item in batch} == {Reading, Rejected}


def test_a_line_that_breaks_within_a_poll_is_the_newest_that_is_known_of_its_values():
    """What was read before it broke is stored; shown is that there is no connection."""
    line = Line({"a": source(register=10), "far": source(register=1000)})
    line.bus.say(1, (0, 7), LineError("connection lost"))
    line.bus.put(1, 10, 0, 7)
    line.bus.put(1, 1000, 0, 8)
    line.step()
    assert [str(reading.value) for reading in line.store.of("a")] == ["7"]
    assert {line.problem(name) for name in ("a", "far")} == {"no connection: connection lost"}
