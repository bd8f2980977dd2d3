"""Pages of a damaged file that nothing leads to any more, because the page that named them is lost; their rows, decoded.

SQLite's file format, sections 1.5 to 2.1 (sqlite.org/fileformat.html). A page belongs to the one table whose columns all of
its rows fit. Rows that run over the end of their page are left out.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

PAGE = 4096
LONGEST = PAGE - 35  # bytes of a row that lies on its page whole
TABLE_INTERIOR, TABLE_LEAF, INDEX_INTERIOR = 5, 13, 2
LEAF_HEADER, INTERIOR_HEADER = 8, 12
INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> bytes
BLOB, TEXT = 12, 13  # serial types from here on, even and odd, with their length in them

Row = tuple[Any, ...]


class Column(NamedTuple):
    """One column of a table: what it holds, whether a row may lack it, and whether it is the row's own number."""

    type: str
    needed: bool
    number: bool


def orphans(file: Path, roots: Collection[int], tables: Mapping[str, Sequence[Column]]) -> Iterator[tuple[str, Row]]:
    """Rows, with their table's name, of pages that cannot be reached from any of the first pages (`roots`)."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield from _orphans(content, roots, tables)


def _orphans(
    content: mmap.mmap, roots: Collection[int], tables: Mapping[str, Sequence[Column]]
) -> Iterator[tuple[str, Row]]:
    count = len(content) // PAGE
    known = _reached(content, roots, count) | _free(content, count)
    for page in range(2, count + 1):
        start = (page - 1) * PAGE
        if content[start] != TABLE_LEAF or page in known:
            continue
        rows = _rows(content[start : start + PAGE])
        fitting = [name for name, columns in tables.items() if rows and all(_fits(row, columns) for row in rows)]
        if len(fitting) == 1:
            columns = tables[fitting[0]]
            yield from ((fitting[0], _completed(row, columns)) for row in rows)


def _reached(content: mmap.mmap, roots: Collection[int], count: int) -> set[int]:
    reached: set[int] = set()
    waiting = list(roots)
    while waiting:
        page = waiting.pop()
        if page in reached or not 0 < page <= count:
            continue
        reached.add(page)
        start = (page - 1) * PAGE
        if content[start] in {TABLE_INTERIOR, INDEX_INTERIOR}:
            waiting += _children(content[start : start + PAGE])
    return reached


def _children(page: bytes) -> list[int]:
    cells = int.from_bytes(page[3:5])
    places = [
        int.from_bytes(page[at : at + 2]) for at in range(INTERIOR_HEADER, min(INTERIOR_HEADER + 2 * cells, PAGE), 2)
    ]
    return [int.from_bytes(page[place : place + 4]) for place in (8, *places)]


def _free(content: mmap.mmap, count: int) -> set[int]:
    """Pages that the file has given up: what stands there was deleted, or moved elsewhere."""
    free: set[int] = set()
    trunk = int.from_bytes(content[32:36])
    while 0 < trunk <= count and trunk not in free:
        free.add(trunk)
        start = (trunk - 1) * PAGE
        leaves = min(int.from_bytes(content[start + 4 : start + 8]), PAGE // 4 - 2)
        free |= {int.from_bytes(content[at : at + 4]) for at in range(start + 8, start + 8 + 4 * leaves, 4)}
        trunk = int.from_bytes(content[start : start + 4])
    return free


def _rows(page: bytes) -> list[Row]:
    """Each row with its number before its values; empty where the page is no page of rows."""
    cells = int.from_bytes(page[3:5])
    if LEAF_HEADER + 2 * cells > PAGE:
        return []
    found = []
    for number in range(cells):
        at = LEAF_HEADER + 2 * number
        try:
            row = _row(page, int.from_bytes(page[at : at + 2]))
        except (IndexError, ValueError):
            return []
        found += [row] if row else []
    return found


def _row(page: bytes, at: int) -> Row | None:
    size, at = _varint(page, at)
    number, at = _varint(page, at)
    if size > LONGEST:
        return None
    head, place = _varint(page, at)
    end = at + size
    if at + head > end or end > PAGE:
        raise ValueError("no row lies here")
    body = at + head
    values = []
    while place < at + head:
        kind, place = _varint(page, place)
        value, body = _value(page, kind, body)
        values.append(value)
    if body != end:
        raise ValueError("no row lies here")
    return (number, *values)


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for read in range(8):
        byte = page[at + read]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + read + 1
    value = value << 8 | page[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


def _value(page: bytes, kind: int, at: int) -> tuple[Any, int]:
    if kind in {0, 8, 9}:
        return (None if kind == 0 else kind - 8), at
    if kind in INTEGERS:
        end = at + INTEGERS[kind]
        return int.from_bytes(page[at:end], signed=True), end
    if kind < BLOB:
        raise ValueError("our tables hold no such value")
    end = at + (kind - BLOB) // 2
    content = page[at:end]
    return (content.decode() if kind % 2 else content), end


def _fits(row: Row, columns: Sequence[Column]) -> bool:
    values = row[1:]
    if len(values) > len(columns) or any(column.needed for column in columns[len(values) :]):
        return False
    return all(_may_hold(column, value) for column, value in zip(columns, values, strict=False))


def _may_hold(column: Column, value: Any) -> bool:  # noqa: ANN401 - whatever stands there
    if column.number or value is None:
        return value is None and (column.number or not column.needed)
    return isinstance(value, {"INTEGER": int, "TEXT": str, "BLOB": bytes}[column.type])


def _completed(row: Row, columns: Sequence[Column]) -> Row:
    """The values in the order of the columns, the row's number among them, as many as the row has."""
    return tuple(row[0] if column.number else value for column, value in zip(columns, row[1:], strict=False))
