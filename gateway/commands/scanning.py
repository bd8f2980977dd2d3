"""The wire of a scan: asks what the search and the examinations want, and tells them what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from drivers.base import AnswerError, LineError, SetupError
from drivers.modbus import profile as profiles
from drivers.modbus.address import USUAL
from drivers.modbus.bus import DRAIN, PymodbusBus
from drivers.modbus.examine import Examination, Suggestion
from drivers.modbus.limits import limits_of
from drivers.modbus.plan import Block
from drivers.modbus.scan import TAGGED, in_words
from drivers.modbus.wire import BUSY, FUNCTIONS, NoAnswer, Request
from gateway.clock import SystemClock
from gateway.commands.lines import failure
from gateway.commands.outlook import USUAL_REQUESTS
from gateway.commands.progress import Progress, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drivers.modbus.address import Address
    from drivers.modbus.config import Connection
    from drivers.modbus.scan import Found, Line, Search
    from drivers.modbus.wire import Answer
    from gateway.commands.outlook import Outlook

REOPEN_PAUSE = 1.0  # s
NEVER = 10**9  # silences in a row: a search meets little else, and a connection per id is hard on small gateways


class Device(NamedTuple):
    """A device that was found, and what it may be."""

    found: Found
    models: tuple[int, ...]  # of SunSpec
    texts: tuple[str, ...]  # by which it names itself
    suggestions: tuple[Suggestion, ...]
    cut: bool  # it fell silent before everything was asked


class Refused(Exception):  # noqa: N818 - as in drivers
    """The port cannot have these settings."""


class Wire:
    """One line at one setting after the other."""

    def __init__(self, connection: Connection, address: Address) -> None:
        """Opens nothing."""
        self.limits = limits_of(connection, address, ())
        self.hung_up = 0  # requests to which the other end closed the connection
        self.local_echo = False  # the adapter hears its own requests, as was found out
        self.address = address
        self._connection = connection
        self._bus: PymodbusBus | None = None
        self._line: Line = None
        self._clock = SystemClock()
        self._began = self._clock.now().boottime

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock.now().boottime - self._began

    def ask(self, line: Line, request: Request) -> tuple[Answer | AnswerError, bool]:
        """What came, and whether something late came before it. Raises Refused, and GatewayError where there is no line."""
        bus = self._at(line)
        before = bus.discarded
        outcome: Answer | AnswerError
        try:
            outcome = bus.read(request)
        except AnswerError as error:
            if self._echoed(error, request):
                return self.ask(line, request)
            outcome = error
        except LineError as error:  # some gateways close the connection at an id that they do not know
            outcome = NoAnswer(str(error))
            self.hung_up += 1
        except SetupError as error:
            raise failure(error, self.address) from None
        return outcome, bus.discarded > before

    def allow(self, seconds: float) -> None:
        """So long for an answer from now on, where that is more than usual: a slow device is slow at every question."""
        self.limits = self.limits._replace(timeout=max(self.limits.timeout, seconds))

    def names(self, line: Line, device: int) -> tuple[str, ...]:
        """What a device says it is; nothing where it does not know the question."""
        try:
            names = self._at(line).names(device, self.limits.timeout, self.limits.gap_on_change)
        except (AnswerError, LineError):
            return ()
        return tuple(name for name in names if name.strip())

    def _echoed(self, error: AnswerError, request: Request) -> bool:
        """Whether our own request came back: from now on echoes are skipped."""
        head = bytes((request.device, FUNCTIONS[request.block.table])) + request.block.start.to_bytes(2, "big")
        if self.local_echo or self.address.scheme in TAGGED or not error.raw.startswith(head):
            return False
        self.local_echo = True
        self._connection = self._connection.model_copy(update={"local_echo": True})
        self.close()
        self._bus = None
        return True

    def close(self) -> None:
        """Release the line."""
        if self._bus is not None:
            self._bus.close()

    def url(self, line: Line) -> str:
        """The connection's URL at a setting."""
        said = "?" in self._connection.url  # by the operator, not found out
        if line is None or (said and line == self.address.serial):
            return self._connection.url
        usual = USUAL[self.address.scheme]
        settings = {"baudrate": line.baudrate, "parity": line.parity}
        further = {"stopbits": line.stopbits, "bytesize": line.bytesize}
        settings |= {key: value for key, value in further.items() if str(value) != usual[key]}
        return f"{self._connection.url.partition('?')[0]}?{urlencode(settings)}"

    def _at(self, line: Line) -> PymodbusBus:
        if self._bus is None or self._line != line:
            self.close()
            self._bus = PymodbusBus(self._connection, self.address._replace(serial=line), reopen_after=NEVER)
            self._line = line
        if not self._bus.is_open:
            self._open(self._bus)
        return self._bus

    def _open(self, bus: PymodbusBus) -> None:
        try:
            if bus.opened:
                try:
                    bus.open()
                except LineError:  # small gateways want a moment between two connections
                    bus.pause(REOPEN_PAUSE)
            if not bus.is_open:
                bus.open()
        except LineError as error:
            if self._line is not None and not bus.opened:
                raise Refused(str(error)) from None
            raise failure(error, self.address) from None
        except SetupError as error:
            raise failure(error, self.address) from None


