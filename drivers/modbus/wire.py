"""What the driver asks of a bus, and what can become of a request. Nothing of pymodbus in here."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from drivers.base import AnswerError, DriverError

if TYPE_CHECKING:
    from drivers.base import Clock, Now
    from drivers.modbus.plan import Block

T = TypeVar("T")

ILLEGAL_FUNCTION = 0x01
ILLEGAL_ADDRESS = 0x02
ILLEGAL_VALUE = 0x03
DEVICE_FAILURE = 0x04
ACKNOWLEDGE = 0x05
BUSY = 0x06
PATH_UNAVAILABLE = 0x0A
TARGET_SILENT = 0x0B

FUNCTIONS = {"holding": 3, "input": 4}
"""The function code that reads a table."""

EXCEPTIONS = {
    ILLEGAL_FUNCTION: "illegal function",
    ILLEGAL_ADDRESS: "illegal address",
    ILLEGAL_VALUE: "illegal value",
    DEVICE_FAILURE: "device failure",
    ACKNOWLEDGE: "device needs more time",
    BUSY: "device busy",
    PATH_UNAVAILABLE: "gateway has no path to the device",
    TARGET_SILENT: "gateway got no answer from the device",
}
"""Exception codes that mean something; any other is taken for a corrupt frame."""

REFUSALS = frozenset({ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE})
"""Those that are of what was asked for; others are the device's."""


class NoAnswer(AnswerError):  # noqa: N818 - named for what came; its base is an error
    """The device was silent for the whole timeout."""

    reason = "no answer"


class BadAnswer(AnswerError):  # noqa: N818 - as above
    """Something came that is no answer to this request: wrong device, function or length, checksum, babble."""

    reason = "bad answer"


class ExceptionAnswer(AnswerError):  # noqa: N818 - as above
    """The device (or the gateway before it) refused."""

    def __init__(self, code: int) -> None:
        """`code` is one of EXCEPTIONS."""
        super().__init__(f"exception 0x{code:02X}: {EXCEPTIONS[code]}")
        self.code = code
        self.reason = EXCEPTIONS[code]


class Request(NamedTuple):
    """One read. `timeout` and `gap` in real seconds."""

    device: int
    block: Block
    timeout: float
    gap: float


class Answer(NamedTuple):
    """Exactly as many words as were asked for, and the real seconds from the first byte sent to the last heard.

    `since`: seconds that have passed since then, where the line had to be listened to before the answer was believed.
    """

    words: tuple[int, ...]
    took: float
    since: float = 0.0


class Heard(NamedTuple):
    """An answer, and the look at the clock after it had come."""

    answer: Answer
    now: Now


class Pause(NamedTuple):
    """Keep the line quiet for so many seconds."""

    seconds: float


class Aside(NamedTuple):
    """What follows takes its time with something else than an answer: opening a line, writing down what was learned."""


Wish = Request | Pause | Aside
Asking = Generator[Wish, Any, T]
"""Decides what is asked of a line and yields it; is sent what is `Heard` of each request, or has its DriverError thrown in."""


class Bus(Protocol):
    """One line with one request at a time. Its time is real, never scaled.

    After a silence or a bad answer the line is suspicious: a late answer may still come and look like the next one's.
    The bus puts that right by itself before the next request: it keeps quiet and discards, or it closes (`is_open`
    turns False).
    """

    opened: int  # how often it was opened, by itself or not

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        ...

    def open(self) -> None:
        """Open the line; raises LineError, or SetupError where only a person can help."""
        ...

    def read(self, request: Request) -> Answer:
        """One request, one timeout at most. Raises an AnswerError above, or LineError or SetupError (closed then).

        Where an older answer may still come, a question goes before it; a silence at either ends the call.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Keep the line quiet."""
        ...

    def close(self) -> None:
        """Release the line; never raises, may be called twice."""
        ...


class Unfinished(Exception):  # noqa: N818 - no error: there is more to be asked than time to ask it
    """`wish` is what comes next."""

    def __init__(self, wish: Wish) -> None:
        """Keep it."""
        super().__init__()
        self.wish = wish


def asked_on(bus: Bus, clock: Clock, asking: Asking[T], wish: Wish | None = None, until: float = math.inf) -> T:
    """All that is asked, one after the other, each waited for; its outcome. `wish`: what it has asked for already.

    Raises Unfinished where there is still something to be asked at `until` (boottime).
    """
    try:
        if wish is None:
            wish = next(asking)
        while True:
            if until < math.inf and clock.now().boottime >= until:
                raise Unfinished(wish)
            try:
                heard = _fulfilled(bus, clock, wish)
            except DriverError as error:
                wish = asking.throw(error)
            else:
                wish = asking.send(heard)
    except StopIteration as end:
        outcome: T = end.value
        return outcome


def _fulfilled(bus: Bus, clock: Clock, wish: Wish) -> Heard | None:
    if isinstance(wish, Request):
        return Heard(bus.read(wish), clock.now())
    if isinstance(wish, Pause):
        bus.pause(wish.seconds)
    return None
