"""The journal of what is sent: intent before the first byte, one open message per meter, every fate explicit (R12-R15).

    hour:     pending ─▶ claimed ─▶ accepted
                 ▲          ├─▶ as before (not applied)
                 └──────────┴─▶ held (refused alone, or a read-back that fits nothing: a person decides, `deciding`)
    dropped: a person has decided that the hour is never sent
    message:  open ─▶ accepted | refused | not_sent | unknown ─▶ verified

A message that is refused for one of its hours may have left the others applied: its fate is unknown, too, unless it is
known that such a refusal applies nothing. Which hour it is, `poison` finds. An accepted hour is claimed once more for each
message that brings an adjustment to it (`postings`).

Every function works inside the caller's transaction; the caller sends only after it has committed.
"""

from __future__ import annotations

import hashlib
from itertools import takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer import doubts, poison, postings
from buffer.model import Accepted, Fate, NotSent, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from buffer.store import Connection

BIN_MS = 300_000  # request_budget: 5-minute bins
BINS_PER_DAY = 288

UNSETTLED = "state IN ('open', 'unknown')"  # word for word as in the partial index: only then SQLite 3.40 uses it
_OF_ACCOUNT = "(?1 IS NULL OR ?1 = (SELECT account FROM meter WHERE meter.id = message.meter))"

_SUSPECT = "SELECT 1 FROM suspect WHERE suspect.meter = hour.meter AND suspect.hour = hour.hour"
_TO_POST = (
    "(SELECT coalesce(sum(amount - posted), 0) FROM adjustment WHERE adjustment.meter = hour.meter"
    " AND adjustment.hour = hour.hour AND posted <> amount)"
)

HourFate = Literal["accepted", "pending", "held"]


class JournalError(Exception):
    """The journal does not stand as the caller believes: nothing of this write is kept, nothing is counted twice."""


class PendingHour(NamedTuple):
    """A closed hour that EnerKey has not accepted, or not with all its adjustments.

    Its consumption, the boundary value at its end, what is to be posted of its adjustments, and what EnerKey has of it
    already: None where the hour itself is still to be sent.
    """

    hour: int
    consumption: int
    boundary: int
    unposted: int = 0
    accepted: int | None = None


class Intent(NamedTuple):
    """A message about to be sent. `values`: the consumption that it adds, by hour; `adjusted`: how much of it is adjustments."""

    meter: int
    family: Literal["consumption", "cumulative"]
    enerkey_id: int
    body: bytes
    values: Mapping[int, int]
    key_slot: int
    adjusted: Mapping[int, int] = MappingProxyType({})


class OpenMessage(NamedTuple):
    """A message whose fate is unknown, as it stands in the journal."""

    id: int
    meter: int
    family: str
    enerkey_id: int
    key_slot: int
    fate_at: int
    values: dict[int, int]


def begin(db: Connection, intent: Intent, boot_id: str, now_ms: int, account: str = "") -> int:
    """Record the intent and claim its hours; returns the message's number. Send only after this has committed (R12).

    The request counts in the account's budget.

    sqlite3.IntegrityError when the meter already has an open message (R13), JournalError when an hour is not pending.
    """
    message = db.execute(
        "INSERT INTO message (meter, family, enerkey_id, body, sha256, key_slot, boot_id, created_at, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open')",
        (
            intent.meter, intent.family, intent.enerkey_id, intent.body, hashlib.sha256(intent.body).hexdigest(),
            intent.key_slot, boot_id, now_ms,
        ),
    ).lastrowid  # fmt: skip
    if message is None:
        raise AssertionError("an INSERT gives a rowid")
    db.executemany(
        "INSERT INTO message_hour (message, meter, hour, value) VALUES (?, ?, ?, ?)",
        [(message, intent.meter, hour, value) for hour, value in intent.values.items()],
    )
    postings.take(db, message, intent.meter, intent.adjusted, own_hour=intent.family == "consumption")
    _claim(db, intent.meter, intent.values, intent.adjusted)
    spend(db, now_ms, account)
    return message


