"""Boundaries that EnerKey has and this database does not know: none is sent a second time, none that falls (R19).

A database that has forgotten what it sent, or is new beside an EnerKey that was fed before, reads hours; an hour that EnerKey
derives ends with a boundary that it has. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.verify import Verdict

REACH_BACK = 744  # h before the first hour to be sent in which boundaries of somebody else's are looked for


def derived(server: Mapping[int, int], since: int) -> dict[int, int]:
    """What EnerKey shows, from the hour `since` on, without the zeros of a server that lists hours it knows nothing of."""
    if server.get(since) != 0:
        return dict(server)
    weighty = [hour for hour, value in server.items() if value]
    return {hour: value for hour, value in server.items() if weighty and min(weighty) <= hour <= max(weighty)}


def doubted(
    verdicts: Mapping[int, Verdict],
    ledger: Mapping[int, int],
    server: Mapping[int, int],
    *,
    counter: bool,
    begun: bool,
) -> dict[int, Verdict]:
    """The verdicts about a cumulative meter's hours, once more with what EnerKey shows (`derived`) before and after each.

    `server` and `ledger` reach back before these hours. Held is an hour that EnerKey derives otherwise, even as 0; and the
    first one to be sent, when the boundary at its beginning would be a second one, or when it would continue a series
    whose level nobody knows. A `counter` goes on by itself; a total that runs in this database does not, unless its
    boundaries were sent from here (`begun`) and all that EnerKey has since is known. An hour without weight that lies
    behind everything that EnerKey shows has no boundary there yet.
    """
    decided = dict(verdicts)
    unknown = {hour for hour in verdicts if hour not in ledger}
    for hour in unknown:
        if verdicts[hour] == "pending" and hour in server:
            decided[hour] = "held"
        if verdicts[hour] == "accepted" and hour > max(server, default=hour):
            decided[hour] = "pending"
    waiting = [hour for hour in decided if decided[hour] == "pending"]
    if waiting:
        first = min(waiting)
        since = (
            min(ledger, default=first) if begun else min(server, default=first)
        )  # what is older is not of this series
        strange = [
            each for each in server if since <= each < first and each not in ledger and decided.get(each) != "accepted"
        ]
        if first - 1 in strange or (strange and not counter) or unbased(server, counter=counter, begun=begun):
            decided[first] = "held"
    return decided


def unbased(server: Mapping[int, int], *, counter: bool, begun: bool) -> bool:
    """Whether a meter's total runs in this database from another level than at EnerKey."""
    return not counter and not begun and bool(server)
