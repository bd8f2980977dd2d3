"""What `status` says: facts from the buffer and the running service in one document, and the problems in it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buffer import overview, recovery
from buffer.lock import holder
from buffer.model import from_micro, from_ms, hour_start
from buffer.store import DATABASE, LOCK, Unreadable, read_only
from gateway.control import ask
from gateway.errors import DatabaseFailure, NotPermitted, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buffer.store import Connection

EVENTS_SHOWN = 20
NOT_YET = ("not read yet", "nothing heard yet")  # how drivers begin; said of the meter, if at all
EVENTS_SEARCHED = 1000  # for the words behind a meter's trouble


def gather(directory: Path) -> dict[str, Any]:
    """The whole status document; `service` is None when nothing runs. Raises Unreachable before the first run."""
    held_by = holder_of(directory)
    live = ask(Path(held_by["socket"]), {"want": "status"}) if held_by and "socket" in held_by else None
    report = {"service": _service(held_by, live), **_stored_in(directory)}
    report["connections"] = live["connections"] if live else {}
    report["salvaged"] = recovery.reports(directory)
    report["delivery"] = (live["delivery"] if live else None) or {}
    report["problems"] = list(problems(report))
    return report


def holder_of(directory: Path) -> dict[str, Any] | None:
    """Who runs with this data directory, None when nobody does. Raises NotPermitted when this user may not see that."""
    lock = directory / LOCK
    try:
        lock.open("rb").close()
    except PermissionError:
        raise _not_permitted(lock) from None
    except OSError:
        return None
    return holder(lock)


@contextmanager
def stored(directory: Path) -> Iterator[Connection]:
    """The database for one look. Raises Unreachable before the first run, NotPermitted, or DatabaseFailure."""
    path = directory / DATABASE
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise Unreachable(f"no gateway has run with {directory} yet: systemctl start meter-gateway") from None
    except PermissionError:
        raise _not_permitted(path) from None
    except OSError as error:
        raise DatabaseFailure(f"{path}: {error.strerror}") from None
    try:
        with read_only(path) as db:
            yield db
    except Unreadable as error:
        raise DatabaseFailure(f"{path}: {error}") from None


def _not_permitted(path: Path) -> NotPermitted:
    return NotPermitted(f"{path}: permission denied; try again with sudo, or as the user that the gateway runs as")


def problems(report: dict[str, Any]) -> Iterator[str]:
    """What a person should look at, each cause once and with the next step."""
    yield from _service_problems(report["service"])
    for each in report.get("salvaged", []):
        yield f"{each['text']}. This line goes with the directory: meter-gateway buffer check, then remove {each['directory']}"
    silent = set()  # connections without any answer: that their meters have no reading follows
    for name, health in report["connections"].items():
        yield from _connection_problems(name, health)
        if health["state"] == "trouble" and "ok" not in health["devices"].values():
            silent.add(name)
    for meter in report["meters"]:
        explained = report["service"] is None or meter["connection"] in silent
        yield from _meter_problems(meter, explained=explained)
    yield from _delivery_problems(report["delivery"])


def _connection_problems(name: str, health: dict[str, Any]) -> Iterator[str]:
    if health["state"] == "trouble":
        yield f"connection {name}: {health['detail']}"
    for device, said in health["devices"].items():
        if said != "ok" and not said.startswith(NOT_YET) and said not in health["detail"]:
            yield f"connection {name}, {device}: {said}"


def _service_problems(service: dict[str, Any] | None) -> Iterator[str]:
    if service is None:
        yield "the service does not run: systemctl status meter-gateway"
        return
    if not service["answers"]:
        yield f"process {service['pid']} holds the data but does not answer: look at its log"
        return
    if not service["clock"]["trusted"]:
        yield 'the clock is not trusted, so no hour is closed: check NTP, or set [clock] trust = "always" on a VM'
    yield from (f"no tick from {name}: look at the log" for name in service["late"])


def _meter_problems(meter: dict[str, Any], *, explained: bool) -> Iterator[str]:
    name = meter["name"]
    if meter["last_reading"] is None and not explained:
        yield f"{name}: no reading yet: meter-gateway read {name}"
    if meter["held"]:
        said = f" ({meter['trouble']})" if meter["trouble"] else ""
        yield f"{name}: {meter['held']} h held for a decision{said}: meter-gateway hours {name}"
    elif meter["alarm"]:
        yield f"{name}: {meter['alarm']}"
    if meter["parked"]:
        yield f"{name}: {meter['parked']} {meter['unit']} are parked: meter-gateway meter book {name}, or drop"


def _delivery_problems(delivery: dict[str, Any]) -> Iterator[str]:
    if delivery.get("outage"):
        yield "EnerKey cannot be reached; hours wait in the buffer"
    if delivery.get("doubtful"):
        yield "EnerKey does not answer as it should; what became of messages is read back, the rest waits"
    if delivery.get("limited"):
        yield "EnerKey takes no more requests for now (rate limit); hours wait in the buffer"
    for key in delivery.get("keys", []):
        if key["refused_for"]:
            yield f"EnerKey refuses API key {key['key']} for {', '.join(key['refused_for'])}: renew it"
    for name in delivery.get("parked", []):
        yield f"{name}: EnerKey does not take this meter: check its enerkey_id"


def _service(held_by: dict[str, Any] | None, live: dict[str, Any] | None) -> dict[str, Any] | None:
    if held_by is None:
        return None
    known = {"pid": held_by.get("pid"), "command": held_by.get("command"), "answers": live is not None}
    return known | ({key: live[key] for key in ("version", "name", "now", "clock", "workers", "late")} if live else {})


def _stored_in(directory: Path) -> dict[str, Any]:
    with stored(directory) as db:
        return _stored(db)


def _stored(db: Connection) -> dict[str, Any]:
    events = overview.events(db, EVENTS_SEARCHED)
    trouble = {event.subject: event.text for event in reversed(events) if event.level != "info"}
    alarms = _alarms(events)
    meters = [_meter(meter, trouble.get(meter.name)) for meter in overview.meters(db)]
    return {
        "meters": [meter | {"alarm": alarms.get(meter["name"])} for meter in meters],
        "rejected": [view._asdict() | {"last_at": _time(view.last_at)} for view in overview.rejected(db)],
        "unplaced": overview.unplaced(db),
        "events": [view._asdict() | {"at": _time(view.at)} for view in events[:EVENTS_SHOWN]],
    }


def _alarms(events: Sequence[overview.EventView]) -> dict[str, str]:
    """Each subject's newest error, until somebody has said something about it: that is an event of level info."""
    found: dict[str, str] = {}
    for event in events:
        if event.level != "warning":
            found.setdefault(event.subject, event.text if event.level == "error" else "")
    return {subject: text for subject, text in found.items() if text}


def _meter(meter: overview.MeterOverview, trouble: str | None) -> dict[str, Any]:
    reading = None
    if meter.last_at is not None and meter.last_value is not None:
        reading = {"at": _time(meter.last_at), "value": f"{from_micro(meter.last_value).normalize():f}"}
    return {
        "name": meter.name,
        "unit": meter.unit,
        "kind": meter.kind,
        "push": meter.push,
        "connection": meter.source.partition(":")[0],
        "source": meter.source,
        "last_reading": reading,
        "last_closed": _hour(meter.last_hour),
        "last_accepted": _hour(meter.last_accepted),
        "pending": meter.pending,
        "held": meter.held,
        "unknown": meter.unknown,
        "parked": f"{from_micro(meter.parked).normalize():f}" if meter.parked else None,
        "trouble": trouble,
    }


def _time(ms: int) -> str:
    return from_ms(ms).isoformat()


def _hour(hour: int | None) -> str | None:
    return None if hour is None else hour_start(hour).isoformat()


def age(at: str, now: datetime) -> float:
    """Seconds since an instant of the document."""
    return (now - datetime.fromisoformat(at)).total_seconds()
