"""A real mosquitto of the test's own: on loopback, a free port, with a configuration and files in the test's directory.

    with mosquitto(tmp_path, persistence=True, extra_lines=["max_inflight_messages 5"]) as broker:
        broker.url; broker.port
        broker.stop(); broker.kill(); broker.start()    # the same port and, with persistence, the same sessions

The test is skipped with a sentence where mosquitto is not installed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.ports import lasting_port

HOST = "127.0.0.1"
SYSTEM_PROGRAMS = "/usr/local/sbin:/usr/sbin:/sbin"  # where Debian puts mosquitto; not on everybody's PATH
LISTENING_WITHIN = 60.0  # s
STOP_WITHIN = 60.0  # s; on a stop it saves what a test looks for afterwards
RUNNING = " running\n"  # the end of what it says when it listens
TRIES = 5  # a port that was free a moment ago may be somebody else's now
SKIPPED = "mosquitto is neither on the PATH nor in /usr/sbin: apt install mosquitto"

_CONFIGURATION = """\
user root
allow_anonymous true
log_dest stderr
log_type all
max_queued_messages 100000
persistence {persistence}
persistence_location {directory}/
autosave_on_changes true
autosave_interval 1
listener {port} 127.0.0.1
{extra}
"""
# `user root`: a broker started by root would become the user mosquitto, who may not write to the test's directory.
# `autosave_*`: a persistent broker survives `kill` with everything that happened before; Debian's saves every 30 min.
# `log_dest stderr`: what it writes to stdout stays in its buffer for a while.
# `max_queued_messages`: Debian's 1000 would drop what a test publishes while the gateway is away.


class Mosquitto:
    """The broker; `mosquitto()` makes one."""

    def __init__(self, program: str, directory: Path, *, persistence: bool, extra_lines: Sequence[str]) -> None:
        self._program = program
        self._directory = directory
        self._persistence = persistence
        self._extra = extra_lines
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """As a connection's `url`."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        """All that it has said since its first start."""
        return (self._directory / "mosquitto.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it listens; again on the same port after `stop` or `kill`."""
        for _ in range(TRIES):
            if self._started(self.port or lasting_port()):
                return
        raise AssertionError(f"mosquitto did not start:\n{self.log[-2000:]}")

    def stop(self) -> None:
        """SIGTERM: it says goodbye to its clients and saves."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self._end()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, like a power cut, when it has saved what it has answered: it answers first, and saves then."""
        if self._process is not None:
            if self._persistence:
                self.reload()  # in its loop this comes behind the saving
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reload(self) -> None:
        """SIGHUP: it reads its users and rights again, and has done so when this returns."""
        assert self._process is not None
        before = self.log.count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        until = time.monotonic() + STOP_WITHIN
        while self.log.count("Reloading config") == before and time.monotonic() < until:
            time.sleep(0.01)

    def _started(self, port: int) -> bool:
        configuration = self._directory / "mosquitto.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                persistence=str(self._persistence).lower(),
                directory=self._directory,
                port=port,
                extra="\n".join(self._extra),
            )
        )
        with (self._directory / "mosquitto.log").open("ab") as output:
            before = self.log.count(RUNNING)
            self._process = subprocess.Popen(
                [self._program, "-c", str(configuration)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        until = time.monotonic() + LISTENING_WITHIN
        while self._process.poll() is None and time.monotonic() < until:
            if (
                self.log.count(RUNNING) > before
            ):  # it says so itself: somebody else may listen on a port that was free a moment ago
                self.port = port
                return True
            time.sleep(0.01)
        self._end()
        return False


@contextmanager
def mosquitto(tmp_path: Path, *, persistence: bool = False, extra_lines: Sequence[str] = ()) -> Iterator[Mosquitto]:
    """A running broker that takes anybody; `extra_lines` go to the end of its configuration, below the listener."""
    program = find_mosquitto()
    if program is None:
        pytest.skip(SKIPPED)
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    broker = Mosquitto(program, directory, persistence=persistence, extra_lines=extra_lines)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def find_mosquitto() -> str | None:
    """The program, also where only root's PATH leads."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=SYSTEM_PROGRAMS)
