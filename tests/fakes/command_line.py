"""`meter-gateway` as a person or script runs it: a process of its own, piped or on a terminal, in a plain environment."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "gateway")
ENDS_WITHIN = 30.0  # s
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # prctl(2), capabilities(7)
OURS = ("METER_GATEWAY_CONFIG", "NO_COLOR", "COLUMNS", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "JOURNAL_STREAM")


class Done(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """The environment of the tests without what would change a command's behaviour, and with `changes`."""
    return {key: value for key, value in os.environ.items() if key not in OURS} | changes


def bound_by_permissions() -> None:
    """In a child before it starts: root too is bound by the permissions of files."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def interruptible() -> None:
    """In a child before it starts: Ctrl-C reaches it, also where the tests run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(*words: str | Path, **changes: str) -> Done:
    """Run to the end with pipes for output, bound by permissions; `changes` go to the environment."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True, text=True, timeout=ENDS_WITHIN, check=False, env=environment(**changes),
        stdin=subprocess.DEVNULL, preexec_fn=bound_by_permissions,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def on_terminal(*words: str | Path, columns: int = 80, **changes: str) -> Done:
    """Run to the end on a terminal that is `columns` wide, where stdout and stderr are one."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdin=slave, stdout=slave, stderr=slave, env=environment(**{"TERM": "xterm"} | changes),
    ) as process:  # fmt: skip
        os.close(slave)
        shown = bytearray()
        try:
            while piece := os.read(master, 65_536):
                shown += piece
        except OSError:  # EIO: the last one who had the terminal open is gone
            pass
        finally:
            os.close(master)
        return Done(process.wait(ENDS_WITHIN), shown.decode().replace("\r\n", "\n"), "")
