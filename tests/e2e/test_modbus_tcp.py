"""The real Modbus driver on real sockets: silent devices, late answers, servers that go and come, odd gateways."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from drivers.base import LineError
from drivers.modbus import bus as bus_module
from drivers.modbus.config import Connection, Source
from drivers.modbus.driver import build, share
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import Answer, BadAnswer, ExceptionAnswer, NoAnswer, Request
from gateway.clock import SystemClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.driver_thread import LONGEST_WAIT, DriverThread
from tests.fakes.modbus_server import HOST, Relay, modbus_server
from tests.fakes.one_client import OneClient
from tests.fakes.patience import PATIENCE, patiently
from tests.fakes.ports import lasting_port
from tests.waiting import until

TIMEOUT = 0.5  # s, where it is to pass
HASTY = Request(1, Block("holding", 10, 2, (Place("holding", 10, 2),)), TIMEOUT, 0.0)
ASKED = HASTY._replace(timeout=PATIENCE)
FOUR = {device: {10: 0, 11: device} for device in range(1, 5)}


def connection(url: str, **keys) -> Connection:
    usual = {"driver": "modbus", "url": url, "poll": "1s", "timeout": f"{PATIENCE:g}s"}
    return Connection.model_validate(usual | keys)


def meters(*devices: int, silent: int | None = None) -> dict[str, Source]:
    """A u32 counter at holding 10 of each device, named by its id; the `silent` one is not waited for as long as the others."""
    keys = {"connection": "main", "register": 10, "type": "u32", "unit": "kWh"}
    of = {silent: {"timeout": f"{TIMEOUT:g}s"}}
    return {str(device): Source.model_validate(keys | {"device": device} | of.get(device, {})) for device in devices}


@contextmanager
def gateway(url: str, *devices: int, silent: int | None = None, **keys) -> Iterator[tuple[DriverThread, FakePorts]]:
    clock = SystemClock()
    store = FakePorts(clock)
    driver = build("main", connection(url, **keys), meters(*devices, silent=silent), store.ports)
    helpers = share([driver], clock, store.deliver_together, LONGEST_WAIT)
    with DriverThread(driver, clock, helpers) as running:
        yield running, store


# --- devices that do not answer ---------------------------------------------------------------------------------------


def test_three_meters_keep_their_polls_beside_one_that_never_answers():
    """Each of the three is asked and answers in every round; the dead one is asked ever less often."""
    with modbus_server({device: dict(words) for device, words in FOUR.items()}) as server:
        server.mute.add(2)
        with gateway(server.url, 1, 2, 3, 4, silent=2) as (running, store):
            running.until(lambda: len(store.of("4")) >= 6)
            health = running.driver.health()
    for name in ("1", "3", "4"):
        assert {reading.value for reading in store.of(name)} == {int(name)}
        assert len(store.of(name)) >= 6
        assert abs(server.reads[int(name)] - server.reads[4]) <= 1
    assert not store.of("2")
    assert [item.reason for item in store.rejected] == ["no answer"]
    assert health.state == "trouble"
    assert health.detail.startswith("device 2: no answer within 0.5 s")
    assert server.reads[2] < server.reads[1]


def test_a_meter_that_is_back_is_read_again():
    """And the operator hears of both."""
    with modbus_server({1: {10: 0, 11: 7}}) as server:
        server.mute.add(1)
        with gateway(server.url, 1, silent=1) as (running, store):
            running.until(lambda: running.driver.health().counts["timeouts"] >= 2)
            server.mute.clear()
            running.until(lambda: bool(store.of("1")))
            running.until(lambda: running.driver.health().state == "ok")
    assert [level for level, _, _ in store.notes] == ["warning", "info"]


def test_a_gateway_that_answers_for_a_dead_meter_keeps_its_connection():
    """0x0B is an answer of the gateway: nothing is opened anew, the others go on."""
    with modbus_server({1: {10: 0, 11: 1}}) as server, gateway(server.url, 1, 99) as (running, store):
        running.until(lambda: len(store.of("1")) >= 3)
        assert running.driver.health().counts["reconnects"] == 0
    assert server.connections == 1
    assert [item.reason for item in store.rejected] == ["gateway got no answer from the device"]


# --- late answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtu", [False, True])
def test_a_late_answer_is_never_taken_for_the_answer_to_the_next_request(bus, rtu):
    """The same device is asked again, and the old answer comes first: TCP has its transaction id, RTU a new connection.

    Each answer carries its number, so an old one would show.
    """
    with modbus_server({1: {}}, rtu=rtu) as server, Relay(server.port) as relay:
        server.counting = 10
        line = bus(f"{'rtu+tcp' if rtu else 'tcp'}://{HOST}:{relay.port}")
        assert line.read(ASKED).words == (0, 1001)
        for _ in range(3):
            relay.late = 1
            with pytest.raises(NoAnswer):
                line.read(HASTY)
            until(lambda: relay.late == 0)  # the server has heard it
            if not line.is_open:
                line.open()
            assert line.read(ASKED).words == (0, 1000 + server.reads[1])


@pytest.mark.parametrize("rtu", [False, True])
def test_a_late_answer_of_one_meter_is_never_the_value_of_another(rtu):
    """Through the driver: every value is its own device's, and each is newer than the one before."""
    with modbus_server({device: {} for device in (1, 2, 3)}, rtu=rtu) as server, Relay(server.port) as relay:
        server.counting = 10
        url = f"{'rtu+tcp' if rtu else 'tcp'}://{HOST}:{relay.port}"
        with gateway(url, 1, 2, 3, gap="0ms", timeout=f"{TIMEOUT:g}s") as (running, store):
            running.until(lambda: len(store.readings) >= 3)
            for _ in range(3):
                relay.late = 1
                running.until(lambda: relay.late == 0)
                before = len(store.readings)
                running.until(lambda so_far=before: len(store.readings) >= so_far + 4)
            assert running.driver.health().counts["timeouts"] >= 3
            running.until(lambda: all(store.of(str(device)) for device in (1, 2, 3)))
    for device in (1, 2, 3):
        values = [int(reading.value) for reading in store.of(str(device))]
        assert values
        assert all(value // 1000 == device for value in values)
        assert values == sorted(set(values))


# --- servers that go and come -----------------------------------------------------------------------------------------


def test_a_server_that_restarts_is_found_again():
    """The driver reconnects by itself; one event says that it went, one that it is back."""
    with modbus_server({1: {10: 0, 11: 1}}) as server, gateway(server.url, 1) as (running, store):
        running.until(lambda: bool(store.readings))
        server.stop()
        running.until(lambda: running.driver.health().state == "trouble")
        before = len(store.readings)
        server.words[1][11] = 2
        server.start()
        running.until(lambda: len(store.readings) > before)
        running.until(lambda: running.driver.health().state == "ok")
        assert running.driver.health().counts["reconnects"] >= 1
    assert store.readings[-1].value == 2
    assert {reading.value for reading in store.readings} == {1, 2}
    assert [(level, subject) for level, subject, _ in store.notes] == [("warning", "main"), ("info", "main")]


def test_a_server_that_is_not_there_at_the_start_is_found_when_it_comes():
    """Node-red once never asked again (node-red-contrib-modbus 192)."""
    with modbus_server({1: {10: 0, 11: 1}}) as server:
        server.stop()
        with gateway(server.url, 1) as (running, store):
            running.until(lambda: running.driver.health().state == "trouble")
            assert running.driver.last_reads()["1"].problem.startswith("no connection")
            server.start()
            running.until(lambda: bool(store.readings))


def test_a_gateway_that_closes_idle_connections_costs_no_reading(bus, monkeypatch):
    """Many do after a minute: the next request opens it again, and nobody hears of it."""
    monkeypatch.setattr(bus_module, "FRESH", 0.0)  # it has been idle, however soon after the answer
    with modbus_server({1: {10: 0, 11: 5}}) as server:
        line = bus(server.url)
        assert line.read(ASKED).words == (0, 5)
        server.stop()
        server.start()
        assert line.read(ASKED).words == (0, 5)
        assert line.opened == 2


# --- odd answers ------------------------------------------------------------------------------------------------------


class Babbler(OneClient):
    """Answers each request with what the test says; the request's frame is passed in. None hangs up."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        super().__init__("tcp")
        self._answer = answer
        self.accepted = 0

    def serve(self, client: socket.socket) -> None:
        self.accepted += 1
        while not self.over.is_set() and (request := client.recv(1024)):
            answer = self._answer(request)
            if answer is None:
                break
            self._send(client, answer)

    def _send(self, client: socket.socket, answer: bytes) -> None:
        client.sendall(answer)


class Stutterer(Babbler):
    """Sends each byte by itself, as fast as a slow serial line; `rested` for so long at most, where the machine let it."""

    rested = 0.0  # s
    through = False  # with its answer

    def _send(self, client: socket.socket, answer: bytes) -> None:
        before = monotonic()
        for at in range(len(answer)):
            client.sendall(answer[at : at + 1])
            before, rest = monotonic(), monotonic() - before
            self.rested = max(self.rested, rest)
            self.over.wait(0.001)
        self.through = True


class Leaver(Stutterer):
    """And hangs up behind its answer."""

    def serve(self, client: socket.socket) -> None:
        self._send(client, self._answer(client.recv(1024)) or b"")


class Flood(Babbler):
    """Says its answer again and again, without end; `rested` for so long behind the first one."""

    rested = 0.0  # s

    def _send(self, client: socket.socket, answer: bytes) -> None:
        client.sendall(answer)
        said = monotonic()
        self.over.wait(0.02)  # so that the first one is an answer by itself
        self.rested = monotonic() - said
        while not self.over.is_set():
            client.sendall(100 * answer)


class Slammer(Babbler):
    """Accepts connections and closes them at once, as a gateway does that already has its one client."""

    def serve(self, client: socket.socket) -> None:
        self.accepted += 1


class OneByOne(Babbler):
    """Closes the connection after each answer, as the smallest gateways do."""

    def serve(self, client: socket.socket) -> None:
        self.accepted += 1
        if (request := client.recv(1024)) and (answer := self._answer(request)) is not None:
            client.sendall(answer)


def framed(request: bytes, pdu: bytes, *, transaction: int | None = None, device: int | None = None) -> bytes:
    """A Modbus TCP frame around a PDU; the request's ids but where another is asked for."""
    number = struct.unpack(">H", request[:2])[0] if transaction is None else transaction
    return struct.pack(">HHHB", number, 0, len(pdu) + 1, request[6] if device is None else device) + pdu


GOOD = b"\x03\x04\x00\x00\x04\xd2"


def test_the_words_of_a_good_answer_arrive(bus):
    """The yardstick for the odd ones below."""
    with Babbler(lambda request: framed(request, GOOD)) as babbler:
        answer = bus(babbler.url).read(ASKED)
    assert isinstance(answer, Answer)
    assert answer.words == (0, 1234)
    assert 0 < answer.took < PATIENCE


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("another function", lambda request: framed(request, b"\x04\x04\x00\x00\x04\xd2")),
        ("one register too few", lambda request: framed(request, b"\x03\x02\x04\xd2")),
        ("one register too many", lambda request: framed(request, b"\x03\x06\x00\x00\x04\xd2\x00\x00")),
        ("no register", lambda request: framed(request, b"\x03\x00")),
        ("half a register too many", lambda request: framed(request, b"\x03\x05\x00\x00\x04\xd2\x00")),
        ("half a register", lambda request: framed(request, b"\x03\x03\x00\x00\x04")),
        ("a byte count that lies", lambda request: framed(request, b"\x03\x04\x00\x00")),
        ("an exception for another function", lambda request: framed(request, b"\x84\x02")),
        ("an exception that means nothing", lambda request: framed(request, b"\x83\xf4")),
        ("an exception without its code", lambda request: framed(request, b"\x83")),
        ("a function without data", lambda request: framed(request, b"\x03")),
        ("an unknown function", lambda request: framed(request, b"\x63\x01\x02")),
        ("an empty frame", lambda request: framed(request, b"")),
        ("another protocol", lambda request: b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("zeros", lambda request: bytes(40)),
        ("ones", lambda request: b"\xff" * 300),
        ("a flood", lambda request: bytes(range(256)) * 40),
        ("another device", lambda request: framed(request, GOOD, device=2)),
        ("another transaction", lambda request: framed(request, GOOD, transaction=999)),
        ("no transaction", lambda request: framed(request, GOOD, transaction=0)),
        ("the beginning of an answer", lambda request: framed(request, GOOD)[:9]),
    ],
)
def test_what_is_no_answer_to_this_request_is_a_bad_answer_and_never_words(bus, name, answer):
    """R2: pymodbus itself checks neither function nor length. Two requests: the first must not spoil the second."""

    def live(timeout: float) -> None:
        with Babbler(answer) as babbler:
            line = bus(babbler.url)
            for _ in range(2):
                with pytest.raises(BadAnswer):
                    line.read(ASKED._replace(timeout=timeout))  # whether more comes is waited for
                if not line.is_open:
                    line.open()

    patiently(live, TIMEOUT)


