"""What commands print: tables that fit a phone's terminal, colour where it is wanted, never meaning by colour alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_COLOURS = {"ok": "32", "warn": "33", "FAIL": "31", "dim": "2", "bold": "1"}


def coloured(text: str, colour: str) -> str:
    """The text in a colour where stdout is a terminal that wants it."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if wanted else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as their content, two blanks apart; `right` names the columns aligned to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def show(text: str = "") -> None:
    """One piece of result on stdout, at once."""
    print(text, flush=True)


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
