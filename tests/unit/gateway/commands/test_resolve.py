"""`resolve` and `takeover`: what is in doubt with both numbers, and one decision, with the service or without it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from buffer.model import EPOCH
from tests.fakes.site import Site

FIRST = datetime(2026, 11, 2, 7, tzinfo=UTC)
HOUR = (FIRST - EPOCH) // timedelta(hours=1)
SEEN = 1_793_610_000_000  # 2026-11-02 09:00Z
NOTE = "INSERT INTO doubt (meter, hour, why, value, adjusted, shown, seen_at) VALUES (?, ?, ?, 500000, 0, ?, ?)"


def doubt(
    site: Site, meter: str, why: str, *, nth: int = 0, shown: int | None = 7_000_000, seen: int | None = SEEN
) -> None:
    """The nth hour is held, and this was noted."""
    site.close_hours(meter, FIRST + timedelta(hours=nth), 1, state="held")
    number = site.number(meter)
    site.write(lambda db: db.execute(NOTE, (number, HOUR + nth, why, shown, seen)))


def states(site: Site, meter: str = "chiller") -> list[str]:
    number = site.number(meter)
    find = "SELECT state FROM hour WHERE meter = ? ORDER BY hour"
    return [row[0] for row in site.write(lambda db: db.execute(find, (number,)).fetchall())]


@pytest.fixture
def doubtful(site: Site) -> Site:
    """The chiller has an hour that fits to neither outcome, and one that EnerKey refused."""
    site.make()
    doubt(site, "chiller", "sent")
    doubt(site, "chiller", "refused", nth=1, shown=None, seen=None)
    return site


# --- the list ---------------------------------------------------------------------------------------------------------


def test_where_nothing_is_in_doubt_it_says_so(site: Site, meter_gateway):
    """Of all meters, or of one."""
    site.make()
    assert meter_gateway("resolve") == (0, "nothing is in doubt\n", "")
    assert meter_gateway("resolve", "chiller").out == "chiller: nothing is in doubt\n"
    assert json.loads(meter_gateway("resolve", "--json").out) == {"meters": []}


def test_both_numbers_stand_beside_each_other_with_what_can_be_decided(doubtful: Site, meter_gateway):
    """80 columns."""
    done = meter_gateway("resolve", columns=80)
    assert done.out == (
        "chiller (kWh)\n"
        "hour               EnerKey shows  ours  why\n"
        "2026-11-02T07:00Z              7   0.5  sent, fits to neither outcome\n"
        "2026-11-02T08:00Z       not read   0.5  refused by EnerKey\n"
        "  to decide: meter-gateway resolve chiller --hour 2026-11-02T07:00Z DECISION (or\n"
        "      FROM..TO, or no --hour for all)\n"
        "    --accept   EnerKey has it: its number stands\n"
        "    --resend   EnerKey does not have it: send it\n"
        "    --correct  ours is right: post the difference\n"
        "    --drop     never send it\n"
    )


def test_a_script_gets_every_number_and_when_it_was_seen(doubtful: Site, meter_gateway):
    """As texts, so that no reader makes a float of them."""
    (meter,) = json.loads(meter_gateway("resolve", "--json").out)["meters"]
    assert meter["decisions"] == ["accept", "resend", "correct", "drop"]
    assert meter["held"][0] == {
        "hour": "2026-11-02T07:00Z", "why": "sent", "ours": "0.5", "accepted": None, "sent": "0.5", "shown": "7",
        "seen_at": "2026-11-02T09:00:00+00:00", "words": "",
    }  # fmt: skip
    assert meter["held"][1]["seen_at"] is None


def test_a_long_list_is_cut_where_several_meters_are_listed(site: Site, meter_gateway):
    """Named alone, a meter shows all."""
    site.make()
    for nth in range(14):
        doubt(site, "chiller", "sent", nth=nth)
    assert "and 2 more: meter-gateway resolve chiller" in meter_gateway("resolve").out
    assert meter_gateway("resolve", "chiller").out.count("sent, fits to neither") == 14
    one = meter_gateway("resolve", "chiller", "--hour", "2026-11-02T09:00Z..2026-11-02T10:00Z").out
    assert one.count("sent, fits to neither") == 2


def test_a_message_of_unknown_fate_and_parked_energy_are_listed(site: Site, meter_gateway):
    """With what to say about each."""
    site.make()
    site.close_hours("chiller", FIRST, 1, state="claimed")
    number, water = site.number("chiller"), site.number("cold-water")

    def work(db):
        db.execute(
            "INSERT INTO message (id, meter, family, enerkey_id, body, sha256, key_slot, boot_id, created_at, state, fate_at)"
            " VALUES (9, ?, 'consumption', 1, x'00', '', 0, '', 0, 'unknown', ?)",
            (number, SEEN),
        )
        db.execute("INSERT INTO message_hour (message, meter, hour, value) VALUES (9, ?, ?, 500000)", (number, HOUR))
        db.execute(
            "INSERT INTO parked (meter, hour, amount, reason, at) VALUES (?, ?, 1500000, 'gap', 0)", (water, HOUR)
        )

    site.write(work)
    out = " ".join(meter_gateway("resolve").out.split())
    assert "a message with 1 hour has an unknown fate since 2026-11-02T" in out
    assert "meter-gateway resolve chiller --hour 2026-11-02T07:00Z --accept" in out
    assert "1.5 m3 are parked: meter-gateway meter book cold-water, or drop" in out
    problem = " ".join(meter_gateway("status").out.split())
    assert "chiller: a message of it has an unknown fate since" in problem
    assert meter_gateway("resolve", "chiller", "--accept").code == 0
    assert states(site) == ["accepted"]


# --- a decision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True])
def test_a_decision_reaches_the_buffer_with_its_author(doubtful: Site, meter_gateway, monkeypatch, running):
    """Through the service where one runs; the answer repeats both numbers."""
    monkeypatch.setenv("SUDO_USER", "ada")
    said = ("resolve", "chiller", "--hour", "2026-11-02T07:00Z", "--accept")
    if running:
        with doubtful.running() as gateway:
            uploader = gateway.uploaders[""]
            uploader.wake.clear()
            done = meter_gateway(*said)
            assert uploader.wake.is_set(), "what may be sent now is sent now"
    else:
        done = meter_gateway(*said)
    assert (done.code, done.err) == (0, "")
    assert " ".join(done.out.split()) == (
        "chiller: 1 h from 2026-11-02 07:00Z to 2026-11-02 08:00Z: EnerKey's number stands; EnerKey shows 7, sent was 0.5"
    )
    assert states(doubtful) == ["accepted", "held"]
    events = doubtful.write(lambda db: db.execute("SELECT text FROM event WHERE subject = 'chiller'").fetchall())
    assert events[-1][0].endswith("(ada)")


@pytest.mark.parametrize("running", [False, True])
def test_what_cannot_be_decided_so_is_refused_in_a_sentence(doubtful: Site, meter_gateway, running):
    """Exit code 1; nothing is written, also of the hours that could."""
    if running:
        with doubtful.running():
            done = meter_gateway("resolve", "chiller", "--correct")
    else:
        done = meter_gateway("resolve", "chiller", "--correct")
    assert (done.code, done.out) == (1, "")
    assert "chiller, 2026-11-02 08:00Z: nobody has read what EnerKey shows" in done.err
    assert states(doubtful) == ["held", "held"]


def test_a_decision_as_json_is_one_document(doubtful: Site, meter_gateway):
    """For scripts that decide."""
    document = json.loads(meter_gateway("resolve", "chiller", "--drop", "--json").out)
    assert (document["meter"], document["decision"]) == ("chiller", "drop")
    assert states(doubtful) == ["dropped", "dropped"]
    done = meter_gateway("hours", "chiller", "--all")
    assert "2 dropped" in done.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--accept",), 2, "--accept needs a meter"),
        (("chiller", "--accept", "--drop"), 2, "not allowed with argument --accept"),
        (("chilller", "--accept"), 1, 'did you mean "chiller"?'),
        (("chilller",), 1, 'did you mean "chiller"?'),
        (("chiller", "--hour", "yesterday", "--accept"), 2, '"yesterday" is not an ISO date or time'),
        (("chiller", "--hour", "2026-11-03..2026-11-02", "--accept"), 2, "ends before it begins"),
        (("chiller", "--hour", "2026-11-03..", "--accept"), 2, '"" is not an ISO date or time'),
        (("chiller", "--hour", "2026-12-01", "--accept"), 1, "no hour of it is in doubt from 2026-12-01 00:00Z"),
        (("cold-water", "--accept"), 1, "no hour of it is in doubt"),
    ],
)  # fmt: skip
def test_wrong_words_are_answered_in_one_line(doubtful: Site, meter_gateway, words, code, said):
    """Nothing is written."""
    done = meter_gateway("resolve", *words)
    assert (done.code, done.out) == (code, "")
    assert said in " ".join(done.err.split())
    assert states(doubtful) == ["held", "held"]


# --- takeover ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(site: Site) -> Site:
    """Somebody else has filled the first two of the chiller's four hours."""
    site.make()
    doubt(site, "chiller", "foreign")
    doubt(site, "chiller", "foreign", nth=1)
    site.close_hours("chiller", FIRST + timedelta(hours=2), 2)
    return site


