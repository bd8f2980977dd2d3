"""The Store contract, threaded and inline: what a write returned from is durable, or the write has said otherwise."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from buffer import gathering
from buffer.lock import LockHeld
from buffer.store import DATABASE, Store, StoreError, Unreadable, read_only

MODES = pytest.mark.parametrize("threaded", [True, False], ids=["threaded", "inline"])


@pytest.fixture(params=[True, False], ids=["threaded", "inline"])
def store(request, tmp_path):
    opened = Store(tmp_path, threaded=request.param)
    yield opened
    opened.close()


@pytest.fixture
def threaded(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


def put(key: str, value: str = ""):
    return lambda db: db.execute("INSERT INTO meta VALUES (?, ?)", (key, value)).rowcount


def keys(store) -> list[str]:
    return [row[0] for row in store.read(lambda db: db.execute("SELECT key FROM meta ORDER BY key").fetchall())]


def raises(error: BaseException):
    """A write that changes something and then fails."""

    def work(db):
        put("half")(db)
        raise error

    return work


def disk_error(code: int) -> sqlite3.OperationalError:
    """What sqlite3 raises when the disk fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


# --- what holds for both ----------------------------------------------------------------------------------------------


def test_a_write_returns_its_result_and_is_there_for_every_other_connection(store, tmp_path):
    assert store.write(put("a")) == 1
    with read_only(tmp_path / DATABASE) as db:
        assert db.execute("SELECT key FROM meta").fetchall() == [("a",)]


def test_what_was_written_is_there_after_closing_and_opening_again(tmp_path, store):
    store.write(put("a"))
    store.close()
    again = Store(tmp_path, threaded=False)
    assert keys(again) == ["a"]
    again.close()


def test_the_writing_connection_syncs_every_commit_and_checks_what_it_reads(store):
    """Reliability 3.6; `synchronous` is per connection and easily lost."""
    wanted = {
        "synchronous": 2,
        "journal_mode": "wal",
        "journal_size_limit": 16 * 2**20,
        "wal_autocheckpoint": 1000,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "mmap_size": 0,
        "busy_timeout": 5000,
    }

    def look(db):
        return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted if name != "mmap_size"}

    del wanted["mmap_size"]  # no row where SQLite was built without it
    assert store.write(look) == wanted
    with pytest.raises(StoreError):
        store.write(raises(disk_error(sqlite3.SQLITE_IOERR)))
    assert store.write(look) == wanted  # on the connection that was opened again, too


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        KeyboardInterrupt(),
        SystemExit(3),
        sqlite3.IntegrityError("UNIQUE constraint failed"),
        disk_error(sqlite3.SQLITE_ERROR),
    ],
)
def test_what_the_work_raises_comes_back_as_it_is_and_undoes_only_its_own(store, error):
    store.write(put("before"))
    with pytest.raises(type(error)) as raised:
        store.write(raises(error))
    assert raised.value is error
    store.write(put("after"))
    assert keys(store) == ["after", "before"]


@pytest.mark.parametrize(
    ("statement", "values", "error"),
    [
        ("INSERT INTO nowhere VALUES (1)", (), sqlite3.OperationalError),
        ("INSERT INTO meta VALUES (?, ?)", ("a",), sqlite3.ProgrammingError),
        ("INSERT INTO meta VALUES (?, ?)", ("a", ""), sqlite3.IntegrityError),
        ("INSERT INTO request_budget VALUES ('', 1, ?)", (2**63,), OverflowError),
        ("INSERT INTO request_budget VALUES ('', 1, ?)", ("many",), sqlite3.IntegrityError),
    ],
)
def test_a_mistake_in_the_work_is_the_callers_and_not_the_disks(store, statement, values, error):
    store.write(put("a"))
    with pytest.raises(error):
        store.write(lambda db: db.execute(statement, values))
    assert keys(store) == ["a"]


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY]
)
def test_after_a_disk_error_nothing_of_the_write_is_kept_and_the_store_goes_on(store, code):
    """R26: the connection is dropped, the file is opened again."""
    store.write(put("before"))
    with pytest.raises(StoreError, match="not stored: disk I/O error"):
        store.write(raises(disk_error(code)))
    assert keys(store) == ["before"]
    store.write(put("after"))
    assert keys(store) == ["after", "before"]


