"""After an unclean stop the file is looked through: pushes wait for that, collecting does not; damage ends the process."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from buffer import recovery
from buffer.store import DATABASE, Store, StoreError
from gateway.checker import Checker, Damaged
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START, FakeClock
from tests.fakes.damage import damage, leaves_of
from tests.fakes.small_gateway import SmallGateway, ramp

UNTIL = START + timedelta(hours=3)


def cut_off(directory: Path, clock: FakeClock) -> None:
    """A directory as a gateway leaves it whose machine lost its power: with its log not folded in."""
    live = directory.parent / "live"
    live.mkdir()
    simulator = EnerkeySimulator(now=lambda: clock.wall, keys=["one", "two"])
    gateway = SmallGateway(live, clock, simulator)
    gateway.deliver(*ramp("a", START, UNTIL, timedelta(minutes=10)))
    shutil.copytree(live, directory)
    gateway.close()
    simulator.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def directory(tmp_path, clock) -> Path:
    cut_off(tmp_path / "data", clock)
    return tmp_path / "data"


def test_pushes_wait_for_the_check_and_collecting_and_closing_do_not(directory, clock):
    """A gateway reads its meters within seconds of its start, however large the file is."""
    simulator = EnerkeySimulator(now=lambda: clock.wall, keys=["one", "two"])
    gateway = SmallGateway(directory, clock, simulator, threaded_store=True)
    woken = []
    checker = Checker(gateway.store, lambda: woken.append(1))
    gateway.run(4 * 3600)
    assert len(gateway.hours()) == 2
    assert simulator.requests() == 0
    checker.step(clock.now())
    assert woken == [1]
    gateway.run(3600)
    assert len(simulator.hourly(100)) == 2
    checker.step(clock.now())
    assert woken == [1]
    gateway.close()
    simulator.close()


def test_damage_that_the_check_finds_ends_the_process_before_anything_was_pushed(directory, clock):
    """R29: the next start salvages."""
    path = directory / DATABASE
    Store(directory, threaded=False).close()
    damage(path, [leaves_of(path, "meter")[0]], Random(1))
    (directory / f"{DATABASE}-wal").write_bytes(bytes(32))
    store = Store(directory, heal=recovery.opened)
    with pytest.raises(Damaged):
        Checker(store, lambda: None).step(clock.now())
    store.close()
    Store(directory, threaded=False, heal=recovery.opened).close()
    assert len(recovery.reports(directory)) == 1


def test_damage_that_a_write_met_ends_the_process_soon(directory, clock):
    path = directory / DATABASE
    Store(directory, threaded=False).close()
    store = Store(directory, threaded=False, heal=recovery.opened)
    checker = Checker(store, lambda: None)
    assert checker.step(clock.now()) <= clock.boottime + 10
    damage(path, [leaves_of(path, "meter")[0]], Random(1))
    assert store.checked
    with pytest.raises(StoreError, match="malformed"):
        store.read(lambda db: db.execute("SELECT max(unit) FROM meter").fetchall())
    assert not store.checked, "nothing is sent any more"
    with pytest.raises(Damaged):
        checker.step(clock.now())
    store.close()


def test_a_file_that_cannot_be_read_just_now_is_checked_again(directory, clock, caplog):
    """R27: no verdict is no verdict, and pushes go on waiting."""
    store = Store(directory)
    path = directory / DATABASE
    path.rename(directory / "away")
    checker = Checker(store, lambda: None)
    checker.step(clock.now())
    assert (store.checked, store.damaged) == (False, False)
    assert "could not be checked" in caplog.text
    (directory / "away").rename(path)
    checker.step(clock.now())
    assert store.checked
    store.close()
