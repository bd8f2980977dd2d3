"""What the uploader may rely on: the client against the simulated EnerKey, with and without sockets, and a bad wire."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from buffer.model import EPOCH, Accepted, Fate, NotSent, Refused, Unknown
from gateway.enerkey.client import EnerkeyClient, Family
from gateway.enerkey.contract import Contract
from gateway.enerkey.models import push_body
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import serve
from tests.fakes.enerkey_transport import URL, transport
from tests.fakes.enerkey_wire import Script, answer, read_request, reset, scripted
from tests.fakes.ports import lasting_port

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = int((NOW - EPOCH) / timedelta(hours=1)) - 2
KEY = "k"
PATIENCE = 60.0  # s, on a machine that does other things too; every wait ends by itself long before
BODY = b'[{"timestamp":"2026-03-02T10:00:00Z","value":1.5}]'
CONTRACTS = {
    "default": Contract(),
    "in an object": Contract(values_key="values", meter_key="meterId", timestamp_key="time", value_key="quantity"),
    "in the items": Contract(meter_key="meterId"),
    "in the path": Contract(
        push_consumptions="PUT /meters/{meter}/consumptions",
        push_cumulative_readings="PUT /meters/{meter}/readings",
        hourly_values="GET /hours?ids={meters}&range={from}..{to}",
    ),
}


class Pair:
    """A client and the simulated EnerKey that it speaks to."""

    def __init__(self, client: EnerkeyClient, simulator: EnerkeySimulator, contract: Contract) -> None:
        self.client, self.simulator, self.contract = client, simulator, contract

    def push(self, *items: tuple[int, int], family: Family = "consumption", meter: int = 7, key: str = KEY) -> Fate:
        stamped = [(EPOCH + timedelta(hours=hour), micro) for hour, micro in items]
        return self.client.push(family, meter, push_body(self.contract, meter, stamped), key).fate

    def read(self, from_hour: int = HOUR - 24, to_hour: int = HOUR + 24, meter: int = 7) -> dict[int, int] | None:
        return self.client.hourly_values(meter, from_hour, to_hour, KEY).values


MakePair = Callable[..., Pair]


@pytest.fixture(params=["without sockets", "with sockets"])
def make(request: pytest.FixtureRequest) -> Iterator[MakePair]:
    ends: list[Callable[[], None]] = []

    def make(contract: Contract | None = None, **properties) -> Pair:
        contract = contract or Contract()
        simulator = EnerkeySimulator(contract, now=lambda: NOW, **properties)
        if request.param == "without sockets":
            client = EnerkeyClient(URL, contract, transport=transport(simulator))
        else:
            server = serve(simulator.handle)
            client = EnerkeyClient(server.url, contract, read_timeout=PATIENCE)
            ends.append(server.stop)
        ends.extend([client.close, simulator.close])
        return Pair(client, simulator, contract)

    yield make
    for end in ends:
        end()


# --- the client and the simulated EnerKey agree -----------------------------------------------------------------------


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())
def test_what_is_pushed_is_read_back_exactly_in_every_shape_of_the_contract(make: MakePair, contract: Contract):
    pair = make(contract)
    values = {HOUR - 1: 123_456_789_012_345_678, HOUR: 1, HOUR + 1: -7}
    assert pair.push(*values.items()) == Accepted(200)
    assert pair.read() == pair.simulator.hourly(7) == values


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())
def test_readings_are_read_back_as_the_hours_between_them(make: MakePair, contract: Contract):
    pair = make(contract)
    assert pair.push((HOUR, 10**12), (HOUR + 1, 10**12 + 1_500_000), family="cumulative") == Accepted(200)
    assert pair.read() == {HOUR: 1_500_000}


def test_a_year_is_one_message_and_one_read(make: MakePair):
    pair = make()
    values = {HOUR - 8759 + n: n + 1 for n in range(8760)}
    assert pair.push(*values.items()) == Accepted(200)
    assert pair.read(HOUR - 8759, HOUR + 1) == values


def test_an_answer_tells_the_calls_left_and_the_servers_time(make: MakePair):
    pair = make(requests_per_day=10)
    for left in (9, 8):
        found = pair.client.look(KEY)
        assert (found.fate, found.status, found.remaining, found.date) == (Accepted(200), 200, left, NOW)


@pytest.mark.parametrize(
    ("what", "why", "status"),
    [
        (lambda pair: pair.push((HOUR, 1), key="other"), "key", 401),
        (lambda pair: pair.push((HOUR, 1), meter=9), "meter", 404),
        (lambda pair: pair.push((HOUR + 24, 1)), "data", 400),
        (lambda pair: pair.push((HOUR - 9000, 1), (HOUR, 1)), "data", 400),
        (lambda pair: pair.push(), "data", 400),
    ],
    ids=["unknown key", "unknown meter", "future", "longer than a year", "nothing in it"],
)
def test_a_refusal_says_what_is_wrong_and_applies_nothing(
    make: MakePair, what: Callable[[Pair], Fate], why: str, status: int
):
    pair = make(keys=[KEY], meters=[7])
    fate = what(pair)
    assert isinstance(fate, Refused)
    assert (fate.why, fate.status) == (why, status)
    assert fate.text
    assert pair.simulator.pushes == []


def test_a_spent_limit_sends_nothing_and_tells_when_to_come_back(make: MakePair):
    pair = make(requests_per_day=1)
    assert pair.push((HOUR, 1)) == Accepted(200)
    fate = pair.push((HOUR, 1))
    assert isinstance(fate, NotSent)
    assert fate.limited
    assert 86_300 <= (fate.retry_after or 0) <= 86_400
    assert pair.simulator.hourly(7) == {HOUR: 1}


@pytest.mark.parametrize(
    ("fault", "applied"),
    [("lost-request", False), ("lost-answer", True), ("500-before", False), ("500-after", True), ("503", False)],
)
def test_a_fate_in_doubt_is_unknown_and_only_a_read_back_tells(make: MakePair, fault: str, applied: bool):
    pair = make()
    assert pair.read() == {}  # the connection that will be lost has served before
    pair.simulator.faults = iter([fault])
    assert isinstance(pair.push((HOUR, 5)), Unknown)
    assert pair.read() == ({HOUR: 5} if applied else {})


def test_a_failed_read_back_has_no_values(make: MakePair):
    pair = make()
    for fault in ("lost-answer", "503"):
        pair.simulator.faults = iter([fault])
        assert pair.read() is None


# --- a message larger than the server takes ---------------------------------------------------------------------------


def test_a_body_beyond_the_servers_limit_is_refused_for_its_size():
    simulator = EnerkeySimulator(now=lambda: NOW)
    server = serve(simulator.handle)
    client = EnerkeyClient(server.url, Contract(), read_timeout=PATIENCE)
    fate = client.push("consumption", 7, b"[" + b" " * 5_000_000 + b"]", KEY).fate
    assert isinstance(fate, Refused)
    assert fate.why == "size"
    client.close()
    server.stop()
    simulator.close()


# --- the wire (reliability 2.3: what happened, and what the client can know) ------------------------------------------


# Which of them comes depends on who is first; a failed write is retried as a read by the library.
BROKEN = ("ReadError", "WriteError", "RemoteProtocolError")


def reset_at_once(channel: socket.socket, _: Event) -> None:
    channel.recv(1)  # a reset before that may reach the client while it still connects, which is another fate
    reset(channel)


def close_at_once(channel: socket.socket, _: Event) -> None:
    channel.close()


def reset_in_the_body(channel: socket.socket, _: Event) -> None:
    channel.recv(200)
    reset(channel)


def applied_then_reset(channel: socket.socket, _: Event) -> None:
    read_request(channel)
    reset(channel)


def applied_then_closed(channel: socket.socket, _: Event) -> None:
    read_request(channel)


def applied_then_silent(channel: socket.socket, over: Event) -> None:
    read_request(channel)
    over.wait()


def body_cut(channel: socket.socket, _: Event) -> None:
    read_request(channel)
    channel.sendall(answer("200 OK", b'{"accep', length=14))


def head_cut(channel: socket.socket, _: Event) -> None:
    read_request(channel)
    channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


def body_stuck(channel: socket.socket, over: Event) -> None:
    read_request(channel)
    channel.sendall(answer("200 OK", b'{"accep', length=14))
    over.wait()


def no_http(channel: socket.socket, _: Event) -> None:
    read_request(channel)
    channel.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def bad_gateway(channel: socket.socket, _: Event) -> None:
    read_request(channel)
    channel.sendall(answer("502 Bad Gateway", b"upstream sent no response"))


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        (reset_at_once, BROKEN),
        (close_at_once, BROKEN),
        (reset_in_the_body, BROKEN),
        (applied_then_reset, ("ReadError",)),
        (applied_then_closed, ("RemoteProtocolError",)),
        (applied_then_silent, ("ReadTimeout",)),
        (head_cut, ("RemoteProtocolError",)),
        (body_cut, ("RemoteProtocolError",)),
        (body_stuck, ("ReadTimeout",)),
        (no_http, ("RemoteProtocolError",)),
        (bad_gateway, ("HTTP 502: upstream sent no response",)),
    ],
)
def test_whatever_breaks_after_the_connection_stands_leaves_the_fate_unknown(script: Script, seen: tuple[str, ...]):
    body = BODY if script is not reset_in_the_body else b"[" + b" " * 2_000_000 + b"]"
    with scripted(script) as url:
        client = EnerkeyClient(url, Contract(), read_timeout=0.3 if seen == ("ReadTimeout",) else PATIENCE)
        found = client.push("consumption", 7, body, KEY)
        client.close()
    assert isinstance(found.fate, Unknown)
    assert found.fate.text.startswith(seen)


def test_a_server_that_closes_a_kept_connection_under_a_request_leaves_the_fate_unknown():
    def script(channel: socket.socket, _: Event) -> None:
        read_request(channel)
        channel.sendall(answer("200 OK"))
        channel.recv(1)  # the second request arrives, and the server is gone

    with scripted(script) as url:
        client = EnerkeyClient(url, Contract(), read_timeout=PATIENCE)
        assert client.push("consumption", 7, BODY, KEY).fate == Accepted(200)
        assert isinstance(client.push("consumption", 7, BODY, KEY).fate, Unknown)
        client.close()


def test_a_kept_connection_that_the_server_has_closed_is_not_used_again():
    closed = Event()

    def script(channel: socket.socket, _: Event) -> None:
        read_request(channel)
        channel.sendall(answer("200 OK"))
        channel.close()
        closed.set()

    with scripted(script, script) as url:
        client = EnerkeyClient(url, Contract(), read_timeout=PATIENCE)
        for _ in range(2):
            assert client.push("consumption", 7, BODY, KEY).fate == Accepted(200)
            assert closed.wait(PATIENCE)
            closed.clear()
        client.close()


def test_a_refused_connection_sent_nothing():
    client = EnerkeyClient(f"http://127.0.0.1:{lasting_port()}", Contract())
    fate = client.push("consumption", 7, BODY, KEY).fate
    assert isinstance(fate, NotSent)
    assert (fate.limited, fate.retry_after) == (False, None)
    client.close()


def test_a_name_that_does_not_resolve_sent_nothing():
    client = EnerkeyClient("https://enerkey.invalid", Contract())  # RFC 6761: never resolves
    assert isinstance(client.push("consumption", 7, BODY, KEY).fate, NotSent)
    client.close()


def test_a_full_backlog_is_a_connect_timeout_and_sent_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.enerkey.client.CONNECT", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        client = EnerkeyClient(f"http://127.0.0.1:{address[1]}", Contract())
        fate = client.push("consumption", 7, BODY, KEY).fate
        assert isinstance(fate, NotSent)
        assert fate.text.startswith("ConnectTimeout")
        client.close()
        for each in waiting:
            each.close()


def test_a_failed_tls_handshake_sent_nothing():
    seen: list[bytes] = []

    def script(channel: socket.socket, _: Event) -> None:
        seen.append(channel.recv(1000))
        channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # a plain server on the port

    with scripted(script) as url:
        client = EnerkeyClient(url.replace("http:", "https:"), Contract(), read_timeout=PATIENCE)
        assert isinstance(client.push("consumption", 7, BODY, KEY).fate, NotSent)
        client.close()
    assert b"POST" not in seen[0]


def test_a_redirect_is_neither_followed_nor_believed():
    def script(channel: socket.socket, _: Event) -> None:
        read_request(channel)
        channel.sendall(answer("308 Permanent Redirect", b"", "Location: /elsewhere", "Connection: close"))

    with scripted(script) as url:
        client = EnerkeyClient(url, Contract(), read_timeout=PATIENCE)
        found = client.push("consumption", 7, BODY, KEY)
        client.close()
    assert (found.status, type(found.fate)) == (308, Unknown)


def test_an_environment_with_a_proxy_does_not_lead_a_key_for_localhost_through_it(monkeypatch: pytest.MonkeyPatch):
    heard = []

    def proxy(channel: socket.socket, _: Event) -> None:
        heard.append(read_request(channel))

    with scripted(proxy) as proxy_url:
        monkeypatch.setenv("HTTP_PROXY", proxy_url)
        monkeypatch.setenv("NO_PROXY", "")
        simulator = EnerkeySimulator(now=lambda: NOW)
        server = serve(simulator.handle)
        client = EnerkeyClient(server.url, Contract(), read_timeout=PATIENCE)
        assert client.look(KEY).fate == Accepted(200)
        client.close()
        server.stop()
        simulator.close()
    assert heard == []


def test_a_proxy_that_refuses_the_tunnel_sent_nothing(monkeypatch: pytest.MonkeyPatch):
    heard = []

    def proxy(channel: socket.socket, _: Event) -> None:
        heard.append(read_request(channel))
        channel.sendall(answer("403 Forbidden", b"not from here"))

    with scripted(proxy) as proxy_url:
        monkeypatch.setenv("HTTPS_PROXY", proxy_url)
        monkeypatch.setenv("NO_PROXY", "")
        client = EnerkeyClient("https://enerkey.invalid", Contract(), read_timeout=PATIENCE)
        assert isinstance(client.push("consumption", 7, BODY, KEY).fate, NotSent)
        client.close()
    assert heard[0].startswith(b"CONNECT enerkey.invalid:443")
    assert b"authorization" not in heard[0].lower()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two self-signed certificates for 127.0.0.1, each with its key in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    made = [tmp_path_factory.mktemp("tls") / f"{name}.pem" for name in ("site", "other")]
    for path in made:
        command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
        command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {path}.crt"
        subprocess.run([openssl, *command.split()], check=True, capture_output=True)
        path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return made


def test_a_sites_own_authority_is_trusted_when_named_and_no_other_is(certificates: list[Path]):
    site, other = certificates
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(site)
    applied: list[bytes] = []

    def script(channel: socket.socket, _: Event) -> None:
        with suppress(OSError), context.wrap_socket(channel, server_side=True) as secured:
            applied.append(read_request(secured))
            secured.sendall(answer("200 OK", b"", "Connection: close"))

    with scripted(script, script, script) as url:
        fates = []
        for ca_file in (None, other, site):
            client = EnerkeyClient(url.replace("http:", "https:"), Contract(), ca_file=ca_file, read_timeout=PATIENCE)
            fates.append(client.push("consumption", 7, BODY, KEY).fate)
            client.close()
    assert [type(fate) for fate in fates] == [NotSent, NotSent, Accepted]
    assert "certificate" in fates[0].text
    assert len(applied) == 1
