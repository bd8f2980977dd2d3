"""`meter-gateway read mqtt://…`: an integrator at a broker that nobody has described."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.e2e.test_mqtt_broker import PASSWORD, hashed, publish
from tests.fakes.command_line import INTERRUPTIBLE, Done, command, environment, on_terminal
from tests.fakes.mosquitto import HOST, Mosquitto, mosquitto

SAMPLES = Path(__file__).parents[1] / "mqtt_samples"
WITHIN = 60.0  # s, on a machine that does other things too
SENT = {  # topic -> sample
    "tele/pow1/SENSOR": "tasmota-pow-sensor.json",
    "shellypro3em-1/status/emdata:0": "shelly-pro3em-status-emdata0.json",
    "modpoll/meter1/data": "modpoll-data.json",
    "stat/meter1/RESULT": "tasmota-3phase-energytotal-result.json",
    "site/batch": "batch-array.json",
    "sensors/plant1/meter": "influx-line-protocol.txt",
    "spBv1.0/group/DBIRTH/edge1/meter1": "sparkplug-dbirth.bin",
    "homie/5/super-car/$state": "homie-state-lost.txt",
}
WORTH = {  # topic -> the value of its first proposal
    "tele/pow1/SENSOR": "6.294",
    "shellypro3em-1/status/emdata:0": "20269.29",
    "modpoll/meter1/data": "1234.5",
    "stat/meter1/RESULT": "436.785",
    "sensors/plant1/meter": "1234.567",
    "spBv1.0/group/DBIRTH/edge1/meter1": "123456789",
}
HEARD = "Received PUBACK from read-"  # as the broker says it
HOSTILE = ("evil/x", b"\x1b]0;owned\x07\x1b[2J{\x00")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that takes anybody, with messages that it has kept."""
    with mosquitto(tmp_path) as running:
        publish(
            running, *((topic, (SAMPLES / name).read_bytes()) for topic, name in SENT.items()), HOSTILE, retain=True
        )
        yield running


def listened(broker: Mosquitto, messages: int, *words: str, **changes: str) -> Done:
    """How the command ends when it has heard so many messages."""
    heard = broker.log.count(HEARD) + messages
    words = (*INTERRUPTIBLE, "read", broker.url, "--wait", "600", *words)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes, env=environment(**changes)) as process:
        wait_for(broker, HEARD, heard)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WITHIN)
    return Done(process.returncode, out, err)


def found(broker: Mosquitto, *words: str) -> dict[str, Any]:
    """What the command says as JSON, when it has heard all that the broker has kept."""
    done = listened(broker, len(SENT) + 1, "--json", *words)
    assert (done.code, done.err) == (0, "")
    said: dict[str, Any] = json.loads(done.out)
    return said


