"""A site and the command line in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli import run
from tests.fakes.command_line import OURS, Done
from tests.fakes.site import Site

MeterGateway = Callable[..., Done]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A gateway's configuration; nothing has run yet."""
    return Site(tmp_path)


@pytest.fixture
def meter_gateway(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MeterGateway]:
    """Run a command with the site's configuration; its exit code and what it printed."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METER_GATEWAY_CONFIG", str(site.config))
    handlers, level = logging.root.handlers[:], logging.root.level

    def command(*words: str, columns: int | None = None) -> Done:
        if columns:
            monkeypatch.setenv("COLUMNS", str(columns))
        code = run(words)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    yield command
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
