"""Whatever EnerKey is like, the probe finds it out, guesses nothing, and leaves the meter as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from buffer.model import MICRO, hour_of, hour_start, to_ms
from gateway.probing.plan import MOST_REQUESTS, RESERVE, RUN
from gateway.probing.wire import Ended
from gateway.simulator.enerkey import EnerkeySimulator, Fault
from gateway.simulator.http import Request
from gateway.simulator.pushed import Manner
from tests.fakes.probed import METER, REGISTER_METER, Probe

FIRST_PUSH = 3  # among all requests: each of the two meters is looked at before
PUSHES = range(1, 24)  # all that a probe sends, and the first ones of its way back
EMPTY = {METER: {}, REGISTER_METER: {}}
Turn = Callable[[EnerkeySimulator], None]


def turned(knob: str, value: object) -> Turn:
    """Sets a property of the simulator, or one of its rules."""

    def turn(simulator: EnerkeySimulator) -> None:
        holder, _, name = knob.rpartition(".")
        setattr(simulator.rules if holder else simulator, name, value)

    return turn


def old_refused(simulator: EnerkeySimulator) -> None:
    """As an API may that keeps a year."""
    simulator.refuses = lambda item: "too old" if item.stamp < simulator._now() - timedelta(days=366) else None


def halves_refused(simulator: EnerkeySimulator) -> None:
    """As an API may that takes full hours only."""
    simulator.refuses = lambda item: "not a full hour" if item.stamp.minute else None


def small(simulator: EnerkeySimulator) -> None:
    """A month of hours fits, a year does not."""
    simulator.largest_body = 60_000


CASES: list[tuple[str, Turn, dict[str, str]]] = [
    ("by default", lambda _: None, {"same_hour": "sum", "same_message": "sum", "hour_stamp": "start", "decimals": "6"}),
    ("sum", turned("rules.same_hour", "sum"), {"same_hour": "sum", "same_message": "sum"}),
    ("replace", turned("rules.same_hour", "replace"), {"same_hour": "replace", "same_message": "replace"}),
    ("end", turned("hour_stamp", "end"), {"hour_stamp": "end", "repeated_hour": "apart", "stamp_offset": "understood"}),
    *[
        (f"{decimals} decimals", turned("decimals", decimals), {"decimals": str(decimals), "same_hour": "sum"})
        for decimals in range(7)
    ],
    ("negatives", turned("negatives", True), {"negatives": "accepted"}),
    ("partial refusals", turned("partial", True), {"refusal": "partial"}),
    ("whole refusals", turned("partial", False), {"refusal": "whole"}),
    ("half past", lambda _: None, {"stamp_half": "own", "stamp_last_second": "own"}),
    ("full hours only", halves_refused, {"stamp_half": "refused", "stamp_last_second": "refused"}),
    ("offsets unheard", turned("manner", Manner(offsets=False)), {"stamp_offset": "ignored"}),
    ("local hours", turned("rules.zone", ZoneInfo("Europe/Helsinki")), {"repeated_hour": "merged"}),
    ("future refused", lambda _: None, {"future_hour": "refused", "unknown_meter": "404"}),
    (
        "future taken",
        turned("manner", Manner(ahead=timedelta(days=9))),
        {"future_hour": "accepted"},
    ),
    ("old taken", lambda _: None, {"old_hour": "accepted"}),
    ("old refused", old_refused, {"old_hour": "refused"}),
    ("no limit told", turned("tells_limit", False), {"rate_limit": "absent"}),
    ("limit told", lambda _: None, {"rate_limit": "present", "limit_push": "counted", "limit_read": "counted"}),
    ("reads are free", turned("counts_reads", False), {"limit_push": "counted", "limit_read": "free"}),
    ("large", lambda _: None, {"largest_message": "365"}),
    ("small", small, {"largest_message": "31"}),
    ("readings add", turned("rules.same_reading", "sum"), {"reading_again": "adds"}),
    (
        "readings replace",
        turned("rules.same_reading", "replace"),
        {"reading_again": "harmless", "reading_older": "placed"},
    ),
    ("lower is negative", turned("rules.same_reading", "replace"), {"reading_lower": "negative"}),
]


@pytest.mark.parametrize(("turn", "findings"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_finding_is_what_the_knob_says_and_the_books_are_as_before(turn: Turn, findings: dict[str, str]):
    """Every semantics in turn; the baseline is restored."""
    probe = Probe()
    turn(probe.simulator)
    result = probe.run()
    assert {name: result.value(name) for name in findings} == findings
    assert (result.ended, result.left) == ("", [])
    assert probe.books() == EMPTY


@pytest.mark.parametrize("rule", ["first-wins", "reject"])
def test_where_a_second_value_is_not_joined_what_is_left_is_told(rule: str):
    """Nothing can be taken away there; every hour that differs is named, and none else."""
    probe = Probe(same_hour=rule)
    probe.simulator.rules.same_reading = "replace"
    result = probe.run()
    assert (result.value("same_hour"), result.value("negatives")) == (rule, "accepted")
    assert result.value("same_message") == rule
    assert result.value("largest_message") is None
    books = probe.books()
    assert {each.at: each.shows for each in result.left} == {
        f"{hour_start(hour):%Y-%m-%d %H:%M}Z": micro for hour, micro in books[METER].items()
    }
    assert books[REGISTER_METER] == {}
    assert result.left


def test_where_negatives_are_refused_what_is_left_is_told():
    """Under a server that sums there is no other way back."""
    probe = Probe()
    probe.simulator.negatives = False
    result = probe.run()
    assert (result.value("negatives"), result.value("same_hour"), result.value("refusal")) == (
        "refused",
        "sum",
        "whole",
    )
    assert {each.shows for each in result.left if each.meter == METER} == set(probe.books()[METER].values())


def test_where_negatives_are_refused_but_values_replaced_nothing_is_left():
    """The old value itself is posted."""
    probe = Probe(same_hour="replace")
    probe.simulator.negatives = False
    result = probe.run()
    assert (result.value("negatives"), result.left) == ("refused", [])
    assert probe.books() == EMPTY


@pytest.mark.parametrize(
    ("knob", "value", "finding"),
    [
        ("older_reading", "ignored", "reading_older"),
        ("older_reading", "refused", "reading_older"),
        ("rules.lower_reading", "nothing", "reading_lower"),
        ("rules.lower_reading", "refused", "reading_lower"),
    ],
)
def test_readings_that_are_not_placed_are_found_out(knob: str, value: str, finding: str):
    """And the register is brought back to one level."""
    probe = Probe()
    probe.simulator.rules.same_reading = "replace"
    turned(knob, value)(probe.simulator)
    result = probe.run()
    assert (result.value(finding), result.left) == (value, [])
    assert probe.books() == EMPTY


@pytest.mark.parametrize("rule", ["first-wins", "reject"])
def test_a_second_reading_that_changes_nothing_is_harmless_or_refused(rule: str):
    """What stays of the register is told."""
    probe = Probe()
    probe.simulator.rules.same_reading = rule
    result = probe.run()
    assert result.value("reading_again") == {"first-wins": "harmless", "reject": "refused"}[rule]
    assert {each.shows for each in result.left} == set(probe.books()[REGISTER_METER].values())


@pytest.mark.parametrize("lag", [0, 3, 40, 600])
@pytest.mark.parametrize("rule", ["sum", "replace"])
def test_the_lag_is_found_to_a_quarter_and_never_too_short(lag: float, rule: str):
    """Rule 9 multiplies it by three."""
    probe = Probe(same_hour=rule)
    probe.simulator.lag = lag
    result = probe.run()
    found = float(result.value("lag") or -1)
    assert lag <= found <= 1.25 * lag + 1
    assert (result.value("same_hour"), result.value("negatives"), result.left) == (rule, "accepted", [])
    assert probe.books() == EMPTY


def test_a_lag_beyond_what_is_waited_for_ends_the_probe_and_says_what_was_sent():
    """Nothing is concluded, and nothing else is sent."""
    probe = Probe(longest_lag=120.0)
    probe.simulator.lag = 7200.0
    result = probe.run()
    assert "does not show after 120 s" in result.ended
    assert "--longest-lag" in result.ended
    assert [proof.value for proof in result.proofs if proof.step != "P11"] == [None]
    assert probe.books()[METER] == {probe.hours.of("first"): 3 * MICRO}
    assert len(result.left) == 1


def test_only_hours_that_were_empty_are_touched():
    """Not even with zeros, and not by the way back."""
    probe = Probe()
    busy = dict.fromkeys(range(probe_hour(probe) - 300, probe_hour(probe) - 60), MICRO)
    fill(probe, busy)
    result = probe.run()
    assert result.ended == ""
    assert probe.books()[METER] == busy
    touched = {item.stamp for push in probe.simulator.pushes[1:] for item in push.items if push.meter == METER}
    assert not touched & {hour_start(hour) for hour in busy}
    assert probe.hours.base + RUN <= min(busy)


def test_hours_of_zero_are_taken_where_there_are_no_empty_ones():
    """A second probe of the same meter, after the first has left its zeros."""
    probe = Probe()
    first, second = probe.run(), probe.run()
    assert [(proof.name, proof.value) for proof in first.proofs] == [(p.name, p.value) for p in second.proofs]
    assert probe.books() == EMPTY


def test_without_a_cumulative_meter_readings_are_not_asked_about():
    """P10 needs a meter of its own."""
    probe = Probe(cumulative=False)
    result = probe.run()
    assert not [proof for proof in result.proofs if proof.step == "P10"]
    assert {push.family for push in probe.simulator.pushes} == {"consumption"}


def test_nothing_is_sent_to_a_meter_that_may_be_somebodys():
    """Where every meter answers reads, none is taken for one that is not there."""
    probe = Probe()
    probe.simulator.meters = None
    result = probe.run()
    assert result.value("unknown_meter") is None
    assert {push.meter for push in probe.simulator.pushes} == {METER, REGISTER_METER}


@pytest.mark.parametrize(("partial", "found"), [(True, "partial"), (False, None)])
def test_a_text_for_a_number_proves_no_whole_refusal(partial: bool, found: str | None):
    """The whole body may have been unreadable: of values that are understood nothing is known."""
    probe = Probe()
    probe.simulator.manner, probe.simulator.partial = Manner(ahead=timedelta(days=9)), partial
    assert probe.run().value("refusal") == found


# --- faults on the way ------------------------------------------------------------------------------------------------


def test_a_first_value_that_is_lost_is_sent_again_for_another_hour():
    """Its answer alone would prove nothing."""
    probe = Probe(longest_lag=60.0)
    fail(probe, "POST", {1: "lost-request"})
    result = probe.run()
    assert (result.value("same_hour"), result.ended, result.left) == ("sum", "", [])
    assert probe.books() == EMPTY


@pytest.mark.parametrize(("fault", "number"), [("500-after", 2), *(("lost-answer", number) for number in PUSHES)])
@pytest.mark.parametrize("rule", ["sum", "replace"])
def test_a_lost_answer_is_settled_by_the_look_that_follows(fault: Fault, number: int, rule: str):
    """What was applied shows; what cannot be told from it was not found out, never guessed."""
    probe = Probe(year=False, same_hour=rule)
    fail(probe, "POST", {number: fault})
    result = probe.run()
    for proof in result.proofs:
        assert proof.value in {truth(rule)[proof.name], None}, proof
    assert (result.ended, result.left) == ("", [])
    assert probe.books() == EMPTY


@pytest.mark.parametrize(
    ("fault", "number"), [("500-before", 2), ("503", 2), *(("lost-request", number) for number in PUSHES[1:])]
)
@pytest.mark.parametrize("rule", ["sum", "replace", "first-wins"])
def test_a_request_that_is_lost_is_never_taken_for_an_answer(fault: Fault, number: int, rule: str):
    """A server that ignores second values looks the same: then it was not found out."""
    probe = Probe(year=False, same_hour=rule)
    fail(probe, "POST", {number: fault})
    result = probe.run()
    for proof in result.proofs:
        assert proof.value in {truth(rule)[proof.name], None}, proof
    if rule != "first-wins":
        assert (result.ended, result.left) == ("", [])
        assert probe.books() == EMPTY


@pytest.mark.parametrize("fault", ["lost-answer", "500-before", "503"])
def test_a_read_that_fails_is_asked_again(fault: Fault):
    """Reading twice harms nobody."""
    probe = Probe()
    fail(probe, "GET", dict.fromkeys((2, 4, 8, 11), fault))
    result = probe.run()
    assert (result.ended, result.left) == ("", [])
    assert None not in {proof.value for proof in result.proofs}
    assert probe.books() == EMPTY


def test_a_429_is_waited_out_and_sent_again():
    """It applied nothing; and it is told under P11."""
    probe = Probe()
    probe.simulator.burst = (5, 60.0)
    result = probe.run()
    assert (result.ended, result.value("same_hour"), result.value("burst")) == ("", "sum", "met")
    assert probe.books() == EMPTY


def test_the_configured_burst_is_kept():
    """The probe's own pace is half of it, so that a running service has room."""
    probe = Probe()
    probe.simulator.burst = (10, 10.0)
    assert probe.run().value("burst") == "not met"


