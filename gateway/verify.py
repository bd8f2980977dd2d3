"""What a read-back proves, hour by hour: a pure comparison of three numbers (reliability 3.1, rule 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Verdict = Literal["accepted", "pending", "held"]


def read_back(
    sent: Mapping[int, int], ledger: Mapping[int, int], server: Mapping[int, int], *, tolerance: int, replaces: bool = False
) -> dict[int, Verdict]:
    """For each hour of an unknown message: accepted, pending again (proved not applied), or held for a person.

    All values in micro; `server` has no entry for an hour that EnerKey does not know. `tolerance` is what rounding may change. An
    hour too small to decide by its value counts as applied when EnerKey knows the hour and did not before, and otherwise
    follows its neighbours.
    """
    verdicts: dict[int, Verdict] = {}
    undecided: list[int] = []
    for hour, value in sent.items():
        before = 0 if replaces else ledger.get(hour, 0)
        found = server.get(hour)
        if abs(value) <= 2 * tolerance and hour in ledger:
            undecided.append(hour)
        elif found is None:
            verdicts[hour] = "held" if hour in ledger else "pending"
        elif abs(found - (before + value)) <= tolerance:
            verdicts[hour] = "accepted"
        else:
            verdicts[hour] = "pending" if abs(found - ledger.get(hour, 0)) <= tolerance else "held"
    lean: Verdict = "pending" if "pending" in verdicts.values() and "accepted" not in verdicts.values() else "accepted"
    return verdicts | dict.fromkeys(undecided, lean)
