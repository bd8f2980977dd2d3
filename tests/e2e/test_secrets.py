"""A literal API key and an MQTT password in the configuration: they reach EnerKey and the broker, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.simulator.http import Request, Response, serve
from tests.fakes.command_line import command
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.mosquitto import mosquitto
from tests.fakes.site import KEY, PASSWORD, Site
from tests.waiting import until

LOOKS = (
    ("check",),
    ("status", "--json"),
    ("hours", "chiller", "--all"),
    ("push", "--dry-run"),
    ("push", "--dry-run", "--json"),
    ("read", "--wait", "0.3", "--verbose"),
)


class Enerkey(NamedTuple):
    """What is at the other end: `shown` are the keys it saw, `said` is what the gateway logs of it."""

    url: str
    said: str
    shown: list[str]


@contextmanager
def unreachable() -> Iterator[Enerkey]:
    """Nobody listens."""
    yield Enerkey("http://127.0.0.1:1", "EnerKey cannot be reached", [])


@contextmanager
def refusing() -> Iterator[Enerkey]:
    """A 401 that quotes the key, as a careless server does."""
    with listening("EnerKey refuses API key 1", lambda key: Response(401, body=f"{key} is not valid".encode())) as it:
        yield it


@contextmanager
def hanging_up() -> Iterator[Enerkey]:
    """The request is taken and never answered."""
    with listening("could not be read before it is sent", lambda _: None) as it:
        yield it


@contextmanager
def listening(said: str, answer: Callable[[str], Response | None]) -> Iterator[Enerkey]:
    """A server that answers what the key makes of it."""
    shown: list[str] = []

    def handle(request: Request) -> Response | None:
        shown.append(request.headers.get("authorization", ""))
        return answer(shown[-1])

    server = serve(handle)
    yield Enerkey(server.url, said, shown)
    server.stop()


def hall(site: Site) -> dict[str, str]:
    """How the connection to the broker is."""
    return json.loads(command("status", "--json", "-c", site.config).out)["connections"]["hall"]


def contents(directory: Path) -> dict[str, bytes]:
    """Of its files; one that gets its name only now (the outline is written beside itself first) is gone when it is read."""
    found: dict[str, bytes] = {}
    for each in directory.iterdir():
        if each.is_file():
            with suppress(FileNotFoundError):
                found[each.name] = each.read_bytes()
    return found


LET_IN, TURNED_AWAY = (), ("password_file /dev/null", "allow_anonymous false")


@pytest.mark.parametrize(
    ("other_end", "broker_lines"), [(unreachable, TURNED_AWAY), (refusing, LET_IN), (hanging_up, LET_IN)]
)
def test_no_command_no_log_and_no_file_shows_them(
    tmp_path: Path, other_end: Callable[[], contextmanager], broker_lines: tuple[str, ...]
) -> None:
    """Not in what any command prints, not in the most talkative log, not in data_dir, whatever the others answer."""
    with mosquitto(tmp_path, extra_lines=broker_lines) as broker, other_end() as enerkey:
        site = Site(tmp_path, enerkey=enerkey.url, broker=broker.url)
        site.make()
        site.close_hours("chiller", datetime(2026, 11, 1, tzinfo=UTC), 3)
        log = tmp_path / "run.log"
        with GatewayProcess(site.config, log, "--verbose") as gateway:
            until(lambda: enerkey.said in log.read_text(), log.read_text)
            wanted = "trouble" if broker_lines else "ok"
            until(lambda: hall(site)["state"] == wanted, lambda: str(hall(site)))
            said = [command(*words, "-c", site.config) for words in (*LOOKS, ("run",))]
            files = contents(site.data)
            assert gateway.stop() == 0
        said += [command(*words, "-c", site.config) for words in (LOOKS[1], LOOKS[-1])]
    files |= {f"{each.name}, afterwards": each.read_bytes() for each in site.data.iterdir()}
    places = {"log": log.read_text()} | {f"{n}: {done.code}": done.out + done.err for n, done in enumerate(said)}
    for secret in (KEY, PASSWORD):
        assert [where for where, text in places.items() if secret in text] == []
        assert [where for where, content in files.items() if secret.encode() in content] == []
    assert set(enerkey.shown) <= {KEY}
    assert enerkey.shown or other_end is unreachable, "where somebody listens, the key did go out"
