"""How large the database may be, the ballast, and what is told of both."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from buffer import room
from buffer.room import BALLAST_NAME, MIB, NEARLY, RESERVE, Disk, Facts, Room, changes, disk_of, problems
from buffer.store import DATABASE, Store, StoreError, read_only
from tests.fakes.failing_disk import EIO, AtLeast, failing_disk

SOUND = Disk(10**12, read_only=False)
SMALL = 65_536
LOGS = (f"{DATABASE}-wal", f"{DATABASE}-shm")


def facts(disk: Disk = SOUND, **parts) -> Facts:
    return Facts("/data", disk, **parts)


def put(store: Store, size: int) -> None:
    store.write(lambda db: db.execute("INSERT INTO meta VALUES (hex(randomblob(8)), printf('%.*c', ?, 'x'))", (size,)))


def test_a_sound_disk_is_no_problem():
    """Whatever the database still may take."""
    assert problems(facts()) == {}
    assert problems(facts(left=RESERVE)) == {}


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (facts(Disk(0, read_only=True), full=True, failing="x"), "read-only", "mount it writable"),
        (facts(Disk(0, read_only=False), full=True, left=0), "full", "what finds no room waits"),
        (facts(Disk(0, read_only=False), full=True, left=RESERVE), "full", "in its own free pages"),
        (facts(Disk(0, read_only=False), failing="disk I/O error"), "full", "df -h /data"),
        (facts(left=RESERVE - 1, failing="database or disk is full"), "cap", r"raise [buffer] max_size"),
        (facts(failing="disk I/O error"), "failing", "(disk I/O error)"),
        (facts(Disk(NEARLY - 1, read_only=False)), "nearly", "67 MB are free"),
        (facts(log=32 * MIB + 1), "log", "fuser -v /data/buffer.db"),
        (facts(given_up=5), "short", "5 readings and messages"),
    ],
)
def test_each_trouble_is_told_once_with_the_next_step(given: Facts, kind: str, words: str):
    """The one that the others follow from."""
    found = problems(given)
    assert list(found) == [kind]
    assert words in found[kind]


def test_every_kind_has_words_for_its_end():
    """So that nobody waits for them."""
    assert set(room.GRAVITY) | set(room.LEVELS) == set(room.OVER)


def test_changes_are_told_at_both_ends_and_nothing_is_over_that_became_worse():
    """A disk that is full is not told to be no longer nearly full."""
    assert changes({}, {"nearly": "n"}) == [("warning", "n")]
    assert changes({"nearly": "n"}, {"nearly": "n, other words"}) == []
    assert changes({"nearly": "n"}, {"full": "f"}) == [("error", "f")]
    assert changes({"full": "f", "log": "l"}, {"nearly": "n"}) == [
        ("info", "the disk has room again"),
        ("info", "the database's log is short again"),
        ("warning", "n"),
    ]
    assert changes({"full": "f"}, {"read-only": "r"}) == [("error", "r")]


def test_a_disk_that_cannot_be_looked_at_has_no_room(tmp_path: Path):
    """And one that can has some."""
    assert disk_of(tmp_path / "away") == Disk(0, read_only=False)
    assert disk_of(tmp_path).free > 0


def test_the_ballast_is_really_allocated(tmp_path: Path):
    """A hole would give nothing back."""
    with_ballast = Room(tmp_path, None, SMALL)
    with_ballast.begin()
    assert not with_ballast.full
    assert (tmp_path / BALLAST_NAME).stat().st_blocks * 512 >= SMALL


def test_no_ballast_is_made_where_the_disk_has_too_little_room(tmp_path: Path):
    """That is a full disk: the database may hardly grow."""
    much = disk_of(tmp_path).free
    greedy = Room(tmp_path, None, much)
    greedy.begin()
    assert greedy.full
    assert not (tmp_path / BALLAST_NAME).exists()


def test_a_ballast_that_cannot_be_allocated_leaves_nothing_behind_that_counts_as_one(tmp_path: Path, monkeypatch):
    """A quota, for example, which no look at the disk shows."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    for _ in range(2):
        limited = Room(tmp_path, None, SMALL)
        limited.begin()
        assert limited.full
    assert not (tmp_path / BALLAST_NAME).exists()


