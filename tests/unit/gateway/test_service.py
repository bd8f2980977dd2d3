"""Workers in threads, watched."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, current_thread

from drivers.base import Now
from gateway import service as service_module
from gateway.clock import SystemClock
from gateway.service import Service
from gateway.systemd import Notifier

PATIENCE = 60.0  # s, on a machine that does other things too; every wait ends by itself long before
LIMIT = 1000.0  # s within which nobody misses a tick, however busy the machine is, unless the clock leaps
LEAP = 2 * LIMIT
LOOK_EVERY = 0.02  # s between two looks of the supervisor


class LeapingClock(SystemClock):
    """Real time, with leaps."""

    ahead = 0.0  # s

    def now(self) -> Now:
        now = super().now()
        return now._replace(boottime=now.boottime + self.ahead)

    def wait(self, wake: Event, until: float | None) -> bool:
        return super().wait(wake, None if until is None else until - self.ahead)


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

    def hang(self, until: Event) -> None:
        """Be in the middle of a step until then."""
        hangs = Event()
        self.act = lambda: (hangs.set(), until.wait())
        self.wake.set()
        assert hangs.wait(PATIENCE)

    def close(self) -> None:
        self.closed_by = current_thread().name


def silent() -> Notifier:
    return Notifier({})


def running(*workers: Worker, longest_wait: float = 10.0, clock: SystemClock | None = None) -> Service:
    service = Service(clock or SystemClock(), silent(), longest_wait)
    for worker in workers:
        service.add(worker, limit=LIMIT, close=worker.close)
    service.start()
    return service


def eventually(reached: Callable[[], bool]) -> bool:
    """Whether it comes true at last."""
    return any(reached() or Event().wait(0.01) for _ in range(int(100 * PATIENCE)))


def read(manager: socket.socket) -> list[bytes]:
    """What the service has sent and nobody has read."""
    found = []
    manager.settimeout(0.0)
    with suppress(BlockingIOError):
        while True:
            found.append(manager.recv(100))
    manager.settimeout(PATIENCE)
    return found


def test_each_worker_steps_when_it_wants_and_closes_in_its_own_thread():
    fast, slow = Worker("fast"), Worker("slow", again=1000.0)
    service = running(fast, slow, longest_wait=1000.0)
    assert slow.stepped.wait(PATIENCE)
    while fast.steps < 5:
        assert fast.stepped.wait(PATIENCE)
        fast.stepped.clear()
    assert service.stop(PATIENCE)
    assert slow.steps == 1
    assert (fast.closed_by, slow.closed_by) == ("fast", "slow")
    assert not service.failed


def test_a_worker_that_is_woken_steps_at_once():
    worker = Worker(again=1000.0)
    service = running(worker)
    assert worker.stepped.wait(PATIENCE)
    worker.stepped.clear()
    worker.wake.set()
    assert worker.stepped.wait(PATIENCE)
    assert service.stop(PATIENCE)


def test_every_worker_ticks_however_long_it_wants_to_wait():
    worker = Worker(again=float("inf"))
    service = running(worker, longest_wait=0.01)
    for _ in range(3):
        assert worker.stepped.wait(PATIENCE)
        worker.stepped.clear()
    assert service.stop(PATIENCE)


def test_a_worker_that_dies_takes_the_service_down(caplog):
    def die() -> None:
        raise RuntimeError("a bug")

    other = Worker("other", again=1000.0)
    service = running(Worker("mortal", die), other)
    service.supervise()
    assert service.stop(PATIENCE)
    assert service.failed
    assert other.closed_by == "other"
    assert "worker mortal died" in caplog.text
    assert "RuntimeError: a bug" in caplog.text


def test_stopping_is_bounded_and_leaves_who_is_still_at_work():
    never = Event()
    hanging = Worker("hanging", never.wait)
    service = running(hanging, Worker("good"))
    assert hanging.stepped.wait(PATIENCE)
    assert service.stop(within=0.1) is False
    never.set()
    assert service._all_ended.wait(PATIENCE)


def test_a_service_without_workers_stops_at_once():
    assert running().stop(PATIENCE)


def test_the_watchdog_is_fed_only_while_every_worker_ticks(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(service_module, "LOOK_EVERY", LOOK_EVERY)
    never = Event()
    worker = Worker("stuck", again=0.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        clock = LeapingClock()
        service = Service(clock, Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}), 0.01)
        service.add(worker, limit=LIMIT)
        service.start()
        assert manager.recv(100) == b"READY=1"
        supervisor = Thread(target=service.supervise)
        supervisor.start()
        assert manager.recv(100) == b"WATCHDOG=1"
        worker.hang(until=never)
        clock.ahead += LEAP
        assert eventually(lambda: caplog.records)  # the supervisor has seen it
        assert set(read(manager)) <= {b"WATCHDOG=1"}
        Event().wait(10 * LOOK_EVERY)
        assert read(manager) == []
        assert service.late() == ["stuck"]
        worker.act = lambda: None
        never.set()
        assert manager.recv(100) == b"WATCHDOG=1"
        service.stopping.set()
        supervisor.join(PATIENCE)
        read(manager)  # a full queue would not take what comes now
        assert service.stop(PATIENCE)
        assert read(manager) == [b"STOPPING=1"]
    assert [record.getMessage() for record in caplog.records] == [
        "no tick from stuck: the watchdog is not fed",
        "every worker ticks again",
    ]


def test_the_status_tells_how_long_ago_each_worker_ticked():
    worker = Worker(again=1000.0)
    service = running(worker)
    assert worker.stepped.wait(PATIENCE)
    assert 0 <= service.ticks()["worker"] < PATIENCE
    assert service.stop(PATIENCE)


def test_a_worker_that_only_others_can_wake_is_left_alone_until_then():
    """It costs nothing, and nobody misses its ticks; once woken it is watched like the others."""
    never = Event()
    asleep, other = Worker("asleep", again=None), Worker("other", again=0.0)
    clock = LeapingClock()
    service = running(asleep, other, longest_wait=0.01, clock=clock)
    assert eventually(lambda: service.ticks()["asleep"] is None)
    clock.ahead += LEAP
    assert eventually(lambda: service.late() == [])
    assert asleep.steps == 1
    asleep.hang(until=never)
    clock.ahead += LEAP
    assert eventually(lambda: service.late() == ["asleep"])
    asleep.act, asleep.again = lambda: None, 0.005
    never.set()
    assert eventually(lambda: not service.late())
    assert service.stop(PATIENCE)
