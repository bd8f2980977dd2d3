"""A person decides hours in doubt: afterwards EnerKey has each hour once, and the ledger says what it has (R14-R17, R24)."""

from __future__ import annotations

import httpx
import pytest

from buffer.closing import hold
from buffer.corrections import CorrectionError
from buffer.model import EPOCH, hour_start, to_ms
from gateway.correcting import correct
from gateway.enerkey.models import stamp
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.clock import START
from tests.fakes.enerkey_transport import transport
from tests.fakes.picky_enerkey import PickyEnerkey
from tests.fakes.small_gateway import Answer, Make, SmallGateway, closed_hours

NINE = int((START - EPOCH).total_seconds()) // 3600
EIGHT, SEVEN = NINE - 1, NINE - 2
DAY = 86_400
AFTERWARDS = 2 * 3600  # s; enough for a message, its reading back and one more
OWN = 500_000


@pytest.fixture
def make(make: Make) -> Make:
    """The hours that EnerKey refuses are `refused`; what happens between two requests is `gateway.meanwhile`."""

    def build(*meters: str, refused: tuple[int, ...] = (), **settings) -> SmallGateway:
        def answering(simulator: EnerkeySimulator) -> Answer:
            picky.append(PickyEnerkey(simulator, [stamp(hour_start(hour)) for hour in refused], 100, whole=True))

            def handler(request: httpx.Request) -> httpx.Response:
                gateway.meanwhile(request.method)
                return picky[0](request)

            return handler

        picky: list[PickyEnerkey] = []
        server = {"same_hour": settings.get("same_hour", "sum")}
        gateway = make(*meters, server=server, answering=answering, **settings)
        gateway.picky, gateway.meanwhile = picky[0], lambda _: None
        return gateway

    return build


def by_hand(gateway: SmallGateway, hour: int, value: str, endpoint: str = "PushConsumptionsForMeter") -> None:
    """Somebody else adds to an hour at EnerKey, or to a reading."""
    body = f'[{{"timestamp":"{hour_start(hour):%Y-%m-%dT%H:%M:%SZ}","value":{value}}}]'
    url = f"http://localhost/api/v2/Values/{endpoint}?meterId=100"
    headers = {"Authorization": "one", "Content-Type": "application/json"}
    answer = transport(gateway.simulator).handler(httpx.Request("POST", url, headers=headers, content=body))
    assert answer.status_code == 200


def adjust(gateway: SmallGateway, hour: int, amount: int) -> None:
    row = (1, hour, amount, "late", "gateway", to_ms(gateway.clock.wall))
    insert = "INSERT INTO adjustment (meter, hour, amount, reason, author, at) VALUES (?, ?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.execute(insert, row))


def say(gateway: SmallGateway, what: str, meter: str = "a", **values) -> str:
    asked = {"what": what, "meter": meter, "author": "ada"} | values
    now_ms = to_ms(gateway.clock.wall)
    return gateway.store.write(lambda db: correct(db, asked, now_ms)).done.text


def decide(gateway: SmallGateway, decision: str, *hours: int, meter: str = "a") -> str:
    span = {"first": hours[0], "last": hours[-1]} if hours else {}
    return say(gateway, "resolve", meter, decision=decision, **span)


def balanced(gateway: SmallGateway, meter: str = "a") -> bool:
    """R16: EnerKey has what the ledger says, and that is every hour with what was posted; nothing else is in doubt."""
    sums = "SELECT coalesce(sum({}), 0) FROM {} WHERE meter = {}"
    number = gateway.numbers[meter]

    def one(what: str, table: str) -> int:
        return gateway.store.read(lambda db: db.execute(sums.format(what, table, number)).fetchone()[0])

    accepted = one("consumption", "(SELECT * FROM hour WHERE state = 'accepted')")
    posted = one("posted", "adjustment")
    there = gateway.simulator.hourly(99 + number)
    ledger = dict(
        gateway.store.read(
            lambda db: db.execute("SELECT hour, accepted FROM ledger WHERE meter = ?", (number,)).fetchall()
        )
    )
    assert ledger == there
    assert sum(there.values()) == accepted + posted
    assert gateway.count("doubt") == 0
    return True


