"""From the draft of one meter to the meter: what its source gives, how that becomes the meter's unit, how often to expect it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, cast

from pydantic import BaseModel

from drivers import registry
from drivers.fields import Kind, SourceBase
from drivers.registry import SourceFacts
from gateway import units
from gateway.drafting import MeterDraft
from gateway.faults import Findings
from gateway.validating import Checked

SHORTEST_MAX_GAP = 60.0  # s
GAP_POLLS = 3  # power is integrated over silences of up to three expected readings

_RATE_PLACES = Decimal(1).scaleb(-6)


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter ready to be collected.

    A reading in `reading_unit` x `factor` is in `unit` (kind power: in `unit` per hour). `expected_every`, `max_gap` and `period` are
    seconds; `max_rate` is in `unit` per hour; `where` says for people what is read on the connection.
    """

    name: str
    enerkey_id: int | None
    push: Literal["consumption", "cumulative", "off"]
    unit: str
    max_rate: Decimal | None
    start_value: Decimal
    source: SourceBase
    kind: Kind
    reading_unit: str
    factor: Fraction
    expected_every: float
    max_gap: float
    period: float | None
    stamp: Literal["start", "end"] | None
    where: str


def resolve(draft: MeterDraft, findings: Findings, *, driver_content: bool) -> Meter | None:
    """The meter; None where a fault stands in the way (reported here or before). `driver_content`: its driver found no fault."""
    section, source = draft.section.value, draft.source
    if section is not None:
        _check_unit(draft.section, findings)
    if section is None or source is None or source.value is None:
        return None
    described = driver_content and draft.connection is not None and draft.connection.driver is not None
    facts = _described(draft, source.value) if described else _as_written(source.value)
    if described or source.value.kind:
        _check_kind(source, facts.kind, findings)
    factor = _factor(draft, facts, findings) if described or facts.unit else None
    if not described or factor is None or facts.unit is None:
        return None
    return _meter(draft, facts, facts.unit, factor)


def _described(draft: MeterDraft, source: SourceBase) -> SourceFacts:
    if draft.connection is None or draft.connection.driver is None:
        raise AssertionError("asked only where the driver is known")
    return registry.config_of(draft.connection.driver).describe(source)


def _as_written(source: SourceBase) -> SourceFacts:
    return SourceFacts(source.unit, source.kind or "counter", "")


def _check_unit(section: Checked[BaseModel] | Checked, findings: Findings) -> None:  # type: ignore[type-arg]
    unit = section.written(("unit",))
    if isinstance(unit, str) and unit not in units.AMOUNTS:
        listed = ", ".join(units.allowed("counter"))
        section.add(findings, ("unit",), f"unknown unit; there are: {listed}", units.nearest(unit, "counter") or "")
