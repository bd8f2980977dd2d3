"""The gateway in a process of its own, as `run` has it, under a fast clock that all its lives share; perhaps with a bug put in."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from random import SystemRandom

import pytest

from gateway import logs, wiring
from gateway.clock import ScaledClock
from gateway.commands.run import _serve
from gateway.config import load
from gateway.runtime import service_of
from gateway.service import LONGEST_WAIT
from gateway.systemd import Notifier
from gateway.wiring import build, open_store
from tests.simulation.plant import Plant
from tests.simulation.planted import ForgetsOrphans, NaiveRetry, NeverRetry

PLANTS: dict[str, type[Plant]] = {
    plant.name.replace(" ", "-"): plant for plant in (Plant, NaiveRetry, NeverRetry, ForgetsOrphans)
}


def parsed(words: list[str]) -> argparse.Namespace:
    """When time began, how fast it runs, and which bug."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", dest="config", type=Path, required=True)
    parser.add_argument("--start", type=datetime.fromisoformat, required=True)
    parser.add_argument("--origin", type=float, required=True)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--plant", choices=PLANTS, default="none")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Serve until a signal; 1 when a worker died."""
    asked = parsed(words)
    plant = PLANTS[asked.plant]()
    plant.patch(pytest.MonkeyPatch())
    wiring.EnerkeyClient = plant.client
    logs.configure(verbose=False)
    config = load(asked.config)
    store = open_store(config, command="run")
    clock = ScaledClock(asked.start, asked.scale, asked.origin)
    gateway = build(config, store, clock, SystemRandom())
    service = service_of(gateway, Notifier(), LONGEST_WAIT * asked.scale, asked.scale)
    _serve(gateway, service)
    if not service.at_work():
        store.close()
    return 1 if service.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
