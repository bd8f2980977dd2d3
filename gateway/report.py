"""What `status` says: facts from the buffer and the running service in one document, and the problems in it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buffer import findings, key_use, overview, recovery, retention, room
from buffer.deciding import numbers_of, shown
from buffer.lock import holder
from buffer.model import from_micro, from_ms, hour_start
from buffer.store import DATABASE, LOCK, Unreadable, read_only
from gateway.clock import SystemClock
from gateway.control import ask
from gateway.errors import DatabaseFailure, NotPermitted, Unreachable
from gateway.keys import expiry
from gateway.machine import STRANGER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buffer.store import Connection

EVENTS_SHOWN = 20
LONG_UNKNOWN = 86_400.0  # s; a person should hear of a message whose fate is unknown for longer (reliability 3.1)
FULL_SOON = 30  # days
NOT_YET = ("not read yet", "nothing heard yet")  # how drivers begin; said of the meter, if at all
FEW = 3  # meters that are told one by one, though their connection explains them
EVENTS_SEARCHED = 1000  # for the words behind a meter's trouble


def gather(directory: Path) -> dict[str, Any]:
    """The whole status document; `service` is None when nothing runs. Raises Unreachable before the first run."""
    held_by = holder_of(directory)
    live = ask(Path(held_by["socket"]), {"want": "status"}) if held_by and "socket" in held_by else None
    try:
        found = _stored_in(directory, live)
    except DatabaseFailure as error:
        raise DatabaseFailure("; ".join([str(error), *_disk_problems(directory, live or {})])) from None
    report = {"service": _service(held_by, live), **found}
    report["buffer"] = _buffer(directory, live or {})
    report["connections"] = live["connections"] if live else {}
    report["contradictions"] = (live.get("contradictions") if live else None) or []
    report["salvaged"] = recovery.reports(directory)
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


def waiting(report: dict[str, Any]) -> dict[str, list[str]]:
    """Meters that wait for a connection which has brought nothing yet, by connection: it explains all that is to be said of them.

    Only where that is more than a few meters, and only those that have nothing of their own to show.
    """
    found: dict[str, list[str]] = {}
    for meter in report["meters"]:
        health = report["connections"].get(meter["connection"])
        own = [meter[fact] for fact in ("last_reading", "last_accepted", "pending", "unknown", "held")]
        if health and "ok" not in {health["state"], *health["devices"].values()} and not any(own):
            found.setdefault(meter["connection"], []).append(meter["meter"])
    return {connection: meters for connection, meters in found.items() if len(meters) > FEW}


def problems(report: dict[str, Any], *, together: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
    """What a person should look at, each cause once and with the next step.

    `together`, as `waiting` has it: what these meters and the devices of their connections have in common is said once.
    """
    together = together or {}
    yield from _service_problems(report["service"])
    if report["stranger"]:
        yield STRANGER[report["stranger"]]
    for each in report.get("salvaged", []):
        yield f"{each['text']}. This line goes with the directory: meter-gateway buffer check, then remove {each['directory']}"
    silent = set()  # connections without any answer: that their meters have no reading follows
    for name, health in report["connections"].items():
        if name in together:
            yield from _common_problems(name, health, len(together[name]))
        else:
            yield from _connection_problems(name, health)
        if health["state"] == "trouble" and "ok" not in health["devices"].values():
            silent.add(name)
    for meter in report["meters"]:
        connection = meter["connection"]
        known = connection in silent or meter["meter"] in together.get(connection, ())
        known = known or _device_fails(meter, report["connections"].get(connection))
        explained = report["service"] is None or known or report.get("unplaced", 0) > 0  # they wait for a trusted clock
        yield from _meter_problems(meter, explained=explained)
        yield from _doubt_problems(meter, _now_of(report["service"]))
    service = report["service"]
    today = datetime.fromisoformat(service["now"]).date() if service and "now" in service else None
    yield from _delivery_problems(report["delivery"], today)
    for name, delivery in report["delivery"].get("accounts", {}).items():
        yield from (f"account {name}: {problem}" for problem in _delivery_problems(delivery, today))
    yield from _buffer_problems(report["buffer"])
    yield from report.get("contradictions", ())


def _connection_problems(name: str, health: dict[str, Any]) -> Iterator[str]:
    if health["state"] == "trouble":
        yield f"connection {name}: {health['detail']}"
    for device, said in health["devices"].items():
        if _fails(said) and said not in health["detail"]:
            yield f"connection {name}, {f'device {device}' if device.isdecimal() else device}: {said}"


def _fails(said: str) -> bool:
    return said != "ok" and not said.startswith(NOT_YET)


def _device_fails(meter: dict[str, Any], health: dict[str, Any] | None) -> bool:
    """Whether a line tells why a meter has no reading: its device's, by number, or on MQTT its own."""
    number = meter["source"].partition(": device ")[2].partition(",")[0]
    return health is not None and _fails(health["devices"].get(number or meter["meter"], "ok"))