def search_through(
    search: Search, wire: Wire, progress: Progress, outlook: Outlook, tell: Callable[[Found], None] | None
) -> None:
    """Until nothing is wanted any more. Raises GatewayError where there is no line (any more)."""
    drain = 0.0 if wire.address.scheme in TAGGED else DRAIN
    silence = search.timeout + drain + wire.limits.gap_on_change
    refused: Refused | None = None
    while (knock := search.wanted) is not None:
        began = wire.elapsed
        looks = outlook.of_looks(len(worth_a_look(search)))
        left = span(search.seconds_left(began, silence) + looks)
        where = f"{in_words(knock.line)}, " if knock.line else ""
        words = f"{where}id {knock.device}, {len(search.found)} found, {left} left"
        if search.asked:  # the line is open
            progress.at(search.asked, search.total, words, began)
        before = len(search.found)
        try:
            outcome, late = wire.ask(knock.line, knock.request(wire.limits.gap_on_change))
        except Refused as error:
            refused = error
            search.refused()
            continue
        search.heard(outcome, late=late)
        if len(search.found) > before:
            outlook.answered(wire.elapsed - began)
            progress.clear()
            if tell:
                tell(search.found[-1])
    if refused and not search.asked:
        raise failure(LineError(str(refused)), wire.address)


def worth_a_look(search: Search) -> list[Found]:
    """Who is asked what it is: everybody, or one of those that are the same device."""
    return search.found[:1] if search.everybody else search.found


def look_at_all(
    worth: Sequence[Found], wire: Wire, progress: Progress, outlook: Outlook, *, by_name: bool
) -> Iterator[Device]:
    """Ask one device after the other what it is; what is there when it is stopped counts."""
    for number, found in enumerate(worth, 1):
        words, behind = f"device {found.device}, {number} of {len(worth)}: which meter is it?", len(worth) - number
        progress.part(f"{words} {span(outlook.of_looks(behind + 1))} left")
        began = wire.elapsed

        def tell(asked: int, words: str = words, behind: int = behind, began: float = began) -> None:
            left = outlook.of_this_look(asked, wire.elapsed - began) + outlook.of_looks(behind)
            progress.at(asked, max(USUAL_REQUESTS, asked + 5), f"{words} {span(left)} left", wire.elapsed)

        yield look_at(found, wire, tell, by_name=by_name)
        outlook.looked(wire.elapsed - began)
        progress.clear()


def look_at(found: Found, wire: Wire, tell: Callable[[int], None], *, by_name: bool = False) -> Device:
    """Ask one device what it is, and `tell` how much was asked. Every register that it is asked for is read once.

    `by_name`: with 0x2B/0x0E, too.
    """
    known = {name: profiles.load(name) for name in profiles.names()}
    names = wire.names(found.line, found.device) if by_name else ()
    examination = Examination(known, names)
    asked = 0
    gap = wire.limits.gap_on_change
    while (place := examination.wanted) is not None:
        tell(asked)
        request = Request(found.device, Block(*place, (place,)), wire.limits.timeout, gap)
        outcome, _ = wire.ask(found.line, request)
        if getattr(outcome, "code", None) == BUSY:
            outcome, _ = wire.ask(found.line, request)
        examination.heard(outcome)
        gap = wire.limits.gap
        asked += 1
    return Device(
        found,
        tuple(examination.models),
        tuple(dict.fromkeys(text for text in (*names, *examination.texts.values()) if text)),
        tuple(examination.suggestions()),
        examination.cut,
    )