# --- what was sent, and fits to neither outcome -----------------------------------------------------------------------


def doubtful(make: Make, *, shown: str = "7", adjusted: int = 0, **settings) -> SmallGateway:
    """An hour of 0.5 was sent once, the answer is lost, and EnerKey shows something else."""
    gateway = make(**settings)
    by_hand(gateway, EIGHT, shown)
    if adjusted:
        adjust(gateway, EIGHT, adjusted)
    closed_hours(gateway, EIGHT, 1)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(700)
    assert gateway.states() == ["held"]
    gateway.simulator.faults = None
    return gateway


def test_what_enerkey_shows_of_a_held_hour_is_kept_beside_what_was_sent(make: Make):
    """Both numbers, for as long as nobody has decided."""
    gateway = doubtful(make)
    (view,) = gateway.hours()
    assert view.doubt is not None
    assert (view.doubt.why, view.doubt.value, view.doubt.shown, view.doubt.accepted) == ("sent", OWN, 7_500_000, None)
    assert view.doubt.seen_at == to_ms(START) + 600_000


@pytest.mark.parametrize("adjusted", [0, 70_000])
def test_enerkeys_number_can_stand(make: Make, adjusted: int):
    """Nothing is sent any more; the difference is an adjustment that is there already, with the person's name."""
    gateway = doubtful(make, adjusted=adjusted)
    said = decide(gateway, "accept")
    assert "EnerKey's number stands; EnerKey shows 7.5" in said
    gateway.run(AFTERWARDS)
    assert gateway.asked.count("POST") == 1
    assert gateway.states() == ["accepted"]
    assert balanced(gateway)
    assert any(text.endswith("(ada)") and "EnerKey's number stands" in text for _, _, text in gateway.events())


@pytest.mark.parametrize("same_hour", ["sum", "replace"])
@pytest.mark.parametrize("adjusted", [0, 70_000])
def test_the_difference_can_be_posted_once(make: Make, adjusted: int, same_hour: str):
    """Whatever EnerKey showed: afterwards it has the hour's own number with its adjustments."""
    gateway = make(same_hour=same_hour)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    by_hand(gateway, EIGHT, "7")
    gateway.run(DAY + 60)
    assert gateway.states() == ["held"]
    if adjusted:
        adjust(gateway, EIGHT, adjusted)
    decide(gateway, "correct")
    gateway.run(AFTERWARDS)
    assert gateway.simulator.hourly(100) == {EIGHT: OWN + adjusted}
    assert gateway.asked.count("POST") == 2
    assert gateway.states() == ["accepted"]
    assert balanced(gateway)


def test_the_difference_to_what_was_sent_goes_once_with_its_adjustments(make: Make):
    """What the message took along is there; only the rest is posted."""
    gateway = doubtful(make, adjusted=70_000)
    decide(gateway, "correct")
    gateway.run(AFTERWARDS)
    assert gateway.simulator.hourly(100) == {EIGHT: OWN + 70_000}
    assert balanced(gateway)


def test_an_hour_that_enerkey_has_not_is_read_once_more_and_sent(make: Make):
    """R19: somebody has emptied it there."""
    gateway = doubtful(make, adjusted=70_000)
    by_hand(gateway, EIGHT, "-7.57")
    decide(gateway, "resend")
    assert gateway.states() == ["pending"]
    gateway.run(60)
    assert gateway.asked[-2:] == ["GET", "POST"]
    assert gateway.simulator.hourly(100) == {EIGHT: OWN + 70_000}
    assert balanced(gateway)


