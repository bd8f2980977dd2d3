"""What became of a request: the one place that turns an HTTP status or a failure of the wire into a fate.

Wrong to one side loses an hour until somebody looks, wrong to the other counts it twice; so everything that is not
known to mean "not applied" is unknown, and a read-back decides (R14, R15; reliability 2.3 and 3.8). Failures are named,
not imported: the HTTP library stays in `gateway.enerkey.client`, and a test insists that each of its exceptions stands
in one of the two sets below.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from buffer.model import Accepted, NotSent, Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffer.model import Fate, RefusedFor

LONGEST_TEXT = 300  # characters of the server's own words that are kept
LONGEST_WAIT = 86_400  # s; the rate limit's window is a day, no honest Retry-After is longer

# The request was never written: no connection was had, or the request had no place to go to.
NEVER_LEFT = frozenset(
    {
        "ConnectError",  # refused, DNS, no route, TLS handshake: the request comes after it
        "ConnectTimeout",
        "PoolTimeout",  # no connection was free
        "ProxyError",  # the proxy refused to build the tunnel
        "UnsupportedProtocol",  # raised while the URL is looked at
        "InvalidURL",  # as above
    }
)
# Bytes may have left. LocalProtocolError is here because the class also covers a request that breaks off in the middle;
# those from DecodingError on never come from a request of ours, and would come after the answer's first byte.
MAY_HAVE_ARRIVED = frozenset(
    {
        "ReadError",
        "ReadTimeout",
        "WriteError",
        "WriteTimeout",
        "CloseError",
        "RemoteProtocolError",
        "LocalProtocolError",
        "HTTPError",
        "RequestError",
        "TransportError",
        "TimeoutException",
        "NetworkError",
        "ProtocolError",
        "DecodingError",
        "TooManyRedirects",
        "HTTPStatusError",
        "CookieConflict",
        "StreamError",
        "StreamConsumed",
        "StreamClosed",
        "ResponseNotRead",
        "RequestNotRead",
    }
)

REFUSED: Mapping[int, RefusedFor] = {
    400: "data",
    401: "key",
    403: "key",
    404: "meter",
    405: "endpoint",
    413: "size",
    415: "endpoint",
    422: "data",
}


def of_failure(name: str, text: str) -> Fate:
    """The fate of a request that ended in an exception of the HTTP library, by the exception's class name."""
    words = printable(f"{name}: {text}" if text else name)
    return NotSent(words) if name in NEVER_LEFT else Unknown(words)


def of_answer(status: int, headers: Mapping[str, str], text: str) -> Fate:
    """The fate of a request that was answered completely. `headers` by lower-case name."""
    words = printable(text)
    if 200 <= status <= 299:
        return _accepted(status, headers, words)
    if status in REFUSED:
        return Refused(REFUSED[status], status, words)
    if status == 429:
        wait = retry_after(headers.get("retry-after"), http_date(headers.get("date")))
        return NotSent(printable(f"HTTP 429: {text}"), limited=True, retry_after=wait)
    return Unknown(printable(f"HTTP {status}: {text}"))


def _accepted(status: int, headers: Mapping[str, str], words: str) -> Fate:
    # A proxy's or a hotel's own page says 200 too, and has applied nothing.
    if headers.get("content-type", "").strip().lower().startswith("text/html"):
        return Unknown(printable(f"HTTP {status} with a web page instead of an answer: {words}"))
    return Accepted(status)


def retry_after(header: str | None, date: datetime | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or an HTTP date (RFC 9110, 10.2.3); at most a day.

    A date is measured from the answer's own Date, so that no two clocks are compared; None when that is missing.
    """
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return float(min(int(text[:9]), LONGEST_WAIT))
    until = http_date(text)
    if until is None or date is None:
        return None
    return min(max((until - date).total_seconds(), 0.0), float(LONGEST_WAIT))


def remaining(header: str | None) -> int | None:
    """The calls left in 24 h that X-Rate-Limit tells; None when it tells none."""
    text = (header or "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def http_date(header: str | None) -> datetime | None:
    """Aware UTC of an HTTP date (RFC 9110, 5.6.7); None when there is none or it is malformed."""
    try:
        at = parsedate_to_datetime(header or "")
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def printable(text: str) -> str:
    """The text on one line, printable, cut to what is kept."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
