"""A damaged database: kept, salvaged into a new one, and gone on from after a cut at any point (R29)."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from buffer import pages, recovery, salvage
from buffer.checking import check
from buffer.files import is_whole, mark_damaged
from buffer.migrations import NewerDatabase
from buffer.store import BEFORE, DATABASE, Store, StoreError
from tests.fakes.damage import PAGE, damage, leaves_of, schema_pages

STORED = Path(__file__).parents[2] / "databases"
FIRST, HOURS, SENT = 492_300, 48, 40  # scripts/old-databases
LOOKED = [(0,), (0,), (0,)]


@pytest.fixture
def path(tmp_path) -> Path:
    """Three meters, two days: scripts/old-databases; of today's schema, and all of it in the file itself."""
    path = tmp_path / DATABASE
    path.write_bytes(gzip.decompress((STORED / "m006.db.gz").read_bytes()))
    Store(tmp_path, threaded=False).close()
    (tmp_path / BEFORE).unlink()
    return path


def healed(path: Path, **options) -> Store:
    return Store(path.parent, threaded=False, heal=recovery.opened, **options)


def rows(store: Store, query: str, *values) -> list[tuple]:
    return store.read(lambda db: db.execute(query, values).fetchall())


def hurt(path: Path, table: str, which: int = 0) -> None:
    damage(path, [leaves_of(path, table)[which]], Random(1))
    mark_damaged(path)


def without(path: Path, *statements: str) -> None:
    """Rows that a lost page would take, taken by hand, and some other page lost."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            db.execute(statement)
        db.commit()
    hurt(path, "rejected")


def whole(store: Store) -> bool:
    return store.read(lambda db: (check(db).findings, db.execute("PRAGMA foreign_key_check").fetchall())) == ([], [])


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_lost_page_of_hours_costs_nothing_that_cannot_be_drawn_anew(path):
    """Every hour is there with its state; those that were accepted have their own energy, from the ledger."""
    before = content(path, "SELECT meter, hour, boundary, state FROM hour ORDER BY meter, hour")
    accepted = content(path, "SELECT meter, hour, consumption FROM hour WHERE state = 'accepted' ORDER BY meter, hour")
    hurt(path, "hour")
    store = healed(path)
    after = rows(store, "SELECT meter, hour, boundary, state FROM hour ORDER BY meter, hour")
    assert [row[:2] + row[3:] for row in after] == [row[:2] + row[3:] for row in before]
    assert (
        rows(store, "SELECT meter, hour, consumption FROM hour WHERE state = 'accepted' ORDER BY meter, hour")
        == accepted
    )
    assert rows(store, "SELECT count(*) FROM hour WHERE quality = 'estimated'")[0][0] > 20
    assert whole(store)
    store.close()


def content(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def test_every_meter_is_looked_at_before_it_sends_whatever_was_lost(path):
    """R19: also when not one row was, because nobody can tell; and not before EnerKey shows what was sent last."""
    assert content(path, "SELECT look_after FROM meter") == [(None,)] * 3
    hurt(path, "rejected")
    store = healed(path)
    assert rows(store, "SELECT look_after FROM meter") == LOOKED
    assert rows(store, "SELECT value FROM meta WHERE key = 'running'") == [("salvaged",)]
    store.close()


def test_the_damaged_files_are_kept_together_as_they_were(path):
    """With the write-ahead log, without which they would be another database."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO meta VALUES ('only', 'in the log')")
        db.commit()
        copies = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    for name, content_ in copies.items():
        path.with_name(name).write_bytes(content_)
    leaf = leaves_of_file(path, copies)
    hurt_bytes = path.read_bytes()
    store = healed(path)
    (aside,) = path.parent.glob("corrupt-*")
    assert (aside / DATABASE).read_bytes() == hurt_bytes
    assert (aside / f"{DATABASE}-wal").read_bytes() == copies[f"{DATABASE}-wal"]
    assert rows(store, "SELECT value FROM meta WHERE key = 'only'") == [("in the log",)]
    assert leaf
    store.close()


