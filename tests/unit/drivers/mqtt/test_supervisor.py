"""How a connection is kept: versions, pauses, filters, and what the operator is told how often."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random

import pytest

from drivers.mqtt.config import Connection
from drivers.mqtt.port import Connected, Ended, Subscribed
from drivers.mqtt.reasons import Reason, of_code, of_silence
from drivers.mqtt.supervisor import (
    FILTERS,
    FLAPPING,
    LONGEST_PAUSE,
    NEVER,
    SETUP_PAUSE,
    SHORTEST_PAUSE,
    STABLE,
    SubscribedFilters,
    Supervisor,
    Versions,
    pause_after,
)
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.mqtt_session import LOST, FakeSession

WRONG_PASSWORD = of_code(134, "Bad user name or password")
WRONG_VERSION = of_code(132, "Unsupported protocol version")
REFUSED = Reason("line", "h:1883: the connection was refused")


class House:
    """A supervisor with everything around it."""

    def __init__(self, *, memory: dict[str, str] | None = None, filters: tuple[str, ...] = ("a", "b"), **settings):
        self.clock = FakeClock()
        self.store = FakePorts(self.clock, memory)
        self.session = FakeSession(self.clock)
        connection = Connection(driver="mqtt", url="mqtt://h", **settings)
        self.supervisor = Supervisor("hall", connection, filters, self.session, self.store.ports)

    def step(self, seconds: float = 0) -> float:
        return self.supervisor.step(self.clock.advance(seconds))

    def connect(self, *, resumed: bool = False) -> None:
        self.step()
        self.session.accept(resumed=resumed)
        self.step()

    def lose(self, reason: Reason = LOST) -> float:
        """The connection ends; returns the pause until the next attempt."""
        self.session.end(reason)
        return self.step() - self.clock.boottime

    @property
    def notes(self) -> list[tuple[str, str]]:
        return [(level, text) for level, _, text in self.store.notes]


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_pauses_double_to_a_minute_with_jitter():
    """Facts 3.12: never so long that a network that is back stays unseen, never below a second."""
    random = Random(7)
    for failures in range(1, 60):
        longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** (failures - 1))
        drawn = [pause_after(failures, REFUSED, random) for _ in range(50)]
        assert all(max(SHORTEST_PAUSE, longest / 2) <= each <= longest for each in drawn)
        assert longest == SHORTEST_PAUSE or len(set(drawn)) > 1


def test_what_a_person_must_mend_is_not_tried_in_a_hurry():
    """Brokers ban those who come with a wrong password again and again."""
    drawn = [pause_after(failures, WRONG_PASSWORD, Random(failures)) for failures in range(1, 20)]
    assert all(0.75 * SETUP_PAUSE <= each <= 1.25 * SETUP_PAUSE for each in drawn)


def test_attempts_that_fail_come_at_growing_distances():
    """While the broker is away, the gateway waits longer and longer, up to a minute."""
    house = House(protocol="5")
    house.step()
    pauses = []
    for _ in range(12):
        pauses.append(house.lose(REFUSED))
        assert house.step(pauses[-1] - 0.01) > house.clock.boottime
        assert house.step(0.01) == NEVER
    assert pauses[0] == SHORTEST_PAUSE
    assert all(later > earlier for earlier, later in pairwise(pauses[:6]))
    assert all(LONGEST_PAUSE / 2 <= each <= LONGEST_PAUSE for each in pauses[7:])
    assert len(house.session.opened) == 13
    assert house.notes == [("warning", f"no connection: {REFUSED.text}; trying again")]


def test_an_accepted_connection_alone_does_not_shorten_the_pauses():
    """Two clients with one identity are each accepted and thrown out: a CONNACK must not start the pauses anew."""
    house = House()
    pauses = []
    for _ in range(8):
        house.connect()
        pauses.append(house.lose())
        house.step(pauses[-1])
    assert pauses[7] >= LONGEST_PAUSE / 2


@pytest.mark.parametrize("looked_at", [True, False], ids=["stepped meanwhile", "no step meanwhile"])
def test_a_connection_that_lasted_starts_the_pauses_anew(looked_at: bool):
    """A minute is enough, whether or not anything happened on the connection in that time."""
    house = House()
    for _ in range(6):
        house.connect()
        if looked_at:
            house.step(STABLE)
        else:
            house.clock.advance(STABLE)
        assert house.lose() == SHORTEST_PAUSE
        house.step(SHORTEST_PAUSE)
    assert not any("client id" in text for _, text in house.notes)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_tried_from_5_down():
    """`auto`: 5, then 3.1.1, then a pause."""
    versions = Versions("auto")
    assert versions.current == "5"
    assert versions.refused()
    assert versions.current == "3.1.1"
    assert not versions.refused()
    assert versions.current == "5"


def test_the_version_that_was_accepted_comes_first_from_then_on():
    """A broker of 3.1.1 is not asked for 5 at each reconnection."""
    versions = Versions("auto")
    versions.refused()
    versions.accepted()
    assert versions.current == "3.1.1"
    assert versions.refused()
    assert versions.current == "5"


@pytest.mark.parametrize("configured", ["5", "3.1.1"])
def test_a_configured_version_is_the_only_one(configured):
    """The operator's word is kept to."""
    versions = Versions(configured)
    assert not versions.refused()
    assert versions.current == configured


