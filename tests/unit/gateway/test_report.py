"""What a person should look at: every cause once, with the next step, and nothing that follows from another."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buffer import readings
from gateway.errors import DatabaseFailure, Unreachable
from gateway.report import age, gather, holder_of, problems, stored, waiting
from tests.fakes.site import Site

RUNNING = {"pid": 7, "command": "run", "answers": True, "clock": {"trusted": True, "because": "x"}, "late": []}
FINE = {"state": "ok", "detail": "", "devices": {"1": "ok"}, "counts": {}}


def meter(name: str = "boiler", **facts: Any) -> dict[str, Any]:
    """A meter of connection main with a reading and nothing held."""
    return {
        "meter": name, "connection": "main", "last_reading": {"at": "", "value": "1"}, "held": 0, "trouble": None,
        "source": "main: device 1, energy", "alarm": None, "parked": None, "unit": "kWh",
        "foreign": None, "doubt": None, "unknown_since": None,
    } | facts  # fmt: skip


def report(**parts: Any) -> dict[str, Any]:
    """A document in which all is well but for `parts`."""
    fine = {"service": RUNNING, "connections": {"main": FINE}, "meters": [meter()], "delivery": {}, "stranger": None}
    return fine | {"buffer": {"days_left": None}} | parts


def said(**parts: Any) -> list[str]:
    return list(problems(report(**parts)))


def trouble(detail: str, **devices: str) -> dict[str, Any]:
    return {"main": {"state": "trouble", "detail": detail, "devices": devices, "counts": {}}}


def test_where_all_is_well_there_is_nothing_to_say():
    """And `status` ends with 0."""
    assert said() == []


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        (None, "the service does not run: systemctl status meter-gateway"),
        (RUNNING | {"answers": False}, "process 7 holds the data but does not answer: look at its log"),
        (
            RUNNING | {"clock": {"trusted": False, "because": None}},
            'the clock is not trusted, so no hour is closed: check NTP, or set [clock] trust = "always" on a VM',
        ),
        (RUNNING | {"late": ["main"]}, "no tick from main: look at the log"),
    ],
)
def test_what_is_wrong_with_the_service(service: dict[str, Any] | None, problem: str):
    """Each with what to do about it."""
    assert said(service=service) == [problem]


def test_a_line_that_is_down_is_one_problem_however_many_devices_are_behind_it():
    """That its meters have no reading follows from it."""
    down = trouble("192.0.2.10:502: No route to host", **{"1": "not read yet", "2": "not read yet"})
    meters = [meter("a", last_reading=None), meter("b", last_reading=None), meter("c", connection="hall")]
    assert said(connections=down, meters=meters) == ["connection main: 192.0.2.10:502: No route to host"]


def waiting_meter(name: str, **facts: Any) -> dict[str, Any]:
    return meter(name, **{"last_reading": None, "last_accepted": None, "pending": 0, "unknown": 0} | facts)


SEVERAL = [waiting_meter(name) for name in "abcdef"]


def test_meters_wait_for_a_connection_that_has_brought_nothing_yet():
    """More than a few, each with nothing else to show: then the connection explains them."""
    started = {"main": FINE | {"state": "starting", "devices": {"1": "not read yet"}}}
    assert waiting(report(connections=started, meters=SEVERAL)) == {"main": list("abcdef")}
    assert waiting(report(connections=trouble("gone", **{"1": "no answer"}), meters=SEVERAL)) == {
        "main": list("abcdef")
    }
    assert waiting(report(connections=started, meters=SEVERAL[:3])) == {}
    assert waiting(report(meters=SEVERAL)) == {}, "a line that is well explains nothing"
    assert waiting(report(connections=trouble("device 2: gone", **{"1": "ok", "2": "gone"}), meters=SEVERAL)) == {}
    assert waiting(report(service=None, connections={}, meters=SEVERAL)) == {}


@pytest.mark.parametrize(
    "own",
    [
        {"last_reading": {"at": "", "value": "1"}},
        {"last_accepted": "2026-01-01T00:00:00+00:00"},
        {"pending": 1},
        {"unknown": 1},
        {"held": 1},
    ],
)
def test_a_meter_with_something_of_its_own_is_not_put_away(own: dict[str, Any]):
    """Its reading, its hours and what is decided of it are not the connection's."""
    down = trouble("gone", **{"1": "not read yet"})
    assert waiting(report(connections=down, meters=[*SEVERAL, waiting_meter("g", **own)])) == {"main": list("abcdef")}


