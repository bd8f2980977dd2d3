"""What several commands share: types of arguments, and how those that run on are ended."""

from __future__ import annotations

import argparse
import errno
import math
import os
import signal
from _thread import start_new_thread
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from gateway import terminal
from gateway.errors import GatewayError
from gateway.faults import cut, no_meter, visible
from gateway.locate import find_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.config import Config

__all__ = [
    "cannot_listen",
    "checked",
    "configuration",
    "enerkey_id",
    "fraction",
    "host",
    "no_meter",
    "plain",
    "port",
    "quoted",
    "seconds",
    "span",
    "until_interrupted",
    "whole",
]

SHOWN = 40  # characters of a word that cannot be meant
LARGEST_ID = 2**63 - 1
LONGEST_NUMBER = 20  # digits; int() takes no more than some thousand
LOOK_EVERY = 0.5  # s between looks whether a signal has come


def quoted(text: str) -> str:
    """A word of the command line as an error shows it."""
    return repr(cut(text, SHOWN))


def plain(text: str) -> str:
    """The text of a number, or "", which none of Python's types takes: they read 1_0, " 10" and other scripts' digits as 10."""
    return text if text.isascii() and "_" not in text and text == text.strip() else ""


def whole(least: int, most: int, of: str = "") -> Callable[[str], int]:
    """The type of a whole number, written in plain digits; `of` says what it counts."""

    def number(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER
        if not digits or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{quoted(text)} must be a number {of}from {least} to {most}")
        return int(text)

    return number


def fraction(least: float, most: float, of: str = "") -> Callable[[str], float]:
    """The type of a number that need not be whole."""

    def number(text: str) -> float:
        try:
            found = float(plain(text))
        except ValueError:
            found = math.nan
        if not least <= found <= most:  # false for nan, too
            raise argparse.ArgumentTypeError(f"{quoted(text)} must be a number {of}from {least:g} to {most:g}")
        return found

    return number


def span(least: float, most: float) -> Callable[[str], float]:
    """The type of a span in seconds."""
    return fraction(least, most, "of seconds ")


port = whole(0, 65_535)  # TCP; 0 stands for a free one
seconds = span(0, 3600)


def host(text: str) -> str:
    """An address to listen at; an empty one would be every address of the machine."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no address: write one of this machine, such as 127.0.0.1")
    return text


def cannot_listen(host: str, port: int, error: OSError) -> GatewayError:
    """What to say where a server does not start."""
    if (error.errno or 0) < 0:  # a number of getaddrinfo
        why = "it is no IPv4 address of this machine"
    else:
        why = os.strerror(error.errno or 0)
        why += "; try --port 0" if error.errno in {errno.EADDRINUSE, errno.EACCES} else ""
    return GatewayError(f"cannot listen on {visible(host)} port {port}: {why}")


def enerkey_id(text: str) -> int:
    """A meter's id in EnerKey."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER and 0 < int(text) <= LARGEST_ID):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no EnerKey id: it must be a whole number from 1 to {LARGEST_ID}"
        )
    return int(text)


def configuration(args: argparse.Namespace) -> Config:
    """The whole configuration, checked. Its warnings are left to `check` and to the log of `run`. Raises Misconfigured."""
    return checked(find_config(args.config))


def checked(path: Path) -> Config:
    """The configuration in a file, for a command that works with it. Raises Misconfigured."""
    from gateway.commands.check import check_installation  # noqa: PLC0415 - pydantic: what needs no configuration starts without it
    from gateway.config import load  # noqa: PLC0415

    check_installation()
    return load(path)


def set_by_signal(event: Event) -> None:
    """Set an event in a signal's handler, which runs in the main thread.

    That may be at the beginning of its wait for the event and have the lock that `set` takes: it would wait for itself
    for ever. So another thread sets it, without the locks that Thread takes.
    """
    try:
        start_new_thread(event.set, ())
    except RuntimeError:  # the process may have no thread more: mostly nobody has the lock
        event.set()


def wait_for(interrupted: Event) -> None:
    """Wait for a signal, and look now and then.

    The system may hand it to any thread, as after Ctrl-Z and fg; its handler runs in the main thread, which a wait
    without an end does not wake.
    """
    while not interrupted.wait(LOOK_EVERY):
        pass


@contextmanager
def until_interrupted() -> Iterator[Event]:
    """An event that Ctrl-C or SIGTERM sets."""
    interrupted = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: set_by_signal(interrupted)) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if interrupted.is_set():
            terminal.after_interrupt()
