"""The driver over a broker in memory: store first, acknowledge after (R3), whatever the store or the broker does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Deliver, Now
from drivers.mqtt.config import Connection, Source
from drivers.mqtt.driver import LOOK_AFTER, MOST, PATIENCE, RETRY_LONGEST, WINDOW, YOUNG, MqttDriver, build
from drivers.mqtt.gathering import AT_ONCE
from drivers.mqtt.staleness import LOOK_EVERY
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.mqtt_session import FakeSession


class TickingClock(FakeClock):
    """Every look takes as long as the translation of the messages since the last one on a slow box: 1 ms each."""

    def now(self) -> Now:
        self.boottime += 0.001 * LOOK_AFTER
        return super().now()


class House:
    """A driver with everything around it."""

    def __init__(
        self,
        *,
        clock: FakeClock | None = None,
        memory: dict[str, str] | None = None,
        deliver: Deliver | None = None,
        settings: dict[str, Any] | None = None,
        **sources: Source,
    ):
        self.clock = clock or FakeClock()
        self.store = FakePorts(self.clock, memory)
        self.session = FakeSession(self.clock)
        self.sources = sources or {"heat": source("heat")}
        connection = Connection(driver="mqtt", url="mqtt://h", **({"flush": "0s"} | (settings or {})))
        ports = replace(self.store.ports, deliver=deliver) if deliver else self.store.ports
        self.driver = MqttDriver("hall", connection, self.sources, ports, self.session)

    def step(self, seconds: float = 0) -> float:
        return self.driver.step(self.clock.advance(seconds))

    def connect(self, *, resumed: bool = False) -> None:
        self.step()
        self.session.accept(resumed=resumed)
        self.step()

    def drain(self) -> None:
        """Step until nothing is due at once."""
        while self.step() <= self.clock.boottime:
            pass

    def values(self, name: str = "heat") -> list[Decimal]:
        return [reading.value for reading in self.store.of(name)]

    def mids(self) -> list[int]:
        return [message.mid for message in self.session.acknowledged]


def source(topic: str = "heat", **settings) -> Source:
    return Source(connection="hall", topic=topic, unit="kWh", **settings)


def connected(**sources: Source) -> House:
    house = House(**sources)
    house.connect()
    return house


# --- store, then acknowledge ------------------------------------------------------------------------------------------


def test_nothing_is_touched_before_the_first_step():
    """A driver is built without opening anything."""
    house = House()
    assert house.session.opened == []
    assert house.driver.health().state == "starting"


def test_what_is_stored_is_acknowledged():
    """One batch, one deliver, then the acknowledgements in the order of arrival."""
    house = connected()
    sent = [house.session.arrive("heat", str(number)) for number in (1, 2, 3)]
    house.step()
    assert house.values() == [1, 2, 3]
    assert len(house.store.batches) == 1
    assert house.session.acknowledged == sent


def test_nothing_is_acknowledged_before_deliver_has_returned():
    """R3: at the moment of the store's commit no message is acknowledged."""
    at_commit: list[int] = []
    house = House(deliver=lambda _: at_commit.append(len(house.session.acknowledged)))
    house.connect()
    house.session.arrive("heat", "1")
    house.step()
    assert at_commit == [0]
    assert len(house.session.acknowledged) == 1


def test_poison_is_stored_with_the_rest_and_then_acknowledged():
    """R3: a message that can never be a reading must not come again for ever."""
    house = connected()
    for payload in ("1", "poison", "", "2"):
        house.session.arrive("heat", payload)
    house.step()
    assert house.values() == [1, 2]
    assert [item.reason for item in house.store.rejected] == ["not a number", "empty payload"]
    assert len(house.store.batches) == 1
    assert len(house.session.acknowledged) == 4


def test_a_message_of_which_nothing_is_recorded_is_acknowledged_too():
    """A matter of course that was recorded a moment ago leaves nothing to store."""
    house = connected(heat=source(value="v"))
    for _ in range(3):
        house.session.arrive("heat", "{}")
        house.step()
    assert len(house.store.rejected) == 1
    assert len(house.session.acknowledged) == 3


