"""The closer attends to the clock: nothing closes before all is placed, and what happens to the clock is told (R1, R5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from buffer import placing
from buffer.hours import Rule
from buffer.model import EPOCH
from buffer.store import StoreError
from gateway.clock import NEWS_EVERY, RECHECK, Trust
from tests.fakes.clock import FakeAuthority, FakeClock
from tests.fakes.small_gateway import Make, SmallGateway, reading

NOW = datetime(2027, 3, 2, 9, 55, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
TEN = (NOW - EPOCH) // timedelta(hours=1) + 1


@pytest.fixture
def make(make: Make) -> Make:
    """By a clock of the test's; the Date header of its EnerKey vouches for nobody."""
    lost = {"now": lambda: datetime(2000, 1, 1, tzinfo=UTC)}
    return lambda clock, *meters, **settings: make(*(meters or ("off",)), clock=clock, server=lost, **settings)


def clock_of(authority: FakeAuthority, wall: datetime = YESTERDAY) -> FakeClock:
    return FakeClock(wall, trust=Trust("auto", [authority]))


def polled(gateway: SmallGateway, count: int, every: float = 600) -> None:
    for n in range(count):
        gateway.deliver(reading("off", gateway.clock.now().wall, str(n), stamped=False))
        gateway.run(every)


def texts(gateway: SmallGateway, beginning: str = "") -> list[str]:
    return [text for _, _, text in gateway.events() if text.startswith(beginning)]


def test_an_authority_is_asked_at_the_start(make: Make):
    """So that the first readings need not wait."""
    gateway = make(clock_of(FakeAuthority("NTP"), NOW))
    assert gateway.clock.now().trusted


def test_no_hour_closes_before_all_that_waited_is_placed(make: Make, monkeypatch):
    """R5: a boundary between two readings of which one still waits would be wrong for ever."""
    monkeypatch.setattr(placing, "AT_ONCE", 2)
    authority = FakeAuthority()
    gateway = make(clock_of(authority), grace=0.0)
    polled(gateway, 21)
    gateway.clock.wall += timedelta(days=1)
    gateway.clock.now()
    authority.word = "NTP"
    gateway.run(2 * RECHECK)
    assert [view.consumption for view in gateway.hours("off")] == [6_000_000] * 3
    assert [view.hour for view in gateway.hours("off")] == [TEN, TEN + 1, TEN + 2]
    assert gateway.count("unplaced") == 0


def test_what_came_while_trust_was_lost_between_two_looks_of_the_closer_is_placed(make: Make):
    """The clock was set by hand, a reading came, EnerKey's Date vouched: all between two of its steps."""
    gateway = make(clock_of(FakeAuthority("NTP"), NOW))
    gateway.run(60)
    gateway.clock.step_wall(3600)
    gateway.deliver(reading("off", gateway.clock.wall, "1", stamped=False))
    assert gateway.count("unplaced") == 1
    gateway.clock.trust.witness(gateway.clock.wall, gateway.clock.wall)
    assert gateway.clock.now().trusted
    gateway.run(0)
    assert gateway.count("unplaced") == 0
    assert gateway.count("reading") == 1


def test_the_closer_is_woken_when_something_happens_to_the_clock(make: Make):
    """It need not look at it all the time."""
    gateway = make(clock_of(FakeAuthority("NTP"), NOW))
    gateway.run(3600)
    gateway.closer.wake.clear()
    gateway.clock.advance(60)
    assert not gateway.closer.wake.is_set()
    gateway.clock.step_wall(3)
    gateway.clock.now()
    assert gateway.closer.wake.is_set()
    gateway.clock.step_wall(3600)
    gateway.clock.now()
    gateway.closer.wake.clear()
    gateway.clock.trust.witness(gateway.clock.wall, gateway.clock.wall)
    assert gateway.clock.now().trusted
    assert gateway.closer.wake.is_set()


def test_the_newest_closed_hour_bounds_the_clock_of_the_next_boot(make: Make):
    """A battery clock that lost a day, and a daemon that vouches for it: the database knows better."""
    authority = FakeAuthority("NTP")
    gateway = make(clock_of(authority, NOW))
    polled(gateway, 21)
    assert gateway.hours("off")[-1].hour == TEN + 2
    gateway.clock = clock_of(authority, NOW)
    gateway.crash()
    assert not gateway.clock.now().trusted
    gateway.run(60)
    (told,) = texts(gateway, "NTP vouches")
    assert "2027-03-02 13:00:00Z, the end of the newest closed hour: not trusted" in told


