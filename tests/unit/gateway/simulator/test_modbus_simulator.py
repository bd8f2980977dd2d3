"""The simulated meters over a real socket, read by a client that knows nothing of them: frames by hand."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.framer import FramerType

from gateway.simulator import building
from gateway.simulator.meters import MODELS, ModbusMeter
from gateway.simulator.modbus import ModbusSimulator, SerialSimulator
from gateway.simulator.world import SINCE, Load
from tests.fakes.clock import FakeClock
from tests.fakes.ports import lasting_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SILENCE = 0.3  # s
PATIENCE = 60.0  # s, on a machine that does other things too; every answer comes long before
LAYOUT = {  # wire format after undoing the word order, and how many of the truth's units one count is
    "sdm630": (4, 72, ">f", 1.0, False),
    "em340": (3, 52, ">i", 0.1, True),
    "b23": (3, 20480, ">Q", 0.01, False),
    "iem3155": (3, 3203, ">q", 0.001, False),
    "multical": (4, 20, ">f", 1.0, False),
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def meters() -> list[ModbusMeter]:
    return building.devices_on_the_bus(building.bus(5))


@pytest.fixture
def start(clock: FakeClock, meters: list[ModbusMeter]) -> Iterator[Callable[..., ModbusSimulator]]:
    started: list[ModbusSimulator] = []

    def start(**kwargs) -> ModbusSimulator:
        started.append(ModbusSimulator(meters, clock, **kwargs))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def ask(
    simulator: ModbusSimulator, device: int, function: int, address: int, count: int, within: float = PATIENCE
) -> bytes | None:
    """The answer's function code and data; None when there is silence."""
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=within) as channel:
        channel.sendall(struct.pack(">HHHBBHH", 7, 0, 6, device, function, address, count))
        try:
            answer = channel.recv(300)
        except TimeoutError:
            return None
    assert answer[:2] == b"\0\7"
    assert answer[6] == device
    return answer[7:]


def energy(simulator: ModbusSimulator, meter: ModbusMeter) -> float:
    """What a meter's display shows, in the truth's unit."""
    function, address, layout, step, swapped = LAYOUT[
        next(key for key, model in MODELS.items() if model == meter.model)
    ]
    answer = ask(simulator, meter.device, function, address, struct.calcsize(layout) // 2)
    assert answer is not None
    assert answer[0] == function
    data = answer[2:]
    if swapped:
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
    return struct.unpack(layout, data)[0] * step


def test_every_family_shows_its_register_at_its_address_in_its_encoding(start, meters, clock):
    simulator = start()
    for meter in meters:
        step = LAYOUT[next(key for key, model in MODELS.items() if model == meter.model)][3]
        truth = meter.load.register(clock.now().wall) / 1e6
        resolution = truth * 2**-23 if meter.model.energy.type == "f32" else step
        assert energy(simulator, meter) == pytest.approx(truth, abs=resolution)


def test_the_registers_count_while_time_passes(start, meters, clock):
    simulator = start()
    before = {meter.device: energy(simulator, meter) for meter in meters}
    began = clock.now().wall
    clock.advance(3 * 3600)
    for meter in meters:
        passed = (meter.load.register(clock.now().wall) - meter.load.register(began)) / 1e6
        assert energy(simulator, meter) - before[meter.device] == pytest.approx(passed, rel=0.01)


def test_power_stands_beside_energy(start, meters, clock):
    answer = ask(start(), 1, 4, 52, 2)
    watts = struct.unpack(">f", answer[2:])[0]
    assert watts == pytest.approx(meters[0].load.rate(clock.now().wall) / 1000, rel=1e-6)


@pytest.mark.parametrize(
    ("device", "function", "address", "count", "code"),
    [
        (1, 4, 60, 2, 2),  # a hole
        (1, 4, 71, 2, 2),  # half a hole
        (1, 4, 9000, 2, 2),  # beyond everything
        (1, 3, 72, 2, 1),  # a function that this family does not know
        (1, 6, 72, 1, 1),  # nobody writes to a meter
    ],
)
def test_what_a_meter_does_not_have_is_refused_as_on_the_real_one(start, device, function, address, count, code):
    assert ask(start(), device, function, address, count) == bytes([function | 0x80, code])


def test_a_read_longer_than_the_family_takes_is_refused(clock, meters):
    wide = meters[0].model._replace(limit=1)
    simulator = ModbusSimulator([ModbusMeter(1, wide, meters[0].load)], clock)
    try:
        assert ask(simulator, 1, 4, 72, 2) == bytes([0x84, 3])
    finally:
        simulator.stop()


def test_a_device_that_is_not_there_is_silent_or_answers_0x04_as_asked(start):
    assert ask(start(), 99, 4, 72, 2, SILENCE) is None
    assert ask(start(missing="0x04"), 99, 4, 72, 2) == bytes([0x84, 4])


def test_a_mute_device_is_silent_until_it_speaks_again(start):
    simulator = start()
    simulator.mute.add(2)
    assert ask(simulator, 2, 3, 52, 2, SILENCE) is None
    assert ask(simulator, 1, 4, 72, 2) is not None
    simulator.mute.clear()
    assert ask(simulator, 2, 3, 52, 2) is not None


@pytest.mark.parametrize("transport", ["tcp", "rtu+tcp", "rtu", "ascii"])
def test_pymodbus_own_client_reads_every_family_on_every_kind_of_line(meters, clock, transport):
    """Frames that are not ours on the other side."""
    patience = {"timeout": PATIENCE, "retries": 0}
    if transport in {"rtu", "ascii"}:
        simulator = SerialSimulator(meters, clock, 115_200, ascii=transport == "ascii")
        client = ModbusSerialClient(simulator.port, framer=FramerType(transport), baudrate=115_200, **patience)
    else:
        simulator = ModbusSimulator(meters, clock, rtu=transport == "rtu+tcp")
        framer = FramerType.RTU if transport == "rtu+tcp" else FramerType.SOCKET
        client = ModbusTcpClient("127.0.0.1", port=simulator.port, framer=framer, **patience)
    try:
        assert client.connect()
        for meter in meters:
            function, address, layout, *_ = LAYOUT[next(key for key, model in MODELS.items() if model == meter.model)]
            read = client.read_holding_registers if function == 3 else client.read_input_registers
            answer = read(address, count=struct.calcsize(layout) // 2, device_id=meter.device)
            assert answer.registers == meter.model.energy.words(meter.load.register(clock.now().wall))
        assert client.read_holding_registers(1, count=1, device_id=meters[-1].device).exception_code == 2
    finally:
        client.close()
        simulator.stop()


def test_a_taken_port_is_an_error_and_a_stopped_one_is_free_again(start, clock, meters):
    simulator = start(port=lasting_port())  # nobody else gets it as soon as it is free
    with pytest.raises(OSError, match="in use"):
        ModbusSimulator(meters, clock, port=simulator.port)
    simulator.stop()
    ModbusSimulator(meters, clock, port=simulator.port).stop()


def test_before_its_first_hour_a_meter_shows_where_it_begins(clock):
    meter = ModbusMeter(3, MODELS["b23"], Load("x", 10**9, start=7_000_000, since=clock.now().wall.replace(minute=0)))
    clock.step_wall(-86_400)
    simulator = ModbusSimulator([meter], clock)
    try:
        assert energy(simulator, meter) == 7
    finally:
        simulator.stop()
    assert clock.now().wall > SINCE
