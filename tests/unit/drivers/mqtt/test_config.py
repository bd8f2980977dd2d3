"""What an operator may write about a broker and a topic, and the exact words about what may not be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from drivers.mqtt.config import (
    Address,
    Connection,
    Source,
    address_of,
    check,
    describe,
    exclusive,
    kind_of,
    pace,
)
from drivers.mqtt.source import format_of

URL = "mqtt://192.0.2.20"


def connection(url: str = URL, **settings) -> Connection:
    return Connection(driver="mqtt", url=url, **settings)


def source(**settings) -> Source:
    return Source(**{"connection": "hall", "topic": "t", "unit": "kWh", **settings})


def said(build, **settings) -> str:
    """The one sentence about a value that cannot be."""
    with pytest.raises(ValidationError) as caught:
        build(**settings)
    (error,) = caught.value.errors()
    return error["msg"].removeprefix("Value error, ")


def faults(*, to: Connection | None = None, **settings) -> list[tuple[tuple[str | int, ...], str]]:
    return [tuple(each) for each in check(to or connection(), {"heat": source(**settings)})]


# --- the address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://192.0.2.20:1883", Address("192.0.2.20", 1883, tls=False)),
        ("mqtt://broker.local", Address("broker.local", 1883, tls=False)),
        ("mqtt://broker.local.:1884/", Address("broker.local.", 1884, tls=False)),
        ("mqtts://broker", Address("broker", 8883, tls=True)),
        ("MQTTS://Broker:9000", Address("broker", 9000, tls=True)),
        ("mqtt://[2001:db8::1]:1883", Address("2001:db8::1", 1883, tls=False)),
        ("mqtt://mittari-ä.example", Address("mittari-ä.example", 1883, tls=False)),
    ],
)
def test_an_address_is_a_host_and_a_port(url: str, address: Address):
    """The port follows from the scheme where it is left out."""
    assert address_of(url) == address
    assert connection(url).url == url


LOOKS = 'must look like "mqtt://host:1883", or "mqtts://host:8883" for TLS'
PORT = "must have a port between 1 and 65535"
HOST = "must name a host whose parts between the dots have 1 to 63 characters, without blanks"
NO_USER = "must not hold a user name or password: write them under username and password"
NO_PATH = "must end after the port: topics belong to the meters"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", LOOKS),
        ("192.0.2.20:1883", LOOKS),
        ("tcp://192.0.2.20:1883", LOOKS),
        ("ws://192.0.2.20", LOOKS),
        ("mqtt://", LOOKS),
        ("mqtt:///h", LOOKS),
        ("mqtt://[2001:db8::1", LOOKS),
        ("mqtt://[broker]:1883", LOOKS),
        ("mqtt://h:0", PORT),
        ("mqtt://h:65536", PORT),
        ("mqtt://h:-1", PORT),
        ("mqtt://h:mqtt", PORT),
        ("mqtt://user:hunter2@h", NO_USER),
        ("mqtt://user@h", NO_USER),
        ("mqtt://h/site/#", NO_PATH),
        ("mqtt://h:1883/site", NO_PATH),
        ("mqtt://h?clean=1", NO_PATH),
        ("mqtt://a..b", HOST),
        ("mqtt://.a", HOST),
        ("mqtt://" + "a" * 64, HOST),
        ("mqtt://" + "ä" * 60, HOST),  # longer once it is encoded
        ("mqtt://my broker:1883", HOST),
    ],
)
def test_a_wrong_address_is_told_what_is_allowed(url: str, sentence: str):
    """What would fail at the resolver fails when it is written; nothing of the address is repeated."""
    assert said(connection, url=url) == sentence


# --- the connection ---------------------------------------------------------------------------------------------------


def test_a_connection_keeps_messages_for_a_week_by_default():
    """Reliability 3.5: session expiry at least a week, MQTT 5 first, a window wide enough for a burst."""
    made = connection()
    assert (made.session_expiry, made.protocol, made.receive_maximum) == (7 * 86_400, "auto", 1000)
    assert (made.keepalive, made.flush) == (30, 25)


@pytest.mark.parametrize(
    "settings",
    [
        {"protocol": "3.1"},
        {"protocol": 5},
        {"receive_maximum": 0},
        {"receive_maximum": 65_536},
        {"receive_maximum": True},
        {"keepalive": "4s"},
        {"keepalive": "2h"},
        {"keepalive": 30},
        {"session_expiry": "-1s"},
        {"session_expiry": "60000d"},
        {"flush": "-1s"},
        {"flush": "61s"},
        {"username": ""},
        {"password": ""},
        {"client_id": ""},
        {"client_id": "x" * 65_536},
        {"qos": 2},
        {"topic": "t"},
    ],
    ids=lambda settings: str(settings)[:30],
)
def test_what_a_connection_cannot_have_is_refused(settings: dict[str, object]):
    """Values out of their bounds, values of another type, keys that do not exist."""
    with pytest.raises(ValidationError):
        connection(**settings)


def test_a_password_is_not_shown():
    """Neither printing the connection nor a fault in it repeats the secret."""
    made = connection(username="u", password="hunter2")
    assert "hunter2" not in repr(made)
    assert "hunter2" not in str(made)


def test_a_password_needs_its_user():
    """MQTT 3.1.1 has no password without a user name."""
    found = check(connection(password="hunter2"), {})
    assert found == [(("connection", "password"), "needs username beside it")]
    assert check(connection(username="u"), {}) == []


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_file_of_certificates_needs_tls_and_must_be_there(tmp_path: Path, key: str):
    """A certificate that protects nothing is a mistake, and so is one that is missing."""
    there = tmp_path / "some.pem"
    there.touch()
    missing = str(tmp_path / "no.pem")
    beside = {"cert_file": str(there)} if key == "key_file" else {}
    said_of_plain = (("connection", key), "is of use only with mqtts://: this connection is not encrypted")
    assert said_of_plain in check(connection(**beside, **{key: str(there)}), {})
    assert check(connection("mqtts://h", **beside, **{key: missing}), {}) == [
        (("connection", key), f"names a file that is not there: {missing}")
    ]
    assert check(connection("mqtts://h", **beside, **{key: str(there)}), {}) == []


def test_a_key_without_a_certificate_is_a_mistake(tmp_path: Path):
    """It says nothing alone."""
    key = tmp_path / "key.pem"
    key.touch()
    said = (("connection", "key_file"), "needs cert_file beside it")
    assert check(connection("mqtts://h", key_file=str(key)), {}) == [said]


def test_only_a_client_id_that_the_operator_chose_can_be_taken_twice():
    """The ids that the gateway makes differ by the connection's name."""
    assert exclusive(connection()) is None
    assert exclusive(connection("mqtt://h", client_id="roof")) == 'the client id "roof" at h:1883'