@pytest.mark.parametrize(("code", "again"), [(sqlite3.SQLITE_FULL, False), (sqlite3.SQLITE_IOERR_FSYNC, True)])
def test_the_log_is_written_again_after_an_error_but_not_for_days_on_a_full_disk(store, tmp_path, code, again):
    """R26: a sync that failed has lost its pages; a write that found no space has lost nothing that was told."""
    store.write(put("before"))
    log = tmp_path / f"{DATABASE}-wal"
    with read_only(tmp_path / DATABASE) as reader:  # which keeps the log from being folded into the file
        reader.execute("SELECT count(*) FROM meta").fetchone()
        store.write(put("seen"))
        os.utime(log, ns=(0, 0))
        for _ in range(3):
            with pytest.raises(StoreError):
                store.write(raises(disk_error(code)))
        assert (log.stat().st_mtime_ns > 0) == again
    store.write(put("after"))
    assert keys(store) == ["after", "before", "seen"]


def test_a_write_that_changes_nothing_does_not_say_that_the_disk_works_again(store):
    """R27: it writes nothing, as a reading that comes a second time."""
    with pytest.raises(StoreError):
        store.write(raises(disk_error(sqlite3.SQLITE_IOERR)))
    assert "disk I/O error" in store.failing
    store.write(lambda db: db.execute("DELETE FROM meta WHERE key = 'nothing'"))
    assert store.failing
    store.write(put("a"))
    assert not store.failing


