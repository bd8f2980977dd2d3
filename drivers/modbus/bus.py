"""The seam to pymodbus: its synchronous client does frames and checksums, the bytes and their times are ours.

Ours because (pymodbus 3.16, read and measured; docs/decisions/0001-modbus-client.md): its `recv` may take the timeout
twice; its TCP client does not discard late bytes before a request, which on RTU over TCP makes a late answer the next
one; its serial `recv` sleeps in steps; its `connect` logs the reason of a failure instead of telling it; its TLS client
cannot check a host name.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import struct
import termios
import time
from typing import TYPE_CHECKING, Any, cast

import serial
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.framer import FramerRTU, FramerType

from drivers.base import LineError, SetupError
from drivers.modbus import tagged, wire
from drivers.modbus.awaited import LATEST, Awaited, answered_twice
from drivers.modbus.checked import ECHO_HINT, beginning, checked, refuse_echo
from drivers.modbus.line import MOST_HEARD, NetworkLine, PlainLine, PortLine, monotonic
from drivers.modbus.opening import connected, explained, mind_parity, must_have, reason
from drivers.modbus.stranger import Stranger
from drivers.modbus.wire import REFUSALS, Answer, BadAnswer, ExceptionAnswer, NoAnswer, Request
from drivers.modbus.wiretime import ASCII, MBAP, RTU

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

    from drivers.modbus.address import Address
    from drivers.modbus.connection import Connection
    from drivers.modbus.line import Line

FRESH = 0.2  # s after an answer over Modbus TCP for which nobody closes the connection as idle
DRAIN = 0.6  # s of quiet after a silence on RTU; a late answer within it is discarded (measured: sufficient)
WARY = 600.0  # s after an answer that nobody asked for: behind a serial server other clients' requests are not heard
REOPEN_AFTER = 2  # silences in a row after which a TCP connection is opened anew
PIECES = 0.02  # s at most between two pieces of a frame over Modbus TCP that come without a rest
PAUSE = 1.0  # s that an ASCII frame may rest between two characters (Modbus over serial line 1.02, section 2.5.2)
NO_DEVICES = bytes((0, *range(248, 256)))  # begin no answer; a line without bias says them when it is let go
LONGEST_FRAME = 256  # bytes, on RTU
NEVER_CLOSE = 10**6  # silences in a row until pymodbus closes the connection by itself: the policy is ours

GIVEN_UP = {wire.TARGET_SILENT, wire.DEVICE_FAILURE}  # by a gateway, maybe: then its meter's answer may still come

_WIRE_ERRORS = (OSError, termios.error)  # termios.error is not an OSError
_FRAME_ERRORS = (ModbusException, ValueError, IndexError, struct.error)

log = logging.getLogger(__name__)
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # it tells every silence as an error; we tell changes


class _TlsLine(NetworkLine, ModbusTcpClient):
    pass


class _TcpLine(PlainLine, ModbusTcpClient):
    pass


class _SerialLine(PortLine, ModbusSerialClient):
    pass


class PymodbusBus:
    """A line to one bus or gateway. See `drivers.modbus.wire.Bus`."""

    def __init__(
        self,
        connection: Connection,
        address: Address,
        *,
        reopen_after: int = REOPEN_AFTER,
        drain: float | None = None,
        latest: float = LATEST,
        alone: bool = True,
    ) -> None:
        """Opens nothing.

        `reopen_after`: silences in a row on TCP; more for a search, which meets little else. Where frames have no number,
        `drain`: seconds of quiet after a silence or a bad answer; `latest`: seconds by which an answer can be late. Not `alone`:
        answers to what others have asked before may still come, so that each device is asked a question first.
        """
        self._connection = connection
        self._address = address
        self._frames = ASCII if address.ascii else RTU if address.untagged else MBAP
        self._framer = FramerType.ASCII if address.ascii else FramerType.RTU if address.untagged else FramerType.SOCKET
        self.opened = 0
        self.discarded = 0  # bytes so far that were no part of an answer in time
        self._reopen_after = reopen_after
        self._line: Any = None
        # whoever gives the devices of a line more time knows that they are slow
        slow = max(PAUSE if address.ascii else DRAIN, (connection.timeout or 0.0) / 2)
        self._drain = slow if drain is None else drain
        self._silences = 0  # in a row
        self._transactions = 0  # number of the last one; goes on over connections: some gateways answer to the next one
        self._quiet_until = 0.0
        self._begun: Request | None = None  # has been sent already, and is not answered yet
        self._unlooked = False  # and the line was not looked at before
        self._awaited = Awaited(latest, alone=alone)
        self._wary_until = 0.0  # a second answer may follow each one: another client of a serial server asks, too
        self._stranger = Stranger(None if address.ascii else FramerRTU.compute_CRC)

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
        """As the protocol says. Where a late answer could be mistaken for this one's, another question clears it up first.

        Every exception could. A refusal is believed at once only where no older request is without its answer.
        """
        if self._begun is request:
            self._awaited.sent(request, monotonic())
            return self._answered(request, unlooked=self._unlooked)
        if self._awaited.mistakable(request, monotonic()):
            self._clear_up(request)
        doubtful = self._awaited.awaits(request.device, monotonic())
        try:
            return self._ask(request)
        except ExceptionAnswer as error:
            if not doubtful or error.code not in REFUSALS:  # others pass by themselves
                raise
        self._quiet_until = monotonic() + self._drain  # its own answer may follow
        self._clear_up(request)
        return self._ask(request)

    def _clear_up(self, request: Request) -> None:
        question = self._awaited.question(request, monotonic())
        if question is None:
            unclear = self._awaited.hurried(request, monotonic())
        else:
            try:
                self._ask(question)
            except ExceptionAnswer as error:
                if error.code in GIVEN_UP:
                    raise
            unclear = self._awaited.mistakable(request, monotonic())
        if unclear:
            raise NoAnswer("not asked: answers to earlier requests may still come, and would look like this one's")

    def _ask(self, request: Request) -> Answer:
        unlooked = self._settle(request.gap)
        self._awaited.sent(request, monotonic())
        line = self._line
        echo = self._frames.request if self._connection.local_echo else 0
        line.expect(request.timeout, self._frames.answer_of(request.block.count), echo)
        return self._answered(request, unlooked=unlooked)

    def _answered(self, request: Request, *, unlooked: bool) -> Answer:
        line = self._line
        try:
            words = self._words(line, request)
        except LineError:
            if not (unlooked and not line.heard and monotonic() - line.started < FRESH):
                raise
            self.open()  # it was closed before it was asked: no fault either
            self._awaited.unsent(request)
            return self._ask(request)
        except ExceptionAnswer as error:
            self._silences = 0
            self._count_extra(line, 0)
            if error.code not in GIVEN_UP:
                self._awaited.refused(request)
            raise
        self._silences = 0
        self._count_extra(line, len(words))
        last, took = line.last, line.last - line.started
        if self._address.untagged:
            self._nothing_follows(line, request)
        elif not line.settled:
            self._frame_ends(line)
        self._awaited.answered(request)
        return Answer(words, took, monotonic() - last if self._address.untagged else 0.0)

    def _words(self, line: Any, request: Request) -> tuple[int, ...]:  # noqa: ANN401 - a pymodbus client with our bytes
        try:
            response = self._execute(line, request)
        except (ConnectionException, *_WIRE_ERRORS) as error:
            raise self._lost(error) from None
        except _FRAME_ERRORS:
            raise self._unanswered(line) from None
        if isinstance(response, tuple):
            return response
        try:
            if not self._connection.local_echo:
                refuse_echo(line)
            return checked(response, request, bytes(line.heard), ascii_=self._address.ascii)
        except BadAnswer:
            if not self._address.untagged and response.function_code == wire.FUNCTIONS[request.block.table]:
                self._awaited.came(request, len(response.registers))
            self._suspect()
            raise

    def _nothing_follows(self, line: Line, request: Request) -> None:
        """The gap before the next request is kept now: where a second answer follows, the first may have been no answer."""
        gap = max(request.gap, self._address.silence, self._drain if monotonic() < self._wary_until else 0.0)
        heard = line.answer_in(self._heard_until_quiet(line, gap))
        letters, size = self._address.ascii, self._frames.answer_of(request.block.count)
        if letters:
            heard = heard.upper()
        begin = beginning(request, ascii_=letters)
        stranger = self._stranger.asked(heard[: heard.rfind(begin)])
        if stranger or answered_twice(begin, size, heard):
            self._suspect()
            what = "another master asks on this line, too" if stranger else "two answers to one request"
            raise BadAnswer(f"{what}: {heard[:64].hex(' ')}", raw=heard)
        if self._stranger.awaits_answer(heard):
            self._quiet_until = monotonic() + self._drain

    def _frame_ends(self, line: Line) -> None:
        """An answer over TCP that came in pieces, or behind others: with bytes behind it, it may hold those of another one."""
        heard = self._heard_until_quiet(line, PIECES)
        if not tagged.ends_with_it(line.sent, heard):
            self._suspect()
            raise BadAnswer(f"an answer and bytes that are none: {heard[:64].hex(' ')}", raw=heard)

    def _heard_until_quiet(self, line: Line, gap: float) -> bytes:
        with contextlib.suppress(*_WIRE_ERRORS):  # some serial servers hang up now; the next request finds out
            line.quiet(0.0, gap, MOST_HEARD)
        stray = line.stray
        self._unasked(stray)
        heard = bytes(line.heard) + stray
        if len(stray) > MOST_HEARD:
            self._suspect()
            raise BadAnswer(f"an answer and no end of bytes behind it: {heard[:64].hex(' ')}", raw=heard)
        return heard

    def names(self, device: int, timeout: float, gap: float) -> list[str]:
        """What a device says it is: maker, product, version (function 0x2B/0x0E, a read that few know). Raises as `read`."""
        self._settle(gap)
        line = self._line
        line.timeout, line.answer_bytes = timeout, LONGEST_FRAME
        try:
            response = line.read_device_information(read_code=1, object_id=0, device_id=device)
        except (ConnectionException, *_WIRE_ERRORS) as error:
            raise self._lost(error) from None
        except _FRAME_ERRORS:
            raise self._unanswered(line) from None
        self._silences = 0
        return [value.decode("latin-1") for value in getattr(response, "information", {}).values()]

    def pause(self, seconds: float) -> None:
        """As the protocol says."""
        if seconds > 0:
            time.sleep(seconds)  # noqa: TID251 - wire time: see `monotonic`

    def close(self) -> None:
        """As the protocol says."""
        line, self._line, self._begun = self._line, None, None
        if line is not None:
            self._transactions = line.transaction.next_tid
            with contextlib.suppress(*_WIRE_ERRORS):
                line.close()

    @property
    def _where(self) -> str:
        port = f":{self._address.port}" if self._address.port else ""
        return f"{self._address.host}{port}"

    def _settle(self, gap: float) -> bool:
        """Wait until the line may be used. Many gateways close an idle connection: no fault, it is reopened.

        True when it was not looked at: it has just answered, and late bytes would bear another transaction.
        """
        gap, line = max(gap, self._address.silence), self._line
        if line.settled and not gap and monotonic() - line.last < FRESH:
            return True
        try:
            self._keep_quiet(gap)
        except _WIRE_ERRORS:
            self.close()
            self.open()
            try:
                self._keep_quiet(gap)
            except _WIRE_ERRORS as error:  # it takes nobody: another master has its only place, mostly
                raise self._lost(error) from None
        return False

    def _keep_quiet(self, gap: float) -> None:
        """Quiet before a request; where another master has just asked, its answer is waited for."""
        stray = self._line.quiet(self._quiet_until, gap)
        if self._address.untagged and self._stranger.awaits_answer(stray):
            stray += self._line.quiet(monotonic() + self._drain, gap)
        self._unasked(stray)

    def _unasked(self, stray: bytes) -> None:
        self.discarded += len(stray.strip(self._line.noise))
        if self._address.untagged and not self._address.serial and self._stranger.answered(stray):
            self._wary_until = monotonic() + WARY

    def _lost(self, error: BaseException) -> LineError:
        self.close()
        return LineError(f"{self._where}: connection lost: {reason(error)}")

    def _execute(self, line: Any, request: Request) -> tuple[int, ...] | ModbusPDU:  # noqa: ANN401 - a pymodbus client with our bytes
        block = request.block
        begun, self._begun = self._begun is request, None
        try:
            if not self._address.untagged:
                if not begun:
                    line.send(tagged.frame(line, request))
                return cast("tuple[int, ...] | ModbusPDU", tagged.answer(line, request))
            read = line.read_holding_registers if block.table == "holding" else line.read_input_registers
            response: ModbusPDU = read(block.start, count=block.count, device_id=request.device)
        finally:
            self._show(line)
        return response

    def _show(self, line: Line) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: sent %s, heard %s", self._where, line.sent.hex(" "), line.heard.hex(" ") or "nothing")

    def _count_extra(self, line: Line, registers: int) -> None:
        """What came besides the answer with so many registers (none: an exception): another one's, late."""
        self.discarded += max(0, len(line.answer) - self._frames.answer_of(registers))

    def _unanswered(self, line: Line) -> NoAnswer | BadAnswer:
        heard = bytes(line.heard).lstrip(line.noise)
        echoed = heard.startswith(line.sent)
        if echoed and self._connection.local_echo:
            heard = heard[len(line.sent) :]
        self._silences += 1
        self._suspect(bad=bool(heard))
        if not heard.strip(line.noise):
            return NoAnswer(f"no answer within {line.timeout:g} s")
        shown = heard[:32].hex(" ")
        hint = ""
        if echoed and self._address.untagged and not self._connection.local_echo:
            hint = f"; the request itself came back{ECHO_HINT}"
        elif not self._address.untagged and tagged.is_of_another(line.sent, heard):
            hint = tagged.OTHER_REQUEST_HINT
        return BadAnswer(f"{len(heard)} bytes that are no answer to this request: {shown}{hint}", raw=heard)

    def _suspect(self, *, bad: bool = True) -> None:
        """A late answer may still come. Closing helps best; on a serial line only quiet does."""
        if self._address.untagged:
            self._quiet_until = monotonic() + self._drain
            if not self._address.serial:
                self.close()
        elif bad or self._silences >= self._reopen_after:
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
        try:
            must_have(line.socket.fd, settings)
            if self._address.ascii and settings.parity != "N":
                mind_parity(line.socket.fd)
        except BaseException:
            line.socket.close()
            raise
        return line

    def _network_line(self) -> _TlsLine | _TcpLine:
        kind = _TlsLine if self._address.scheme == "tls" else _TcpLine
        line = kind(self._address.host, port=self._address.port, framer=self._framer, retries=0)
        self._prepare(line)
        line.use(connected(self._connection, self._address))
        return line

    def _prepare(self, line: Any) -> None:  # noqa: ANN401 - a pymodbus client with our bytes
        line.set_max_no_responses(NEVER_CLOSE)
        line.transaction.count_until_disconnect = NEVER_CLOSE
        line.transaction.next_tid = self._transactions
        line.transaction.comm_params.handle_local_echo = self._connection.local_echo
        line.transaction.comm_params.timeout_connect = float("inf")  # its own deadline; ours is kept by `recv`
        line.pause = PAUSE if self._address.ascii else 0.0
        line.noise = NO_DEVICES if self._frames == RTU else b""
        line.heard = bytearray()
        line.last = monotonic()
