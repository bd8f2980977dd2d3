"""The processes that `bench/modbus_tcp.py` starts: the meters, the bare loops, and the gateway's drivers alone."""

from __future__ import annotations

import asyncio
import gc
import json
import selectors
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, NamedTuple

METERS = 200
VALUES = 10
HOST = "127.0.0.1"


class Block(NamedTuple):
    """Registers that one request fetches: where they begin and the values in them."""

    start: int
    type: str
    width: int
    count: int
    scale: str
    unit: str

    @property
    def places(self) -> list[tuple[int, int]]:
        return [(at, self.width) for at in range(0, self.count * self.width, self.width)]

    @property
    def registers(self) -> int:
        return self.count * self.width


BLOCKS = (  # as meters have them: floats, scaled integers, watt-hours in four registers; too far apart for one request
    Block(0x0048, "f32", 2, 4, "1", "kWh"),
    Block(0x0400, "u32", 2, 4, "0.1", "kWh"),
    Block(0x0C00, "u64", 4, 2, "1", "Wh"),
)


def config_text(ports: list[int], directory: Path) -> str:
    """The meters spread over so many connections, each value a meter of the configuration."""
    parts = [f'[gateway]\nname = "bench"\ndata_dir = "{directory}/data"\n[clock]\ntrust = "always"']
    parts += [
        f'[connections.c{n:03d}]\ndriver = "modbus"\nurl = "tcp://{HOST}:{port}"\npoll = "1s"'
        for n, port in enumerate(ports)
    ]
    for meter in range(METERS):
        number = 0
        for block in BLOCKS:
            for at, _ in block.places:
                parts.append(
                    f'[[meters]]\nname = "m{meter:03d}-{number}"\npush = "off"\nunit = "kWh"\n'
                    f'source = {{ connection = "c{meter % len(ports):03d}", device = {1 + meter // len(ports)}, '
                    f'register = {block.start + at}, type = "{block.type}", scale = "{block.scale}", '
                    f'unit = "{block.unit}" }}'
                )
                number += 1
    return "\n".join(parts)


# --- the meters -------------------------------------------------------------------------------------------------------


class Registers:
    """What every meter holds: counters that move on each second."""

    def __init__(self) -> None:
        self._at, self._image, self._answers = 0, bytearray(2 * 0x1000), {}

    def answer(self, asked: bytes) -> bytes:
        """To the five bytes of function, start and count."""
        now = int(time.time())
        if now != self._at:
            self._at, self._answers = now, {}
            self._move()
        found = self._answers.get(asked)
        if found is None:
            function, start, count = struct.unpack(">BHH", asked)
            words = self._image[2 * start : 2 * (start + count)]
            found = self._answers[asked] = struct.pack(">BB", function, 2 * count) + words
        return found

    def _move(self) -> None:
        for block in BLOCKS:
            packed = {"f32": "f", "u32": "I", "u64": "Q"}[block.type]
            values = [1_000_000 + 3 * (self._at % 100_000) + n for n in range(block.count)]
            if packed == "f":
                values = [value / 10 for value in values]  # seven digits
            struct.pack_into(f">{block.count}{packed}", self._image, 2 * block.start, *values)


def serve(connections: int) -> None:
    """Answer from memory; tell the ports, and for each line on the standard input how many requests there were."""
    poll, registers, requests = selectors.DefaultSelector(), Registers(), 0
    listening = [socket.create_server((HOST, 0)) for _ in range(connections)]
    for each in listening:
        poll.register(each, selectors.EVENT_READ, "new")
    poll.register(sys.stdin, selectors.EVENT_READ, "told")
    print(json.dumps([each.getsockname()[1] for each in listening]), flush=True)
    while True:
        for key, _ in poll.select():
            if key.data is None:
                requests += _answered(key.fileobj, poll, registers)
            elif key.data == "new":
                accepted, _ = key.fileobj.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poll.register(accepted, selectors.EVENT_READ)
            else:
                sys.stdin.readline()
                print(requests, flush=True)


def _answered(connection: Any, poll: selectors.BaseSelector, registers: Registers) -> int:
    try:
        data = connection.recv(4096)
    except OSError:
        data = b""
    if not data:
        poll.unregister(connection)
        connection.close()
        return 0
    for at in range(0, len(data), 12):  # one request at a time: 12 bytes
        body = registers.answer(data[at + 7 : at + 12])
        connection.sendall(data[at : at + 4] + struct.pack(">H", len(body) + 1) + data[at + 6 : at + 7] + body)
    return len(data) // 12


