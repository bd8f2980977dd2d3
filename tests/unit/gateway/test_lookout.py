"""EnerKey is read before old hours are written (R19), and daily compared with what it accepted (R18)."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from buffer import postings
from buffer.model import EPOCH, hour_start, to_ms
from buffer.store import DATABASE
from gateway.uploader import PARKED
from tests.fakes.clock import START
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1


@pytest.fixture
def make(make: Make) -> Make:
    """Hours are old after six of them."""
    return lambda *meters, **settings: make(*meters, **{"old_hours": 6} | settings)


def by_hand(gateway: SmallGateway, hour: int, value: str, meter: int = 100) -> None:
    """Somebody else fills an hour at EnerKey."""
    body = f'[{{"timestamp":"{hour_start(hour):%Y-%m-%dT%H:%M:%SZ}","value":{value}}}]'
    url = f"http://localhost/api/v2/Values/PushConsumptionsForMeter?meterId={meter}"
    headers = {"Authorization": "one", "Content-Type": "application/json"}
    answer = transport(gateway.simulator).handler(httpx.Request("POST", url, headers=headers, content=body))
    assert answer.status_code == 200


# --- before sending ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter", ["a", "cumulative"])
def test_a_new_database_reads_each_meter_once_before_it_sends(make: Make, meter: str):
    """At once, not after `settle`: nothing of this gateway's can be under way."""
    gateway = make(meter, looked=False)
    closed_hours(gateway, EIGHT - 2, 3, (meter,))
    gateway.run(1)
    assert gateway.asked[:2] == ["GET", "POST"]
    closed_hours(gateway, NINE, 1, (meter,))
    gateway.run(3600)
    assert gateway.asked.count("GET") == 1
    assert len(gateway.simulator.hourly(100)) == 4


@pytest.mark.parametrize("meter", ["a", "cumulative"])
def test_hours_read_again_into_a_fresh_database_are_not_doubled(make: Make, meter: str):
    """R19: everything was sent before, by a database that is gone."""
    gateway = make(meter, looked=False)
    closed_hours(gateway, NINE - 200, 200, (meter,))
    gateway.run(10)
    before = gateway.simulator.hourly(100)
    gateway.close()
    for file in gateway.directory.iterdir():
        file.unlink()
    gateway.open()
    closed_hours(gateway, NINE - 200, 200, (meter,))
    gateway.run(10)
    assert gateway.simulator.hourly(100) == before
    assert set(gateway.states(meter)) == {"accepted"}
    assert gateway.messages() == []
    assert ("info", meter, "200 h were at EnerKey already, found before they were sent") in gateway.events()


def test_hours_that_waited_long_are_read_first_in_one_request(make: Make):
    """R19: a year of backlog costs one read, and 13 pushes."""
    gateway = make()
    closed_hours(gateway, NINE - 8760, 8760)
    gateway.run(600)
    assert gateway.asked == ["GET", *["POST"] * 12]
    assert len(gateway.simulator.hourly(100)) == 8760


def test_young_hours_are_sent_without_a_look(make: Make):
    gateway = make()
    closed_hours(gateway, NINE - 6, 6)
    gateway.run(1)
    assert gateway.asked == ["POST"]


def test_an_old_image_of_the_card_doubles_nothing(make: Make, tmp_path: Path):
    """R19: what it sent since, it has forgotten; hours that are old by now are found at EnerKey."""
    gateway = make()
    gateway.run(1)
    gateway.close()
    image = tmp_path / "image"
    shutil.copy(gateway.directory / DATABASE, image)
    gateway.open()
    closed_hours(gateway, NINE - 24, 24)
    gateway.run(600)
    gateway.close()
    shutil.copy(image, gateway.directory / DATABASE)
    gateway.open()
    closed_hours(gateway, NINE - 24, 24)
    gateway.run(600)
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 24, NINE), 500_000)
    assert set(gateway.states()) == {"accepted"}


