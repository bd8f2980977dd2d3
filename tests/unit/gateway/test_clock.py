"""The system clock, its trust, and the demo's scaled clock."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Now
from gateway.clock import (
    EARLIEST,
    LATEST,
    NEWS_EVERY,
    RECHECK,
    Kernel,
    ScaledClock,
    SystemClock,
    Timedated,
    Timeline,
    Timesyncd,
    Trust,
)
from tests.fakes.clock import FakeAuthority, FakeClock

NOW = EARLIEST + timedelta(days=100)


def vouched(word: str = "NTP", *, forgets: bool = True) -> tuple[FakeClock, FakeAuthority]:
    """A clock whose authority has vouched for it."""
    authority = FakeAuthority(word, forgets=forgets)
    clock = FakeClock(NOW, trust=Trust("auto", [authority]))
    clock.trust.ask(clock.boottime)
    assert clock.now().trusted
    return clock, authority


def news(clock: FakeClock) -> list[tuple[str, str]]:
    """What there is to tell, as soon as it may be told."""
    return [tuple(each) for each in clock.trust.news(clock.boottime + NEWS_EVERY)]


# --- who vouches ------------------------------------------------------------------------------------------------------


def test_the_first_authority_that_vouches_gives_trust_for_the_boot():
    first, second, third = FakeAuthority(), FakeAuthority("NTP"), FakeAuthority("third")
    trust = Trust("auto", [first, second, third])
    assert not trust.look(0.0, NOW)
    trust.ask(0.0)
    assert trust.look(0.0, NOW)
    assert trust.reason == "NTP"
    second.word = None
    trust.ask(1000.0)
    assert trust.look(1000.0, NOW + timedelta(seconds=1000))
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


def test_authorities_are_asked_now_and_then_only():
    authority = FakeAuthority()
    trust = Trust("auto", [authority])
    for tenth in range(101):
        trust.ask(tenth / 10)
    assert authority.asked == 1 + int(10 / RECHECK)


@pytest.mark.parametrize("wall", [EARLIEST - timedelta(seconds=1), LATEST + timedelta(seconds=1)])
def test_a_clock_outside_this_releases_life_is_never_trusted_whoever_vouches(wall: datetime):
    trust = Trust("auto", [FakeAuthority("NTP")])
    trust.ask(0.0)
    trust.witness(wall, wall)
    assert not trust.look(0.0, wall)


def test_always_means_always():
    assert Trust("always").look(0.0, datetime(1970, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(("apart", "trusted"), [(0, True), (59, True), (-59, True), (61, False), (-3600, False)])
def test_enerkeys_date_vouches_for_a_clock_within_a_minute(apart: float, trusted: bool):
    trust = Trust("auto", [])
    trust.witness(NOW, NOW + timedelta(seconds=apart))
    assert trust.look(0.0, NOW) is trusted


def test_the_operating_system_can_be_asked_here():
    assert Timesyncd().vouches() in {None, "systemd-timesyncd"}
    assert Kernel().vouches() in {None, "kernel (NTP)"}
    assert Timedated().vouches() in {None, "NTP (timedatectl)"}


def test_timesyncd_vouches_by_a_file(tmp_path):
    file = tmp_path / "synchronized"
    authority = Timesyncd(file)
    assert authority.vouches() is None
    file.touch()
    assert authority.vouches() == "systemd-timesyncd"


def test_after_a_doubt_timesyncd_vouches_again_with_its_next_synchronisation(tmp_path):
    file = tmp_path / "synchronized"
    file.touch()
    authority = Timesyncd(file)
    authority.doubt()
    assert authority.vouches() is None
    os.utime(file, (1_800_000_000, 1_800_000_000))
    assert authority.vouches() == "systemd-timesyncd"
    file.unlink()
    assert authority.vouches() is None


def timedatectl(directory: Path, script: str) -> Timedated:
    """A stand-in for the program, a real process."""
    program = directory / "timedatectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Timedated(program)


def test_timedated_vouches_for_chrony_and_ntpd(tmp_path):
    """It looks at the kernel's flag from outside the sandbox, whichever program sets it."""
    asked = 'test "$*" = "show --property=NTPSynchronized --value" && echo yes'
    assert timedatectl(tmp_path, asked).vouches() == "NTP (timedatectl)"


