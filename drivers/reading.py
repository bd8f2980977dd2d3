"""What a source said: the only types that leave the drivers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple


class Reading(NamedTuple):
    """What a source said at an instant; nothing inferred.

    `source` is the id that the wiring gave the source. `value` is finite and in `unit` as the source
    counts it (scale applied, no conversion to the meter's unit). `at` is aware UTC; `stamped` says whether the
    source itself gave that time (else it is the moment the answer or message arrived).
    """

    source: str
    at: datetime
    value: Decimal
    unit: str
    stamped: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that arrived and is not a reading; kept (bounded) so that a person can see why.

    `source` is None when the message fits no source. `reason` is a short, stable phrase that can be counted
    ("not a number", "timestamp in the future"); `detail` the particular case; `payload` what arrived, printable and
    cut to 500 characters, never a secret.
    """

    source: str | None
    at: datetime
    reason: str
    detail: str = ""
    payload: str = ""