def test_messages_of_qos_0_are_read_but_not_acknowledged():
    """There is nobody to tell."""
    house = connected()
    house.session.arrive("heat", "1", qos=0)
    house.step()
    assert house.values() == [1]
    assert house.session.acknowledged == []


def test_an_error_in_the_store_leaves_everything_unacknowledged():
    """R3: what is not NotStored ends the worker, and the broker keeps the message."""

    def broken(_):
        raise RuntimeError("a bug")

    house = House(deliver=broken)
    house.connect()
    house.session.arrive("heat", "1")
    with pytest.raises(RuntimeError):
        house.step()
    assert house.session.acknowledged == []
    assert len(house.session.unacknowledged) == 1


# --- a store that takes nothing ---------------------------------------------------------------------------------------


def test_a_batch_that_was_not_stored_is_offered_again_and_then_acknowledged():
    """Nothing is lost, nothing comes twice, nothing is acknowledged meanwhile."""
    house = connected()
    house.store.full = True
    house.session.arrive("heat", "1")
    due = house.step()
    assert house.session.acknowledged == []
    assert house.driver.health().detail == "readings could not be stored: disk full"
    house.store.full = False
    assert house.step() == due  # not before
    assert house.values() == []
    house.step(due - house.clock.boottime)
    assert house.values() == [1]
    assert house.mids() == [1]
    assert house.driver.health().detail == ""


def test_a_full_store_is_not_asked_in_a_hurry():
    """Pauses double to a quarter of a minute."""
    house = connected()
    house.store.full = True
    house.session.arrive("heat", "1")
    pauses = []
    for _ in range(8):
        due = house.step()
        pauses.append(due - house.clock.boottime)
        house.clock.advance(pauses[-1])
    assert pauses == [0.5, 1, 2, 4, 8, RETRY_LONGEST, RETRY_LONGEST, RETRY_LONGEST]


def test_messages_go_on_arriving_behind_a_batch_that_waits():
    """They are stored in their order once there is room."""
    house = connected()
    house.store.full = True
    house.session.arrive("heat", "1")
    house.step()
    house.session.arrive("heat", "2")
    house.step(0.1)
    house.store.full = False
    house.step(1)
    house.drain()
    assert house.values() == [1, 2]
    assert house.mids() == [1, 2]


def test_after_a_minute_without_a_store_the_broker_is_left_to_keep_the_messages():
    """A client that stops acknowledging makes a broker drop other topics too; an absent one does not."""
    house = connected()
    house.store.full = True
    house.session.arrive("heat", "1")
    house.step()
    while house.session.is_open:
        assert house.clock.boottime < 1000 + PATIENCE + 2 * RETRY_LONGEST
        house.step(1)
    assert [level for level, _, _ in house.store.notes] == ["error"]
    assert house.driver.health().detail == "readings could not be stored: disk full"
    house.session.arrive("heat", "2", waits=True)
    house.store.full = False
    house.step(RETRY_LONGEST)
    assert house.values() == [1]
    assert house.session.acknowledged == []  # that connection is gone: it comes once more
    house.step()
    house.session.accept(resumed=True)
    house.drain()
    house.step(5)
    assert house.values()[-1] == 2
    assert house.session.unacknowledged == []
    assert ("info", "hall", "readings are stored again; connecting") in house.store.notes


# --- redelivery -------------------------------------------------------------------------------------------------------


def test_a_message_of_a_connection_that_is_gone_is_acknowledged_when_it_comes_again():
    """Packet ids mean nothing on another connection: no acknowledgement goes astray."""
    house = connected(heat=source(value="v", time="t"))
    payload = '{"v": 1, "t": "2026-03-02T09:00:00Z"}'
    house.session.arrive("heat", payload)
    house.session.end()
    house.step()
    assert house.values() == [1]
    assert house.session.acknowledged == []
    house.step(2)
    house.session.accept(resumed=True)
    house.drain()
    assert [message.epoch for message in house.session.acknowledged] == [2]
    assert len({(reading.at, reading.value) for reading in house.store.readings}) == 1  # R4: one instant, one value


