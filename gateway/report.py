"""What `status` says: facts from the buffer and the running service, gathered into one document, and the problems in it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from buffer import overview
from buffer.lock import holder
from buffer.model import from_micro, from_ms, hour_start
from buffer.store import DATABASE, LOCK, Connection, Unreadable, read_only
from gateway.control import ask
from gateway.errors import DatabaseFailure

EVENTS_SHOWN = 20


def gather(directory: Path) -> dict[str, Any]:
    """The whole status document; `service` is None when nothing runs. Raises DatabaseFailure when there is no readable buffer."""
    held_by = holder(directory / LOCK)
    live = ask(Path(held_by["socket"]), {"want": "status"}) if held_by and "socket" in held_by else None
    try:
        with read_only(directory / DATABASE) as db:
            stored = _stored(db)
    except Unreadable as error:
        raise DatabaseFailure(f"{directory / DATABASE}: {error}; has the gateway ever run with this data_dir?") from None
    report = {"service": _service(held_by, live), **stored}
    report["connections"] = live["connections"] if live else {}
    report["delivery"] = (live["delivery"] if live else None) or {}
    report["problems"] = problems(report)
    return report


def problems(report: dict[str, Any]) -> list[str]:
    """What a person should look at, each with the next step."""
    found = [] if report["service"] else ["the service does not run: systemctl status meter-gateway"]
    service = report["service"] or {}
    if service and not service.get("answers"):
        found.append(f"process {service['pid']} holds the data but does not answer: look at its log")
    if service.get("clock") and not service["clock"]["trusted"]:
        found.append('the clock is not trusted, so no hour is closed: check NTP, or set [clock] trust = "always" on a VM')
    found += [f"no tick from {name}: look at the log" for name in service.get("late", [])]
    for name, health in report["connections"].items():
        if health["state"] == "trouble":
            found.append(f"connection {name}: {health['detail']}")
        found += [f"connection {name}, {device}: {text}" for device, text in health["devices"].items() if text != "ok"]
    for meter in report["meters"]:
        if meter["held"]:
            found.append(f"{meter['name']}: {meter['held']} h held for a decision: meter-gateway hours {meter['name']}")
        if meter["last_reading"] is None:
            found.append(f"{meter['name']}: no reading yet: meter-gateway read {meter['name']}")
    return found + _delivery_problems(report["delivery"])


def _delivery_problems(delivery: dict[str, Any]) -> list[str]:
    found = ["EnerKey cannot be reached; hours wait in the buffer"] if delivery.get("outage") else []
    for key in delivery.get("keys", []):
        if key["refused_for"]:
            found.append(f"EnerKey refuses API key {key['key']} for {', '.join(key['refused_for'])}: renew it")
    return found + [f"{name}: EnerKey does not know this meter: check its enerkey_id" for name in delivery.get("parked", [])]


def _service(held_by: dict[str, Any] | None, live: dict[str, Any] | None) -> dict[str, Any] | None:
    if held_by is None:
        return None
    known = {"pid": held_by.get("pid"), "command": held_by.get("command"), "answers": live is not None}
    return known | ({key: live[key] for key in ("version", "name", "now", "clock", "workers", "late")} if live else {})


def _stored(db: Connection) -> dict[str, Any]:
    return {
        "meters": [_meter(meter) for meter in overview.meters(db)],
        "rejected": [view._asdict() | {"last_at": _time(view.last_at)} for view in overview.rejected(db)],
        "unplaced": overview.unplaced(db),
        "events": [view._asdict() | {"at": _time(view.at)} for view in overview.events(db, EVENTS_SHOWN)],
    }


def _meter(meter: overview.MeterOverview) -> dict[str, Any]:
    reading = None
    if meter.last_at is not None and meter.last_value is not None:
        reading = {"at": _time(meter.last_at), "value": str(from_micro(meter.last_value).normalize())}
    return {
        "name": meter.name,
        "unit": meter.unit,
        "kind": meter.kind,
        "push": meter.push,
        "source": meter.source,
        "last_reading": reading,
        "last_closed": _hour(meter.last_hour),
        "last_accepted": _hour(meter.last_accepted),
        "pending": meter.pending,
        "held": meter.held,
        "unknown": meter.unknown,
    }


def _time(ms: int) -> str:
    return from_ms(ms).isoformat()


def _hour(hour: int | None) -> str | None:
    return None if hour is None else hour_start(hour).isoformat()


def age(at: str, now: datetime) -> float:
    """Seconds since an instant of the document."""
    return (now - datetime.fromisoformat(at)).total_seconds()
