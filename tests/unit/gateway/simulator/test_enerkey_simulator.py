from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.model import EPOCH
from gateway.enerkey.contract import Contract
from gateway.simulator.books import Books, Item, Push, Unusable, between
from gateway.simulator.enerkey import FAULTS, EnerkeySimulator, random_faults
from gateway.simulator.http import Request, Response
from gateway.simulator.words import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = int((datetime(2026, 3, 2, 10, tzinfo=UTC) - EPOCH) / timedelta(hours=1))  # hour 10 of NOW's day
CONSUMPTIONS = "/api/v2/Values/PushConsumptionsForMeter?meterId=7"
READINGS = "/api/v2/Values/PushCumulativeReadingsForMeter?meterId=7"
ONE = 1_000_000


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def make(time: Time) -> Iterator[Callable[..., EnerkeySimulator]]:
    """Makes simulators that live by `time` and are closed after the test."""
    made: list[EnerkeySimulator] = []

    def make(*args, **kwargs) -> EnerkeySimulator:
        made.append(EnerkeySimulator(*args, now=time, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def simulator(make: Callable[..., EnerkeySimulator]) -> EnerkeySimulator:
    return make()


def post(target: str, body: str, **headers: str) -> Request:
    return Request("POST", target, {"authorization": "k", "content-type": "application/json", **headers}, body.encode())


def get(target: str, key: str = "k") -> Request:
    return Request("GET", target, {"authorization": key})


def rows(*items: tuple[str, object]) -> str:
    return json.dumps([{"timestamp": at, "value": value} for at, value in items])


def hours(first: str, last: str, meter: int = 7) -> Request:
    return get(f"/api/v2/Values/Hourly?meterId={meter}&from=2026-03-02T{first}Z&to=2026-03-02T{last}Z")


def said(response: Response | None) -> tuple[int, str]:
    assert response is not None
    return response.status, json.loads(response.body)["message"]


# --- consumptions -----------------------------------------------------------------------------------------------------


def test_values_of_one_hour_are_summed_within_a_message_and_over_messages(simulator: EnerkeySimulator):
    body = rows(("2026-03-02T10:00:00Z", 1.25), ("2026-03-02T12:59:59+02:00", 2), ("2026-03-02T09:00:00Z", 0.5))
    assert simulator.handle(post(CONSUMPTIONS, body)).status == 200
    simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:30:00Z", -1))))
    assert simulator.hourly(7) == {HOUR - 1: 500_000, HOUR: 2_250_000}


def test_a_server_that_replaces_keeps_the_last_value(make):
    simulator = make(same_hour="replace")
    simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1), ("2026-03-02T10:00:00Z", 2))))
    assert simulator.hourly(7) == {HOUR: 2 * ONE}
    simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 3))))
    assert simulator.hourly(7) == {HOUR: 3 * ONE}


def test_values_are_exact_and_rounded_half_up_to_micro(simulator: EnerkeySimulator):
    body = '[{"timestamp":"2026-03-02T10:00:00Z","value":0.1},{"timestamp":"2026-03-02T10:00:00Z","value":0.2000005}]'
    simulator.handle(post(CONSUMPTIONS, body))
    assert simulator.hourly(7) == {HOUR: 300_001}
    assert b'"value":0.300001}' in simulator.handle(hours("10:00:00", "11:00:00")).body


def test_meters_do_not_mix(simulator: EnerkeySimulator):
    simulator.handle(post(CONSUMPTIONS.replace("=7", "=8"), rows(("2026-03-02T10:00:00Z", 1))))
    assert simulator.hourly(7) == {}
    assert simulator.hourly(8) == {HOUR: ONE}


# --- readings ---------------------------------------------------------------------------------------------------------


def test_the_difference_of_two_readings_is_the_hour_between_them(simulator: EnerkeySimulator):
    simulator.handle(post(READINGS, rows(("2026-03-02T10:00:00Z", 100), ("2026-03-02T11:00:00Z", 101.5))))
    assert simulator.hourly(7) == {HOUR: 1_500_000}


