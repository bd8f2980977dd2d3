"""What can go wrong on a simulated Modbus line: each kind of fault, and which answers meet it. Pure.

The kinds are those that integrators tell of real meters, adapters and gateways; what each does stands in KINDS.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, NamedTuple

from gateway.simulator.frames import Damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from gateway.simulator.frames import Request

Transport = Literal["tcp", "rtu+tcp", "rtu", "ascii"]

ALL: frozenset[Transport] = frozenset({"tcp", "rtu+tcp", "rtu", "ascii"})
NETWORK: frozenset[Transport] = frozenset({"tcp", "rtu+tcp"})
BUS: frozenset[Transport] = frozenset({"rtu+tcp", "rtu", "ascii"})
RTU: frozenset[Transport] = frozenset({"rtu+tcp", "rtu"})
NUMBERED: frozenset[Transport] = frozenset({"tcp"})

EVERY = 5  # answers of a device, of which one meets a fault, when nothing else is said
LONGEST_EVERY = 1_000_000
LAST_DEVICE = 247  # Modbus over serial line 2.2
SHOWN = 40  # characters of what somebody wrote
UNASKED = (0.005, 0.1)  # s after an answer
NOISE = 12  # bytes at most
ELSEWHERE = 0x0100  # registers away
STRANGER = 101  # added to a device's id to make another's


@dataclass(slots=True)
class Reply:
    """An answer on its way out; faults change it."""

    transaction: int
    device: int
    function: int
    data: bytes  # after the function
    late: float = 0.0  # s
    silent: bool = False
    hangs_up: Literal["", "reset", "half"] = ""
    damage: Damage = field(default_factory=Damage)
    most: int | None = None  # bytes of the frame that are sent
    asked_by_another: bytes = b""  # function and data of another master's request, to which this is the answer
    before: bytes = b""
    behind: bytes = b""
    bytewise: bool = False
    rest: float = 0.0  # s in the middle of the answer
    again: float | None = None  # s after which the answer comes once more, unasked

    def refuse(self, code: int) -> None:
        """Be an exception."""
        self.function |= 0x80
        self.data = bytes([code])


class Circumstances(NamedTuple):
    """What a fault may want to know."""

    request: Request
    chance: Random
    late: tuple[float, float]  # s


class Kind(NamedTuple):
    """A kind of fault. `spoil` is None for those of the meter's values: see gateway.simulator.shown."""

    text: str  # for people, in a line
    spoil: Callable[[Reply, Circumstances], None] | None = None
    on: frozenset[Transport] = ALL


def _late(reply: Reply, given: Circumstances) -> None:
    reply.late = given.chance.uniform(*given.late)


def _silent(reply: Reply, given: Circumstances) -> None:
    del given
    reply.silent = True


def _refusal(code: int) -> Callable[[Reply, Circumstances], None]:
    def refuse(reply: Reply, given: Circumstances) -> None:
        del given
        reply.refuse(code)

    return refuse


def _corrupt(reply: Reply, given: Circumstances) -> None:
    del given
    reply.damage = reply.damage._replace(checked=True)


def _length(reply: Reply, given: Circumstances) -> None:
    reply.damage = reply.damage._replace(length=given.chance.choice((-2, -1, 1, 2)))


