"""A simulated EnerKey: what the public pages tell, strict where they are silent, and able to fail in every known way.

It takes the same contract as the client and answers as DESIGN 7 describes: a bare key, one meter per message, values of
one hour summed, 365 days at most, a rolling daily limit. `handle` is a plain function of a request: behind
`gateway.simulator.http.serve` it is a server, behind a mock transport it needs no socket.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from operator import itemgetter
from threading import RLock
from typing import TYPE_CHECKING, Literal, get_args

from buffer.model import hour_of, hour_start, round_half_up, to_ms
from gateway.enerkey.contract import Contract, Endpoint, endpoint
from gateway.enerkey.models import parse_stamp
from gateway.simulator.books import Books, Family, HourStamp, Item, OlderReading, Push, SameHour
from gateway.simulator.http import Request, Response
from gateway.simulator.pushed import Manner, Rejected, read_push, whole
from gateway.simulator.words import as_asked, fit, hours_text

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

Fault = Literal["lost-request", "lost-answer", "500-before", "500-after", "503", "duplicate", "zombie"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""duplicate: a proxy delivers the request twice; zombie: it is answered to nobody, and carried out `zombie_after` later."""

FaultSource = Callable[[Request], "Fault | None"] | Iterator["Fault | None"]
"""What goes wrong with a request: asked once per request, as a function or as a script that may end."""

_ROOT = Endpoint("GET", "/")


