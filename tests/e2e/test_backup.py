"""`backup`, `restore` and `buffer check` as a person runs them: beside the service, against a full disk, with nonsense."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from buffer.store import DATABASE, Store
from tests.fakes.command_line import DEFAULT_SIGNALS, command, command_bound_by_permissions, environment, on_terminal
from tests.fakes.damage import damage, leaves_of

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "databases" / "m006.db.gz"


@pytest.fixture
def data(tmp_path) -> Path:
    """A data directory with a database in it (scripts/old-databases), and a configuration that names it."""
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / DATABASE).write_bytes(gzip.decompress(STORED.read_bytes()))
    (tmp_path / "config.toml").write_text(f'[gateway]\nname = "x"\ndata_dir = "{directory}"\n')
    return directory


def gateway(data: Path, *words: str | Path, run: Callable = command):
    return run("-c", data.parent / "config.toml", *words)


def hours(path: Path) -> list[tuple]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT meter, hour, consumption, boundary FROM hour ORDER BY 1, 2").fetchall()


def do(path: Path, statement: str, *values) -> list[tuple]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement, values).fetchall()


# --- backup -----------------------------------------------------------------------------------------------------------


def test_a_backup_beside_the_running_service_has_what_was_committed(data, tmp_path):
    """Also what is in the write-ahead log only, which a copy of the file would not have."""
    service = Store(data)
    service.write(lambda db: db.execute("INSERT INTO meta VALUES ('newest', 'commit')"))
    assert (data / f"{DATABASE}-wal").stat().st_size > 0
    done = gateway(data, "backup", tmp_path / "copy.db")
    assert (done.code, done.err) == (0, "")
    assert f"meter-gateway restore {tmp_path / 'copy.db'}" in done.out
    service.write(lambda db: db.execute("INSERT INTO meta VALUES ('later', '')"))
    service.close()
    assert do(tmp_path / "copy.db", "SELECT value FROM meta WHERE key = 'newest'") == [("commit",)]
    assert hours(tmp_path / "copy.db") == hours(data / DATABASE)
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.toml", "copy.db", "data"]


def test_into_a_directory_the_name_says_when(data, tmp_path):
    (tmp_path / "stick").mkdir()
    done = gateway(data, "backup", tmp_path / "stick", "--json")
    (copy,) = (tmp_path / "stick").iterdir()
    assert json.loads(done.out) == {"file": str(copy), "bytes": copy.stat().st_size}
    assert copy.name.startswith("meter-gateway-2")


def test_a_file_that_is_there_is_overwritten_only_with_force(data, tmp_path):
    target = tmp_path / "precious.db"
    target.write_text("mine")
    done = gateway(data, "backup", target)
    assert (done.code, done.out) == (1, "")
    assert f"{target} is there already: take another name, or --force" in done.err
    assert target.read_text() == "mine"
    assert gateway(data, "backup", target, "--force").code == 0
    assert hours(target) == hours(data / DATABASE)


def test_a_place_that_cannot_be_written_is_an_io_failure_and_nothing_is_left(data, tmp_path):
    done = gateway(data, "backup", tmp_path / "nowhere" / "copy.db")
    assert done.code == 74
    assert "no backup was made: unable to open database" in done.err


def test_a_disk_that_is_full_leaves_the_old_backup_and_nothing_else(data, tmp_path):
    """A real limit on the size of files: the old one is replaced only by a whole one."""
    target = tmp_path / "copy.db"
    target.write_text("the old one")
    script = f"ulimit -f 40; trap '' XFSZ; exec {sys.executable} -m gateway -c {tmp_path}/config.toml backup --force {target}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60, env=environment()
    )
    assert (done.returncode, done.stdout) == (74, "")
    assert "no backup was made" in done.stderr
    assert target.read_text() == "the old one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.toml", "copy.db", "data"]


INTERRUPTED_AT = 1_000_000  # bytes of the copy
INTERRUPTED = f"""
import os, pathlib, runpy, signal, sys
from gateway.commands import backup
part, back_up = pathlib.Path(sys.argv.pop(1)), backup.back_up
def interrupted(*args, stop, **keys):
    def look():
        if part.exists() and part.stat().st_size > {INTERRUPTED_AT}:
            os.kill(os.getpid(), signal.SIGINT)
        return stop()
    return back_up(*args, stop=look, **keys)
