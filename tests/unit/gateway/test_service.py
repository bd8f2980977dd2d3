"""Workers in threads, watched."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread

import pytest

from drivers.base import Now
from gateway import service as service_module
from gateway.clock import SystemClock
from gateway.service import Service
from gateway.systemd import Notifier


class Worker:
    """Does what it is told at each step; remembers in which thread."""

    def __init__(self, name: str = "worker", act=lambda: None, again: float | None = 0.005) -> None:
        self.name, self.wake, self.act, self.again = name, Event(), act, again
        self.steps, self.stepped = 0, Event()
        self.closed_by = ""

    def step(self, now: Now) -> float | None:
        self.steps += 1
        self.stepped.set()
        self.act()
        return None if self.again is None else now.boottime + self.again

    def close(self) -> None:
        self.closed_by = current_thread().name


def silent() -> Notifier:
    return Notifier({})


def running(*workers: Worker, limit: float = 10.0, longest_wait: float = 10.0) -> Service:
    service = Service(SystemClock(), silent(), longest_wait)
    for worker in workers:
        service.add(worker, limit=limit, close=worker.close)
    service.start()
    return service


def eventually(reached: Callable[[], bool]) -> bool:
    """Whether it comes true within 5 s."""
    return any(reached() or Event().wait(0.01) for _ in range(500))


def test_each_worker_steps_when_it_wants_and_closes_in_its_own_thread():
    fast, slow = Worker("fast"), Worker("slow", again=1000.0)
    service = running(fast, slow)
    assert slow.stepped.wait(5)
    while fast.steps < 5:
        assert fast.stepped.wait(5)
        fast.stepped.clear()
    assert service.stop()
    assert slow.steps == 1
    assert (fast.closed_by, slow.closed_by) == ("fast", "slow")
    assert not service.failed


def test_a_worker_that_is_woken_steps_at_once():
    worker = Worker(again=1000.0)
    service = running(worker)
    assert worker.stepped.wait(5)
    worker.stepped.clear()
    worker.wake.set()
    assert worker.stepped.wait(5)
    assert service.stop()


def test_every_worker_ticks_however_long_it_wants_to_wait():
    worker = Worker(again=float("inf"))
    service = running(worker, longest_wait=0.01)
    for _ in range(3):
        assert worker.stepped.wait(5)
        worker.stepped.clear()
    assert service.stop()


def test_a_worker_that_dies_takes_the_service_down(caplog):
    def die() -> None:
        raise RuntimeError("a bug")

    other = Worker("other", again=1000.0)
    service = running(Worker("mortal", die), other)
    service.supervise()
    assert service.stop()
    assert service.failed
    assert other.closed_by == "other"
    assert "worker mortal died" in caplog.text
    assert "RuntimeError: a bug" in caplog.text


def test_stopping_is_bounded_and_leaves_who_is_still_at_work():
    never = Event()
    hanging = Worker("hanging", never.wait)
    service = running(hanging, Worker("good"))
    assert hanging.stepped.wait(5)
    assert service.stop(within=0.1) is False
    never.set()
    assert service._all_ended.wait(5)


def test_a_service_without_workers_stops_at_once():
    assert running().stop()


def test_the_watchdog_is_fed_only_while_every_worker_ticks(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(service_module, "LOOK_EVERY", 0.02)
    never = Event()
    worker = Worker("stuck", again=0.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        service = Service(SystemClock(), Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}), 0.01)
        service.add(worker, limit=0.3)
        service.start()
        assert manager.recv(100) == b"READY=1"
        supervisor = Thread(target=service.supervise)
        supervisor.start()
        assert manager.recv(100) == b"WATCHDOG=1"
        worker.act = never.wait
        manager.settimeout(0.6)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                manager.recv(100)
        assert service.late() == ["stuck"]
        worker.act = lambda: None
        never.set()
        manager.settimeout(5)
        assert manager.recv(100) == b"WATCHDOG=1"
        service.stopping.set()
        supervisor.join(5)
        assert service.stop()
        manager.settimeout(5)
        while manager.recv(100) != b"STOPPING=1":
            pass
    assert [record.getMessage() for record in caplog.records] == [
        "no tick from stuck: the watchdog is not fed",
        "every worker ticks again",
    ]


def test_the_status_tells_how_long_ago_each_worker_ticked():
    worker = Worker(again=1000.0)
    service = running(worker)
    assert worker.stepped.wait(5)
    assert 0 <= service.ticks()["worker"] < 5
    assert service.stop()


def test_a_worker_that_only_others_can_wake_is_left_alone_until_then():
    """It costs nothing, and nobody misses its ticks; once woken it is watched like the others."""
    never = Event()
    asleep, other = Worker("asleep", again=None), Worker("other", again=0.0)
    service = running(asleep, other, limit=0.2, longest_wait=0.01)
    assert eventually(lambda: service.ticks()["asleep"] is None)
    assert not service.stopping.wait(0.3)
    assert asleep.steps == 1
    assert service.late() == []
    asleep.act = never.wait
    asleep.stepped.clear()
    asleep.wake.set()
    assert asleep.stepped.wait(5)
    assert eventually(lambda: service.late() == ["asleep"])
    asleep.act, asleep.again = lambda: None, 0.005
    never.set()
    assert eventually(lambda: not service.late())
    assert service.stop()