@pytest.mark.parametrize("script", ["echo no", "echo 'Failed to connect to bus' >&2; exit 1", "exec sleep 60"])
def test_a_timedated_that_says_no_or_nothing_does_not_vouch(tmp_path, script, monkeypatch):
    """Also one that hangs: it is given up after a moment."""
    monkeypatch.setattr("gateway.clock.TIMEDATED_PATIENCE", 0.2)
    assert timedatectl(tmp_path, script).vouches() is None
    assert Timedated(tmp_path / "not-installed").vouches() is None


def test_no_secret_of_the_environment_is_given_to_timedatectl(tmp_path, monkeypatch):
    monkeypatch.setenv("ENERKEY_KEY", "canary")
    assert timedatectl(tmp_path, 'test -z "$ENERKEY_KEY" && echo yes').vouches() is not None


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "told"), [(3, "+3.0 s"), (-3, "-3.0 s"), (60, "+60.0 s")])
def test_a_small_step_is_told_once_with_its_numbers_and_believed(by: float, told: str):
    clock, _ = vouched()
    clock.step_wall(by)
    assert clock.now().trusted
    ((level, text),) = news(clock)
    assert (level, text.split(":")[0]) == ("info", f"the clock was set by {told}")
    assert f"{NOW:%Y-%m-%d %H:%M:%S}Z" in text
    assert news(clock) == []


@pytest.mark.parametrize("by", [61, -61, 3600, -3600, 86_400 * 400])
def test_a_large_step_must_be_vouched_for_anew(by: float):
    """Somebody set it by hand: what was said of the time before does not count any more."""
    clock, authority = vouched()
    clock.step_wall(by)
    assert not clock.now().trusted
    assert authority.doubts == 1
    clock.trust.ask(clock.boottime)
    assert not clock.now().trusted
    authority.word = "NTP again"
    clock.advance(RECHECK)
    clock.trust.ask(clock.boottime)
    assert clock.now().trusted
    assert clock.trust.reason == "NTP again"
    assert clock.trust.changes == 3
    ((level, text),) = news(clock)
    assert level == "warning"
    assert text.endswith("NTP vouched for the time before, readings wait until somebody vouches again")


def test_the_kernels_word_after_a_step_is_about_the_time_after_it():
    """Its flag falls with the step itself, so it counts at once when it is up."""
    clock, _ = vouched(forgets=False)
    clock.step_wall(3600)
    assert not clock.now().trusted
    clock.trust.ask(clock.boottime)
    assert clock.now().trusted


def test_enerkeys_date_can_vouch_after_a_step():
    clock, _ = vouched()
    clock.step_wall(-3600)
    assert not clock.now().trusted
    clock.trust.witness(clock.wall, clock.wall + timedelta(hours=1))
    assert not clock.now().trusted
    clock.trust.witness(clock.wall, clock.wall + timedelta(seconds=1))
    assert clock.now().trusted


def test_a_step_while_an_authority_is_asked_makes_its_answer_worthless():
    clock = FakeClock(NOW)

    class Slow(FakeAuthority):
        def vouches(self) -> str | None:
            if not self.asked:
                clock.step_wall(3600)
                clock.now()
            return super().vouches()

    clock.trust = Trust("auto", [Slow("NTP")])
    clock.now()
    clock.trust.ask(clock.boottime)
    assert not clock.now().trusted
    clock.trust.ask(clock.boottime + RECHECK)
    assert clock.now().trusted


def test_a_witness_that_speaks_while_the_authorities_are_asked_is_not_forgotten():
    clock = FakeClock(NOW)

    class Slow(FakeAuthority):
        def vouches(self) -> str | None:
            clock.trust.witness(clock.wall, clock.wall)
            return super().vouches()

    clock.trust = Trust("auto", [Slow()])
    clock.trust.ask(clock.boottime)
    assert clock.now().trusted


def test_the_step_that_sets_an_untrusted_clock_is_told_and_doubts_nobody():
    """The daemon sets the clock and touches its file before we look: that word must count."""
    authority = FakeAuthority()
    clock = FakeClock(datetime(1970, 1, 1, tzinfo=UTC), trust=Trust("auto", [authority]))
    assert not clock.now().trusted
    clock.wall = NOW
    authority.word = "NTP"
    assert not clock.now().trusted
    clock.trust.ask(clock.boottime)
    assert clock.now().trusted
    assert authority.doubts == 0
    assert [level for level, _ in news(clock)] == ["info"]


