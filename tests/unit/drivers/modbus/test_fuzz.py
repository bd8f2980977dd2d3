"""Whatever a device, a line or a profile's file says: a value that was really said, or the declared error. Nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drivers.modbus.profile import FOLDER
from tests.fuzz import modbus as fuzz

WORDS = st.one_of(
    st.integers(0, 0xFFFF).map(lambda word: word.to_bytes(2, "big")),
    st.sampled_from([b"\0\0", b"\xff\xff", b"\x80\0", b"\x7f\xff", b"\x7f\x80", b"\x7f\xc0", b"\x09\x99", b"\x03\xe8"]),
)
FRAMES = (
    b"\xf0\0\0\0\x07\x01\x03\x04\x12\x34\x56\x78",  # what was asked for, on TCP
    b"\x01\x03\x04\x12\x34\x56\x78",  # on RTU, without its checksum
    b"\xf0\0\0\0\x03\x01\x83\x02",
    b"\x01\x83\x02",
    b"\xf0\0\0\0\x05\x01\x03\x02\x12\x34",
    b"\xf0\0\0\0\x07\x02\x03\x04\x12\x34\x56\x78",
    b"\xf0\0\0\0\x07\x01\x04\x04\x12\x34\x56\x78",
    b"\x01\x2b\x0e\x01\x00",
)
PROFILES = [path.read_bytes() for path in sorted(FOLDER.glob("*.toml"))]
INSTEAD = (
    b"",
    b"[",
    b"{",
    b'"',
    b"9" * 30,
    b"1e1000000",
    b"-1",
    b"nan",
    b"\xff",
    b"\n[points.energy]\n",
    b"= [[[",
    b"0x",
)


@st.composite
def read(draw: st.DrawFn) -> bytes:
    """What is read, and words for it: as many as it takes, mostly."""
    which = draw(st.integers(0, len(fuzz.TARGETS) - 1))
    target = fuzz.TARGETS[which]
    width = sum(term.place.width for term in target.terms or (target,))
    count = draw(st.just(width) | st.just(width) | st.integers(0, 12))
    return which.to_bytes(2, "big") + b"".join(draw(WORDS) for _ in range(count))


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """How the other end behaves; then frames with some bytes changed, one after the other."""
    said = b"".join(draw(st.lists(st.sampled_from(FRAMES) | st.binary(max_size=12), max_size=2)))
    return bytes([draw(st.integers(0, 31))]) + damaged(draw, said, st.binary(max_size=2))


def damaged(draw: st.DrawFn, data: bytes, instead: st.SearchStrategy[bytes]) -> bytes:
    """Up to two places of it replaced."""
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(instead) + data[at + draw(st.integers(0, 2)) :]
    return data


@st.composite
def profiles(draw: st.DrawFn) -> bytes:
    """A shipped profile with a few places damaged."""
    return damaged(draw, draw(st.sampled_from(PROFILES)), st.sampled_from(INSTEAD) | st.binary(max_size=4))


@settings(max_examples=1000, deadline=None)
@given(read())
def test_any_words_are_a_number_or_a_rejection_for_whatever_can_be_configured(data: bytes):
    """Every point of every profile, every type and order, with fraction, exponent, factor and in sums (R2)."""
    fuzz.value(data)


@pytest.fixture(scope="module")
def other() -> Iterator[fuzz.Babbler]:
    """The other end of every line in here."""
    with fuzz.babbler() as running:
        yield running


@settings(max_examples=300, deadline=None)
@given(data=answers())
def test_any_bytes_on_a_socket_are_the_words_that_they_say_or_a_declared_error(other: fuzz.Babbler, data: bytes):
    """Modbus TCP, and RTU over TCP with and without an echo; the other end hangs up or keeps still."""
    fuzz.answer(data, other)


@pytest.mark.parametrize("data", [bytes([6]) + FRAMES[0], bytes([23]) + FRAMES[1], bytes([0]) + FRAMES[0]])
def test_an_answer_to_the_request_is_among_what_is_said(other: fuzz.Babbler, data: bytes):
    """Else the test before would show nothing."""
    assert fuzz.answer(data, other, timeout=10.0) == (0x1234, 0x5678)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
@example(b"\0\x60" + b"\xc0\0\xcb\0\0" * 1200)  # the first is silent; the second's models never end
@example(b"\x32" * 300)
def test_two_devices_that_say_anything_keep_the_driver_going(data: bytes):
    """Words, exceptions, babble, silence and cut lines in any order, also along the walk through SunSpec models."""
    fuzz.driver(data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=profiles())
@example(data=b"a = " + b"[" * 3000)
def test_any_file_is_a_profile_whose_points_can_be_read_or_is_refused_with_a_reason(tmp_path: Path, data: bytes):
    """What an operator's own file may hold."""
    fuzz.profile(data, tmp_path / "own.toml")
