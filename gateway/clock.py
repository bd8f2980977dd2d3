"""The system clock, what makes it trusted, and the scaled clock of the demo. Nothing else reads a clock or sleeps.

The wall clock of a box without a battery starts at the time of the last shutdown, and is set when the network is there.
So boottime is the axis of everything that happens in one boot, and the wall clock is an offset to it: `Timeline` follows
that offset, `Trust` says whether it may decide hours (reliability 3.2).
"""

from __future__ import annotations

import ctypes
import subprocess
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from time import CLOCK_BOOTTIME, clock_gettime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from drivers.base import Now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")  # touched at each sync, systemd-timesyncd(8)
TIMEDATECTL = Path("/usr/bin/timedatectl")
TIMEDATED_PATIENCE = 2.0  # s; it is started over D-Bus when nobody has asked for a while
WITNESS_TOLERANCE = timedelta(seconds=60)  # reliability 3.2: an EnerKey Date header this close vouches for the clock
RECHECK = 5.0  # s between questions to the authorities while none vouches
TIME_ERROR = 5  # adjtimex(2): clock not synchronised
EARLIEST = datetime(2026, 11, 1, tzinfo=UTC)  # this release's date: no honest clock is before it
LATEST = EARLIEST + timedelta(days=15 * 365)
STEP = timedelta(seconds=2)  # from one look to the next; slewing moves boottime as well and never comes near it
SLEWED = 1.0  # s; where both clocks went on alike to within this, in floats, there is no need to reckon exactly
DISTRUST = timedelta(seconds=60)  # a larger step must be vouched for anew
LATELY = 600.0  # s; no driver keeps a reading longer
ERAS = 8  # between steps, of which a reading that is on its way may come
ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
NEAR = 0.1  # s by which a clock is slewed while a reading is on its way
LOOKS = range(10)  # until one at both clocks is not held up
NEWS_EVERY = 60.0  # s; two programs that fight over the clock step it all the time
STEPS_TOLD = 3  # each by itself


class Authority(Protocol):
    """Somebody who may vouch for the clock. Asked by one worker, which can wait some seconds for the answer."""

    def vouches(self) -> str | None:
        """A phrase naming the authority when it says that the clock, as it is now, is right; else None."""

    def doubt(self) -> None:
        """The clock was set by who knows whom: what has been said until now does not count any more."""


class Timesyncd:
    """systemd-timesyncd: touches a file at each synchronisation, which a sandboxed service may look at."""

    def __init__(self, file: Path = SYNCHRONIZED) -> None:
        self._file = file
        self._stale: int | None = None

    def vouches(self) -> str | None:
        """It has synchronised since boot, and since the last doubt."""
        touched = self._touched()
        return None if touched is None or touched == self._stale else "systemd-timesyncd"

    def doubt(self) -> None:
        """Only its next synchronisation counts; after a step it polls every 32 s."""
        self._stale = self._touched()

    def _touched(self) -> int | None:
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return None


class Kernel:
    """Whether an NTP daemon disciplines the kernel's clock; asked directly, which ProtectClock=yes forbids."""

    def vouches(self) -> str | None:
        """The kernel's own flag; it drops it itself when the clock is set by hand."""
        buffer = ctypes.create_string_buffer(512)  # struct timex with modes = 0 reads only; larger than any kernel's
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
        return "kernel (NTP)" if 0 <= state < TIME_ERROR else None

    def doubt(self) -> None:
        """Nothing to forget."""


