"""When to try next and how much may be asked: pure functions of values, time and chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from random import Random

FIRST_PAUSE = 1.0  # s
LONGEST_PAUSE = 15 * 60.0  # s; a recovered network is noticed within a quarter of an hour (DESIGN 6)
KEY_PAUSE = 15 * 60.0  # s between looks while every key is refused
READ_BACK_RESERVE = 0.1  # share of the budget that pushes leave to read-backs (reliability 3.7)
OUTAGE_AFTER = 3  # connect failures in a row


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to leave a server alone: failures in a row, and the boottime until which it rests."""

    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float, random: Random) -> Pause:
        """One more failure: 1 s doubling to 15 min, full jitter so that a thousand gateways do not return together."""
        longest = min(FIRST_PAUSE * 2**self.failures, LONGEST_PAUSE)
        return Pause(self.failures + 1, now + random.uniform(longest / 10, longest))

    def resting(self, now: float, seconds: float) -> Pause:
        """Rest for a told time (Retry-After) without counting a failure."""
        return replace(self, until=max(self.until, now + seconds))

    @property
    def outage(self) -> bool:
        """Whether this is an outage and not one lost connection."""
        return self.failures >= OUTAGE_AFTER


def may_push(spent: int, share: int, remaining: int | None) -> bool:
    """Whether one more push fits the rolling day's share and what the server last said is left (R22)."""
    return spent < share * (1 - READ_BACK_RESERVE) and (remaining is None or remaining > share * READ_BACK_RESERVE / 10)


def may_read(spent: int, share: int, remaining: int | None) -> bool:
    """Whether one more read-back fits."""
    return spent < share and (remaining is None or remaining > 0)


def push_offset(identity: str, meter: str, spread: float) -> float:
    """A meter's fixed offset (s) after the hour, within `spread`: a fleet does not push at the same second."""
    digest = hashlib.sha256(f"{identity}/{meter}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * spread