# --- the bare loops ---------------------------------------------------------------------------------------------------


def units(ports: list[int]) -> range:
    return range(1, 1 + METERS // len(ports))


def bare_sync(ports: list[int]) -> None:
    from pymodbus.client import ModbusTcpClient  # noqa: PLC0415 - each program imports what it needs

    clients = [ModbusTcpClient(HOST, port=port, retries=0, timeout=1.0) for port in ports]
    for client in clients:
        if not client.connect():
            raise SystemExit("not connected")
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("connected", flush=True)
    while True:
        time.sleep(1.0 - time.time() % 1.0)
        for client in clients:
            for unit in units(ports):
                for block in BLOCKS:
                    got = client.read_holding_registers(block.start, count=block.registers, device_id=unit)
                    if len(got.registers) != block.registers:
                        raise SystemExit(f"not read: {got}")


def bare_async(ports: list[int]) -> None:
    from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415

    async def one_round(client: Any) -> None:
        for unit in units(ports):
            for block in BLOCKS:
                got = await client.read_holding_registers(block.start, count=block.registers, device_id=unit)
                if len(got.registers) != block.registers:
                    raise SystemExit(f"not read: {got}")

    async def rounds() -> None:
        clients = [AsyncModbusTcpClient(HOST, port=port, retries=0, timeout=1.0) for port in ports]
        if not all([await client.connect() for client in clients]):
            raise SystemExit("not connected")
        print("connected", flush=True)
        while True:
            await asyncio.sleep(1.0 - time.time() % 1.0)
            await asyncio.gather(*(one_round(client) for client in clients))

    asyncio.run(rounds())


# --- the gateway's parts ----------------------------------------------------------------------------------------------


def drivers_alone(config_file: str) -> None:
    """The drivers in the service's threads and the loop; what they deliver goes nowhere."""
    from drivers import registry  # noqa: PLC0415
    from gateway.clock import SystemClock  # noqa: PLC0415
    from gateway.config import load  # noqa: PLC0415
    from gateway.service import LONGEST_WAIT, Service  # noqa: PLC0415
    from gateway.systemd import Notifier  # noqa: PLC0415
    from gateway.wiring import drivers_for_reading  # noqa: PLC0415

    clock = SystemClock()
    drivers = drivers_for_reading(load(Path(config_file)), clock)
    service = Service(clock, Notifier())
    for driver in drivers.values():
        service.add(driver, limit=60.0, close=driver.close)
    for helper in registry.driver_of("modbus").share(list(drivers.values()), clock, lambda *_: None, LONGEST_WAIT):
        service.add(helper, limit=60.0, close=helper.close)
    gc.freeze()  # as `run` does
    service.start()
    while any(driver.health().ready_since is None for driver in drivers.values()):
        time.sleep(0.1)
    print("connected", flush=True)
    service.supervise()


def saturated(config_file: str, seconds: float) -> None:
    """Every driver polls without a pause, through the collector into the store; prints readings a second."""
    from gateway.clock import SystemClock  # noqa: PLC0415
    from gateway.config import load  # noqa: PLC0415
    from gateway.wiring import build, open_store  # noqa: PLC0415

    config, clock, over = load(Path(config_file)), SystemClock(), Event()
    store = open_store(config, command="bench")
    gateway = build(config, store, clock, Random(1))

    def polls(driver: Any) -> None:
        while not over.is_set():
            driver.poll(clock.now())

    def stored() -> int:
        return sum(driver.health().counts["readings"] for driver in gateway.drivers.values())

    threads = [Thread(target=polls, args=(driver,), daemon=True) for driver in gateway.drivers.values()]
    for thread in threads:
        thread.start()
    time.sleep(2.0)
    before, began = stored(), time.monotonic()
    time.sleep(seconds)
    figure = (stored() - before) / (time.monotonic() - began)
    over.set()
    for thread in threads:
        thread.join()
    store.close()
    print(figure, flush=True)


def main() -> None:
    if not sys.argv[1:] or sys.argv[1].startswith("-"):
        sys.exit(f"{__doc__}\nIt is not started by hand: .venv/bin/python bench/modbus_tcp.py")
    part, *rest = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parts = {
        "meters": lambda: serve(int(rest[0])),
        "bare-sync": lambda: bare_sync([int(port) for port in rest]),
        "bare-async": lambda: bare_async([int(port) for port in rest]),
        "driver": lambda: drivers_alone(rest[0]),
        "saturated": lambda: saturated(rest[0], float(rest[1])),
    }
    parts[part]()


if __name__ == "__main__":
    main()
