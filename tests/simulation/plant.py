"""Where a test may put a bug into the gateway of a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.enerkey.client import EnerkeyClient

if TYPE_CHECKING:
    from tests.simulation.world import World


class Plant:
    """A bug that a test puts in; this one is none."""

    name = "none"
    kind = "swarm"  # of scenario in which it shows
    seeds: tuple[int, ...] = ()  # in which it shows, where it does so rarely
    client: type[EnerkeyClient] = EnerkeyClient
    rules: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    def patch(self, monkeypatch: Any) -> None:
        """Change the product for as long as the test lasts."""

    def deliver(self, world: World) -> Callable[..., None]:
        """The `deliver` of one process."""
        return world.gateway.deliver

    def files(self, world: World) -> Path:
        """What a crash leaves on the disk."""
        return world.image()

    def started(self, world: World) -> None:
        """A process has started."""

    def at_rest(self, world: World) -> None:
        """Every source has said all."""
