"""The API keys of one account: which one serves which endpoint family, and since when one is refused. Never prints a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from buffer.key_use import KeyUse
from buffer.model import from_ms, to_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

KEY_PAUSE = 15 * 60.0  # s until a refused key is tried again
LONGEST_KEY_PAUSE = 60 * 60.0  # s; reached in steps while every key is refused (reliability 3.8)
EXPIRY_WARNING = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Key:
    """A key and how the configuration names it. `expires`: the day (UTC) from which on it may be refused."""

    secret: str = field(repr=False)
    reference: str
    expires: date | None = None


class _Shut(NamedTuple):
    """Every key is refused: how often since one was taken last, and until when (boottime) none is tried."""

    times: int
    until: float


class KeyRing:
    """Up to two keys; a refusal counts per key and endpoint family: a 403 on one family says nothing about another.

    While every key is refused for a family one of them is tried now and then, in turn: after 15 min, later every hour.
    """

    def __init__(self, keys: Sequence[Key], account: str = "", uses: Iterable[KeyUse] = ()) -> None:
        """Keys in order of preference, at least one. `uses`: what is remembered of them, the oldest first."""
        self.account = account
        self._keys = tuple(keys)
        self._today: date | None = None
        self._refused: dict[tuple[int, str], float] = {}  # until when (boottime) it is not tried again
        self._shut: dict[str, _Shut] = {}
        self._serving: dict[str, int] = {}
        self._accepted: dict[int, datetime] = {}
        self._unsaved: dict[tuple[str, int], int] = {}  # accepted at (ms)
        slots = {key.reference: slot for slot, key in enumerate(self._keys)}
        for use in uses:
            if (slot := slots.get(use.reference)) is not None:
                self._serving[use.family] = slot
                self._accepted[slot] = from_ms(use.accepted_at)

    def today(self, day: date) -> list[str]:
        """Take note of the day (UTC), from a trusted clock; what is to be said of keys that expire."""
        if day == self._today:
            return []
        self._today = day
        named = ((slot, key.expires) for slot, key in enumerate(self._keys))
        return [words for slot, expires in named if (words := expiry(self.name_of(slot), expires, day))]

    def usable(self, family: str, now: float) -> int | None:
        """The slot to use for a family now: the one that served it last; None while every key is refused for it.

        A key that has expired comes after one that has not: what counts is what the server says.
        """
        shut = self._shut.get(family)
        order = self._order(family)
        if shut:
            return order[(shut.times - 1) % len(order)] if shut.until <= now else None
        return next((slot for slot in order if self._may_try(slot, family, now)), None)

    def is_shut(self, family: str) -> bool:
        """Whether every key is refused for a family, and none has been taken since."""
        return family in self._shut

    def again(self, family: str) -> float:
        """When (boottime) a key may be tried again for a family whose every key is refused."""
        return self._shut[family].until

    def secret(self, slot: int) -> str:
        """The key itself, for the client only."""
        return self._keys[slot].secret

    def name_of(self, slot: int) -> str:
        """How people find the key: its number, and its name in the configuration."""
        reference = self._keys[slot].reference
        return f"API key {slot + 1} ({reference})" if reference else f"API key {slot + 1}"

    def refused(self, slot: int, family: str, now: float) -> bool:
        """The server refused this key for this family: another one is tried, this one after a while; True when new."""
        new = (slot, family) not in self._refused
        self._refused[slot, family] = now + KEY_PAUSE
        if self.is_shut(family) or not any(self._may_try(each, family, now) for each in range(len(self._keys))):
            times = self._shut[family].times if self.is_shut(family) else 0
            pause = min(KEY_PAUSE * 2.0 ** min(times, 8), LONGEST_KEY_PAUSE)
            self._shut[family] = _Shut(times + 1, now + pause)
        return new

    def accepted(self, slot: int, family: str, at: datetime) -> None:
        """The server took this key."""
        self._refused.pop((slot, family), None)
        self._shut.pop(family, None)
        self._serving[family] = slot
        self._accepted[slot] = at
        self._unsaved[family, slot] = to_ms(at)

    def to_remember(self) -> list[KeyUse]:
        """What is new since the last call, to be written down with whatever is written next."""
        unsaved, self._unsaved = self._unsaved, {}
        return [KeyUse(family, self._keys[slot].reference, at) for (family, slot), at in unsaved.items()]

    def snapshot(self) -> list[dict[str, object]]:
        """For `status`: never the key, only its number and name. Any thread may take it."""
        serving, refused = self._serving.copy(), self._refused.copy()
        return [
            {
                "key": slot + 1,
                "reference": key.reference,
                "expires": key.expires.isoformat() if key.expires else None,
                "in_use_for": sorted(family for family, other in serving.items() if other == slot),
                "last_accepted": at.isoformat() if (at := self._accepted.get(slot)) else None,
                "refused_for": sorted(family for other, family in refused if other == slot),
            }
            for slot, key in enumerate(self._keys)
        ]

    def shut_for(self) -> list[str]:
        """The families for which every key is refused. Any thread may ask."""
        return sorted(self._shut.copy())

    def _order(self, family: str) -> list[int]:
        preferred = self._serving.get(family, 0)
        return sorted(range(len(self._keys)), key=lambda slot: (self._expired(slot), slot != preferred))

    def _may_try(self, slot: int, family: str, now: float) -> bool:
        return self._refused.get((slot, family), now) <= now

    def _expired(self, slot: int) -> bool:
        expires = self._keys[slot].expires
        return expires is not None and self._today is not None and expires <= self._today


def expiry(name: str, expires: date | None, today: date) -> str:
    """What to say of a key that expires within 30 days, or has; "" where there is nothing to say."""
    if expires is None or today < expires - EXPIRY_WARNING:
        return ""
    if today >= expires:
        return f"{name} expired on {expires}: put a new one in its place"
    return f"{name} expires on {expires}: put a new one in its place before that"