def test_without_an_instant_it_tells_what_is_there_and_what_would_happen(filled: Site, meter_gateway):
    """80 columns; nothing is written."""
    done = meter_gateway("takeover", "chiller", columns=80)
    assert done.out == (
        "chiller: EnerKey has 2 h from 2026-11-02T07:00Z to 2026-11-02T09:00Z from\n"
        "    somebody else: 14 kWh there, 1 kWh here\n"
        "Nothing of chiller is sent for now. To leave what is there to the other feed and\n"
        "    send all that follows:\n"
        "  meter-gateway takeover chiller --at 2026-11-02T09:00Z\n"
        "Then 2 of 4 closed hours are never sent. Switch the other feed off first.\n"
    )
    document = json.loads(meter_gateway("takeover", "chiller", "--json").out)
    assert document["suggested"] == "2026-11-02T09:00Z"
    assert document["foreign"] == [
        {"from": "2026-11-02T07:00Z", "to": "2026-11-02T09:00Z", "hours": 2, "shown": "14", "ours": "1"}
    ]
    assert states(filled) == ["held", "held", "pending", "pending"]


def test_a_foreign_meter_is_one_problem_with_its_command(filled: Site, meter_gateway):
    """In `status`, `hours`, `push --dry-run` and `resolve`."""
    assert (
        "chiller: somebody else fills this meter at EnerKey (2 h from 2026-11-02 07:00Z to 2026-11-02 09:00Z: 14 kWh there,"
        " 1 here), so nothing of it is sent: meter-gateway takeover chiller"
    ) in " ".join(meter_gateway("status", columns=80).out.split())
    assert json.loads(meter_gateway("status", "--json").out)["meters"][0]["foreign"]["hours"] == 2
    hours = " ".join(meter_gateway("hours", "chiller", "--all").out.split())
    assert "2026-11-02 07:00Z held: filled by somebody else; EnerKey shows 7, to be sent was 0.5" in hours
    assert "to decide: meter-gateway takeover chiller" in hours
    assert "somebody else fills this meter: meter-gateway takeover chiller" in " ".join(
        meter_gateway("push", "--dry-run").out.split()
    )
    listed = " ".join(meter_gateway("resolve").out.split())
    assert "nothing of this meter is sent until: meter-gateway takeover chiller" in listed


