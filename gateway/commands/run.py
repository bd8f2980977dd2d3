"""`run`: the service. Reads the meters, keeps everything, brings every hour to EnerKey."""

from __future__ import annotations

import gc
import logging
import signal
from random import SystemRandom
from typing import TYPE_CHECKING

from buffer.store import StoreError
from gateway import __version__, logs, machine
from gateway.clock import SystemClock, Trust
from gateway.commands.common import configuration, set_by_signal
from gateway.commands.room import insist_on_room
from gateway.control import ControlServer
from gateway.credentials import check_credentials
from gateway.errors import FAILED, OK, DatabaseFailure, GatewayError, NotPermitted
from gateway.faults import counted
from gateway.runtime import answer, service_of
from gateway.systemd import Notifier
from gateway.wiring import Gateway, build, open_store, socket_path

if TYPE_CHECKING:
    import argparse
    from threading import Event
    from types import FrameType

    from gateway.service import Service

log = logging.getLogger(__name__)

SALVAGE_WITHIN = 3600  # s; a large damaged database on a slow card


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; 1 when a worker died (systemd starts it again)."""
    logs.configure(verbose=args.verbose)
    config = configuration(args)
    for warning in config.warnings:
        log.warning("%s", warning)
    check_credentials(config)
    insist_on_room(config, machine.most_tasks(), machine.most_files())
    notifier = Notifier()
    notifier.send(
        f"EXTEND_TIMEOUT_USEC={SALVAGE_WITHIN * 1_000_000}"
    )  # systemd's patience is for starts without damage
    store = open_store(config, command="run")
    service = None
    try:
        gateway = build(config, store, SystemClock(Trust(config.clock.trust)), SystemRandom())
        service = service_of(gateway, notifier)
        _serve(gateway, service)
    except StoreError as error:
        raise DatabaseFailure(str(error)) from None
    finally:
        if service is None or not service.at_work():  # who is still at work may still write
            store.close()
    _say_how_it_ended(service)
    return FAILED if service.failed else OK


def _serve(gateway: Gateway, service: Service) -> None:
    path = socket_path(gateway.config)
    try:
        control = ControlServer(path, lambda request: answer(gateway, service, request))
    except OSError as error:
        kind = NotPermitted if isinstance(error, PermissionError) else GatewayError  # a full disk mends itself
        raise kind(f"{path}: cannot listen for commands: {error.strerror}") from None
    _stop_on_signals(service.stopping)
    meters = counted(len(gateway.config.meters), "meter")
    log.info("meter-gateway %s: %s, %s", __version__, gateway.config.gateway.name, meters)
    gc.collect()
    gc.freeze()  # what a service begins with stays to its end: the collector need not look at it again and again
    service.start()
    service.supervise()
    log.info("stopping")
    gateway.store.hurry()
    service.stop()
    control.close()


def _say_how_it_ended(service: Service) -> None:
    if service.failed:
        log.error("stopped: a worker died")
    elif left := service.at_work():
        words = "stopped with %s still at work; what became of a message under way is read back after the next start"
        log.warning(words, ", ".join(left))
    else:
        log.info("stopped")


def _stop_on_signals(stopping: Event) -> None:
    """The first signal stops in order, a second one at once: every promise is kept by the disk, not by the stop."""

    def stop(signum: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(signum, signal.SIG_DFL)
        set_by_signal(stopping)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
