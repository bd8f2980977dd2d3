"""What the probe found out of EnerKey's API: the newest answer to each question, with its date."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffer.store import Connection


class Finding(NamedTuple):
    """One answer: `value` for the rules, `words` for people; `api` names what was probed, `at` is in ms."""

    name: str
    value: str
    words: str
    api: str
    at: int


def record(db: Connection, findings: Iterable[Finding], account: str = "") -> None:
    """Keep these answers; what was not found out this time keeps its older answer."""
    upsert = (
        "INSERT INTO finding (account, name, value, words, api, at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account, name)"
        " DO UPDATE SET value = excluded.value, words = excluded.words, api = excluded.api, at = excluded.at"
    )
    db.executemany(upsert, [(account, *finding) for finding in findings])


def known(db: Connection, account: str = "") -> list[Finding]:
    """Every answer there is, in the order in which they were first found."""
    find = "SELECT name, value, words, api, at FROM finding WHERE account = ? ORDER BY id"
    return [Finding(*row) for row in db.execute(find, (account,))]
