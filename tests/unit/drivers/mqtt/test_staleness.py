"""Meters that should have spoken: told once with the likely cause, and once when they are heard again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers.mqtt.staleness import LOOK_EVERY, NEVER, SILENT_AFTER, Expected, News, Staleness

PACE = 60.0
LIMIT = SILENT_AFTER * PACE
HEAT_IS_OFF = (
    'nothing heard on "site/heat" for more than 3 min, while other meters of this broker are heard: is the device on and '
    "in its network, or was its topic changed?"
)


class Hall:
    """Meters that are heard when the test says so; looked at every second, as a busy driver does."""

    def __init__(self, *names: str, pace: float = PACE):
        self.staleness = Staleness({name: Expected(f"site/{name}", pace) for name in names})
        self.now = 1020.0
        self.listening: float | None = 1020.0
        self.heard: dict[str, float] = {}
        self.passed: dict[str, float] = {}  # messages on the topic that are not the meter's; its own come besides
        self.refused: list[str] = []
        self.told: list[News] = []

    def pass_by(self, seconds: float, *speaking: str, every: float = PACE, foreign: str = "") -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 1
            if self.now % every == 0:
                self.heard |= dict.fromkeys(speaking, self.now)
                self.passed |= dict.fromkeys((*speaking, *foreign.split()), self.now)
            self.told += self.staleness.look(self.now, self.listening, self.heard, self.refused, self.passed)


def test_a_meter_that_speaks_at_its_pace_is_never_told():
    """Nor one that misses a message or two."""
    hall = Hall("heat", "cold")
    hall.pass_by(4 * LIMIT, "heat", "cold")
    hall.pass_by(4 * LIMIT, "heat", "cold", every=2 * PACE)
    assert hall.told == []
    assert hall.staleness.words == {}


def test_a_meter_that_falls_silent_among_others_is_told_once_and_once_when_it_is_back():
    """The device, its network or its topic: the broker and the rights are proved by the others."""
    hall = Hall("heat", "cold")
    hall.pass_by(LIMIT, "heat", "cold")
    hall.pass_by(10 * LIMIT, "cold")
    assert hall.told == [News("warning", "heat", HEAT_IS_OFF)]
    assert hall.staleness.words == {"heat": f"{HEAT_IS_OFF} (silent for 30 min)"}
    hall.pass_by(PACE, "heat", "cold")
    hall.pass_by(LOOK_EVERY, "heat", "cold")
    assert hall.told[1:] == [News("info", "heat", "heard again, after 31 min")]
    assert hall.staleness.words == {}


def test_a_meter_that_was_never_heard_among_others_may_be_misspelled_or_forbidden():
    """A broker grants the subscription to a forbidden topic and sends nothing (facts 2.3, experiment 13)."""
    hall = Hall("heat", "cold")
    hall.pass_by(2 * LIMIT, "cold")
    [news] = hall.told
    assert (news.level, news.meter) == ("warning", "heat")
    assert "while other meters of this broker are heard" in news.text
    assert "may this user read it? A broker does not say that reading is forbidden" in news.text


def test_all_meters_silent_are_one_line_about_the_connection():
    """A bridge that stopped is one cause, not two hundred."""
    names = [f"m{number}" for number in range(200)]
    hall = Hall(*names)
    hall.pass_by(LIMIT, *names)
    hall.pass_by(10 * LIMIT)
    [news] = hall.told
    assert news.meter is None
    assert news.text == (
        "nothing heard from any of 200 meters, though the broker answers: do the devices, or the bridge that publishes for "
        "them, still reach it?"
    )
    assert hall.staleness.all_silent == f"{news.text} (silent for 30 min)"
    assert set(hall.staleness.words.values()) == {hall.staleness.all_silent}


def test_meters_that_follow_when_messages_come_again_are_not_told_one_by_one():
    """The one that stays away is, after its time."""
    hall = Hall("heat", "cold", "gas")
    hall.pass_by(LIMIT, "heat", "cold", "gas")
    hall.pass_by(2 * LIMIT)
    hall.pass_by(2 * LIMIT, "heat", "cold")
    assert [(each.level, each.meter) for each in hall.told] == [("warning", None), ("info", None), ("warning", "gas")]
    assert hall.staleness.all_silent == ""


def test_nothing_heard_since_the_start_asks_for_the_broker_the_topics_and_the_rights():
    """All that can be wrong with a new connection."""
    hall = Hall("heat", "cold")
    hall.pass_by(2 * LIMIT)
    [news] = hall.told
    assert news.text == (
        "nothing heard from any of 2 meters, though the broker answers: is it the right one, are the topics right, and may "
        "this user read them? A broker does not say that reading is forbidden"
    )


def test_messages_on_its_topic_that_are_never_a_meters_own_are_silence_with_its_likely_cause():
    """`where` on a topic of several meters: the topic is alive, the meter was never read."""
    hall = Hall("heat", "cold")
    hall.pass_by(2 * LIMIT, "cold", foreign="heat")
    assert hall.told == [
        News(
            "warning",
            "heat",
            'messages come on "site/heat", but for more than 3 min none that is a number: is that right? meter-gateway check '
            "--message FILE tries it on a stored message",
        )
    ]
    hall.pass_by(LIMIT, "heat", "cold")
    assert [each.text for each in hall.told[1:]] == ["heard again, after 7 min"]


def test_a_meter_of_a_shared_topic_that_stops_is_told_though_the_others_go_on():
    """Its path was right: the device is asked for."""
    hall = Hall("heat")
    hall.pass_by(LIMIT, "heat")
    hall.pass_by(2 * LIMIT, foreign="heat")
    [news] = hall.told
    assert news.text.startswith(
        'messages come on "site/heat", but for more than 3 min none that is a number: does this device'
    )


def test_one_message_at_the_start_that_was_no_reading_is_no_sign_that_messages_come():
    """A retained one without a time; then nothing: told once, as silence of all."""
    hall = Hall("heat", "cold")
    hall.passed = dict.fromkeys(("heat", "cold"), hall.now + 1)
    hall.pass_by(10 * LIMIT)
    [news] = hall.told
    assert news.text.startswith("nothing heard from any of 2 meters")


def test_messages_that_come_again_and_are_nobodys_end_the_silence_of_all():
    """Then each meter is told by itself, with what its messages lack."""
    hall = Hall("heat", "cold")
    hall.pass_by(2 * LIMIT)
    hall.pass_by(2 * LIMIT, foreign="heat cold")
    assert [(each.level, each.meter) for each in hall.told] == [
        ("warning", None), ("info", None), ("warning", "heat"), ("warning", "cold"),
    ]  # fmt: skip
    assert all(each.text.startswith("messages come on") for each in hall.told[2:])


def test_a_slow_meter_that_has_not_had_its_time_is_neither_alive_nor_silent():
    """The quick one is told alone, and not that others are heard."""
    staleness = Staleness({"heat": Expected("heat", 60), "day": Expected("day", 86_400)})
    [news] = staleness.look(1000.0 + LIMIT, 1000.0, {}, ())
    assert news.meter == "heat"
    assert "though the broker answers" in news.text


def test_silence_while_the_connection_is_down_is_the_connections():
    """It has its own words; after it, a meter has all its time again."""
    hall = Hall("heat", "cold")
    hall.pass_by(LIMIT, "heat", "cold")
    hall.listening = None
    hall.pass_by(100 * LIMIT)
    assert hall.told == []
    assert hall.staleness.due == NEVER
    hall.listening = hall.now
    hall.pass_by(LIMIT - 2)
    assert hall.told == []
    hall.pass_by(3)
    assert len(hall.told) == 1


def test_a_refused_subscription_is_told_elsewhere():
    """The broker said why; and the others are not all silent for its sake."""
    hall = Hall("heat", "cold")
    hall.refused = ["heat"]
    hall.pass_by(2 * LIMIT, "cold")
    assert hall.told == []


WHO = st.sampled_from(["heat", "cold", "gas", ""])


@given(st.lists(st.tuples(WHO, WHO, st.integers(1, 400)), max_size=60))
def test_whatever_speaks_when_warnings_and_their_ends_take_turns(steps: list[tuple[str, str, int]]):
    """One event for each transition, of a meter or of all; `due` is never in the past."""
    staleness = Staleness({name: Expected(name, PACE) for name in ("heat", "cold", "gas")})
    now, heard, passed = 0.0, {}, {}
    state: dict[str | None, str] = {}
    for speaking, passing, seconds in steps:
        now += seconds
        heard |= {speaking: now} if speaking else {}
        passed |= {name: now for name in (speaking, passing) if name}
        for level, meter, _ in staleness.look(now, 0.0, heard, (), passed):
            assert state.get(meter, "info") != level
            state[meter] = level
            if meter is None:
                state = {None: level}
        assert staleness.due > now
        assert (state.get(None) == "warning") == bool(staleness.all_silent)