# --- the source -------------------------------------------------------------------------------------------------------


def test_a_source_is_a_counter_of_bare_numbers_unless_it_says_otherwise():
    """A topic alone is enough."""
    made = source()
    assert kind_of(made) == "counter"
    assert format_of(made) == "raw"
    assert format_of(source(value="a")) == "json"
    assert format_of(source(format="json")) == "json"
    assert format_of(source(format="raw")) == "raw"
    assert faults() == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"topic": ""}, "must not be empty"),
        ({"topic": "a/#/b"}, 'must have "#" only alone and as the last level, as in "site/#"'),
        ({"value": "a."}, "must be a JMESPath expression: it ends too early"),
        ({"time": "`0`"}, "must be a path, not a constant"),
        ({"tz": "Helsinki"}, 'must be an IANA time zone known on this machine, such as "Europe/Helsinki"'),
        ({"offset": "1e1000000"}, "Input should be less than or equal to"),  # every value plus this would raise
        ({"offset": "-1e1000000"}, "Input should be greater than or equal to"),
        ({"tz": "../etc/passwd"}, 'must be an IANA time zone such as "Europe/Helsinki"'),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(settings: dict[str, str], sentence: str):
    """Each sentence goes on from the key's name."""
    assert said(source, **settings).startswith(sentence)


