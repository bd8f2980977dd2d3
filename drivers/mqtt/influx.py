"""InfluxDB line protocol (v2): `measurement,tag=value field=1.5,other=2i 1653579140440951943`. Pure.

Source: docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol. A backslash takes its meaning from a comma, an
equals sign or a blank; in a field's text from a quote or a backslash.
"""

from __future__ import annotations

import re
from typing import Any

from drivers.mqtt.values import PayloadError, Written, table_of

_NAME = r"(?:[^,= \\]|\\.)+"
_HEAD = re.compile(rf"((?:[^, \\]|\\.)+)((?:,{_NAME}={_NAME})*) +")
_TAG = re.compile(rf",({_NAME})=({_NAME})")
_FIELD = re.compile(rf'({_NAME})=(?:"((?:[^"\\]|\\.)*)"|([^, "]+))')
_TIME = re.compile(r" +(-?\d{1,19}) *", re.ASCII)
_ESCAPED = re.compile(r"\\([,= ])")
_QUOTED = re.compile(r'\\(["\\])')
_WHOLE = re.compile(r"-?\d{1,19}[iu]", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_TRUTH = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)


def lines(text: str) -> list[dict[str, Any]]:
    """Every line as {"measurement", "tags", "fields", "time"}; `time` is None where it is left out. Raises PayloadError."""
    numbered = enumerate(text.split("\n"), 1)
    return [_line(line.strip("\r"), number) for number, line in numbered if line.strip() and not line.startswith("#")]


def _line(line: str, number: int) -> dict[str, Any]:
    head = _HEAD.match(line)
    if not head:
        raise _fault(number, 1)
    fields, end = _fields(line, head.end(), number)
    time = _TIME.fullmatch(line, end)
    if not time and line[end:].strip(" "):
        raise _fault(number, end + 1)
    tags = [(_plain(key), _plain(value)) for key, value in _TAG.findall(head[2])]
    return {
        "measurement": _plain(head[1]),
        "tags": table_of(tags),
        "fields": table_of(fields),
        "time": int(time[1]) if time else None,
    }


def _fields(line: str, begin: int, number: int) -> tuple[list[tuple[str, Any]], int]:
    """The fields from a position on, and the position behind them."""
    fields: list[tuple[str, Any]] = []
    while True:
        match = _FIELD.match(line, begin)
        if not match:
            raise _fault(number, begin + 1)
        fields.append((_plain(match[1]), _value(match, number)))
        begin = match.end()
        if not line.startswith(",", begin):
            return fields, begin
        begin += 1


def _value(match: re.Match[str], number: int) -> Any:  # noqa: ANN401 - as JSON has values
    text = match[3]
    if text is None:
        return _QUOTED.sub(r"\1", match[2])
    if text in _TRUTH:
        return _TRUTH[text]
    if _WHOLE.fullmatch(text):
        return int(text[:-1])
    if _FLOAT.fullmatch(text):
        return Written.parse(text)
    raise _fault(number, match.start(3) + 1)


def _plain(name: str) -> str:
    return _ESCAPED.sub(r"\1", name)


def _fault(line: int, character: int) -> PayloadError:
    return PayloadError("not line protocol", f"line {line}, character {character}")