def test_a_wrong_word_doubles_nothing(make: Make):
    """Resent although it is there: the look finds it, and the hour is held again."""
    gateway = doubtful(make)
    decide(gateway, "resend")
    gateway.run(AFTERWARDS)
    assert gateway.asked.count("POST") == 1
    assert gateway.states() == ["held"]
    assert gateway.simulator.hourly(100) == {EIGHT: 7_500_000}


def test_an_hour_that_is_dropped_is_never_sent_and_counts_as_decided(make: Make):
    """R24: by a person's word, which stands in the events; later hours go on."""
    gateway = doubtful(make)
    decide(gateway, "drop")
    closed_hours(gateway, NINE, 1)
    gateway.run(AFTERWARDS)
    assert gateway.states() == ["dropped", "accepted"]
    assert gateway.simulator.hourly(100) == {EIGHT: 7_500_000, NINE: OWN}
    assert any("never sent" in text and text.endswith("(ada)") for _, _, text in gateway.events())


def test_a_dropped_hour_can_be_sent_after_all(make: Make):
    """It is named, and EnerKey is read before."""
    gateway = make(refused=(EIGHT,))
    closed_hours(gateway, EIGHT, 1)
    gateway.run(60)
    decide(gateway, "drop")
    with pytest.raises(CorrectionError, match="no hour of it is in doubt"):
        decide(gateway, "resend")
    gateway.picky.bad = set()
    decide(gateway, "resend", EIGHT)
    gateway.run(60)
    assert gateway.states() == ["accepted"]
    assert balanced(gateway)


# --- a message whose fate is unknown ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "there"), [("accept", {EIGHT: OWN, SEVEN: OWN}), ("drop", {EIGHT: OWN, SEVEN: OWN})]
)
def test_a_message_of_unknown_fate_can_be_decided_before_it_is_read_back(make: Make, decision: str, there: dict):
    """Where no key may read, that is the only way; as a whole, because it was one message."""
    gateway = make(on_unknown="hold")
    closed_hours(gateway, SEVEN, 2)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(60)
    assert gateway.states() == ["claimed"] * 2
    with pytest.raises(CorrectionError, match=r"decided as a whole: --hour 2026-03-02T07:00Z\.\.2026-03-02T08:00Z"):
        decide(gateway, decision, EIGHT)
    assert gateway.states() == ["claimed"] * 2
    decide(gateway, decision)
    gateway.run(AFTERWARDS)
    assert gateway.states() == (["accepted"] if decision == "accept" else ["dropped"]) * 2
    assert gateway.simulator.hourly(100) == there
    assert gateway.asked == ["POST"]


@pytest.mark.parametrize("decision", ["accept", "drop"])
def test_a_person_who_decides_while_the_message_is_read_back_is_heard(make: Make, decision: str):
    """The word came first; what the read-back finds changes nothing, and the delivery goes on."""
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.meanwhile = lambda method: decide(gateway, decision) if method == "GET" else None
    gateway.run(700)
    assert gateway.asked == ["POST", "GET"]
    assert gateway.states() == ["accepted" if decision == "accept" else "dropped"]
    gateway.meanwhile = lambda _: None
    closed_hours(gateway, NINE, 1)
    gateway.run(AFTERWARDS)
    assert gateway.states()[-1] == "accepted"


def test_a_lost_message_is_sent_again_on_a_persons_word(make: Make):
    """R15: only proof returns an hour, and here the person is the proof."""
    gateway = make(on_unknown="hold")
    closed_hours(gateway, SEVEN, 2)
    gateway.simulator.faults = iter(["lost-request"])
    gateway.run(700)
    assert gateway.states() == ["held"] * 2
    decide(gateway, "resend")
    gateway.run(60)
    assert gateway.states() == ["accepted"] * 2
    assert balanced(gateway)