def test_a_quota_that_is_used_up_is_a_full_disk(tmp_path: Path, monkeypatch):
    """SQLite calls it an I/O error, and a look at the disk shows room: only trying tells. It recovers by itself (R27)."""
    allocate, quota = os.posix_fallocate, [100 * MIB]

    def limited(descriptor: int, offset: int, size: int) -> None:
        if size > quota[0]:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        allocate(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", limited)
    with (
        failing_disk(tmp_path) as disk,
        closing(Store(tmp_path, threaded=False, room=Room(tmp_path, None, MIB))) as store,
    ):
        disk.fail(AtLeast(1), EIO)
        quota[0] = MIB - 1
        with pytest.raises(StoreError, match="disk I/O error"):
            put(store, 20_000)
        assert store.room.full
        assert not (tmp_path / BALLAST_NAME).exists()
        disk.heal()  # what the ballast took is free
        put(store, 20_000)
        store.regain()
        assert store.room.full, "as long as the quota gives no more"
        quota[0] = MIB + room.SPARE
        store.regain()
        assert not store.room.full
        assert (tmp_path / BALLAST_NAME).stat().st_size == MIB
        assert {each.name for each in tmp_path.iterdir()} <= {BALLAST_NAME, "buffer.lock", DATABASE, *LOGS}


def test_a_failure_on_a_disk_with_room_does_not_cost_the_ballast(tmp_path: Path):
    """It would not help."""
    sound = Room(tmp_path, None, SMALL)
    sound.begin()
    assert not sound.give_up()
    assert (tmp_path / BALLAST_NAME).exists()


def test_the_database_stops_at_its_cap_and_goes_on_when_something_is_deleted(tmp_path: Path):
    """Before the disk is full; the log comes on top."""
    store = Store(tmp_path, threaded=False, room=Room(tmp_path, 2 * MIB))
    with pytest.raises(StoreError, match="full"):
        for _ in range(200):
            put(store, 20_000)
    assert "full" in store.failing
    store.write(lambda db: db.execute("DELETE FROM meta WHERE length(value) > 1000 AND random() > 0"))
    assert not store.failing
    assert (store.read(store.room.left) or 0) > MIB // 2
    put(store, 20_000)
    store.close()
    assert (tmp_path / DATABASE).stat().st_size <= 2 * MIB


def test_readings_stop_before_the_end_of_the_room_and_the_rest_does_not(tmp_path: Path):
    """Hours and messages have the last MiB for themselves."""
    store = Store(tmp_path, threaded=False, room=Room(tmp_path, 3 * MIB))
    while store.read(store.room.for_readings):
        put(store, 20_000)
    assert 0 < (store.read(store.room.left) or 0) < RESERVE
    put(store, 20_000)
    store.close()


def test_a_cap_below_what_is_there_takes_nothing_away(tmp_path: Path):
    """R31: a configuration change never deletes data."""
    store = Store(tmp_path, threaded=False)
    for _ in range(100):
        put(store, 20_000)
    store.close()
    store = Store(tmp_path, threaded=False, room=Room(tmp_path, MIB))
    assert store.read(lambda db: db.execute("SELECT count(*) FROM meta WHERE length(value) = 20000").fetchone()) == (
        100,
    )
    assert store.read(store.room.left) == 0
    with pytest.raises(StoreError, match="full"):
        put(store, 50_000)
    store.close()


def test_without_a_cap_there_is_no_end(tmp_path: Path):
    """Only the disk's."""
    store = Store(tmp_path, threaded=False)
    assert store.read(store.room.left) is None
    assert store.read(store.room.for_readings)
    store.close()
    with read_only(tmp_path / DATABASE) as db:
        assert Room(tmp_path, 10 * MIB).left(db) < 10 * MIB  # type: ignore[operator]
