"""`check --message FILE`: what a meter's mapping makes of stored MQTT messages, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from buffer.hours import implausible
from buffer.model import from_micro
from drivers.reading import Reading, Rejected
from gateway import terminal
from gateway.clock import SystemClock
from gateway.errors import FAILED, OK, GatewayError, WrongUsage
from gateway.faults import counted, no_meter
from gateway.units import to_micro
from gateway.wiring import closing_meter

if TYPE_CHECKING:
    import argparse

    from drivers.mqtt.source import Source
    from gateway.config import Config, Meter

LARGEST = 1 << 20  # bytes; the driver refuses less, and says so in its own words


def run(args: argparse.Namespace, config: Config) -> int:
    """0 when the last message gave readings and nothing else, else 1."""
    from drivers.mqtt.trial import tried  # noqa: PLC0415 - jmespath, only for this

    if not args.message:
        raise WrongUsage("--message FILE is missing: which stored message to try")
    meter = _meter(config, args.meter)
    payloads = [_content(Path(each)) for each in args.message]
    now = SystemClock().now()._replace(trusted=True)  # stamps are judged by this machine's clock, whatever it is worth
    source = cast("Source", meter.source)
    rows = [
        {"message": file, "topic": each.topic, **_outcome(meter, each.items)}
        for file, each in zip(
            args.message,
            tried(meter.name, source, payloads, now, topic=args.topic, retain=args.retained),
            strict=True,
        )
    ]
    if args.json:
        terminal.document({"meter": meter.name, "messages": rows})
    else:
        _show(meter, rows)
    return OK if rows[-1]["readings"] and not rows[-1]["refused"] else FAILED


def _meter(config: Config, name: str | None) -> Meter:
    spoken = {meter.name: meter for meter in config.meters if _speaks_mqtt(config, meter)}
    if name is None and len(spoken) == 1:
        return next(iter(spoken.values()))
    if name is None:
        raise WrongUsage(f"--message needs --meter NAME: {counted(len(spoken), 'meter')} on MQTT")
    if name not in {meter.name for meter in config.meters}:
        raise no_meter(name, (meter.name for meter in config.meters), "the configuration")
    if name not in spoken:
        raise GatewayError(f"{name} is read over Modbus and has no messages; `meter-gateway read {name}` reads it")
    return spoken[name]


def _speaks_mqtt(config: Config, meter: Meter) -> bool:
    return bool(dict(config.connections[meter.source.connection])["driver"] == "mqtt")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise GatewayError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a zero byte in the path
        raise GatewayError("--message is not the path of a file") from None


def _outcome(meter: Meter, items: list[Reading | Rejected]) -> dict[str, Any]:
    readings: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for item in items:
        row = _reading(meter, item) if isinstance(item, Reading) else _refusal(item.reason, item.detail)
        (refused if "reason" in row else readings).append(row)
    if not items:
        refused.append(_refusal("not this meter's message", "it is about another device of the same node"))
    return {"readings": readings, "refused": refused}


def _reading(meter: Meter, item: Reading) -> dict[str, Any]:
    try:
        micro = to_micro(item.value, meter.factor)
    except OverflowError:
        return _refusal("beyond what a counter can hold", str(item.value))
    why = implausible(micro, closing_meter(meter, 0).rule)
    if why:
        return _refusal(why, f"{item.value:f} {meter.reading_unit}")
    return {
        "at": item.at.isoformat(),
        "stamped": item.stamped,
        "value": f"{item.value:f}",
        "unit": meter.reading_unit,
        "in_meter": f"{from_micro(micro).normalize():f}",
        "meter_unit": f"{meter.unit}/h" if meter.kind == "power" else meter.unit,
    }


def _refusal(reason: str, detail: str) -> dict[str, Any]:
    return {"reason": reason, "detail": detail}


def _show(meter: Meter, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        terminal.show(terminal.wrapped(f"{meter.name}: {row['message']} on {row['topic']}", "  "))
        for each in row["readings"]:
            terminal.show(terminal.wrapped(f"  {terminal.coloured('ok', 'ok')} {_words(meter, each)}", "     "))
        for each in row["refused"]:
            why = f"{each['reason']}: {each['detail']}" if each["detail"] else each["reason"]
            terminal.show(terminal.wrapped(f"  {terminal.coloured('FAIL', 'FAIL')} {why}", "     "))


def _words(meter: Meter, reading: dict[str, Any]) -> str:
    converted = "" if reading["unit"] == reading["meter_unit"] else f" = {reading['in_meter']} {reading['meter_unit']}"
    when = (
        f"at {reading['at'].replace('T', ' ').replace('+00:00', 'Z')}, its own time"
        if reading["stamped"]
        else "at its arrival"
    )
    return f"{meter.kind} {reading['value']} {reading['unit']}{converted} {when}"
