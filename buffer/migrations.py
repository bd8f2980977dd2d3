"""The schema, as numbered forward steps. Each step is one transaction; names never change once released.

Table names are the contract with operators who open the file (DESIGN 4). Times are ms since the epoch, hours are hours
since the epoch, values are micro (10⁻⁶ of the meter's unit).
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from sqlite_utils import Database, Migrations

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4D47_5731  # "MGW1": set by the first step, in its transaction

steps = Migrations("meter-gateway")


class NewerDatabase(Exception):  # noqa: N818 - says what was found
    """The file was written by a newer release (R30)."""


def examine(connection: sqlite3.Connection) -> None:
    """Look whether a file may be opened for writing; NewerDatabase when a newer release wrote it (R30).

    sqlite3.DatabaseError when it is not a buffer at all. Writes nothing.
    """
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    begun = tables <= {Migrations.migrations_table}  # new, or cut off before the first step was committed
    if mark != APPLICATION_ID and not (mark == 0 and begun):
        raise sqlite3.DatabaseError("a database, but not one of this gateway's: give the gateway its own data_dir")
    ahead = unknown_steps(connection)
    if ahead:
        raise NewerDatabase(f"written by a newer release: unknown schema step {', '.join(sorted(ahead))}")


def unknown_steps(connection: sqlite3.Connection) -> set[str]:
    """The steps of a newer release that a database has."""
    return set(_applied(connection)) - _known()


def migrate(connection: sqlite3.Connection, copy: Path | None = None) -> None:
    """Bring a database that `examine` has passed up to this release's schema; `copy` is what it was before, once.

    A copy that cannot be made keeps nobody from going on: each step is undone whole when it fails.
    """
    database = Database(connection)
    if not steps.pending(database):
        return
    if copy and steps.applied(database):
        try:
            copy.unlink(missing_ok=True)
            connection.execute("VACUUM INTO ?", (str(copy),))
            copy.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: no copy of the database before its migration: %s", copy, error)
    steps.apply(database)


def as_far_as(connection: sqlite3.Connection, other: sqlite3.Connection) -> None:
    """Give an empty database the schema of another one; today's where that does not say which it has."""
    try:
        applied = set(_applied(other))
    except sqlite3.Error:
        applied = set()
    database = Database(connection)
    later = [step.name for step in steps.pending(database) if applied and step.name not in applied]
    steps.apply(database, stop_before=later)


def _applied(connection: sqlite3.Connection) -> list[str]:
    return [step.name for step in steps.applied(Database(connection, recursive_triggers=False))]


def _known() -> set[str]:
    empty = Database(memory=True)
    try:
        return {step.name for step in steps.pending(empty)}
    finally:
        empty.close()


@steps()
def m001_initial(database: Database) -> None:
    """Every table of DESIGN 4."""
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in SCHEMA_001.split(";\n"):
        database.execute(statement)


@steps()
def m002_tracks(database: Database) -> None:
    """Where each counter's register is, across rollovers, resets and replacements; and what persons say of the latter."""
    for statement in SCHEMA_002.split(";\n"):
        database.execute(statement)


@steps()
def m003_parked(database: Database) -> None:
    """How much of an hour is known; and energy that belongs to no hour until a person says so."""
    for statement in SCHEMA_003.split(";\n"):
        database.execute(statement)


@steps()
def m004_suspects(database: Database) -> None:
    """Where an hour is looked for that EnerKey refuses."""
    database.execute(SCHEMA_004)


@steps()
def m005_postings(database: Database) -> None:
    """How much of each adjustment EnerKey has, and which message brought it."""
    for statement in SCHEMA_005.split(";\n"):
        database.execute(statement)


@steps()
def m006_looks(database: Database) -> None:
    """Which meters are read at EnerKey before anything of them is sent; and when each was compared with the ledger."""
    for statement in SCHEMA_006.split(";\n"):
        database.execute(statement)


@steps()
def m007_accounts(database: Database) -> None:
    """Which account each meter belongs to; each account's own budget; and which key EnerKey took for what."""
    for statement in SCHEMA_007.split(";\n"):
        database.execute(statement)


@steps()
def m008_findings(database: Database) -> None:
    """What probing EnerKey's API has found out."""
    database.execute(SCHEMA_008)


@steps()
def m009_doubts(database: Database) -> None:
    """Why an hour waits for a person, with both numbers; hours that are never sent; from when on a meter is taken over."""
    for statement in SCHEMA_009.split(";\n"):
        database.execute(statement)
    _allow_state(database, "dropped")


