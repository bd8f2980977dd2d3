"""`run`: the service. Reads the meters, keeps everything, brings every hour to EnerKey."""

from __future__ import annotations

import argparse
import logging
import signal
from pathlib import Path
from random import SystemRandom
from threading import Event
from types import FrameType

from gateway import __version__, logs
from gateway.clock import SystemClock, Trust
from gateway.commands.check import load_or_exit
from gateway.control import ControlServer
from gateway.errors import FAILED, OK
from gateway.locate import find_config
from gateway.runtime import live_facts, service_of
from gateway.systemd import Notifier
from gateway.wiring import Gateway, build, open_store, socket_path

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; 1 when a worker died (systemd starts it again)."""
    logs.configure(verbose=args.verbose)
    config = load_or_exit(find_config(args.config))
    store = open_store(config, command="run")
    clock = SystemClock(Trust(config.clock.trust))
    try:
        gateway = build(config, store, clock, SystemRandom())
    except BaseException:
        store.close()
        raise
    log.info("meter-gateway %s: %s, %d meters", __version__, config.gateway.name, len(config.meters))
    return _serve(gateway, socket_path(config))


def _serve(gateway: Gateway, socket: Path) -> int:
    service = service_of(gateway, Notifier())
    _stop_on_signals(service.stopping)
    control = ControlServer(socket, lambda request: live_facts(gateway, service, request))
    service.start()
    service.supervise()
    log.info("stopping")
    if service.stop():
        gateway.store.close()
    else:
        log.warning("a request was still open; its fate is unknown and will be read back after the next start")
    control.close()
    return FAILED if service.failed else OK


def _stop_on_signals(stopping: Event) -> None:
    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stopping.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)