@pytest.mark.parametrize("code", [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0B])
def test_an_exception_of_the_protocol_keeps_its_code_and_the_connection(bus, code):
    """What to do about it is decided elsewhere."""
    with Babbler(lambda request: framed(request, bytes([0x83, code]))) as babbler:
        line = bus(babbler.url)
        with pytest.raises(ExceptionAnswer) as refused:
            line.read(ASKED)
        assert refused.value.code == code
        assert line.is_open


def test_an_old_answer_and_the_right_one_in_one_packet_are_told_apart(bus):
    """The gateway has caught up."""
    late = b"\x03\x04\x00\x00\x00\x01"
    with Babbler(lambda request: framed(request, late, transaction=998) + framed(request, GOOD)) as babbler:
        assert bus(babbler.url).read(ASKED).words == (0, 1234)


@pytest.mark.parametrize(("kind", "pieces"), [(Babbler, 0.5), (Stutterer, 0.5), (Leaver, PATIENCE)])
def test_an_answer_that_breaks_off_is_not_filled_up_with_the_beginning_of_another(bus, kind, pieces, monkeypatch):
    """R2: a gateway hands on what its serial line lost the end of, with the length that it should have; then a late answer."""
    monkeypatch.setattr(bus_module, "PIECES", pieces)  # a busy machine rests between two bytes, too
    other = b"\x03\x04\x00\x00\x00\x01"

    def is_bad(kept: int) -> bool:
        """Unless the machine let nothing follow for so long that it looked like the end."""
        with kind(lambda request: framed(request, GOOD)[:kept] + framed(request, other, transaction=9)) as gateway:
            try:
                words = bus(gateway.url).read(ASKED).words
            except BadAnswer as bad:
                return str(bad).startswith("an answer and bytes that are none")
            assert isinstance(gateway, Stutterer), words
            until(lambda: gateway.through)
            assert gateway.rested > pieces / 2, words
            return False

    for kept in range(9, 13):
        until(lambda kept=kept: is_bad(kept))