def leaves_of_file(path: Path, copies: dict[str, bytes]) -> int:
    """Hurt a page without opening the file, which would fold the log in."""
    scratch = path.with_name("scratch.db")
    scratch.write_bytes(copies[DATABASE])
    leaf = leaves_of(scratch, "rejected")[0]
    scratch.unlink()
    damage(path, [leaf], Random(1))
    mark_damaged(path)
    return leaf


def test_what_was_lost_is_an_event_and_a_report(path):
    hurt(path, "hour")
    store = healed(path)
    (report,) = recovery.reports(path.parent)
    (event,) = rows(store, "SELECT level, text FROM event WHERE subject = 'buffer'")
    assert event == ("error", report["text"])
    assert "could not be read" in report["text"]
    assert report["missed"]["hour"] > 20
    assert report["redrawn"] == report["missed"]["hour"]
    assert rows(store, "SELECT DISTINCT level FROM event WHERE subject = 'main' AND text LIKE '%drawn anew%'") == [
        ("warning",)
    ]
    store.close()


# --- the journal ------------------------------------------------------------------------------------------------------


def test_a_message_under_way_becomes_one_of_unknown_fate(path):
    """R14: its hours are not sent before it is read back."""
    without(path, "UPDATE message SET state = 'open', fate_at = NULL WHERE state = 'unknown'")
    store = healed(path)
    assert rows(store, "SELECT state, fate_at > 0 FROM message WHERE id IN (2, 4)") == [("unknown", 1), ("unknown", 1)]
    assert rows(store, "SELECT count(*) FROM hour WHERE state = 'claimed'") == [(4,)]
    assert whole(store)
    store.close()


def test_hours_whose_message_is_lost_wait_for_the_look_and_do_not_hang(path):
    without(path, "DELETE FROM message WHERE id = 2", "DELETE FROM message_hour WHERE message = 4")
    store = healed(path)
    assert rows(store, "SELECT count(*) FROM hour WHERE state = 'claimed'") == [(0,)]
    assert rows(store, "SELECT state FROM message WHERE id = 4") == [("verified",)]
    assert rows(store, "SELECT look_after FROM meter") == LOOKED
    assert whole(store)
    store.close()


def test_hours_that_are_lost_but_under_way_are_claimed_again(path):
    """The read-back of a message settles every hour that it names: one that is not there would end the gateway."""
    without(path, f"DELETE FROM hour WHERE hour = {FIRST + SENT}")
    store = healed(path)
    redrawn = rows(store, "SELECT meter, state FROM hour WHERE hour = ? ORDER BY meter", FIRST + SENT)
    assert redrawn == [(1, "claimed"), (2, "claimed"), (3, "pending")]
    assert whole(store)
    store.close()


def test_the_ledger_is_written_anew_from_the_messages(path):
    before = content(path, "SELECT meter, hour, accepted FROM ledger ORDER BY meter, hour")
    without(
        path,
        f"DELETE FROM ledger WHERE hour BETWEEN {FIRST + 5} AND {FIRST + 9}",
        "DELETE FROM message_hour WHERE hour = 492306",
    )
    store = healed(path)
    assert rows(store, "SELECT meter, hour, accepted FROM ledger ORDER BY meter, hour") == before
    assert rows(store, "SELECT count(*) FROM hour WHERE state = 'accepted'") == [(2 * SENT,)]
    unaudited = rows(store, "SELECT count(*) FROM ledger WHERE hour = 492306 AND message IS NULL AND at = 0")
    assert unaudited == [(2,)]
    store.close()


def test_an_hour_in_the_ledger_is_never_sent_as_new(path):
    without(path, f"UPDATE hour SET state = 'pending' WHERE hour = {FIRST}")
    store = healed(path)
    assert rows(store, "SELECT state FROM hour WHERE hour = ? AND meter < 3", FIRST) == [("accepted",), ("accepted",)]
    store.close()


