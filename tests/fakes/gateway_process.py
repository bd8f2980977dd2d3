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

READY_WITHIN = 20.0  # s


class GatewayProcess:
    """`meter-gateway run -c CONFIG`; its log goes to `log`, one file over all starts."""

    def __init__(
        self, config: Path, log: Path, *options: str, under: Sequence[str] = (), module: str = "gateway"
    ) -> None:
        """`under`: a tracer's command, which lets the process stay our child; `module`: what is run instead of the gateway."""
        self._config = config
        self._options = options
        self.under = under
        self._module = module
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until the service says READY=1."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, self.log.open("ab") as log:
            address = f"\0meter-gateway-test-{os.getpid()}-{id(self)}"
            notified.bind(address)
            notified.settimeout(READY_WITHIN)
            self._process = subprocess.Popen(
                [*self.under, sys.executable, "-m", self._module, "run", "-c", str(self._config), *self._options],
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": address.replace("\0", "@")},
            )
            try:
                while b"READY=1" not in notified.recv(4096):
                    pass
            except TimeoutError:
                raise AssertionError(f"the gateway did not get ready:\n{self.log.read_text()}") from None

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
        return self._process.wait(20)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
