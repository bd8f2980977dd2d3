"""What a read-back proves, hour by hour: a pure comparison of three numbers (reliability 3.1, rule 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Verdict = Literal["accepted", "pending", "held"]


def read_back(
    sent: Mapping[int, int],
    ledger: Mapping[int, int],
    server: Mapping[int, int],
    *,
    tolerance: int,
) -> dict[int, Verdict]:
    """For each hour of an unknown message: accepted, pending again (proved not applied), or held for a person.

    `sent` is what the message adds to each hour, whether EnerKey sums or replaces.
    All values in micro; `server` has no entry for an hour that EnerKey does not know; `tolerance` is what rounding may
    change. An hour whose two possible outcomes are closer together than two tolerances cannot be decided by its value:
    it follows the majority of the message, whose error that bounds.
    """
    verdicts: dict[int, Verdict] = {}
    undecided: list[int] = []
    for hour, value in sent.items():
        before = ledger.get(hour, 0)
        after = before + value
        found = server.get(hour, 0)
        if abs(found - before) > tolerance and abs(found - after) > tolerance:
            verdicts[hour] = "held"
        elif abs(after - before) <= 2 * tolerance:
            undecided.append(hour)
        else:
            verdicts[hour] = "accepted" if abs(found - after) <= tolerance else "pending"
    return verdicts | {hour: _majority(verdicts) or _presence(hour, server) for hour in undecided}


def audit(ledger: Mapping[int, int], server: Mapping[int, int], tolerance: int) -> list[int]:
    """The hours of which EnerKey does not show what it has accepted."""
    return [hour for hour, accepted in ledger.items() if abs(server.get(hour, 0) - accepted) > tolerance]


def _majority(decided: Mapping[int, Verdict]) -> Verdict | None:
    verdicts = list(decided.values())
    accepted, pending = verdicts.count("accepted"), verdicts.count("pending")
    if accepted == pending == 0:
        return None
    return "accepted" if accepted >= pending else "pending"


def _presence(hour: int, server: Mapping[int, int]) -> Verdict:
    """Of hours without weight only: one that EnerKey does not know cannot have been applied."""
    return "accepted" if hour in server else "pending"