def test_an_answer_that_a_serial_server_repeats_without_end_is_none(bus):
    """And costs no time: looking through all of it would take for ever, and the service with it."""
    gap = 1.0  # s

    def is_none() -> bool:
        """Unless the machine let the flood begin when nobody listened any more, or before the first answer was taken."""
        with Flood(lambda request: b"\x01" + GOOD + b"\x78\xae") as gateway:
            line = bus(f"rtu+{gateway.url}")
            try:
                words = line.read(ASKED._replace(gap=gap)).words
            except BadAnswer as bad:
                assert not line.is_open
                return "no end of bytes" in str(bad)
            until(lambda: gateway.rested)
            assert gateway.rested > gap / 2, words
            return False

    until(is_none)


def test_an_answer_in_pieces_is_one(bus):
    """Some gateways send the head by itself; some are behind a modem."""
    with Stutterer(lambda request: framed(request, GOOD)) as gateway:
        line = bus(gateway.url)
        for _ in range(2):
            assert line.read(ASKED).words == (0, 1234)
        assert gateway.accepted == 1


def test_a_connection_closed_instead_of_an_answer_is_a_lost_line(bus):
    """And it is closed on this side, too."""
    with Babbler(lambda request: None) as babbler:
        line = bus(babbler.url)
        with pytest.raises(LineError, match="connection lost"):
            line.read(ASKED)
        assert not line.is_open