def test_one_reading_gives_no_hour(simulator: EnerkeySimulator):
    simulator.handle(post(READINGS, rows(("2026-03-02T10:00:00Z", 100))))
    assert simulator.hourly(7) == {}
    assert simulator.handle(hours("00:00:00", "12:00:00")).body == b"[]"


def test_the_same_reading_twice_is_summed_so_that_a_resend_shows(simulator: EnerkeySimulator):
    first = post(READINGS, rows(("2026-03-02T10:00:00Z", 100), ("2026-03-02T11:00:00Z", 101)))
    simulator.handle(first)
    simulator.handle(post(READINGS, rows(("2026-03-02T11:00:00Z", 101))))
    assert simulator.hourly(7) == {HOUR: 102 * ONE}


def test_a_gap_between_readings_is_spread_with_the_rest_in_its_last_hour(simulator: EnerkeySimulator):
    simulator.handle(post(READINGS, rows(("2026-03-02T11:00:00Z", 0.00001), ("2026-03-02T08:00:00Z", 0))))
    assert simulator.hourly(7) == {HOUR - 2: 3, HOUR - 1: 3, HOUR: 4}


def test_a_part_of_a_spread_gap_reads_like_the_whole(simulator: EnerkeySimulator):
    simulator.handle(post(READINGS, rows(("2026-03-02T11:00:00Z", 0.00001), ("2026-03-02T08:00:00Z", 0))))
    assert json.loads(simulator.handle(hours("09:00:00", "10:00:00")).body) == [
        {"timestamp": "2026-03-02T09:00:00Z", "value": 0.000003}
    ]


@given(st.dictionaries(st.integers(0, 200), st.integers(-(10**15), 10**15), min_size=1))
def test_spreading_loses_nothing(readings: dict[int, int]):
    ordered = sorted(readings.items())
    spread = dict(between(ordered))
    assert sorted(spread) == list(range(ordered[0][0], ordered[-1][0]))
    assert sum(spread.values()) == ordered[-1][1] - ordered[0][1]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("nonsense", "not JSON"),
        ("[]", "at least one item"),
        ("{}", "array"),
        ("[1]", "item 1: must be an object with timestamp and value"),
        (rows(("2026-03-02T10:00:00Z", 1), ("2026-03-02T10:00:00", 1)), "item 2: '2026-03-02T10:00:00' is no time"),
        (rows(("2026-03-02T10:00:00Z", 1), ("yesterday", 1)), "item 2: 'yesterday' is no time"),
        (rows(("2026-02-30T10:00:00Z", 1)), "item 1: "),
        (rows(("2026-03-02T10:00:00Z", "1")), "item 1: '1' is not a number"),
        (rows(("2026-03-02T10:00:00Z", None)), "item 1: 'None' is not a number"),
        (rows(("2026-03-02T10:00:00Z", float("nan"))), "item 1: 'NaN' is not a number"),
        (rows(("2026-03-02T10:00:00Z", float("inf"))), "item 1: 'Infinity' is not a number"),
        (rows(("2026-03-02T10:00:00Z", 1e30)), "item 1: "),
        ('[{"timestamp":"2026-03-02T10:00:00Z","value":1,"value":2}]', "'value' stands there twice"),
        ('[{"timestamp":"2026-03-02T10:00:00Z","value":1,"unit":"kWh"}]', "item 1: must be an object with"),
        (
            rows(("2026-03-02T10:00:00Z", 1), ("2026-03-02T14:00:00Z", 1)),
            "item 2: 2026-03-02T14:00:00+00:00 is in the future",
        ),
        (rows(("2025-03-02T09:00:00Z", 1), ("2026-03-02T09:00:00Z", 1)), "spans more than 365 days"),
        (rows(("2026-03-02T10:00:00Z", 9e12), ("2026-03-02T10:00:00Z", 9e12)), "too large"),
    ],
)
def test_a_bad_message_is_refused_with_the_item_named_and_nothing_applied(
    simulator: EnerkeySimulator, body: str, words: str
):
    status, message = said(simulator.handle(post(CONSUMPTIONS, body)))
    assert status == 400
    assert words in message
    assert simulator.hourly(7) == {}
    assert simulator.pushes == []


