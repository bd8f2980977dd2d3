"""What EnerKey has beside what the simulated meters really measured. Pure: EnerKey's hours are given to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.simulator.building import SimulatedMeter

TOLERANCE = 100  # an hour is wrong when it is off by more than a hundredth of the truth


class Row(NamedTuple):
    """One meter-hour that EnerKey has. `hour` since the epoch; values in micro of the meter's unit."""

    meter: SimulatedMeter
    hour: int
    accepted: int
    truth: int

    @property
    def wrong(self) -> bool:
        """Whether it is off by more than 1 %: also when it was booked twice, or in another hour."""
        return abs(self.accepted - self.truth) * TOLERANCE > self.truth


class Comparison:
    """Follows the hours of all meters, each from the first one that EnerKey has of it, and not beyond a hole."""

    def __init__(self, meters: Sequence[SimulatedMeter], most: int | None = None) -> None:
        """`most` hours of each meter are looked at; None: all of them."""
        self._meters = meters
        self._most = most
        self._shown: dict[int, int] = {meter.enerkey_id: 0 for meter in meters}

    def news(self, hourly: Callable[[int], Mapping[int, int]]) -> list[Row]:
        """What EnerKey has got since the last call, in order of time. `hourly(enerkey_id)` gives a meter's hours."""
        found: list[Row] = []
        for meter in self._meters:
            rows = self._rows(meter, hourly(meter.enerkey_id))
            found += rows[self._shown[meter.enerkey_id] :]
            self._shown[meter.enerkey_id] = max(len(rows), self._shown[meter.enerkey_id])
        return sorted(found, key=lambda row: row.hour)

    def all(self, hourly: Callable[[int], Mapping[int, int]]) -> list[Row]:
        """Every hour as EnerKey has it now: one that was right when it came may have changed since."""
        return [row for meter in self._meters for row in self._rows(meter, hourly(meter.enerkey_id))]

    @property
    def missing(self) -> dict[str, int]:
        """How many hours each meter still lacks; empty when it is over, or never ends."""
        if self._most is None:
            return {}
        lacking = {meter.name: self._most - self._shown[meter.enerkey_id] for meter in self._meters}
        return {name: hours for name, hours in lacking.items() if hours > 0}

    def _rows(self, meter: SimulatedMeter, hours: Mapping[int, int]) -> list[Row]:
        first = min(hours, default=0)
        rows: list[Row] = []
        for hour in range(first, first + (len(hours) if self._most is None else self._most)):
            if hour not in hours:
                break
            rows.append(Row(meter, hour, hours[hour], meter.truth(hour)))
        return rows
