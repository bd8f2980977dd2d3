"""What the driver says by itself: pokes and rebirth requests, when, how often, and never unasked."""

from __future__ import annotations

from collections import Counter

from drivers.mqtt.outgoing import ASK_EVERY, NEVER, Outgoing
from drivers.mqtt.source import Source
from drivers.mqtt.sparkplug import decode
from tests.fakes.clock import FakeClock

SUPPRESS = b'{"keepalive-options":["suppress-republish"]}'
POKED = {"topic": "N/0123/#", "unit": "kWh", "poke_topic": "R/0123/keepalive", "poke_payload": SUPPRESS.decode()}
PLANT = {"topic": "spBv1.0/g/+/n/#", "format": "sparkplug", "metric": "m", "unit": "Wh"}


class Line:
    """Everything around it."""

    def __init__(self, *sources: dict[str, object]):
        self.clock = FakeClock()
        self.lost: Counter[str] = Counter()
        self.sent: list[tuple[str, bytes]] = []
        self.works = True
        made = [Source.model_validate({"connection": "hall", **each}) for each in sources]
        self.outgoing = Outgoing(made, self.lost, self.publish)

    def publish(self, topic: str, payload: bytes) -> bool:
        if self.works:
            self.sent.append((topic, payload))
        return self.works

    def speak(self, seconds: float = 0, connection: int | None = 1) -> list[tuple[str, bytes]]:
        self.sent.clear()
        self.outgoing.speak(self.clock.advance(seconds), connection)
        return list(self.sent)


def test_a_device_is_poked_as_soon_as_there_is_a_connection_and_then_every_so_often():
    """The first poke asks for everything, the later ones only keep it speaking."""
    line = Line(POKED, POKED | {"value": "v"})
    assert line.speak(connection=None) == []
    assert line.speak() == [("R/0123/keepalive", b"")]
    assert line.outgoing.due() == line.clock.boottime + 30
    assert line.speak(29) == []
    assert line.speak(1) == [("R/0123/keepalive", SUPPRESS)]


def test_a_victron_value_is_read_like_a_register():
    """A read request for each topic, every 30 seconds: values that stand still are heard, too, and nothing else is published."""
    victron = {"preset": "victron", "device": "0123", "channel": 20}
    line = Line(victron, victron | {"point": "pv_energy_total"})
    asked = [("R/0123/grid/20/Ac/Energy/Forward", b""), ("R/0123/pvinverter/20/Ac/Energy/Forward", b"")]
    assert [line.speak(), line.speak(29), line.speak(1)] == [asked, [], asked]


def test_a_new_connection_asks_for_everything_again():
    """What changed in between was not heard."""
    line = Line(POKED)
    line.speak()
    assert line.speak(1, connection=2) == [("R/0123/keepalive", b"")]


def test_a_poke_that_could_not_be_sent_is_tried_again():
    """The connection may just have ended."""
    line = Line(POKED)
    line.works = False
    line.speak()
    line.works = True
    assert line.speak(1) == [("R/0123/keepalive", b"")]


def test_nothing_is_said_unless_a_source_asks_for_it():
    """Both are commands to the plant."""
    line = Line(PLANT, {"topic": "t", "unit": "Wh"})
    line.lost["g/n"] += 1
    assert line.speak() == []
    assert line.outgoing.due() == NEVER


def test_a_rebirth_is_asked_for_when_something_was_missed():
    """As a command to the edge node."""
    line = Line(PLANT | {"rebirth": True})
    assert line.speak() == []
    line.lost["g/n"] += 1
    assert line.outgoing.due() <= line.clock.boottime
    ((topic, payload),) = line.speak()
    assert topic == "spBv1.0/g/NCMD/n"
    assert decode(payload).metrics[0].name == "Node Control/Rebirth"
    assert line.speak(1) == []
    assert line.outgoing.due() == NEVER


def test_a_node_is_not_asked_again_before_five_minutes():
    """Its answer is large; what is missed meanwhile waits."""
    line = Line(PLANT | {"rebirth": True})
    line.lost["g/n"] += 1
    line.speak()
    line.lost["g/n"] += 1
    assert line.speak(ASK_EVERY - 1) == []
    assert line.outgoing.due() == line.clock.boottime + 1
    assert len(line.speak(1)) == 1


def test_nothing_is_asked_without_a_connection():
    """It is asked as soon as there is one."""
    line = Line(PLANT | {"rebirth": True})
    line.lost["g/n"] += 1
    assert line.speak(connection=None) == []
    assert line.outgoing.due() == NEVER
    assert len(line.speak()) == 1