def test_a_driver_that_died_before_it_stored_is_followed_by_one_that_gets_the_message():
    """R3 over a kill: the broker's session is the same, the memory too."""
    house = connected()
    house.session.arrive("heat", "1")
    heir = House(memory=house.store.memory)
    heir.session = house.session
    heir.driver = MqttDriver(
        "hall", Connection(driver="mqtt", url="mqtt://h"), heir.sources, heir.store.ports, house.session
    )
    house.session.take(10)  # gone with the process
    heir.connect(resumed=True)
    heir.step(5)
    assert heir.values() == [1]
    assert heir.session.unacknowledged == []


# --- what waited in the broker ----------------------------------------------------------------------------------------


def resumed(clock: FakeClock | None = None, **sources: Source) -> House:
    house = House(clock=clock, memory={"filters": '["heat"]'}, **sources)
    house.step()
    return house


def test_of_what_waited_without_a_time_only_the_newest_counts():
    """Booked at its arrival, an old value would say that the counter stood still during the outage."""
    house = resumed()
    for number in range(1, 8):
        house.session.arrive("heat", str(number), waits=True)
    house.session.accept(resumed=True)
    house.drain()
    assert house.values() == []
    assert [message.mid for message in house.session.unacknowledged] == [7]  # R3: the newest is held, not stored
    house.step(5)
    assert house.values() == [7]
    assert house.session.unacknowledged == []
    assert house.driver.health().counts["ignored"] == 6


def test_what_waited_with_its_own_time_counts_in_full():
    """Its hour is known, however late it comes."""
    house = resumed(heat=source(value="v", time="t"))
    for minute in (0, 15, 30):
        house.session.arrive("heat", f'{{"v": {minute}, "t": "2026-03-02T08:{minute:02}:00Z"}}', waits=True)
    house.session.accept(resumed=True)
    house.drain()
    assert house.values() == [0, 15, 30]


def test_energies_that_waited_count_each():
    """An interval value is never replaced by a newer one."""
    house = resumed(heat=source(kind="interval", period="15m", stamp="end", accept_double_count=True))
    for number in (1, 2, 3):
        house.session.arrive("heat", str(number), waits=True)
    house.session.accept(resumed=True)
    house.drain()
    assert house.values() == [1, 2, 3]


def test_a_burst_in_which_a_newer_value_still_waits_for_us_does_not_release_the_older_one():
    """On a slow box the messages of a backlog are taken in several steps."""
    house = resumed(TickingClock())
    for number in range(MOST + 100):
        house.session.arrive("heat", str(number), waits=True)
    house.session.accept(resumed=True)
    for _ in range(20):
        house.step()
    house.step(5)
    assert house.values() == [MOST + 99]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("late", [0.1, 0.3, 1.5])
def test_while_the_broker_waits_for_acknowledgements_no_older_value_is_the_newest(protocol: str, late: float):
    """It sends 20, and the rest when it hears of us: however late a busy machine, a slow disk or a long way make that."""
    house = House(settings={"flush": "25s", "protocol": protocol}, memory={"filters": '["heat"]'})
    house.step()
    house.session.accept(resumed=True)
    house.step()
    for first in (0, 20, 40):
        for number in range(first, first + 20):
            house.session.arrive("heat", str(number))
        for _ in range(4):
            house.step(late)
            if len(house.session.acknowledged) >= first + 19:
                break
        assert len(house.session.acknowledged) >= first + 19
        house.clock.advance(min(late, 0.5))  # the way to the broker and back
    house.drain()
    assert house.values() == []
    house.step(5)
    assert house.values() == [59]


def test_a_full_batch_means_that_newer_values_may_still_wait():
    """After a long commit the messages of a backlog are old when we look at them, and more of them wait."""
    house = resumed()
    for number in range(MOST + 1):
        house.session.arrive("heat", str(number), waits=True)
    house.session.accept(resumed=True)
    house.step(5)
    house.drain()
    house.step(5)
    assert house.values() == [MOST]


