"""Modbus TCP at the price of its system calls: the usual answer is recognised by its first nine bytes.

pymodbus builds objects for each request and answer and unpacks register by register, which costs more than the wire. A
frame that begins with exactly the expected transaction, length, device and function, and ends where it says, can be
nothing else than the answer. Whatever else comes is pymodbus' to understand (docs/decisions/0001-modbus-client.md).
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any

from drivers.modbus.wire import FUNCTIONS

if TYPE_CHECKING:
    from drivers.modbus.wire import Request

OTHER_REQUEST_HINT = (
    "; by its transaction id it is the answer of another request: where each answer is so, the gateway does not return the id; "
    "switch it to transparent mode and use rtu+tcp://"
)
PROTOCOL = 0
_REQUEST = struct.Struct(">HHHBBHH")  # transaction, protocol, bytes that follow, device, function, start, count
_ANSWER = struct.Struct(">HHHBBB")  # transaction, protocol, bytes that follow, device, function, bytes of registers


def frame(line: Any, request: Request) -> bytes:  # noqa: ANN401 - a pymodbus client with our bytes
    """The frame of a request, under the connection's next transaction."""
    line.transaction_id = line.transaction.getNextTID()
    return asking(line.transaction_id, request)


def answer(line: Any, request: Request) -> Any:  # noqa: ANN401 - a pymodbus client with our bytes, and its answer
    """The words of the usual answer as a tuple, or the PDU that pymodbus makes of another one.

    Raises ValueError where there is no answer to this request, besides what pymodbus and the line raise.
    """
    transaction: int = line.transaction_id
    line.ahead = bytes(line.heard) or line.recv(None)
    words = usual(transaction, request, line.ahead)
    line.settled = words is not None
    if line.settled:
        return words
    try:
        response = line.transaction.sync_get_response(request.device, transaction)
    except TimeoutError:
        raise ValueError("no answer") from None
    if (response.dev_id, response.transaction_id) != (request.device, transaction):
        raise ValueError("the answer to something else")
    return response


def is_of_another(sent: bytes, heard: bytes) -> bool:
    """Whether it is a frame from the device that was asked, under another transaction."""
    of_it = heard[2:4] == PROTOCOL.to_bytes(2) and heard[6:7] == sent[6:7]
    return of_it and heard[:2] != sent[:2]


def asking(transaction: int, request: Request) -> bytes:
    """The frame of a request."""
    block = request.block
    return _REQUEST.pack(transaction, PROTOCOL, 6, request.device, FUNCTIONS[block.table], block.start, block.count)


def usual(transaction: int, request: Request, heard: bytes) -> tuple[int, ...] | None:
    """The words, where `heard` is the whole answer to this request and nothing else."""
    block = request.block
    size = 2 * block.count
    if len(heard) != _ANSWER.size + size:
        return None
    head = _ANSWER.pack(transaction, PROTOCOL, 3 + size, request.device, FUNCTIONS[block.table], size)
    return _registers(block.count).unpack_from(heard, _ANSWER.size) if heard.startswith(head) else None


def ends_with_it(sent: bytes, heard: bytes) -> bool:
    """Whether the frame with the request's transaction is the last of those that were heard, and nothing follows it.

    A frame that broke off is filled up by the beginning of another one, whose end is left over.
    """
    begin = 0
    while begin + _ANSWER.size <= len(heard):
        end = begin + 6 + int.from_bytes(heard[begin + 4 : begin + 6], "big")
        if heard[begin : begin + 4] == sent[:4]:
            return end == len(heard)
        begin = end
    return False


@cache
def _registers(count: int) -> struct.Struct:
    return struct.Struct(f">{count}H")
