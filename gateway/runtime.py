"""A built gateway as a running service, and what it says of itself while it runs. Shared by `run` and `demo`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from buffer import identity
from buffer.corrections import CorrectionError
from buffer.model import to_ms
from buffer.store import StoreError
from gateway import __version__
from gateway.correcting import correct
from gateway.delivery import doubts_of, settle_ms
from gateway.probing.keeping import keep
from gateway.service import LONGEST_WAIT, Service
from gateway.wiring import helpers_of

if TYPE_CHECKING:
    from buffer.store import Connection
    from gateway.probed import Doubt
    from gateway.systemd import Notifier
    from gateway.wiring import Gateway

CONNECTION_LIMIT = 60.0  # s without a tick before the watchdog is starved: a step costs at most a few timeouts
CLOSER_LIMIT = 120.0
CHECK_LIMIT = 3600.0  # the whole file is read once, from whatever card it lies on
DELIVERY_LIMIT = 300.0  # connecting, sending and a read timeout of 120 s lie within one step


def service_of(gateway: Gateway, notifier: Notifier, longest_wait: float = LONGEST_WAIT, pace: float = 1.0) -> Service:
    """Every worker of the gateway, watched. `pace`: how many of the clock's seconds pass in a real one."""
    service = Service(gateway.clock, notifier, longest_wait)
    for driver in gateway.drivers.values():
        service.add(driver, limit=CONNECTION_LIMIT * pace, close=driver.close)
    for helper in helpers_of(gateway, longest_wait):
        service.add(helper, limit=CONNECTION_LIMIT * pace, close=helper.close)
    service.add(gateway.closer, limit=CLOSER_LIMIT * pace)
    for uploader in gateway.uploaders.values():
        service.add(uploader, limit=DELIVERY_LIMIT * pace, close=uploader.close)
    service.add(gateway.housekeeper, limit=CLOSER_LIMIT * pace, close=gateway.housekeeper.close)
    service.add(gateway.checker, limit=CHECK_LIMIT * pace)
    return service


def answer(gateway: Gateway, service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a control request: `want` "status" or "reads", or what `correct`, `adopt` or `probe` brings."""
    if "adopt" in request:
        return _adopted(gateway, request["adopt"]["author"])
    if "correct" in request:
        return _corrected(gateway, request["correct"])
    if "probe" in request:
        return _kept(gateway, request["probe"])
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
        "delivery": _delivery(gateway),
        "max_size": gateway.config.buffer.max_size,
        "room": gateway.housekeeper.snapshot(),
        "contradictions": [f"[enerkey] {doubt.key}: {doubt.words}" for doubt in _doubts(gateway)],
    }


def _delivery(gateway: Gateway) -> dict[str, Any] | None:
    """What the default account's delivery says of itself, and beside it each further account's."""
    said = {name: uploader.snapshot() for name, uploader in gateway.uploaders.items()}
    default = said.pop("", {})
    return default | {"accounts": said} if said else default or None


def _doubts(gateway: Gateway) -> list[Doubt]:
    """Where the configuration contradicts what the probe found out; also since the start."""
    try:
        return gateway.store.read(lambda db: doubts_of(gateway.config, db)) if gateway.uploaders else []
    except StoreError:  # the rest of the status is worth more than ever
        return []


def _kept(gateway: Gateway, asked: dict[str, Any]) -> dict[str, Any]:
    section = gateway.config.enerkey
    if section is None:
        return {"refused": "the running service has no [enerkey] section: restart it with the new configuration"}
    now_ms = to_ms(gateway.clock.now().wall)
    return gateway.store.write(lambda db: keep(db, asked, section.requests_per_day, now_ms))


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
    for uploader in gateway.uploaders.values():
        uploader.wake.set()
    return {"done": done.text}


def _adopted(gateway: Gateway, author: str) -> dict[str, Any]:
    """Bind the database to this machine; what another one sent may not be readable before `settle` is over."""
    now_ms = to_ms(gateway.clock.now().wall)

    def work(db: Connection) -> bool:
        return identity.adopt(db, gateway.machine, author, now_ms + settle_ms(gateway.config, db), now_ms)

    try:
        adopted = gateway.store.write(work)
    except StoreError as error:
        return {"failed": str(error)}
    for uploader in gateway.uploaders.values():
        uploader.wake.set()
    return {"adopted": adopted}
