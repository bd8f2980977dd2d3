"""Whether what pymodbus has read is the answer to what was asked. With `bus` the only module that knows pymodbus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymodbus.pdu import ExceptionResponse

from drivers.modbus.decode import hexed
from drivers.modbus.wire import EXCEPTIONS, FUNCTIONS, BadAnswer, ExceptionAnswer

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

    from drivers.modbus.line import Line
    from drivers.modbus.wire import Request

ECHO_HINT = ": set local_echo = true"


def refuse_echo(line: Line) -> None:
    """A request for a register around 0x0300 reads as an answer with 3 bytes, checksum and all; on ASCII more of them do."""
    if line.answer.startswith(line.sent):
        raise BadAnswer(f"the request itself came back{ECHO_HINT}", raw=line.answer)


def checked(response: ModbusPDU, request: Request, heard: bytes, *, ascii_: bool) -> tuple[int, ...]:
    """The words of an answer that is really one to this request: pymodbus checks neither function nor length."""
    function = FUNCTIONS[request.block.table]
    if isinstance(response, ExceptionResponse):
        code = response.exception_code
        if response.function_code == function | 0x80 and code in EXCEPTIONS:
            raise ExceptionAnswer(code)
        to = response.function_code & 0x7F
        other = "which Modbus does not know" if to == function else f"for function {to}, asked {function}"
        raise BadAnswer(f"exception 0x{code:02X} {other}", raw=heard)
    if response.function_code != function:
        raise BadAnswer(f"function {response.function_code} instead of {function}", raw=heard)
    words = tuple(response.registers)
    if len(words) != request.block.count:
        got = f"{len(words)} register{'' if len(words) == 1 else 's'} instead of {request.block.count}"
        raise BadAnswer(f"{got}: {hexed(words[:16])}" if words else got, raw=heard)
    if beginning(request, ascii_=ascii_) not in (heard.upper() if ascii_ else heard):
        raise BadAnswer(f"an odd number of bytes instead of {len(words)} registers", raw=heard)
    return words


def beginning(request: Request, *, ascii_: bool) -> bytes:
    """How a good answer begins: device, function, number of bytes; on ASCII its colon and their letters."""
    begins = bytes((request.device, FUNCTIONS[request.block.table], 2 * request.block.count))
    return b":" + begins.hex().upper().encode() if ascii_ else begins
