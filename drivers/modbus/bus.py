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
from drivers.modbus.decode import hexed
from drivers.modbus.opening import explained, reason
from drivers.modbus.plan import MOST_REGISTERS
from drivers.modbus.tls import encrypted
from drivers.modbus.wire import EXCEPTIONS, Answer, BadAnswer, ExceptionAnswer, NoAnswer, Request
from drivers.modbus.wiretime import ASCII, RTU

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

    from drivers.modbus.address import Address
    from drivers.modbus.connection import Connection

DRAIN = 0.6  # s of quiet after a silence on RTU; a late answer within it is discarded (measured: sufficient)
LONGEST_DRAIN = 2.0  # s and the time of the longest frame; a line that babbles on is used all the same
REOPEN_AFTER = 2  # silences in a row after which a TCP connection is opened anew
MOST_HEARD = 1024  # bytes for one request; frames have 260, or 513. Beyond it somebody babbles: parsing it is quadratic
CONNECT_TIMEOUT = 3.0  # s at least: a lost SYN is sent again after 1 s
PAUSE = 1.0  # s that an ASCII frame may rest between two characters (Modbus over serial line 1.02, section 2.5.2)
LONGEST_PAUSES = 5.0  # s by which they may make one answer longer
CHUNK = 4096
NEVER_CLOSE = 10**6  # silences in a row until pymodbus closes the connection by itself: the policy is ours

ECHO_HINT = ": set local_echo = true"
OTHER_REQUEST_HINT = (
    "; by its transaction id it is the answer of another request: where each answer is so, the gateway does not return the id; "
    "switch it to transparent mode and use rtu+tcp://"
)
FUNCTIONS = {"holding": 3, "input": 4}
_WIRE_ERRORS = (OSError, termios.error)  # termios.error is not an OSError
_FRAME_ERRORS = (ModbusException, ValueError, IndexError, struct.error)

log = logging.getLogger(__name__)
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # it tells every silence as an error; we tell changes


def monotonic() -> float:
    """Wire time."""
    return time.monotonic()  # noqa: TID251 - a wire has real time, whatever the gateway's clock says


