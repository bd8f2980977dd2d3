"""What a life came to, for people; the last line for machines as well."""

from __future__ import annotations

from collections.abc import Mapping

from tests.torture.life import Figures

SHOWN = 20  # of what is wrong


def told(figures: Figures) -> str:
    """Several lines; the last one counts."""
    requests, needed = figures.requests.total(), figures.messages["accepted"] + figures.applied
    reads = figures.requests["GET"]
    found = [*figures.problems, *figures.wrong]
    lines = [
        f"{len(found)} things are wrong:" if found else "",
        *(f"  {each}" for each in found[:SHOWN]),
        f"{figures.kills.total()} SIGKILLs: {_list(figures.kills)}",
        f"the file was looked at {figures.checks} times after a kill, and for the intents of {figures.intents} pushes on the wire",
        f"{figures.faults.total()} faults: {_list(figures.faults)}",
        f"{requests} requests: {figures.requests['POST']} pushes and {reads} reads",
        f"messages: {_list(figures.messages)}",
        f"{needed} messages brought something; extra requests: {requests - needed} ({(requests - needed) / max(needed, 1):.0%})",
        f"hours whose fate was unknown: {_list(figures.unknown)}",
        f"{figures.adjustments} adjustments of late energy; polled hours at most {figures.polled_off:.1%} off their load",
        f"{figures.seconds:.0f} s",
        f"torture: {figures.hours} meter-hours, {figures.count_wrong} wrong",
    ]
    return "\n".join(line for line in lines if line)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items())) or "none"