def _common_problems(name: str, health: dict[str, Any], meters: int) -> Iterator[str]:
    """The same of a connection that has brought nothing yet: no line for each device that fails as its detail says."""
    if health["state"] != "trouble":
        yield f"connection {name}: {health['state']}; {meters} meters have no reading yet"
    devices = {device: said.partition(" (since ")[0] for device, said in health["devices"].items()}
    yield from _connection_problems(name, health | {"devices": devices})


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
    name = meter["meter"]
    if meter["last_reading"] is None and not explained:
        yield f"{name}: no reading yet: meter-gateway read {name}"
    if meter["alarm"] and not meter["held"]:
        yield f"{name}: {meter['alarm']}"
    if meter["parked"]:
        yield f"{name}: {meter['parked']} {meter['unit']} are parked: meter-gateway meter book {name}, or drop"


def _doubt_problems(meter: dict[str, Any], now: datetime) -> Iterator[str]:
    """What of a meter a person has to decide."""
    name, foreign = meter["meter"], meter["foreign"]
    if foreign:
        yield (
            f"{name}: somebody else fills this meter at EnerKey ({foreign['hours']} h from {foreign['from']} to {foreign['to']}:"
            f" {foreign['shown']} {meter['unit']} there, {foreign['ours']} here), so nothing of it is sent:"
            f" meter-gateway takeover {name}"
        )
    others = meter["held"] - (foreign["hours"] if foreign else 0)
    if others:
        numbers = meter["doubt"] if not foreign else None
        said = numbers or meter["trouble"]
        yield f"{name}: {others} h held for a decision{f' ({said})' if said else ''}: meter-gateway resolve {name}"
    since = meter["unknown_since"]
    if since and age(since, now) > LONG_UNKNOWN:
        long = f"a message of it has an unknown fate since {since[:16]}Z, because EnerKey cannot be read"
        yield f"{name}: {long}; nothing more of it is sent: meter-gateway resolve {name}"


def _now_of(service: dict[str, Any] | None) -> datetime:
    """The service's clock; this machine's without one."""
    return datetime.fromisoformat(service["now"]) if service and "now" in service else SystemClock().now().wall


def _delivery_problems(delivery: dict[str, Any], today: date | None) -> Iterator[str]:
    if delivery.get("outage"):
        yield "EnerKey cannot be reached; hours wait in the buffer"
    if delivery.get("doubtful"):
        yield "EnerKey does not answer as it should; what became of messages is read back, the rest waits"
    if delivery.get("limited"):
        yield "EnerKey takes no more requests for now (rate limit); hours wait in the buffer"
    yield from _key_problems(delivery, today)
    for name in delivery.get("parked", []):
        yield f"{name}: EnerKey does not take this meter: check its enerkey_id"


def _key_problems(delivery: dict[str, Any], today: date | None) -> Iterator[str]:
    keyless = delivery.get("no_key_for", [])
    if keyless:
        yield f"EnerKey refuses every API key for {', '.join(keyless)}: put a new one in place and restart; what waits is kept"
    for key in delivery.get("keys", []):
        refused = [family for family in key["refused_for"] if family not in keyless]
        if refused:
            yield f"EnerKey refuses {key_name(key)} for {', '.join(refused)}: renew it"
        expires = date.fromisoformat(key["expires"]) if key.get("expires") else None
        if today and (words := expiry(key_name(key), expires, today)):
            yield words


def key_name(key: dict[str, Any]) -> str:
    """How people find a key of the document: its number, if it is known, and its name in the configuration."""
    reference = f" ({key['reference']})" if key.get("reference") else ""
    return f"API key {key['key']}{reference}" if key["key"] else f"API key{reference}"


def _buffer_problems(buffer: dict[str, Any]) -> Iterator[str]:
    yield from buffer.get("problems", ())
    left = buffer["days_left"]
    if left is not None and left < FULL_SOON:
        yield f"the database will be as large as it may be in {left} days: raise [buffer] max_size, or lower keep_readings"


def _service(held_by: dict[str, Any] | None, live: dict[str, Any] | None) -> dict[str, Any] | None:
    if held_by is None:
        return None
    known = {"pid": held_by.get("pid"), "command": held_by.get("command"), "answers": live is not None}
    return known | ({key: live[key] for key in ("version", "name", "now", "clock", "workers", "late")} if live else {})


def _stored_in(directory: Path, live: dict[str, Any] | None) -> dict[str, Any]:
    with stored(directory) as db:
        return _stored(db) | {"delivery": _delivery(db, live)}