class _Line:
    """The bytes of one open line, with their times: mixed into a pymodbus client, whose I/O it replaces."""

    character = 0.0  # seconds for a character, where the line's speed is ours to know
    pause = 0.0  # seconds that a frame may rest between two characters
    socket: Any
    started = 0.0  # when the request's first byte went out
    last = 0.0  # when the newest byte, sent or heard, was over
    deadline = 0.0
    latest = 0.0  # until when characters that come one by one may move the deadline
    timeout = 1.0
    answer_bytes = 0
    echo_bytes = 0  # of our own request, which is heard before the answer
    sent = b""
    heard = bytearray()

    def connect(self) -> bool:
        """Asked by pymodbus before each request; opening is ours."""
        return self.socket is not None

    def expect(self, timeout: float, answer_bytes: int, echo_bytes: int) -> None:
        """What follows the next request."""
        self.timeout, self.answer_bytes, self.echo_bytes = timeout, answer_bytes, echo_bytes

    def send(self, request: bytes, addr: object = None) -> int:
        """Send, and start the clock of the timeout when the last byte is out."""
        del addr
        self.sent = request
        self.heard = bytearray()
        self.started = monotonic()
        self._put(request)
        self.last = monotonic() + len(request) * self.character
        self.deadline, self.latest = self.last + self.timeout, 0.0
        return len(request)

    def recv(self, size: int | None) -> bytes:
        """What comes, b"" when the time is over. A first byte in time buys the time that the rest of a frame takes."""
        del size
        if len(self.heard) > MOST_HEARD:
            return b""
        data = self._take(self.deadline - monotonic())
        if data:
            self.last = monotonic()
            self.heard += data
            if not self.latest and self._begun:
                whole = self.last + self.answer_bytes * self.character
                self.deadline, self.latest = max(self.deadline, whole), whole + LONGEST_PAUSES
            self.deadline = max(self.deadline, min(self.last + self.pause, self.latest))
        return data

    def quiet(self, until: float, gap: float) -> None:
        """Discard what comes until `until`, and until nothing was heard for `gap`; not for ever."""
        latest = max(until, monotonic()) + LONGEST_DRAIN + ASCII.answer_of(MOST_REGISTERS) * self.character
        while monotonic() < latest:
            left = max(until, self.last + gap) - monotonic()
            if left <= 0 and not self._ready():
                return
            if self._take(left):
                self.last = monotonic()

    @property
    def _begun(self) -> bool:
        """Whether more than our own echo was heard."""
        return len(self.heard) > self.echo_bytes or not self.sent.startswith(self.heard)

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

    def __init__(self, connection: Connection, address: Address) -> None:
        """Opens nothing."""
        self._connection = connection
        self._address = address
        self._frames = ASCII if address.ascii else RTU
        self._framer = FramerType.ASCII if address.ascii else FramerType.RTU if address.untagged else FramerType.SOCKET
        self.opened = 0
        self._line: Any = None
        # whoever gives the devices of a line more time knows that they are slow
        self._drain = max(PAUSE if address.ascii else DRAIN, (connection.timeout or 0.0) / 2)
        self._silences = 0  # in a row
        self._transactions = 0  # number of the last one; goes on over connections: some gateways answer to the next one
        self._quiet_until = 0.0

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
        """As the protocol says."""
        self._settle(request.gap)
        line = self._line
        echo = self._frames.request if self._connection.local_echo else 0
        line.expect(request.timeout, self._frames.answer_of(request.block.count), echo)
        try:
            response = self._execute(line, request)
        except (ConnectionException, *_WIRE_ERRORS) as error:
            raise self._lost(error) from None
        except _FRAME_ERRORS:
            raise self._unanswered(line) from None
        try:
            if not self._connection.local_echo:
                _refuse_echo(line)
            words = _words(response, request, bytes(line.heard), ascii_=self._address.ascii)
        except BadAnswer:
            self._suspect()
            raise
        except ExceptionAnswer:
            self._silences = 0
            raise
        self._silences = 0
        return Answer(words, line.last - line.started)

    def pause(self, seconds: float) -> None:
        """As the protocol says."""
        if seconds > 0:
            time.sleep(seconds)  # noqa: TID251 - wire time: see `monotonic`

    def close(self) -> None:
        """As the protocol says."""
        line, self._line = self._line, None
        if line is not None:
            self._transactions = line.transaction.next_tid
            with contextlib.suppress(*_WIRE_ERRORS):
                line.close()

    @property
    def _where(self) -> str:
        port = f":{self._address.port}" if self._address.port else ""
        return f"{self._address.host}{port}"

    def _settle(self, gap: float) -> None:
        """Wait until the line may be used. Many gateways close an idle connection: no fault, it is reopened."""
        gap = max(gap, self._address.silence)
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
        block = request.block
        read = line.read_holding_registers if block.table == "holding" else line.read_input_registers
        try:
            response: ModbusPDU = read(block.start, count=block.count, device_id=request.device)
        finally:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s: sent %s, heard %s", self._where, line.sent.hex(" "), line.heard.hex(" ") or "nothing")
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
        shown = heard[:32].hex(" ")
        hint = ""
        if echoed and self._address.untagged:
            hint = f"; the request itself came back{ECHO_HINT}"
        elif not self._address.untagged and heard[2:4] == bytes(2) and heard[6:7] == line.sent[6:7]:
            hint = OTHER_REQUEST_HINT
        return BadAnswer(f"{len(heard)} bytes that are no answer to this request: {shown}{hint}", raw=heard)

    def _suspect(self, *, bad: bool = True) -> None:
        """A late answer may still come. Closing helps best; on a serial line only quiet does."""
        if self._address.untagged:
            self._quiet_until = monotonic() + self._drain
            if not self._address.serial:
                self.close()
        elif bad or self._silences >= REOPEN_AFTER:
            self.close()

    def _serial_line(self) -> _SerialLine:
        settings = self._address.serial
        assert settings is not None
        line = _SerialLine(self._address.host, framer=self._framer, retries=0, **settings._asdict())
        self._prepare(line)
        line.character = settings.character
        line.socket = serial.Serial(
            self._address.host, exclusive=True, timeout=1.0, write_timeout=1.0, **settings._asdict()
        )
        return line

    def _network_line(self) -> _NetworkLine:
        host = self._address.host
        line = _NetworkLine(host, port=self._address.port, framer=self._framer, retries=0)
        self._prepare(line)
        timeout = max(CONNECT_TIMEOUT, self._connection.timeout or 0.0)
        connected = socket.create_connection((host, self._address.port), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.socket = encrypted(connected, self._connection, host) if self._address.scheme == "tls" else connected
        return line

    def _prepare(self, line: Any) -> None:  # noqa: ANN401 - a pymodbus client with our bytes
        line.set_max_no_responses(NEVER_CLOSE)
        line.transaction.count_until_disconnect = NEVER_CLOSE
        line.transaction.next_tid = self._transactions
        line.transaction.comm_params.handle_local_echo = self._connection.local_echo
        line.transaction.comm_params.timeout_connect = float("inf")  # its own deadline; ours is kept by `recv`
        line.pause = PAUSE if self._address.ascii else 0.0
        line.heard = bytearray()
        line.last = monotonic()


def _refuse_echo(line: _Line) -> None:
    """A request for a register around 0x0300 reads as an answer with 3 bytes, checksum and all; on ASCII more of them do."""
    if line.heard.startswith(line.sent):
        raise BadAnswer(f"the request itself came back{ECHO_HINT}", raw=bytes(line.heard))


def _words(response: ModbusPDU, request: Request, heard: bytes, *, ascii_: bool) -> tuple[int, ...]:
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
    if _beginning(request, ascii_=ascii_) not in (heard.upper() if ascii_ else heard):
        raise BadAnswer(f"an odd number of bytes instead of {len(words)} registers", raw=heard)
    return words


def _beginning(request: Request, *, ascii_: bool) -> bytes:
    """How a good answer begins: device, function, number of bytes; on ASCII its colon and their letters."""
    begins = bytes((request.device, FUNCTIONS[request.block.table], 2 * request.block.count))
    return b":" + begins.hex().upper().encode() if ascii_ else begins