def test_a_message_that_is_resent_before_it_can_be_read_waits_for_settle(make: Make):
    """EnerKey may not show yet that it has it: a person who looks too early doubles nothing."""
    gateway = make(settle=3600.0)
    closed_hours(gateway, EIGHT, 1)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(60)
    say(gateway, "resolve", decision="resend", settle=3_600_000)
    gateway.run(3500)
    assert gateway.asked == ["POST"]
    gateway.run(200)
    assert gateway.asked == ["POST", "GET"]
    assert gateway.states() == ["accepted"]
    assert balanced(gateway)


def test_hours_that_do_not_add_up_are_sent_or_dropped_but_never_taken_for_there(make: Make):
    """R7 held them before anything was sent."""
    gateway = make()
    closed_hours(gateway, SEVEN, 2)
    gateway.store.write(lambda db: hold(db, 1))
    gateway.run(60)
    assert gateway.asked == []
    with pytest.raises(CorrectionError, match="never sent; --resend sends it as it is"):
        decide(gateway, "accept", SEVEN)
    decide(gateway, "resend", SEVEN)
    decide(gateway, "drop", EIGHT)
    gateway.run(60)
    assert gateway.states() == ["accepted", "dropped"]
    assert balanced(gateway)


def test_a_difference_that_nobody_has_read_cannot_be_posted(make: Make):
    """There is only one number."""
    gateway = make(on_unknown="hold")
    closed_hours(gateway, EIGHT, 1)
    gateway.simulator.faults = iter(["lost-answer"])
    gateway.run(700)
    with pytest.raises(CorrectionError, match="nobody has read what EnerKey shows"):
        decide(gateway, "correct")
    assert gateway.states() == ["held"]


# --- what was accepted and shows another number since -----------------------------------------------------------------


def changed_since(make: Make, *meters: str, count: int = 1) -> SmallGateway:
    gateway = make(*meters)
    closed_hours(gateway, NINE - count, count, meters or ("a",))
    gateway.run(1)
    return gateway


def test_a_changed_hour_keeps_what_enerkey_shows_where_a_person_says_so(make: Make):
    """Somebody has corrected it by hand; the next audit agrees."""
    gateway = changed_since(make)
    by_hand(gateway, EIGHT, "-0.2")
    gateway.run(DAY + 60)
    assert gateway.states() == ["held"]
    decide(gateway, "accept")
    gateway.run(DAY)
    assert gateway.states() == ["accepted"]
    assert gateway.simulator.hourly(100) == {EIGHT: 300_000}
    assert balanced(gateway)


def test_a_deleted_hour_can_be_sent_again_with_its_adjustments(make: Make):
    """What had been posted is posted again."""
    gateway = make()
    adjust(gateway, EIGHT, 70_000)
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    by_hand(gateway, EIGHT, "-0.57")
    gateway.run(DAY + 60)
    assert gateway.states() == ["held"]
    decide(gateway, "resend")
    gateway.run(AFTERWARDS)
    assert gateway.simulator.hourly(100) == {EIGHT: OWN + 70_000}
    assert balanced(gateway)


def test_what_enerkey_has_accepted_is_not_dropped(make: Make):
    """That would be another word for `--accept`."""
    gateway = changed_since(make)
    by_hand(gateway, EIGHT, "1")
    gateway.run(DAY + 60)
    with pytest.raises(CorrectionError, match="--accept leaves it"):
        decide(gateway, "drop")


# --- what EnerKey refuses ---------------------------------------------------------------------------------------------


def test_a_refused_adjustment_can_be_given_up(make: Make):
    """The hour stays as EnerKey has it, and nothing of it waits any more."""
    gateway = make()
    closed_hours(gateway, EIGHT, 1)
    gateway.run(1)
    gateway.picky.bad = {stamp(hour_start(EIGHT))}
    adjust(gateway, EIGHT, -70_000)
    gateway.run(2 * 3600)
    assert gateway.states() == ["held"]
    decide(gateway, "drop")
    gateway.run(AFTERWARDS)
    assert gateway.states() == ["accepted"]
    assert gateway.simulator.hourly(100) == {EIGHT: OWN}
    assert balanced(gateway)


