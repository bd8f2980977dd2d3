"""A private MQTT broker on loopback: mosquitto where it is installed, else amqtt inside this process (extra `demo`)."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal, Protocol

from gateway.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
SYSTEM_PROGRAMS = "/usr/local/sbin:/usr/sbin:/sbin"  # where Debian puts mosquitto; not on everybody's PATH
LISTENING_WITHIN = 30.0  # s, on a machine that does other things too
LOOK_EVERY = 0.05  # s between looks whether it listens
STOP_WITHIN = 30.0  # s, on a machine that does other things too
TRIES = 3  # a free port may be taken by somebody else before the broker binds it

Kind = Literal["auto", "mosquitto", "amqtt"]

# set_tcp_nodelay: without it a message waits up to 40 ms behind another one, in a demo half a minute
_MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 100000
log_dest stdout
log_type error
log_type warning
"""


class NoBroker(Exception):  # noqa: N818 - says what is missing
    """There is no broker to start, or it did not start."""


class Broker(Protocol):
    """A running broker."""

    name: str
    protocol: Literal["5", "3.1.1"]  # the newest MQTT version that it speaks
    port: int

    def stop(self) -> None:
        """End it. May be called twice."""
        ...


def start_broker(kind: Kind, directory: Path, port: int = 0) -> Broker:
    """Start one that takes anybody on this machine; port 0 takes a free one. Its files go to `directory`.

    Raises NoBroker.
    """
    program = find_mosquitto() if kind != "amqtt" else None
    if program is None and kind == "mosquitto":
        raise NoBroker(
            "there is no mosquitto on the PATH or in /usr/sbin: apt install mosquitto, or take another broker"
        )
    if program is None and find_spec("amqtt") is None:
        raise NoBroker(
            "there is no MQTT broker: apt install mosquitto, or pip install 'enerkey-meter-gateway[demo]' for amqtt"
        )
    for last in (port != 0 or number == TRIES for number in range(1, TRIES + 1)):
        try:
            chosen = _vacant(port)
            return Mosquitto(program, directory, chosen) if program else Amqtt(chosen)
        except NoBroker:
            if last:
                raise
    raise AssertionError("the last try returns or raises")


def find_mosquitto() -> str | None:
    """The program, also where only root's PATH leads."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=SYSTEM_PROGRAMS)


class Mosquitto:
    """A mosquitto process of our own."""

    name = "mosquitto"
    protocol: Literal["5", "3.1.1"] = "5"

    def __init__(self, program: str, directory: Path, port: int) -> None:
        """Start it and wait until it listens. Raises NoBroker."""
        self.port = port
        configuration, log = directory / "mosquitto.conf", directory / "mosquitto.log"
        configuration.write_text(_MOSQUITTO_CONF.format(port=port))
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the program found above, arguments of our own
                [*_ending_with_us(), program, "-c", str(configuration)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,  # Ctrl-C is for us: the broker ends last
            )  # fmt: skip
        if not _until(lambda: self._process.poll() is not None or _listens(port)) or self._process.poll() is not None:
            self.stop()
            said = log.read_text(errors="replace").strip().splitlines()
            raise NoBroker(f"mosquitto did not start on port {port}: {said[-1] if said else 'it said nothing'}")

    def stop(self) -> None:
        """End the process, at the latest by force."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Amqtt:
    """amqtt in a thread. It speaks MQTT 3.1.1 only, and never answers who asks for MQTT 5."""

    name = "amqtt"
    protocol: Literal["5", "3.1.1"] = "3.1.1"

    def __init__(self, port: int) -> None:
        """Start it and wait until it listens. Raises NoBroker."""
        self.port = port
        self._listening = Event()
        self._trouble = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        for chatty in ("amqtt", "transitions"):  # they call ordinary disconnects errors
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self._thread = Thread(target=self._run, name="amqtt", daemon=True)
        self._thread.start()
        if not self._listening.wait(LISTENING_WITHIN) or self._trouble:
            raise NoBroker(f"amqtt did not start on port {port}: {self._trouble or 'it does not listen'}")

    def stop(self) -> None:
        """Shut it down and end the thread."""
        if self._loop and self._over and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(STOP_WITHIN)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - the top of a thread: what ended it is told to who started it
            self._trouble = str(error)
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        from amqtt.broker import Broker as Embedded  # noqa: PLC0415 - an extra that need not be installed

        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        broker = Embedded(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._listening.set()
        await self._over.wait()
        await broker.shutdown()


def _ending_with_us() -> list[str]:
    """A prefix that lets a command end when this process does, even by SIGKILL: setpriv(1) of util-linux."""
    setpriv = shutil.which("setpriv")
    return (
        [setpriv, "--pdeathsig", "TERM", "--"] if setpriv and os.geteuid() else []
    )  # root's mosquitto changes its user


def _vacant(port: int) -> int:
    """The port if it is free, or a free one."""
    try:
        with socket.create_server((HOST, port)) as trial:
            return int(trial.getsockname()[1])
    except OSError as error:
        raise NoBroker(f"cannot listen on {HOST} port {port}: {error.strerror}") from None


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _until(true: Callable[[], bool]) -> bool:
    """Look until it is true; False when it did not become so in time."""
    clock = SystemClock()
    end = clock.now().boottime + LISTENING_WITHIN
    while not true():
        now = clock.now().boottime
        if now >= end:
            return False
        clock.wait(Event(), now + LOOK_EVERY)
    return True
