"""Another master on an RTU or ASCII line: whose answer looks like ours where it asks for as many registers. Pure.

A line has one master; that a building's other system asks on the same pair of wires is met all the same. Its request is
heard before the answer to it. Not so behind a serial server with several clients: each hears all answers, and no request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drivers.modbus.wire import FUNCTIONS
from drivers.modbus.wiretime import ASCII, RTU

if TYPE_CHECKING:
    from collections.abc import Callable

_LETTERS = re.compile(rb":([0-9A-Fa-f]{14})\r\n")  # device, function, register, count, LRC
_ANSWER_LETTERS = re.compile(rb":((?:[0-9A-Fa-f]{2}){6,})\r\n")  # device, function, number of bytes, registers, LRC


class Stranger:
    """Finds the sound read requests among the bytes of a line."""

    def __init__(self, crc: Callable[[bytes], int] | None) -> None:
        """`crc`: an RTU frame's, high byte first on the wire; None where frames are letters."""
        self._crc = crc
        self._size = RTU.request if crc else ASCII.request

    def asked(self, heard: bytes) -> bool:
        """Whether there is one."""
        return any(self.awaits_answer(heard[at : at + self._size]) for at in range(len(heard) - self._size + 1))

    def awaits_answer(self, heard: bytes) -> bool:
        """Whether these bytes end with one."""
        frame = heard[-self._size :]
        return len(frame) == self._size and (self._is_rtu(frame) if self._crc else _is_ascii(frame))

    def answered(self, heard: bytes) -> bool:
        """Whether there is a sound answer to a read."""
        if not self._crc:
            return any(_is_answer(bytes.fromhex(found[1].decode())) for found in _ANSWER_LETTERS.finditer(heard))
        return any(self._is_rtu_answer(heard, at) for at in range(len(heard) - RTU.answer_of(1) + 1))

    def _is_rtu_answer(self, heard: bytes, at: int) -> bool:
        size = heard[at + 2]
        frame = heard[at : at + RTU.answer + size]
        return size > 0 and size % 2 == 0 and len(frame) == RTU.answer + size and self._is_rtu(frame)

    def _is_rtu(self, frame: bytes) -> bool:
        assert self._crc
        return frame[1] in FUNCTIONS.values() and self._crc(frame[:-2]) == int.from_bytes(frame[-2:], "big")


def _is_answer(raw: bytes) -> bool:
    """Of its bytes without the colon, the LRC included."""
    return raw[1] in FUNCTIONS.values() and raw[2] == len(raw) - 4 and len(raw) % 2 == 0 and sum(raw) & 0xFF == 0


def _is_ascii(frame: bytes) -> bool:
    found = _LETTERS.fullmatch(frame)
    raw = bytes.fromhex(found[1].decode()) if found else b""
    return bool(raw) and raw[1] in FUNCTIONS.values() and sum(raw) & 0xFF == 0