def test_a_database_that_cannot_be_opened_again_fails_each_write_until_it_can(store, tmp_path, caplog):
    """R27: without an operator, and with one line at each end of the trouble."""
    caplog.set_level("INFO", "buffer.store")
    store.write(put("before"))
    with pytest.raises(StoreError):
        store.write(raises(disk_error(sqlite3.SQLITE_IOERR)))
    (tmp_path / DATABASE).rename(tmp_path / "away")
    (tmp_path / DATABASE).mkdir()
    for _ in range(3):
        with pytest.raises(StoreError, match="not stored: cannot open"):
            store.write(put("lost"))
    with pytest.raises(StoreError, match="not read"):
        keys(store)
    (tmp_path / DATABASE).rmdir()
    (tmp_path / "away").rename(tmp_path / DATABASE)
    store.write(put("after"))
    assert keys(store) == ["after", "before"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_itself(store):
    def outer(db):
        put("outer")(db)
        with pytest.raises(RuntimeError, match="write inside a write"):
            store.write(put("inner"))
        return store.read(lambda db: db.execute("SELECT count(*) FROM meta").fetchone()[0])

    assert store.write(outer) == 0  # a read inside a write sees what was committed before
    assert keys(store) == ["outer"]


def test_after_closing_a_write_fails_at_once_and_closing_again_does_nothing(store, tmp_path):
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write(put("late"))
    Store(tmp_path, threaded=False).close()  # the lock is free


def test_after_closing_a_failed_store_the_lock_is_free(store, tmp_path):
    with pytest.raises(StoreError):
        store.write(raises(disk_error(sqlite3.SQLITE_IOERR)))
    store.close()
    Store(tmp_path, threaded=False).close()


def test_a_read_cannot_write(store):
    with pytest.raises(StoreError, match="readonly"):
        store.read(put("a"))


def test_what_a_read_itself_raises_comes_back_as_it_is(store):
    with pytest.raises(ZeroDivisionError):
        store.read(lambda db: 1 // 0)


def test_a_read_after_a_read_that_broke_off_shows_what_was_written_since(store):
    """Also where the one that broke off has left rows unread: nobody goes on in its snapshot."""
    kept = []

    def breaks_off(db):
        kept.append(db.execute("SELECT key FROM meta"))
        next(kept[0])
        raise ZeroDivisionError

    store.write(put("a"))
    store.write(put("b"))
    with pytest.raises(ZeroDivisionError):
        store.read(breaks_off)
    store.write(put("c"))
    assert keys(store) == ["a", "b", "c"]


def test_the_log_is_folded_in_at_the_close_whoever_has_read_before(store, tmp_path):
    store.write(put("a"))
    assert keys(store) == ["a"]
    store.close()
    assert not (tmp_path / f"{DATABASE}-wal").exists()


def test_a_failed_write_leaves_no_reader_in_the_way_of_the_log(store, tmp_path):
    """Folded in where it can be: it gives its room back on a full disk."""
    store.write(put("a"))
    assert keys(store) == ["a"]
    with pytest.raises(StoreError):
        store.write(raises(disk_error(sqlite3.SQLITE_FULL)))
    assert not (tmp_path / f"{DATABASE}-wal").exists()
    assert keys(store) == ["a"]


def test_one_thread_alone_reads_by_one_connection(tmp_path):
    """Opening one costs more than most looks."""
    opened = Store(tmp_path, threaded=False)
    assert opened.read(lambda db: db) is opened.read(lambda db: db)
    opened.close()


def test_nobody_else_opens_the_same_database(store, tmp_path):
    """R20."""
    with pytest.raises(LockHeld, match=f"process {os.getpid()}"):
        Store(tmp_path)
    store.write(put("a"))


@MODES
def test_odd_characters_in_the_path_are_just_characters(tmp_path, threaded):
    directory = tmp_path / "a?b#c%20 ä'd"
    directory.mkdir()
    opened = Store(directory, threaded=threaded)
    opened.write(put("a"))
    assert keys(opened) == ["a"]
    opened.close()


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_missing_directory_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "nowhere")


def test_a_file_that_is_no_database_is_refused_untouched_and_the_lock_is_free(tmp_path):
    path = tmp_path / DATABASE
    path.write_bytes(b"not a database, but somebody's file" * 100)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"cannot open {path}: file is not a database"):
            Store(tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(Unreadable), read_only(path) as db:
        db.execute("SELECT 1 FROM meta")


def test_a_power_cut_at_the_birth_of_the_database_does_not_keep_the_next_start_from_making_it(tmp_path):
    """R25: SQLite writes the first page under a rollback journal; nobody who may only read can undo what that left."""
    (tmp_path / "before").mkdir()
    with closing(sqlite3.connect(tmp_path / "before" / DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 1")  # pages go to the file before their transaction ends
        db.execute("BEGIN")
        db.execute("CREATE TABLE half (written BLOB)")
        db.execute("INSERT INTO half VALUES (zeroblob(100000))")
        shutil.copytree(tmp_path / "before", tmp_path / "after")
    assert sorted(path.name for path in (tmp_path / "after").iterdir()) == [DATABASE, f"{DATABASE}-journal"]
    opened = Store(tmp_path / "after")
    opened.write(put("a"))
    assert keys(opened) == ["a"]
    opened.close()


def test_looking_at_a_file_that_is_not_there_creates_none(tmp_path):
    with pytest.raises(Unreadable, match="unable to open"), read_only(tmp_path / DATABASE):
        pass
    assert list(tmp_path.iterdir()) == []


# --- the group commit -------------------------------------------------------------------------------------------------


def commits(store) -> list[str]:
    """Every COMMIT of the writing connection from now on."""
    seen: list[str] = []
    store._db.set_trace_callback(lambda statement: seen.append(statement) if statement == "COMMIT" else None)
    return seen


class Busy:
    """Keeps the writer busy with a first write until `go`, so that what follows gathers."""

    def __init__(self, store):
        self._store = store
        self._go = threading.Event()
        self._outcomes: dict[str, object] = {}
        started = threading.Event()
        self._threads: list[threading.Thread] = []
        self.add("first", lambda db: (started.set(), self._go.wait(30), put("first")(db))[2])
        assert started.wait(30)

    def add(self, name, work):
        def run():
            try:
                self._outcomes[name] = self._store.write(work)
            except Exception as error:
                self._outcomes[name] = error

        queued = len(self._store._gathering) + bool(self._threads)
        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()
        while name != "first" and len(self._store._gathering) < queued:
            threading.Event().wait(0.001)

    def go(self):
        self._go.set()
        for thread in self._threads:
            thread.join(30)
        return self._outcomes


def test_ten_threads_share_commits_and_lose_nothing(threaded):
    seen = commits(threaded)

    def write(thread):
        for number in range(200):
            assert threaded.write(put(f"{thread}/{number:03}")) == 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert keys(threaded) == sorted(f"{thread}/{number:03}" for thread in range(10) for number in range(200))
    assert 200 <= len(seen) < 2000


def test_one_failing_write_of_a_group_does_not_harm_the_others(threaded):
    seen = commits(threaded)
    busy = Busy(threaded)
    mine = ValueError("mine")
    for name, work in [("a", put("a")), ("twice", put("a")), ("bad", raises(mine)), ("z", put("z"))]:
        busy.add(name, work)
    outcomes = busy.go()
    assert (outcomes["a"], outcomes["z"], outcomes["bad"]) == (1, 1, mine)
    assert isinstance(outcomes["twice"], sqlite3.IntegrityError)
    assert keys(threaded) == ["a", "first", "z"]
    assert len(seen) == 2


def test_a_disk_error_fails_the_whole_group_and_only_this_one(threaded):
    """R26: nobody is told that something is durable when it is not."""
    busy = Busy(threaded)
    for name, work in [("a", put("a")), ("bad", raises(disk_error(sqlite3.SQLITE_FULL))), ("z", put("z"))]:
        busy.add(name, work)
    outcomes = busy.go()
    assert outcomes.pop("first") == 1
    assert [type(each) for each in outcomes.values()] == [StoreError] * 3
    assert keys(threaded) == ["first"]
    assert threaded.write(put("next")) == 1


def test_a_group_is_bounded(threaded, monkeypatch):
    monkeypatch.setattr(gathering, "GROUP_MOST", 2)
    seen = commits(threaded)
    busy = Busy(threaded)
    for number in range(5):
        busy.add(str(number), put(str(number)))
    busy.go()
    assert len(seen) == 1 + 3


def test_closing_finishes_what_is_queued(threaded, tmp_path):
    busy = Busy(threaded)
    for number in range(5):
        busy.add(str(number), put(str(number)))
    closing = threading.Thread(target=threaded.close)
    closing.start()
    assert set(busy.go().values()) == {1}
    closing.join(30)
    assert not closing.is_alive()
    assert not (tmp_path / f"{DATABASE}-wal").exists()
    with read_only(tmp_path / DATABASE) as db:
        assert db.execute("SELECT count(*) FROM meta").fetchone() == (6,)


# --- real trouble, in a process of its own ----------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from buffer.store import Store, StoreError
directory, threaded = Path(sys.argv[1]), sys.argv[2] == "threaded"
store = Store(directory, threaded=threaded, facts={"command": "test"})
def put(number):
    store.write(lambda db: db.execute("INSERT INTO meta VALUES (?, ?)", (f"{number:05}", "x" * 2000)))
"""
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
used = max(path.stat().st_size for path in directory.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (used + 300_000, resource.RLIM_INFINITY))
stored, failed = [], 0
for number in range(600):
    try:
        put(number)
    except StoreError as error:
        failed += 1
    else:
        stored.append(f"{number:05}")
assert failed > 50, failed
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(99_999)
kept = store.read(lambda db: [row[0] for row in db.execute("SELECT key FROM meta ORDER BY key")])
assert set(stored) | {"99999"} <= set(kept), "an acknowledged write is gone"
assert store.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
store.close()
print(len(stored), failed)
"""
FOREVER = """
for number in range(100_000):
    put(number)
    print(number, flush=True)
"""


def script(body: str, directory: Path, mode: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT + body, str(directory), mode]


@pytest.mark.parametrize("mode", ["threaded", "inline"])
def test_a_full_disk_fails_writes_loses_nothing_and_is_over_by_itself(tmp_path, mode):
    """R26, R27: a real limit on the file's size; what write() acknowledged is there, the rest was refused."""
    done = subprocess.run(script(FULL, tmp_path, mode), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "a write failed" in done.stderr


def test_after_sigkill_every_acknowledged_write_is_there(tmp_path):
    """R25, for a process; for the power cut see the order of sync and acknowledgement below."""
    last = -1
    for count in [3, 40, 1]:
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        (tmp_path / "data").mkdir()
        with subprocess.Popen(
            script(FOREVER, tmp_path / "data", "threaded"), stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(count):
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
        opened = Store(tmp_path / "data", threaded=False)
        assert keys(opened)[: last + 1] == [f"{number:05}" for number in range(last + 1)]
        assert opened.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
        opened.close()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("mode", ["threaded", "inline"])
def test_no_write_returns_before_its_pages_are_synced(tmp_path, mode):
    """R3, R12, literally: between the last write to the WAL and the acknowledgement there is an fdatasync of it."""
    log = tmp_path / "strace"
    data = tmp_path / "data"
    data.mkdir()
    trace = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=pwrite64,fdatasync,fsync,write"]
    body = "import os\nfor number in range(20):\n    put(number)\n    os.write(1, b'ACK')\nstore.close()\n"
    done = subprocess.run([*trace, *script(body, data, mode)], capture_output=True, text=True, check=False, timeout=100)
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    dirty, acknowledged = False, 0
    for line in log.read_text().splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            dirty = True
        elif re.search(r"fdatasync\(\d+<[^>]*-wal>.*= 0|fdatasync resumed.*= 0", line):
            dirty = False
        elif "write(1<" in line and "ACK" in line:
            acknowledged += 1
            assert not dirty, f"acknowledgement {acknowledged} came before the sync"
    assert acknowledged == 20
