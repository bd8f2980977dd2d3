"""The system clock, its trust, and the demo's scaled clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from gateway import clock as clock_module
from gateway.clock import EARLIEST, LATEST, RECHECK, ScaledClock, SystemClock, Trust, boot_id, kernel, timesyncd

NOW = EARLIEST + timedelta(days=100)


def nobody() -> str | None:
    return None


def test_the_first_authority_that_vouches_gives_trust_for_the_boot():
    asked: list[str] = []
    trust = Trust("auto", (lambda: asked.append("first"), lambda: "NTP", lambda: asked.append("third")))
    assert trust.trusted(0.0, NOW)
    assert trust.reason == "NTP"
    assert trust.trusted(1.0, NOW - timedelta(days=1))
    assert asked == ["first"]


def test_authorities_are_asked_now_and_then_only():
    asked: list[float] = []
    trust = Trust("auto", (lambda: asked.append(1.0),))
    for tenth in range(101):
        assert not trust.trusted(tenth / 10, NOW)
    assert len(asked) == 1 + int(10 / RECHECK)


@pytest.mark.parametrize("wall", [EARLIEST - timedelta(seconds=1), LATEST + timedelta(seconds=1)])
def test_a_clock_outside_this_releases_life_is_never_trusted(wall: datetime):
    trust = Trust("auto", (lambda: "NTP",))
    assert not trust.trusted(0.0, wall)
    trust.witness(wall, wall)
    assert trust.reason is None


def test_always_means_always():
    assert Trust("always").trusted(0.0, datetime(1970, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(("apart", "trusted"), [(0, True), (59, True), (-59, True), (61, False), (-3600, False)])
def test_enerkeys_date_vouches_for_a_clock_within_a_minute(apart: float, trusted: bool):
    trust = Trust("auto", (nobody,))
    trust.witness(NOW, NOW + timedelta(seconds=apart))
    assert trust.trusted(0.0, NOW) is trusted


def test_the_operating_system_can_be_asked_here():
    assert timesyncd() in {None, "systemd-timesyncd"}
    assert kernel() in {None, "kernel (NTP)"}


def test_timesyncd_vouches_by_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(clock_module, "SYNCHRONIZED", tmp_path / "synchronized")
    assert timesyncd() is None
    (tmp_path / "synchronized").touch()
    assert timesyncd() == "systemd-timesyncd"


def test_the_system_clock_tells_boottime_wall_and_trust():
    now = SystemClock(Trust("auto", (nobody,))).now()
    assert abs(now.boottime - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert abs(now.wall - datetime.now(UTC)) < timedelta(seconds=5)
    assert not now.trusted


@pytest.mark.parametrize("clock", [SystemClock(), ScaledClock(NOW, 1000.0)])
def test_waiting_ends_with_the_wake_or_with_the_time(clock: SystemClock | ScaledClock):
    wake = Event()
    assert clock.wait(wake, clock.now().boottime - 1) is False
    assert clock.wait(wake, clock.now().boottime + 0.01) is False
    wake.set()
    assert clock.wait(wake, None) is True
    assert clock.wait(wake, clock.now().boottime + 1000) is True


def test_a_scaled_clock_runs_so_many_times_as_fast_from_its_start():
    clock = ScaledClock(NOW, 36_000.0)
    first = clock.now()
    Event().wait(0.02)
    second = clock.now()
    assert first.trusted
    assert second.boottime - first.boottime >= 0.02 * 36_000
    assert second.wall - first.wall == timedelta(seconds=second.boottime) - timedelta(seconds=first.boottime)
    assert clock.trust.reason == "configured"


def test_the_boot_has_an_id():
    """Two looks in one boot agree."""
    assert boot_id({}) == boot_id({}) != ""


def test_the_unit_may_tell_the_boot_id_instead():
    """In the unit's sandbox /proc/sys does not exist; systemd's %b is the same id without dashes."""
    assert boot_id({"METER_GATEWAY_BOOT_ID": boot_id({})}, Path("/nowhere")) == boot_id({})


def test_without_any_boot_id_a_process_is_a_boot_of_its_own(caplog):
    """The service starts all the same, and says what it cannot do."""
    assert boot_id({}, Path("/nowhere")) != boot_id({}, Path("/nowhere"))
    assert "/nowhere cannot be read" in caplog.text
