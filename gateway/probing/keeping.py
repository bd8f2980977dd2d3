"""What a probe asks of the buffer: requests of the day's budget before it sends any (R22), and room for its findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffer import findings, journal
from buffer.findings import Finding

if TYPE_CHECKING:
    from buffer.store import Connection


def keep(db: Connection, asked: dict[str, Any], share: int, now_ms: int) -> dict[str, Any]:
    """Do it: `{"spend": 150}` or `{"findings": [[name, value, words, api], ...]}`. `{"refused": words}` where it cannot be."""
    if "spend" in asked:
        wanted, spent = int(asked["spend"]), journal.spent(db, now_ms)
        if spent + wanted > share:
            return {
                "refused": f"{spent} of the day's {share} requests are used and up to {wanted} are needed: try again later"
            }
        journal.spend(db, now_ms, requests=wanted)
        return {"done": wanted}
    rows = [
        Finding(str(name), str(value), str(words), str(api), now_ms) for name, value, words, api in asked["findings"]
    ]
    findings.record(db, rows)
    return {"done": len(rows)}
