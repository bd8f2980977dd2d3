"""Hours in doubt as people and scripts read them: why, both numbers, and what can be decided. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffer.deciding import numbers_of, shown
from buffer.model import from_ms, hour_start

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buffer.doubts import Doubt

WHY = {
    "sent": "sent, fits to neither outcome",
    "unread": "sent, not read whether it arrived",
    "before": "found when it was to be corrected",
    "foreign": "filled by somebody else",
    "audit": "changed after it was accepted",
    "refused": "refused by EnerKey",
    "unnoted": "held before reasons were noted",
    "sums": "does not add up to the boundaries",
}
OPTIONS = {
    "accept": "EnerKey has it: its number stands",
    "resend": "EnerKey does not have it: send it",
    "correct": "ours is right: post the difference",
    "drop": "never send it",
}


def why(doubt: Doubt) -> str:
    """The key of `WHY`."""
    return "unread" if doubt.why == "sent" and doubt.seen_at is None else doubt.why


def told(doubt: Doubt) -> str:
    """Why and both numbers, in one sentence."""
    why_told = "" if doubt.why == "refused" else WHY[why(doubt)]  # its numbers say it again
    return "; ".join(words for words in (why_told, numbers_of(doubt)) if words)


def row(doubt: Doubt) -> dict[str, Any]:
    """One hour for a JSON document."""
    return {
        "hour": option(doubt.hour),
        "why": why(doubt),
        "ours": shown(doubt.expected),
        "accepted": None if doubt.accepted is None else shown(doubt.accepted),
        "sent": shown(doubt.value) if doubt.why in {"sent", "refused"} else None,
        "shown": None if doubt.shown is None else shown(doubt.shown),
        "seen_at": None if doubt.seen_at is None else from_ms(doubt.seen_at).isoformat(),
        "words": doubt.words,
    }


def option(hour: int) -> str:
    """An hour as it is written on the command line."""
    return f"{hour_start(hour):%Y-%m-%dT%H:%MZ}"


def ranges(hours: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted hours as runs (first, last)."""
    found: list[tuple[int, int]] = []
    for hour in hours:
        if found and found[-1][1] + 1 == hour:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    return found


def decisions(held: Sequence[Doubt], *, cumulative: bool) -> list[str]:
    """What can be decided of these hours, one option each."""
    kinds = {doubt.why for doubt in held}
    if cumulative and kinds == {"foreign"}:
        return ["resend"]
    found = ["resend"] if kinds == {"sums"} else ["accept", "resend"]
    if any(doubt.seen_at is not None for doubt in held):
        found.append("correct")
    if not cumulative and kinds != {"audit"}:
        found.append("drop")
    return found
