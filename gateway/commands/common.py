"""What several commands share: types of arguments, and how those that run on are ended."""

from __future__ import annotations

import argparse
import signal
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from gateway.errors import GatewayError
from gateway.faults import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def port(text: str) -> int:
    """A TCP port; 0 stands for a free one."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be a number from 0 to 65535")
    return int(text)


def no_meter(name: str, known: Iterable[str], where: str) -> GatewayError:
    """The error for a meter's name that is not there: what was probably meant, and what there is."""
    names = sorted(known)
    meant = nearest(name, names)
    hint = f'; did you mean "{meant}"?' if meant else ""
    return GatewayError(f'no meter "{name}" in {where}{hint}; known: {", ".join(names) or "none yet"}')


@contextmanager
def until_interrupted() -> Iterator[Event]:
    """An event that Ctrl-C or SIGTERM sets."""
    interrupted = Event()
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