def test_a_whole_year_of_hours_is_one_message(simulator: EnerkeySimulator):
    first = NOW - timedelta(days=365)
    body = rows(*(((first + timedelta(hours=n)).isoformat(), 1) for n in range(8760)))
    assert simulator.handle(post(CONSUMPTIONS, body)).status == 200
    assert len(simulator.hourly(7)) == 8760


def test_readings_may_lie_a_year_apart_and_no_more(simulator: EnerkeySimulator):
    year = rows(("2025-03-02T10:00:00Z", 1), ("2026-03-02T10:00:00Z", 1))
    assert simulator.handle(post(READINGS, year)).status == 200
    assert said(simulator.handle(post(READINGS, year.replace("2025-03-02T10", "2025-03-02T09"))))[0] == 400


def test_a_reading_is_of_a_full_hour(simulator: EnerkeySimulator):
    status, message = said(simulator.handle(post(READINGS, rows(("2026-03-02T10:30:00Z", 1)))))
    assert (status, "full hour" in message) == (400, True)


def test_the_hour_that_is_running_may_be_pushed(simulator: EnerkeySimulator):
    assert simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T13:00:00Z", 1)))).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request("GET", "/"), 401),
        (get("/", "Bearer k"), 401),
        (get("/", "other"), 401),
        (get("/nothing"), 404),
        (get("/api/v2/Values/Hourlyy?meterId=7&from=x&to=y"), 404),
        (hours("10:00:00", "11:00:00", meter=9), 404),
        (post(CONSUMPTIONS.replace("=7", "=9"), rows(("2026-03-02T10:00:00Z", 1))), 404),
        (get(CONSUMPTIONS), 405),
        (post("/api/v2/Values/Hourly?meterId=7&from=x&to=y", ""), 405),
        (post(CONSUMPTIONS, "[]", **{"content-type": "text/plain"}), 415),
        (get("/api/v2/Values/Hourly?from=2026-03-02T00:00:00Z&to=2026-03-02T01:00:00Z"), 400),
        (get("/api/v2/Values/Hourly?meterId=7,8&from=2026-03-02T00:00:00Z&to=2026-03-02T01:00:00Z"), 400),
        (get("/api/v2/Values/Hourly?meterId=7&from=2026-03-02T00:00:00+02:00&to=2026-03-02T01:00:00Z"), 400),
        (get("/api/v2/Values/Hourly?meterId=7&from=2026-03-02T00:00:00Z"), 400),
        (hours("11:00:00", "11:00:00"), 400),
        (post("/api/v2/Values/PushConsumptionsForMeter?meterId=seven", "[]"), 400),
        (post("/api/v2/Values/PushConsumptionsForMeter", rows(("2026-03-02T10:00:00Z", 1))), 400),
    ],
)
def test_what_is_not_there_or_not_allowed_has_its_status(make, request_: Request, status: int):
    simulator = make(keys=["k"], meters=[7, 8])
    assert said(simulator.handle(request_))[0] == status


def test_a_key_may_be_forbidden_one_family_only(simulator: EnerkeySimulator):
    simulator.forbidden = {("k", "consumption")}
    assert said(simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1)))))[0] == 403
    assert simulator.handle(hours("10:00:00", "11:00:00")).status == 200


# --- reading back -----------------------------------------------------------------------------------------------------


def test_only_hours_in_the_range_that_have_a_value_are_answered(simulator: EnerkeySimulator):
    body = rows(("2026-03-02T07:00:00Z", 7), ("2026-03-02T08:00:00Z", 0), ("2026-03-02T10:00:00Z", 10))
    simulator.handle(post(CONSUMPTIONS, body))
    assert json.loads(simulator.handle(hours("08:00:00", "10:00:00")).body) == [
        {"timestamp": "2026-03-02T08:00:00Z", "value": 0}
    ]
    assert json.loads(simulator.handle(hours("07:30:00", "08:30:00")).body) == [
        {"timestamp": "2026-03-02T08:00:00Z", "value": 0}
    ]


