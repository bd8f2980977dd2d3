"""Simulated MQTT devices: each says what it measures in its own way, at QoS 1, over a real connection (paho-mqtt)."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from heapq import heapify, heapreplace
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from buffer.model import EPOCH, to_ms
from gateway.simulator.world import digits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from drivers.base import Clock
    from gateway.simulator.world import Load

KEEPALIVE = 60  # s, real
STOP_WITHIN = 30.0  # s, on a machine that does other things too

Voice = Literal["counter", "number", "interval", "power"]
"""How a device speaks.

    counter   {"total": 123.456, "time": "2026-03-02T10:00:00.000Z"}      its register and its own time
    number    123.456                                                     its register, bare; it has no clock
    interval  {"energy_wh": 1234, "until": "2026-03-02T10:15:00.000Z"}    the energy of the period that ended then
    power     {"power_w": 1234.5, "ts": 1772445600000}                    its load at that instant
"""


class MqttDevice(NamedTuple):
    """A device: what it measures, how it speaks, and when: every so often, so long after the even times."""

    topic: str
    voice: Voice
    load: Load
    every: timedelta
    after: timedelta = timedelta(0)

    def payload(self, due: datetime, now: datetime) -> str:
        """What it publishes of the instant `due`; a device without a clock speaks of the moment at which it does."""
        stamp = due.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        match self.voice:
            case "counter":
                return f'{{"total": {digits(self.load.register(due), 3)}, "time": "{stamp}"}}'
            case "number":
                return digits(self.load.register(now), 3)
            case "interval":
                return json.dumps(
                    {"energy_wh": self._watt_hours(due) - self._watt_hours(due - self.every), "until": stamp}
                )
            case "power":
                return f'{{"power_w": {digits(self.load.rate(due) * 1000, 1)}, "ts": {to_ms(due)}}}'

    def next_after(self, at: datetime) -> datetime:
        """The first instant later than `at` at which it speaks."""
        since = EPOCH + self.after
        return since + ((at - since) // self.every + 1) * self.every

    def _watt_hours(self, at: datetime) -> int:
        """Its counter in full watt-hours: periods that follow each other lose nothing to rounding."""
        return self.load.register(at) // 1000


def _send_at_once(_client: Client, _userdata: object, channel: object) -> None:
    """Nagle's algorithm keeps the second of two messages back for 40 ms, in a demo half a minute: an hour was off by 1.3 %."""
    if isinstance(channel, socket.socket):
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


Heard = Callable[[str, str], None]
"""Told of each message: topic and payload. Called in the devices' thread."""


class MqttDevices:
    """All devices over one connection, in a thread of their own."""

    def __init__(
        self,
        devices: Sequence[MqttDevice],
        clock: Clock,
        host: str,
        port: int,
        *,
        twice: tuple[float, Random] | None = None,
    ) -> None:
        """Connect at once and begin. OSError when the broker cannot be reached.

        `twice`: the share of messages with a time of their own that are published two times, and what decides which.
        """
        self._devices = devices
        self._clock = clock
        self._twice = twice
        self.on_publish: Heard | None = None
        self._stop = Event()
        self.published = 0
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.on_socket_open = _send_at_once
        self._client.connect(host, port, KEEPALIVE)
        self._client.loop_start()
        self._thread = Thread(target=self._run, name="mqtt-devices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fall silent and disconnect. May be called twice."""
        self._stop.set()
        self._thread.join(STOP_WITHIN)
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        began = self._clock.now().wall
        due = [(device.next_after(began), number) for number, device in enumerate(self._devices)]
        heapify(due)
        while due:
            at, number = due[0]
            now = self._clock.now()
            if self._clock.wait(self._stop, now.boottime + (at - now.wall).total_seconds()):
                return
            self._publish(self._devices[number], at)
            heapreplace(due, (self._devices[number].next_after(at), number))

    def _publish(self, device: MqttDevice, at: datetime) -> None:
        payload = device.payload(at, self._clock.now().wall)
        for _ in range(self._times(device)):
            self._client.publish(device.topic, payload, qos=1)
            self.published += 1
        if self.on_publish:
            self.on_publish(device.topic, payload)

    def _times(self, device: MqttDevice) -> int:
        if self._twice is None or device.voice == "number":
            return 1
        share, random = self._twice
        return 2 if random.random() < share else 1