class Timedated:
    """The same, asked through systemd-timedated, which looks from outside our sandbox: chrony and ntpd vouch this way."""

    def __init__(self, program: Path = TIMEDATECTL) -> None:
        self._program = program

    def vouches(self) -> str | None:
        """Whether timedated finds the clock synchronised; None also where there is no D-Bus."""
        command = [str(self._program), "show", "--property=NTPSynchronized", "--value"]
        try:
            said = subprocess.run(  # noqa: S603 - a fixed command; the environment may hold secrets and is not passed on
                command, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEDATED_PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return "NTP (timedatectl)" if said.stdout.strip() == b"yes" else None

    def doubt(self) -> None:
        """Nothing to forget: it is the kernel's flag."""


@dataclass(slots=True)
class _Era:
    """A stretch of looks without a step, from boottime `since` to `until`, when the wall clock said `wall`."""

    since: float
    until: float
    wall: datetime

    @property
    def origin(self) -> datetime:
        """What the wall clock says of boottime 0."""
        return self.wall - timedelta(seconds=self.until)


class Timeline:
    """What the wall clock said along boottime, in the life of this process."""

    def __init__(self) -> None:
        self._eras: deque[_Era] = deque(maxlen=ERAS)

    def saw(self, boottime: float, wall: datetime) -> timedelta | None:
        """Take a look into account; by how much the wall clock was stepped since the last one, None when it was not."""
        if not self._eras:
            self._eras.append(_Era(boottime, boottime, wall))
            return None
        last = self._eras[-1]
        passed = boottime - last.until
        if passed < 0:
            return None  # another thread's look has overtaken this one
        gone = wall - last.wall
        if not -SLEWED < gone.total_seconds() - passed < SLEWED:
            by = gone - timedelta(seconds=passed)
            if abs(by) > STEP:
                self._eras.append(_Era(boottime, boottime, wall))
                return by
        last.until, last.wall = boottime, wall
        return None

    def steady(self, now: Now) -> tuple[datetime, datetime]:
        """From when to when the clock that says `now` has said and will say every time: nobody has set it in between."""
        if not self._eras:
            return ALWAYS
        era = self._eras[-1]
        return era.origin + timedelta(seconds=era.since - NEAR), era.origin + timedelta(seconds=now.boottime + NEAR)

    def boottime_of(self, wall: datetime, now: Now) -> float:
        """When this clock said `wall`: at the latest look that fits.

        A reading that was on its way while the clock was set carries the old time: taken for the new one it would be
        days off.
        """
        for era in reversed(self._eras):
            found = (wall - era.origin).total_seconds()
            if era.since - NEAR <= found <= now.boottime + NEAR:
                return found
        return now.boottime - (now.wall - wall).total_seconds()


class News(NamedTuple):
    """What an operator should know of the clock."""

    level: str
    text: str


class _Step(NamedTuple):
    by: timedelta
    wall: datetime  # after it
    consequence: str


class Trust:
    """Whether the wall clock may decide hours: `always`, or `auto` while an authority's word stands. Thread-safe.

    An authority's word lasts for the boot, until somebody steps the clock by more than a minute: then it must be given
    anew. And whoever vouches, a clock before the newest closed hour or outside this release's life is not believed.
    Guests of a hypervisor look unsynchronised to themselves: they need `always` or the witness (reliability 2.9).
    """

    def __init__(self, mode: str = "auto", authorities: Sequence[Authority] | None = None) -> None:
        """Nobody is asked before `ask`."""
        self._always = mode == "always"
        self._authorities = (Timesyncd(), Kernel(), Timedated()) if authorities is None else authorities
        self._lock = Lock()
        self._timeline = Timeline()
        self._floor = EARLIEST
        self._next_ask = float("-inf")
        self._large_steps = 0
        self._looked = False
        self._trusted = False
        self._changed_at = float("-inf")
        self._objected = False
        self._steps: list[_Step] = []
        self._news: list[News] = []
        self._next_news = float("-inf")
        self._wake: Event | None = None
        self.changes = 0  # how often the clock became, or ceased to be, trusted
        self.reason: str | None = "configured" if self._always else None

    def look(self, boottime: float, wall: datetime) -> bool:
        """Take a look at both clocks into account; whether the wall clock is trusted."""
        with self._lock:
            by = self._timeline.saw(boottime, wall)
            if by is not None:
                self._stepped(by, wall)
            trusted = self._always or (self.reason is not None and self._floor <= wall <= LATEST)
            if by is None and trusted and self._trusted and not self._objected:
                return True  # nothing is new
            self._object(wall, trusted=trusted)
            if self._wake and (by is not None or self._trusted != trusted):
                self._wake.set()
            if self._trusted != trusted:
                self.changes += 1
                self._changed_at = boottime if self._looked else float("-inf")
            self._trusted, self._looked = trusted, True
            return trusted

    def attended_by(self, wake: Event) -> None:
        """Whoever attends to the clock is woken when something happens to it."""
        self._wake = wake

    def ask(self, boottime: float) -> None:
        """Ask the authorities, now and then, while none has vouched. May take seconds; for one thread only."""
        if self.reason is not None or boottime < self._next_ask:
            return
        self._next_ask = boottime + RECHECK
        asked_at = self._large_steps
        said = next((said for authority in self._authorities if (said := authority.vouches())), None)
        with self._lock:
            if self.reason is None and asked_at == self._large_steps:  # else it was said of another time
                self.reason = said

    def witness(self, wall: datetime, server_date: datetime) -> None:
        """An EnerKey answer carried this Date header."""
        with self._lock:
            if self.reason is None and abs(wall - server_date) <= WITNESS_TOLERANCE:
                self.reason = "EnerKey's Date header"

    def closed_until(self, end: datetime) -> None:
        """Hours are closed up to here: a clock that is before it is wrong, also in the next boot."""
        with self._lock:
            self._floor = max(self._floor, end)

    def steady(self, now: Now) -> tuple[datetime, datetime]:
        """Between these times, both included, this clock was not set: what was read then keeps its time."""
        with self._lock:
            return self._timeline.steady(now)

    def boottime_of(self, wall: datetime, now: Now) -> float:
        """The boottime at which this clock said `wall`."""
        with self._lock:
            return self._timeline.boottime_of(wall, now)

    def changed_lately(self, boottime: float) -> bool:
        """Drivers may still deliver what they took while the clock was not trusted, or not known to be wrong."""
        return boottime - self._changed_at < LATELY

    def news(self, boottime: float) -> list[News]:
        """What happened to the clock and has not been told yet; each thing once, and not all the time."""
        with self._lock:
            if boottime < self._next_news or not (self._steps or self._news):
                return []
            found = [*_steps_told(self._steps), *self._news]
            self._steps, self._news = [], []
            self._next_news = boottime + NEWS_EVERY
            return found

    def _stepped(self, by: timedelta, wall: datetime) -> None:
        consequence = ""
        if abs(by) > DISTRUST:
            self._large_steps += 1
            if self._always:
                consequence = '; believed, because [clock] trust is "always"'
            elif self.reason is not None:
                consequence = f"; {self.reason} vouched for the time before, readings wait until somebody vouches again"
                self.reason = None
                self._next_ask = float("-inf")
                for authority in self._authorities:
                    authority.doubt()
        self._steps.append(_Step(by, wall, consequence))

    def _object(self, wall: datetime, *, trusted: bool) -> None:
        """A clock that somebody vouches for and that cannot be right is told, once."""
        if trusted:
            self._objected = False
        elif self.reason is not None and not self._objected:
            self._objected = True
            bound = f"after {_shown(LATEST)}" if wall > LATEST else f"before {_shown(self._floor)}"
            why = (
                "the end of the newest closed hour" if wall < self._floor != EARLIEST else "what this release can meet"
            )
            text = (
                f"{self.reason} vouches for the clock, but {_shown(wall)} is {bound}, {why}: not trusted, readings wait"
            )
            self._news.append(News("error", text))


def _steps_told(steps: Sequence[_Step]) -> list[News]:
    if len(steps) <= STEPS_TOLD:
        return [_step_told(step) for step in steps]
    least, most = min(step.by for step in steps), max(step.by for step in steps)
    text = (
        f"the clock was set {len(steps)} times until {_shown(steps[-1].wall)}, by {_signed(least)} to {_signed(most)}"
    )
    return [News("warning", f"{text}: do two programs set it?{steps[-1].consequence}")]


def _step_told(step: _Step) -> News:
    text = f"the clock was set by {_signed(step.by)}: from {_shown(step.wall - step.by)} to {_shown(step.wall)}"
    return News("warning" if step.consequence else "info", text + step.consequence)


def _signed(by: timedelta) -> str:
    sign = "+" if by > timedelta(0) else "-"
    seconds = abs(by).total_seconds()
    return f"{sign}{seconds:.1f} s" if seconds < 600 else f"{sign}{timedelta(seconds=round(seconds))}"


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


class GatewayClock(Protocol):
    """A clock that also knows its own past."""

    trust: Trust

    def now(self) -> Now:
        """One look at both clocks."""

    def wait(self, wake: Event, until: float | None) -> bool:
        """Wait for `wake` or for boottime `until`."""


class SystemClock:
    """CLOCK_BOOTTIME (goes on in suspend) and the wall clock."""

    def __init__(self, trust: Trust | None = None) -> None:
        self.trust = trust or Trust("always")

    def now(self) -> Now:
        """One look at both clocks."""
        boottime, wall = _both()
        return Now(boottime, wall, self.trust.look(boottime, wall))

    def wait(self, wake: Event, until: float | None) -> bool:
        """Wait for `wake` or for boottime `until`."""
        if until is None:
            return wake.wait()
        left = until - clock_gettime(CLOCK_BOOTTIME)
        return wake.wait(left) if left > 0 else wake.is_set()


def _both() -> tuple[float, datetime]:
    """Both clocks at one instant: a thread that is held up between the two must not see a step."""
    for _ in LOOKS:
        boottime, wall = clock_gettime(CLOCK_BOOTTIME), datetime.now(UTC)
        if clock_gettime(CLOCK_BOOTTIME) - boottime < 0.1:
            break
    return boottime, wall


class ScaledClock:
    """Runs `scale` times as fast from `start`, which was at the real boottime `origin` (now); always trusted. The demo lives by it."""

    def __init__(self, start: datetime, scale: float, origin: float | None = None) -> None:
        self._start, self._scale = start, scale
        self._origin = clock_gettime(CLOCK_BOOTTIME) if origin is None else origin
        self.trust = Trust("always")

    def now(self) -> Now:
        """Scaled boottime counts from this clock's start."""
        elapsed = (clock_gettime(CLOCK_BOOTTIME) - self._origin) * self._scale
        return Now(elapsed, self._start + timedelta(seconds=elapsed), trusted=True)

    def wait(self, wake: Event, until: float | None) -> bool:
        """Wait for `wake` or for scaled boottime `until`."""
        if until is None:
            return wake.wait()
        return wake.wait(max(0.0, (until - self.now().boottime) / self._scale))
