"""Another master's requests are seen among other bytes, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.pdu import DecodePDU, ExceptionResponse
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
)

from drivers.modbus.stranger import Stranger

FRAMERS = {False: FramerRTU(DecodePDU(is_server=False)), True: FramerAscii(DecodePDU(is_server=False))}
STRANGERS = {False: Stranger(FramerRTU.compute_CRC), True: Stranger(None)}
requests = st.builds(
    lambda kind, device, register, count: kind(address=register, count=count, dev_id=device),
    st.sampled_from([ReadHoldingRegistersRequest, ReadInputRegistersRequest]),
    st.integers(1, 247),
    st.integers(0, 65_535),
    st.integers(1, 125),
)


@pytest.mark.parametrize("ascii_", [False, True])
@given(requests, st.binary(max_size=12), st.binary(max_size=12))
def test_a_request_is_found_wherever_it_stands(ascii_, pdu, before, behind):
    """As another implementation makes it."""
    frame = FRAMERS[ascii_].buildFrame(pdu)
    assert STRANGERS[ascii_].awaits_answer(before + frame)
    assert STRANGERS[ascii_].asked(before + frame + behind)


@pytest.mark.parametrize("ascii_", [False, True])
def test_answers_and_spoilt_requests_are_none(ascii_):
    """Nor is nothing."""
    answer = ReadHoldingRegistersResponse(registers=[0, 1234], dev_id=1)
    request = FRAMERS[ascii_].buildFrame(ReadHoldingRegistersRequest(address=10, count=2, dev_id=1))
    spoilt = request.replace(b"0A", b"0B") if ascii_ else request[:-1] + bytes([request[-1] ^ 1])
    assert spoilt != request
    for heard in (b"", request[:-1], spoilt, FRAMERS[ascii_].buildFrame(answer)):
        assert not STRANGERS[ascii_].asked(heard)
        assert not STRANGERS[ascii_].awaits_answer(request + heard) or not heard


def test_a_write_is_no_read():
    """Its answer is never taken for ours."""
    frame = bytes([1, 6, 0, 10, 0, 2])
    assert not STRANGERS[False].asked(frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big"))


@pytest.mark.parametrize("ascii_", [False, True])
@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=125), st.binary(max_size=12), st.binary(max_size=12))
def test_an_answer_is_found_wherever_it_stands(ascii_, registers, before, behind):
    """Whichever device gives it."""
    frame = FRAMERS[ascii_].buildFrame(ReadHoldingRegistersResponse(registers=registers, dev_id=9))
    assert STRANGERS[ascii_].answered(before + frame + behind)


@pytest.mark.parametrize("ascii_", [False, True])
def test_requests_refusals_and_spoilt_answers_are_no_answers(ascii_):
    """Nor is nothing, nor the beginning of one."""
    framer, stranger = FRAMERS[ascii_], STRANGERS[ascii_]
    answer = framer.buildFrame(ReadHoldingRegistersResponse(registers=[0, 1234], dev_id=1))
    spoilt = answer.replace(b"04D2", b"04D3") if ascii_ else answer[:-1] + bytes([answer[-1] ^ 1])
    assert spoilt != answer
    request = framer.buildFrame(ReadHoldingRegistersRequest(address=0x0300, count=2, dev_id=1))
    for heard in (b"", request, spoilt, answer[:-1], framer.buildFrame(ExceptionResponse(3, 2, 1))):
        assert not stranger.answered(heard)
