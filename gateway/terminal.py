"""What commands print: tables that fit a phone's terminal, colour where it is wanted, never meaning by colour alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

_COLOURS = {"ok": "32", "warn": "33", "FAIL": "31", "dim": "2", "bold": "1"}
_UNSHOWABLE = re.compile(r"(\033\[(?:0|1|2|31|32|33)m)|[^\n\t\x20-\x7e\xa0-\U0010ffff]")  # all but our own colours
_BLOCKS = "▏▎▍▌▋▊▉█"
_ENDLESS = 10_000  # columns of a file or pipe


def coloured(text: str, colour: str) -> str:
    """The text in a colour where stdout is a terminal that wants it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if wanted else text


def width() -> int:
    """Columns to fit into: $COLUMNS, else the terminal's, else no limit."""
    return shutil.get_terminal_size((_ENDLESS, 24)).columns


def wrapped(text: str, indent: str = "") -> str:
    """Lines broken between words where they are wider than the terminal; what follows a break is indented."""
    most = max(width(), 20)
    return "\n".join(
        textwrap.fill(line, most, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their content, two blanks apart; `right` names the columns aligned to the right.

    Where that is wider than the terminal: one block per row, named by its first column, without its empty cells.
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    if not fits(header, rows):
        return "\n".join(_block(header, row) for row in rows)
    return "\n".join(
        "  ".join(
            cell.rjust(wide) if column in right else cell.ljust(wide)
            for column, (cell, wide) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def fits(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the table is no wider than the terminal."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1) <= width()


def _block(header: Sequence[str], row: Sequence[str]) -> str:
    cells = [wrapped(f"  {name}: {cell}", "    ") for name, cell in zip(header[1:], row[1:], strict=True) if cell]
    return "\n".join([row[0], *cells])


def bar(value: Decimal, most: Decimal, room: int) -> str:
    """A bar of at most `room` columns for a value between 0 and `most`: in eighths of a column where the output knows them."""
    if value <= 0 or most <= 0 or room <= 0:
        return ""
    eighths = max(1, round(value / most * room * 8))
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * max(1, round(eighths / 8))
    whole, rest = divmod(eighths, 8)
    return _BLOCKS[-1] * whole + (_BLOCKS[rest - 1] if rest else "")


def show(text: str = "") -> None:
    """One piece of result on stdout, at once; control characters that a device or server sent become "?"."""
    print(_showable(text), flush=True)


def _showable(text: str) -> str:
    return _UNSHOWABLE.sub(lambda found: found[1] or "?", text)


class Screen:
    """A text that is drawn again and again in the same place of a terminal. No line of it may be wider."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self.redraws = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = 0

    def draw(self, text: str) -> None:
        """The newest state, in the place of the one before; what is below the terminal's edge is only counted."""
        lines = _showable(text).splitlines()
        size = shutil.get_terminal_size()
        room = max(size.lines - 2, 3)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines: make the window larger"]
        lines = [line[: size.columns] for line in lines]
        above = f"\033[{self._drawn}F\033[J" if self._drawn else ""
        print(above + "".join(f"{line}\n" for line in lines), end="", flush=True)  # at once: no half table is ever seen
        self._drawn = len(lines)


def after_interrupt() -> None:
    """What is written next begins a line of its own, and not behind the "^C" that a terminal shows."""
    if sys.stdout.isatty():
        print(flush=True)


def hint(text: str) -> None:
    """What a person who waits may want to know: on stderr, and only where that is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{wrapped(text, '  ')}\n")


def document(content: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Exactly one JSON document on stdout."""
    print(json.dumps(content, default=str, ensure_ascii=False), flush=True)


def stamp(at: datetime) -> str:
    """An instant for people, in UTC and saying so."""
    return f"{at:%Y-%m-%d %H:%M}Z"


def ago(seconds: float) -> str:
    """A span for people."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
