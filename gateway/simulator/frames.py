"""Modbus frames of a simulated line, by hand: what a request says, and what carries an answer. Pure.

MBAP: Modbus messaging on TCP/IP 1.0b, section 3.1.3. RTU: Modbus over serial line 1.02, section 2.5.1.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

_HEAD = struct.Struct(">HHHB")  # transaction, protocol, length, unit
_LONGEST = 260  # bytes of a frame
_SIZES = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 7: 4, 11: 4, 12: 4, 17: 4, 43: 7}  # of an RTU request, by function
_COUNTED = {15: 6, 16: 6, 23: 10}  # where a byte says how many follow


class Request(NamedTuple):
    """What a master has sent."""

    device: int
    function: int
    data: bytes  # after the function
    frame: bytes
    transaction: int = 0

    @property
    def register(self) -> int:
        """The first register of a read."""
        return int.from_bytes(self.data[:2], "big")

    @property
    def registers(self) -> int:
        """The number of registers of a read."""
        return int.from_bytes(self.data[2:4], "big")


class Damage(NamedTuple):
    """What is wrong with the frame around an answer."""

    checked: bool = False  # the checksum; on Modbus TCP the protocol
    length: int = 0  # added to what the frame says of its length


UNHARMED = Damage()


class Framing(Protocol):
    """How a message becomes bytes."""

    def take(self, data: bytes) -> tuple[Request | None, int]:
        """The request at the beginning of `data` and its length; 0 when it is not all there, no request when it is none."""
        ...

    def wrap(self, transaction: int, device: int, message: bytes, damage: Damage = UNHARMED) -> bytes:
        """The frame around function and data."""
        ...


class Mbap:
    """Modbus TCP."""

    @staticmethod
    def take(data: bytes) -> tuple[Request | None, int]:
        """As the protocol says; after a header that is none nothing can be found any more."""
        if len(data) < _HEAD.size:
            return None, 0
        transaction, protocol, length, device = _HEAD.unpack_from(data)
        end = _HEAD.size - 1 + length
        if protocol or not 2 <= length <= _LONGEST:
            return None, len(data)
        if len(data) < end:
            return None, 0
        return Request(device, data[7], data[8:end], data[:end], transaction), end

    @staticmethod
    def wrap(transaction: int, device: int, message: bytes, damage: Damage = UNHARMED) -> bytes:
        """As the protocol says."""
        protocol = 0x4D42 if damage.checked else 0
        return _HEAD.pack(transaction, protocol, len(message) + 1 + damage.length, device) + message


class Rtu:
    """Modbus on a serial line, or through a serial server."""

    @staticmethod
    def take(data: bytes) -> tuple[Request | None, int]:
        """As the protocol says; what has a wrong checksum is dropped with all that follows, as a meter does."""
        size = _size(data)
        if size == 0 or len(data) < size:
            return None, 0
        frame = data[:size]
        if checksum(frame[:-2]) != frame[-2:]:
            return None, len(data)
        return Request(frame[0], frame[1], frame[2:-2], frame), size

    @staticmethod
    def wrap(transaction: int, device: int, message: bytes, damage: Damage = UNHARMED) -> bytes:
        """As the protocol says."""
        del transaction
        frame = bytes([device]) + _miscounted(message, damage)
        low, high = checksum(frame)
        return frame + bytes([low ^ damage.checked, high ^ damage.checked])


class Ascii:
    """Modbus in letters on a serial line (section 2.5.2): a colon, two for each byte, a checksum of one byte, CR, LF."""

    @staticmethod
    def take(data: bytes) -> tuple[Request | None, int]:
        """As the protocol says; what is between two frames is dropped."""
        begin = data.find(b":")
        if begin != 0:
            return None, len(data) if begin < 0 else begin
        end = data.find(b"\r\n")
        if end < 0:
            return None, 0
        frame = data[: end + 2]
        try:
            raw = bytes.fromhex(frame[1:-2].decode("ascii"))
        except ValueError:
            raw = b""
        if len(raw) < 3 or sum(raw) & 0xFF:
            return None, len(frame)
        return Request(raw[0], raw[1], raw[2:-1], frame), len(frame)

    @staticmethod
    def wrap(transaction: int, device: int, message: bytes, damage: Damage = UNHARMED) -> bytes:
        """As the protocol says."""
        del transaction
        frame = bytes([device]) + _miscounted(message, damage)
        frame += bytes([-sum(frame) & 0xFF ^ damage.checked])
        return b":" + frame.hex().upper().encode() + b"\r\n"


def _miscounted(message: bytes, damage: Damage) -> bytes:
    """With another number of bytes in it than follow."""
    if not damage.length or len(message) < 2:
        return message
    return message[:1] + bytes([(message[1] + damage.length) & 0xFF]) + message[2:]


def _size(data: bytes) -> int:
    """Of the request that begins here; 0 when that cannot be said yet."""
    if len(data) < 2:
        return 0
    counted = _COUNTED.get(data[1])
    if counted is None:
        return _SIZES.get(data[1], len(data))
    return counted + 3 + data[counted] if len(data) > counted else 0


def checksum(frame: bytes) -> bytes:
    """CRC-16 with the polynomial 0xA001, low byte first."""
    crc = 0xFFFF
    for byte in frame:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def _shifted(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_TABLE = tuple(_shifted(byte) for byte in range(256))