@pytest.mark.parametrize("reason", [WRONG_VERSION, of_silence("5", 3)], ids=["refused", "silent"])
def test_a_broker_that_does_not_speak_5_is_asked_for_3_1_1_at_once(reason: Reason):
    """Facts 2.3, 16: paho alone would ask for 5 for ever."""
    house = House()
    house.step()
    house.lose(reason)
    assert [each.protocol for each in house.session.opened] == ["5", "3.1.1"]
    house.session.accept()
    house.step()
    assert house.supervisor.connected
    assert house.notes == []


def test_after_the_fallback_3_1_1_is_asked_for_first():
    """Else every reconnection would cost the broker's silence once more."""
    house = House()
    house.step()
    house.lose(WRONG_VERSION)
    house.session.accept()
    house.step()
    house.step(house.lose())
    house.lose(WRONG_VERSION)  # the broker was replaced by one of MQTT 5
    assert [each.protocol for each in house.session.opened] == ["5", "3.1.1", "3.1.1", "5"]


def test_a_broker_that_speaks_neither_is_asked_again_after_a_pause():
    """Both versions refused is one failure."""
    house = House()
    house.step()
    house.lose(WRONG_VERSION)
    assert house.lose(WRONG_VERSION) == SHORTEST_PAUSE
    assert house.supervisor.detail == WRONG_VERSION.text
    house.step(SHORTEST_PAUSE)
    assert [each.protocol for each in house.session.opened] == ["5", "3.1.1", "5"]


# --- filters ----------------------------------------------------------------------------------------------------------


def test_every_connection_subscribes_to_the_minimal_filters():
    """Also a resumed one: a broker may have lost what it says it kept."""
    house = House(filters=("a/b", "a/#", "c"))
    house.connect()
    house.step(house.lose())
    house.session.accept(resumed=True)
    house.step()
    assert [each.filters for each in house.session.opened] == [["a/#", "c"]] * 2


def test_filters_of_an_older_configuration_are_unsubscribed():
    """They live on in the session at the broker."""
    house = House(memory={FILTERS: '["a", "old"]'})
    house.connect()
    assert house.session.opened[0].stale == ["old"]
    assert json.loads(house.store.memory[FILTERS]) == ["a", "b"]


def test_filters_are_remembered_before_the_broker_hears_of_them():
    """A crash between CONNECT and SUBACK must not leave a filter behind that nobody remembers."""
    house = House(memory={FILTERS: '["old"]'})
    house.step()
    assert json.loads(house.store.memory[FILTERS]) == ["a", "b", "old"]


@pytest.mark.parametrize("stored", ["", "no json", "5", "null", '[1, "old", null]'])
def test_a_memory_that_is_not_ours_harms_nobody(stored: str):
    """Whatever stands there, the driver connects."""
    filters = SubscribedFilters(["a"], FakePorts(FakeClock(), {FILTERS: stored}))
    assert filters.stale() == (["old"] if "old" in stored else [])
    filters.about_to_ask()
    filters.answered()


def test_without_a_memory_nothing_is_subscribed():
    """A store that takes nothing: connecting can wait."""
    house = House()
    house.store.full = True
    assert house.step() == house.clock.boottime + LONGEST_PAUSE
    assert house.session.opened == []
    assert house.supervisor.detail == "not connected: what is subscribed cannot be remembered: disk full"
    house.store.full = False
    house.step(LONGEST_PAUSE)
    assert len(house.session.opened) == 1


def test_an_answer_that_cannot_be_remembered_ends_nothing():
    """The next connection unsubscribes once more."""
    house = House(memory={FILTERS: '["old"]'})
    house.step()
    house.session.accept()
    house.store.full = True
    house.step()
    assert house.supervisor.ready_since is not None
    assert "old" in json.loads(house.store.memory[FILTERS])


def test_a_refused_filter_is_told_once_and_stays_visible():
    """The rights of a user at the broker are the operator's business."""
    house = House()
    for _ in range(2):
        house.step()
        house.session.accept(refused={"b": "Not authorized"})
        house.step()
        assert house.supervisor.refused == {"b": "Not authorized"}
        sentence = 'the broker refuses the subscription to "b": Not authorized; check the rights of this user'
        assert house.supervisor.detail == sentence
        house.clock.advance(STABLE)
        house.step(house.lose())
    assert [text for level, text in house.notes if level == "error"] == [sentence]


