"""The way back: what a probe has changed is taken away again, by what EnerKey shows and not by what was sent.

What cannot be taken away is told. Nothing is corrected that the probe has not touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from buffer.model import hour_start
from gateway.probing.plan import LEVEL, item, patience

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gateway.probing.wire import Wire

ATTEMPTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Hours [since, until) of a meter in which something may have been changed, and what they had before."""

    meter: int
    since: int
    until: int
    before: Mapping[int, int]

    def changed(self, now: Mapping[int, int]) -> dict[int, int]:
        """By how much each hour differs from what it had (micro)."""
        hours = range(self.since, self.until)
        gains = {hour: now.get(hour, 0) - self.before.get(hour, 0) for hour in hours}
        return {hour: gain for hour, gain in gains.items() if gain}


class Left(NamedTuple):
    """An hour that is not what it was: `shows` and `before` in micro; `shows` None: it could not be read."""

    meter: int
    at: str
    shows: int | None
    before: int


class Ways(NamedTuple):
    """What is known of how a value is taken away."""

    same_hour: str | None
    negatives: str | None
    shift: int | None
    lag: float


def restore(wire: Wire, areas: Sequence[Area], ways: Ways) -> list[Left]:
    """Take away what the areas have gained; what is left. Waits before each look, so that it sees what is there.

    Where nobody knows what a second value does, the first attempt tells.
    """
    mode = ways.same_hour or "sum"
    posted: dict[tuple[Area, int], int] = {}
    for attempt in range(ATTEMPTS):
        wire.wait(patience(ways.lag))
        found = [(area, wire.read(area.meter, area.since, area.until)[0]) for area in areas]
        left = [each for area, now in found for each in _left(area, now)]
        hopeless = mode in {"first-wins", "reject"} or (mode == "sum" and ways.negatives == "refused")
        if not left or hopeless or ways.shift is None or attempt == ATTEMPTS - 1:
            break
        if ways.same_hour is None and any(
            area is other and now and now.get(hour) == micro
            for area, now in found
            for (other, hour), micro in posted.items()
        ):
            mode = "replace"  # what was posted has not been added: it stands there alone
        for area, now in found:
            gains = area.changed(now) if now is not None else {}
            values = {hour: area.before.get(hour, 0) if mode == "replace" else -gain for hour, gain in gains.items()}
            posted |= {(area, hour): micro for hour, micro in values.items()}
            if values:
                rows = [item(hour - ways.shift, micro) for hour, micro in values.items()]
                wire.push("consumption", area.meter, rows)
    return left


def flatten(wire: Wire, area: Area, boundaries: Collection[int], *, adds: bool, lag: float) -> list[Left]:
    """Bring a register that was probed to one level, so that its hours are 0. Its first boundary is the area's second hour.

    How high each boundary stands above the first is the sum of the hours between. Where nobody knows whether a second
    reading is added, the level is tried first: added to all of them, it changes no hour.
    """
    left: list[Left] = []
    for replaces in (*((not adds,) * 2), adds, None):
        wire.wait(patience(lag))
        now = wire.read(area.meter, area.since, area.until)[0]
        left = list(_left(area, now))
        if now is None or not left or replaces is None:
            break
        above = {hour: sum(now.get(each, 0) for each in range(area.since + 1, hour)) for hour in sorted(boundaries)}
        rows = [item(hour, LEVEL if replaces else -micro) for hour, micro in above.items() if micro or replaces]
        if rows:
            wire.push("cumulative", area.meter, rows)
    return left


def _left(area: Area, now: Mapping[int, int] | None) -> list[Left]:
    if now is None:
        return [Left(area.meter, f"{hour_start(area.since):%Y-%m-%d %H:%M}Z and after", None, 0)]
    return [
        Left(area.meter, f"{hour_start(hour):%Y-%m-%d %H:%M}Z", now.get(hour, 0), area.before.get(hour, 0))
        for hour in area.changed(now)
    ]