def test_a_duplicated_request_is_seen_as_what_it_is():
    """3 and twice 5 make 13: that proves nothing, and is taken away all the same."""
    probe = Probe()
    fail(probe, "POST", {2: "duplicate"})
    result = probe.run()
    assert result.value("same_hour") is None
    assert probe.books()[METER] == {}


@pytest.mark.parametrize("number", range(2, 40))
def test_ctrl_c_at_any_request_ends_with_the_books_as_before(number: int):
    """What was found so far stays found."""
    probe = Probe(year=False)
    probe.simulator.lag = 20.0
    probe.before_request = lambda now: probe.stop.set() if now == number else None
    result = probe.run()
    assert result.ended == "interrupted"
    assert result.left == []
    assert probe.books() == EMPTY


def test_a_second_ctrl_c_leaves_and_names_what_was_sent():
    """Nothing more is sent after it."""
    probe = Probe()
    probe.before_request = lambda now: probe.stop.set() if now in {10, 14} else None
    result = probe.run()
    assert result.ended == "interrupted; on the way back: interrupted"
    assert {each.meter for each in result.left} == {METER}
    assert probe.books()[METER]


def test_an_outage_half_way_ends_the_probe_and_says_what_is_left():
    """Bounded: it does not wait for ever."""
    probe = Probe()
    probe.before_request = lambda now: setattr(probe.simulator, "keys", {"other"}) if now == 12 else None
    result = probe.run()
    assert "EnerKey refuses the API key" in result.ended
    assert result.left
    assert probe.requests < MOST_REQUESTS


