"""Simulated Modbus meters: the energy and power registers of real families, counting while they are read (pymodbus).

Register facts are those of the profiles. A hole between registers answers 0x02, a longer read than the family takes
0x03, another function than it knows 0x01. A device that is not there is silent, as on a real line, or answers 0x04 as
some gateways do.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.base import Clock
    from gateway.simulator.world import Load

STARTED_WITHIN = 10.0  # s for the server's thread to listen
STOP_WITHIN = 5.0  # s for it to end

READ_HOLDING, READ_INPUT = 3, 4  # function codes
ANY_DEVICE = 0  # pymodbus: stands for every id that is not there
_UNIT_ID = 6  # offset in a Modbus TCP frame

_FORMATS = {"f32": ">f", "s32": ">i", "s64": ">q", "u64": ">Q"}

MISSING: dict[str, ExcCodes] = {"silent": ExcCodes.GATEWAY_NO_RESPONSE, "0x04": ExcCodes.DEVICE_FAILURE}


class Register(NamedTuple):
    """One number in a meter. `step` is what one count of it means, in micro of the truth's unit (power: per hour)."""

    address: int
    type: Literal["f32", "s32", "s64", "u64"]
    step: int
    swapped: bool = False  # the word of lower value first (CDAB)

    def words(self, micro: int) -> list[int]:
        """The registers' content; an integer register shows full steps only."""
        number = micro / self.step if self.type == "f32" else micro // self.step
        raw = struct.pack(_FORMATS[self.type], number)
        words = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
        return words[::-1] if self.swapped else words

    @property
    def size(self) -> int:
        """In registers of 16 bits."""
        return struct.calcsize(_FORMATS[self.type]) // 2


class Model(NamedTuple):
    """A meter family. `profile` and `point` are its names in drivers/profiles; `unit` is that of the truth."""

    title: str
    profile: str
    point: str
    unit: str
    functions: tuple[int, ...]
    limit: int  # registers in one request
    energy: Register
    power: Register
    unit_in_profile: bool = True  # else it is set in the meter, and the operator has to say


_KILO, _CENTI = 1_000_000, 10_000  # micro of a kilowatt-hour in a count of 1 kWh and of 0.01 kWh
_TENTH, _WATT = 100_000, 1_000

MODELS: dict[str, Model] = {
    "sdm630": Model(
        "Eastron SDM630", "eastron-sdm630", "energy_import_total", "kWh", (READ_INPUT,), 80,
        Register(72, "f32", _KILO), Register(52, "f32", _WATT),
    ),
    "em340": Model(
        "Carlo Gavazzi EM340", "carlo-gavazzi-em340", "energy_import_total", "kWh", (READ_HOLDING, READ_INPUT), 50,
        Register(52, "s32", _TENTH, swapped=True), Register(40, "s32", _WATT // 10, swapped=True),
    ),
    "b23": Model(
        "ABB B23", "abb-b23", "energy_import_total", "kWh", (READ_HOLDING,), 125,
        Register(20480, "u64", _CENTI), Register(23316, "s32", _WATT // 100),
    ),
    "iem3155": Model(
        "Schneider iEM3155", "schneider-iem3155", "energy_import_total", "kWh", (READ_HOLDING,), 125,
        Register(3203, "s64", _WATT), Register(3059, "f32", _KILO),
    ),
    "multical": Model(
        "Kamstrup MULTICAL 603", "kamstrup-multical-603", "heat_energy_total", "MWh", (READ_INPUT,), 125,
        Register(20, "f32", _KILO), Register(4, "f32", _WATT), unit_in_profile=False,
    ),
}  # fmt: skip


class ModbusMeter(NamedTuple):
    """A meter on the simulated line."""

    device: int
    model: Model
    load: Load


class ModbusSimulator:
    """A Modbus TCP server with meters behind it, in a thread of its own.

    Change between requests as a test needs: `mute`, the ids of devices that do not answer although they are there.
    """

    def __init__(
        self,
        meters: Sequence[ModbusMeter],
        clock: Clock,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        missing: Literal["silent", "0x04"] = "silent",
    ) -> None:
        """Listen at once; port 0 takes a free one. OSError when it cannot."""
        self.mute: set[int] = set()
        self.requests = 0
        self.port: int = port
        self._meters = {meter.device: meter for meter in meters}
        self._clock = clock
        self._host = host
        self._missing = missing
        self._listening = Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        socket.create_server((host, port)).close()  # pymodbus keeps to itself why it cannot listen
        self._thread = Thread(target=self._run, name="modbus-simulator", daemon=True)
        self._thread.start()
        if not self._listening.wait(STARTED_WITHIN) or self._loop is None:
            raise OSError(f"no Modbus server on {host} port {port}")
        self.url: str = f"tcp://{host}:{self.port}"

    def stop(self) -> None:
        """Cut every connection and end the thread. May be called twice."""
        if self._loop and self._over and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(STOP_WITHIN)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        over = asyncio.Event()
        devices = [self._device(meter) for meter in self._meters.values()]
        devices.append(_nobody(MISSING[self._missing]))
        server = ModbusTcpServer(devices, address=(self._host, self.port), trace_packet=self._let_through)
        await server.serve_forever(background=True)
        self.port = _port_of(server)
        self._loop, self._over = asyncio.get_running_loop(), over
        self._listening.set()
        await over.wait()
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus gives it no types

    def _device(self, meter: ModbusMeter) -> SimDevice:
        registers = sorted((meter.model.energy, meter.model.power))
        data = [SimData(each.address, values=[0] * each.size, datatype=DataType.REGISTERS) for each in registers]
        return SimDevice(meter.device, data, action=partial(self._read, meter))

    async def _read(  # noqa: PLR0913, PLR0917 - pymodbus' signature
        self,
        meter: ModbusMeter,
        function: int,
        first: int,
        address: int,  # noqa: ARG002
        count: int,
        registers: list[int],
        written: object,  # noqa: ARG002
    ) -> ExcCodes | None:
        """Let the meter count up to now before its registers are read; `registers` begin at address `first`."""
        if function not in meter.model.functions:
            return ExcCodes.ILLEGAL_FUNCTION
        if count > meter.model.limit:
            return ExcCodes.ILLEGAL_VALUE
        at = self._clock.now().wall
        values = ((meter.model.energy, meter.load.register(at)), (meter.model.power, meter.load.rate(at)))
        for register, micro in values:
            place = register.address - first
            registers[place : place + register.size] = register.words(micro)
        self.requests += 1
        return None

    def _let_through(self, sending: bool, packet: bytes) -> bytes:  # noqa: FBT001 - pymodbus' signature
        if not sending:
            return packet
        device = packet[_UNIT_ID]
        absent = device not in self._meters and self._missing == "silent"
        return b"" if absent or device in self.mute else packet


def _nobody(code: ExcCodes) -> SimDevice:
    async def refuse(*_: object) -> ExcCodes:
        return code

    return SimDevice(ANY_DEVICE, [SimData(0, count=65_536, datatype=DataType.REGISTERS)], action=refuse)


def _port_of(server: ModbusTcpServer) -> int:
    listener = cast("asyncio.Server", server.transport)  # which pymodbus types as a transport
    port: int = listener.sockets[0].getsockname()[1]
    return port