def test_times_are_answered_in_the_format_of_the_question(simulator: EnerkeySimulator):
    simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1))))
    asked = (
        "/api/v2/Values/Hourly?meterId=7&from=2026-03-02T00%3A00%3A00%2B02%3A00&to=2026-03-03T00%3A00%3A00%2B02%3A00"
    )
    assert json.loads(simulator.handle(get(asked)).body) == [{"timestamp": "2026-03-02T12:00:00+02:00", "value": 1}]


def test_every_answer_has_a_date_and_the_calls_left(simulator: EnerkeySimulator):
    for request in (get("/"), get("/nothing"), Request("GET", "/"), post(CONSUMPTIONS, "[]")):
        headers = simulator.handle(request).headers
        assert headers["Date"] == "Mon, 02 Mar 2026 12:00:00 GMT"
        assert int(headers["X-Rate-Limit"]) > 39_990


# --- the daily limit --------------------------------------------------------------------------------------------------


def test_the_limit_is_of_a_rolling_day(simulator: EnerkeySimulator, time: Time):
    simulator.requests_per_day = 2
    assert [simulator.handle(get("/")).headers["X-Rate-Limit"] for _ in range(2)] == ["1", "0"]
    time.now += timedelta(hours=23)
    refused = simulator.handle(get("/"))
    assert (refused.status, refused.headers["X-Rate-Limit"]) == (429, "0")
    time.now += timedelta(seconds=int(refused.headers["Retry-After"]))
    assert simulator.handle(get("/")).status == 200
    assert simulator.requests() == 1


def test_a_request_without_a_good_key_costs_nothing(simulator: EnerkeySimulator):
    simulator.handle(Request("GET", "/"))
    assert simulator.requests() == 0


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "applied"),
    [
        ("lost-request", None, False),
        ("lost-answer", None, True),
        ("500-before", 500, False),
        ("500-after", 500, True),
        ("503", 503, False),
        (None, 200, True),
    ],
)
def test_a_fault_decides_what_is_applied_and_what_is_said(
    simulator: EnerkeySimulator, fault: str | None, status: int | None, applied: bool
):
    simulator.faults = iter([fault])
    response = simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1))))
    assert (response.status if response else None) == status
    assert bool(simulator.pushes) == applied
    assert simulator.handle(get("/")).status == 200  # the script has ended


def test_faults_may_depend_on_the_request(simulator: EnerkeySimulator):
    simulator.faults = lambda request: "503" if request.method == "POST" else None
    assert simulator.handle(get("/")).status == 200
    assert simulator.handle(post(CONSUMPTIONS, "[]")).status == 503


def test_faults_by_chance_come_at_their_rates():
    choose = random_faults({"503": 0.1, "lost-answer": 0.3}, Random(1))
    found = [choose(get("/")) for _ in range(10_000)]
    assert 900 < found.count("503") < 1100
    assert 2800 < found.count("lost-answer") < 3200
    assert set(found) == {"503", "lost-answer", None}
    assert set(found) - {None} < set(FAULTS)


# --- what it remembers ------------------------------------------------------------------------------------------------


def test_what_was_accepted_is_kept_item_by_item_and_told(simulator: EnerkeySimulator):
    told: list[Push] = []
    simulator.on_push = told.append
    simulator.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1), ("2026-03-02T10:00:00Z", 1))))
    simulator.handle(post(READINGS, rows(("2026-03-02T11:00:00Z", 2))))
    at = datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert simulator.items == [
        Item(7, "consumption", at, ONE),
        Item(7, "consumption", at, ONE),
        Item(7, "cumulative", at + timedelta(hours=1), 2 * ONE),
    ]
    assert simulator.pushes == told
    assert [push.at for push in told] == [NOW, NOW]


def test_a_restart_forgets_nothing(tmp_path, make):
    before = make(store=tmp_path / "enerkey.db")
    before.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1))))
    before.close()
    after = make(store=tmp_path / "enerkey.db")
    after.handle(post(CONSUMPTIONS, rows(("2026-03-02T10:00:00Z", 1))))
    assert after.hourly(7) == {HOUR: 2 * ONE}
    assert (after.requests(), len(after.pushes)) == (2, 2)
    after.close()


