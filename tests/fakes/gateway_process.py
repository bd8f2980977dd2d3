"""The gateway as its own process, as the service runs it: started, killed, stopped, and heard over sd_notify."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
RUN = ("gateway", "run")
MACHINE = "5" * 32  # of the box on which the tests' gateways run
READY_WITHIN = ENDS_WITHIN = 60.0  # s, on a machine that does other things too
ON_MACHINE = (
    "import pathlib, runpy; from gateway import machine; machine.MACHINE_ID = pathlib.Path({!r});"
    " runpy.run_module({!r}, run_name='__main__', alter_sys=True)"
)


TAIL = 5000  # characters of a log that are shown


class GatewayProcess:
    """`meter-gateway run -c CONFIG`, or another module that does the same; its log goes to `log`, one file over all starts.

    `machine`: the file with the machine's id; without it, the one of all tests, because a container may have none. `under`: a
    tracer's command, which lets the process stay our child.
    """

    def __init__(
        self,
        config: Path,
        log: Path,
        *options: str,
        module: Sequence[str] = RUN,
        machine: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._options = options
        self.under = under
        if machine is None:
            machine = log.with_name("machine-id")
            machine.write_text(f"{MACHINE}\n")
        name, *words = module
        self._program = ["-c", ON_MACHINE.format(str(machine), name), *words]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, patiently: bool = True) -> None:
        """Start and, `patiently`, wait until the service says READY=1."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, self.log.open("ab") as log:
            address = f"\0meter-gateway-test-{os.getpid()}-{id(self)}"
            notified.bind(address)
            notified.settimeout(READY_WITHIN)
            self._process = subprocess.Popen(
                [*self.under, sys.executable, *self._program, "-c", str(self._config), *self._options],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": address.replace("\0", "@")},
            )
            try:
                while patiently and b"READY=1" not in notified.recv(4096):
                    pass
            except TimeoutError:
                raise AssertionError(f"the gateway did not get ready:\n{self.log.read_text()[-TAIL:]}") from None

    def ended(self) -> int | None:
        """The exit code of one that has ended by itself, else None."""
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """SIGTERM, as systemd does, or another signal; the exit code."""
        assert self._process is not None
        self._process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        """Until it has ended by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(ENDS_WITHIN)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