def _short(reply: Reply, given: Circumstances) -> None:
    """Fewer registers than were asked for, in a sound frame."""
    words = given.chance.randrange(max(1, (len(reply.data) - 1) // 2))
    reply.data = bytes([2 * words]) + reply.data[1 : 1 + 2 * words]


def _long(reply: Reply, given: Circumstances) -> None:
    del given
    reply.data = bytes([min(len(reply.data) + 1, 250)]) + reply.data[1:] + b"\0\7"


def _cut(reply: Reply, given: Circumstances) -> None:
    reply.most = given.chance.randint(1, len(reply.data) + 2)


def _function(reply: Reply, given: Circumstances) -> None:
    del given
    reply.function = {3: 4, 4: 3}.get(reply.function, 3)


def _unit(reply: Reply, given: Circumstances) -> None:
    del given
    reply.device = (reply.device + STRANGER) % 247 + 1


def _transaction_zero(reply: Reply, given: Circumstances) -> None:
    del given
    reply.transaction = 0


def _transaction_old(reply: Reply, given: Circumstances) -> None:
    del given
    reply.transaction = (reply.transaction - 1) & 0xFFFF


def _echo(reply: Reply, given: Circumstances) -> None:
    reply.before = given.request.frame + reply.before


def _noise(reply: Reply, given: Circumstances) -> None:
    reply.before = given.chance.randbytes(given.chance.randint(1, NOISE)) + reply.before
    reply.behind += given.chance.randbytes(given.chance.randint(1, NOISE))


def _unbiased(reply: Reply, given: Circumstances) -> None:
    reply.before = given.chance.choice((b"\0", b"\xff", b"\0\xff")) + reply.before


def _bytewise(reply: Reply, given: Circumstances) -> None:
    del given
    reply.bytewise = True


def _pause(reply: Reply, given: Circumstances) -> None:
    reply.rest = given.chance.uniform(*given.late)


def _unasked(reply: Reply, given: Circumstances) -> None:
    reply.again = given.chance.uniform(*UNASKED)


def _master(reply: Reply, given: Circumstances) -> None:
    """As many registers from somewhere else, in which other numbers stand."""
    register = (given.request.register + ELSEWHERE) & 0xFFFF
    reply.asked_by_another = bytes([given.request.function]) + register.to_bytes(2, "big") + given.request.data[2:]
    reply.data = reply.data[:1] + bytes(byte ^ 0x01 for byte in reply.data[1:])


def _reset(reply: Reply, given: Circumstances) -> None:
    del given
    reply.hangs_up = "reset"


def _half(reply: Reply, given: Circumstances) -> None:
    del given
    reply.hangs_up = "half"


KINDS: dict[str, Kind] = {
    "late": Kind("the answer comes after the gateway has given up", _late),
    "silent": Kind("no answer", _silent),
    "corrupt": Kind("RTU: a wrong checksum; TCP: a wrong protocol id", _corrupt),
    "length": Kind("RTU: a wrong byte count; TCP: a wrong length in the header", _length),
    "cut": Kind("the answer breaks off in the middle of its frame", _cut),
    "short": Kind("fewer registers than were asked for, in a sound frame", _short),
    "long": Kind("one register more than was asked for, in a sound frame", _long),
    "noise": Kind("stray bytes before and after the answer", _noise),
    "pause": Kind("half of the answer comes after the gateway has given up", _pause),
    "unbiased": Kind("a stray 0x00 or 0xFF before the answer (harmless)", _unbiased, RTU),
    "bytewise": Kind("the answer comes in single bytes (harmless)", _bytewise),
    "echo": Kind("the request comes back before the answer", _echo),
    "unasked": Kind("the answer comes a second time, unasked", _unasked),
    "two-masters": Kind("another master asks, and gets the answer", _master, BUS),
    "wrong-unit": Kind("another device's id in the answer", _unit),
    "wrong-function": Kind("another function in the answer: 3 for 4, 4 for 3", _function),
    "zero-transaction": Kind("the transaction id is not echoed: 0", _transaction_zero, NUMBERED),
    "old-transaction": Kind("the transaction id of the request before", _transaction_old, NUMBERED),
    "hole": Kind("exception 0x02, illegal address", _refusal(0x02)),
    "too-many": Kind("exception 0x03, as for too many registers", _refusal(0x03)),
    "failure": Kind("exception 0x04, device failure", _refusal(0x04)),
    "acknowledge": Kind("exception 0x05, the device needs more time", _refusal(0x05)),
    "busy": Kind("exception 0x06, device busy", _refusal(0x06)),
    "path": Kind("exception 0x0A, the gateway has no path", _refusal(0x0A)),
    "target": Kind("exception 0x0B, the gateway got no answer", _refusal(0x0B)),
    "unknown": Kind("exception 0xF4, which means nothing", _refusal(0xF4)),
    "reset": Kind("the connection is cut instead of an answer", _reset, NETWORK),
    "half-close": Kind("the connection is half closed", _half, NETWORK),
    "counter-reset": Kind("the counter begins at 0 again"),
    "rollover": Kind("the counter is nearly full at first; rolls over at 1 000 000"),
    "nan": Kind("NaN for the counter (floats; else as sentinel)"),
    "sentinel": Kind("the marker for no value: all ones, or the largest number"),
}


class Fault(NamedTuple):
    """Every `every`-th answer of each device, or of one, meets this."""

    kind: str
    every: int = EVERY
    device: int | None = None

    def concerns(self, device: int) -> bool:
        """Whether this device can meet it."""
        return self.device in {None, device}


def fault_of(text: str) -> Fault:
    """`KIND[=N][@DEVICE]`; raises ValueError with what is allowed."""
    said, at, device = text.partition("@")
    kind, equals, every = said.partition("=")
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        meant = f' (did you mean "{near[0]}"?)' if near else ""
        raise ValueError(f"{kind[:SHOWN]!r} is no kind of fault{meant}; --list-faults shows them")
    return Fault(
        kind,
        _number(every, "=N: every how many answers", LONGEST_EVERY) if equals else EVERY,
        _number(device, "@ID: the device", LAST_DEVICE) if at else None,
    )


def _number(text: str, what: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise ValueError(f"{what}, must be a number from 1 to {most} and not {text[:SHOWN]!r}; as in late=5@2")
    return int(text)


class Turns:
    """Whose turn it is: counts the answers of each device."""

    def __init__(self) -> None:
        """Nobody has answered yet."""
        self._answers: Counter[int] = Counter()

    def next(self, device: int, faults: Iterable[Fault]) -> list[str]:
        """The kinds that this device's next answer meets. Devices take turns, so that a round has both good and bad."""
        self._answers[device] += 1
        turn = self._answers[device] + device
        return [fault.kind for fault in faults if fault.concerns(device) and turn % fault.every == 0]