def by_topic(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows."""
    return {row["topic"]: row for row in said["topics"]}


def test_what_is_proposed_is_pasted_accepted_and_reads_the_message(broker: Mosquitto, tmp_path: Path):
    """From an unknown broker to a configuration that `check` takes as it is, and a mapping that reads what was heard."""
    said = found(broker)
    rows = by_topic(said)
    assert set(rows) == {*SENT, HOSTILE[0]}
    assert all((row["live"], row["retained"]) == (0, 1) for row in rows.values())
    first = {topic: row["proposals"][0] for topic, row in rows.items() if row["proposals"]}
    assert WORTH.items() <= {topic: each["value"] for topic, each in first.items()}.items()
    config = tmp_path / "config.toml"
    blocks = [each["block"] for row in said["topics"] for each in row["proposals"]]
    config.write_text("\n\n".join([said["connection"], *blocks]))
    for topic in ("tele/pow1/SENSOR", "stat/meter1/RESULT"):
        message = ("--message", SAMPLES / SENT[topic], "--topic", topic)
        done = command("-c", config, "check", "--json", *message, "--meter", first[topic]["name"])
        (read,) = json.loads(done.out)["messages"][0]["readings"]
        assert (read["value"], done.code) == (WORTH[topic], 0)


def test_a_person_sees_topics_payloads_and_blocks_and_no_terminal_obeys_a_device(broker: Mosquitto):
    """On 80 columns; control characters of a payload are shown as dots."""
    heard = partial(wait_for, broker, HEARD, len(SENT) + 1)
    done = on_terminal("read", broker.url, "--wait", "600", patience=heard, NO_COLOR="1")
    assert done.code == 0
    assert "tele/pow1/SENSOR  retained\n" in done.out
    assert "  -> pow1: 6.294 kWh (counter, preset tasmota-energy)" in done.out
    assert "  ·]0;owned··[2J{·" in done.out
    assert not set(re.findall(r"[\x00-\x08\x0b-\x1f\x7f]", done.out.replace("\r", "")))
    assert "# ? kept by the broker, without a time of its own" in done.out  # Shelly's, which no reading is made of
    assert '\n[[meters]]\nname = "pow1"\npush = "off"\n' in done.out
    widths = [
        len(line) for line in done.out.splitlines() if line[:2] not in {"# ", "va", "wh"}
    ]  # but no path is broken
    assert max(widths) <= 80


def test_nobody_else_at_the_broker_notices(broker: Mosquitto):
    """A client id of its own and a session that ends with it; nothing is published, and another's queue is left alone."""
    assert somebody(broker, until="subscribed").wait(WITHIN)
    publish(broker, ("late/x", b"7"))
    assert "late/x" not in by_topic(found(broker, "--protocol", "3.1.1"))
    found(broker, "--protocol", "5")  # a slow broker would be asked in the other version, too
    ours = set(re.findall(r"as (read-\w+) \((p\d, c\d)", broker.log))
    assert {manner for _, manner in ours} == {"p2, c1", "p5, c1"}
    assert len({name for name, _ in ours}) == 2
    assert "Received PUBLISH from read-" not in broker.log
    assert broker.log.count(HEARD) == broker.log.count("Sending PUBLISH to read-") == 2 * (len(SENT) + 1)
    assert somebody(broker, until="came").wait(WITHIN)


def somebody(broker: Mosquitto, *, until: str) -> Event:
    """Another client with a session of its own, connected until it has subscribed, or until a message came."""
    client = Client(CallbackAPIVersion.VERSION2, "somebody", clean_session=False)
    reached = Event()
    client.on_connect = lambda client, *_: client.subscribe("late/x", 1)
    client.on_subscribe = lambda *_: reached.set() if until == "subscribed" else None
    client.on_message = lambda *_: reached.set() if until == "came" else None
    client.connect(HOST, broker.port)
    client.loop_start()
    reached.wait(WITHIN)
    client.disconnect()
    client.loop_stop()
    return reached


def test_ctrl_c_ends_it_and_shows_what_was_heard(broker: Mosquitto):
    """With how often each topic spoke, and that its number rose."""
    words = [*INTERRUPTIBLE, "read", broker.url, "--wait", "600", "--topic", "site/+/energy"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment(COLUMNS="80")) as process:
        wait_for(broker, "Sending SUBACK to read-")
        publish(broker, ("site/a/energy", b"100"), ("site/a/energy", b"100.5"))
        wait_for(broker, HEARD, times=2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WITHIN)
    assert process.returncode == 0
    assert "site/a/energy  2 live, every " in out
    assert "# it rose by 0.5 meanwhile" in out


def wait_for(broker: Mosquitto, text: str, times: int = 1) -> None:
    until = time.monotonic() + WITHIN
    while broker.log.count(text) < times:
        assert time.monotonic() < until, f"never: {text}"
        time.sleep(0.02)


def test_a_broker_that_says_nothing_is_no_success(broker: Mosquitto):
    """Exit 1, and what to look at."""
    done = command("read", broker.url, "--wait", "0.1", "--topic", "nobody/here")
    assert done.code == 1
    assert "may this user read it?" in done.out


def test_a_password_comes_from_where_nobody_sees_it(tmp_path: Path):
    """By reference; the right one opens, a wrong one is one line, and neither is shown."""
    users = tmp_path / "users"
    users.write_text(f"gateway:{hashed(PASSWORD)}\n")
    users.chmod(0o600)
    with mosquitto(tmp_path, extra_lines=["allow_anonymous false", f"password_file {users}"]) as broker:
        publish(broker, ("a/kwh", b"5"), retain=True, username="gateway", password=PASSWORD)
        who = ("--username", "gateway", "--password", "env:BROKER")
        right = listened(broker, 1, *who, BROKER=PASSWORD)
        wrong = command("read", broker.url, *who, BROKER=PASSWORD[::-1])
        assert (right.code, 'password = "env:BROKER"' in right.out) == (0, True)
        assert (wrong.code, wrong.out) == (1, "")
        assert "check username" in wrong.err
        everything = "".join(done.out + done.err for done in (right, wrong))
        assert PASSWORD not in everything
        assert PASSWORD[::-1] not in everything