def test_after_a_power_cut_nothing_is_sent_before_a_look_that_waits_for_settle(make: Make):
    """R19: the disk may have forgotten what it promised, and EnerKey may not show yet what came last."""
    gateway = make("a", "b")
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(1)
    forget = (
        "UPDATE hour SET state = 'pending'",
        "DELETE FROM ledger",
        "DELETE FROM message_hour",
        "DELETE FROM message",
    )
    for statement in forget:
        gateway.store.write(lambda db, statement=statement: db.execute(statement))
    gateway.boot = "boot-2"
    gateway.crash()
    closed_hours(gateway, NINE, 1, ("a",))
    gateway.run(590)
    assert gateway.asked == ["POST", "POST"]
    gateway.run(60)
    assert gateway.asked.count("GET") == 2
    assert gateway.simulator.hourly(100)[EIGHT] == gateway.simulator.hourly(101)[EIGHT] == 500_000
    assert gateway.states("b") == ["accepted"]


def test_a_stop_on_request_needs_no_look_after_the_next_boot(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    gateway.close()
    gateway.boot = "boot-2"
    gateway.open()
    closed_hours(gateway, NINE, 1)
    gateway.run(3600)
    assert "GET" not in gateway.asked
    assert len(gateway.simulator.hourly(100)) == 2


def test_a_killed_process_on_the_same_boot_needs_no_look(make: Make):
    """What was committed is there: only a machine that goes down can forget."""
    gateway = make()
    gateway.run(1)
    gateway.crash()
    closed_hours(gateway, EIGHT, 1)
    gateway.run(60)
    assert gateway.asked == ["POST"]


@pytest.mark.parametrize("meter", ["a", "cumulative"])
def test_a_meter_that_somebody_else_fills_is_held_with_both_numbers_and_rests(make: Make, meter: str):
    """DESIGN 6: nothing more of it is sent, whatever closes, until somebody has decided."""
    gateway = make(meter, looked=False)
    by_hand(gateway, EIGHT - 1, "7")
    closed_hours(gateway, EIGHT - 3, 4, (meter,))
    gateway.run(3600)
    words = (
        "1 h held before they were sent: EnerKey shows 7.000000 for 2026-03-02 07:00Z, to be sent was 0.500000."
        f" Somebody else fills this meter: nothing of it is sent until: meter-gateway takeover {meter}"
    )
    assert ("warning", meter, words) in gateway.events()
    closed_hours(gateway, NINE, 1, (meter,))
    gateway.run(2 * 86_400)
    assert gateway.simulator.hourly(100) == {EIGHT - 1: 7_000_000}
    assert gateway.states(meter) == ["pending", "pending", "held", "pending", "pending"]
    assert "POST" not in gateway.asked


def test_one_meter_that_somebody_else_fills_stops_no_other(make: Make):
    """R23."""
    gateway = make("a", "b", looked=False)
    by_hand(gateway, EIGHT, "7")
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(60)
    assert (gateway.states("a"), gateway.states("b")) == (["held"], ["accepted"])


def test_what_an_hour_would_have_taken_along_counts_as_posted_when_it_is_there(make: Make):
    gateway = make(looked=False)
    by_hand(gateway, EIGHT, "0.57")
    closed_hours(gateway, EIGHT, 1)
    row = (gateway.numbers["a"], EIGHT, 70_000, "late", "gateway", to_ms(gateway.clock.wall))
    insert = "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.execute(insert, row))
    gateway.run(2 * 3600)
    assert gateway.asked == ["GET"]
    assert gateway.states() == ["accepted"]
    assert gateway.store.read(lambda db: postings.unposted(db, 1)) == []


def test_a_look_that_fails_sends_nothing_and_is_tried_again(make: Make):
    gateway = make(looked=False)
    closed_hours(gateway, EIGHT, 1)
    gateway.simulator.faults = iter(["503", "lost-answer", "500-before"])
    gateway.run(3600)
    assert gateway.asked == ["GET", "GET", "GET", "GET", "POST"]


def test_while_no_key_may_read_nothing_is_sent_and_each_key_is_told_once(make: Make):
    """R19: not to know is no reason to write."""
    gateway = make(looked=False)
    gateway.simulator.forbidden = {("one", "values"), ("two", "values")}
    closed_hours(gateway, EIGHT, 1)
    gateway.run(3600)
    assert "POST" not in gateway.asked
    told = [text.partition(": ")[0] for level, _, text in gateway.events() if level == "error"]
    assert told == ["EnerKey refuses API key 1 (env:ONE) for values", "EnerKey refuses API key 2 (env:TWO) for values"]
    gateway.simulator.forbidden = set()
    gateway.run(3600)
    assert gateway.states() == ["accepted"]


def test_where_no_key_may_read_the_operator_is_told_and_can_say_so(make: Make):
    """With on_unknown = "hold" nothing is read, so nothing waits for it."""
    gateway = make("a", looked=False, on_unknown="hold")
    gateway.simulator.forbidden = {("one", "values"), ("two", "values")}
    closed_hours(gateway, NINE - 48, 48)
    gateway.run(60)
    assert gateway.asked == ["POST"]


def test_a_meter_that_enerkey_does_not_know_is_asked_for_once_a_day(make: Make):
    gateway = make("a", "b", looked=False)
    gateway.simulator.meters = {101}
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(PARKED - 60)
    assert gateway.states("b") == ["accepted"]
    assert gateway.uploader.snapshot()["parked"] == ["a"]
    assert gateway.asked.count("GET") == 2
    gateway.simulator.meters = {100, 101}
    gateway.run(120)
    assert gateway.states("a") == ["accepted"]


# --- the daily audit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter", ["a", "cumulative"])
def test_what_was_accepted_is_compared_daily_with_one_request(make: Make, meter: str):
    gateway = make(meter)
    for day in range(3):
        closed_hours(gateway, NINE - 6 + 24 * day, 6, (meter,))
        gateway.run(86_400)
    gateway.run(3600)
    assert gateway.asked.count("GET") == 3
    assert set(gateway.states(meter)) == {"accepted"}
    assert [event for event in gateway.events() if event[0] != "info"] == []


def test_a_message_that_a_proxy_delivered_twice_is_found_within_a_day(make: Make):
    """R18: told with both numbers and held; nothing is sent again."""
    gateway = make("a", "b")
    closed_hours(gateway, EIGHT - 3, 4, ("a", "b"))
    gateway.run(1)
    for hour in range(EIGHT - 3, NINE):
        by_hand(gateway, hour, "0.5")
    posts = gateway.asked.count("POST")
    gateway.run(86_400)
    words = "4 h held: EnerKey shows 1.000000 for 2026-03-02 05:00Z, accepted was 0.500000"
    assert ("error", "a", words) in gateway.events()
    assert gateway.states("a") == ["held"] * 4
    assert gateway.states("b") == ["accepted"] * 4
    gateway.run(2 * 86_400)
    assert gateway.asked.count("POST") == posts


def test_hours_accepted_so_lately_that_they_may_not_be_readable_wait_for_the_next_audit(make: Make):
    """An API that shows what it took an hour later must not raise a false alarm."""
    gateway = make()
    gateway.run(86_400 - 300)
    closed_hours(gateway, NINE + 20, 3)
    gateway.run(100)
    assert gateway.states() == ["accepted"] * 3
    gateway.run(600)
    assert gateway.asked.count("GET") == 0
    by_hand(gateway, NINE + 20, "1")
    gateway.run(86_400)
    assert gateway.asked.count("GET") == 1
    assert gateway.states() == ["held", "accepted", "accepted"]


def test_the_audit_keeps_its_day_across_restarts(make: Make):
    """A gateway that restarts every few hours is audited all the same, and not at every start."""
    gateway = make()
    closed_hours(gateway, EIGHT - 3, 4)
    for _ in range(12):
        gateway.run(4 * 3600)
        gateway.crash()
    assert gateway.asked.count("GET") in {1, 2}


def test_an_audit_that_fails_holds_nothing_and_comes_again(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT - 3, 4)
    gateway.run(1)
    gateway.simulator.faults = iter(["503", "lost-answer"])
    gateway.run(86_400 + 3 * 3600)
    assert gateway.asked.count("GET") == 3
    assert set(gateway.states()) == {"accepted"}
