from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import Accepted, NotSent, Refused, Unknown
from gateway.enerkey import outcome

DATE = "Tue, 24 Nov 2026 13:00:00 GMT"


def exceptions() -> list[str]:
    exported = (getattr(httpx, name) for name in dir(httpx))
    return sorted({each.__name__ for each in exported if isinstance(each, type) and issubclass(each, Exception)})


@pytest.mark.parametrize("name", exceptions())
def test_every_exception_of_the_http_library_has_its_place(name: str):
    assert (name in outcome.NEVER_LEFT) != (name in outcome.MAY_HAVE_ARRIVED)


def test_no_exception_is_named_that_the_library_does_not_have():
    assert set(exceptions()) == outcome.NEVER_LEFT | outcome.MAY_HAVE_ARRIVED


@pytest.mark.parametrize("name", ["ConnectError", "ConnectTimeout", "PoolTimeout"])
def test_a_connection_that_was_never_had_sent_nothing(name: str):
    assert outcome.of_failure(name, "why") == NotSent(f"{name}: why")


@pytest.mark.parametrize("name", ["ReadError", "RemoteProtocolError", "ReadTimeout", "WriteError", "SomethingNew"])
def test_a_connection_that_broke_leaves_the_fate_unknown(name: str):
    assert outcome.of_failure(name, "") == Unknown(name)


STATUSES = {
    200: Accepted(200),
    202: Accepted(202),
    204: Accepted(204),
    208: Accepted(208),
    301: Unknown("HTTP 301: words"),
    307: Unknown("HTTP 307: words"),
    400: Refused("data", 400, "words"),
    401: Refused("key", 401, "words"),
    402: Unknown("HTTP 402: words"),
    403: Refused("key", 403, "words"),
    404: Refused("meter", 404, "words"),
    405: Refused("endpoint", 405, "words"),
    407: Unknown("HTTP 407: words"),
    408: Unknown("HTTP 408: words"),
    409: Unknown("HTTP 409: words"),
    413: Refused("size", 413, "words"),
    415: Refused("endpoint", 415, "words"),
    422: Refused("data", 422, "words"),
    429: NotSent("HTTP 429: words", limited=True),
    500: Unknown("HTTP 500: words"),
    502: Unknown("HTTP 502: words"),
    503: Unknown("HTTP 503: words"),
    504: Unknown("HTTP 504: words"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_its_fate(status: int):
    assert outcome.of_answer(status, {}, "words") == STATUSES[status]


@given(st.integers(100, 999).filter(lambda status: status not in STATUSES and not 200 <= status <= 299))
def test_a_status_that_nobody_named_leaves_the_fate_unknown(status: int):
    assert isinstance(outcome.of_answer(status, {}, ""), Unknown)


def test_a_web_page_with_status_200_accepted_nothing():
    fate = outcome.of_answer(200, {"content-type": "text/html; charset=utf-8"}, "<h1>Welcome to the hotel</h1>")
    assert isinstance(fate, Unknown)
    assert "web page" in fate.text


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("120", None, 120.0),
        (" 0 ", None, 0.0),
        ("Tue, 24 Nov 2026 13:01:00 GMT", DATE, 60.0),
        ("Tue, 24 Nov 2026 12:59:00 GMT", DATE, 0.0),
        ("Tue, 24 Nov 2026 13:01:00 GMT", None, None),
        ("Tue, 24 Nov 2037 13:01:00 GMT", DATE, 86_400.0),
        ("99999999999999999999", None, 86_400.0),
        ("soon", DATE, None),
        ("-5", DATE, None),
        ("1e3", DATE, None),
        ("", DATE, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(header: str, date: str | None, seconds: float | None):
    headers = {"retry-after": header} | ({"date": date} if date else {})
    assert outcome.of_answer(429, headers, "words") == NotSent("HTTP 429: words", limited=True, retry_after=seconds)


def test_a_date_header_is_aware_utc_and_a_malformed_one_is_none():
    assert outcome.http_date(DATE) == datetime(2026, 11, 24, 13, tzinfo=UTC)
    assert outcome.http_date("Tue, 24 Nov 2026 13:00:00 -0000") == datetime(2026, 11, 24, 13, tzinfo=UTC)
    for odd in (None, "", "yesterday", "Fri, 31 Dec 9999 23:59:59 -2300", "Tue, 99 Nov 2026 13:00:00 GMT"):
        assert outcome.http_date(odd) is None


@given(st.text())
def test_no_header_breaks_the_reading_of_headers(text: str):
    outcome.of_answer(429, {"retry-after": text, "date": text, "content-type": text}, text)
    assert outcome.remaining(text) is None or outcome.remaining(text) >= 0


@pytest.mark.parametrize(("header", "calls"), [("39999", 39999), (" 0", 0), ("-1", None), ("lots", None), (None, None)])
def test_the_calls_left_are_a_plain_number(header: str | None, calls: int | None):
    assert outcome.remaining(header) == calls


@given(st.text(max_size=2000))
def test_a_servers_words_stay_on_one_short_line(text: str):
    words = outcome.printable(text)
    assert len(words) <= 300
    assert words.isprintable()


def test_long_words_are_cut_visibly():
    assert outcome.printable("a\n\x1b[31m" + "b" * 400) == "a [31m" + "b" * 293 + "…"
