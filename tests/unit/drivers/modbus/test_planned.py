"""The plan that is shown is the one that is asked, and its times are the wire's."""

from __future__ import annotations

import pytest

from drivers.modbus.planned import planned
from drivers.modbus.source import Source
from tests.fakes.modbus_driver import Line, connection, source

RTU = "rtu:///dev/ttyUSB0?baudrate=9600"
SOURCES = {
    "a": source(1, 10),
    "b": source(1, 20),
    "c": source(1, 12),
    "d": source(2, 10, table="input"),
    "e": source(2, 300, table="input"),
}


def holding(*registers: int) -> dict[str, Source]:
    """One u16 each, of device 1."""
    return {str(at): source(1, at, "u16") for at in registers}


def asked(line: Line) -> list[tuple[int, str, int, int]]:
    """The requests of the next round."""
    line.bus.asked.clear()
    line.run(59)
    return [(each.device, each.table, each.start, each.count) for each in line.bus.asked]


def shown(line: Line, sources: dict[str, Source]) -> list[tuple[int, str, int, int]]:
    """The requests of the plan, with what the driver has learned so far."""
    plan = planned(connection(), sources, line.store.memory)
    return [
        (device.number, request.table, request.first, request.registers)
        for device in plan.devices
        for request in device.requests
    ]


def test_the_driver_asks_what_the_plan_says():
    """In a round in which every device answers."""
    line = Line(SOURCES)
    for device, table in ((1, "holding"), (2, "input")):
        line.bus.put(device, 0, *range(400), table=table)
    assert sorted(asked(line)) == sorted(shown(line, SOURCES))


def test_what_the_device_has_taught_is_in_the_plan():
    """Its holes are refused; no more than 4 registers are taken at once."""
    sources = holding(10, 11, 12, 13, 14, 15, 20)
    line = Line(sources)
    for name in sources:
        line.bus.put(1, int(name), int(name))
    line.bus.limit[1] = 4
    fresh = shown(line, sources)
    asked(line)
    learned = shown(line, sources)
    assert fresh == [(1, "holding", 10, 11)]
    assert learned != fresh
    assert asked(line) == learned
    assert planned(connection(), sources, line.store.memory).devices[0].learned


def test_a_round_takes_what_its_requests_take_and_the_longer_rest_where_the_device_changes():
    """By hand, at 9600 baud 8N1: frames of 8 and 5 + 2n characters, 40 ms to think, a gap of 60 ms, or 100."""
    plan = planned(connection(url=RTU), SOURCES, {})
    frames = [(13 + 2 * 12) * 10 / 9600, (13 + 2 * 2) * 10 / 9600, (13 + 2 * 2) * 10 / 9600]
    wires = [request.wire for device in plan.devices for request in device.requests]
    assert wires == pytest.approx(frames)
    assert plan.seconds == pytest.approx(sum(frames) + 3 * 0.040 + 2 * 0.100 + 0.060)
    assert plan.share == pytest.approx(plan.seconds / 60)
    alone = planned(connection(url=RTU), {"a": SOURCES["a"]}, {})
    assert alone.seconds == pytest.approx((13 + 4) * 10 / 9600 + 0.040 + 0.060)


def test_the_rest_is_never_shorter_than_the_silence_between_frames():
    """Whatever gap the operator has set."""
    plan = planned(connection(url=RTU, gap="0s"), {"a": source(1, 10), "b": source(2, 10)}, {})
    assert plan.seconds == pytest.approx(2 * (17 * 10 / 9600 + 0.040 + 3.5 * 10 / 9600))


def test_a_rest_where_the_device_changes_counts_on_tcp_too():
    """Where the operator wants one."""
    plan = planned(
        connection(url="tcp://192.0.2.7", gap_on_change="500ms"), {"a": source(1, 10), "b": source(2, 10)}, {}
    )
    assert plan.seconds == pytest.approx(2 * (0.020 + 2 * 0.001 + 0.500))


def test_behind_a_network_nobody_knows_the_time_of_the_frames_alone():
    """What the round's time stands on is said instead."""
    tcp, rtu = (planned(connection(url=f"{scheme}://192.0.2.7"), SOURCES, {}) for scheme in ("tcp", "rtu+tcp"))
    assert {request.wire for plan in (tcp, rtu) for device in plan.devices for request in device.requests} == {None}
    assert tcp.assumed == "20 ms a request and 1 ms a register"
    assert tcp.seconds == pytest.approx(3 * 0.020 + 16 * 0.001)
    assert rtu.assumed == "9600 baud behind the gateway, and answers that begin after 40 ms"


def test_every_register_of_a_request_is_a_value_or_in_a_hole():
    """Each source by its name; two that read the same stand together."""
    sources = holding(10, 14) | {"again": source(1, 14, "u16"), "wide": source(1, 14, "u32")}
    (device,) = planned(connection(), sources, {}).devices
    (request,) = device.requests
    assert [(span.sources, span.at, span.registers) for span in request.spans] == [
        (("10",), 0, 1),
        ((), 1, 3),
        (("14", "again"), 4, 1),
        (("wide",), 4, 2),
    ]