# --- what the operator is told ----------------------------------------------------------------------------------------


def test_it_is_ready_when_the_broker_has_confirmed_the_subscription():
    """R26's grace begins with the SUBACK, at the moment it came."""
    house = House()
    house.step()
    house.session.accept(suback=False)
    house.step()
    assert house.supervisor.ready_since is None
    assert house.supervisor.detail == "connected; the broker has not confirmed the subscription yet"
    house.session.suback()
    at = house.clock.boottime
    house.step(5)
    assert house.supervisor.ready_since == at
    assert house.supervisor.detail == ""


def test_an_outage_is_told_once_and_so_is_its_end():
    """Not a line per attempt."""
    house = House(protocol="5")
    house.connect()
    house.clock.advance(STABLE)
    house.step(house.lose())
    for _ in range(5):
        house.step(house.lose(REFUSED))
    house.session.accept()
    house.step()
    assert house.notes[0] == ("warning", f"connection lost: {LOST.text}; trying again")
    assert [text for _, text in house.notes].count("connected again") == 1
    assert len(house.notes) == 3  # and that the session was not kept


def test_a_wrong_password_is_an_error_told_once():
    """With the state to see until it is mended."""
    house = House()
    house.step()
    for _ in range(4):
        house.step(house.lose(WRONG_PASSWORD))
        assert house.supervisor.detail == WRONG_PASSWORD.text
    assert house.notes == [("error", f"no connection: {WRONG_PASSWORD.text}; a person must mend this")]
    house.session.accept()
    house.step()
    assert house.notes[-1] == ("info", "connected again")


def test_connections_that_do_not_last_are_told_as_one_trouble():
    """Facts 2.3, 12: another client with our id; the operator is asked about it once, and it is not called mended."""
    house = House()
    for _ in range(FLAPPING + 4):
        house.connect(resumed=True)
        house.step(house.lose())
    flapping = [text for _, text in house.notes if "does another client use this gateway's client id?" in text]
    assert len(flapping) == 1
    assert "so ended 3 connections in a row" in flapping[0]
    assert house.notes[-1] == ("warning", flapping[0])
    house.session.accept(resumed=True)
    house.step()
    house.step(STABLE)
    assert house.notes[-1] == ("info", "connected again")


def test_a_flapping_connection_that_holds_is_told_without_waiting_for_a_message():
    """The supervisor asks to be called when the connection will have lasted."""
    house = House()
    for _ in range(FLAPPING):
        house.connect(resumed=True)
        house.step(house.lose())
    house.session.accept(resumed=True)
    assert house.step() == house.clock.boottime + STABLE


def test_a_session_that_the_broker_did_not_keep_is_told():
    """Messages published meanwhile are lost: the operator should know that the broker does not persist."""
    house = House()
    house.connect()
    house.step(house.lose())
    house.session.accept(resumed=False)
    house.step()
    assert house.supervisor.resumed_at is None
    lost = "the broker had not kept the session: messages published while the gateway was away are lost"
    assert ("warning", f"{lost}; counters make up for it with their next message") in house.notes


def test_a_session_is_not_missed_at_the_first_connection_ever_nor_where_none_is_wanted():
    """Nothing was to be kept."""
    house = House()
    house.connect()
    assert house.notes == []
    stranger = House(memory={FILTERS: "[]"}, session_expiry="0s")
    stranger.connect()
    assert stranger.notes == []


def test_a_session_lost_over_a_restart_of_the_gateway_is_told():
    """What was remembered says that there was one."""
    house = House(memory={FILTERS: '["a", "b"]'})
    house.connect(resumed=False)
    assert [level for level, _ in house.notes] == ["warning"]


def test_a_resumed_session_says_when_what_waited_began_to_come():
    """For the backlog."""
    house = House(memory={FILTERS: '["a", "b"]'})
    house.connect(resumed=True)
    assert house.supervisor.resumed_at == house.clock.boottime
    assert house.supervisor.connects == 1


# --- staying away -----------------------------------------------------------------------------------------------------


def test_it_stays_away_while_it_is_told_to():
    """A store that takes nothing for long: the broker keeps the messages."""
    house = House()
    house.connect()
    house.supervisor.withhold("disk full")
    assert not house.session.is_open
    assert house.step(10_000) == NEVER
    assert (house.supervisor.detail, house.supervisor.connected) == ("disk full", False)
    house.supervisor.resume(house.clock.now())
    house.step()
    assert (house.supervisor.detail, house.session.is_open) == ("", True)


def test_the_happenings_are_the_ones_that_the_port_names():
    """The fake and the supervisor speak of the same things."""
    session = FakeSession(FakeClock())
    session.open("5", ["a"], [])
    session.accept()
    session.end()
    assert [type(each) for each in session.happenings()] == [Connected, Subscribed, Ended]