def settle(db: Connection, message: int, fate: Fate, now_ms: int, *, whole: bool = False) -> None:
    """Write down what became of an open message; JournalError when it is not open (any more).

    `whole`: a message that is refused for one of its hours has applied none of them.
    """
    meter, values = _of(db, message)
    match fate:
        case Accepted():
            state, words, hours = "accepted", f"HTTP {fate.status}", "accepted"
            _credit(db, meter, values, message, now_ms)
            poison.settled(db, meter, values)
        case Refused("data"):
            words = f"HTTP {fate.status}: {fate.text}"
            state, hours = ("refused", "held") if len(values) == 1 else ("refused", "pending")
            if len(values) > 1 and not whole:
                state, hours = "unknown", "claimed"
            poison.refused(db, meter, values)
        case Refused():
            state, words, hours = "refused", f"HTTP {fate.status}: {fate.text}", "pending"
        case NotSent():
            state, words, hours = "not_sent", fate.text, "pending"
        case _:
            state, words, hours = "unknown", fate.text, "claimed"
    _move(db, message, "open", state, words, now_ms)
    _release(db, meter, dict.fromkeys(values, hours))
    if hours == "held":
        doubts.hold_message(db, message, values, "refused", None, now_ms)


def settle_by_hour(
    db: Connection,
    message: int,
    fates: Mapping[int, HourFate],
    words: str,
    now_ms: int,
    *,
    shown: Mapping[int, int] | None = None,
) -> None:
    """Close an unknown message with what a read-back proved for each of its hours; JournalError when it is not one.

    `shown`: what EnerKey shows, for those that are held; None where nothing was read.
    """
    meter, values = _of(db, message)
    accepted = {hour: value for hour, value in values.items() if fates[hour] == "accepted"}
    _credit(db, meter, accepted, message, now_ms)
    db.executemany(
        "UPDATE message_hour SET fate = ? WHERE message = ? AND hour = ?",
        [(fates[hour], message, hour) for hour in values],
    )
    _move(db, message, "unknown", "verified", words, now_ms)
    _release(db, meter, {hour: fates[hour] for hour in values})
    poison.settled(db, meter, [hour for hour in values if fates[hour] != "pending"])
    doubts.hold_message(db, message, [hour for hour in values if fates[hour] == "held"], "sent", shown, now_ms)


def orphaned_intents(db: Connection, now_ms: int, account: str | None = None) -> int:
    """At start every open intent's fate is unknown: the process ended between sending and settling. How many.

    Those of one account's meters, or all: another account's may be under way.
    """
    words = "the gateway stopped before the answer was recorded"
    which = f"{UNSETTLED} AND state = 'open' AND {_OF_ACCOUNT}"
    orphan = f"UPDATE message SET state = 'unknown', fate = ?3, fate_at = ?2 WHERE {which}"  # noqa: S608 - a constant text
    return db.execute(orphan, (account, now_ms, words)).rowcount


def pending(  # noqa: PLR0913 - which of them
    db: Connection,
    meter: int,
    most: int,
    *,
    estimated: bool = True,
    suspect: bool = True,
    since: int = -(2**62),
    newest: bool = False,
) -> list[PendingHour]:
    """Closed hours of a meter, from `since` on, that nobody has accepted, spanning at most `most` hours.

    The oldest of them, or the `newest`; in order of time either way.
    Not those that were estimated, unless `estimated`; not those of a message that was refused, unless `suspect`.
    """
    which = f"{_sendable(estimated)} AND hour >= ?" + ("" if suspect else f" AND NOT EXISTS ({_SUSPECT})")
    order = "hour DESC" if newest else "hour"
    find = f"SELECT hour, consumption, boundary, {_TO_POST} FROM hour WHERE {which} ORDER BY {order} LIMIT ?"  # noqa: S608 - constant texts
    rows = [PendingHour(*row) for row in db.execute(find, (meter, since, most))]
    return sorted(row for row in rows if abs(row.hour - rows[0].hour) < most)


