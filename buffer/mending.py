"""What salvaged rows mean: hours that a lost page has taken are drawn anew between their neighbours, without inventing energy.

The boundaries of a meter's hours are a chain: each hour begins where the one before it ended (R7). So the energy of lost
hours is known from what stands on both sides of them, and a row whose numbers were changed on the disk breaks the chain.
What EnerKey accepted of a lost hour, or a message of unknown fate carries, says how much of that energy was its own; the
rest is spread evenly. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from buffer.model import Quality


class Edge(NamedTuple):
    """A boundary that is known: at the beginning of `hour` the total was `value`; the quality of the hour beside it."""

    hour: int
    value: int
    quality: Quality


class Redrawn(NamedTuple):
    """An hour that was lost: its energy, and the boundary at its end."""

    hour: int
    consumption: int
    boundary: int
    quality: Quality


def between(left: Edge, right: Edge, known: Mapping[int, int]) -> list[Redrawn]:
    """The lost hours between two known boundaries; `known`: what some of them are known to have been.

    They add up to the difference of the boundaries, exactly. They are `estimated`, or `missing` where their neighbours
    are and there is no energy to say otherwise: then 0 would be an invention.
    """
    lost = range(left.hour, right.hour)
    own = {hour: known[hour] for hour in lost if hour in known}
    energy = right.value - left.value
    if energy >= 0 and energy < sum(own.values()) and len(own) < len(lost):
        own = {}  # the others would have to give energy back
    open_hours = [hour for hour in lost if hour not in own]
    shares = _spread(energy - sum(own.values()), open_hours or [lost[-1]])
    nothing = not any(shares.values()) and "missing" in (left.quality, right.quality)
    redrawn, total = [], left.value
    for hour in lost:
        consumption = own.get(hour, 0) + shares.get(hour, 0)
        total += consumption
        quality: Quality = "missing" if nothing and hour not in own else "estimated"
        redrawn.append(Redrawn(hour, consumption, total, quality))
    return redrawn


def after(left: Edge, known: Mapping[int, int]) -> list[Redrawn]:
    """The hours behind the newest one that are known without a gap."""
    redrawn, hour, total = [], left.hour, left.value
    while hour in known:
        total += known[hour]
        redrawn.append(Redrawn(hour, known[hour], total, "estimated"))
        hour += 1
    return redrawn


def altered(breaks: Collection[int]) -> list[int]:
    """The hours whose own numbers are wrong, from those that do not begin where the hour before them ended.

    A changed consumption breaks the chain once, at its own hour; a changed boundary there and at the next one.
    """
    found: list[int] = []
    for run in _runs(sorted(breaks)):
        found += run if len(run) == 1 else run[:-1]
    return found


def _runs(hours: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for hour in hours:
        if runs and hour == runs[-1][-1] + 1:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return runs


def _spread(energy: int, hours: Sequence[int]) -> dict[int, int]:
    """Evenly, as whole numbers that add up."""
    ends = [energy * count // len(hours) for count in range(len(hours) + 1)]
    return {hour: ends[number + 1] - ends[number] for number, hour in enumerate(hours)}