def test_a_file_that_is_no_database_is_unusable(tmp_path):
    (tmp_path / "text").write_text("x" * 5000)
    for path in (tmp_path / "text", tmp_path / "missing" / "file"):
        with pytest.raises(Unusable):
            Books(path, "sum")


# --- other contracts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"m":7,"v":[{"t":"2026-03-02T10:00:00Z","q":1}]}', 200),
        ('{"v":[{"t":"2026-03-02T10:00:00Z","q":1}]}', 400),
        ('{"m":"7","v":[{"t":"2026-03-02T10:00:00Z","q":1}]}', 400),
        ('{"m":7.5,"v":[{"t":"2026-03-02T10:00:00Z","q":1}]}', 400),
        ('{"m":7,"v":{}}', 400),
        ("[]", 400),
    ],
)
def test_a_meter_in_the_body_is_found_beside_the_values(make, body: str, status: int):
    contract = Contract(
        push_consumptions="POST /c",
        push_cumulative_readings="POST /r",
        values_key="v",
        meter_key="m",
        timestamp_key="t",
        value_key="q",
    )
    simulator = make(contract)
    assert simulator.handle(post("/c", body)).status == status
    assert simulator.hourly(7) == ({HOUR: ONE} if status == 200 else {})


def test_a_message_names_one_meter(make):
    simulator = make(Contract(meter_key="m"))
    item = '{{"timestamp":"2026-03-02T10:00:00Z","value":1,"m":{}}}'
    for meters in ((8,), (7, 8)):
        body = f"[{','.join(item.format(meter) for meter in meters)}]"
        assert said(simulator.handle(post(CONSUMPTIONS, body))) == (400, "the message must name one meter")
    assert simulator.handle(post(CONSUMPTIONS, f"[{item.format(7)},{item.format(7)}]")).status == 200


@pytest.mark.parametrize(
    ("template", "target", "found"),
    [
        ("/m/{meter}/h?f={from}", "/m/7/h?f=a%2Bb", {"meter": "7", "from": "a+b"}),
        ("/h?m={meter}&f={from}", "/h?f=1&m=7&x=y", {"meter": "7", "from": "1"}),
        ("/h?m={meter}&f={from}", "/h?m=7", {"meter": "7"}),
        ("/h?kind=a&m={meter}", "/h?m=7", None),
        ("/h?kind=a&m={meter}", "/h?m=7&kind=b", None),
        ("/h?kind=a&m={meter}", "/h?m=7&kind=a", {"meter": "7"}),
        ("/h?r={from}..{to}", "/h?r=1..2", {"from": "1", "to": "2"}),
        ("/h", "/hh", None),
        ("/m.x", "/mxx", None),
    ],
)
def test_a_request_is_fitted_to_the_contracts_path(template: str, target: str, found: dict[str, str] | None):
    assert fit(template, target) == found


# --- against a model --------------------------------------------------------------------------------------------------

pushes = st.lists(
    st.lists(st.tuples(st.integers(0, 47), st.integers(-(10**9), 10**9)), min_size=1, max_size=5), max_size=8
)


@given(pushes)
def test_an_hours_value_is_the_sum_of_all_that_was_accepted(messages: list[list[tuple[int, int]]]):
    simulator = EnerkeySimulator(now=lambda: NOW)
    expected: defaultdict[int, int] = defaultdict(int)
    for message in messages:
        items = [((NOW - timedelta(hours=back)).isoformat(), str(Decimal(micro).scaleb(-6))) for back, micro in message]
        body = ",".join(f'{{"timestamp":"{at}","value":{value}}}' for at, value in items)
        assert simulator.handle(post(CONSUMPTIONS, f"[{body}]")).status == 200
        for back, micro in message:
            expected[HOUR + 2 - back] += micro
    assert simulator.hourly(7) == expected
    simulator.close()