def test_trusted_always_a_step_is_only_told():
    clock = FakeClock(NOW)
    clock.now()
    clock.step_wall(-3600)
    assert clock.now().trusted
    ((level, text),) = news(clock)
    assert (level, text.partition("; ")[2]) == ("warning", 'believed, because [clock] trust is "always"')


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(-0.1, 0.1)), max_size=50))
def test_slewing_is_no_step(looks: list[tuple[float, float]]):
    """A daemon slews by up to 8 %, for as long as it needs."""
    clock, _ = vouched()
    for seconds, rate in looks:
        clock.advance(seconds)
        clock.step_wall(seconds * rate)
        assert clock.now().trusted
    assert news(clock) == []


def test_a_look_that_another_thread_has_overtaken_is_no_step_back():
    clock, _ = vouched()
    early = (clock.boottime, clock.wall)
    clock.advance(1)
    clock.step_wall(30)
    clock.now()
    clock.trust.look(*early)
    clock.now()
    assert len(news(clock)) == 1


def test_two_programs_that_fight_over_the_clock_do_not_flood_the_events():
    clock, _ = vouched()
    told = []
    for _ in range(600):
        for by in (5, -5):
            clock.step_wall(by)
            clock.now()
        clock.advance(1)
        told += clock.trust.news(clock.boottime)
    assert len(told) <= 600 / NEWS_EVERY + 3
    assert told[-1].text.startswith("the clock was set 120 times until")
    assert "by -5.0 s to +5.0 s: do two programs set it?" in told[-1].text


# --- the floor --------------------------------------------------------------------------------------------------------


def test_a_clock_before_the_newest_closed_hour_is_not_trusted_whoever_vouches():
    """The floor survives reboots: it is in the database. And somebody is told, once."""
    clock, _ = vouched()
    clock.trust.closed_until(NOW + timedelta(hours=2))
    for _ in range(3):
        assert not clock.now().trusted
    assert clock.trust.changes == 2
    ((level, text),) = news(clock)
    assert level == "error"
    end = f"{NOW + timedelta(hours=2):%Y-%m-%d %H:%M:%S}Z"
    assert text == (
        f"NTP vouches for the clock, but {NOW:%Y-%m-%d %H:%M:%S}Z is before {end}, the end of the newest closed hour:"
        " not trusted, readings wait"
    )
    clock.trust.closed_until(NOW)
    assert not clock.advance(7199).trusted
    assert clock.advance(1).trusted
    clock.trust.closed_until(clock.wall + timedelta(hours=1))
    assert not clock.now().trusted
    assert len(news(clock)) == 1


@pytest.mark.parametrize(
    ("wall", "told"),
    [
        (
            EARLIEST - timedelta(days=9),
            "2026-10-23 00:00:00Z is before 2026-11-01 00:00:00Z, what this release can meet",
        ),
        (LATEST + timedelta(days=9), "2041-11-06 00:00:00Z is after 2041-10-28 00:00:00Z, what this release can meet"),
    ],
)
def test_a_clock_that_cannot_be_right_is_told_with_the_bound(wall: datetime, told: str):
    clock = FakeClock(wall, trust=Trust("auto", [FakeAuthority("NTP")]))
    clock.trust.ask(clock.boottime)
    clock.now()
    assert [text for _, text in news(clock)] == [f"NTP vouches for the clock, but {told}: not trusted, readings wait"]


# --- along boottime ---------------------------------------------------------------------------------------------------


def now_at(boottime: float, wall: datetime) -> Now:
    return Now(boottime, wall, trusted=True)


@pytest.mark.parametrize("by", [3, -3, 3600, -3600, 86_400 * 365 * 56])
def test_a_time_from_before_a_step_is_found_on_boottime(by: float):
    """A poll was under way while the clock was set."""
    line = Timeline()
    seen = NOW + timedelta(seconds=10)
    line.saw(100.0, NOW)
    line.saw(110.0, seen)
    after = NOW + timedelta(seconds=11 + by)
    line.saw(111.0, after)
    assert line.boottime_of(seen, now_at(112.0, after + timedelta(seconds=1))) == pytest.approx(110.0)
    assert line.boottime_of(after, now_at(112.0, after + timedelta(seconds=1))) == pytest.approx(111.0)


def test_a_time_that_no_look_has_seen_counts_from_now():
    """A reading that arrived before the process looked at the clock."""
    line = Timeline()
    assert line.boottime_of(NOW, now_at(100.0, NOW + timedelta(seconds=7))) == pytest.approx(93.0)
    line.saw(100.0, NOW)
    assert line.boottime_of(NOW - timedelta(hours=1), now_at(100.0, NOW)) == pytest.approx(100.0 - 3600)


