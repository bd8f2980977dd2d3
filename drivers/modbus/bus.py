"""The seam to pymodbus: its synchronous client does frames and checksums, the bytes and their times are ours.

Ours because (pymodbus 3.16, read and measured; docs/decisions/0001-modbus-client.md): its `recv` may take the timeout
twice; its TCP client does not discard late bytes before a request, which on RTU over TCP makes a late answer the next
one; its serial `recv` sleeps in steps; its `connect` logs the reason of a failure instead of telling it; its TLS client
cannot check a host name.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import ssl
import struct
import termios
import time
from typing import TYPE_CHECKING, Any

import serial
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import ExceptionResponse

from drivers.base import LineError, SetupError
from drivers.modbus.awaited import LATEST, Awaited, answered_twice
from drivers.modbus.decode import hexed
from drivers.modbus.opening import explained, reason
from drivers.modbus.wire import EXCEPTIONS, FUNCTIONS, Answer, BadAnswer, ExceptionAnswer, NoAnswer, Request

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

    from drivers.modbus.address import Address
    from drivers.modbus.config import Connection

DRAIN = 0.6  # s of quiet after a silence on RTU; a late answer within it is discarded (measured: sufficient)
LONGEST_DRAIN = 2.0  # s; a line that babbles on is used all the same
REOPEN_AFTER = 2  # silences in a row after which a TCP connection is opened anew
MOST_HEARD = (
    1024  # bytes for one request; the longest frame is 260. Beyond it somebody babbles, and parsing it is quadratic
)
CONNECT_TIMEOUT = 3.0  # s at least: a lost SYN is sent again after 1 s
REQUEST_BYTES = 8  # of an RTU read; its answer has 5 + 2n
CHUNK = 4096
NEVER_CLOSE = 10**6  # silences in a row until pymodbus closes the connection by itself: the policy is ours

_WIRE_ERRORS = (OSError, termios.error)  # termios.error is not an OSError
_FRAME_ERRORS = (ModbusException, ValueError, IndexError, struct.error)

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # it tells every silence as an error; we tell changes


def monotonic() -> float:
    """Wire time."""
    return time.monotonic()  # noqa: TID251 - a wire has real time, whatever the gateway's clock says


class _Line:
    """The bytes of one open line, with their times: mixed into a pymodbus client, whose I/O it replaces."""

    character = 0.0  # seconds for a character, where the line's speed is ours to know
    socket: Any
    started = 0.0  # when the request's first byte went out
    last = 0.0  # when the newest byte, sent or heard, was over
    deadline = 0.0
    timeout = 1.0
    answer_bytes = 0
    sent = b""
    heard = bytearray()

    def connect(self) -> bool:
        """Asked by pymodbus before each request; opening is ours."""
        return self.socket is not None

    def send(self, request: bytes, addr: object = None) -> int:
        """Send, and start the clock of the timeout when the last byte is out."""
        del addr
        self.sent = request
        self.heard = bytearray()
        self.started = monotonic()
        self._put(request)
        self.last = monotonic() + len(request) * self.character
        self.deadline = self.last + self.timeout
        return len(request)

    def recv(self, size: int | None) -> bytes:
        """What comes, b"" when the time is over. A first byte in time buys the time that the rest of a frame takes."""
        del size
        if len(self.heard) > MOST_HEARD:
            return b""
        data = self._take(self.deadline - monotonic())
        if data:
            self.last = monotonic()
            if not self.heard:
                self.deadline = max(self.deadline, self.last + self.answer_bytes * self.character)
            self.heard += data
        return data

    def quiet(self, until: float, gap: float) -> bytes:
        """Wait until `until`, and until nothing was heard for `gap`; not for ever. What came meanwhile belongs to nobody."""
        stray = b""
        latest = max(until, monotonic()) + LONGEST_DRAIN
        while monotonic() < latest:
            left = max(until, self.last + gap) - monotonic()
            if left <= 0 and not self._ready():
                break
            if data := self._take(left):
                self.last = monotonic()
                stray += data
        return stray

    def _ready(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])

    def _put(self, data: bytes) -> None:
        raise NotImplementedError

    def _take(self, seconds: float) -> bytes:
        raise NotImplementedError


class _NetworkLine(_Line, ModbusTcpClient):
    def _put(self, data: bytes) -> None:
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def _take(self, seconds: float) -> bytes:
        self.socket.settimeout(max(seconds, 0.0001))  # 0 would mean: do not wait, and raise
        try:
            data: bytes = self.socket.recv(CHUNK)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the other end")
        return data


class _SerialLine(_Line, ModbusSerialClient):
    def _put(self, data: bytes) -> None:
        self.socket.write(data)

    def _take(self, seconds: float) -> bytes:
        port = self.socket.fileno()
        if not select.select([port], [], [], max(seconds, 0.0))[0]:
            return b""
        data = os.read(port, CHUNK)
        if not data:
            raise OSError(errno.EIO, "the port is gone")
        return data


class PymodbusBus:
    """A line to one bus or gateway. See `drivers.modbus.wire.Bus`."""

    def __init__(
        self, connection: Connection, address: Address, *, drain: float = DRAIN, latest: float = LATEST
    ) -> None:
        """Opens nothing. On RTU: seconds of quiet after a silence or a bad answer, and how late an answer can be."""
        self._connection = connection
        self._address = address
        self.opened = 0
        self._line: Any = None
        self._silences = 0  # in a row
        self._quiet_until = 0.0
        self._drain = drain
        self._awaited = Awaited(latest)

    @property
    def is_open(self) -> bool:
        """As the protocol says."""
        return self._line is not None

    def open(self) -> None:
        """As the protocol says. Rests first where the line was closed as suspicious."""
        self.pause(self._quiet_until - monotonic())
        self._silences = 0
        try:
            self._line = self._serial_line() if self._address.serial else self._network_line()
        except ssl.SSLCertVerificationError as error:
            raise SetupError(f"{self._where}: the certificate is not accepted: {error.verify_message}") from None
        except (*_WIRE_ERRORS, ValueError) as error:  # pyserial says ValueError for settings that a port cannot have
            raise explained(error, self._address) from None
        self.opened += 1
        self._quiet_until = monotonic() + self._connection.pause_after_connect

    def read(self, request: Request) -> Answer:
        """As the protocol says. Where a late answer could be mistaken for this one's, another question clears it up first."""
        if self._address.rtu and self._awaited.mistakable(request, monotonic()):
            self._clear_up(request)
        return self._ask(request)

    def _clear_up(self, request: Request) -> None:
        question = self._awaited.question(request, monotonic())
        if question is not None:
            with contextlib.suppress(ExceptionAnswer):
                self._ask(question)
                return
        if self._awaited.mistakable(request, monotonic()):
            raise NoAnswer("not asked: answers to earlier requests may still come, and would look like this one's")

    def _ask(self, request: Request) -> Answer:
        self._settle(request.gap)
        line = self._line
        line.timeout = request.timeout
        line.answer_bytes = REQUEST_BYTES * self._connection.local_echo + 5 + 2 * request.block.count
        try:
            response = self._execute(line, request)
        except (ConnectionException, *_WIRE_ERRORS) as error:
            raise self._lost(error) from None
        except _FRAME_ERRORS:
            raise self._unanswered(line) from None
        try:
            words = _words(response, request, bytes(line.heard))
        except BadAnswer:
            self._suspect()
            raise
        except ExceptionAnswer:
            self._silences = 0
            self._awaited.refused(request)
            raise
        self._silences = 0
        took = line.last - line.started
        if self._address.rtu:
            self._nothing_follows(line, request)
        self._awaited.answered(request)
        return Answer(words, took)

    def _nothing_follows(self, line: _Line, request: Request) -> None:
        """The gap before the next request is kept now: where a second answer follows, the first may have been no answer."""
        heard = bytes(line.heard)
        with contextlib.suppress(*_WIRE_ERRORS):  # some serial servers hang up now; the next request finds out
            heard += line.quiet(0.0, max(request.gap, self._silence))
        if answered_twice(_beginning(request), 5 + 2 * request.block.count, heard):
            self._suspect()
            raise BadAnswer(f"two answers to one request: {heard[:64].hex(' ')}", raw=heard)

    def pause(self, seconds: float) -> None:
        """As the protocol says."""
        if seconds > 0:
            time.sleep(seconds)  # noqa: TID251 - wire time: see `monotonic`

    def close(self) -> None:
        """As the protocol says."""
        line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(*_WIRE_ERRORS):
                line.close()

    @property
    def _where(self) -> str:
        port = f":{self._address.port}" if self._address.port else ""
        return f"{self._address.host}{port}"

    @property
    def _silence(self) -> float:
        return self._address.serial.silence if self._address.serial else 0.0

    def _settle(self, gap: float) -> None:
        """Wait until the line may be used. Many gateways close an idle connection: no fault, it is reopened."""
        gap = max(gap, self._silence)
        try:
            self._line.quiet(self._quiet_until, gap)
        except _WIRE_ERRORS:
            self.close()
            self.open()
            try:
                self._line.quiet(self._quiet_until, gap)
            except _WIRE_ERRORS as error:  # it takes nobody: another master has its only place, mostly
                raise self._lost(error) from None

    def _lost(self, error: BaseException) -> LineError:
        self.close()
        return LineError(f"{self._where}: connection lost: {reason(error)}")

    def _execute(self, line: Any, request: Request) -> ModbusPDU:  # noqa: ANN401 - a pymodbus client with our bytes
        if self._address.rtu:
            self._awaited.sent(request, monotonic())
        block = request.block
        # the manager's own deadline only has to be later than ours, which `recv` keeps
        line.transaction.comm_params.timeout_connect = request.timeout + LONGEST_DRAIN
        read = line.read_holding_registers if block.table == "holding" else line.read_input_registers
        response: ModbusPDU = read(block.start, count=block.count, device_id=request.device)
        return response

    def _unanswered(self, line: _Line) -> NoAnswer | BadAnswer:
        heard = bytes(line.heard)
        echoed = heard.startswith(line.sent)
        if echoed and self._connection.local_echo:
            heard = heard[len(line.sent) :]
        self._silences += 1
        self._suspect(bad=bool(heard))
        if not heard:
            return NoAnswer(f"no answer within {line.timeout:g} s")
        hint = "; the request itself came back: set local_echo = true" if echoed and self._address.rtu else ""
        shown = heard[:32].hex(" ")
        return BadAnswer(f"{len(heard)} bytes that are no answer to this request: {shown}{hint}", raw=heard)

    def _suspect(self, *, bad: bool = True) -> None:
        """A late answer may still come. Closing helps best; on a serial line only quiet does."""
        if self._address.rtu:
            self._quiet_until = monotonic() + self._drain
        if self._address.scheme == "rtu+tcp" or (not self._address.rtu and (bad or self._silences >= REOPEN_AFTER)):
            self.close()

    def _serial_line(self) -> _SerialLine:
        settings = self._address.serial
        assert settings is not None
        line = _SerialLine(self._address.host, retries=0, **settings._asdict())
        self._prepare(line)
        line.character = settings.character
        line.socket = serial.Serial(
            self._address.host, exclusive=True, timeout=1.0, write_timeout=1.0, **settings._asdict()
        )
        return line

    def _network_line(self) -> _NetworkLine:
        framer = FramerType.RTU if self._address.rtu else FramerType.SOCKET
        line = _NetworkLine(self._address.host, port=self._address.port, framer=framer, retries=0)
        self._prepare(line)
        timeout = max(CONNECT_TIMEOUT, self._connection.timeout or 0.0)
        connected = socket.create_connection((self._address.host, self._address.port), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.socket = self._encrypted(connected) if self._address.scheme == "tls" else connected
        return line

    def _prepare(self, line: Any) -> None:  # noqa: ANN401 - a pymodbus client with our bytes
        line.set_max_no_responses(NEVER_CLOSE)
        line.transaction.count_until_disconnect = NEVER_CLOSE
        line.transaction.comm_params.handle_local_echo = self._connection.local_echo
        line.heard = bytearray()
        line.last = monotonic()

    def _encrypted(self, connected: socket.socket) -> ssl.SSLSocket:
        """MBAP inside TLS, as the Modbus/TCP Security specification has it; the certificate is always checked."""
        try:
            return self._tls_context().wrap_socket(connected, server_hostname=self._address.host)
        except BaseException:
            connected.close()
            raise

    def _tls_context(self) -> ssl.SSLContext:
        """Files that cannot be read are the operator's to mend; they are no failure of the network."""
        settings = self._connection
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:
            raise SetupError(f"{settings.ca_file}: no certificate can be read from it: {reason(error)}") from None
        if settings.cert_file:
            try:
                context.load_cert_chain(settings.cert_file, settings.key_file)
            except OSError as error:
                files = f"{settings.cert_file} and {settings.key_file or 'the key in it'}"
                raise SetupError(f"{files}: cannot be used as certificate and key: {reason(error)}") from None
        return context


def _words(response: ModbusPDU, request: Request, heard: bytes) -> tuple[int, ...]:
    """The words of an answer that is really one to this request: pymodbus checks neither function nor length."""
    function = FUNCTIONS[request.block.table]
    if isinstance(response, ExceptionResponse):
        code = response.exception_code
        if response.function_code == function | 0x80 and code in EXCEPTIONS:
            raise ExceptionAnswer(code)
        raise BadAnswer(
            f"exception 0x{code:02X} for function {response.function_code & 0x7F}, asked {function}", raw=heard
        )
    if response.function_code != function:
        raise BadAnswer(f"function {response.function_code} instead of {function}", raw=heard)
    words = tuple(response.registers)
    if len(words) != request.block.count:
        got = f"{len(words)} registers instead of {request.block.count}"
        raise BadAnswer(f"{got}: {hexed(words[:16])}", raw=heard)
    return words


def _beginning(request: Request) -> bytes:
    """How a good answer begins: device, function, number of bytes."""
    return bytes((request.device, FUNCTIONS[request.block.table], 2 * request.block.count))
