"""`run`: the service. Reads the meters, keeps everything, brings every hour to EnerKey."""

from __future__ import annotations

import logging
import signal
from random import SystemRandom
from typing import TYPE_CHECKING

from buffer.store import StoreError
from gateway import __version__, logs
from gateway.clock import SystemClock, Trust
from gateway.commands.check import load_or_exit
from gateway.control import ControlServer
from gateway.errors import FAILED, OK, DatabaseFailure, NotPermitted
from gateway.locate import find_config
from gateway.runtime import live_facts, service_of
from gateway.systemd import Notifier
from gateway.wiring import Gateway, build, open_store, socket_path

if TYPE_CHECKING:
    import argparse
    from threading import Event
    from types import FrameType

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; 1 when a worker died (systemd starts it again)."""
    logs.configure(verbose=args.verbose)
    config = load_or_exit(find_config(args.config))
    store = open_store(config, command="run")
    at_work = False
    try:
        gateway = build(config, store, SystemClock(Trust(config.clock.trust)), SystemRandom())
        at_work, code = _serve(gateway)
    except StoreError as error:
        raise DatabaseFailure(str(error)) from None
    finally:
        if not at_work:
            store.close()
    return code


def _serve(gateway: Gateway) -> tuple[bool, int]:
    """Whether somebody is still at work at the end, and the exit code."""
    service = service_of(gateway, Notifier())
    path = socket_path(gateway.config)
    try:
        control = ControlServer(path, lambda request: live_facts(gateway, service, request))
    except OSError as error:
        raise NotPermitted(f"{path}: cannot listen for commands: {error.strerror}") from None
    _stop_on_signals(service.stopping)
    log.info("meter-gateway %s: %s, %d meters", __version__, gateway.config.gateway.name, len(gateway.config.meters))
    service.start()
    service.supervise()
    log.info("stopping")
    ended = service.stop()
    if not ended:
        log.warning("a request is still open; what became of it is read back after the next start")
    control.close()
    return not ended, FAILED if service.failed else OK


def _stop_on_signals(stopping: Event) -> None:
    """The first signal stops in order, a second one at once: every promise is kept by the disk, not by the stop."""

    def stop(signum: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(signum, signal.SIG_DFL)
        stopping.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