# --- rows that say something else -------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["consumption", "boundary"])
def test_a_number_that_was_changed_on_the_disk_is_drawn_anew(path, column):
    """SQLite has no checksum: the chain of boundaries is one."""
    before = content(path, "SELECT meter, hour, consumption, boundary FROM hour ORDER BY 1, 2")
    without(path, f"UPDATE hour SET {column} = {column} + 1048576 WHERE meter = 1 AND hour = {FIRST + 44}")
    store = healed(path)
    assert rows(store, "SELECT meter, hour, consumption, boundary FROM hour ORDER BY 1, 2") == before
    assert rows(store, "SELECT hour FROM hour WHERE quality = 'estimated'") == [(FIRST + 44,)]
    store.close()


def test_an_hour_that_nobody_can_have_closed_is_not_believed(path):
    """It would be a gap of years, and every hour in it drawn anew."""
    without(path, f"UPDATE hour SET hour = hour + 65536 WHERE meter = 1 AND hour = {FIRST + 44}")
    store = healed(path)
    assert rows(store, "SELECT count(*), max(hour) FROM hour WHERE meter = 1") == [(HOURS, FIRST + HOURS - 1)]
    assert whole(store)
    store.close()


# --- meters and counters ----------------------------------------------------------------------------------------------


def test_meters_keep_their_names_from_the_index_when_their_rows_are_lost(path):
    hurt(path, "meter")
    store = healed(path)
    assert rows(store, "SELECT id, name FROM meter ORDER BY id") == [(1, "main"), (2, "heat"), (3, "pv")]
    assert whole(store)
    store.close()


