"""A message's payload, decoded: text, JSON, the rows of a CSV, the lines of the InfluxDB line protocol. Pure.

Rows and lines become what JSON would be, so that the same expressions find things in them:

    CSV with a header     {"serial": "161", "created": "2009-11-12 13:00:00"}      numbers stay text, to the digit
    CSV without           ["200", "c8y_Energy", "1234.5"]
    line protocol         {"measurement": "meter", "tags": {"serial": "1"}, "fields": {"kwh": 1.5}, "time": 16535…}
"""

from __future__ import annotations

import csv
import io
import json
from functools import cached_property
from typing import Any, Literal, NamedTuple

from drivers.mqtt.influx import lines
from drivers.mqtt.values import BLANKS, BOM, PayloadError, Written, table_of

LONGEST = 256 * 1024  # bytes; a meter's message is three orders of magnitude smaller
SEPARATORS = (",", ";", "\t")

Format = Literal["raw", "json", "csv", "influx", "sparkplug"]


class Form(NamedTuple):
    """How a payload is written. `header` and `separator` are for CSV; without one: the commonest in its first line."""

    format: Format = "json"
    header: bool = True
    separator: str | None = None


JSON = Form()


class Body:
    """One message's payload, decoded at most once however many sources look into it."""

    def __init__(self, payload: bytes) -> None:
        """Decodes nothing yet."""
        self._payload = payload
        self._decoded: dict[Form, Any] = {}

    @cached_property
    def text(self) -> str:
        """The payload as text without the blanks around it; raises PayloadError."""
        try:
            text = self.data().decode().removeprefix(BOM).strip(BLANKS)
        except UnicodeDecodeError as error:
            raise PayloadError("not text", f"byte {error.start + 1} is not UTF-8") from None
        if not text:
            raise PayloadError("empty payload", expected=True)
        return text

    def data(self) -> bytes:
        """The payload, if it is neither empty nor far too large; raises PayloadError."""
        if len(self._payload) > LONGEST:
            raise PayloadError("payload too large", f"more than {LONGEST // 1024} KiB")
        if not self._payload:
            raise PayloadError("empty payload", expected=True)  # a cleared retained message, or a device that is gone
        return self._payload

    @property
    def document(self) -> Any:  # noqa: ANN401 - any JSON document
        """The payload as JSON; a key that is there twice, with different values, is `Twice`. Raises PayloadError."""
        return self.read(JSON)

    def read(self, form: Form) -> Any:  # noqa: ANN401 - any JSON document
        """The payload as a document: of CSV and line protocol a list. Raises PayloadError."""
        found = self._decoded.get(form, self)
        if found is self:
            try:
                found = self._decoded[form] = _DECODERS[form.format](self.text, form)
            except PayloadError as error:
                self._decoded[form] = error
                raise
        if isinstance(found, PayloadError):
            raise found
        return found


_DECODER = json.JSONDecoder(parse_float=Written.parse, object_pairs_hook=table_of)  # `loads` would make one each time


def _json(text: str, form: Form) -> Any:  # noqa: ANN401 - any JSON document
    del form
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise PayloadError("not JSON", f"{error.msg} at character {error.pos + 1}") from None
    except ValueError:
        raise PayloadError("not JSON", "a number with thousands of digits") from None
    except RecursionError:
        raise PayloadError("not JSON", "too deeply nested") from None


def _csv(text: str, form: Form) -> list[Any]:
    first = text.split("\n", 1)[0]
    separator = form.separator or max(SEPARATORS, key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise PayloadError("not CSV", str(error)) from None
    rows = [row for row in rows if any(row)]
    if not form.header:
        return rows
    names = rows[0] if rows else []
    for number, row in enumerate(rows[1:]):
        if len(row) > len(names):
            raise PayloadError("not CSV", f"row {number + 2} has {len(row)} cells, the header {len(names)}")
    return [table_of(list(zip(names, row, strict=False))) for row in rows[1:]]


def _influx(text: str, form: Form) -> list[Any]:
    del form
    return lines(text)


_DECODERS = {"json": _json, "csv": _csv, "influx": _influx}
