"""How far something long is: a bar on a terminal, now and then a line elsewhere. On stderr, so that results stay clean."""

from __future__ import annotations

import os
import sys
from decimal import Decimal

from gateway import terminal

BAR, SHORT_BAR = 16, 4  # columns
REDRAW = 0.1  # s
LINES = 10  # in a pipe, from 0 to 100 %


class Progress:
    """One bar. Clear it before anything else is printed."""

    def __init__(self) -> None:
        """Draws nothing yet."""
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False
        self._last = float("-inf")
        self._tenths = -1

    def at(self, done: int, total: int, words: str, now: float) -> None:
        """`done` of `total`; `now` in any seconds."""
        if self._terminal:
            if now - self._last >= REDRAW:
                self._last = now
                self._draw(done, total, words)
            return
        tenths = done * LINES // max(total, 1)
        if tenths > self._tenths:
            self._tenths = tenths
            sys.stderr.write(f"{done * 100 // max(total, 1)} %, {words}\n")

    def part(self, words: str) -> None:
        """One of several things of about the same length begins: where no bar can be drawn it is told in a line."""
        self._tenths = LINES
        if not self._terminal:
            sys.stderr.write(f"{words}\n")

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        self._drawn = False
        self._last = float("-inf")

    def _draw(self, done: int, total: int, words: str) -> None:
        room = BAR if BAR + len(words) + 8 < terminal.width() else SHORT_BAR  # the words say more
        bar = terminal.bar(Decimal(done), Decimal(max(total, 1)), room).ljust(room)
        line = f"{bar} {done * 100 // max(total, 1):3d} %  {words}"
        sys.stderr.write(f"\r\033[K{line[: min(terminal.width(), 200) - 1]}")
        sys.stderr.flush()
        self._drawn = True


def span(seconds: float) -> str:
    """A time that something takes: "45 s", "3 min 50 s", "1 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