def test_the_requests_are_bounded_and_some_are_kept_for_the_way_back():
    """A probe that needs more than was planned ends, with the books as before."""
    probe = Probe(most=RESERVE + 15)
    result = probe.run()
    assert result.ended == "the requests that were planned are used up"
    assert result.left == []
    assert probe.requests <= RESERVE + 15
    assert probe.books() == EMPTY


def test_reads_that_fail_for_good_end_the_probe_and_what_may_be_left_is_told():
    """Without reading there is no way back: nothing is taken away by guess."""
    probe = Probe()
    fail(probe, "GET", dict.fromkeys(range(7, 200), "503"))
    result = probe.run()
    assert result.ended == "EnerKey does not answer reads any more"
    assert {each.shows for each in result.left} == {None}
    assert probe.requests < MOST_REQUESTS


def test_a_machine_whose_clock_is_wrong_does_not_probe():
    """Its quiet past hours might be anybody's present."""
    probe = Probe()
    probe.simulator._now = lambda: probe.clock.wall - timedelta(hours=1)
    with pytest.raises(Ended, match="this machine's clock says 2026-03-02 09:55Z, EnerKey's 2026-03-02 08:55Z: set it"):
        probe.run()
    assert probe.simulator.pushes == []


def test_a_clock_that_steps_on_the_way_ends_the_probe_with_the_books_as_before():
    """The value whose answer told of it has been applied: it is taken away, too."""
    probe = Probe()
    now = probe.simulator._now
    probe.simulator._now = lambda: now() + timedelta(hours=1 if probe.requests >= FIRST_PUSH else 0)
    result = probe.run()
    assert "this machine's clock says" in result.ended
    assert result.left == []
    assert len(probe.simulator.pushes) == 2
    assert probe.books() == EMPTY


