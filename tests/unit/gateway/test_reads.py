"""Several meters in one read: fewer requests, and the same decision for each meter as if it had been read alone."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import EPOCH
from gateway.enerkey.contract import Contract
from gateway.reads import MOST_METERS, MOST_ROWS, Wanted, together
from gateway.settling import COMPANY, gathered
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import Answer, Make, SmallGateway, closed_hours

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1
DAY = 86_400
SEVERAL = "GET /api/v2/Values/Hourly?meterId={meters}&from={from}&to={to}"
ROWS = Contract(hourly_values=SEVERAL)
KEYED = Contract(hourly_values=SEVERAL, answer_meter_key="")


@pytest.fixture
def make(make: Make) -> Make:
    """With the meters of every read in `gateway.read`, and what answers in `gateway.handler`."""

    def build(*meters: str, contract: Contract = ROWS, **settings) -> SmallGateway:
        def answering(simulator: EnerkeySimulator) -> Answer:
            def handler(request: httpx.Request) -> httpx.Response:
                if request.method == "GET":
                    read.append([int(each) for each in request.url.params["meterId"].split(",")])
                return transport(simulator).handler(request)

            answers.append(handler)
            return lambda request: gateway.handler(request)

        read: list[list[int]] = []
        answers: list[Answer] = []
        gateway = make(
            *meters,
            server={"contract": contract},
            contract=contract,
            answering=answering,
            **{"old_hours": 6} | settings,
        )
        gateway.read, gateway.handler = read, answers[0]
        return gateway

    return build


def names(count: int) -> list[str]:
    return [f"m{number}" if number % 2 else f"cumulative-{number}" for number in range(count)]


def look_again(gateway: SmallGateway) -> None:
    """As after a restore: every meter is read before it sends."""
    gateway.store.write(lambda db: db.execute("UPDATE meter SET look_after = 0"))


def accepted(gateway: SmallGateway) -> bool:
    return all(set(gateway.states(name)) == {"accepted"} for name in gateway.meters)


def there(gateway: SmallGateway) -> list[dict[int, int]]:
    return [gateway.simulator.hourly(100 + number) for number in range(len(gateway.meters))]


# --- what goes together -----------------------------------------------------------------------------------------------

WANTED = st.builds(
    lambda meter, first, hours: Wanted(meter, 10**18 + meter, first, first + hours),
    st.integers(0, 10**6), st.integers(0, 20_000), st.integers(1, 9000),
)  # fmt: skip


@given(WANTED, st.lists(WANTED, max_size=120), st.sampled_from((0, 24)))
def test_one_request_never_asks_for_more_than_a_year_of_one_meter(first: Wanted, others: list[Wanted], before: int):
    """Nor for more meters than a URL should name; the one that is needed is always among them."""
    group = together(first, others, before)
    hours = max(each.end for each in group) - min(each.first for each in group) + before
    assert group[0] == first
    assert len(group) == 1 or (hours * len(group) <= MOST_ROWS and len(group) <= MOST_METERS)


def test_a_read_back_waits_for_others_that_are_nearly_due_and_for_nobody_else():
    """No longer than COMPANY after its own rest."""
    assert gathered([100.0, 150.0, 100.0 + COMPANY, 101.0 + COMPANY], COMPANY) == 100.0 + COMPANY
    assert gathered([100.0, 150.0], 0.0) == 100.0
    assert gathered([], COMPANY) == float("inf")


# --- audits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [ROWS, KEYED])
def test_the_daily_audit_of_many_meters_takes_a_request_for_every_fifty(make: Make, contract: Contract):
    """R18 at a fiftieth of the cost, also where each meter has its own offset after the hour."""
    meters = names(120)
    gateway = make(*meters, contract=contract, offsets=400.0)
    closed_hours(gateway, EIGHT - 3, 4, meters)
    gateway.run(DAY + 3600)
    assert accepted(gateway)
    assert [len(each) for each in gateway.read] == [50, 50, 20]
    assert sorted(meter for each in gateway.read for meter in each) == list(range(100, 220))


@pytest.mark.parametrize("contract", [ROWS, KEYED])
def test_an_audit_of_several_finds_the_one_that_differs(make: Make, contract: Contract):
    """R18: held with both numbers; the others are as they were."""
    gateway = make("a", "b", "c", contract=contract)
    closed_hours(gateway, EIGHT - 3, 4, gateway.meters)
    gateway.run(1)
    url = "http://localhost/api/v2/Values/PushConsumptionsForMeter?meterId=101"
    headers = {"Authorization": "one", "Content-Type": "application/json"}
    body = b'[{"timestamp":"2026-03-02T08:00:00Z","value":1}]'
    assert transport(gateway.simulator).handler(httpx.Request("POST", url, headers=headers, content=body)).is_success
    gateway.run(DAY + 60)
    assert gateway.read == [[100, 101, 102]]
    assert gateway.states("b") == ["accepted"] * 3 + ["held"]
    assert gateway.states("a") == gateway.states("c") == ["accepted"] * 4


def test_a_read_back_is_the_days_audit_as_well(make: Make):
    """One read serves both, also where the contract reads one meter at a time."""
    gateway = make("a", contract=Contract())
    closed_hours(gateway, EIGHT - 3, 4)
    gateway.run(DAY // 2)
    gateway.simulator.faults = iter(["lost-answer"])
    closed_hours(gateway, EIGHT + 12, 1)
    gateway.run(DAY // 2 + 7200)
    assert accepted(gateway)
    assert gateway.read == [[100]]
    gateway.run(DAY // 2)
    assert len(gateway.read) == 2


# --- looks and read-backs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", [ROWS, KEYED])
def test_after_a_restore_one_request_reads_every_meter_and_nothing_is_sent_twice(make: Make, contract: Contract):
    """R19: hours that the database has forgotten to have sent are found, those that are not there go."""
    meters = names(10)
    gateway = make(*meters, contract=contract, old_hours=100)
    closed_hours(gateway, NINE - 30, 29, meters)
    gateway.run(60)
    forget = ["DELETE FROM ledger WHERE hour >= ?", "UPDATE hour SET state = 'pending' WHERE hour >= ?"]
    for statement in forget:
        gateway.store.write(lambda db, statement=statement: db.execute(statement, (NINE - 9,)))
    closed_hours(gateway, EIGHT, 1, meters, before=29)
    look_again(gateway)
    gateway.run(600)
    assert [sorted(each) for each in gateway.read] == [list(range(100, 110))]
    assert accepted(gateway)
    assert there(gateway) == [dict.fromkeys(range(NINE - 30, NINE), 500_000)] * 10


@pytest.mark.parametrize(("contract", "reads"), [(ROWS, [3, 1, 1, 1]), (KEYED, [3])])
def test_a_meter_that_the_answer_does_not_name_is_read_alone(make: Make, contract: Contract, reads: list[int]):
    """Of rows, no row may mean that nothing is there or that nobody looked: never taken for "not there" (R15)."""
    gateway = make("a", "b", "c", contract=contract, looked=False)
    closed_hours(gateway, EIGHT - 3, 4, gateway.meters)
    gateway.run(60)
    assert [len(each) for each in gateway.read] == reads
    assert accepted(gateway)
    assert there(gateway) == [dict.fromkeys(range(EIGHT - 3, NINE), 500_000)] * 3


def test_a_server_that_leaves_a_meter_out_leads_to_no_hour_twice(make: Make):
    """It shortens lists in silence; the meter that it left out has all its hours."""
    gateway = make("a", "b", "c")
    closed_hours(gateway, EIGHT - 3, 4, gateway.meters)
    gateway.simulator.faults = iter(["lost-answer"] * 2)
    whole = gateway.handler

    def shortened(request: httpx.Request) -> httpx.Response:
        answer = whole(request)
        if request.method == "POST" or "," not in request.url.params["meterId"]:
            return answer
        return httpx.Response(200, json=[row for row in answer.json() if row["meterId"] == 100])

    gateway.handler = shortened
    gateway.run(7200)
    assert gateway.read == [[100, 101], [101]]
    assert accepted(gateway)
    assert there(gateway) == [dict.fromkeys(range(EIGHT - 3, NINE), 500_000)] * 3


@pytest.mark.parametrize("contract", [ROWS, KEYED])
@pytest.mark.parametrize("fault", ["lost-answer", "lost-request"])
def test_unknown_messages_that_are_due_together_are_read_back_in_one_request(
    make: Make, contract: Contract, fault: str
):
    """R14-R16: each is decided by its own hours."""
    gateway = make(*names(6), contract=contract)
    closed_hours(gateway, EIGHT - 2, 1, gateway.meters)
    gateway.run(60)
    closed_hours(gateway, EIGHT - 1, 1, gateway.meters, before=1)
    gateway.simulator.faults = iter([fault, None] * 2)
    gateway.run(7200)
    assert [len(each) for each in gateway.read] == [2]
    assert accepted(gateway)
    assert there(gateway) == [dict.fromkeys(range(EIGHT - 2, EIGHT), 500_000)] * 6


# --- when it does not work --------------------------------------------------------------------------------------------


def test_an_unknown_meter_in_the_list_spoils_nothing_for_the_others(make: Make):
    """R23: refused together, they are read alone; later the unknown one is left out."""
    meters = names(5)
    gateway = make(*meters)
    closed_hours(gateway, EIGHT - 3, 4, meters)
    gateway.run(60)
    gateway.simulator.meters = {100, 101, 103, 104}
    gateway.run(DAY + 5 * 3600)
    assert gateway.read[0] == [100, 101, 102, 103, 104]
    assert sorted(each for (each,) in gateway.read[1:6]) == [100, 101, 102, 103, 104]
    del gateway.read[:]
    closed_hours(gateway, EIGHT + 28, 1, meters, before=4)
    gateway.run(DAY)
    assert [each for each in gateway.read if len(each) > 1] == [[100, 101, 103, 104]]
    assert {tuple(each) for each in gateway.read if len(each) == 1} <= {(102,)}


@pytest.mark.parametrize("answer", ["rows without a name", "another meter's rows", "no list"])
def test_a_server_that_does_not_understand_lists_is_asked_one_by_one(make: Make, answer: str):
    """Nothing is concluded from an answer that does not name its meters (R15)."""
    gateway = make("a", "b", "c")
    closed_hours(gateway, EIGHT - 3, 4, gateway.meters)
    gateway.run(60)
    understood = gateway.handler
    bodies = {"rows without a name": [{"timestamp": "2026-03-02T05:00:00Z", "value": 0.5}], "no list": {}}
    named = [{"timestamp": "2026-03-02T05:00:00Z", "value": 0.5, "meterId": 9}]

    def does_not(request: httpx.Request) -> httpx.Response:
        response = understood(request)
        if request.method == "POST" or "," not in request.url.params["meterId"]:
            return response
        return httpx.Response(200, content=json.dumps(bodies.get(answer, named)))

    gateway.handler = does_not
    gateway.run(DAY + 3600)
    assert sorted(map(len, gateway.read)) == [1, 1, 1, 3]
    assert accepted(gateway)


def test_one_failure_of_the_server_is_no_reason_to_read_alone_and_two_are(make: Make):
    """A 503 says nothing about lists; a server that falls over lists says it every time."""
    gateway = make("a", "b", "c", settle=60.0)
    closed_hours(gateway, EIGHT - 3, 4, gateway.meters)
    gateway.run(60)
    gateway.simulator.faults = iter(["503"])
    gateway.run(DAY + 2 * 3600)
    assert [len(each) for each in gateway.read] == [3, 3]
    closed_hours(gateway, EIGHT + 24, 1, gateway.meters, before=4)
    gateway.run(3600)
    gateway.simulator.faults = iter(["500-before", "500-before"])
    gateway.run(DAY + 3 * 3600)
    assert [len(each) for each in gateway.read] == [3, 3, 3, 3, 1, 1, 1]
    assert accepted(gateway)