def test_a_gateway_that_closes_after_each_answer_is_asked_over_a_new_connection_each_time(bus, monkeypatch):
    """Also where the close comes after the next request has gone out: nobody hears of it, nothing is lost."""
    monkeypatch.setattr(bus_module, "FRESH", PATIENCE)  # however late a busy machine comes to the close
    with OneByOne(lambda request: framed(request, GOOD)) as gateway:
        line = bus(gateway.url)
        assert [line.read(ASKED).words for _ in range(20)] == [(0, 1234)] * 20
        assert line.opened == gateway.accepted == 20


def test_a_connection_that_is_closed_over_the_second_request_is_a_lost_line(bus, monkeypatch):
    """A close that comes at once is taken for an old one, and the request is sent again, once."""
    monkeypatch.setattr(bus_module, "FRESH", PATIENCE)  # at once, also on a busy machine
    answers = iter([GOOD])
    with Babbler(lambda request: framed(request, pdu) if (pdu := next(answers, b"")) else None) as babbler:
        line = bus(babbler.url)
        assert line.read(ASKED).words == (0, 1234)
        with pytest.raises(LineError, match="connection lost"):
            line.read(ASKED)
        assert babbler.accepted == 2


def test_a_gateway_that_takes_nobody_is_a_lost_line_however_soon_it_closes(bus):
    """It accepts and closes, since it has its one client already: no other error may come out of the wire."""
    with Slammer(lambda request: None) as slammer:
        line = bus(slammer.url, pause_after_connect="500ms")
        closed = r"closed by the other end|reset by peer"  # what had been asked already, on a busy machine
        with pytest.raises(LineError, match=closed):
            line.read(ASKED)
        assert not line.is_open


