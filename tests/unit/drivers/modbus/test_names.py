"""What a device says it is, asked with function 0x2B/0x0E: over real sockets, with canned frames."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest
from pymodbus.framer import FramerRTU

from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.config import Connection
from drivers.modbus.wire import NoAnswer

MAKER, PRODUCT = b"Janitza", b"UMG 604"
SAYS = bytes([0x2B, 0x0E, 1, 1, 0, 0, 2, 0, len(MAKER)]) + MAKER + bytes([1, len(PRODUCT)]) + PRODUCT
REFUSES = bytes([0xAB, 1])
DEVICE = 7


@contextmanager
def bus(scheme: str, answer: bytes | None) -> Iterator[tuple[PymodbusBus, list[bytes]]]:
    """A device that answers everything with this, and what it was asked."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            channel, _ = listener.accept()
            with channel:
                while request := channel.recv(1024):
                    heard.append(request)
                    if answer is not None:
                        channel.sendall(framed(scheme, request, answer))

    thread = Thread(target=serve, daemon=True)
    thread.start()
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    line = PymodbusBus(Connection.model_validate({"driver": "modbus", "url": url}), address_of(url))
    line.open()
    try:
        yield line, heard
    finally:
        line.close()
        listener.close()
        thread.join(5)


def framed(scheme: str, request: bytes, answer: bytes) -> bytes:
    """As the transport wants it."""
    body = bytes([DEVICE]) + answer
    if scheme == "tcp":
        return request[:4] + len(body).to_bytes(2, "big") + body
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


@pytest.mark.parametrize("scheme", ["tcp", "rtu+tcp"])
def test_a_device_says_maker_and_product(scheme: str):
    """In the order of the standard; what is asked for is a read."""
    with bus(scheme, SAYS) as (line, heard):
        assert line.names(DEVICE, 30.0, 0.0) == ["Janitza", "UMG 604"]
    assert bytes([DEVICE, 0x2B, 0x0E, 1, 0]) in heard[0]


@pytest.mark.parametrize("scheme", ["tcp", "rtu+tcp"])
def test_a_device_that_does_not_know_the_question_says_nothing(scheme: str):
    """Most refuse it."""
    with bus(scheme, REFUSES) as (line, _):
        assert line.names(DEVICE, 30.0, 0.0) == []


def test_a_device_that_is_silent_at_the_question_is_no_crash():
    """As with any other read."""
    with bus("tcp", None) as (line, _), pytest.raises(NoAnswer):
        line.names(DEVICE, 0.05, 0.0)