def test_closing_an_hour_moves_the_bound(make: Make):
    gateway = make(clock_of(FakeAuthority("NTP", forgets=False), NOW))
    polled(gateway, 21)
    gateway.clock.wall = NOW + timedelta(hours=3)  # 12:55, while the hour until 13:00 is closed
    gateway.run(60)
    assert not gateway.clock.now().trusted
    gateway.run(300)
    assert gateway.clock.now().trusted


def test_a_step_is_one_event(make: Make):
    gateway = make(clock_of(FakeAuthority("NTP"), NOW))
    gateway.run(10)
    gateway.clock.step_wall(5)
    gateway.clock.now()
    gateway.run(2 * NEWS_EVERY)
    assert texts(gateway) == ["the clock was set by +5.0 s: from 2027-03-02 09:55:10Z to 2027-03-02 09:55:15Z"]


def test_what_cannot_be_stored_now_is_told_later_and_once(make: Make, monkeypatch):
    """R26."""
    gateway = make(clock_of(FakeAuthority("NTP"), NOW))
    gateway.run(10)
    gateway.clock.step_wall(5)

    def full(work: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(gateway.store, "write", full)
    gateway.clock.now()
    gateway.run(20)
    monkeypatch.undo()
    gateway.run(20)
    assert len(texts(gateway, "the clock was set by +5.0 s")) == 1


def test_a_stamp_of_2099_that_waited_is_no_reading(make: Make):
    """DESIGN 5: nobody could tell while the clock was not trusted."""
    authority = FakeAuthority()
    gateway = make(clock_of(authority))
    gateway.deliver(reading("off", datetime(2099, 1, 1, tzinfo=UTC), "7"), reading("off", NOW, "8"))
    gateway.clock.wall = NOW
    gateway.clock.now()
    authority.word = "NTP"
    gateway.run(2 * RECHECK)
    find = "SELECT connection, source, reason, payload FROM rejected"
    assert gateway.store.read(lambda db: db.execute(find).fetchall()) == [
        ("bench", "off", "time in the future", "7.000000")
    ]
    assert gateway.store.read(lambda db: db.execute("SELECT value FROM reading").fetchall()) == [(8_000_000,)]


def test_energy_that_waited_until_its_hour_was_closed_is_booked_beside_it_and_told(make: Make):
    """R8: only one meter's readings waited on."""
    quarter = Rule("interval", expected_every_ms=900_000, period_ms=900_000)
    gateway = make(clock_of(FakeAuthority("NTP"), NOW + timedelta(hours=3)), rule=quarter)
    stamps = [NOW + timedelta(minutes=5 + 15 * n) for n in range(10)]
    gateway.deliver(*[reading("off", at, "0.25") for at in stamps if at != stamps[2]])
    gateway.run(300)
    assert [view.consumption for view in gateway.hours("off")] == [750_000, 1_000_000]
    gateway.clock.step_wall(7200)
    gateway.deliver(reading("off", stamps[2], "0.25"))
    gateway.clock.step_wall(-7200)
    gateway.clock.now()
    gateway.clock.trust.witness(gateway.clock.wall, gateway.clock.wall)
    gateway.run(300)
    assert [(view.consumption, view.adjusted) for view in gateway.hours("off")] == [(750_000, 250_000), (1_000_000, 0)]
    (told,) = texts(gateway, "energy came after")
    assert "0.25 were booked as adjustments" in told


def test_a_process_without_a_boot_id_does_not_take_anothers_readings_for_older_than_itself(make: Make):
    """They may be of this very boot, so of any time up to now."""
    authority = FakeAuthority()
    power = Rule("power", expected_every_ms=60_000, max_gap_ms=180_000)
    gateway = make(clock_of(authority), rule=power)
    gateway.boot = "process-1"
    gateway.crash()
    polled(gateway, 3, 60)
    gateway.boot = "process-2"
    gateway.crash()
    gateway.clock.wall = NOW
    gateway.clock.now()
    authority.word = "NTP"
    gateway.run(10)
    (told,) = texts(gateway, "3 readings came")
    assert "before 2027-03-02 09:55:" in told
    assert gateway.count("parked") == 1