@pytest.mark.parametrize("running", [False, True])
def test_one_command_takes_the_meter_over(filled: Site, meter_gateway, running):
    """And the next look at it says so."""
    said = ("takeover", "chiller", "--at", "2026-11-02T09:00Z")
    if running:
        with filled.running():
            done = meter_gateway(*said)
    else:
        done = meter_gateway(*said)
    assert (done.code, done.err) == (0, "")
    assert "hours from 2026-11-02 09:00Z on are sent" in done.out
    assert states(filled) == ["dropped", "dropped", "pending", "pending"]
    assert "chiller is this gateway's from 2026-11-02T09:00Z on" in meter_gateway("takeover", "chiller").out
    assert "somebody else" not in meter_gateway("status").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("chiller", "--at", "soon"), 2, '"soon" is not an ISO date or time'),
        (("chiller", "--at", "2026-11-02T09:30Z"), 1, "--at 2026-11-02T09:00Z or 2026-11-02T10:00Z"),
        (("chiller", "--at", "2126-11-02T09:00Z"), 1, "is the year right?"),
        (("chiller", "--at", "2026-11-02T08:00Z"), 1, "which is later"),
        (("chilller",), 1, 'did you mean "chiller"?'),
        ((), 2, "METER"),
    ],
)
def test_a_takeover_that_cannot_be_meant_changes_nothing(filled: Site, meter_gateway, words, code, said):
    """And says what can."""
    done = meter_gateway("takeover", *words)
    assert (done.code, done.out) == (code, "")
    assert said in " ".join(done.err.split())
    assert states(filled) == ["held", "held", "pending", "pending"]