def test_a_driver_outlives_a_gateway_that_takes_nobody():
    """It goes on trying, with pauses, and says what it sees."""
    with Slammer(lambda request: None) as slammer:
        with gateway(slammer.url, 1, pause_after_connect="250ms") as (running, store):
            running.until(lambda: slammer.accepted >= 3)
            running.until(lambda: "closed by the other end" in running.driver.health().detail)
            assert running.driver.health().state == "trouble"
        assert [level for level, _, _ in store.notes] == ["warning"]


def test_two_silences_in_a_row_open_the_connection_anew(bus):
    """A gateway whose transaction ids are off by one stays so until then (telegraf 14317)."""
    with modbus_server({1: {10: 0, 11: 1}}) as server:
        server.mute.add(1)
        line = bus(server.url)
        for still_open in (True, False):
            with pytest.raises(NoAnswer):
                line.read(HASTY)
            assert line.is_open is still_open


def test_a_new_connection_goes_on_counting_its_transactions(bus):
    """A cheap gateway answers the last connection's request on the new one: the number must not come twice."""
    asked = []
    with Babbler(lambda request: asked.append(request[:2]) or b"") as babbler:
        line = bus(babbler.url)
        for _ in range(3):
            if not line.is_open:
                line.open()
            with pytest.raises(NoAnswer):
                line.read(HASTY._replace(timeout=0.1))
        until(lambda: len(asked) >= 3)
        assert line.opened == 2
    assert len(set(asked)) == 3


def test_an_answer_with_another_transaction_id_is_told_with_what_to_do_about_it(bus):
    """Some gateways never echo the id (sunsynk 680): such a box is used as a transparent serial server."""

    def live(timeout: float) -> None:
        told = pytest.raises(BadAnswer, match=r"of another request.*rtu\+tcp://")
        with Babbler(lambda request: framed(request, GOOD, transaction=0x1234)) as babbler, told:
            bus(babbler.url).read(ASKED._replace(timeout=timeout))

    patiently(live, TIMEOUT)


def test_a_broken_answer_with_the_right_transaction_id_is_not_said_to_be_anothers(bus):
    """Its length is wrong, and transparent mode would not help."""

    def too_long(request: bytes) -> bytes:
        frame = framed(request, GOOD)
        return frame[:5] + bytes((frame[5] + 2,)) + frame[6:]

    def live(timeout: float) -> None:
        with Babbler(too_long) as babbler, pytest.raises(BadAnswer, match="no answer to this request") as told:
            bus(babbler.url).read(ASKED._replace(timeout=timeout))
        assert "of another request" not in str(told.value)

    patiently(live, 0.05)


def test_a_gateway_that_needs_rest_after_a_connection_is_asked_later(bus):
    """`pause_after_connect`, seen from the other side; after each connection, not only the first."""
    asked = []
    with Babbler(lambda request: asked.append(monotonic()) or framed(request, GOOD)) as babbler:
        line = bus(babbler.url, pause_after_connect="100ms")
        for _ in range(2):
            line.close()
            began = monotonic()
            line.open()
            line.read(ASKED)
            assert asked[-1] - began >= 0.1


def test_what_says_nothing_and_takes_nothing_is_reported_in_words(bus):
    """Nobody listens."""
    port = lasting_port()
    with pytest.raises(LineError, match=f"{HOST}:{port}: Connection refused"):
        bus(f"tcp://{HOST}:{port}")
