"""The API keys in use: which one serves which endpoint family, and since when one is refused. Never prints a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gateway.pacing import KEY_PAUSE


class KeyRing:
    """Up to two keys; a refusal counts per key and endpoint family: a 403 on one family says nothing about another."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """In order of preference; at least one."""
        self._secrets = tuple(secrets)
        self._refused: dict[tuple[int, str], tuple[float, str]] = {}
        self._accepted: dict[int, datetime] = {}

    def usable(self, family: str, now: float) -> int | None:
        """The slot to use for a family now; None while every key is refused for it."""
        for slot in range(len(self._secrets)):
            if self._refused.get((slot, family), (now, ""))[0] <= now:
                return slot
        return None

    def secret(self, slot: int) -> str:
        """The key itself, for the client only."""
        return self._secrets[slot]

    def refused(self, slot: int, family: str, now: float, words: str) -> None:
        """The server refused this key for this family: another one is tried; this one again after a while."""
        self._refused[slot, family] = (now + KEY_PAUSE, words)

    def accepted(self, slot: int, family: str, at: datetime) -> None:
        """The server took this key."""
        self._refused.pop((slot, family), None)
        self._accepted[slot] = at

    def snapshot(self) -> list[dict[str, object]]:
        """For `status`: never the key, only its slot."""
        return [
            {
                "key": slot + 1,
                "last_accepted": at.isoformat() if (at := self._accepted.get(slot)) else None,
                "refused_for": sorted(family for other, family in self._refused if other == slot),
            }
            for slot in range(len(self._secrets))
        ]
