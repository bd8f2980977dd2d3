"""`meter-gateway` as a person or script runs it: a process of its own, piped or on a terminal, in a plain environment."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "gateway")
DEFAULT_SIGNALS = ("env", "--default-signal=INT")  # also where the tests run in the background and ignore Ctrl-C
INTERRUPTIBLE = (*DEFAULT_SIGNALS, *COMMAND)
ENDS_WITHIN = 60.0  # s
OURS = ("METER_GATEWAY_CONFIG", "NO_COLOR", "COLUMNS", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "JOURNAL_STREAM")


class Done(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """The environment of the tests without what would change a command's behaviour, and with `changes`."""
    return {key: value for key, value in os.environ.items() if key not in OURS} | changes


def command(*words: str | Path, **changes: str) -> Done:
    """Run to the end with pipes for output; `changes` go to the environment."""
    return _ended([*COMMAND, *map(str, words)], changes)


def command_bound_by_permissions(*words: str | Path) -> Done:
    """The same for an ordinary user: where the tests run as root, without root's power over permissions."""
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    return _ended([*powerless, *COMMAND, *map(str, words)], {})


def command_with_descriptors(most: int, *words: str | Path) -> Done:
    """The same as a process that may have so many open at a time."""
    return _ended(["prlimit", f"--nofile={most}", *COMMAND, *map(str, words)], {})


def _ended(argv: list[str], changes: dict[str, str]) -> Done:
    done = subprocess.run(
        argv,
        capture_output=True, text=True, timeout=ENDS_WITHIN, check=False, env=environment(**changes),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def on_terminal(
    *words: str | Path, columns: int = 80, typed: str = "", patience: Callable[[], None] | None = None, **changes: str
) -> Done:
    """Run to the end on a terminal that is `columns` wide, where stdout and stderr are one and a person has `typed`.

    Who has `patience` until it returns presses Ctrl-C then.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [*INTERRUPTIBLE, *map(str, words)],
        stdin=slave, stdout=slave, stderr=slave, env=environment(**{"TERM": "xterm"} | changes),
    ) as process:  # fmt: skip
        os.close(slave)
        os.write(master, typed.encode())
        if patience:
            Thread(target=_interrupt, args=(process, patience), daemon=True).start()
        shown = bytearray()
        try:
            while piece := os.read(master, 65_536):
                shown += piece
        except OSError:  # EIO: the last one who had the terminal open is gone
            pass
        finally:
            os.close(master)
        return Done(process.wait(ENDS_WITHIN), shown.decode().replace("\r\n", "\n"), "")


def _interrupt(process: subprocess.Popen[bytes], patience: Callable[[], None]) -> None:
    try:
        patience()
    finally:
        process.send_signal(signal.SIGINT)