def test_a_new_session_has_no_backlog():
    """Everything in it is fresh."""
    house = connected()
    for number in (1, 2):
        house.session.arrive("heat", str(number))
    house.step()
    assert house.values() == [1, 2]


def many_that_waited(protocol: str, **settings) -> House:
    """Thirty meters, of each of which one number waited."""
    topics = [f"m{number}" for number in range(30)]
    house = House(
        settings={"protocol": protocol, **settings},
        memory={"filters": json.dumps(topics)},
        **{topic: source(topic) for topic in topics},
    )
    house.step()
    for topic in topics:
        house.session.arrive(topic, "1", waits=True)
    house.session.accept(resumed=True)
    house.drain()
    return house


def test_holding_back_leaves_the_broker_room_to_send():
    """MQTT 3.1.1 has a window of 20: with a message held for each of many meters nothing newer would come."""
    assert len(many_that_waited("3.1.1").session.unacknowledged) == WINDOW // 2
    assert len(many_that_waited("5", receive_maximum=40).session.unacknowledged) == 20


def test_with_the_window_of_mqtt_5_every_meter_keeps_its_newest_value():
    """A meter that speaks once a day must not lose its number because others speak too."""
    house = many_that_waited("5")
    assert len(house.session.unacknowledged) == 30
    house.step(5)
    assert len(house.store.readings) == 30
    assert house.session.unacknowledged == []


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_flood_is_taken_in_batches_without_a_pause():
    """Bounded work per step; due at once while there is more."""
    house = connected()
    for number in range(2 * MOST + 1):
        house.session.arrive("heat", str(number))
    assert house.step() == house.clock.boottime
    house.drain()
    assert len(house.values()) == 2 * MOST + 1
    assert max(len(batch) for batch in house.store.batches) <= MOST
    assert house.session.unacknowledged == []


def test_a_slow_translation_stores_what_it_has():
    """A step translates for a fifth of a second at most."""
    house = House(clock=TickingClock())
    house.connect()
    for number in range(MOST):
        house.session.arrive("heat", str(number))
    house.step()
    assert 100 < len(house.values()) < 300


def test_two_values_of_one_moment_stay_two_readings():
    """In their order, a millisecond apart."""
    house = connected()
    house.session.arrive("heat", "1")
    house.session.arrive("heat", "2")
    house.step()
    first, second = house.store.readings
    assert second.at - first.at == timedelta(milliseconds=1)


# --- what people see --------------------------------------------------------------------------------------------------


def test_health_tells_the_counts():
    """For `status` and the metrics."""
    house = connected(heat=source(value="v"))
    for payload in ('{"v": 1}', "{}", "poison"):
        house.session.arrive("heat", payload)
    house.session.lost_qos0 = 4
    house.step()
    health = house.driver.health()
    assert (health.state, health.detail) == ("ok", "")
    assert health.counts == {
        "messages": 3,
        "readings": 1,
        "rejected": 1,
        "ignored": 1,
        "acknowledged": 3,
        "reconnects": 0,
        "dropped_qos0": 4,
    }


def test_health_tells_of_each_source_how_it_is():
    """Silence is the normal failure of MQTT: a source that is not heard says so, with what to check."""
    house = connected(heat=source(value="v", expected_every="60s"), cold=source("cold"))
    assert (
        house.driver.health().devices["cold"] == "nothing heard yet: does the topic exist, and may this user read it?"
    )
    house.session.arrive("heat", '{"v": 1}')
    house.step()
    assert house.driver.health().devices["heat"] == "ok"
    house.step(181)
    assert house.driver.health().devices["heat"] == (
        'nothing heard on "heat" for more than 3 min, though the broker answers: is the device on and in its network, or '
        "was its topic changed? (silent for 3 min)"
    )
    told = house.driver.health().devices["heat"].removesuffix(" (silent for 3 min)")
    assert house.store.notes == [("warning", "heat", told)]
    house.session.arrive("heat", '{"v": true}')
    house.step(LOOK_EVERY)
    assert house.driver.health().devices["heat"] == "not a number: true or false"


