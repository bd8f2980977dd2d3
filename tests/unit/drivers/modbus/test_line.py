"""What a line hands on of the bytes that it hears, wherever they are cut; without a wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.bus import NO_DEVICES
from drivers.modbus.line import Line

SENT = bytes([1, 3, 0, 10, 0, 1, 0xA4, 0x08])
ANSWER = bytes([1, 3, 2, 0, 0, 0xB8, 0x44])
noises = st.lists(st.sampled_from(NO_DEVICES), max_size=4).map(bytes)


class ScriptedLine(Line):
    """Hears these pieces, then nothing."""

    def __init__(self, pieces: list[bytes], *, echo: bool) -> None:
        self.socket = self
        self.noise = NO_DEVICES
        self._pieces = list(pieces)
        self.expect(0.01, len(ANSWER), len(SENT) if echo else 0)
        self.send(SENT)

    def _put(self, data: bytes) -> None:
        pass

    def _take(self, seconds: float) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def handed_on(self) -> bytes:
        data = b""
        while piece := self.recv(None):
            data += piece
        return data


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({each % len(data) for each in cuts} - {0})
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@pytest.mark.parametrize(("echo", "expected"), [(False, False), (True, True), (False, True)])
@given(noises, noises, st.lists(st.integers(0, 30), max_size=6))
def test_noise_before_an_answer_is_left_out_and_nothing_else(echo, expected, first, noise, cuts):
    """Whether or not the adapter hears itself, and as it is expected to."""
    heard = first + SENT * echo + noise + ANSWER
    line = ScriptedLine(cut(heard, cuts), echo=expected)
    assert line.handed_on() == SENT * echo + ANSWER
    assert line.answer == ANSWER
    assert line.heard == heard


@given(noises)
def test_noise_alone_is_nothing(noise):
    """The time runs out as with a silence."""
    line = ScriptedLine([bytes([each]) for each in noise], echo=False)
    assert line.handed_on() == line.answer == b""