def _delivery(db: Connection, live: dict[str, Any] | None) -> dict[str, Any]:
    """What the running service says of its deliveries; else which keys were taken last.

    The default account's facts, and under `accounts` the same of each further one.
    """
    if live is None:
        found = {account: {"keys": _keys(db, account)} for account in key_use.accounts(db)}
        default: dict[str, Any] = dict(found.pop("", {}))
        return default | {"accounts": found} if found else default
    return dict(live["delivery"] or {})


def _keys(db: Connection, account: str) -> list[dict[str, Any]]:
    """In the form of the running service, without the configuration's part."""
    uses = key_use.remembered(db, account)
    in_use = {use.family: use.reference for use in uses}
    last = {use.reference: use.accepted_at for use in uses}
    return [
        {
            "key": None,
            "reference": reference,
            "expires": None,
            "in_use_for": sorted(family for family, other in in_use.items() if other == reference),
            "last_accepted": _time(at),
            "refused_for": [],
        }
        for reference, at in last.items()
    ]


def _stored(db: Connection) -> dict[str, Any]:
    events = overview.events(db, EVENTS_SEARCHED)
    trouble = {event.subject: event.text for event in reversed(events) if event.level != "info"}
    alarms = _alarms(events)
    meters = [_meter(meter, trouble.get(meter.name)) for meter in overview.meters(db)]
    return {
        "meters": [meter | {"alarm": alarms.get(meter["meter"])} for meter in meters],
        "rejected": [view._asdict() | {"last_at": _time(view.last_at)} for view in overview.rejected(db)],
        "unplaced": overview.unplaced(db),
        "stranger": overview.stranger(db),
        "findings": [found._asdict() | {"at": _time(found.at)} for found in findings.known(db)],
        "events": [view._asdict() | {"at": _time(view.at)} for view in events[:EVENTS_SHOWN]],
    }


def _buffer(directory: Path, live: dict[str, Any]) -> dict[str, Any]:
    """How large the database is, what is written a day, when it will be full, and what is wrong with the disk.

    The running gateway knows its limit, and what it has met.
    """
    most = live.get("max_size")
    with stored(directory) as db:
        history, used = retention.sizes(db), retention.used_bytes(db)
    whole = history[:-1]  # today is not over
    return {
        "bytes": used,
        "file_bytes": sum(path.stat().st_size for path in directory.glob(f"{DATABASE}*")),
        "max_bytes": most,
        "written_per_day": whole[-1].written if whole else None,
        "days_left": None if most is None else retention.days_left(history, most),
        "log_bytes": room.log_size(directory / DATABASE),
        "disk_free": room.disk_of(directory).free,
        "waiting": live.get("room", {}).get("waiting", 0),  # readings in memory
        "problems": _disk_problems(directory, live),
    }


def _disk_problems(directory: Path, live: dict[str, Any]) -> list[str]:
    """What the running service has met, and what anybody can see."""
    facts = room.Facts(str(directory), room.disk_of(directory), log=room.log_size(directory / DATABASE))
    met = live.get("room", {}).get("problems", {})
    seen = room.problems(facts)
    return list(((seen if met.keys().isdisjoint(room.GRAVITY) else {}) | met).values())


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
        "meter": meter.name,
        "unit": meter.unit,
        "kind": meter.kind,
        "push": meter.push,
        "account": meter.account or None,
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
        "unknown_since": None if meter.unknown_since is None else _time(meter.unknown_since),
        "dropped": meter.dropped,
        "foreign": _foreign(meter),
        "doubt": f"{_hour_shown(meter.doubt.hour)}: {said}"
        if meter.doubt and (said := numbers_of(meter.doubt))
        else None,
        "taken_over": _hour(meter.taken_over),
    }


def _foreign(meter: overview.MeterOverview) -> dict[str, Any] | None:
    """The hours that somebody else fills, with the sums of both numbers."""
    if not meter.foreign:
        return None
    return {
        "hours": len(meter.foreign),
        "from": _hour_shown(meter.foreign[0].hour),
        "to": _hour_shown(meter.foreign[-1].hour + 1),
        "shown": shown(sum(each.shown or 0 for each in meter.foreign)),
        "ours": shown(sum(each.expected for each in meter.foreign)),
    }


def _hour_shown(hour: int) -> str:
    return f"{hour_start(hour):%Y-%m-%d %H:%M}Z"


def _time(ms: int) -> str:
    return from_ms(ms).isoformat()


def _hour(hour: int | None) -> str | None:
    return None if hour is None else hour_start(hour).isoformat()


def age(at: str, now: datetime) -> float:
    """Seconds since an instant of the document."""
    return (now - datetime.fromisoformat(at)).total_seconds()
