"""Who answers on a line: which id is asked next, at which speed, and what its answer or silence says. Pure.

The command asks what `wanted` says and tells what came with `heard`; between two requests it may draw, or stop. On a serial
line of unknown speed the likely ids are tried at every setting first; where somebody answers, the search stays there,
because a line has one speed for all its meters.

A silence here is short, so a slow device may answer after it. The bus hears that while it keeps quiet, and says so: then
the ids just asked are asked once more, with more patience.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from drivers.modbus.address import Serial
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import (
    DEVICE_FAILURE,
    PATH_UNAVAILABLE,
    TARGET_SILENT,
    Answer,
    BadAnswer,
    ExceptionAnswer,
    Request,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drivers.base import AnswerError
    from drivers.modbus.profile import Profile

LIKELY = range(1, 11)  # ids that most meters have
KNOCK = Place("holding", 0, 1)  # any answer will do, and the shortest is the quickest
MORE_KNOCKS = (KNOCK, Place("input", 0, 2), Place("holding", 4096, 2))  # where silence meets unknown registers
PATIENCE = 2  # times the timeout, when answers come late
MANY = 64  # ids; where more are asked and every one answers, they are one device that does not look at the id
USUAL_LINES = {(9600, "N"): 3, (19_200, "E"): 2, (9600, "E"): 1, (19_200, "N"): 1}  # how likely without any profile
USUAL_SPEEDS = (9600, 19_200)
OTHER_SPEEDS = (38_400, 4800, 2400, 115_200, 57_600, 1200)
# How a character of an ASCII frame may look: as the standard has it, as adapters and what was set like RTU have it, as the
# standard has it without parity (Modbus over serial line 1.02, section 2.5.2), and what else is met.
ASCII_FORMS = (
    Serial(bytesize=7, parity="E"),
    Serial(bytesize=8, parity="N"),
    Serial(bytesize=7, parity="N", stopbits=2),
    Serial(bytesize=7, parity="O"),
    Serial(bytesize=8, parity="E"),
)
EXPECTED_SILENCES = (
    5  # that count beside what was asked: meters have the first ids, and whoever answers does it at once
)

TAGGED = {"tcp", "tls"}  # schemes whose frames carry a transaction id; on the others a device needs its silence

Line = Serial | None  # None: a network has no speed


class Knock(NamedTuple):
    """One request of the search."""

    line: Line
    device: int
    place: Place = KNOCK
    timeout: float = 0.0
    again: bool = False

    def request(self, gap: float) -> Request:
        """For the bus."""
        return Request(self.device, Block(*self.place, (self.place,)), self.timeout, gap)


class Found(NamedTuple):
    """An id that answered: with what, and how soon (None for what the bus does not time)."""

    line: Line
    device: int
    answer: str
    took: float | None


class Search:
    """One search over ids and settings."""

    def __init__(
        self,
        lines: Sequence[Line],
        devices: Sequence[int],
        timeout: float,
        *,
        longest: float,
        knocks: Sequence[Place] = (KNOCK,),
        everywhere: bool = False,
    ) -> None:
        """`timeout` for a silence, up to `longest` where answers come late; `everywhere`: go on after the first find."""
        self.found: list[Found] = []
        self.garbled: list[tuple[Line, int]] = []  # something came that is no answer
        self.failing: list[tuple[Line, int]] = []  # 0x04 and nothing else: a fault, or a gateway's word for "nobody"
        self.unusable: list[Line] = []
        self.timeout = timeout
        self.asked = 0
        self.silent: set[tuple[Line, int]] = set()
        self._longest = longest
        self._everywhere = everywhere
        self._devices = len(devices)
        self._recent: list[Knock] = []  # silent just now
        likely = [device for device in devices if device in LIKELY] if len(lines) > 1 else list(devices)
        rest = [device for device in devices if device not in set(likely)]
        rounds = [(line, group) for group in (likely, rest) if group for line in lines]
        self._queue = deque(
            # after the last one nobody listens for what comes late
            Knock(line, device, place, timeout=longest if device == group[-1] else timeout)
            for line, group in rounds
            for device in group
            for place in knocks
        )
        self._now: Knock | None = None

    @property
    def wanted(self) -> Knock | None:
        """What to ask now; None when it is over. The same until `heard` or `refused` was called."""
        if self._now is None and self._queue:
            knock = self._queue.popleft()
            self._now = knock._replace(timeout=max(knock.timeout, self.timeout))
        return self._now

    @property
    def left(self) -> int:
        """Requests that are left, if nobody answers."""
        return len(self._queue) + (self._now is not None)

    @property
    def everybody(self) -> bool:
        """Whether every one of many ids answered."""
        return MANY < self._devices == len(self.found) + len(self.failing)

    def seconds_left(self, elapsed: float, silence: float) -> float:
        """How long the rest takes; `silence` is what one silent id costs, which counts the less the more was asked."""
        return self.left * (elapsed + EXPECTED_SILENCES * silence) / (self.asked + EXPECTED_SILENCES)

    @property
    def total(self) -> int:
        """Requests from the first to the last, if nobody answers any more."""
        return self.asked + self.left

    def heard(self, outcome: Answer | AnswerError, *, late: bool = False) -> None:
        """What came for `wanted`. `late`: something else came before it, an answer whose time was over."""
        knock, self._now = self._now, None
        assert knock is not None
        self.asked += 1
        if late:
            self._be_patient(knock)
        if isinstance(outcome, Answer):
            self._answered(knock, "a value", outcome.took)
        elif isinstance(outcome, ExceptionAnswer):
            self._excepted(knock, outcome)
        elif isinstance(outcome, BadAnswer):
            self._recent.append(knock)
            self._be_patient(knock)
            if knock.again:
                self.garbled.append((knock.line, knock.device))
        else:
            self._silence(knock)

    def refused(self) -> None:
        """The port cannot have the settings of `wanted`: nothing is asked with them."""
        knock, self._now = self._now, None
        assert knock is not None
        self.unusable.append(knock.line)
        self._queue = deque(each for each in self._queue if each.line != knock.line)

    def _excepted(self, knock: Knock, error: ExceptionAnswer) -> None:
        if error.code in {PATH_UNAVAILABLE, TARGET_SILENT}:
            self._silence(knock)
        elif error.code == DEVICE_FAILURE:
            self._recent.clear()
            self._settled(knock)
            self.failing.append((knock.line, knock.device))
        else:
            self._answered(knock, str(error), None)

    def _answered(self, knock: Knock, answer: str, took: float | None) -> None:
        self._recent.clear()
        self._settled(knock)
        self.found.append(Found(knock.line, knock.device, answer, took))
        if not self._everywhere:
            self._queue = deque(each for each in self._queue if each.line == knock.line)

    def _settled(self, knock: Knock) -> None:
        """No more requests to this id."""
        here = (knock.line, knock.device)
        self._queue = deque(each for each in self._queue if (each.line, each.device) != here)
        self.garbled = [each for each in self.garbled if each != here]
        self.silent.discard(here)

    def _silence(self, knock: Knock) -> None:
        self.silent.add((knock.line, knock.device))
        self._recent = [*self._recent, knock][-PATIENCE:]

    def _be_patient(self, knock: Knock) -> None:
        """Somebody is slower than the timeout: ask those who were silent just now once more."""
        self.timeout = min(max(self.timeout, knock.timeout) * PATIENCE, self._longest)
        once_more = [each for each in self._recent if not each.again and each.line == knock.line]
        self._recent = []
        for each in reversed(once_more):
            self._queue.appendleft(each._replace(again=True, timeout=self._longest))


def likely_lines(profiles: Iterable[Profile], *, ascii: bool = False) -> list[Serial]:  # noqa: A002 - its name
    """The settings of a serial line, the likeliest first: as meters leave the factory, and as people set them."""
    if ascii:
        return _likely_ascii()
    votes = Counter(USUAL_LINES)
    for hint in (profile.serial for profile in profiles):
        if hint is not None and hint.stopbits == 1:
            votes[hint.baudrate, hint.parity] += 1
    usual = sorted(votes, key=lambda line: -votes[line])
    others = [(speed, parity) for speed in OTHER_SPEEDS for parity in ("N", "E")]
    return [Serial(*line) for line in dict.fromkeys([*usual, *others])]  # type: ignore[arg-type]  # N, E and O are all there are


def _likely_ascii() -> list[Serial]:
    """The usual forms at the usual speeds, then everything else. What profiles say is said of RTU."""
    rounds = [
        *((form, speed) for speed in USUAL_SPEEDS for form in ASCII_FORMS[:2]),
        *((form, speed) for speed in USUAL_SPEEDS for form in ASCII_FORMS[2:3]),
        *((form, speed) for speed in (*USUAL_SPEEDS, *OTHER_SPEEDS) for form in ASCII_FORMS),
    ]
    return list(dict.fromkeys(form._replace(baudrate=speed) for form, speed in rounds))


def lines_of(
    baudrates: Sequence[int],
    parities: Sequence[str],
    likely: Sequence[Serial],
    *,
    bytesize: int | None = None,
    stopbits: int | None = None,
) -> list[Serial]:
    """Those of the operator's choice, the likeliest first; an empty choice leaves all that are likely."""
    forms = [line._replace(baudrate=0) for line in likely]
    chosen = [form for parity in parities or [""] for form in _with(parity, forms)]
    meant = [form._replace(bytesize=bytesize or form.bytesize, stopbits=stopbits or form.stopbits) for form in chosen]
    fitting = [form for form in chosen if form in meant] or meant
    speeds = baudrates or dict.fromkeys(line.baudrate for line in likely)
    wanted = [form._replace(baudrate=speed) for speed in speeds for form in fitting]
    order = {line: at for at, line in enumerate(likely)}
    return sorted(dict.fromkeys(wanted), key=lambda line: order.get(line, len(order)))


def _with(parity: str, forms: Sequence[Serial]) -> list[Serial]:
    """The forms of a parity, or the likeliest with it where none has it; all of them for no parity in particular."""
    found = [form for form in forms if parity in {"", form.parity}]
    return found or [forms[0]._replace(parity=parity)]  # type: ignore[arg-type]  # as above


def in_words(line: Line) -> str | None:
    """The settings for people: "9600 baud 8N1"; None where there are none."""
    return None if line is None else f"{line.baudrate} baud {line.bytesize}{line.parity}{line.stopbits}"


def ids_of(text: str, allowed: Iterable[int]) -> list[int]:
    """Ids of a text such as "1-32,100"; raises ValueError with what is allowed."""
    allowed = list(allowed)
    ids: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(each.isascii() and each.isdecimal() and int(each) in allowed for each in ends):
            raise ValueError(f"{part.strip()!r} must be an id from {allowed[0]} to {allowed[-1]}, or such as 1-32")
        if int(ends[0]) > int(ends[1]):
            raise ValueError(f"{part.strip()!r} must begin with the smaller id")
        ids |= dict.fromkeys(range(int(ends[0]), int(ends[1]) + 1))
    return list(ids)
