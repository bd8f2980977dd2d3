"""EnerKey over HTTP: one request at a time, no retries, no redirects, and a fate for whatever happens.

The only module of the product that imports httpx (unmaintained upstream: the move to a successor is one line).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import httpx

from buffer.model import Accepted, NotSent, Refused, Unknown
from gateway import __version__
from gateway.enerkey import outcome
from gateway.enerkey.contract import Contract, check_url, endpoint
from gateway.enerkey.models import OddAnswer, hourly_target, parse_hourly, within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from buffer.model import Fate

Family = Literal["consumption", "cumulative"]

CONNECT = 10.0  # s
READ = 120.0  # s; long, so that a slow answer is an answer and not a zombie (reliability 3.1, rule 9)
WRITE = 30.0  # s
KEEP_ALIVE = 2.0  # s; shorter than servers keep idle connections, which dodges their closing under a request
LONGEST_ANSWER = 8 * 1024 * 1024  # bytes; a year of hours of one meter is below 1 MiB

_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")  # of a key: what a header carries unchanged (RFC 9110, 5.5), no blanks


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to. `remaining`: calls left in 24 h; `date`: the server's clock; None where not told."""

    fate: Fate
    remaining: int | None = None
    date: datetime | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Hourly values as EnerKey has them, micro by hour since the epoch; `values` is None when they could not be had."""

    values: dict[int, int] | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class ReadMany:
    """The same of several meters, by EnerKey's id. A meter that is missing was not named: that proves nothing."""

    values: dict[int, dict[int, int]] | None
    answer: Answer


class _Heard(NamedTuple):
    answer: Answer
    body: bytes


class EnerkeyClient:
    """The endpoints that the gateway uses. Never raises for what the wire or the server does; holds no key.

    `ca_file` replaces certifi's list of authorities, for sites whose proxy inspects TLS. Used by one thread.
    """

    def __init__(
        self,
        url: str,
        contract: Contract,
        *,
        ca_file: Path | str | None = None,
        transport: httpx.BaseTransport | None = None,
        read_timeout: float = READ,
    ) -> None:
        """Open nothing. ValueError when `url` is not acceptable (`contract.check_url`)."""
        self._url = check_url(url)
        self._contract = contract
        self._ca_file = ca_file
        self._transport = transport
        self._timeout = httpx.Timeout(read_timeout, connect=CONNECT, write=WRITE, pool=CONNECT)

    def push(
        self, family: Family, meter_id: int, body: bytes, key: str, *, idempotency_key: str | None = None
    ) -> Answer:
        """Send one message of one meter, once. `idempotency_key` asks for what EnerKey may some day honour."""
        method, target = push_target(self._contract, family, meter_id)
        extra = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            extra["Idempotency-Key"] = idempotency_key
        return self._exchange(method, target, key, extra, body).answer

    def hourly_values(self, meter_id: int, from_hour: int, to_hour: int, key: str) -> ReadBack:
        """The values that EnerKey has for the hours [from, to) of one meter."""
        found = self.hourly_values_of([meter_id], from_hour, to_hour, key)
        return ReadBack(found.values[meter_id] if found.values is not None else None, found.answer)

    def hourly_values_of(self, meter_ids: Sequence[int], from_hour: int, to_hour: int, key: str) -> ReadMany:
        """The same for several meters in one request, which the contract must allow (`reads_many`)."""
        target = hourly_target(self._contract, meter_ids, from_hour, to_hour)
        answer, body = self._exchange("GET", target, key)
        if not isinstance(answer.fate, Accepted):
            return ReadMany(None, answer)
        try:
            found = self._hours(answer, body, meter_ids)
            return ReadMany({meter: within(hours, from_hour, to_hour) for meter, hours in found.items()}, answer)
        except OddAnswer as error:
            odd = Unknown(outcome.printable(f"HTTP {answer.status}: {error}"))
            return ReadMany(None, Answer(odd, answer.remaining, answer.date, answer.status))

    def look(self, key: str) -> Answer:
        """A cheap GET of the root, to see whether EnerKey is there and what its clock says."""
        return self._exchange("GET", "/", key).answer

    def close(self) -> None:
        """Close the connections that are kept alive; the client may be used again."""
        if "_client" in self.__dict__:
            self._client.close()
            del self._client

    @cached_property
    def _client(self) -> httpx.Client:
        """Built with the first request: reading the authorities costs 40 ms and 2 MiB."""
        secured = self._url.startswith("https:")
        return httpx.Client(
            verify=ssl.create_default_context(cafile=self._ca_file) if secured and self._ca_file else secured,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=4, keepalive_expiry=KEEP_ALIVE),
            follow_redirects=False,
            transport=self._transport,
            trust_env=secured,  # a proxy of the environment may tunnel TLS; it must not see a key sent to localhost
        )

    def _hours(self, answer: Answer, body: bytes, meter_ids: Sequence[int]) -> dict[int, dict[int, int]]:
        if answer.status != httpx.codes.OK:  # 202 and its like promise an answer: a missing row proves nothing
            raise OddAnswer("only 200 answers a read")
        return parse_hourly(self._contract, body, meter_ids)

    def _exchange(
        self, method: str, target: str, key: str, extra: Mapping[str, str] | None = None, body: bytes = b""
    ) -> _Heard:
        if not _HEADER_VALUE.fullmatch(key):  # the library's own complaint would quote the key
            words = "not sent: the API key is empty or holds a character that no header may carry"
            return _nothing_heard(Refused("key", 0, words))
        try:
            client = self._client
        except OSError as error:
            return _nothing_heard(NotSent(f"TLS cannot be set up (ca_file {self._ca_file}): {error}"))
        headers = {**_headers(key), **(extra or {})}
        try:
            with client.stream(method, self._url + target, headers=headers, content=body or None) as response:
                return _heard(response, _whole(response), key)
        except OddAnswer as error:
            return _nothing_heard(Unknown(str(error)))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
            return _nothing_heard(outcome.of_failure(type(error).__name__, _without(key, str(error))))