def test_devices_of_a_dead_line_that_fail_as_its_detail_says_are_not_told_one_by_one():
    """However long each is failing; one that fails in another way is."""
    none = "no answer within 1 s (since 07:0{}Z)".format
    devices = {str(n): none(n) for n in range(1, 6)} | {"6": "gives no value: illegal address"}
    down = trouble(f"6 of 6 devices: device 1: {none(1)}; …", **devices)
    document = report(connections=down, meters=SEVERAL)
    assert list(problems(document, together=waiting(document))) == [
        f"connection main: 6 of 6 devices: device 1: {none(1)}; …",
        "connection main, device 6: gives no value: illegal address",
    ]
    assert len(list(problems(document))) == 6, "scripts are told of each device"


def test_a_device_that_fails_is_told_once_beside_others_that_answer():
    """Its meters have no reading, that follows; a meter on a device that answers and has none yet is another matter."""
    one = trouble("device 9: no answer within 1 s", **{"1": "ok", "9": "no answer within 1 s"})
    its = [meter(name, last_reading=None, source="main: device 9, energy") for name in ("b", "9", "c")]
    assert said(connections=one, meters=[meter("a", last_reading=None), *its]) == [
        "connection main: device 9: no answer within 1 s",
        "a: no reading yet: meter-gateway read a",
    ]


def test_what_a_driver_says_of_a_device_while_its_line_is_well_is_told():
    """Silence on a topic is not trouble with the broker."""
    hall = {"hall": FINE | {"devices": {"water": "nothing heard for 90 min", "heat": "nothing heard yet: why?"}}}
    meters = [meter("heat", connection="hall", last_reading=None), meter("water", connection="hall")]
    assert said(connections=hall, meters=meters) == [
        "connection hall, water: nothing heard for 90 min",
        "heat: no reading yet: meter-gateway read heat",
    ]


def test_a_topic_that_was_never_understood_is_told_once():
    """What is wrong with it stands at its connection; a topic that reads like a meter's name is none."""
    hall = {"hall": FINE | {"devices": {"water": "not JSON", "heat": "nothing heard yet: why?"}}}
    meters = [
        meter("heat", connection="hall", last_reading=None, source="hall: water"),
        meter("water", connection="hall", last_reading=None, source="hall: heat"),
    ]
    assert said(connections=hall, meters=meters) == [
        "connection hall, water: not JSON",
        "heat: no reading yet: meter-gateway read heat",
    ]


def test_held_hours_come_with_the_reason_and_the_command():
    """The words of the event that led to it."""
    assert said(meters=[meter(held=3, trouble="EnerKey shows 7, sent was 8")]) == [
        "boiler: 3 h held for a decision (EnerKey shows 7, sent was 8): meter-gateway resolve boiler"
    ]


@pytest.mark.parametrize(
    ("delivery", "problem"),
    [
        ({"outage": True}, "EnerKey cannot be reached; hours wait in the buffer"),
        (
            {"doubtful": True},
            "EnerKey does not answer as it should; what became of messages is read back, the rest waits",
        ),
        ({"limited": True}, "EnerKey takes no more requests for now (rate limit); hours wait in the buffer"),
        (
            {"keys": [{"key": 1, "refused_for": []}, {"key": 2, "refused_for": ["consumption", "values"]}]},
            "EnerKey refuses API key 2 for consumption, values: renew it",
        ),
        (
            {"keys": [{"key": 1, "refused_for": ["consumption", "values"]}], "no_key_for": ["consumption"]},
            [
                "EnerKey refuses every API key for consumption: put a new one in place and restart; what waits is kept",
                "EnerKey refuses API key 1 for values: renew it",
            ],
        ),
        (
            {"keys": [{"key": 2, "reference": "env:B", "refused_for": [], "expires": "2026-11-30"}]},
            "API key 2 (env:B) expires on 2026-11-30: put a new one in its place before that",
        ),
        (
            {"keys": [{"key": 2, "reference": "env:B", "refused_for": [], "expires": "2026-11-01"}]},
            "API key 2 (env:B) expired on 2026-11-01: put a new one in its place",
        ),
        (
            {"accounts": {"north": {"limited": True}, "south": {}}},
            "account north: EnerKey takes no more requests for now (rate limit); hours wait in the buffer",
        ),
        ({"keys": [{"key": 1, "refused_for": [], "expires": "2027-01-31"}]}, []),
        ({"parked": ["boiler"]}, "boiler: EnerKey does not take this meter: check its enerkey_id"),
    ],
)
def test_what_is_wrong_with_the_delivery(delivery: dict[str, Any], problem: str | list[str]):
    """In the words of who has to act."""
    service = RUNNING | {"now": "2026-11-02T10:00:00+00:00"}
    assert said(service=service, delivery=delivery) == ([problem] if isinstance(problem, str) else problem)