def without_open_message(db: Connection, meters: Iterable[int]) -> set[int]:
    """Those of these meters that have no message whose fate is open or unknown."""
    return set(meters) - {row[0] for row in db.execute(f"SELECT meter FROM message WHERE {UNSETTLED}")}  # noqa: S608 - a constant text


def pending_ends(db: Connection, meter: int, *, estimated: bool = True) -> tuple[int, int] | None:
    """The oldest and the newest pending hour of a meter; None when it has none."""
    find = f"SELECT hour FROM hour WHERE {_sendable(estimated)} ORDER BY hour"  # noqa: S608 - a constant text
    oldest = db.execute(f"{find} LIMIT 1", (meter,)).fetchone()
    return oldest and (oldest[0], db.execute(f"{find} DESC LIMIT 1", (meter,)).fetchone()[0])


def all_pending_ends(db: Connection, meters: Sequence[int], *, estimated: bool = True) -> dict[int, tuple[int, int]]:
    """The same for many meters in one query; those without a pending hour are left out."""
    hour = f"SELECT hour FROM hour WHERE {_sendable(estimated).replace('?', 'each.id')} ORDER BY hour"  # noqa: S608 - constant texts
    ids = ", ".join("?" * len(meters))
    find = f"SELECT id, ({hour} LIMIT 1), ({hour} DESC LIMIT 1) FROM meter each WHERE id IN ({ids})"  # noqa: S608
    return {meter: (oldest, newest) for meter, oldest, newest in db.execute(find, meters) if oldest is not None}


def _sendable(estimated: bool) -> str:  # noqa: FBT001 - a flag of the operator's, passed through
    return "meter = ? AND state = 'pending'" + ("" if estimated else " AND quality <> 'estimated'")


def unknown_messages(db: Connection, account: str | None = None) -> list[OpenMessage]:
    """Messages whose fate is unknown, longest waiting first: all, or those of the meters that an account has now."""
    facts = "id, meter, family, enerkey_id, key_slot, fate_at"
    find = f"SELECT {facts} FROM message WHERE {UNSETTLED} AND state = 'unknown' AND {_OF_ACCOUNT} ORDER BY fate_at, id"  # noqa: S608 - constant texts
    return [OpenMessage._make([*row, _of(db, row[0])[1]]) for row in db.execute(find, (account,)).fetchall()]


def in_ledger(db: Connection, meter: int, hours: Sequence[int]) -> dict[int, int]:
    """What we know that EnerKey has accepted for these hours."""
    find = "SELECT hour, accepted FROM ledger WHERE meter = ? AND hour BETWEEN ? AND ?"
    return dict(db.execute(find, (meter, min(hours), max(hours)))) if hours else {}


def ever_accepted(db: Connection, meter: int) -> bool:
    """Whether EnerKey has accepted anything of this meter, since it was taken over where it was another's before."""
    find = "SELECT 1 FROM ledger WHERE meter = ?1 AND hour >= coalesce((SELECT taken_over FROM meter WHERE id = ?1), hour) LIMIT 1"
    return db.execute(find, (meter,)).fetchone() is not None


def held_before(db: Connection, meter: int, hour: int) -> bool:
    """Whether an hour up to this one waits for a person's decision."""
    find = "SELECT 1 FROM hour WHERE meter = ? AND hour <= ? AND state = 'held' LIMIT 1"
    return db.execute(find, (meter, hour)).fetchone() is not None