def test_a_refused_subscription_shows_at_every_source_behind_it():
    """Also at those whose own topic a wider filter stands for."""
    house = House(heat=source("site/heat"), all=source("site/#"))
    house.step()
    house.session.accept(refused={"site/#": "Not authorized"})
    house.step()
    assert house.driver.health().devices == dict.fromkeys(("heat", "all"), "subscription refused: Not authorized")
    assert house.driver.health().state == "trouble"


def test_a_lost_connection_is_trouble_until_it_is_back():
    """The state says what was last heard of it."""
    house = connected()
    house.session.end()
    house.step()
    assert house.driver.health().state == "trouble"
    house.step(5)
    house.session.accept(resumed=True)
    house.step()
    health = house.driver.health()
    assert (health.state, health.counts["reconnects"]) == ("ok", 1)


def test_last_reads_are_a_snapshot():
    """Another thread may look at them while the driver goes on."""
    house = connected()
    before = house.driver.last_reads()
    house.session.arrive("heat", "1")
    house.step()
    assert before == {}
    assert house.driver.last_reads()["heat"].value == 1


def test_polling_is_listening():
    """Sources speak when they like."""
    house = House()
    house.driver.poll(house.clock.now())
    assert house.session.is_open


def test_closing_closes_the_session():
    """Twice does no harm."""
    house = connected()
    house.driver.close()
    house.driver.close()
    assert house.session.closed == 2


def test_a_driver_is_built_without_touching_the_wire():
    """The registry's entry, with the client id that the gateway made unless the operator chose one."""
    ports = FakePorts(FakeClock()).ports
    for client_id, expected in ((None, "gateway-test"), ("roof", "roof")):
        connection = Connection(driver="mqtt", url="mqtt://192.0.2.1", client_id=client_id)
        driver = build("hall", connection, {"heat": source()}, ports)
        assert driver._session._client_id == expected
        assert driver.health().state == "starting"
        driver.close()


# --- what the driver says by itself -----------------------------------------------------------------------------------


def test_a_device_that_wants_to_be_poked_is_poked_over_the_connection():
    """Victron publishes only while it hears something; the driver wakes up for it in time."""
    victron = Source.model_validate({"connection": "hall", "preset": "victron", "device": "0123", "channel": 20})
    house = House(grid=victron)
    house.step()
    assert house.session.published == []
    house.session.accept()
    due = house.step()
    assert house.session.published == [("R/0123/grid/20/Ac/Energy/Forward", b"")]
    assert due <= house.clock.boottime + 30
    house.step(30)
    assert [topic for topic, _ in house.session.published] == ["R/0123/grid/20/Ac/Energy/Forward"] * 2


def test_nobody_is_poked_unasked():
    """A broker's user may have no right to publish."""
    house = connected()
    house.step(3600)
    assert house.session.published == []


def sparkplug(**settings) -> Source:
    keys = {"connection": "hall", "preset": "sparkplug", "topic": "spBv1.0/group/+/edge1/#", "device": "meter1"}
    return Source.model_validate({**keys, "metric": "Energy/Active Import", "unit": "Wh", **settings})


def sample(name: str) -> bytes:
    return (Path(__file__).parents[3] / "mqtt_samples" / f"sparkplug-{name}.bin").read_bytes()


def test_a_restarted_driver_understands_sparkplug_at_once():
    """What the edge node told of its names is in the driver's memory."""
    first = House(meter=sparkplug())
    first.connect()
    first.session.arrive("spBv1.0/group/DBIRTH/edge1/meter1", sample("dbirth"), qos=0)
    first.drain()
    second = House(meter=sparkplug(), memory=first.store.memory)
    second.connect()
    second.session.arrive("spBv1.0/group/DDATA/edge1/meter1", sample("ddata-alias"), qos=0)
    second.drain()
    assert (first.values("meter"), second.values("meter")) == ([123456789], [123456799])