backup.back_up = interrupted
runpy.run_module("gateway", run_name="__main__", alter_sys=True)
"""


def test_ctrl_c_leaves_nothing_half_written(data, tmp_path):
    """In the middle of the copy: from outside that moment could be missed, since a copy takes a tenth of a second."""
    with closing(sqlite3.connect(data / DATABASE)) as db:
        db.execute("PRAGMA synchronous = OFF")
        many = ((n, 1, n, n) for n in range(300_000))
        db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?)", many)
        db.commit()
    assert (data / DATABASE).stat().st_size > 4 * INTERRUPTED_AT
    part = tmp_path / ".copy.db.part"
    words = ["-c", INTERRUPTED, str(part), "-c", str(tmp_path / "config.toml"), "backup", str(tmp_path / "copy.db")]
    done = subprocess.run(
        [*DEFAULT_SIGNALS, sys.executable, *words],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.toml", "data"]


def test_what_an_earlier_try_left_behind_is_in_nobodys_way(data, tmp_path):
    (tmp_path / ".copy.db.part").write_text("cut off")
    assert gateway(data, "backup", tmp_path / "copy.db").code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.toml", "copy.db", "data"]


def test_before_the_first_run_there_is_nothing_to_copy(data, tmp_path):
    (data / DATABASE).unlink()
    done = gateway(data, "backup", tmp_path / "copy.db")
    assert done.code == 69
    assert "no gateway has run" in done.err


def test_a_damaged_database_gives_no_backup_but_a_way_out(data, tmp_path):
    damage(data / DATABASE, [leaves_of(data / DATABASE, "hour")[0]], Random(1))
    done = gateway(data, "backup", tmp_path / "copy.db")
    assert done.code == 74
    assert "restart the service, it salvages what can be read; then try again" in done.err
    assert not (tmp_path / "copy.db").exists()


# --- restore ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def backup(data, tmp_path) -> Path:
    assert gateway(data, "backup", tmp_path / "copy.db").code == 0
    do(data / DATABASE, "DELETE FROM hour WHERE meter = 1")
    return tmp_path / "copy.db"


def test_a_restored_backup_is_the_database_and_the_one_before_is_kept(data, backup):
    """R19: nothing of it is sent before EnerKey was read; nothing is deleted."""
    before = hours(data / DATABASE)
    kept = backup.read_bytes()
    done = gateway(data, "restore", backup, run=on_terminal)
    assert done.code == 0
    assert "Next: sudo systemctl start meter-gateway" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines() if str(data.parent) not in line), done.out
    assert backup.read_bytes() == kept
    assert len(hours(data / DATABASE)) == 144
    assert do(data / DATABASE, "SELECT look_after FROM meter") == [(0,), (0,), (0,)]
    assert do(data / DATABASE, "SELECT value FROM meta WHERE key = 'running'") == [("restored",)]
    (aside,) = data.glob("replaced-*")
    assert hours(aside / DATABASE) == before
    assert str(aside) in done.out.replace("\n  ", "").replace("\n", "")


def test_restoring_twice_keeps_both(data, backup):
    assert gateway(data, "restore", backup).code == 0
    done = gateway(data, "restore", backup, "--json")
    assert len(list(data.glob("replaced-*"))) == 2
    assert json.loads(done.out)["replaced"] in {str(each) for each in data.glob("replaced-*")}


def test_a_backup_goes_into_an_empty_directory(data, backup):
    (data / DATABASE).unlink()
    done = gateway(data, "restore", backup, "--json")
    assert json.loads(done.out) == {"restored": str(backup), "replaced": None}
    assert len(hours(data / DATABASE)) == 144


def test_nothing_is_restored_under_a_running_gateway(data, backup):
    """R20."""
    service = Store(data, facts={"command": "run"})
    done = gateway(data, "restore", backup)
    assert done.code == 73
    assert f"is in use by process {os.getpid()} (run)" in done.err
    assert "sudo systemctl stop meter-gateway" in done.err
    service.close()
    assert not list(data.glob("replaced-*"))


def nonsense(path: Path) -> None:
    path.write_text("a letter " * 1000)


def somebody_elses(path: Path) -> None:
    path.unlink()
    do(path, "CREATE TABLE photo (id INTEGER)")


def broken(path: Path) -> None:
    damage(path, [leaves_of(path, "hour")[0]], Random(1))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def newer(path: Path) -> None:
    do(path, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('meter-gateway', 'm999_x', '')")


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (Path.unlink, 1, "there is no such file"),
        (nonsense, 1, "damaged (file is not a database); nothing was changed"),
        (somebody_elses, 1, "not a database of a gateway"),
        (broken, 1, "damaged ("),
        (cut_short, 1, "damaged ("),
        (newer, 78, "install that release again, nothing was changed"),
    ],
)
def test_what_is_no_whole_backup_is_refused_and_nothing_is_touched(data, backup, prepare, code, words):
    """R30."""
    prepare(backup)
    before = (data / DATABASE).read_bytes()
    done = gateway(data, "restore", backup)
    assert done.code == code
    assert words in done.err
    assert (data / DATABASE).read_bytes() == before
    assert sorted(each.name for each in data.iterdir() if not each.name.endswith(".lock")) == [DATABASE]


def test_a_file_that_is_not_there_makes_no_directory_either(data, tmp_path):
    """Root who mistypes the name leaves nothing behind that the service would have to be given."""
    shutil.rmtree(data)
    done = gateway(data, "restore", tmp_path / "no.db")
    assert (done.code, data.exists()) == (1, False)


def test_a_backup_of_an_older_release_is_restored_at_todays_level(data, tmp_path):
    old = tmp_path / "old.db"
    old.write_bytes(gzip.decompress(STORED.with_name("m001.db.gz").read_bytes()))
    assert gateway(data, "restore", old).code == 0
    assert do(data / DATABASE, "SELECT count(look_after), min(look_after) FROM meter") == [(3, 0)]


def test_who_may_not_write_there_is_told_so(data, backup):
    data.chmod(0o500)
    done = gateway(data, "restore", backup, run=command_bound_by_permissions)
    data.chmod(0o700)
    assert done.code == 77
    assert "sudo" in done.err


# --- buffer check -----------------------------------------------------------------------------------------------------


def test_a_database_that_is_right_is_ok_beside_the_service_and_without_it(data):
    service = Store(data)
    beside = gateway(data, "buffer", "check", "--json")
    service.close()
    alone = gateway(data, "buffer", "check", "--json")
    assert (beside.code, alone.code) == (0, 0)
    assert json.loads(beside.out) == json.loads(alone.out)
    document = json.loads(alone.out)
    assert (document["ok"], document["findings"], document["tables"]["hour"]) == (True, [], 144)
    assert document["newest_reading"]["main"]["at"] == "2026-03-02T12:04:00+00:00"


def test_what_is_wrong_is_said_with_meter_hour_and_next_step(data):
    do(data / DATABASE, "UPDATE hour SET consumption = consumption + 1 WHERE meter = 1 AND hour = 492343")
    done = gateway(data, "buffer", "check", run=on_terminal)
    assert done.code == 1
    assert "1. main 2026-03-02T07:00Z: its hours do not add up" in done.out
    assert "meter-gateway hours main" in done.out.replace("\n   ", " ")
    assert all(len(line) <= 80 for line in done.out.splitlines())


def test_a_damaged_file_is_a_finding(data):
    damage(data / DATABASE, [leaves_of(data / DATABASE, "hour")[0]], Random(1))
    done = gateway(data, "buffer", "check", "--json")
    assert done.code == 1
    assert "the service: it salvages what can be read" in json.loads(done.out)["findings"][0]["todo"]


def test_checking_changes_nothing(data):
    before = {each.name: each.read_bytes() for each in data.iterdir()}
    gateway(data, "buffer", "check")
    assert {each.name: each.read_bytes() for each in data.iterdir()} == before


@pytest.mark.parametrize(
    "words",
    [["buffer"], ["buffer", "mend"], ["backup"], ["restore"], ["restore", "a", "b"], ["buffer", "check", "--all"]],
)
def test_nonsense_is_wrong_usage(data, words):
    done = gateway(data, *words)
    assert (done.code, done.out) == (2, "")
