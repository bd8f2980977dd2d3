"""The schema, as numbered forward steps. Each step is one transaction; names never change once released."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from sqlite_utils import Database, Migrations

from buffer.schema import (
    SCHEMA_001,
    SCHEMA_002,
    SCHEMA_003,
    SCHEMA_004,
    SCHEMA_005,
    SCHEMA_006,
    SCHEMA_007,
    SCHEMA_008,
    SCHEMA_009,
    SCHEMA_010,
    SCHEMA_011,
)

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


@steps()
def m011_dropped(database: Database) -> None:
    """`status` counts the hours that are never sent without looking through all of them."""
    database.execute(SCHEMA_011)
