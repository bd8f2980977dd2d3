"""A card that loses pages: what stands on some pages of a database becomes noise, zeros, or what stood there once."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path
from random import Random

PAGE = 4096


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE


def damage(path: Path, pages: Iterable[int], random: Random, *, zeros: bool = False) -> None:
    """Overwrite these pages, counted from 1 as SQLite does."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(bytes(PAGE) if zeros else random.randbytes(PAGE))


def some_pages(path: Path, count: int, random: Random, but: Collection[int] = (1,)) -> list[int]:
    return random.sample([page for page in range(1, pages_of(path) + 1) if page not in but], count)


def leaves_of(path: Path, table: str) -> list[int]:
    """The pages that hold rows of a table, in the order of its key: pages of type 13 below its root."""
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    return _leaves(path.read_bytes(), root)


def schema_pages(path: Path) -> list[int]:
    """The pages that name the tables, the first page of the file among them."""
    return [1, *(page for page in _leaves(path.read_bytes(), 1) if page != 1)]


def _leaves(content: bytes, page: int) -> list[int]:
    start = (page - 1) * PAGE
    head = start + (100 if page == 1 else 0)
    kind = content[head]
    if kind == 13:
        return [page]
    assert kind == 5, f"page {page} is of type {kind}"
    cells = int.from_bytes(content[head + 3 : head + 5])
    below = []
    for number in range(cells):
        at = int.from_bytes(content[head + 12 + 2 * number : head + 14 + 2 * number])
        below.append(int.from_bytes(content[start + at : start + at + 4]))
    below.append(int.from_bytes(content[head + 8 : head + 12]))
    return [leaf for each in below for leaf in _leaves(content, each)]
