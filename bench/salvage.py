"""How much of a damaged database is saved, and how fast: 200 meters, three months of hours (80 MB), pages overwritten with noise.

Prints one JSON object: for 10 and for 100 damaged pages the seconds, the share of hour rows that could be read, the share
of hours that are there afterwards with their right energy, and hours that are wrong or would be sent unlooked (must be 0).

    python bench/salvage.py [--meters 200] [--days 95] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from buffer import recovery
from buffer.files import is_whole
from buffer.model import HOUR_MS
from buffer.store import DATABASE, Connection, Store

PAGE = 4096
FIRST = 480_000  # an hour in 2024
WAITING = 6  # hours of each meter that are not sent yet


def fill(db: Connection, meters: int, hours: int, random: Random) -> None:
    """Months of a building: every hour of every meter closed, all but the newest accepted, one message per day."""
    numbers = range(1, meters + 1)
    sent = hours - WAITING
    db.executemany(
        "INSERT INTO meter (id, name, enerkey_id, unit, kind, push, source, configured, register, look_after)"
        " VALUES (?, ?, ?, 'kWh', 'counter', 'consumption', 'hall', 1, '1024', NULL)",
        [(meter, f"meter-{meter}", 10_000 + meter) for meter in numbers],
    )
    totals = {meter: random.randrange(10**9) for meter in numbers}
    db.executemany(
        "INSERT INTO counter_state (meter, opening_hour, opening, quality, tail_at, tail_total, raw, changed, offset)"
        " VALUES (?, ?, ?, 'measured', ?, 0, 0, ?, 0)",
        [(meter, FIRST, total, end := (FIRST + hours) * HOUR_MS, end) for meter, total in totals.items()],
    )
    for hour in range(hours):
        if hour % 24 == 0 and hour < sent:
            db.executemany(
                "INSERT INTO message (id, meter, family, enerkey_id, body, sha256, key_slot, boot_id, created_at, state, fate_at)"
                " VALUES (?, ?, 'consumption', 1, zeroblob(600), '', 0, '', 0, 'accepted', 0)",
                [(hour // 24 * meters + meter, meter) for meter in numbers],
            )
        energy = {meter: random.randrange(5 * 10**6) for meter in numbers}
        at = FIRST + hour
        totals = {meter: totals[meter] + energy[meter] for meter in numbers}
        state = "accepted" if hour < sent else "pending"
        db.executemany(
            "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at, state) VALUES (?, ?, ?, ?, 'measured', ?, ?)",
            [(meter, at, energy[meter], totals[meter], (at + 1) * HOUR_MS + 120_000, state) for meter in numbers],
        )
        if hour < sent:
            message = {meter: hour // 24 * meters + meter for meter in numbers}
            db.executemany(
                "INSERT INTO ledger (meter, hour, accepted, message, at) VALUES (?, ?, ?, ?, ?)",
                [(meter, at, energy[meter], message[meter], (at + 1) * HOUR_MS) for meter in numbers],
            )
            db.executemany(
                "INSERT INTO message_hour (message, meter, hour, value) VALUES (?, ?, ?, ?)",
                [(message[meter], meter, at, energy[meter]) for meter in numbers],
            )
    db.executemany(
        "UPDATE counter_state SET tail_total = ?1, raw = ?1 WHERE meter = ?2", [(t, m) for m, t in totals.items()]
    )


def damage(path: Path, pages: int, random: Random) -> None:
    """Overwrite pages with noise. The first one names the tables and is left."""
    count = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        for page in random.sample(range(1, count), pages):
            file.seek(page * PAGE)
            file.write(random.randbytes(PAGE))


def salvage(original: Path, pages: int, random: Random) -> dict[str, object]:
    """Damage a copy, open it, and compare."""
    with tempfile.TemporaryDirectory(dir=original.parent) as name:
        path = Path(name) / DATABASE
        shutil.copy(original, path)
        damage(path, pages, random)
        began = time.perf_counter()
        found_in = None if is_whole(path) else round(time.perf_counter() - began, 2)
        path.with_name(f"{DATABASE}.damaged").touch()
        began, cpu = time.perf_counter(), time.process_time()
        store = Store(path.parent, threaded=False, heal=recovery.opened)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        report = recovery.reports(path.parent)[-1]
        result = {
            "pages": pages,
            "found_s": found_in,
            "seconds": round(seconds, 1),
            "cpu_s": round(cpu, 1),
            **compared(store, original),
        }
        result["read_share"] = round(report["rows"]["hour"] / result["hours"], 5)
        result["missed"] = {table: count for table, count in report["missed"].items() if count}
        store.close()
        return result


def compared(store: Store, original: Path) -> dict[str, object]:
    """What is there afterwards, against what was."""

    def look(db: Connection) -> dict[str, object]:
        db.execute("ATTACH ? AS was", (f"file:{original}?mode=ro",))

        def one(query: str) -> int:
            return db.execute(query).fetchone()[0]

        both = "FROM was.hour AS before JOIN main.hour AS now USING (meter, hour)"
        hours = one("SELECT count(*) FROM was.hour")
        right = one(f"SELECT count(*) {both} WHERE before.consumption = now.consumption")
        return {
            "hours": hours,
            "there_share": round(one("SELECT count(*) FROM hour") / hours, 5),
            "right_share": round(right / hours, 5),
            "accepted_to_be_sent": one(
                f"SELECT count(*) {both} WHERE before.state = 'accepted' AND now.state = 'pending'"
            ),
            "pending_lost": one(f"SELECT count(*) {both} WHERE before.state = 'pending' AND now.state = 'accepted'"),
            "not_looked_at": one("SELECT count(*) FROM meter WHERE look_after IS NULL"),
            "chain_broken": one(
                "SELECT count(*) FROM (SELECT boundary - consumption AS began, lag(boundary) OVER w AS stood FROM hour"
                " WINDOW w AS (PARTITION BY meter ORDER BY hour)) WHERE began <> stood"
            ),
            "ledger_differs": one(
                "SELECT count(*) FROM was.ledger AS before JOIN main.ledger AS now USING (meter, hour)"
                " WHERE before.accepted <> now.accepted"
            ),
        }

    return store.write(look)


def main() -> None:
    """Build once, damage copies of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meters", type=int, default=200, help="in the database (default: %(default)s)")
    parser.add_argument("--days", type=int, default=95, help="of hours in it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the noise (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name), threaded=False)
        store.write(lambda db: fill(db, args.meters, args.days * 24, Random(args.seed)))
        store.close()
        original = Path(name) / DATABASE
        runs = [salvage(original, pages, Random(args.seed + pages)) for pages in (10, 100)]
        print(json.dumps({"megabytes": round(original.stat().st_size / 1e6, 1), "runs": runs}))


if __name__ == "__main__":
    main()
