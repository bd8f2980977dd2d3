"""The API keys in use: which one serves which endpoint family, and since when one is refused. Never prints a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

KEY_PAUSE = 15 * 60.0  # s between looks while every key is refused


class KeyRing:
    """Up to two keys; a refusal counts per key and endpoint family: a 403 on one family says nothing about another."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """In order of preference; at least one."""
        self._secrets = tuple(secrets)
        self._refused: dict[tuple[int, str], float] = {}  # until when (boottime) it is not tried again
        self._serving: dict[str, int] = {}
        self._accepted: dict[int, datetime] = {}

    def usable(self, family: str, now: float) -> int | None:
        """The slot to use for a family now: the one that served it last; None while every key is refused for it."""
        preferred = self._serving.get(family, 0)
        for slot in sorted(range(len(self._secrets)), key=lambda slot: slot != preferred):
            if self._refused.get((slot, family), now) <= now:
                return slot
        return None

    def again(self, family: str) -> float:
        """When (boottime) a key may be tried again for a family whose every key is refused."""
        return min(until for (_, other), until in self._refused.items() if other == family)

    def secret(self, slot: int) -> str:
        """The key itself, for the client only."""
        return self._secrets[slot]

    def refused(self, slot: int, family: str, now: float) -> bool:
        """The server refused this key for this family: another one is tried, this one after a while; True when new."""
        new = (slot, family) not in self._refused
        self._refused[slot, family] = now + KEY_PAUSE
        return new

    def accepted(self, slot: int, family: str, at: datetime) -> None:
        """The server took this key."""
        self._refused.pop((slot, family), None)
        self._serving[family] = slot
        self._accepted[slot] = at

    def snapshot(self) -> list[dict[str, object]]:
        """For `status`: never the key, only its number."""
        return [
            {
                "key": slot + 1,
                "last_accepted": at.isoformat() if (at := self._accepted.get(slot)) else None,
                "refused_for": sorted(family for other, family in self._refused.copy() if other == slot),
            }
            for slot in range(len(self._secrets))
        ]
