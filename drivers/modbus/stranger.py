"""Another master on an RTU or ASCII line: whose answer looks like ours where it asks for as many registers. Pure.

A line has one master; that a building's other system asks on the same pair of wires is met all the same. Its request is
heard before the answer to it.
"""

from __future__ import annotations

import re

from pymodbus.framer import FramerRTU

from drivers.modbus.wire import FUNCTIONS
from drivers.modbus.wiretime import ASCII, RTU

_LETTERS = re.compile(rb":([0-9A-Fa-f]{14})\r\n")  # device, function, register, count, LRC


def asked(heard: bytes, *, ascii_: bool) -> bool:
    """Whether a sound read request is among these bytes."""
    size = _size(ascii_)
    return any(awaits_answer(heard[: at + size], ascii_=ascii_) for at in range(len(heard) - size + 1))


def awaits_answer(heard: bytes, *, ascii_: bool) -> bool:
    """Whether these bytes end with one."""
    size = _size(ascii_)
    frame = heard[-size:]
    return len(frame) == size and (_sound_letters(frame) if ascii_ else _sound_bytes(frame))


def _size(ascii_: bool) -> int:  # noqa: FBT001 - as above
    return ASCII.request if ascii_ else RTU.request


def _sound_bytes(frame: bytes) -> bool:
    return frame[1] in FUNCTIONS.values() and FramerRTU.compute_CRC(frame[:-2]) == int.from_bytes(frame[-2:], "big")


def _sound_letters(frame: bytes) -> bool:
    found = _LETTERS.fullmatch(frame)
    raw = bytes.fromhex(found[1].decode()) if found else b""
    return bool(raw) and raw[1] in FUNCTIONS.values() and sum(raw) & 0xFF == 0