def test_an_edge_node_is_asked_to_introduce_itself_where_that_is_allowed():
    """An unknown alias: one request at once, the next one not before five minutes; and none where it is not allowed."""
    for allowed, asked in ((True, ["spBv1.0/group/NCMD/edge1"]), (False, [])):
        house = House(meter=sparkplug(rebirth=allowed))
        house.connect()
        for _ in range(3):
            house.session.arrive("spBv1.0/group/DDATA/edge1/meter1", sample("ddata-alias"), qos=0)
            house.drain()
        house.step(1)
        assert [topic for topic, _ in house.session.published] == asked


def test_readings_of_one_message_with_times_of_their_own_come_through_a_backlog():
    """A batch that waited in the broker: every item counts, only what has no time is replaced by the newest."""
    batch = source("site/batch", format="json", each="@", value="v", time="t")
    house = House(heat=batch)
    house.connect(resumed=True)
    items = [{"v": number, "t": f"2026-03-02T0{number}:00:00Z"} for number in (1, 2, 3)]
    house.session.arrive("site/batch", json.dumps(items))
    house.session.arrive("site/batch", json.dumps([{"v": 9}]))
    house.drain()
    assert house.values() == [1, 2, 3]
    assert [each.reason for each in house.store.rejected] == ["no time at the path"]


def test_several_readings_without_a_time_in_one_waiting_message_leave_the_newest():
    """Of one source only the last one of a backlog counts, also within one message."""
    house = House(heat=source("site/batch", format="json", each="@"))
    house.connect(resumed=True)
    message = house.session.arrive("site/batch", "[1, 2, 3]")
    house.drain()
    house.step(5)
    assert house.values() == [3]
    assert house.session.acknowledged == [message]


def test_a_meter_whose_where_never_matches_becomes_stale_though_its_topic_is_alive():
    """Two meters on one topic, one with a wrong id: told once with what to try; readings of the other say nothing of it."""
    shared = {"topic": "site/batch", "value": "kwh", "expected_every": "60s"}
    house = connected(right=source(**shared, where="id=='m1'"), wrong=source(**shared, where="id=='m9'"))
    for number in range(10):
        house.session.arrive("site/batch", json.dumps({"id": "m1", "kwh": number}))
        house.step(60)
    assert len(house.values("right")) == 10
    [(level, meter, text)] = house.store.notes
    assert (level, meter) == ("warning", "wrong")
    assert text.startswith(
        "messages come on \"site/batch\", but for more than 3 min none that meets where (id=='m9'): "
    )
    assert "check --message FILE" in text
    health = house.driver.health()
    assert (health.state, health.devices["right"]) == ("ok", "ok")
    assert health.devices["wrong"].startswith(text)
    house.session.arrive("site/batch", json.dumps({"id": "m9", "kwh": 1}))
    house.step(LOOK_EVERY)
    assert house.store.notes[1][:2] == ("info", "wrong")
    assert house.driver.health().devices["wrong"] == "ok"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"value": "a.b"}, "none that has a number at a.b"),
        ({"format": "json", "each": "[?id=='m9']", "value": "v"}, "none that has a number at v in [?id=='m9']"),
        ({}, "none that is a number"),
    ],
)
def test_a_meter_whose_path_never_matches_becomes_stale_too(settings: dict[str, Any], text: str):
    """The same for a wrong path: what is no reading is no sign of life."""
    house = connected(heat=source("site/x", expected_every="60s", **settings))
    for _ in range(5):
        house.session.arrive(
            "site/x", "[]" if "each" in settings else '{"c": 1}' if settings else "", retain=not settings
        )
        house.step(60)
    assert text in house.store.notes[0][2]


# --- gathering --------------------------------------------------------------------------------------------------------