def _allow_state(database: Database, state: str) -> None:
    """Let an hour have one more state: SQLite changes no CHECK, so the table is written anew, with all its columns."""
    (table,) = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'hour'").fetchone()
    indexes = database.execute(
        "SELECT sql FROM sqlite_schema WHERE tbl_name = 'hour' AND type = 'index' AND sql NOT NULL"
    ).fetchall()
    head, states, rest = table.partition("CHECK (state IN (")
    opening = head.index("(")
    database.execute(f"CREATE TABLE hour_anew {head[opening:]}{states}'{state}', {rest}")
    database.execute("INSERT INTO hour_anew SELECT * FROM hour")
    database.execute("DROP TABLE hour")
    database.execute("ALTER TABLE hour_anew RENAME TO hour")
    for (index,) in indexes:
        database.execute(index)


@steps()
def m010_sizes(database: Database) -> None:
    """What the file holds and what is written, day by day."""
    database.execute(SCHEMA_010)


SCHEMA_001 = """
CREATE TABLE meter (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    enerkey_id INTEGER,
    unit TEXT NOT NULL,
    kind TEXT NOT NULL,
    push TEXT NOT NULL,
    source TEXT NOT NULL,              -- where the values come from, for people
    configured INTEGER NOT NULL        -- 0 once it has left the configuration; its data stays (R31)
) STRICT;
CREATE TABLE reading (
    at INTEGER NOT NULL,
    meter INTEGER NOT NULL REFERENCES meter(id),
    value INTEGER NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (at, meter)            -- time first: one poll of many meters touches few pages (reliability 2.6)
) STRICT, WITHOUT ROWID;
CREATE TABLE reading_hour (            -- the hours that hold readings of a meter: finds them where `reading` cannot
    hour INTEGER NOT NULL,
    meter INTEGER NOT NULL REFERENCES meter(id),
    PRIMARY KEY (hour, meter)
) STRICT, WITHOUT ROWID;
CREATE TABLE rejected (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    connection TEXT NOT NULL,
    source TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    payload TEXT NOT NULL
) STRICT;
CREATE TABLE rejected_count (
    connection TEXT NOT NULL,
    source TEXT NOT NULL,              -- '' where the message fitted no source
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (connection, source, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE counter_state (
    meter INTEGER PRIMARY KEY REFERENCES meter(id),
    opening_hour INTEGER NOT NULL,     -- the edge at which this meter's hours begin
    opening INTEGER NOT NULL,          -- the boundary value there
    quality TEXT NOT NULL,             -- of the newest frozen boundary
    tail_at INTEGER,                   -- the newest good reading up to that boundary
    tail_value INTEGER,
    changed_at INTEGER                 -- when the source last moved, up to that reading
) STRICT;
CREATE TABLE driver_state (
    connection TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (connection, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE unplaced (
    id INTEGER PRIMARY KEY,
    boot_id TEXT NOT NULL,
    boottime INTEGER NOT NULL,         -- ms since that boot
    meter INTEGER NOT NULL REFERENCES meter(id),
    value INTEGER NOT NULL,
    source_at INTEGER,                 -- the source's own time, where it gave one
    received INTEGER NOT NULL          -- what the untrusted clock said
) STRICT;
CREATE TABLE hour (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    consumption INTEGER NOT NULL,
    boundary INTEGER NOT NULL,         -- register value, or running total, at the hour's end
    quality TEXT NOT NULL,
    closed_at INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'claimed', 'accepted', 'held', 'missing')),
    UNIQUE (meter, hour)
) STRICT;
CREATE INDEX hour_pending ON hour (meter, hour) WHERE state = 'pending';
CREATE INDEX hour_held ON hour (meter, hour) WHERE state = 'held';
CREATE TABLE adjustment (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX adjustment_hour ON adjustment (meter, hour);
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    accepted INTEGER NOT NULL,         -- consumption, for cumulative meters too
    message INTEGER,
    at INTEGER NOT NULL,
    UNIQUE (meter, hour)
) STRICT;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    family TEXT NOT NULL CHECK (family IN ('consumption', 'cumulative')),
    enerkey_id INTEGER NOT NULL,
    body BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    key_slot INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'accepted', 'refused', 'not_sent', 'unknown', 'verified')),
    fate_at INTEGER,
    fate TEXT NOT NULL DEFAULT ''      -- the server's or the network's words
) STRICT;
CREATE UNIQUE INDEX message_one_open ON message (meter) WHERE state IN ('open', 'unknown');
CREATE TABLE message_hour (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message(id),
    meter INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    value INTEGER NOT NULL,            -- the consumption that this message adds to the hour
    fate TEXT NOT NULL DEFAULT '',
    UNIQUE (message, hour)
) STRICT;
CREATE TABLE request_budget (
    bin INTEGER PRIMARY KEY,           -- 5-minute bins since the epoch
    requests INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""

SCHEMA_002 = """
ALTER TABLE meter ADD COLUMN register TEXT NOT NULL DEFAULT '';
ALTER TABLE meter ADD COLUMN since INTEGER;
ALTER TABLE counter_state RENAME COLUMN tail_value TO tail_total;
ALTER TABLE counter_state RENAME COLUMN changed_at TO changed;
ALTER TABLE counter_state ADD COLUMN raw INTEGER;
ALTER TABLE counter_state ADD COLUMN offset INTEGER;
ALTER TABLE counter_state ADD COLUMN awaits INTEGER;
ALTER TABLE counter_state ADD COLUMN former_raw INTEGER;
ALTER TABLE counter_state ADD COLUMN former_changed INTEGER;
ALTER TABLE counter_state ADD COLUMN former_offset INTEGER;
ALTER TABLE counter_state ADD COLUMN former_level INTEGER;
ALTER TABLE counter_state ADD COLUMN told_until INTEGER NOT NULL DEFAULT 0;
UPDATE counter_state SET raw = tail_total, offset = 0
    WHERE tail_total IS NOT NULL AND meter IN (SELECT id FROM meter WHERE kind = 'counter');
