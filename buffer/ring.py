"""Readings that cannot be stored for now, thinned to what hours need: a bounded ring in memory. Pure.

Of a counter's hour the first and the last reading stay: those around each full hour, from which its boundaries are drawn,
and so the newest one. Of other kinds every reading is energy and stays as long as there is room. When there is none, the
oldest hour is thinned like a counter's, and then forgotten: what a counter counted in it is spread between its neighbours.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from buffer.model import hour_of

T = TypeVar("T")

MOST = 20_000  # readings, some 6 MB: 50 h of 200 counters


class Ring(Generic[T]):
    """By hour, meter and instant (ms)."""

    def __init__(self, most: int = MOST) -> None:
        """`most`: readings that are kept."""
        self._most = most
        self._hours: dict[int, dict[int, dict[int, T]]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Readings kept."""
        return self._count

    def keep(self, meter: int, at: int, item: T, *, whole: bool = False) -> None:
        """Keep a reading; the first of an instant stays. `whole`: each reading of this meter is energy."""
        samples = self._hours.setdefault(hour_of(at), {}).setdefault(meter, {})
        if at in samples:
            return
        samples[at] = item
        self._count += 1
        if not whole:
            self._thin(samples)
        while self._count > self._most:
            self._give_way()

    def oldest(self, most: int) -> list[tuple[int, int, T]]:
        """Some (at, meter, item), in order of time; all of one hour before any of the next."""
        found: list[tuple[int, int, T]] = []
        for hour in sorted(self._hours):
            rows = ((at, meter, item) for meter, kept in self._hours[hour].items() for at, item in kept.items())
            found += sorted(rows, key=lambda row: row[:2])
            if len(found) >= most:
                break
        return found[:most]

    def drop(self, meter: int, at: int) -> None:
        """It is stored."""
        hour = hour_of(at)
        samples = self._hours.get(hour, {}).get(meter, {})
        if at not in samples:
            return
        del samples[at]
        self._count -= 1
        if not samples:
            del self._hours[hour][meter]
        if not self._hours[hour]:
            del self._hours[hour]

    def _thin(self, samples: dict[int, T]) -> None:
        edges = {min(samples), max(samples)}
        for at in [at for at in samples if at not in edges]:
            del samples[at]
            self._count -= 1

    def _give_way(self) -> None:
        oldest = min(self._hours)
        before = self._count
        for samples in self._hours[oldest].values():
            self._thin(samples)
        if self._count == before:
            self._count -= sum(len(samples) for samples in self._hours.pop(oldest).values())
