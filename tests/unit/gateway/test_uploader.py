"""Delivery: what leaves, when, and what becomes of it (R12-R17, R22-R24)."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest

from buffer.model import EPOCH
from gateway.pacing import LONGEST_PAUSE
from gateway.simulator.http import Request
from gateway.uploader import PARKED
from tests.fakes.clock import START
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours, hour_number

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1


def faults(gateway: SmallGateway, *script: str | None) -> None:
    gateway.simulator.faults = iter(script)


# --- sending ----------------------------------------------------------------------------------------------------------


def test_all_closed_hours_of_a_meter_go_in_one_message(make: Make):
    gateway = make()
    closed_hours(gateway, NINE - 30, 30)
    gateway.run(1)
    assert len(gateway.simulator.pushes) == 1
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(NINE - 30, NINE), 500_000)
    assert set(gateway.states()) == {"accepted"}


def test_a_message_never_spans_more_than_allowed(make: Make):
    """R21."""
    gateway = make(most_hours=24)
    closed_hours(gateway, NINE - 100, 2)
    closed_hours(gateway, NINE - 60, 60)
    gateway.run(1)
    assert [len(push.items) for push in gateway.simulator.pushes] == [24, 24, 12, 2]


def test_the_intent_is_durable_before_the_first_byte(make: Make):
    """R12: another process, looking at the file while the request is under way, sees the exact body."""
    seen: list[tuple] = []
    gateway: SmallGateway

    def handler(request: httpx.Request) -> httpx.Response:
        row = gateway.store.read(lambda db: db.execute("SELECT state, body FROM message").fetchone())
        seen.append((row, request.read(), gateway.states()))
        return httpx.Response(200, json={})

    gateway = make(handler=handler)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    ((state, body), sent, states) = seen[0]
    assert state == "open"
    assert body == sent == b'[{"timestamp":"2026-03-02T08:00:00Z","value":0.5}]'
    assert states == ["claimed"]


def test_an_hour_goes_after_its_end_and_the_meters_offset(make: Make):
    gateway = make(offsets=300.0)  # it is 9:55
    closed_hours(gateway, NINE, 1)
    gateway.run(599)
    assert gateway.simulator.pushes == []
    gateway.run(1)
    assert len(gateway.simulator.pushes) == 1


def test_each_meter_goes_to_its_own_endpoint(make: Make):
    gateway = make("a", "cumulative")
    closed_hours(gateway, EIGHT - 1, 2, ("a", "cumulative"))
    gateway.run(1)
    assert [(push.meter, push.family, len(push.items)) for push in gateway.simulator.pushes] == [
        (100, "consumption", 2),
        (101, "cumulative", 2),
        (101, "cumulative", 1),
    ]
    assert gateway.simulator.hourly(100) == gateway.simulator.hourly(101) == {EIGHT - 1: 500_000, EIGHT: 500_000}


def test_a_meter_that_is_not_pushed_is_left_alone(make: Make):
    gateway = make("a", "off")
    closed_hours(gateway, EIGHT, 1, ("off",))
    gateway.run(3600)
    assert gateway.simulator.requests() == 0


def test_hours_that_are_missing_are_never_sent_and_the_next_boundary_stands_on_its_own(make: Make):
    gateway = make("a", "cumulative")
    closed_hours(gateway, EIGHT - 3, 4, ("a", "cumulative"))
    hole = "UPDATE hour SET state = 'missing', quality = 'missing' WHERE hour = ?"
    gateway.store.write(lambda db: db.execute(hole, (EIGHT - 2,)))
    gateway.run(1)
    assert sorted(gateway.simulator.hourly(100)) == [EIGHT - 3, EIGHT - 1, EIGHT]
    stamps = [item.stamp for item in gateway.simulator.items if item.family == "cumulative"]
    assert [hour_number(at) for at in stamps] == [EIGHT - 3, EIGHT - 2, EIGHT - 1, EIGHT, EIGHT + 1]


def test_estimates_are_kept_back_where_the_operator_says_so(make: Make):
    gateway = make(push_estimated=False)
    closed_hours(gateway, EIGHT - 1, 2)
    gateway.store.write(lambda db: db.execute("UPDATE hour SET quality = 'estimated' WHERE hour = ?", (EIGHT - 1,)))
    gateway.run(1)
    assert list(gateway.simulator.hourly(100)) == [EIGHT]
    assert gateway.states() == ["pending", "accepted"]


# --- unknown fates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("meter", ["a", "cumulative"])
@pytest.mark.parametrize("fault", ["lost-request", "lost-answer", "500-before", "500-after", "503"])
def test_an_unknown_fate_is_read_back_after_settle_and_never_sent_blindly(make: Make, meter: str, fault: str):
    """R14-R16."""
    gateway = make(meter)
    closed_hours(gateway, EIGHT - 4, 5, (meter,))
    faults(gateway, fault)
    gateway.run(599)
    assert gateway.messages()[0][0] == "unknown"
    assert len(gateway.messages()) == 1
    gateway.run(60)
    assert gateway.simulator.hourly(100) == dict.fromkeys(range(EIGHT - 4, NINE), 500_000)
    assert set(gateway.states(meter)) == {"accepted"}


def test_hours_of_nothing_are_accepted_once_too(make: Make):
    gateway = make("a", "cumulative")
    closed_hours(gateway, EIGHT - 3, 4, ("a", "cumulative"), value=0)
    faults(gateway, "lost-answer", "lost-request")
    gateway.run(700)
    assert gateway.simulator.hourly(100) == gateway.simulator.hourly(101) == dict.fromkeys(range(EIGHT - 3, NINE), 0)
    stamps = [item.stamp for item in gateway.simulator.items if item.family == "cumulative"]
    assert len(stamps) == len(set(stamps)) == 5


def test_a_crash_while_a_message_is_open_leaves_it_unknown(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT, 1)

    class PowerCut(BaseException):
        pass

    def cut(_: Request) -> None:
        raise PowerCut

    gateway.simulator.faults = cut
    with pytest.raises(PowerCut):
        gateway.run(1)
    gateway.simulator.faults = None
    gateway.crash()
    gateway.run(599)
    assert gateway.messages() == [("unknown", 0)]
    gateway.run(60)
    assert gateway.simulator.hourly(100) == {EIGHT: 500_000}


def test_what_the_read_back_cannot_explain_is_held_with_both_numbers(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    faults(gateway, "lost-answer")
    gateway.run(1)
    body = b'[{"timestamp":"2026-03-02T08:00:00Z","value":7}]'
    push = "/api/v2/Values/PushConsumptionsForMeter?meterId=100"
    gateway.simulator.handle(Request("POST", push, {"authorization": "one", "content-type": "application/json"}, body))
    gateway.run(3600)
    assert gateway.states() == ["held"]
    words = "1 h held: EnerKey shows 7.500000 for 2026-03-02 08:00Z, sent was 0.500000"
    assert ("warning", "a", words) in gateway.events()


def test_with_on_unknown_hold_nothing_is_decided_by_the_gateway(make: Make):
    gateway = make(on_unknown="hold")
    closed_hours(gateway, EIGHT, 1)
    faults(gateway, "503")
    gateway.run(3600)
    assert gateway.states() == ["held"]
    assert gateway.simulator.requests() == 1


def test_a_read_back_that_fails_is_tried_again_and_decides_nothing(make: Make):
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    faults(gateway, "lost-answer", "503", "lost-answer", "500-before", "503")
    gateway.run(600 + 5 * LONGEST_PAUSE)
    assert gateway.simulator.hourly(100) == {EIGHT: 500_000}
    assert gateway.states() == ["accepted"]


def test_while_one_fate_is_unknown_no_other_message_of_that_meter_leaves(make: Make):
    """R13."""
    gateway = make("a", "b")
    closed_hours(gateway, EIGHT - 1, 1, ("a", "b"))
    faults(gateway, "503")
    gateway.run(1)
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(300)
    assert gateway.simulator.hourly(100) == {}
    assert sorted(gateway.simulator.hourly(101)) == [EIGHT - 1, EIGHT]
    gateway.run(400)
    assert sorted(gateway.simulator.hourly(100)) == [EIGHT - 1, EIGHT]


# --- other meters go on -----------------------------------------------------------------------------------------------


def test_one_meters_500_stops_no_other(make: Make):
    """R23."""
    names = [f"m{number}" for number in range(6)]
    gateway = make(*names)
    closed_hours(gateway, EIGHT, 1, names)
    gateway.simulator.faults = lambda request: "500-before" if "meterId=100" in request.target else None
    gateway.run(1)
    assert [len(gateway.simulator.hourly(100 + number)) for number in range(6)] == [0, 1, 1, 1, 1, 1]


def test_a_read_back_that_hangs_again_and_again_lets_pushes_between(make: Make):
    """R23: settling and sending take turns."""
    names = [f"m{number}" for number in range(8)]
    log: list[str] = []
    pushes_fail = True
    gateway: SmallGateway

    def handler(request: httpx.Request) -> httpx.Response:
        log.append(request.method)
        if request.method == "GET":
            gateway.clock.advance(120.0)
            raise httpx.ReadTimeout("timed out", request=request)
        return httpx.Response(503 if pushes_fail else 200)

    gateway = make(*names, handler=handler)
    closed_hours(gateway, EIGHT - 1, 1, names[:2])
    gateway.run(599)
    assert log == ["POST", "POST"]
    pushes_fail = False
    closed_hours(gateway, EIGHT - 1, 1, names[2:])
    gateway.run(3600)
    assert "GETGET" not in "".join(log[: len(log) - log[::-1].index("POST")])
    assert all(gateway.states(name) == ["accepted"] for name in names[2:])
    assert gateway.states(names[0]) == gateway.states(names[1]) == ["claimed"]


def test_a_400_parks_that_message_and_no_other(make: Make):
    gateway = make("a", "cumulative", "c")
    closed_hours(gateway, EIGHT, 1, ("a", "cumulative", "c"))

    def no(request: httpx.Request) -> httpx.Response:
        bad = "meterId=10" in str(request.url) and "102" not in str(request.url)
        return httpx.Response(400, text="value out of range") if bad else httpx.Response(200)

    gateway.close()
    gateway._transport = httpx.MockTransport(no)
    gateway.open()
    gateway.run(1)
    assert [gateway.states(name) for name in ("a", "cumulative", "c")] == [["held"], ["held"], ["accepted"]]
    assert (
        "error",
        "a",
        "EnerKey refused 0.500000 for 2026-03-02 08:00Z, held until somebody decides: HTTP 400: value out of range",
    ) in gateway.events()
    gateway.run(86_400)
    assert len(gateway.messages()) == 3  # nobody tries again by himself


def test_after_a_held_hour_later_consumptions_go_and_later_boundaries_wait(make: Make):
    gateway = make("a", "cumulative")
    closed_hours(gateway, EIGHT - 2, 3, ("a", "cumulative"))
    gateway.store.write(lambda db: db.execute("UPDATE hour SET state = 'held' WHERE hour = ?", (EIGHT - 2,)))
    gateway.run(600)
    assert gateway.states("a") == ["held", "accepted", "accepted"]
    assert gateway.states("cumulative") == ["held", "pending", "pending"]
    assert len(gateway.messages()) == 1


def test_an_unknown_meter_is_tried_once_a_day(make: Make):
    gateway = make("a", "b", server={"meters": [101]})
    closed_hours(gateway, EIGHT, 1, ("a", "b"))
    gateway.run(PARKED - 10)
    assert (gateway.states("a"), gateway.states("b")) == (["pending"], ["accepted"])
    assert len(gateway.messages()) == 2
    assert gateway.uploader.snapshot()["parked"] == ["a"]
    gateway.simulator.meters = {100, 101}
    gateway.run(60)
    assert gateway.states("a") == ["accepted"]
    assert gateway.uploader.snapshot()["parked"] == []


def test_a_message_that_is_too_large_is_halved_until_it_fits(make: Make):
    sizes: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        items = len(json.loads(request.read()))
        sizes.append(items)
        return httpx.Response(413 if items > 6 else 200)

    gateway = make(handler=handler)
    closed_hours(gateway, NINE - 20, 20)
    gateway.run(1)
    assert sizes == [20, 10, 5, 5, 5, 5]
    assert set(gateway.states()) == {"accepted"}


def test_a_single_hour_that_is_too_large_does_not_spin(make: Make):
    gateway = make(handler=lambda request: httpx.Response(413))
    closed_hours(gateway, EIGHT, 1)
    gateway.run(3600)
    assert len(gateway.messages()) == 1
    assert gateway.uploader.snapshot()["parked"] == ["a"]
