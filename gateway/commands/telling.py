"""How a person's word reaches the database: through the running service, or with its lock where none runs."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buffer.corrections import CorrectionError
from buffer.model import to_ms
from buffer.store import StoreError
from gateway.clock import SystemClock
from gateway.control import ask
from gateway.correcting import correct
from gateway.errors import DatabaseFailure, GatewayError, Unreachable
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
    except StoreError as error:
        raise _unknown(request, str(error)) from None
    finally:
        store.close()


def _by_service(held_by: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    answer = ask(Path(held_by.get("socket", "")), request)
    if answer is None:
        who = f"process {held_by.get('pid', '?')} holds the data but does not answer"
        raise Unreachable(f"{who}, and nobody knows whether it was recorded: {_look(request)}")
    if "refused" in answer:
        raise GatewayError(answer["refused"])
    if "failed" in answer:
        raise _unknown(request, answer["failed"])
    return answer


def _unknown(request: dict[str, Any], why: str) -> DatabaseFailure:
    """A commit that fails may be there all the same (R26); said twice, a person's word counts twice."""
    why = why.removeprefix("not stored: ")
    return DatabaseFailure(f"the disk failed ({why}), and nobody knows whether it was recorded: {_look(request)}")


def _look(request: dict[str, Any]) -> str:
    meter = request.get("correct", {}).get("meter")
    command = f"meter-gateway hours {meter}" if meter else "meter-gateway status"
    return f"look at `{command}` before you say it again"
