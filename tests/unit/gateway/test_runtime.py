"""A built gateway as a service, and what it answers while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway import __version__
from gateway.control import ask
from gateway.runtime import CHECK_LIMIT, CLOSER_LIMIT, CONNECTION_LIMIT, DELIVERY_LIMIT, answer, service_of
from gateway.systemd import Notifier
from tests.fakes.site import KEY, PASSWORD, Site
from tests.waiting import SOON

HELPERS = ("modbus tcp", "modbus tcp, storing")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.make()
    return site


def test_every_worker_is_watched(site: Site):
    """A thread for each connection, and for each other work; what serves several Modbus TCP connections is watched, too."""
    with site.running() as gateway:
        workers = {"main", "hall", "closer", "check", "housekeeper", "delivery", *HELPERS}
        assert set(service_of(gateway, Notifier({})).ticks()) == workers


def test_without_delivery_there_is_none_to_watch(site: Site):
    """`push = "off"` everywhere."""
    text = site.config.read_text().replace('push = "cumulative"', 'push = "off"')
    site.config.write_text(text.replace('push = "consumption"', 'push = "off"'))
    with site.running() as gateway:
        service = service_of(gateway, Notifier({}))
        assert "delivery" not in service.ticks()
        assert answer(gateway, service, {"want": "status"})["delivery"] is None


def test_each_kind_of_worker_has_its_own_patience(site: Site):
    """The watchdog waits for a delivery through a read timeout of two minutes, and the scaled clock stretches it all."""
    with site.running() as gateway:
        for pace in (1.0, 360.0):
            service = service_of(gateway, Notifier({}), pace=pace)
            limits = {each.worker.name: each.limit for each in service._watched}
            assert limits == {
                "main": CONNECTION_LIMIT * pace, "hall": CONNECTION_LIMIT * pace,
                **dict.fromkeys(HELPERS, CONNECTION_LIMIT * pace),
                "closer": CLOSER_LIMIT * pace, "housekeeper": CLOSER_LIMIT * pace,
                "check": CHECK_LIMIT * pace, "delivery": DELIVERY_LIMIT * pace,
            }  # fmt: skip
    assert DELIVERY_LIMIT > 120 + 10 + 30


def test_a_started_gateway_stops_and_closes_its_wires(site: Site):
    """With nobody at the other end of any of them."""
    with site.running() as gateway:
        service = service_of(gateway, Notifier({}))
        service.start()
        assert service.stop(SOON)
        assert not service.failed
        assert service.at_work() == []


def test_what_status_asks_for_is_one_document_over_the_socket(site: Site):
    """Everything in it survives JSON, and no secret is in it."""
    with site.running():
        answer = ask(site.data / "control.sock", {"want": "status"})
    assert answer is not None
    assert (answer["version"], answer["name"]) == (__version__, "site-042")
    assert answer["clock"] == {"trusted": True, "because": "configured"}
    assert set(answer["connections"]) == {"main", "hall"}
    assert answer["connections"]["main"]["state"] == "starting"
    assert answer["late"] == []
    assert not {KEY, PASSWORD} & set(json.dumps(answer).split('"'))


def test_what_read_asks_for_is_the_newest_look_at_each_source(site: Site):
    """Also a look in vain, with the reason."""
    with site.running() as gateway:
        assert ask(site.data / "control.sock", {"want": "reads"}) == {}
        gateway.drivers["main"].poll(gateway.clock.now())
        answer = ask(site.data / "control.sock", {"want": "reads"})
    assert answer is not None
    assert set(answer) == {"main-electricity", "chiller"}
    assert answer["chiller"]["value"] is None
    assert "Connection refused" in answer["chiller"]["problem"]
