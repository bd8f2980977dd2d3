"""Real Modbus meters on loopback: pymodbus' own server in a thread, and a relay that makes answers late.

with modbus_server({1: {10: 7}, 2: {10: 9}}) as server:       # device -> register -> word
    server.url                                  # "tcp://127.0.0.1:PORT"
    server.words[1][10] = 8                     # between requests
    server.mute.add(2)                          # there, and silent
    server.counting = 10                        # registers 10 and 11 of every device: 1000 * device + number of reads
    server.stop(); server.start()               # the same port

with Relay(server.port) as relay:               # stands between a gateway and the server
    relay.late = 1                              # the next answer waits until the request after it has been sent on
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event, Lock, Thread
from typing import Self

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.fakes.ports import lasting_port

HOST = "127.0.0.1"
WITHIN = 60.0  # s for a thread to start or end
SIZE = 200  # registers of each device
ANYBODY = 0  # pymodbus: every id that is not there


class ModbusServer:
    """See the module."""

    def __init__(self, words: dict[int, dict[int, int]], framer: FramerType = FramerType.SOCKET) -> None:
        self.words = words
        self.mute: set[int] = set()
        self.counting: int | None = None
        self.reads: Counter[int] = Counter()  # per device, answered or not
        self.connections = 0
        self.port = 0
        self._framer = framer
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._listening = Event()

    @property
    def url(self) -> str:
        """As a connection's `url`."""
        return f"{'' if self._framer == FramerType.SOCKET else f'{self._framer.value}+'}tcp://{HOST}:{self.port}"

    def start(self) -> None:
        """Listen; the second time on the same port."""
        self._listening.clear()
        self.port = self.port or lasting_port()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._listening.wait(WITHIN), "the Modbus server does not start"

    def stop(self) -> None:
        """Cut every connection; nobody listens any more. May be called twice."""
        if self._thread is None or self._loop is None or self._over is None:
            return
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(WITHIN)
        self._thread = None

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        devices = [self._device(device, self._read) for device in self.words]
        devices.append(self._device(ANYBODY, self._refuse))
        server = ModbusTcpServer(
            devices,
            framer=self._framer,
            address=(HOST, self.port),
            trace_packet=self._let_through,
            trace_connect=self._connected,
        )
        await server.serve_forever(background=True)
        self._listening.set()
        await self._over.wait()
        # who is on the way in now would be forgotten, not closed: a ResourceWarning in any later test
        while coming := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(coming)
        await server.shutdown()

    @staticmethod
    def _device(device: int, action) -> SimDevice:
        data = [SimData(0, values=[0] * SIZE, datatype=DataType.REGISTERS)]
        return SimDevice(device, data, action=partial(action, device))

    async def _read(self, device, function, first, address, count, registers, written) -> ExcCodes | None:
        words = dict(self.words[device])
        self.reads[device] += 1  # behind it: whoever sees the count may change the words
        if self.counting is not None:
            number = 1000 * device + self.reads[device]
            words |= {self.counting: number >> 16, self.counting + 1: number & 0xFFFF}
        if any(register not in words for register in range(address, address + count)):
            return ExcCodes.ILLEGAL_ADDRESS
        for register in range(address, address + count):
            registers[register - first] = words[register]
        return None

    async def _refuse(self, *_) -> ExcCodes:
        return ExcCodes.GATEWAY_NO_RESPONSE

    def _let_through(self, sending: bool, packet: bytes) -> bytes:
        return b"" if sending and packet and self._device_of(packet) in self.mute else packet

    def _device_of(self, packet: bytes) -> int:
        if self._framer == FramerType.ASCII:
            return int(packet[1:3], 16)
        return packet[0 if self._framer == FramerType.RTU else 6]

    def _connected(self, connected: bool) -> None:
        self.connections += connected


@contextmanager
def modbus_server(
    words: dict[int, dict[int, int]], *, rtu: bool = False, framer: FramerType = FramerType.SOCKET
) -> Iterator[ModbusServer]:
    """A running server; `rtu` for RTU frames over TCP."""
    server = ModbusServer(words, FramerType.RTU if rtu else framer)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Relay:
    """Passes bytes on between one client at a time and a server, and keeps answers back on demand."""

    def __init__(self, port: int) -> None:
        self.late = 0  # so many answers to come wait for the request after theirs
        self._to = port
        self._lock = Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(WITHIN)  # before: whom it has just let in is to be closed, too
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._to))
                self._open += [client, server]
                kept: list[bytes] = []  # goes with its connection
                Thread(target=self._up, args=(client, server, kept), daemon=True).start()
                Thread(target=self._down, args=(client, server, kept), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, kept: list[bytes]) -> None:
        with suppress(OSError):
            while request := client.recv(1024):
                with self._lock:
                    late = b"".join(kept)
                    kept.clear()
                if late:
                    client.sendall(late)  # arrives after this request has gone out, and before its own answer
                    time.sleep(0.02)
                server.sendall(request)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket, kept: list[bytes]) -> None:
        with suppress(OSError):
            while answer := server.recv(1024):
                with self._lock:
                    if self.late:
                        self.late -= 1
                        kept.append(answer)
                        continue
                client.sendall(answer)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
