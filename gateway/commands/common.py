"""What several commands share: types of arguments, and how those that run on are ended."""

from __future__ import annotations

import argparse
import math
import signal
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from gateway import terminal
from gateway.faults import no_meter
from gateway.locate import find_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.config import Config

__all__ = ["checked", "configuration", "no_meter", "port", "seconds", "until_interrupted"]


def port(text: str) -> int:
    """A TCP port; 0 stands for a free one."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be a number from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A span in seconds, at most an hour."""
    try:
        span = float(text)
    except ValueError:
        span = math.nan
    if not 0 <= span <= 3600:  # false for nan, too
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0 to 3600")
    return span


def configuration(args: argparse.Namespace) -> Config:
    """The whole configuration, checked. Its warnings are left to `check` and to the log of `run`. Raises Misconfigured."""
    return checked(find_config(args.config))


def checked(path: Path) -> Config:
    """The configuration in a file, for a command that works with it. Raises Misconfigured."""
    from gateway.commands.check import check_installation  # noqa: PLC0415 - pydantic: what needs no configuration starts without it
    from gateway.config import load  # noqa: PLC0415

    check_installation()
    return load(path)


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
        if interrupted.is_set():
            terminal.after_interrupt()
