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
    change. An hour whose two possible outcomes are closer together than two tolerances cannot be decided for sure. One
    that EnerKey or the ledger knows goes by the nearer of them: a small correction that follows its message instead would
    leave the ledger wrong, and the next correction in doubt. Any other, which a server may well not list, follows the
    majority of the message. Either way two tolerances bound the error.
    """
    verdicts: dict[int, Verdict] = {}
    small: dict[int, Verdict | None] = {}
    for hour, value in sent.items():
        before = ledger.get(hour, 0)
        after = before + value
        found = server.get(hour, 0)
        if abs(found - before) > tolerance and abs(found - after) > tolerance:
            verdicts[hour] = "held"
        elif abs(after - before) <= 2 * tolerance:
            known = hour in ledger or hour in server
            small[hour] = _nearer(abs(found - before), abs(found - after)) if known else None
        else:
            verdicts[hour] = "accepted" if abs(found - after) <= tolerance else "pending"
    return verdicts | {hour: near or _majority(verdicts) or _presence(hour, server) for hour, near in small.items()}


def audit(ledger: Mapping[int, int], server: Mapping[int, int], tolerance: int) -> list[int]:
    """The hours of which EnerKey does not show what it has accepted."""
    return [hour for hour, accepted in ledger.items() if abs(server.get(hour, 0) - accepted) > tolerance]


def _nearer(from_before: int, from_after: int) -> Verdict | None:
    if from_before == from_after:
        return None
    return "accepted" if from_after < from_before else "pending"


def _majority(decided: Mapping[int, Verdict]) -> Verdict | None:
    verdicts = list(decided.values())
    accepted, pending = verdicts.count("accepted"), verdicts.count("pending")
    if accepted == pending == 0:
        return None
    return "accepted" if accepted >= pending else "pending"


def _presence(hour: int, server: Mapping[int, int]) -> Verdict:
    """Of hours without weight only: one that EnerKey does not know cannot have been applied."""
    return "accepted" if hour in server else "pending"