def test_the_newest_words_on_a_meter_explain_its_held_hours(tmp_path: Path):
    """Of many events, those that are only information left out; each meter its own."""
    site = Site(tmp_path)
    site.make()
    site.close_hours("chiller", datetime(2026, 11, 1, tzinfo=UTC), 1, state="held")
    for level, subject, text in (
        ("warning", "chiller", "an old story"),
        ("warning", "chiller", "EnerKey refused 1 h"),
        ("info", "chiller", "all right again"),
        ("error", "main-electricity", "another story"),
    ):
        site.write(lambda db, row=(0, level, subject, text): readings.note(db, *row))
    document = gather(site.data)
    assert {each["meter"]: each["trouble"] for each in document["meters"]} == {
        "chiller": "EnerKey refused 1 h", "cold-water": None, "main-electricity": "another story",
    }  # fmt: skip
    assert (
        "chiller: 1 h held for a decision (EnerKey refused 1 h): meter-gateway resolve chiller" in document["problems"]
    )
    assert document["events"][0]["text"] == "another story", "the newest first"


def test_each_meter_knows_its_connection(tmp_path: Path):
    """So that what is wrong with a connection is not told again for each of its meters."""
    site = Site(tmp_path)
    site.make()
    assert {each["meter"]: each["connection"] for each in gather(site.data)["meters"]} == {
        "chiller": "main", "cold-water": "hall", "main-electricity": "main",
    }  # fmt: skip


def test_nobody_holds_a_directory_that_is_not_there(tmp_path: Path):
    """And looking makes none."""
    assert holder_of(tmp_path / "data") is None
    with pytest.raises(Unreachable, match="no gateway has run with"), stored(tmp_path / "data"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_place_of_the_database_is_an_io_error(tmp_path: Path):
    """Not a database that is missing."""
    (tmp_path / "buffer.db").mkdir()
    with pytest.raises(DatabaseFailure, match=r"buffer\.db"), stored(tmp_path):
        pass


def test_a_database_that_breaks_while_it_is_read_is_an_io_error(tmp_path: Path):
    """Its header is fine, its pages are not."""
    site = Site(tmp_path)
    site.make()
    path = site.data / "buffer.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(DatabaseFailure, match=r"buffer\.db"):
        gather(site.data)


def test_age_is_counted_in_seconds():
    """Between an instant of the document and now."""
    assert age("2026-11-25T10:00:00+00:00", datetime(2026, 11, 25, 10, 1, 30, tzinfo=UTC)) == 90


def test_a_database_that_will_be_full_within_a_month_is_told():
    """While there is time to do something about it."""
    assert said(buffer={"days_left": 30}) == []
    assert said(buffer={"days_left": 29}) == [
        "the database will be as large as it may be in 29 days: raise [buffer] max_size, or lower keep_readings"
    ]


def test_what_is_wrong_with_the_disk_is_told_before_the_forecast():
    """In the words of the running service."""
    assert said(buffer={"days_left": 3, "problems": ["the disk of /data is full"]})[0] == "the disk of /data is full"


def test_without_a_service_the_disk_is_looked_at_all_the_same(tmp_path: Path):
    """How much is free, how long the log is, and that nothing waits in memory."""
    site = Site(tmp_path)
    site.make()
    buffer = gather(site.data)["buffer"]
    assert buffer["disk_free"] > 0
    assert buffer["log_bytes"] == 0
    assert (buffer["waiting"], buffer["problems"]) == (0, [])
