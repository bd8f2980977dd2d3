"""A person's word about a meter on its way from the command line to the buffer, through the service or without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from buffer import corrections, deciding, takeover
from buffer.corrections import CorrectionError, Done, Word

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.store import Connection


class Corrected(NamedTuple):
    """What was done, and to which meter."""

    meter: int
    done: Done


def correct(db: Connection, asked: dict[str, Any], now_ms: int) -> Corrected:
    """Do what is asked, in one transaction. Raises CorrectionError, with nothing written.

    `asked`: `what`, `meter` (name), `author`, and the values of that correction in ms and micro.
    """
    row = db.execute("SELECT id FROM meter WHERE name = ? AND configured", (asked["meter"],)).fetchone()
    if row is None:
        raise CorrectionError(f"{asked['meter']}: there is no such meter")
    word = Word(row[0], asked["meter"], asked["author"], now_ms)
    return Corrected(row[0], _KINDS[asked["what"]](db, word, asked))


_KINDS: dict[str, Callable[[Connection, Word, dict[str, Any]], Done]] = {
    "replaced": lambda db, word, asked: corrections.replaced(
        db, word, asked["at"], asked["old_final"], asked["new_initial"]
    ),
    "retire": lambda db, word, asked: corrections.retired(db, word, asked["at"], asked["final"]),
    "estimate": lambda db, word, asked: corrections.estimated(db, word, asked["since"], asked["until"], asked["total"]),
    "book": lambda db, word, asked: corrections.booked(db, word, asked.get("into")),
    "drop": lambda db, word, _: corrections.dropped(db, word),
    "resolve": lambda db, word, asked: deciding.decide(
        db,
        word,
        asked["decision"],
        asked.get("first", deciding.FIRST),
        asked.get("last", deciding.LAST),
        asked.get("settle", 0),
    ),
    "takeover": lambda db, word, asked: takeover.take_over(db, word, asked["at"]),
}
