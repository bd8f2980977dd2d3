"""The real process with two accounts, over real sockets: one whose server never answers, one that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from buffer.model import EPOCH
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.simulator.http import Request, Response, serve
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.site import KEY, Site
from tests.waiting import SOON, until

FIRST = datetime(2026, 3, 1, 22, tzinfo=UTC)
HOURS = range((FIRST - EPOCH).days * 24 + 22, (FIRST - EPOCH).days * 24 + 25)
NORTH = "canary-key-north"
ACCOUNT = f'[enerkey.accounts.north]\napi_keys = ["{NORTH}"]\n[connections.main]'


class Split:
    """An EnerKey that hangs on every request with the key of the account north until it is `released`."""

    def __init__(self) -> None:
        self.simulator = EnerkeySimulator(now=lambda: datetime.now(UTC), keys=[KEY, NORTH])
        self.hanging, self.released = Event(), Event()
        self.server = serve(self.handle)

    def handle(self, request: Request) -> Response | None:
        if request.headers["authorization"] == NORTH and not self.released.is_set():
            self.hanging.set()
            self.released.wait(4 * SOON)
        return self.simulator.handle(request)


@pytest.fixture
def enerkey() -> Iterator[Split]:
    """On loopback; nobody is left waiting at the end."""
    split = Split()
    yield split
    split.released.set()
    split.server.stop()


def test_while_one_accounts_server_hangs_the_other_account_delivers(tmp_path: Path, enerkey: Split) -> None:
    """R23: by threads of their own. When the server answers again the first account's hours are there, once."""
    site = Site(tmp_path, enerkey=enerkey.server.url)
    text = site.config.read_text().replace("[connections.main]", ACCOUNT)
    site.config.write_text(text.replace('name = "chiller"', 'name = "chiller"\naccount = "north"'))
    site.make()
    site.close_hours("chiller", FIRST, 3)
    site.close_hours("main-electricity", FIRST, 3)
    with GatewayProcess(site.config, tmp_path / "log") as gateway:
        until(enerkey.hanging.is_set)
        until(lambda: len(enerkey.simulator.hourly(10001)) == 3)
        assert enerkey.simulator.hourly(10002) == {}
        enerkey.released.set()
        until(lambda: len(enerkey.simulator.hourly(10002)) == 3)
        assert gateway.stop() == 0
    for number in (10001, 10002):
        assert enerkey.simulator.hourly(number) == dict.fromkeys(HOURS, 500_000)
    log = (tmp_path / "log").read_text()
    assert NORTH not in log
    assert KEY not in log