def test_a_register_is_brought_back_in_a_second_probe_too():
    """Behind the first one: readings are never sent before what is there."""
    probe = Probe()
    probe.simulator.older_reading, probe.simulator.rules.same_reading = "refused", "replace"
    probe.run()
    probe.clock.advance(86_400)
    result = probe.run()
    assert (result.value("reading_older"), result.left) == ("refused", [])
    assert probe.books() == EMPTY


# --- helpers ----------------------------------------------------------------------------------------------------------


@cache
def truth(rule: str) -> dict[str, str | None]:
    """What is found where nothing fails."""
    return {proof.name: proof.value for proof in Probe(year=False, same_hour=rule).run().proofs}


def fail(probe: Probe, method: str, faults: dict[int, Fault]) -> None:
    """Fail these requests of one method, counted from 1."""
    count = 0

    def choose(request: Request) -> Fault | None:
        nonlocal count
        count += request.method == method
        return faults.get(count) if request.method == method else None

    probe.simulator.faults = choose


def probe_hour(probe: Probe) -> int:
    return hour_of(to_ms(probe.clock.wall))


def fill(probe: Probe, values: dict[int, int]) -> None:
    """Give the meter hours of somebody else's."""
    from gateway.enerkey.contract import Contract
    from gateway.enerkey.models import push_body

    body = push_body(Contract(), METER, [(hour_start(hour), micro) for hour, micro in values.items()])
    headers = {"authorization": "k", "content-type": "application/json"}
    target = f"/api/v2/Values/PushConsumptionsForMeter?meterId={METER}"
    response = probe.simulator.handle(Request("POST", target, headers, body))
    assert response is not None
    assert response.status == 200
