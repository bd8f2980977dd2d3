"""`push --dry-run`: what it shows is what the delivery then sends, byte for byte; looking changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import Request, Response, Server, serve
from tests.fakes.site import KEY, Site

FIRST = datetime(2026, 11, 1, 22, tzinfo=UTC)


class Listener:
    """An EnerKey that keeps every request as it came; `deaf` to pushes: they are never answered."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.deaf = False
        self.simulator = EnerkeySimulator(now=lambda: datetime.now(UTC), keys=[KEY])
        self.server: Server = serve(self.handle)

    def handle(self, request: Request) -> Response | None:
        self.requests.append(request)
        return None if self.deaf and request.method == "POST" else self.simulator.handle(request)

    @property
    def pushes(self) -> list[Request]:
        """Without the looks at what EnerKey has."""
        return [request for request in self.requests if request.method == "POST"]


@pytest.fixture
def enerkey() -> Iterator[Listener]:
    """A simulated EnerKey on loopback."""
    listener = Listener()
    yield listener
    listener.server.stop()


@pytest.fixture
def site(tmp_path: Path, enerkey: Listener) -> Site:
    """A site whose EnerKey is there, with hours of both pushed meters."""
    site = Site(tmp_path, enerkey=enerkey.server.url)
    site.make()
    return site


def deliver(site: Site, until: Callable[[], bool]) -> None:
    """Let the real delivery act until something has come about."""
    with site.running() as gateway:
        for _ in range(20):
            gateway.uploaders[""].step(gateway.clock.now())
            if until():
                gateway.uploaders[""].close()
                return
    raise AssertionError("it did not come about")


def test_what_it_shows_is_what_is_sent(site: Site, enerkey: Listener, meter_gateway):
    """Method, path, every header of ours, and the body: byte for byte; the key alone is not shown."""
    site.close_hours("chiller", FIRST, 3)
    site.close_hours("main-electricity", FIRST, 3)
    shown = json.loads(meter_gateway("push", "--dry-run", "--json").out)["messages"]
    assert [each["meter"] for each in shown] == ["main-electricity", "chiller"]
    assert [len(each["hours"]) for each in shown] == [1, 3], "a cumulative meter opens with its first hour alone"
    deliver(site, lambda: len(enerkey.pushes) >= 2)
    sent = {each.target.rpartition("=")[2]: each for each in enerkey.pushes[:2]}
    for each in shown:
        request = sent[each["url"].rpartition("=")[2]]
        assert (each["method"], each["url"]) == (request.method, enerkey.server.url + request.target)
        assert each["body"].encode() == request.body
        headers = {name.lower(): value for name, value in each["headers"].items()}
        assert headers.pop("authorization") == "<the API key>"
        assert headers.items() <= request.headers.items()


def test_looking_changes_and_sends_nothing(site: Site, enerkey: Listener, meter_gateway):
    """The database's bytes are the same afterwards, however often one looks."""
    site.close_hours("chiller", FIRST, 3)
    before = hashlib.sha256((site.data / "buffer.db").read_bytes()).digest()
    first = meter_gateway("push", "--dry-run")
    assert meter_gateway("push", "--dry-run") == first
    assert hashlib.sha256((site.data / "buffer.db").read_bytes()).digest() == before
    assert enerkey.requests == []


def test_for_people_each_message_stands_below_its_meter(site: Site, enerkey: Listener, meter_gateway):
    """Request line, headers, body on a line of its own, and a last line that says that nothing was sent."""
    site.close_hours("chiller", FIRST, 2)
    lines = meter_gateway("push", "--dry-run").out.splitlines()
    assert lines[0] == "# chiller: 2 h from 2026-11-01 22:00Z"
    assert lines[1] == f"POST {enerkey.server.url}/api/v2/Values/PushConsumptionsForMeter?meterId=10002"
    assert "Authorization: <the API key>" in lines
    assert lines[-3] == (
        '[{"timestamp":"2026-11-01T22:00:00Z","value":0.5},{"timestamp":"2026-11-01T23:00:00Z","value":0.5}]'
    )
    assert lines[-1] == "dry run: 1 message, nothing sent"


