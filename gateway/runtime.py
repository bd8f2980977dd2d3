"""A built gateway as a running service, and what it says of itself while it runs. Shared by `run` and `demo`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buffer.corrections import CorrectionError
from buffer.model import to_ms
from buffer.store import StoreError
from gateway import __version__
from gateway.correcting import correct
from gateway.service import LONGEST_WAIT, Service

if TYPE_CHECKING:
    from gateway.systemd import Notifier
    from gateway.wiring import Gateway

CONNECTION_LIMIT = 60.0  # s without a tick before the watchdog is starved: a step costs at most a few timeouts
CLOSER_LIMIT = 120.0
DELIVERY_LIMIT = 300.0  # connecting, sending and a read timeout of 120 s lie within one step


def service_of(gateway: Gateway, notifier: Notifier, longest_wait: float = LONGEST_WAIT, pace: float = 1.0) -> Service:
    """Every worker of the gateway, watched. `pace`: how many of the clock's seconds pass in a real one."""
    service = Service(gateway.clock, notifier, longest_wait)
    for driver in gateway.drivers.values():
        service.add(driver, limit=CONNECTION_LIMIT * pace, close=driver.close)
    service.add(gateway.closer, limit=CLOSER_LIMIT * pace)
    if gateway.uploader:
        service.add(gateway.uploader, limit=DELIVERY_LIMIT * pace, close=gateway.uploader.close)
    return service


def answer(gateway: Gateway, service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a control request: `{"want": "status"}`, `{"want": "reads"}`, or `{"correct": ...}`."""
    if "correct" in request:
        return _corrected(gateway, request["correct"])
    if request["want"] == "reads":
        return {
            source: asdict(read) for driver in gateway.drivers.values() for source, read in driver.last_reads().items()
        }
    now = gateway.clock.now()
    return {
        "version": __version__,
        "name": gateway.config.gateway.name,
        "now": now.wall.isoformat(),
        "clock": {"trusted": now.trusted, "because": gateway.clock.trust.reason},
        "workers": service.ticks(),
        "late": list(service.late()),
        "connections": {name: asdict(driver.health()) for name, driver in gateway.drivers.items()},
        "delivery": gateway.uploader.snapshot() if gateway.uploader else None,
    }


def _corrected(gateway: Gateway, asked: dict[str, Any]) -> dict[str, Any]:
    """Do what a person said of a meter, and close at once what it allows to close."""
    now = gateway.clock.now()
    try:
        meter, done = gateway.store.write(lambda db: correct(db, asked, to_ms(now.wall)))
    except CorrectionError as error:
        return {"refused": str(error)}
    except StoreError as error:
        return {"failed": str(error)}
    gateway.closer.saw({meter: done.reaches}, now.boottime)
    return {"done": done.text}
