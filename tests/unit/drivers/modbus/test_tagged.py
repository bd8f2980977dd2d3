"""Modbus TCP's usual answer is recognised by its bytes; everything else is left to pymodbus."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from drivers.modbus.line import PlainLine
from drivers.modbus.plan import Block
from drivers.modbus.tagged import asking, usual
from drivers.modbus.wire import Request

REQUESTS = {"holding": ReadHoldingRegistersRequest, "input": ReadInputRegistersRequest}
requests = st.builds(
    lambda device, table, start, count: Request(device, Block(table, start, count, ()), 1.0, 0.0),
    st.integers(0, 255),
    st.sampled_from(["holding", "input"]),
    st.integers(0, 65_535),
    st.integers(1, 125),
)
transactions = st.integers(1, 65_000)


def answer(transaction: int, request: Request, *words: int) -> bytes:
    function = {"holding": 3, "input": 4}[request.block.table]
    body = struct.pack(f">BBB{len(words)}H", request.device, function, 2 * len(words), *words)
    return struct.pack(">HHH", transaction, 0, len(body)) + body


@given(transactions, requests)
def test_a_request_is_byte_for_byte_the_library_s(transaction, request):
    """Whatever the device, table, register and count."""
    block = request.block
    pdu = REQUESTS[block.table](address=block.start, count=block.count, dev_id=request.device)
    pdu.transaction_id = transaction
    assert asking(transaction, request) == FramerSocket(DecodePDU(is_server=False)).buildFrame(pdu)


@given(transactions, requests, st.data())
def test_the_usual_answer_gives_the_words_that_the_library_reads_in_it(transaction, request, data):
    """Both understand the same frame alike."""
    count = request.block.count
    words = data.draw(st.lists(st.integers(0, 65_535), min_size=count, max_size=count))
    heard = answer(transaction, request, *words)
    _, pdu = FramerSocket(DecodePDU(is_server=False)).handleFrame(heard, request.device, transaction)
    assert usual(transaction, request, heard) == tuple(pdu.registers) == tuple(words)


@settings(max_examples=300)
@given(transactions, requests, st.data())
def test_an_answer_that_differs_in_a_byte_of_its_head_or_in_its_length_is_not_the_usual_one(transaction, request, data):
    """Another transaction, protocol, device, function or length, a byte less or more: never taken for this answer."""
    heard = answer(transaction, request, *[7] * request.block.count)
    at = data.draw(st.integers(0, 8))
    changed = bytes([heard[at] ^ data.draw(st.integers(1, 255))])
    assert usual(transaction, request, heard[:at] + changed + heard[at + 1 :]) is None
    assert usual(transaction, request, heard[: data.draw(st.integers(0, len(heard) - 1))]) is None
    assert usual(transaction, request, heard + data.draw(st.binary(min_size=1, max_size=300))) is None


def test_a_connection_that_takes_no_more_bytes_is_given_the_timeout_to_take_them():
    """Nothing of a request is lost where the other end reads late; and it is no waiting for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = PlainLine()
        line.timeout = 0.05
        line.use(ours)
        with pytest.raises(TimeoutError):
            for _ in range(100):
                line._put(bytes(65_536))
        assert not line._take(0.0)
        theirs.sendall(b"answer")
        assert line._take(1.0) == b"answer"


def test_a_connection_that_was_closed_says_so_instead_of_saying_nothing():
    """An empty read is the other end's close, not a silence."""
    ours, theirs = socket.socketpair()
    line = PlainLine()
    line.use(ours)
    theirs.close()
    with ours, pytest.raises(ConnectionResetError, match="closed by the other end"):
        line._take(1.0)
