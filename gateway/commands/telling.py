"""How a person's word reaches the database: through the running service, or with its lock where none runs."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buffer.corrections import CorrectionError
from buffer.model import to_ms
from gateway.clock import SystemClock
from gateway.control import ask
from gateway.correcting import correct
from gateway.errors import GatewayError, Unreachable
from gateway.report import holder_of
from gateway.wiring import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.store import Connection
    from gateway.config import Config


def author() -> str:
    """The person, also behind sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def tell(config: Config, asked: dict[str, Any], *, command: str) -> str:
    """Say something of a meter (`gateway.correcting`); what was done. GatewayError with the reason when it was refused."""

    def ourselves(db: Connection, now_ms: int) -> dict[str, Any]:
        return {"done": correct(db, asked, now_ms).done.text}

    answer = write(config, {"correct": asked}, ourselves, command=command)
    return str(answer["done"])


def write(
    config: Config, request: dict[str, Any], ourselves: Callable[[Connection, int], dict[str, Any]], *, command: str
) -> dict[str, Any]:
    """The running service's answer to a request; without a service `ourselves(db, now_ms)` in its place."""
    held_by = holder_of(config.gateway.data_dir)
    if held_by:
        return _by_service(held_by, request)
    store = open_store(config, command=command)
    try:
        return store.write(lambda db: ourselves(db, to_ms(SystemClock().now().wall)))
    except CorrectionError as error:
        raise GatewayError(str(error)) from None
    finally:
        store.close()


def _by_service(held_by: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    answer = ask(Path(held_by.get("socket", "")), request)
    if answer is None:
        raise Unreachable(f"process {held_by.get('pid', '?')} holds the data but does not answer; nothing was changed")
    if "refused" in answer:
        raise GatewayError(answer["refused"])
    return answer