def test_the_hours_among_which_a_refused_one_was_looked_for_go_on(make: Make):
    """R23: whatever is decided, the search does not wait for that hour."""
    gateway = make(refused=(EIGHT,))
    closed_hours(gateway, NINE - 8, 8)
    gateway.run(3600)
    decide(gateway, "drop")
    gateway.run(3600)
    assert gateway.states() == ["accepted"] * 7 + ["dropped"]
    assert gateway.count("suspect") == 0


# --- cumulative meters ------------------------------------------------------------------------------------------------


def test_the_next_boundary_evens_out_what_one_hour_has_too_much(make: Make):
    """No boundary is sent twice; the series stands where the register is."""
    gateway = changed_since(make, "cumulative", count=3)
    by_hand(gateway, NINE, "0.2", "PushCumulativeReadingsForMeter")
    gateway.run(DAY + 60)
    assert gateway.states("cumulative") == ["accepted", "accepted", "held"]
    decide(gateway, "correct", meter="cumulative")
    closed_hours_after(gateway, NINE, 2)
    gateway.run(AFTERWARDS)
    there = gateway.simulator.hourly(100)
    assert sum(there.values()) == 5 * OWN
    assert there[NINE] == OWN - 200_000
    assert set(gateway.states("cumulative")) == {"accepted"}
    assert balanced(gateway, "cumulative")


def closed_hours_after(gateway: SmallGateway, hour: int, count: int) -> None:
    """More hours of a register that goes on from its newest boundary."""
    last = gateway.hours("cumulative")[-1].boundary
    rows = [(1, hour + n, OWN, last + (n + 1) * OWN, "measured", 0) for n in range(count)]
    insert = "INSERT INTO hour (meter, hour, consumption, boundary, quality, closed_at) VALUES (?, ?, ?, ?, ?, ?)"
    gateway.store.write(lambda db: db.executemany(insert, rows))


def test_what_enerkey_shows_of_a_cumulative_meter_can_stand_and_its_register_goes_on(make: Make):
    """The next boundary is the register's: nothing is carried along, and the total is right."""
    gateway = changed_since(make, "cumulative", count=3)
    by_hand(gateway, EIGHT, "0.2", "PushCumulativeReadingsForMeter")
    gateway.run(DAY + 60)
    assert gateway.states("cumulative") == ["accepted", "held", "held"]
    decide(gateway, "accept", meter="cumulative")
    closed_hours_after(gateway, NINE, 2)
    gateway.run(DAY)
    assert sum(gateway.simulator.hourly(100).values()) == 5 * OWN
    assert set(gateway.states("cumulative")) == {"accepted"}
    assert gateway.count("adjustment") == 0


@pytest.mark.parametrize(
    ("decision", "words"),
    [("drop", "--accept leaves it"), ("resend", "later boundaries"), ("correct", "later boundaries")],
)
def test_a_boundary_is_neither_left_out_nor_sent_behind_later_ones(make: Make, decision: str, words: str):
    """EnerKey would derive one number for two hours."""
    gateway = changed_since(make, "cumulative", count=3)
    by_hand(gateway, EIGHT - 1, "1")
    gateway.run(DAY + 60)
    assert gateway.states("cumulative") == ["accepted", "held", "accepted"]
    with pytest.raises(CorrectionError, match=words):
        decide(gateway, decision, meter="cumulative")
    assert gateway.states("cumulative") == ["accepted", "held", "accepted"]


# --- words ------------------------------------------------------------------------------------------------------------


def test_where_nothing_is_in_doubt_there_is_nothing_to_decide(make: Make):
    """Also a second time."""
    gateway = doubtful(make)
    decide(gateway, "accept", EIGHT)
    for hours in ((), (EIGHT,)):
        with pytest.raises(CorrectionError, match="no hour of it is in doubt"):
            decide(gateway, "accept", *hours)
