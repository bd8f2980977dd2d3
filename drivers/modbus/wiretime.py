"""How long a read takes on a serial line, counted in its characters. Pure.

Modbus over serial line 1.02, sections 2.5.1 and 2.5.2: an RTU frame is bytes, an ASCII frame two letters for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.address import Serial

if TYPE_CHECKING:
    from drivers.modbus.address import Address

USUAL_THINKING = 0.040  # s from a request to the first byte of its answer (Carlo Gavazzi: typical; 500 ms at most)
WORST_THINKING = 0.500  # s


class Frames(NamedTuple):
    """Characters of a read's request, of its answer without the registers, and of one register."""

    request: int
    answer: int
    register: int

    def answer_of(self, registers: int) -> int:
        """Characters of the answer to a read of so many registers."""
        return self.answer + registers * self.register

    def exchange(self, registers: int) -> int:
        """Characters of request and answer together."""
        return self.request + self.answer_of(registers)


RTU = Frames(8, 5, 2)
ASCII = Frames(17, 11, 4)  # ":", two letters a byte, an LRC of one byte, CR, LF
MBAP = Frames(12, 9, 2)  # on TCP, where characters take no time that counts


class Wire(NamedTuple):
    """A serial line's speed: seconds for a character and of the silence before a frame, and how its frames are made."""

    character: float
    silence: float
    frames: Frames

    def exchange(self, registers: int) -> float:
        """Seconds in which a request and its answer are on the wire, without what lies before and between them."""
        return self.frames.exchange(registers) * self.character

    def cycle(self, registers: int, gap: float, thinking: float = USUAL_THINKING) -> float:
        """Seconds from the end of one answer to the end of the next: gap, request, the device's thinking, answer."""
        return max(gap, self.silence) + max(thinking, self.silence) + self.exchange(registers)

    def floor(self, registers: int) -> float:
        """The shortest timeout that makes sense: the exchange and the slowest device's thinking."""
        return self.exchange(registers) + WORST_THINKING


def wire_of(address: Address) -> Wire | None:
    """The line of an address; None behind a network, where nobody tells us its speed."""
    if address.serial is None:
        return None
    return Wire(address.serial.character, address.silence, ASCII if address.ascii else RTU)


def assumed_wire(address: Address) -> Wire:
    """The same; of a bus behind a gateway is assumed what most of them have: 9600 baud, no parity."""
    hidden = Wire(Serial().character, Serial().silence, ASCII if address.ascii else RTU)
    return wire_of(address) or hidden