def test_messages_are_gathered_for_one_commit_and_acknowledged_together():
    """A page of 4 KiB each is what a commit costs; a card wears out of that."""
    house = House(settings={"flush": "25s"})
    house.connect()
    house.step(YOUNG)
    for number in range(8):
        house.session.arrive("heat", str(number))
        due = house.step(3)
    assert (house.values(), house.session.acknowledged) == ([], [])
    assert house.driver.last_reads()["heat"].value == 7  # `status` and `read` do not wait for it
    house.step(due - house.clock.boottime)
    assert len(house.store.batches) == 1
    assert (house.values(), len(house.session.acknowledged)) == (list(range(8)), 8)


def test_in_the_first_minute_of_a_connection_messages_are_stored_soon():
    """Somebody stands there and waits for the first readings."""
    house = House(settings={"flush": "25s"})
    house.connect()
    house.session.arrive("heat", "1")
    assert house.step() == house.clock.boottime + AT_ONCE
    house.step(AT_ONCE)
    assert house.values() == [1]


@pytest.mark.parametrize(("protocol", "filled"), [("5", 500), ("3.1.1", WINDOW)])
def test_the_brokers_window_is_never_waited_out(protocol: str, filled: int):
    """Half of our receive maximum, or the 20 that brokers of MQTT 3.1.1 send ahead: when nothing more comes for a moment."""
    house = House(settings={"flush": "25s", "protocol": protocol})
    house.connect()
    house.step(YOUNG)
    for number in range(filled - 1):
        house.session.arrive("heat", str(number))
    house.step()
    assert house.session.acknowledged == []
    house.session.arrive("heat", "0")
    house.step()
    house.step(AT_ONCE if protocol == "3.1.1" else 0)
    assert len(house.session.acknowledged) == filled


def test_a_broker_of_3_1_1_that_sends_more_ahead_costs_no_more_commits_than_one_of_5():
    """`max_inflight_messages 1000`: what still comes after the 20th belongs to the same commit."""
    house = House(settings={"flush": "25s", "protocol": "3.1.1"})
    house.connect()
    house.step(YOUNG)
    for number in range(80):
        house.session.arrive("heat", str(number))
        house.step(0.3)
    assert house.store.batches == []
    house.step(25)
    assert [len(batch) for batch in house.store.batches] == [80]


def test_a_broker_of_3_1_1_with_the_usual_window_is_told_what_it_costs():
    """After an hour of commits of 20, once: how much is written a day, and the two remedies."""
    house = House(settings={"flush": "25s", "protocol": "3.1.1"})
    house.connect()
    for batch in range(700):
        for number in range(WINDOW):
            house.session.arrive("heat", str(batch * WINDOW + number))
        house.step()
        house.step(5.5)
    [(level, subject, text)] = house.store.notes
    assert (level, subject) == ("info", "hall")
    assert "max_inflight_messages 1000" in text


def test_what_was_gathered_is_stored_when_the_connection_ends_but_not_acknowledged():
    """Nothing more will come to fill the batch, and the broker will send it again: duplicates are known by their time."""
    house = House(settings={"flush": "25s"})
    house.connect()
    house.step(YOUNG)
    house.session.arrive("heat", "1")
    house.step()
    assert house.values() == []
    house.session.end()
    house.step()
    assert house.values() == [1]
    assert house.session.acknowledged == []


def test_what_was_gathered_is_stored_and_acknowledged_at_a_stop():
    """Else a restart would cost the last messages their time of arrival."""
    house = House(settings={"flush": "25s"})
    house.connect()
    house.step(YOUNG)
    house.session.arrive("heat", "1")
    house.step()
    house.driver.close()
    assert house.values() == [1]
    assert len(house.session.acknowledged) == 1


def test_a_stop_does_not_acknowledge_what_could_not_be_stored():
    """R3, also at the end."""
    house = House(settings={"flush": "25s"})
    house.connect()
    house.step(YOUNG)
    house.session.arrive("heat", "1")
    house.step()
    house.store.full = True
    house.driver.close()
    assert house.session.acknowledged == []
    assert house.session.closed == 1