def test_meters_keep_their_names_when_the_index_is_lost_as_well(path):
    """Their hours would belong to nobody, and wait for ever."""
    healed(path).close()
    index = content(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_meter_1'")[0][0]
    damage(path, [index], Random(1))
    hurt(path, "meter")
    store = healed(path)
    assert rows(store, "SELECT id, name FROM meter ORDER BY id") == [(1, "main"), (2, "heat"), (3, "pv")]
    assert whole(store)
    store.close()


def test_a_counter_whose_state_is_lost_is_found_in_its_readings(path):
    """The same offset at two edges is the register's: nothing is lost, nothing is invented."""
    with closing(sqlite3.connect(path)) as db:
        before = db.execute(
            "SELECT boundary - consumption, boundary FROM hour WHERE meter = 1 ORDER BY hour DESC"
        ).fetchone()
    edge = (FIRST + HOURS) * 3_600_000
    readings = [(edge - 3_600_000, before[0] - 700), (edge, before[1] - 700), (edge + 60_000, before[1] - 650)]
    values = ", ".join(f"({at}, 1, {value}, {at})" for at, value in readings)
    without(
        path,
        "DELETE FROM counter_state WHERE meter = 1",
        f"INSERT INTO reading VALUES {values} ON CONFLICT DO UPDATE SET value = excluded.value",
    )
    store = healed(path)
    found = rows(store, "SELECT opening_hour, opening, raw, offset, awaits FROM counter_state WHERE meter = 1")
    assert found == [(FIRST, 50_000_000, before[1] - 700, 700, 0)]
    assert whole(store)
    store.close()


def test_a_counter_that_nothing_tells_of_begins_anew_and_says_so(path):
    """No energy is booked across what nobody knows (R11)."""
    without(path, "DELETE FROM counter_state WHERE meter = 1", "DELETE FROM reading")
    store = healed(path)
    assert rows(store, "SELECT opening_hour, awaits FROM counter_state WHERE meter = 1") == [(FIRST, 1)]
    ((text,),) = rows(store, "SELECT text FROM event WHERE subject = 'main' AND level = 'error'")
    assert "where its register stood was lost" in text
    assert "meter replaced main --at" in text
    assert whole(store)
    store.close()


def test_newest_hours_that_are_lost_are_closed_anew_from_where_the_others_end(path):
    """Their energy is neither lost nor invented: the register goes on from the last boundary that is left."""
    boundary = content(path, f"SELECT boundary FROM hour WHERE meter = 1 AND hour = {FIRST + 43}")[0][0]
    without(path, f"DELETE FROM hour WHERE meter = 1 AND hour > {FIRST + 43}")
    store = healed(path)
    state = rows(store, "SELECT tail_at, tail_total, raw, offset, awaits FROM counter_state WHERE meter = 1")
    assert state == [((FIRST + 44) * 3_600_000, boundary, boundary, 0, 0)]
    assert whole(store)
    store.close()


def test_a_counter_that_was_exchanged_after_the_hours_that_are_left_begins_anew(path):
    """Its offset of today is not the one of then."""
    at = (FIRST + 45) * 3_600_000
    epoch = f"INSERT INTO epoch (meter, at, final, reason, author, recorded_at) VALUES (1, {at}, 0, '', 'me', 0)"
    without(path, f"DELETE FROM hour WHERE meter = 1 AND hour > {FIRST + 43}", epoch)
    store = healed(path)
    assert rows(store, "SELECT tail_at, awaits FROM counter_state WHERE meter = 1") == [((FIRST + 44) * 3_600_000, 1)]
    assert whole(store)
    store.close()


# --- beginning and end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [b"\xa5" * 40_960, bytes(40_960), b"\0" * 4096 + b"\x5a" * 9000])
def test_a_file_of_which_nothing_can_be_read_gives_an_empty_database(path, left):
    """The gateway goes on: nobody comes for a year."""
    healed(path).close()
    path.write_bytes(left)
    store = healed(path)
    assert rows(store, "SELECT count(*) FROM hour") == [(0,)]
    (aside,) = path.parent.glob("corrupt-*")
    assert (aside / DATABASE).read_bytes() == left
    store.close()


def test_zeros_are_what_a_card_makes_of_a_file(tmp_path):
    (tmp_path / DATABASE).write_bytes(bytes(8192))
    healed(tmp_path / DATABASE).close()
    assert len(list(tmp_path.glob("corrupt-*"))) == 1


def test_what_never_was_a_gateways_is_refused_untouched(tmp_path):
    """Somebody has given this gateway the directory of something else."""
    path = tmp_path / DATABASE
    path.write_bytes(b"thesis " * 10_000)
    mark_damaged(path)
    with pytest.raises(StoreError, match="file is not a database"):
        healed(path)
    assert path.read_bytes() == b"thesis " * 10_000


def test_damage_that_a_running_gateway_meets_is_salvaged_at_the_next_start(path):
    """R26, R29: until then every write fails, and nothing is believed."""
    store = healed(path)
    damage(path, [leaves_of(path, "hour")[0]], Random(1))
    with pytest.raises(StoreError, match="malformed"):
        store.write(lambda db: db.execute("UPDATE hour SET consumption = consumption"))
    assert store.damaged
    store.close()
    store = healed(path)
    assert not store.damaged
    assert rows(store, "SELECT count(*) FROM hour") == [(3 * HOURS,)]
    store.close()


def test_a_read_meets_damage_as_well(path):
    store = healed(path)
    damage(path, [leaves_of(path, "hour")[0]], Random(1))
    with pytest.raises(StoreError, match="not read"):
        rows(store, "SELECT sum(boundary) FROM hour")
    assert store.damaged
    store.close()


def test_a_false_alarm_changes_nothing(path):
    mark_damaged(path)
    healed(path).close()
    assert list(path.parent.glob("corrupt-*")) == []
    assert not path.with_name(f"{DATABASE}.damaged").exists()


def test_a_damaged_file_of_a_newer_release_is_left_to_it(path):
    """R30."""
    without(
        path, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('meter-gateway', 'm999_x', '')"
    )
    before = path.read_bytes()
    with pytest.raises((NewerDatabase, StoreError)):
        healed(path)
    assert path.read_bytes() == before


def test_after_an_unclean_stop_the_file_is_checked_and_is_not_believed_before(path):
    """The log is still there: a close would have folded it in."""
    opened = healed(path)
    opened.write(lambda db: db.execute("INSERT INTO meta VALUES ('a', '')"))
    copies = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert opened.checked
    opened.close()
    for name, content_ in copies.items():
        path.with_name(name).write_bytes(content_)
    again = Store(path.parent, heal=recovery.opened)
    assert not again.checked
    again.check()
    assert (again.checked, again.damaged) == (True, False)
    again.close()


def test_a_look_while_nobody_runs_is_no_unclean_stop(path):
    """A read-only connection leaves an empty log behind."""
    healed(path).close()
    assert content_beside(path)
    opened = Store(path.parent, heal=recovery.opened)
    assert opened.checked
    opened.close()


def content_beside(path: Path) -> bool:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        db.execute("SELECT count(*) FROM hour").fetchone()
    return path.with_name(f"{DATABASE}-wal").exists()


# --- pages that name other pages ---------------------------------------------------------------------------------------


def test_rows_are_found_when_the_page_that_leads_to_them_is_lost(path):
    """R29: every row on a readable page is salvaged, also where no tree leads to it."""
    root = content(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'hour'")[0][0]
    assert root not in leaves_of(path, "hour")
    before = content(path, "SELECT * FROM hour ORDER BY id")
    damage(path, [root], Random(1))
    mark_damaged(path)
    store = healed(path)
    assert rows(store, "SELECT * FROM hour ORDER BY id") == before
    assert rows(store, "SELECT text FROM event WHERE subject = 'buffer' AND text LIKE '%could not be read%'") == []
    assert whole(store)
    store.close()


# --- the pages that name the tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("zeros", [False, True])
def test_a_lost_page_of_the_schema_takes_nothing_with_it(path, which, zeros):
    """R29: where the tables begin was written down when the database was opened last."""
    healed(path).close()
    before = content(path, "SELECT * FROM hour ORDER BY id")
    damage(path, [schema_pages(path)[which]], Random(1), zeros=zeros)
    mark_damaged(path)
    store = healed(path)
    assert rows(store, "SELECT * FROM hour ORDER BY id") == before
    assert whole(store)
    store.close()


def test_a_lost_first_page_with_a_log_beside_it(path):
    """What only the log has is not lost either."""
    store = healed(path)
    store.write(lambda db: db.execute("INSERT INTO meta VALUES ('only', 'in the log')"))
    copies = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    store.close()
    for name, content_ in copies.items():
        path.with_name(name).write_bytes(content_)
    damage(path, [1], Random(1))
    mark_damaged(path)
    store = healed(path)
    assert rows(store, "SELECT value FROM meta WHERE key = 'only'") == [("in the log",)]
    assert rows(store, "SELECT count(*) FROM hour") == [(3 * HOURS,)]
    store.close()


def test_without_an_outline_a_lost_first_page_takes_everything_and_the_gateway_goes_on(path):
    damage(path, [1], Random(1))
    store = healed(path)
    assert rows(store, "SELECT count(*) FROM hour") == [(0,)]
    assert "nothing of it could be read" in recovery.reports(path.parent)[0]["text"]
    store.close()


# --- cut off in the middle --------------------------------------------------------------------------------------------


class Cut(Exception):  # noqa: N818
    """The power goes."""


@pytest.mark.parametrize("step", ["mkdir", "moved-half", "moved", "filled", "renamed"])
def test_a_recovery_that_is_cut_off_anywhere_is_gone_on_from(path, step, monkeypatch):
    """The directories decide what is done: one without a report is not over."""
    hurt(path, "hour")
    before = path.read_bytes()

    def cut(*_, **__):
        raise Cut

    def half(source: Path, directory: Path) -> None:
        source.rename(directory / source.name)
        raise Cut

    def moved(source: Path, directory: Path) -> None:
        source.rename(directory / source.name)

    replaced = {
        "mkdir": ("move_together", cut), "moved-half": ("move_together", half), "moved": ("_rebuild", cut),
        "filled": ("sync", cut), "renamed": ("_finish", cut),
    }  # fmt: skip
    monkeypatch.setattr(recovery, *replaced[step])
    with pytest.raises(Cut):
        healed(path)
    monkeypatch.undo()
    mark_damaged(path)
    store = healed(path)
    assert rows(store, "SELECT count(*) FROM hour") == [(3 * HOURS,)]
    assert whole(store)
    (aside,) = path.parent.glob("corrupt-*")
    assert (aside / DATABASE).read_bytes() == before
    assert len(recovery.reports(path.parent)) == 1
    store.close()
    assert sorted(each.name for each in path.parent.iterdir()) == [
        DATABASE,
        f"{DATABASE}.outline",
        "buffer.lock",
        aside.name,
    ]


def test_what_an_earlier_try_left_half_filled_is_not_gone_on_with(path):
    hurt(path, "rejected")
    path.with_name(f"{DATABASE}.new").write_bytes(b"half of a database")
    store = healed(path)
    assert rows(store, "SELECT count(*) FROM hour") == [(3 * HOURS,)]
    store.close()


def test_a_table_that_is_not_in_the_order_is_salvaged_after_the_others(path, monkeypatch):
    """A later schema step brings one, and nobody thinks of this list."""
    monkeypatch.setattr(salvage, "ORDER", ("meter",))
    before = content(path, "SELECT count(*) FROM reading, parked, suspect, driver_state")
    hurt(path, "rejected")
    store = healed(path)
    assert rows(store, "SELECT count(*) FROM reading, parked, suspect, driver_state") == before == [(15,)]
    store.close()


# --- how many are kept ------------------------------------------------------------------------------------------------


def test_the_last_two_are_kept_and_older_ones_only_when_they_may_hold_what_nobody_else_has():
    lost, nothing = {"missed": {"hour": 3}}, {"missed": dict.fromkeys(recovery.PRECIOUS, 0)}
    found = [("a", nothing), ("b", lost), ("c", None), ("d", nothing), ("e", nothing), ("f", lost)]
    assert recovery.superfluous(found) == ["a", "d"]
    assert recovery.superfluous(found[-2:]) == []


def test_damage_again_and_again_keeps_the_disk_from_filling(path):
    for _ in range(4):
        hurt(path, "rejected")
        store = healed(path)
        store.write(
            lambda db: db.execute(
                "INSERT INTO rejected (at, connection, reason, detail, payload) VALUES (0, '', '', '', '')"
            )
        )
        store.close()
    kept = sorted(path.parent.glob("corrupt-*"))
    assert len(kept) == 2
    assert all(json.loads((each / recovery.REPORT).read_text())["rows"]["hour"] == 3 * HOURS for each in kept)


def rows_on(path: Path, page: int) -> list[tuple]:
    return pages._rows(path.read_bytes()[(page - 1) * PAGE : page * PAGE])


def test_the_damaged_copy_of_a_large_file_is_salvaged_to_the_last_readable_page(tmp_path):
    """R29: whatever lies on pages that can be read is there, however many in between cannot."""
    path = tmp_path / DATABASE
    path.write_bytes(gzip.decompress((STORED / "m006.db.gz").read_bytes()))
    with closing(sqlite3.connect(path)) as db:
        db.executemany(
            "INSERT INTO event (at, level, subject, text) VALUES (?, 'info', 'x', 'some words about what happened')",
            [(n,) for n in range(9000)],
        )
        db.commit()
    leaves = leaves_of(path, "event")
    runs = (0, 7, 8, 9, 11, 40, 50, 51, 52, 54, 55, len(leaves) - 1)
    damage(path, [leaves[number] for number in runs], Random(2))
    mark_damaged(path)
    intact = {row[0] for number, leaf in enumerate(leaves) if number not in runs for row in rows_on(path, leaf)}
    store = healed(path)
    kept = {row[0] for row in rows(store, "SELECT id FROM event WHERE subject = 'x'")}
    assert kept == intact
    assert is_whole(path)
    store.close()