CREATE TABLE epoch (                   -- from here on a meter's register is another one
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    at INTEGER NOT NULL,
    old_final INTEGER,                 -- what the old one stood at; NULL where nobody knows
    new_initial INTEGER,               -- what the new one began at; NULL: its first reading decides
    final INTEGER NOT NULL,            -- 1: no reading will come after it
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (meter, at)
) STRICT
"""

SCHEMA_003 = """
ALTER TABLE hour ADD COLUMN covered_seconds INTEGER;
CREATE TABLE parked (                  -- energy that is in no hour and no adjustment: a person decides where it goes
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,             -- the hour in which it was used, as far as that is known
    amount INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX parked_hour ON parked (meter, hour)
"""

SCHEMA_004 = """
CREATE TABLE suspect (                 -- hours of a refused message, while the one that is refused is looked for
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    near INTEGER NOT NULL,             -- 1: it is among these; 0: the message's other hours, which wait for the end of it
    PRIMARY KEY (meter, hour)
) STRICT, WITHOUT ROWID
"""

SCHEMA_005 = """
ALTER TABLE adjustment ADD COLUMN posted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX adjustment_unposted ON adjustment (meter, hour) WHERE posted <> amount;
CREATE TABLE message_adjustment (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message(id),
    adjustment INTEGER NOT NULL REFERENCES adjustment(id),
    hour INTEGER NOT NULL,             -- of the item that takes it along
    amount INTEGER NOT NULL            -- as much of it
) STRICT;
CREATE INDEX message_adjustment_message ON message_adjustment (message)
"""

SCHEMA_006 = """
ALTER TABLE meter ADD COLUMN look_after INTEGER DEFAULT 0;
ALTER TABLE meter ADD COLUMN audited_at INTEGER NOT NULL DEFAULT 0
"""

SCHEMA_007 = """
ALTER TABLE meter ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE request_budget RENAME TO former_budget;
CREATE TABLE request_budget (
    account TEXT NOT NULL,             -- '' is [enerkey] itself, here and everywhere
    bin INTEGER NOT NULL,              -- 5-minute bins since the epoch
    requests INTEGER NOT NULL,
    PRIMARY KEY (account, bin)
) STRICT, WITHOUT ROWID;
INSERT INTO request_budget SELECT '', bin, requests FROM former_budget;
DROP TABLE former_budget;
CREATE TABLE key_use (                 -- when EnerKey last took which API key for what; never the key itself
    account TEXT NOT NULL,
    family TEXT NOT NULL,
    reference TEXT NOT NULL,           -- how the configuration names the key
    accepted_at INTEGER NOT NULL,
    PRIMARY KEY (account, family, reference)
) STRICT, WITHOUT ROWID
"""

SCHEMA_008 = """
CREATE TABLE finding (                 -- the newest answer to each question of `probe`
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,             -- '' is [enerkey] itself
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    words TEXT NOT NULL,               -- the same for people
    api TEXT NOT NULL,                 -- fingerprint of the URL and contract that were probed; of no key
    at INTEGER NOT NULL,
    UNIQUE (account, name)
) STRICT
"""

SCHEMA_009 = """
CREATE TABLE doubt (                   -- why an hour is held, with the numbers that a person decides by
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    why TEXT NOT NULL,                 -- sent, before, foreign, audit, refused, sums: see buffer/doubts.py
    value INTEGER NOT NULL,            -- what a message added to the hour, or would have added
    adjusted INTEGER NOT NULL,         -- as much of that is adjustments
    shown INTEGER,                     -- what EnerKey showed for the hour; NULL: nothing
    seen_at INTEGER,                   -- when it did; NULL: it was not read
    message INTEGER,
    UNIQUE (meter, hour)
) STRICT;
CREATE INDEX doubt_foreign ON doubt (meter) WHERE why = 'foreign';
ALTER TABLE meter ADD COLUMN taken_over INTEGER
"""

SCHEMA_010 = """
CREATE TABLE size (                    -- what the file held on a day, and what was written on it: bytes
    day INTEGER PRIMARY KEY,           -- days since the epoch
    used INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT
"""
