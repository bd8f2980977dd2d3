from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime

import httpx
import pytest

from buffer.model import Accepted, NotSent, Refused, Unknown
from gateway import __version__
from gateway.enerkey.client import LONGEST_ANSWER, Answer, EnerkeyClient, request_of
from gateway.enerkey.contract import Contract

URL = "https://api.enerkey.com"
KEY = "canary-7f3a+/="
ROW = b'[{"timestamp":"2017-01-01T00:00:00Z","value":1.5}]'
HOUR = 412_008  # 2017-01-01T00:00Z


def client(respond, **contract: str) -> EnerkeyClient:
    """A client whose wire is the function `respond`."""
    return EnerkeyClient(URL, Contract(**contract), transport=httpx.MockTransport(respond))


class Wire:
    """Answers alike and keeps what was asked."""

    def __init__(self, *args, **kwargs) -> None:
        self.requests: list[httpx.Request] = []
        self.response = (args, kwargs)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        args, kwargs = self.response
        return httpx.Response(*args, **kwargs)


def test_a_push_carries_the_stored_bytes_and_the_bare_key():
    wire = Wire(200)
    assert client(wire).push("consumption", 7, ROW, KEY).fate == Accepted(200)
    (request,) = wire.requests
    assert request.method == "POST"
    assert str(request.url) == URL + "/api/v2/Values/PushConsumptionsForMeter?meterId=7"
    assert request.content == ROW
    assert request.headers["Authorization"] == KEY
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Content-Length"] == str(len(ROW))
    assert request.headers["User-Agent"] == f"meter-gateway/{__version__}"
    assert "Idempotency-Key" not in request.headers


def test_a_cumulative_push_goes_to_its_own_endpoint_and_may_carry_an_idempotency_key():
    wire = Wire(200)
    client(wire).push("cumulative", 7, ROW, KEY, idempotency_key="abc-1")
    assert wire.requests[0].url.path.endswith("/PushCumulativeReadingsForMeter")
    assert wire.requests[0].headers["Idempotency-Key"] == "abc-1"


def test_the_contracts_method_path_and_the_roots_own_path_are_kept():
    wire = Wire(200)
    contract = Contract(push_consumptions="PUT /meters/{meter}/consumptions")
    EnerkeyClient(URL + "/proxied/", contract, transport=httpx.MockTransport(wire)).push("consumption", 7, ROW, KEY)
    assert (wire.requests[0].method, wire.requests[0].url.path) == ("PUT", "/proxied/meters/7/consumptions")


def test_an_answer_tells_the_calls_left_and_the_servers_time():
    wire = Wire(200, headers={"X-Rate-Limit": "39998", "Date": "Tue, 24 Nov 2026 13:00:00 GMT"})
    answer = client(wire).look(KEY)
    assert answer == Answer(Accepted(200), 39_998, datetime(2026, 11, 24, 13, tzinfo=UTC), 200)
    assert str(wire.requests[0].url) == URL + "/"


def test_hours_are_read_back_as_micro():
    wire = Wire(200, content=ROW)
    read = client(wire).hourly_values(7, HOUR, HOUR + 1, KEY)
    assert read.values == {HOUR: 1_500_000}
    assert read.answer.fate == Accepted(200)
    assert wire.requests[0].url.query == b"meterId=7&from=2017-01-01T00%3A00%3A00Z&to=2017-01-01T01%3A00%3A00Z"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>maintenance</html>", "not an array"),
        (200, ROW.replace(b"00:00:00Z", b"01:00:00Z"), "was its end"),
        (202, ROW, "only 200"),
        (204, b"", "only 200"),
    ],
)
def test_an_odd_answer_to_a_read_back_is_no_proof_of_anything(status: int, body: bytes, words: str):
    read = client(Wire(status, content=body)).hourly_values(7, HOUR, HOUR + 1, KEY)
    assert read.values is None
    assert isinstance(read.answer.fate, Unknown)
    assert words in read.answer.fate.text


