"""`check --plan`: which requests the Modbus connections will be asked, and how much of the time a round takes. Offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gateway import terminal
from gateway.errors import GatewayError
from gateway.faults import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.modbus.connection import Connection
    from drivers.modbus.planned import PlannedLine, PlannedRequest
    from drivers.modbus.source import Source
    from gateway.config import Config

LEAST_SHARE = 0.001  # that is told as a number


def plans(config: Config) -> dict[str, PlannedLine]:
    """The plan of each Modbus connection that has meters."""
    from drivers.modbus.planned import planned  # noqa: PLC0415 - only where somebody asks for it

    found = {}
    for name, connection in config.connections.items():
        sources = {meter.name: meter.source for meter in config.meters if meter.source.connection == name}
        if sources and dict(connection)["driver"] == "modbus":
            settings, wanted = cast("Connection", connection), cast("Mapping[str, Source]", sources)
            found[name] = planned(settings, wanted, _remembered(config, name))
    return found


def document(config: Config) -> list[dict[str, Any]]:
    """For scripts. Times in ms, shares of 1; `wire_ms` is null where nobody knows the line's speed."""
    return [
        {
            "connection": name,
            "url": dict(config.connections[name])["url"],
            "requests": line.requests,
            "round_ms": _ms(line.seconds),
            "poll_ms": _ms(line.poll),
            "share": round(line.share, 4),
            "assumed": line.assumed,
            "devices": [
                {
                    "device": device.number,
                    "round_ms": _ms(device.seconds),
                    "learned": device.learned,
                    "requests": [_request(request) for request in device.requests],
                }
                for device in line.devices
            ],
        }
        for name, line in plans(config).items()
    ]


def show(config: Config) -> None:
    """For people: a paragraph for each connection."""
    lines = plans(config)
    if not lines:
        terminal.show("no connection speaks Modbus: there are no requests to plan\n")
    for name, line in lines.items():
        terminal.show(terminal.wrapped(f"{name}: {dict(config.connections[name])['url']}", "  "))
        devices, requests = counted(len(line.devices), "device"), counted(line.requests, "request")
        share = f"{line.seconds:.2f} s of the {line.poll:g} s between two polls ({_share(line.share)})"
        _say(f"a round: {requests} to {devices}, {share}, taking {line.assumed}", 2)
        for device in line.devices:
            learned = ", as it has taught" if device.learned else ""
            _say(
                f"device {device.number}: {counted(len(device.requests), 'request')}, {_took(device.seconds)}{learned}",
                2,
            )
            for request in device.requests:
                _say(_words(request), 4)
        terminal.show()


def _say(text: str, indent: int) -> None:
    terminal.show(terminal.wrapped(" " * indent + text, " " * (indent + 2)))


def _words(request: PlannedRequest) -> str:
    model = f"SunSpec {request.sunspec} + " if request.sunspec else f"{request.table} "
    took = f"{_took(request.wire)} on the wire" if request.wire is not None else _took(request.seconds)
    parts = []
    for span in request.spans:
        first = request.first + span.at
        where = f"{first}" if span.registers == 1 else f"{first}-{first + span.registers - 1}"
        parts.append(f"{' and '.join(span.sources)} ({where})" if span.sources else f"hole ({where})")
    return f"{model}{request.first}, {counted(request.registers, 'register')}, {took}: {', '.join(parts)}"


def _request(request: PlannedRequest) -> dict[str, Any]:
    return {
        "table": request.table,
        "sunspec": request.sunspec or None,
        "register": request.first,
        "count": request.registers,
        "took_ms": _ms(request.seconds),
        "wire_ms": None if request.wire is None else _ms(request.wire),
        "values": [
            {"meters": span.sources, "register": request.first + span.at, "count": span.registers}
            for span in request.spans
            if span.sources
        ],
        "holes": [
            {"register": request.first + span.at, "count": span.registers} for span in request.spans if not span.sources
        ],
    }


def _remembered(config: Config, connection: str) -> dict[str, str]:
    """What the driver has learned of its devices, as far as this user may look into the database."""
    from gateway.report import stored  # noqa: PLC0415 - the database library, only for this

    try:
        with stored(config.gateway.data_dir) as db:
            find = "SELECT key, value FROM driver_state WHERE connection = ?"
            return dict(db.execute(find, (connection,)).fetchall())
    except GatewayError:  # nothing has run yet, or not for this user's eyes
        return {}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= LEAST_SHARE else f"less than {LEAST_SHARE:.1%}"


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
