"""From messages to readings and rejections: routing, times, retained messages, and what is recorded how often."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from drivers.base import Now
from drivers.mqtt.config import Source
from drivers.mqtt.port import Message
from drivers.mqtt.translator import ROUTES_KEPT, Translator
from drivers.reading import Reading, Rejected
from tests.fakes.clock import FakeClock

WALL = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def source(topic: str = "hall/heat", **settings) -> Source:
    return Source(connection="hall", topic=topic, unit="kWh", **settings)


def translator(**sources: Source) -> Translator:
    return Translator(sources or {"heat": source()})


def message(
    payload: bytes | str, topic: str = "hall/heat", *, retain: bool = False, arrived: Now | None = None
) -> Message:
    data = payload.encode() if isinstance(payload, str) else payload
    return Message(1, 7, 1, topic, data, retain, arrived or Now(1000.0, WALL, trusted=True))


def reasons(items: list[Reading | Rejected]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Rejected)]


def test_a_number_becomes_a_reading_of_the_moment_of_its_arrival():
    """Without a time of its own a reading gets that of its arrival, in whole milliseconds as they are stored."""
    arrived = Now(1000.0, WALL + timedelta(microseconds=1999), trusted=True)
    assert translator().translate(message("12.5", arrived=arrived)) == [
        Reading("heat", WALL + MS, Decimal("12.5"), "kWh", stamped=False)
    ]


def test_a_number_with_its_time_becomes_a_reading_of_that_time():
    """The source's own time wins and is marked as such."""
    made = translator(heat=source(value="v", time="t"))
    (reading,) = made.translate(message('{"v": 12.5, "t": "2026-03-02T08:00:00Z"}'))
    assert reading == Reading("heat", datetime(2026, 3, 2, 8, tzinfo=UTC), Decimal("12.5"), "kWh", stamped=True)


def test_one_message_serves_every_source_whose_filter_matches():
    """Several meters in one payload, and wildcards that overlap."""
    made = translator(
        a=source("site/+/energy", value="a"), b=source("site/#", value="b"), other=source("else", value="a")
    )
    items = made.translate(message('{"a": 1, "b": 2}', "site/x/energy"))
    assert [(item.source, item.value) for item in items if isinstance(item, Reading)] == [("a", 1), ("b", 2)]


def test_one_bad_source_does_not_spoil_the_others_of_a_message():
    """Each source's outcome is its own."""
    made = translator(a=source(value="a"), b=source(value="b"))
    items = made.translate(message('{"a": true, "b": 2}'))
    assert [type(item) for item in items] == [Rejected, Reading]
    assert made.counts == {"messages": 1, "readings": 1, "rejected": 1}


def test_poison_is_a_rejection_that_a_person_can_read():
    """What arrived is kept printable and cut, with the reason and the case."""
    (item,) = translator().translate(message("offline\n" + "x" * 1000))
    assert isinstance(item, Rejected)
    assert (item.source, item.at, item.reason) == ("heat", WALL, "not a number")
    assert item.payload.startswith("offline·xxx")
    assert len(item.payload) == 500


@pytest.mark.parametrize("payload", [b"\xff" * 3000, b"\0", b"[" * 200_000, b"9" * 300_000], ids=lambda b: str(b[:3]))
def test_no_payload_raises(payload: bytes):
    """Bytes of any kind and size end as a rejection."""
    (item,) = translator(heat=source(value="v")).translate(message(payload))
    assert isinstance(item, Rejected)
    assert item.reason
    assert len(item.payload) <= 500


# --- what is a matter of course ---------------------------------------------------------------------------------------


def test_what_happens_on_healthy_topics_is_recorded_once_an_hour():
    """Partial messages are counted every time, and shown now and then."""
    made = translator(heat=source(value="v"))
    at = [Now(1000.0 + seconds, WALL, trusted=True) for seconds in (0, 1, 3599, 3600)]
    said = [reasons(made.translate(message("{}", arrived=now))) for now in at]
    assert said == [["no value at the path"], [], [], ["no value at the path"]]
    assert made.counts == {"messages": 4, "ignored": 4}


def test_poison_is_recorded_every_time():
    """The store bounds it; nothing is silently lost here."""
    made = translator()
    assert [reasons(made.translate(message("x"))) for _ in range(3)] == [["not a number"]] * 3


def test_a_topic_that_nobody_wants_is_recorded_once_an_hour():
    """Filters of an old configuration live on in the session; their messages are acknowledged, not kept."""
    made = translator()
    (item,) = made.translate(message("5", "hall/old"))
    assert isinstance(item, Rejected)
    assert (item.source, item.reason, item.detail) == (None, "no source for this topic", "hall/old")
    assert made.translate(message("5", "hall/older")) == []