def test_a_refused_read_back_has_no_values():
    read = client(Wire(404, text="no such meter")).hourly_values(7, HOUR, HOUR + 1, KEY)
    assert read.values is None
    assert read.answer.fate == Refused("meter", 404, "no such meter")


def test_redirects_are_not_followed():
    wire = Wire(307, headers={"Location": "https://elsewhere.example/"})
    assert isinstance(client(wire).push("consumption", 7, ROW, KEY).fate, Unknown)
    assert len(wire.requests) == 1


def test_an_endless_answer_is_cut_off():
    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(b" " * 65_536 for _ in range(LONGEST_ANSWER // 65_536 + 2)))

    assert isinstance(client(respond).hourly_values(7, HOUR, HOUR + 1, KEY).answer.fate, Unknown)


@pytest.mark.parametrize("error", [httpx.ReadError, httpx.DecodingError, httpx.StreamClosed, httpx.CookieConflict])
def test_no_exception_of_the_http_library_gets_out(error: type[Exception]):
    def respond(_: httpx.Request) -> httpx.Response:
        raise error("broken") if error is not httpx.StreamClosed else error()

    assert isinstance(client(respond).push("consumption", 7, ROW, KEY).fate, Unknown)


def test_http_is_refused_except_to_this_machine():
    with pytest.raises(ValueError, match="unencrypted"):
        EnerkeyClient("http://api.enerkey.com", Contract())
    EnerkeyClient("http://localhost:8040", Contract())


def test_an_unreadable_ca_file_sends_nothing_and_says_which(tmp_path):
    missing, empty = tmp_path / "ca.pem", tmp_path / "empty.pem"
    empty.write_text("")
    for path in (missing, empty):
        fate = EnerkeyClient(URL, Contract(), ca_file=path).look(KEY).fate
        assert isinstance(fate, NotSent)
        assert str(path) in fate.text


def test_the_tls_context_is_built_with_the_first_request_and_once():
    wire = Wire(200)
    one = client(wire)
    assert "_client" not in vars(one)
    one.look(KEY)
    built = vars(one)["_client"]
    one.look(KEY)
    assert vars(one)["_client"] is built
    one.close()
    one.close()
    assert one.look(KEY).fate == Accepted(200)
    one.close()


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ключ", "tab\t"])
def test_a_key_that_no_header_can_carry_is_refused_unsent_and_unquoted(key: str):
    wire = Wire(200)
    fate = client(wire).look(key).fate
    assert isinstance(fate, Refused)
    assert fate.why == "key"
    assert not key or key not in fate.text
    assert wire.requests == []


def test_the_key_is_in_no_repr_no_log_and_no_text(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            raise httpx.ReadError(f"broken while sending {request.headers['Authorization']}")
        return httpx.Response(401, text=f"bad key {request.headers['Authorization']}!")

    one = client(respond)
    said = [repr(one), repr(vars(one)), repr(one.push("consumption", 7, ROW, KEY)), repr(one.look(KEY))]
    said += [repr(one.hourly_values(7, HOUR, HOUR + 1, KEY)), repr(vars(one)), caplog.text]
    assert "bad key ***!" in said[3]
    assert "canary" not in "".join(said)


def test_the_key_is_in_no_traceback_of_a_mistake_of_ours():
    def respond(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        client(respond).look(KEY)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_what_would_be_sent_can_be_shown_without_the_key():
    method, url, headers = request_of(URL + "/", Contract(), "consumption", 7)
    assert (method, url) == ("POST", URL + "/api/v2/Values/PushConsumptionsForMeter?meterId=7")
    wire = Wire(200)
    client(wire).push("consumption", 7, ROW, KEY)
    sent = wire.requests[0].headers
    assert {name: sent[name] for name in headers} == headers | {"Authorization": KEY}
    assert headers["Authorization"] == "<the API key>"