def request_of(url: str, contract: Contract, family: Family, meter_id: int) -> tuple[str, str, dict[str, str]]:
    """Method, URL and headers of a push, for people to look at: the key is named, not shown."""
    method, target = push_target(contract, family, meter_id)
    headers = {**_headers("<the API key>"), "Content-Type": "application/json"}
    return method, check_url(url) + target, headers


def push_target(contract: Contract, family: Family, meter_id: int) -> tuple[str, str]:
    """Method and path of a push of this family."""
    template = contract.push_consumptions if family == "consumption" else contract.push_cumulative_readings
    push = endpoint(template)
    return push.method, push.filled(meter=str(meter_id))


def _headers(key: str) -> dict[str, str]:
    return {
        "Authorization": key,  # bare, as EnerKey's public page tells
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # answers are small; nothing to unpack is nothing to unpack wrongly
        "User-Agent": f"meter-gateway/{__version__}",
    }


def _whole(response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise OddAnswer(f"HTTP {response.status_code} with an answer longer than {LONGEST_ANSWER} bytes")
    return bytes(body)


def _nothing_heard(fate: Fate) -> _Heard:
    return _Heard(Answer(fate), b"")


def _heard(response: httpx.Response, body: bytes, key: str) -> _Heard:
    text = _without(key, body[: 16 * outcome.LONGEST_TEXT].decode(errors="replace"))
    fate = outcome.of_answer(response.status_code, response.headers, text)
    remaining = outcome.remaining(response.headers.get("X-Rate-Limit"))
    date = outcome.http_date(response.headers.get("Date"))
    return _Heard(Answer(fate, remaining, date, response.status_code), body)


def _without(key: str, text: str) -> str:
    """The text with the key blacked out, should a server quote it."""
    return text.replace(key, "***")
