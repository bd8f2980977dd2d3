"""The system clock, what makes it trusted, and the scaled clock of the demo. Nothing else reads a clock or sleeps."""

from __future__ import annotations

import ctypes
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.base import Now

if TYPE_CHECKING:
    from threading import Event

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")  # touched at each sync, systemd-timesyncd(8)
WITNESS_TOLERANCE = timedelta(seconds=60)  # reliability 3.2: an EnerKey Date header this close vouches for the clock
RECHECK = 5.0  # s between looks at the operating system's opinion while it is not yet positive
TIME_ERROR = 5  # adjtimex(2): clock not synchronised
EARLIEST = datetime(2026, 11, 1, tzinfo=UTC)  # this release's date: no honest clock is before it
LATEST = EARLIEST + timedelta(days=15 * 365)

TrustSource = Callable[[], str | None]
"""Asks one authority; a phrase naming it when it vouches for the clock, else None."""


def timesyncd() -> str | None:
    """systemd-timesyncd has synchronised since boot."""
    return "systemd-timesyncd" if SYNCHRONIZED.exists() else None


def kernel() -> str | None:
    """The kernel says that some NTP daemon disciplines the clock; None under ProtectClock=, which blocks the call."""
    buffer = ctypes.create_string_buffer(512)  # struct timex with modes = 0 reads only; larger than any kernel's
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    return "kernel (NTP)" if 0 <= state < TIME_ERROR else None


class Trust:
    """Whether the wall clock may decide hours: `always`, or `auto` by the first authority that vouches for it.

    Once given, trust lasts for the boot. Guests of a hypervisor look unsynchronised to themselves: they need `always`
    or the witness (reliability 2.9).
    """

    def __init__(self, mode: str = "auto", sources: tuple[TrustSource, ...] = (timesyncd, kernel)) -> None:
        self._sources = sources
        self._next_look = float("-inf")
        self.reason: str | None = "configured" if mode == "always" else None

    def trusted(self, boottime: float, wall: datetime) -> bool:
        """Whether the clock is trusted at this look; asks the authorities now and then while it is not."""
        if self.reason is None and boottime >= self._next_look and EARLIEST <= wall <= LATEST:
            self._next_look = boottime + RECHECK
            self.reason = next((said for source in self._sources if (said := source())), None)
        return self.reason is not None

    def witness(self, wall: datetime, server_date: datetime) -> None:
        """An EnerKey answer carried this Date header."""
        if self.reason is None and abs(wall - server_date) <= WITNESS_TOLERANCE and EARLIEST <= wall <= LATEST:
            self.reason = "EnerKey's Date header"


class SystemClock:
    """CLOCK_BOOTTIME (goes on in suspend) and the wall clock."""

    def __init__(self, trust: Trust | None = None) -> None:
        self.trust = trust or Trust("always")

    def now(self) -> Now:
        """One look at both clocks."""
        boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
        wall = datetime.now(UTC)
        return Now(boottime, wall, self.trust.trusted(boottime, wall))

    def wait(self, wake: Event, until: float | None) -> bool:
        """Wait for `wake` or for boottime `until`."""
        if until is None:
            return wake.wait()
        return wake.wait(max(0.0, until - time.clock_gettime(time.CLOCK_BOOTTIME)))


class ScaledClock:
    """A clock that runs `scale` times as fast from `start`; always trusted. The demo's whole gateway lives by it."""

    def __init__(self, start: datetime, scale: float) -> None:
        self._start = start
        self._scale = scale
        self._origin = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.trust = Trust("always")

    def now(self) -> Now:
        """Scaled boottime counts from this clock's start."""
        elapsed = (time.clock_gettime(time.CLOCK_BOOTTIME) - self._origin) * self._scale
        return Now(elapsed, self._start + timedelta(seconds=elapsed), trusted=True)

    def wait(self, wake: Event, until: float | None) -> bool:
        """Wait for `wake` or for scaled boottime `until`."""
        if until is None:
            return wake.wait()
        return wake.wait(max(0.0, (until - self.now().boottime) / self._scale))


def odd_offset(wall: datetime) -> timedelta | None:
    """How far local time is from UTC where it is no whole hour, in winter or summer; None where it is one."""
    seasons = (wall.replace(month=month, day=1).astimezone().utcoffset() or timedelta() for month in (1, 7))
    return next((offset for offset in seasons if offset % timedelta(hours=1)), None)


def boot_id(environ: Mapping[str, str] = os.environ, kernel_says: Path = BOOT_ID) -> str:
    """What names this boot; readings of one boot share a boottime axis.

    Our unit hides /proc/sys from the service (ProcSubset=pid) and gives the id in the environment instead. Where neither
    is to be had, every process counts as a boot of its own: readings of another one are then not placed by its clock.
    """
    try:
        found = environ.get("METER_GATEWAY_BOOT_ID") or kernel_says.read_text()
    except OSError as error:
        log.warning(
            "%s cannot be read (%s): what waits for a trusted clock is placed by this process only",
            kernel_says,
            error.strerror,
        )
        found = uuid.uuid4().hex
    return found.strip().replace("-", "")