@pytest.mark.parametrize(
    "settings",
    [{"format": "xml"}, {"time_format": "epoch"}, {"kind": "gauge"}, {"qos": 1}, {"use_retained": "never"}],
    ids=str,
)
def test_what_a_source_cannot_have_is_refused(settings: dict[str, object]):
    """Unknown words and unknown keys."""
    with pytest.raises(ValidationError):
        source(**settings)


@pytest.mark.parametrize("key", ["value", "time"])
def test_an_expression_needs_json(key: str):
    """`format = "raw"` has no parts to point into."""
    settings = {"format": "raw", key: "a"}
    assert ((("heat", key)), f'is an expression into JSON: write format = "json", or leave out {key}') in faults(
        **settings
    )


def test_a_time_alone_needs_json_too():
    """Without `value`, `auto` means raw."""
    assert faults(time="t") == [
        (("heat", "time"), 'is an expression into JSON: write format = "json", or leave out time')
    ]
    assert faults(time="t", format="json") == []


@pytest.mark.parametrize("settings", [{"time_format": "epoch_s"}, {"tz": "Europe/Helsinki"}], ids=str)
def test_how_a_time_is_written_needs_the_time(settings: dict[str, str]):
    """A format or a zone of nothing is a mistake."""
    (key,) = settings
    assert faults(**settings) == [(("heat", key), "needs time beside it: which part of the payload holds the time")]


INTERVAL = {"kind": "interval", "period": "15m", "stamp": "end", "value": "v"}


def test_an_interval_needs_a_time_of_its_own():
    """R4: without one, a message that MQTT delivers twice would count twice; only the operator may accept that."""
    ((path, message),) = faults(**INTERVAL)
    assert path == ("heat", "time")
    assert message == (
        'is needed for kind = "interval": MQTT may deliver a message twice, and only its own time shows that it is the '
        "same one; accept_double_count = true allows it all the same"
    )
    assert faults(**INTERVAL, accept_double_count=True) == []
    assert faults(**INTERVAL, time="t") == []


@pytest.mark.parametrize("zone", ["Europe/Helsinki", "America/New_York", "Australia/Sydney", "Africa/Casablanca"])
def test_an_interval_cannot_take_local_times_of_a_zone_that_changes(zone: str):
    """The hour repeated in autumn would lose one of its two energies; Morocco's change is about Ramadan."""
    ((path, message),) = faults(**INTERVAL, time="t", tz=zone)
    assert path == ("heat", "tz")
    assert message.startswith('cannot tell apart the two hours of one name in autumn, and kind = "interval" would')


@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT-2", "Asia/Tokyo"])
def test_an_interval_may_take_local_times_of_a_zone_that_never_changes(zone: str):
    """Elvaco's modules keep standard time all year."""
    assert faults(**INTERVAL, time="t", tz=zone) == []


def test_a_retained_value_without_a_time_can_only_be_a_counter():
    """A retained message has no age: an energy or a power of some time ago is of no use."""
    assert faults(use_retained=True) == []
    assert faults(use_retained=True, kind="power") == [
        (("heat", "use_retained"), "is for counters: a retained power value has no age")
    ]
    assert faults(use_retained=True, kind="power", value="v", time="t") == []


# --- what the gateway asks --------------------------------------------------------------------------------------------


def test_a_source_is_described_by_its_topic_and_path():
    """For people, and for the choice of units."""
    facts = describe(source(topic="roof/#", value="a.b", kind="power", unit="W"))
    assert (facts.unit, facts.kind, facts.where) == ("W", "power", "roof/#, a.b")
    assert describe(source(unit=None)).unit is None
    assert describe(source(topic="roof")).where == "roof"


def test_a_source_is_expected_every_quarter_of_an_hour():
    """DESIGN 5: MQTT 15 min, unless the operator knows better."""
    assert pace(connection(), source()) == 900
    assert pace(connection(), source(expected_every="10s")) == 10


def test_checking_a_configuration_loads_no_wire_library():
    """`check` on a box without paho works, and a box without expressions never loads jmespath."""
    code = (
        "import sys; from drivers.mqtt.config import Source; Source(connection='a', topic='b'); "
        "print([name for name in ('paho', 'jmespath') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