class EnerkeySimulator:
    """The server's state and its one entry, `handle`. Thread-safe.

    Change between requests as a test needs: `faults`; `keys` (empty: any key is good); `forbidden`, pairs of a key and
    a family ("consumption", "cumulative", "values", "look") that answer 403; `expires`, from when on a key answers 401;
    `meters`; `requests_per_day`; `burst`, so many requests in so many seconds; `largest_body` (bytes); `on_push`, told
    of every message that was applied. And what no public page tells: `lag` (s) until a push can be read back;
    `hour_stamp`; `decimals` kept of a value; `refuses`, the words with which an item is refused; `partial`, whether the
    good items of a message with a bad one are applied all the same; `negatives`, whether a consumption may be below zero;
    `older_reading`, what becomes of a reading of a time before the newest; `manner`, how times are read; `tells_limit`,
    whether X-Rate-Limit is sent; `counts_reads`, whether a GET counts for it; `rules` of booking.
    """

    def __init__(  # noqa: PLR0913 - every keyword is one property of the server, each with a default but the time
        self,
        contract: Contract | None = None,
        *,
        now: Callable[[], datetime],
        keys: Collection[str] = (),
        meters: Collection[int] | None = None,
        store: Path | str | None = None,
        requests_per_day: int = 40_000,
        same_hour: SameHour = "sum",
    ) -> None:
        """`meters` None: every meter is known; `store` None: in memory. Raises books.Unusable."""
        self.contract = contract or Contract()
        self.keys = set(keys)
        self.forbidden: set[tuple[str, str]] = set()
        self.meters = None if meters is None else set(meters)
        self.requests_per_day = requests_per_day
        self.burst: tuple[int, float] | None = None
        self.expires: dict[str, datetime] = {}
        self.largest_body: int | None = None
        self.lag = 0.0
        self.decimals = 6
        self.refuses: Callable[[Item], str | None] = _nothing_refused
        self.partial = False
        self.negatives = True
        self.older_reading: OlderReading = "placed"
        self.manner = Manner()
        self.tells_limit = True
        self.counts_reads = True
        self.zombie_after = 240.0
        self.faults: FaultSource | None = None
        self.on_push: Callable[[Push], None] | None = None
        self._now = now
        self._books = Books(store, same_hour)
        self.rules = self._books.rules
        self._lock = RLock()
        self._lately: deque[datetime] = deque()  # the requests that count for the burst
        self._zombies: list[tuple[datetime, Request]] = []

    def handle(self, request: Request) -> Response | None:
        """Answer a request; None hangs up without an answer, which may or may not mean that nothing was applied."""
        with self._lock:
            self._raise_zombies()
            now = self._now()
            fault = self._next_fault(request)
            if fault == "zombie":
                self._zombies.append((now + timedelta(seconds=self.zombie_after), request))
            if fault in {"lost-request", "zombie"}:
                return None
            if fault == "duplicate":
                self._carry_out(request, None, now)
            response = self._carry_out(request, fault, now)
        return None if fault == "lost-answer" else response

    def _raise_zombies(self) -> None:
        """Carry out what was held up on its way and would have arrived by now."""
        now = self._now()
        risen = [each for each in self._zombies if each[0] <= now]
        self._zombies = [each for each in self._zombies if each[0] > now]
        for due, request in sorted(risen, key=itemgetter(0)):
            self._carry_out(request, None, due)

    def _carry_out(self, request: Request, fault: Fault | None, now: datetime) -> Response:
        with self._books.transaction():
            response, push = self._answer(request, fault, now)
        if push and self.on_push:
            self.on_push(push)
        return response

    # --- what it is like --------------------------------------------------------------------------------------------

    @property
    def hour_stamp(self) -> HourStamp:
        """Which end of its hour a consumption is stamped with; what is read back is always stamped with the start."""
        return self._books.hour_stamp

    @hour_stamp.setter
    def hour_stamp(self, end: HourStamp) -> None:
        self._books.hour_stamp = end

    # --- looking in -----------------------------------------------------------------------------------------------

    @property
    def pushes(self) -> list[Push]:
        """Every message that was applied, oldest first."""
        with self._lock:
            self._raise_zombies()
            return self._books.pushes()

    @property
    def items(self) -> list[Item]:
        """Every value that was applied, in the order of arrival."""
        return [item for push in self.pushes for item in push.items]

    def hourly(self, meter: int) -> dict[int, int]:
        """All hours of a meter that have a value: micro by hour since the epoch, without any lag."""
        with self._lock:
            self._raise_zombies()
            return self._books.hourly(meter, *self._books.hours_known(meter))

    def requests(self) -> int:
        """Authorised requests of the last 24 h."""
        with self._lock:
            return self._books.requests(to_ms(self._now()))[0]

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._books.close()

    # --- answering ------------------------------------------------------------------------------------------------

    def _next_fault(self, request: Request) -> Fault | None:
        if self.faults is None:
            return None
        return self.faults(request) if callable(self.faults) else next(self.faults, None)

    def _answer(self, request: Request, fault: Fault | None, now: datetime) -> tuple[Response, Push | None]:
        push = None
        try:
            self._admit(request, now)
            _fail(fault, {"503": 503, "500-before": 500})
            response, push = self._route(request, now)
            _fail(fault, {"500-after": 500})
        except Rejected as rejected:
            response = _json(rejected.status, json.dumps({"message": str(rejected)}), rejected.headers)
        left = max(self.requests_per_day - self._books.requests(to_ms(now))[0], 0)
        always = {"Date": format_datetime(now.astimezone(UTC), usegmt=True)}
        if self.tells_limit:
            always["X-Rate-Limit"] = str(left)
        return replace(response, headers={**response.headers, **always}), push

    def _admit(self, request: Request, now: datetime) -> None:
        key = request.headers.get("authorization", "")
        if not key or " " in key:
            raise Rejected(401, "the Authorization header must hold the API key and nothing else")
        if self.keys and key not in self.keys:
            raise Rejected(401, "unknown API key")
        if key in self.expires and now >= self.expires[key]:
            raise Rejected(401, f"the API key expired at {self.expires[key].isoformat()}")
        self._admit_burst(now)
        spent, wait = self._books.requests(to_ms(now))
        if spent >= self.requests_per_day:
            raise Rejected(429, f"{spent} requests in 24 h are the limit", {"Retry-After": str(max(1, round(wait)))})
        if request.method != "GET" or self.counts_reads:
            self._books.count_request(to_ms(now))

    def _admit_burst(self, now: datetime) -> None:
        if self.burst is None:
            return
        most, seconds = self.burst
        since = now - timedelta(seconds=seconds)
        while self._lately and self._lately[0] <= since:
            self._lately.popleft()
        if len(self._lately) >= most:
            wait = math.ceil((self._lately[0] - since).total_seconds())
            raise Rejected(429, f"{most} requests in {seconds:g} s are the limit", {"Retry-After": str(wait)})
        self._lately.append(now)

    def _route(self, request: Request, now: datetime) -> tuple[Response, Push | None]:
        contract = self.contract
        routes: tuple[tuple[str, Endpoint], ...] = (
            ("consumption", endpoint(contract.push_consumptions)),
            ("cumulative", endpoint(contract.push_cumulative_readings)),
            ("values", endpoint(contract.hourly_values)),
            ("look", _ROOT),
        )
        fitting = [
            (family, known, found)
            for family, known in routes
            if (found := fit(known.target, request.target)) is not None
        ]
        if not fitting:
            raise Rejected(404, f"nothing is at {request.target[:100]}")
        for family, known, found in fitting:
            if known.method == request.method:
                return self._act(family, request, found, now)
        allowed = ", ".join(known.method for _, known, _ in fitting)
        raise Rejected(405, f"use {allowed} here", {"Allow": allowed})

    def _act(self, family: str, request: Request, found: dict[str, str], now: datetime) -> tuple[Response, Push | None]:
        if (request.headers["authorization"], family) in self.forbidden:
            raise Rejected(403, "this API key may not do that")
        match family:
            case "consumption" | "cumulative":
                push, refused = self._push(family, request, found, now)
                if refused:
                    return _json(refused.status, json.dumps({"message": str(refused)})), push
                return _json(200, json.dumps({"accepted": len(push.items) if push else 0})), push
            case "values":
                return _json(200, self._values(found, now)), None
            case _:
                return _json(200, json.dumps({"name": "EnerKey simulator"})), None

    def _push(
        self, family: Family, request: Request, found: dict[str, str], now: datetime
    ) -> tuple[Push | None, Rejected | None]:
        """What was applied, and what is wrong with the rest."""
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Rejected(415, "the body must be application/json")
        if self.largest_body is not None and len(request.body) > self.largest_body:
            raise Rejected(413, f"the body may have {self.largest_body} bytes")
        push, refused = read_push(self.contract, family, found.get("meter"), request.body, now, self.manner)
        if push:
            self._know(push.meter)
            push, objected = self._kept(push)
            refused = refused or objected
        if push is None or (refused and not self.partial):
            return None, refused
        try:
            self._books.apply(push)
        except OverflowError as error:
            raise Rejected(400, str(error)) from None
        return push, refused

    def _kept(self, push: Push) -> tuple[Push | None, Rejected | None]:
        """The message without what is objected to, with as many decimals as are stored."""
        newest = self._books.newest_reading(push.meter)
        refused: Rejected | None = None
        kept: list[Item] = []
        step: int = 10 ** (6 - self.decimals)
        for item in push.items:
            if words := self.refuses(item) or self._objection(item, newest, kept):
                refused = refused or Rejected(400, f"{item.stamp.isoformat()}: {words}")
            elif not (self.older_reading == "ignored" and self._is_older(item, newest)):
                kept.append(item._replace(value=round_half_up(item.value, step) * step))
        return push._replace(items=tuple(kept)) if kept else None, refused

    def _objection(self, item: Item, newest: tuple[int, int] | None, before: Sequence[Item]) -> str | None:
        if item.value < 0 and not self.negatives and item.family == "consumption":
            return "a consumption cannot be negative"
        if self._books.rule(item.family) == "reject" and (
            self._books.there(item) or self._books.hour(item) in map(self._books.hour, before)
        ):
            return "there is a value already"
        if self.older_reading == "refused" and self._is_older(item, newest):
            return "there is a newer reading"
        if self.rules.lower_reading == "refused" and item.family == "cumulative" and newest:
            lower = self._books.hour(item) > newest[0] and item.value < newest[1]
            return "is lower than the reading before it" if lower else None
        return None

    def _is_older(self, item: Item, newest: tuple[int, int] | None) -> bool:
        """A reading of a boundary that was left out, with a newer one behind it."""
        if item.family != "cumulative" or newest is None:
            return False
        return self._books.hour(item) < newest[0] and not self._books.there(item)

    def _values(self, found: dict[str, str], now: datetime) -> str:
        asked = found.get("meters", "").split(",") if self.contract.reads_many else [found.get("meter", "")]
        meters = [whole(text) for text in asked]
        for meter in meters:
            self._know(meter)
        try:
            since, until = parse_stamp(found.get("from")), parse_stamp(found.get("to"))
        except ValueError as error:
            raise Rejected(400, f"the range: {error}") from None
        if since >= until:
            raise Rejected(400, "the range: its end must be later than its beginning")
        if self.lag:
            self._books.show(to_ms(now) - round(self.lag * 1000))
        first, end = -hour_of(-to_ms(since)), -hour_of(-to_ms(until))  # the next full hours
        utc = found["from"].endswith("Z")
        hours = {meter: self._books.hourly(meter, first, end, shown=bool(self.lag)) for meter in meters}
        return hours_text(
            self.contract,
            {
                meter: [(as_asked(hour_start(hour), since, utc=utc), micro) for hour, micro in values.items()]
                for meter, values in hours.items()
            },
        )

    def _know(self, meter: int) -> None:
        if self.meters is not None and meter not in self.meters:
            raise Rejected(404, f"there is no meter {meter}")


def random_faults(rates: dict[Fault, float], random: Random) -> Callable[[Request], Fault | None]:
    """Faults by chance: each kind with its probability per request."""

    def choose(_: Request) -> Fault | None:
        point = random.random()
        for fault, rate in rates.items():
            point -= rate
            if point < 0:
                return fault
        return None

    return choose


def _nothing_refused(_: Item) -> str | None:
    return None


def _fail(fault: Fault | None, statuses: dict[Fault, int]) -> None:
    if fault in statuses:
        raise Rejected(statuses[fault], f"simulated failure: {fault}")


def _json(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, text.encode())