def test_a_meter_whose_last_message_is_of_unknown_fate_would_send_nothing(site: Site, enerkey: Listener, meter_gateway):
    """R14: one open message per meter. What waits behind it is said, not shown as if it went now."""
    enerkey.deaf = True
    site.close_hours("chiller", FIRST, 2)
    deliver(site, lambda: len(enerkey.pushes) == 1)
    site.close_hours("chiller", FIRST + timedelta(hours=2), 1)
    done = meter_gateway("push", "--dry-run")
    assert done.out == (
        "chiller waits: an earlier message is settled first\ndry run: 0 messages, nothing sent\n"
    )  # fmt: skip


def test_boundaries_behind_a_held_hour_wait_for_the_decision(site: Site, meter_gateway):
    """And the next step is said."""
    site.close_hours("main-electricity", FIRST, 1, state="held")
    site.close_hours("main-electricity", FIRST + timedelta(hours=1), 1)
    document = json.loads(meter_gateway("push", "--dry-run", "--json").out)
    assert document == {
        "messages": [],
        "waiting": [
            {
                "meter": "main-electricity",
                "why": "an earlier hour waits for a decision: meter-gateway resolve main-electricity",
            }
        ],
    }


def test_one_meter_alone(site: Site, meter_gateway):
    """`--meter` leaves the others out."""
    site.close_hours("chiller", FIRST, 1)
    site.close_hours("main-electricity", FIRST, 1)
    shown = json.loads(meter_gateway("push", "--dry-run", "--json", "--meter", "chiller").out)
    assert [each["meter"] for each in shown["messages"]] == ["chiller"]


def test_when_nothing_waits_it_says_so(site: Site, meter_gateway):
    """An empty database, and one whose hours have all been accepted."""
    nothing = (0, "dry run: 0 messages, nothing sent: no closed hour waits\n", "")
    assert meter_gateway("push", "--dry-run") == nothing
    site.close_hours("chiller", FIRST, 1, state="accepted")
    assert meter_gateway("push", "--dry-run") == nothing


def test_it_works_while_the_service_runs(site: Site, meter_gateway):
    """R20: the database is only read."""
    site.close_hours("chiller", FIRST, 1)
    with site.running():
        assert "1 message, nothing sent" in meter_gateway("push", "--dry-run").out


def test_a_meter_that_is_not_there_is_named_with_the_nearest(meter_gateway):
    """Exit code 1."""
    done = meter_gateway("push", "--dry-run", "--meter", "chillr")
    assert (done.code, done.out) == (1, "")
    assert 'no meter "chillr" in the configuration; did you mean "chiller"?; known: ' in done.err


def test_a_meter_that_is_never_pushed_is_told_apart_from_one_with_nothing_to_send(meter_gateway):
    """Exit code 1."""
    done = meter_gateway("push", "--dry-run", "--meter", "cold-water")
    assert done == (1, "", 'meter-gateway: cold-water has push = "off": nothing of it is sent\n')


def test_without_enerkey_nothing_can_be_sent(site: Site, meter_gateway):
    """Exit code 78: a person must write the section first."""
    text = site.config.read_text()
    head, _, rest = text.partition("[enerkey]")
    off = rest.partition("[connections.main]")[2].replace('"cumulative"', '"off"').replace('"consumption"', '"off"')
    site.config.write_text(head + "[connections.main]" + off)
    done = meter_gateway("push", "--dry-run")
    assert done == (78, "", "meter-gateway: there is no [enerkey] section: nothing is sent anywhere\n")


def test_it_does_not_send(meter_gateway):
    """Without --dry-run it is wrong usage: the service does the sending."""
    done = meter_gateway("push")
    assert done.code == 2
    assert "--dry-run" in done.err


def test_a_message_of_another_account_says_so(site: Site, enerkey: Listener, meter_gateway):
    """It goes with that account's key."""
    text = site.config.read_text().replace(
        "[connections.main]", f'[enerkey.accounts.north]\napi_keys = ["{KEY}-n"]\n[connections.main]'
    )
    site.config.write_text(text.replace('name = "chiller"', 'name = "chiller"\naccount = "north"'))
    site.close_hours("chiller", FIRST, 2)
    site.close_hours("main-electricity", FIRST, 2)
    lines = meter_gateway("push", "--dry-run").out.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# main-electricity: 1 h from 2026-11-01 22:00Z",
        "# chiller: 2 h from 2026-11-01 22:00Z, account north",
    ]
    shown = json.loads(meter_gateway("push", "--dry-run", "--json").out)["messages"]
    assert [each["account"] for each in shown] == [None, "north"]
