"""Delivery under strain: no line, no budget, no key, no store, no clock, and much to do (R5, R12, R22, R24, R26)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx

from buffer import journal
from buffer.model import EPOCH
from buffer.store import Store, StoreError
from gateway.pacing import LONGEST_PAUSE
from gateway.simulator.http import Request
from gateway.uploader import IDLE
from tests.fakes.clock import START, FakeClock
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1


def faults(gateway: SmallGateway, *script: str | None) -> None:
    gateway.simulator.faults = iter(script)


# --- the line, the limit, the budget ----------------------------------------------------------------------------------


def test_an_outage_costs_growing_pauses_and_the_end_is_noticed(make: Make):
    """R24: nothing is given up."""
    down = True
    sent: list[float] = []
    gateway: SmallGateway

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(gateway.clock.boottime)
        if down:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200)

    gateway = make(handler=handler)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(86_400)
    assert 90 < len(sent) < 400
    assert gateway.uploader.snapshot()["outage"] is True
    down = False
    gateway.run(LONGEST_PAUSE)
    assert gateway.states() == ["accepted"]
    assert gateway.uploader.snapshot()["outage"] is False


def test_an_outage_is_not_multiplied_by_the_number_of_meters(make: Make):
    sent: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        raise httpx.ConnectError("refused", request=request)

    names = [f"m{number}" for number in range(20)]
    gateway = make(*names, handler=handler)
    closed_hours(gateway, EIGHT, 1, names)
    gateway.run(6 * 3600)
    assert len(sent) < 100
    assert len(set(sent)) == 20  # and nobody is asked for twice before everybody has had his turn


def test_a_spent_limit_is_waited_for_as_told(make: Make):
    asked: list[float] = []
    gateway: SmallGateway

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(gateway.clock.boottime)
        return httpx.Response(429, headers={"Retry-After": "1000"}) if len(asked) == 1 else httpx.Response(200)

    gateway = make("a", "b", handler=handler)
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(999)
    assert len(asked) == 1
    assert gateway.uploader.snapshot()["limited"] is True
    gateway.run(102)
    assert gateway.states("a") == gateway.states("b") == ["accepted"]


def test_no_more_requests_in_a_day_than_our_share(make: Make):
    """R22, also across a restart."""
    names = [f"m{number}" for number in range(30)]
    gateway = make(*names, requests_per_day=20)
    closed_hours(gateway, NINE - 11, 1, names)
    gateway.run(3600)
    assert gateway.simulator.requests() == 18  # a tenth is left to read-backs
    gateway.crash()
    gateway.run(3600)
    assert gateway.simulator.requests() == 18
    gateway.run(86_400)
    assert all(gateway.states(name) == ["accepted"] for name in names)


def test_nothing_is_sent_while_the_server_says_that_nothing_is_left(make: Make):
    """R22; but one request now and then asks again."""
    gateway: SmallGateway
    left = 0
    asked: list[float] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(gateway.clock.boottime)
        return httpx.Response(200, headers={"X-Rate-Limit": str(left)})

    names = [f"m{number}" for number in range(10)]
    gateway = make(*names, handler=handler)
    closed_hours(gateway, EIGHT, 1, names)
    gateway.run(3600)
    assert 2 <= len(asked) <= 5
    left = 5000
    gateway.run(1900)
    assert len(asked) == 10


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_refused_key_costs_no_pause(make: Make):
    """The other key takes the same hours at once, as a new intent."""
    gateway = make("a", "b", server={"keys": ["two"]})
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(0)
    assert gateway.messages() == [("refused", 0), ("accepted", 1), ("accepted", 1)]
    level, subject, text = gateway.events()[0]
    assert (level, subject) == ("error", "delivery")
    assert text.startswith("EnerKey refuses API key 1 (env:ONE) for consumption: HTTP 401: ")


def test_a_403_counts_for_its_family_only(make: Make):
    gateway = make("a", "cumulative")
    gateway.simulator.forbidden = {("one", "consumption")}
    closed_hours(gateway, EIGHT, 1, ("a", "cumulative"))
    gateway.run(0)
    assert gateway.messages() == [("refused", 0), ("accepted", 0), ("accepted", 1)]  # the cumulative one between


def asked(gateway: SmallGateway) -> list[tuple[int, str, str]]:
    """Minute, method and key of every request from here on."""
    found: list[tuple[int, str, str]] = []
    began, serve = gateway.clock.boottime, gateway.simulator.handle

    def handle(request: Request):
        found.append((round((gateway.clock.boottime - began) / 60), request.method, request.headers["authorization"]))
        return serve(request)

    gateway.simulator.handle = handle
    return found


def test_while_every_key_is_refused_no_push_leaves_and_one_read_asks_now_and_then(make: Make):
    """After 15 min, then 30, then every hour, with the keys in turn; whichever is taken again serves (R24)."""
    gateway = make(server={"keys": ["three"]})
    closed_hours(gateway, EIGHT, 1)
    requests = asked(gateway)
    gateway.run(4 * 3600)
    assert requests == [
        (0, "POST", "one"), (0, "POST", "two"),
        (15, "GET", "one"), (45, "GET", "two"), (105, "GET", "one"), (165, "GET", "two"), (225, "GET", "one"),
    ]  # fmt: skip
    assert gateway.states() == ["pending"]
    assert gateway.uploader.snapshot()["no_key_for"] == ["consumption"]
    alarms = [text for level, _, text in gateway.events() if level == "error" and "no other key is left" in text]
    assert len(alarms) == 1
    gateway.simulator.keys = {"two"}
    gateway.run(3600)
    assert requests[7:] == [(285, "GET", "two"), (285, "POST", "two")]
    assert gateway.states() == ["accepted"]
    assert gateway.uploader.snapshot()["no_key_for"] == []


def test_where_a_read_is_answered_and_the_push_is_not_the_pauses_grow_all_the_same(make: Make):
    """A 403 on pushes says nothing about reads, and a read nothing about pushes."""
    gateway = make()
    gateway.simulator.forbidden = {("one", "consumption"), ("two", "consumption")}
    closed_hours(gateway, EIGHT, 1)
    requests = asked(gateway)
    gateway.run(2 * 3600)
    assert [(at, method) for at, method, _ in requests] == [
        (0, "POST"), (0, "POST"), (15, "GET"), (15, "POST"), (45, "GET"), (45, "POST"), (105, "GET"), (105, "POST"),
    ]  # fmt: skip


def test_a_key_that_may_push_again_but_never_read_is_found_within_a_day(make: Make):
    """R24: no key is given up for ever."""
    gateway = make(server={"keys": ["three"]})
    closed_hours(gateway, EIGHT, 1)
    gateway.run(3600)
    gateway.simulator.keys = {"one", "two"}
    gateway.simulator.forbidden = {("one", "values"), ("two", "values")}
    gateway.run(86_400 + 3600)
    assert gateway.states() == ["accepted"]


def test_where_no_key_may_read_the_push_itself_is_tried(make: Make):
    """on_unknown = "hold"."""
    gateway = make(server={"keys": ["three"]}, on_unknown="hold")
    closed_hours(gateway, EIGHT, 1)
    requests = asked(gateway)
    gateway.run(3000)
    assert [(at, method) for at, method, _ in requests] == [(0, "POST"), (0, "POST"), (15, "POST"), (45, "POST")]


def test_a_key_refused_in_the_middle_loses_no_hour(make: Make):
    """The same hours go as a new message with the other key: the server has them once."""
    gateway = make(most_hours=24)
    closed_hours(gateway, NINE - 96, 96)
    gateway.simulator.faults = lambda _: gateway.simulator.keys.discard("one") if gateway.simulator.pushes else None
    gateway.run(1)
    assert gateway.messages() == [("accepted", 0), ("refused", 0), ("accepted", 1), ("accepted", 1), ("accepted", 1)]
    bodies = gateway.store.read(lambda db: db.execute("SELECT body FROM message ORDER BY id").fetchall())
    assert bodies[1] == bodies[2]
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 96, NINE), 500_000)


def test_which_key_is_in_use_outlives_the_process(make: Make):
    """No restart tries the refused key again, and `status` knows when each was accepted."""
    gateway = make(server={"keys": ["two"]})
    closed_hours(gateway, EIGHT - 1, 1)
    gateway.run(10)
    accepted = gateway.uploader.snapshot()["keys"]
    gateway.crash()
    (one, two) = gateway.uploader.snapshot()["keys"]
    assert one | {"refused_for": ["consumption"]} == accepted[0]
    assert two == accepted[1]
    assert (two["in_use_for"], two["reference"]) == (["consumption"], "env:TWO")
    assert two["last_accepted"] == "2026-03-02T09:55:00+00:00"
    requests = asked(gateway)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(3600)
    assert {key for _, _, key in requests} == {"two"}
    stored = gateway.store.read(lambda db: db.execute("SELECT * FROM key_use").fetchall())
    assert {row[2] for row in stored} == {"env:TWO"}


def test_a_key_that_may_not_read_leaves_the_fate_unknown_and_the_other_one_reads(make: Make):
    gateway = make()
    gateway.simulator.forbidden = {("one", "values")}
    closed_hours(gateway, EIGHT, 1)
    faults(gateway, "lost-answer")
    gateway.run(601)
    assert gateway.states() == ["accepted"]


# --- the store and the clock ------------------------------------------------------------------------------------------


def test_without_a_durable_intent_nothing_is_sent(make: Make, monkeypatch):
    """R12, R27."""
    gateway = make()
    closed_hours(gateway, EIGHT, 1)

    def fail(work: object) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(gateway.store, "write", fail)
        gateway.run(60)
        assert gateway.simulator.requests() == 0
    gateway.run(60)
    assert gateway.states() == ["accepted"]


def test_an_answer_that_could_not_be_recorded_is_found_again_by_reading_back(make: Make, monkeypatch):
    """R26: whether the failed commit is there or not."""
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    settle = journal.settle

    def fail_once(*_: object, **__: object) -> None:
        monkeypatch.setattr(journal, "settle", settle)
        raise StoreError("I/O error")

    monkeypatch.setattr(journal, "settle", fail_once)
    gateway.run(500)
    assert gateway.messages() == [("unknown", 0)]
    gateway.run(200)
    assert gateway.states() == ["accepted"]
    assert gateway.simulator.hourly(100) == {EIGHT: 500_000}


def test_under_an_untrusted_clock_nothing_is_sent_and_the_server_is_asked_for_the_time_now_and_then(make: Make):
    """R5: the Date header may vouch for the clock."""
    clock = FakeClock(trusted=False)
    gateway = make(clock=clock)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(86_400)
    assert gateway.simulator.pushes == []
    assert gateway.witnessed
    assert gateway.simulator.requests() <= 400
    clock.trusted = True
    gateway.run(LONGEST_PAUSE)
    assert gateway.states() == ["accepted"]


def test_an_answer_that_could_not_vouch_is_asked_for_again_when_the_clock_is_set(make: Make):
    """Until then it would say the same; R5."""
    clock = FakeClock(trusted=False)
    gateway = make(clock=clock)
    gateway.run(600)
    assert len(gateway.witnessed) == 1
    clock.step_wall(30_000)
    gateway.run(70)
    assert len(gateway.witnessed) == 2


def test_with_nothing_to_do_the_worker_sleeps(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    gateway.run(10)
    now = gateway.clock.now()
    assert gateway.uploader.step(now) == now.boottime + IDLE


# --- cost -------------------------------------------------------------------------------------------------------------


def test_no_query_of_a_step_reads_a_whole_table(tmp_path: Path, make: Make):
    """With 200 meters and years of history every step stays cheap."""
    gateway = make("a", "cumulative")
    closed_hours(gateway, EIGHT, 1, ("a", "cumulative"))
    statements: set[str] = set()
    read, write = gateway.store.read, gateway.store.write

    def traced(db, work):
        db.set_trace_callback(statements.add)
        try:
            return work(db)
        finally:
            db.set_trace_callback(None)

    gateway.store.read = lambda work: read(lambda db: traced(db, work))
    gateway.store.write = lambda work: write(lambda db: traced(db, work))
    faults(gateway, "lost-answer")
    gateway.run(1300)
    assert set(gateway.states()) | set(gateway.states("cumulative")) == {"accepted"}
    queries = [text for text in statements if text.startswith(("SELECT", "UPDATE", "DELETE"))]
    plans = {
        text: detail
        for text in queries
        for *_, detail in gateway.store.read(lambda db, text=text: db.execute(f"EXPLAIN QUERY PLAN {text}").fetchall())
        if detail.startswith("SCAN")
        and not any(small in detail for small in ("message_one_open", "unplaced", "doubt_foreign"))
    }
    assert len(queries) > 10
    assert plans == {}


def test_the_store_of_the_tests_is_the_real_one(make: Make):
    assert isinstance(make().store, Store)