def spend(db: Connection, now_ms: int, account: str = "", requests: int = 1) -> None:
    """Count requests of an account, durably with what they are for (R22)."""
    count = (
        "INSERT INTO request_budget VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests"
    )
    db.execute(count, (account, now_ms // BIN_MS, requests))
    forget = "DELETE FROM request_budget WHERE account = ? AND bin < ?"
    db.execute(forget, (account, now_ms // BIN_MS - BINS_PER_DAY))


def spent(db: Connection, now_ms: int, account: str = "") -> int:
    """An account's requests of the last 24 h, and up to one bin more: never fewer than were made (R22)."""
    find = "SELECT coalesce(sum(requests), 0) FROM request_budget WHERE account = ? AND bin >= ?"
    return int(db.execute(find, (account, now_ms // BIN_MS - BINS_PER_DAY)).fetchone()[0])


def made_since(db: Connection, since_ms: int, account: str | None = None) -> list[tuple[int, int]]:
    """The messages begun since an instant, oldest first: when (ms), and the newest hour of each. Of an account, or all."""
    newest = (
        "SELECT coalesce(max(hour), 0) FROM message_hour WHERE message = message.id"  # a damaged file has lost some
    )
    find = f"SELECT created_at, ({newest}) FROM message WHERE id < ?2 AND {_OF_ACCOUNT} ORDER BY id DESC"  # noqa: S608 - constant texts
    rows = db.execute(find, (account, 2**62))
    return list(takewhile(lambda row: row[0] >= since_ms, rows))[::-1]  # the newest come first: the rest is not read


def _of(db: Connection, message: int) -> tuple[int, dict[int, int]]:
    meter = db.execute("SELECT meter FROM message WHERE id = ?", (message,)).fetchone()[0]
    hours = db.execute("SELECT hour, value FROM message_hour WHERE message = ? ORDER BY hour", (message,))
    return meter, dict(hours.fetchall())


def _credit(db: Connection, meter: int, values: Mapping[int, int], message: int, now_ms: int) -> None:
    db.executemany(
        "INSERT INTO ledger (meter, hour, accepted, message, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (meter, hour)"
        " DO UPDATE SET accepted = accepted + excluded.accepted, message = excluded.message, at = excluded.at",
        [(meter, hour, value, message, now_ms) for hour, value in values.items()],
    )
    postings.post(db, message, values.keys())


def _move(db: Connection, message: int, before: str, after: str, words: str, now_ms: int) -> None:
    move = "UPDATE message SET state = ?, fate = ?, fate_at = ? WHERE id = ? AND state = ?"
    if db.execute(move, (after, words, now_ms, message, before)).rowcount != 1:
        raise JournalError(f"message {message} is not {before} and cannot become {after}")


def _claim(db: Connection, meter: int, hours: Collection[int], adjusted: Collection[int]) -> None:
    """An hour is sent once; one that is over only for an adjustment."""
    claim = (
        "UPDATE hour SET state = 'claimed' WHERE meter = ? AND hour = ?"
        " AND (state = 'pending' OR (? AND state IN ('accepted', 'missing')))"
    )
    claimed = db.executemany(claim, [(meter, hour, hour in adjusted) for hour in hours]).rowcount
    _check(meter, claimed, len(hours), "pending")


def _release(db: Connection, meter: int, after: Mapping[int, str]) -> None:
    """What was not applied is again what it was before it was claimed."""
    release = (
        "UPDATE hour SET state = CASE WHEN ?1 <> 'pending' THEN ?1"
        " WHEN EXISTS (SELECT 1 FROM ledger WHERE ledger.meter = ?2 AND ledger.hour = ?3) THEN 'accepted'"
        " WHEN quality = 'missing' THEN 'missing' ELSE 'pending' END"
        " WHERE meter = ?2 AND hour = ?3 AND state = 'claimed'"
    )
    released = db.executemany(release, [(state, meter, hour) for hour, state in after.items()]).rowcount
    _check(meter, released, len(after), "claimed")


def _check(meter: int, moved: int, wanted: int, before: str) -> None:
    if wanted and moved != wanted:
        raise JournalError(f"{wanted - moved} of {wanted} h of meter {meter} are not {before}")
