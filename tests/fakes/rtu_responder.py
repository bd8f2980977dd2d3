"""Meters on a serial line that is a pair of pseudo-terminals, with the time of every byte seen from their side.

    with RtuLine({1: {10: 7}}) as line:             # device -> register -> word; others are silent
        line.url                                    # "rtu:///dev/pts/N?baudrate=9600&parity=N"
        line.heard                                  # per request: when its first byte came, its bytes
        line.silences()                             # s from the end of each answer to the first byte after it

    RtuLine(..., ascii=True)                        # speaks Modbus ASCII: "ascii:///dev/pts/N?..."

Parity is always N: a pseudo-terminal refuses E and O. It has no speed either: bytes arrive at once, so whoever wants to
see 3.5 characters of silence sees only what the other side really waited.
"""

from __future__ import annotations

import os
import pty
import select
import time
import tty
from threading import Event, Thread
from typing import NamedTuple, Self

from pymodbus.framer import FramerAscii, FramerRTU

READ_HOLDING, READ_INPUT = 3, 4
REQUEST = 8  # bytes
FRAME_ENDS = 0.0015  # s without a byte; less than the shortest silence on any line


class Heard(NamedTuple):
    """A frame on the line."""

    began: float  # monotonic
    frame: bytes


class RtuLine:
    """See the module."""

    def __init__(self, words: dict[int, dict[int, int]], baudrate: int = 9600, *, ascii: bool = False) -> None:  # noqa: A002 - its name
        self.words = words
        self.rest = 0.0  # s in the middle of the next answer
        self.late = 0.0  # s by which the next answer is late
        self.spoil = 0  # so many next answers have a wrong checksum
        self.echo = False  # the adapter hears its own requests
        self.piecewise = False  # answers come byte by byte
        self.heard: list[Heard] = []
        self.answered: list[float] = []  # monotonic, when the last byte of an answer goes out
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._ascii = ascii
        self.url = f"{'ascii' if ascii else 'rtu'}://{self.port}?baudrate={baudrate}&parity=N&bytesize=8"
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        os.close(self._slave)
        os.close(self._master)

    def silences(self) -> list[float]:
        """Seconds from the end of each answer to the next request's first byte."""
        requests = [heard.began for heard in self.heard]
        after = [min((began for began in requests if began > end), default=None) for end in self.answered]
        return [began - end for began, end in zip(after, self.answered, strict=True) if began is not None]

    def _run(self) -> None:
        frame, began = b"", 0.0
        while not self._over.is_set():
            if not select.select([self._master], [], [], FRAME_ENDS if frame else 0.02)[0]:
                if len(frame) >= REQUEST:
                    self.heard.append(Heard(began, frame))
                    self._answer(frame)
                    frame = b""
                continue
            now = time.monotonic()
            try:
                data = os.read(self._master, 1024)
            except OSError:  # nobody has the other end open
                self._over.wait(0.005)
                continue
            if not frame:
                began = now
            frame += data

    def _answer(self, frame: bytes) -> None:
        if self.echo:
            os.write(self._master, frame)
        asked = self._unframed(frame)
        if asked is None or asked[0] not in self.words:
            return
        device, function, first, count = asked[0], asked[1], asked[2] << 8 | asked[3], asked[4] << 8 | asked[5]
        held = self.words[device]
        if function not in {READ_HOLDING, READ_INPUT} or any(at not in held for at in range(first, first + count)):
            answer = bytes([device, function | 0x80, 2])
        else:
            data = b"".join(held[at].to_bytes(2, "big") for at in range(first, first + count))
            answer = bytes([device, function, len(data)]) + data
        late, self.late = self.late, 0.0
        self._over.wait(late)
        spoilt = self.spoil > 0
        self.spoil -= spoilt
        self._send(self._framed(answer, 0x01 if spoilt else 0))

    def _unframed(self, frame: bytes) -> bytes | None:
        """Device and what is asked of it; None where the checksum is wrong."""
        if not self._ascii:
            return frame[:6] if FramerRTU.compute_CRC(frame[:6]) == frame[6] << 8 | frame[7] else None
        assert frame[:1] == b":", frame
        assert frame[-2:] == b"\r\n", frame
        data = bytes.fromhex(frame[1:-2].decode())
        return data[:-1] if FramerAscii.compute_LRC(data[:-1]) == data[-1] else None

    def _framed(self, data: bytes, spoil: int) -> bytes:
        if self._ascii:
            return b":" + (data + bytes([FramerAscii.compute_LRC(data) ^ spoil])).hex().upper().encode() + b"\r\n"
        return data + (FramerRTU.compute_CRC(data) ^ spoil).to_bytes(2, "big")

    def _send(self, answer: bytes) -> None:
        while self.piecewise and len(answer) > 1:
            os.write(self._master, answer[:1])
            self._over.wait(0.001)
            answer = answer[1:]
        if self.rest:
            os.write(self._master, answer[: len(answer) // 2])
            answer = answer[len(answer) // 2 :]
            self._over.wait(self.rest)
            self.rest = 0.0
        self.answered.append(time.monotonic())  # before: afterwards the other side may already be a step ahead
        os.write(self._master, answer)