def test_a_topic_that_is_no_text_is_poison():
    """The session hands it over as an empty topic."""
    assert reasons(translator().translate(message("5", ""))) == ["topic is not text"]


def test_endlessly_many_topics_do_not_fill_the_memory():
    """A wildcard that meets a new topic with every message keeps routes for some thousands only."""
    made = translator(heat=source("site/#"))
    for number in range(3 * ROUTES_KEPT):
        made.translate(message("5", f"site/{number}"))
    assert len(made._routes) <= ROUTES_KEPT
    assert made.counts["readings"] == 3 * ROUTES_KEPT


# --- retained messages ------------------------------------------------------------------------------------------------


def test_a_retained_number_without_a_time_is_no_reading():
    """A retained message has no age: it must not be booked at the moment of the connection."""
    made = translator()
    assert reasons(made.translate(message("12.5", retain=True))) == ["retained without a time"]
    assert made.counts == {"messages": 1, "ignored": 1}


def test_a_retained_number_with_its_time_is_a_reading():
    """Its age is known."""
    made = translator(heat=source(value="v", time="t"))
    (item,) = made.translate(message('{"v": 1, "t": "2026-03-02T08:00:00Z"}', retain=True))
    assert isinstance(item, Reading)
    assert item.at == datetime(2026, 3, 2, 8, tzinfo=UTC)


def test_a_retained_number_is_a_reading_where_the_operator_says_so():
    """`use_retained` trusts the publisher to keep it fresh."""
    (item,) = translator(heat=source(use_retained=True)).translate(message("12.5", retain=True))
    assert isinstance(item, Reading)


# --- the moment of arrival --------------------------------------------------------------------------------------------


def arrivals(made: Translator, *arrived: Now) -> list[datetime]:
    items = [item for now in arrived for item in made.translate(message("5", arrived=now))]
    return [item.at for item in items if isinstance(item, Reading)]


def test_two_numbers_within_a_millisecond_keep_their_order():
    """Stored readings have one instant each; a second one moves to the next millisecond."""
    now = Now(1000.0, WALL, trusted=True)
    assert arrivals(translator(), now, now, now) == [WALL, WALL + MS, WALL + 2 * MS]


def test_sources_do_not_move_each_others_instants():
    """Only readings of one source can collide."""
    made = translator(a=source("a"), b=source("b"))
    items = made.translate(message("1", "a")) + made.translate(message("1", "b"))
    assert [item.at for item in items] == [WALL, WALL]


def test_a_burst_of_any_length_gives_every_message_an_instant_of_its_own():
    """R4: energies without a time that waited in the broker come in thousands at once; each counts."""
    clock = FakeClock(WALL)
    made = translator(heat=source(kind="interval", period="10s", stamp="end", accept_double_count=True))
    arrived = [clock.advance(0.0002) for _ in range(5000)]
    at = arrivals(made, *arrived)
    assert len(set(at)) == 5000
    assert at == sorted(at)


def test_a_wall_clock_set_back_is_followed():
    """After the clock was corrected, new readings do not stick to the wrong time."""
    clock = FakeClock(WALL)
    made = translator()
    arrivals(made, clock.now())
    clock.step_wall(-3600)
    assert arrivals(made, clock.advance(1)) == [WALL - timedelta(seconds=3599)]


# --- the newest look --------------------------------------------------------------------------------------------------


def looks(made: Translator) -> Mapping[str, tuple[str, str]]:
    return {name: (str(look.value), look.problem) for name, look in made.last_reads.items()}


def test_the_newest_look_shows_the_value_and_where_it_came_from():
    """For `read` and `status`."""
    made = translator()
    made.translate(message("12.5"))
    look = made.last_reads["heat"]
    assert (look.value, look.unit, look.raw, look.where, look.at) == (Decimal("12.5"), "kWh", "12.5", "hall/heat", WALL)
    assert made.heard == {"heat": 1000.0}


def test_a_partial_message_does_not_hide_the_newest_value():
    """A partial message among whole ones is no news; poison is."""
    made = translator(heat=source(value="v"))
    made.translate(message('{"v": 1}'))
    made.translate(message("{}"))
    assert looks(made) == {"heat": ("1", "")}
    made.translate(message("poison"))
    assert looks(made)["heat"][1].startswith("not JSON")
    made.translate(message("{}"))
    assert looks(made) == {"heat": ("None", "no value at the path")}


def test_a_reading_given_up_for_a_newer_one_is_no_reading():
    """What the backlog replaces is counted among what is ignored, and recorded now and then."""
    made = translator()
    first = message("1")
    made.translate(first)
    assert reasons(made.given_up("heat", first)) == ["waited in the broker without a time"]
    assert made.given_up("heat", first) == []
    assert made.counts["ignored"] == 2
