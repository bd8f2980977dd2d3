"""`buffer check`: each rule finds what breaks it, with meter and hour, and nothing in a database that is right."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from buffer.checking import MOST, check
from buffer.store import DATABASE, read_only

STORED = Path(__file__).parents[2] / "databases" / "m006.db.gz"
FIRST, SENT = 492_300, 40


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / DATABASE
    path.write_bytes(gzip.decompress(STORED.read_bytes()))
    return path


def found(path: Path, *statements: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    with read_only(path) as db:
        return [(each.meter, each.hour, each.what) for each in check(db).findings]


def test_a_database_that_is_right_has_no_findings(path):
    assert found(path) == []


@pytest.mark.parametrize(
    ("statement", "hour", "words"),
    [
        (f"DELETE FROM hour WHERE meter = 1 AND hour = {FIRST + 44}", FIRST + 45, "add up to its boundaries (an hour is not there)"),
        (f"UPDATE hour SET consumption = consumption - 7 WHERE meter = 1 AND hour = {FIRST + 44}", FIRST + 44, "(they are -7 micro off)"),
        (f"UPDATE hour SET state = 'claimed' WHERE meter = 1 AND hour = {FIRST + 44}", FIRST + 44, "no message of open fate names it"),
        (f"UPDATE hour SET state = 'pending' WHERE meter = 1 AND hour = {FIRST + SENT}", FIRST + SENT, "could be sent twice"),
        (f"DELETE FROM ledger WHERE meter = 1 AND hour = {FIRST + 7}", FIRST + 7, "accepted, but not in the ledger"),
        (f"UPDATE hour SET state = 'pending' WHERE meter = 1 AND hour = {FIRST + 7}", FIRST + 7, "would be counted twice"),
        (
            f"INSERT INTO ledger (meter, hour, accepted, at) VALUES (1, {FIRST - 3}, 5, 0)",
            FIRST - 3,
            "in the ledger, but its hour is not there",
        ),
        (
            f"UPDATE ledger SET accepted = accepted + 1000000 WHERE meter = 1 AND hour = {FIRST + 7}",
            FIRST + 7,
            "neither what its messages carried nor the hour with its posted adjustments",
        ),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_found_alone_with_its_meter_and_hour(path, statement, hour, words):
    """R7, R13, R14, R17."""
    ((meter, at, what),) = found(path, statement)
    assert (meter, at) == ("main", hour)
    assert words in what


def test_an_hour_in_two_open_messages_is_found(path):
    """R13; the index that forbids a second open message of one meter is gone."""
    findings = found(
        path,
        "DROP INDEX message_one_open",
        "INSERT INTO message SELECT 99, meter, family, enerkey_id, body, sha256, key_slot, boot_id, created_at, state, fate_at, fate"
        " FROM message WHERE id = 2",
        f"INSERT INTO message_hour (message, meter, hour, value) VALUES (99, 1, {FIRST + SENT}, 1)",
    )
    assert ("main", FIRST + SENT, "in two messages of open fate: it may be counted twice") in findings


def test_what_a_look_found_at_enerkey_needs_no_message(path):
    """The ledger may have an hour that no message of ours brought, as the hour itself says."""
    assert found(path, f"DELETE FROM message_hour WHERE hour = {FIRST + 7}") == []


def test_many_findings_of_one_kind_are_cut_short_with_their_number(path):
    findings = found(path, "DELETE FROM ledger WHERE meter = 1")
    assert len(findings) == MOST
    assert findings[-1] == (None, None, f"accepted, but not in the ledger: {SENT - MOST + 1} more hours")