@given(
    st.lists(st.tuples(st.floats(1, 600), st.floats(-80_000, 80_000)), min_size=1, max_size=6),
    st.integers(0, 5),
)
def test_every_look_of_the_past_is_found_again_unless_the_clock_has_been_there_twice(steps, which):
    line = Timeline()
    boottime, wall = 50.0, NOW
    looks = []
    for seconds, by in steps:
        line.saw(boottime, wall)
        looks.append((boottime, wall))
        boottime += seconds
        wall += timedelta(seconds=seconds + (by if abs(by) > 2.5 else 0))
    line.saw(boottime, wall)
    then, said = looks[which % len(looks)]
    found = line.boottime_of(said, now_at(boottime, wall))
    assert found == pytest.approx(then, abs=1e-3) or found > then  # where it has been twice, the later one


near_a_step = st.integers(-2200, 2200) | st.sampled_from([0, 999, 1001, 1999, 2000, 2001, -1999, -2000, -2001, 10**9])


@given(st.lists(st.tuples(st.integers(0, 2**20), near_a_step), max_size=20))
def test_a_step_is_more_than_two_seconds_from_one_look_to_the_next(looks):
    """However much smaller ones add up to; by how much is told to the millisecond."""
    line = Timeline()
    boottime, wall = 2048.0, NOW
    line.saw(boottime, wall)
    for ms, by in looks:
        boottime += ms / 1024
        wall += timedelta(seconds=ms / 1024, milliseconds=by)
        found = line.saw(boottime, wall)
        assert (found is None) == (abs(by) <= 2000)
        assert found is None or abs(found - timedelta(milliseconds=by)) <= timedelta(milliseconds=1)


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(-900, 900)), max_size=5), st.floats(-700, 700))
def test_what_was_read_while_nobody_set_the_clock_is_as_long_ago_as_the_clock_says(steps, ago):
    """R1: and what was read before the newest step is not taken for such."""
    line = Timeline()
    boottime, wall = 5000.0, NOW
    line.saw(boottime, wall)
    since, before = boottime, None
    for seconds, by in steps:
        boottime += seconds
        if abs(by) > 2.5:
            since, before = boottime, wall + timedelta(seconds=seconds)
        wall += timedelta(seconds=seconds + (by if abs(by) > 2.5 else by / 1000))
        line.saw(boottime, wall)
    now = now_at(boottime, wall)
    first, last = line.steady(now)
    read = wall - timedelta(seconds=ago)
    if first <= read <= last:
        assert line.boottime_of(read, now) == pytest.approx(boottime - ago, abs=1e-3)
    assert first <= wall - timedelta(seconds=boottime - since) <= last
    assert before is None or not first <= before <= last or before >= wall - timedelta(seconds=boottime - since + 0.1)


def test_a_clock_that_was_never_looked_at_was_never_set():
    """The demo's clock is computed, not looked at."""
    now = now_at(5.0, NOW)
    first, last = Timeline().steady(now)
    assert first < NOW - timedelta(days=365) < NOW + timedelta(days=365) < last


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_the_system_clock_tells_boottime_wall_and_trust():
    clock = SystemClock(Trust("auto", []))
    now = clock.now()
    assert abs(now.boottime - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    assert abs(now.wall - datetime.now(UTC)) < timedelta(seconds=60)
    assert not now.trusted
    assert clock.trust.boottime_of(now.wall, clock.now()) == pytest.approx(now.boottime, abs=0.2)  # each look by 0.1 s


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
    assert clock.trust.boottime_of(first.wall, second) == pytest.approx(first.boottime, abs=1e-3)
    assert clock.trust.reason == "configured"


def test_scaled_clocks_of_one_start_and_origin_share_the_time():
    """A process that is started anew goes on in the time of the one before it."""
    origin = SystemClock().now().boottime
    first = ScaledClock(NOW, 1000.0, origin)
    Event().wait(0.02)
    between = first.now(), ScaledClock(NOW, 1000.0, origin).now(), first.now()
    assert [each.boottime for each in between] == sorted(each.boottime for each in between)
    assert [each.wall for each in between] == sorted(each.wall for each in between)
    assert between[1].boottime >= 0.02 * 1000
