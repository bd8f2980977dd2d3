"""The MQTT wire over paho-mqtt, which nothing else imports.

paho's network thread only puts messages into the inbox and happenings into a queue, and wakes the owner. Every
connection is a client of its own with a number, its *epoch*: no acknowledgement reaches another connection than its
message's. MQTT 5.0, sections 3.1.2.11 (session expiry, receive maximum), 3.8.3.1 (retain handling), 4.4 (redelivery).
"""

from __future__ import annotations

import logging
import ssl
from collections import deque
from struct import Struct
from threading import Event as Flag
from threading import Timer
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from drivers.mqtt.config import Connection, address_of
from drivers.mqtt.inbox import Inbox
from drivers.mqtt.payload import LONGEST
from drivers.mqtt.port import Connected, Ended, Happening, Message, Subscribed
from drivers.mqtt.reasons import (
    KEEPALIVE_TIMEOUT,
    Reason,
    of_ca_file,
    of_certificate,
    of_code,
    of_dead_line,
    of_early_close,
    of_error,
    of_silence,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from drivers.base import Clock

log = logging.getLogger(__name__)

CONNECT_WITHIN = 5.0  # s for TCP and again for TLS, real time like everything in this file
ANSWER_WITHIN = 3.0  # s from CONNECT to CONNACK while another version may be tried; amqtt 0.12 never answers MQTT 5
ANSWER_WITHIN_AT_LAST = 10.0  # s where there is no other version to try
CLOSE_WITHIN = 2.0  # s for a clean DISCONNECT
LARGEST_PACKET = 1024 * 1024  # bytes; a larger one would only fill the memory, and come again after the crash
READ_AHEAD = 16 * 1024  # bytes from the socket at a time; as much as a TLS record holds
PUBACK = Struct("!BBH")  # MQTT 5.0, section 3.4: without a reason it means success
FILTERS_PER_PACKET = 8  # some brokers allow no more in one SUBSCRIBE


class PahoSession:
    """A session over paho-mqtt."""

    def __init__(self, connection: Connection, client_id: str, clock: Clock, largest: int = LONGEST) -> None:
        """Touches nothing yet. `connection.password` is the secret itself; of a payload `largest` bytes and one more are kept."""
        self._connection = connection
        self._client_id = client_id
        self._clock = clock
        self._largest = largest
        self.wake = Flag()
        self._inbox = Inbox(2 * connection.receive_maximum + 1000)  # mosquitto 2.0.11 exceeds the receive maximum
        self._attempt: _Attempt | None = None
        self._epoch = 0

    def open(self, protocol: str, filters: Sequence[str], stale: Sequence[str]) -> None:
        """As the port says."""
        self.shut()
        self._epoch += 1
        self._attempt = _Attempt(
            self._epoch, protocol, self._connection, self._clock, self._inbox, self.wake, largest=self._largest
        )
        self._attempt.start(self._client_id, filters, stale)

    def happenings(self) -> list[Happening]:
        """As the port says."""
        queue = self._attempt.happenings if self._attempt else deque()
        return [queue.popleft() for _ in range(len(queue))]

    def take(self, most: int) -> list[Message]:
        """As the port says."""
        return self._inbox.take(most)

    def acknowledge(self, messages: Sequence[Message]) -> int:
        """As the port says."""
        attempt = self._attempt
        ours = [each for each in messages if attempt and each.qos and each.epoch == attempt.epoch]
        return len(ours) if attempt and ours and attempt.acknowledge(ours) else 0

    def publish(self, topic: str, payload: bytes) -> bool:
        """As the port says."""
        return self._attempt is not None and self._attempt.publish(topic, payload)

    def shut(self) -> None:
        """As the port says."""
        if self._attempt:
            self._attempt.abandon()
            self._attempt = None

    def close(self) -> None:
        """As the port says."""
        attempt = self._attempt
        self.shut()
        if attempt and not attempt.ended.wait(CLOSE_WITHIN):
            log.info("the connection to the broker did not end within %g s and is left behind", CLOSE_WITHIN)

    def dropped(self) -> int:
        """As the port says."""
        return self._inbox.dropped


class _TlsSocket(ssl.SSLSocket):
    """A socket that does not stay open behind a handshake that failed: paho forgets it."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        try:
            super().do_handshake(block)
        except Exception:
            self.close()
            raise


class _Client(Client):
    """paho's client, whose network thread reports its end: no traceback, no reconnecting of its own.

    And in fewer system calls, at each of which the other threads take the interpreter away: paho asks for every packet
    with `select` and three `recv`, and sends every acknowledgement alone. What is overridden here is not public, so the
    release is pinned; paho 2.2.
    """

    attempt: _Attempt
    _ahead = b""  # read from the socket, and not taken from here yet
    _taken = 0  # bytes of it

    def acknowledge(self, messages: Sequence[Message]) -> bool:
        """A PUBACK for each, in one packet to send; False when the connection has ended."""
        packets = b"".join(PUBACK.pack(PacketTypes.PUBACK << 4, 2, message.mid) for message in messages)
        return self._packet_queue(PacketTypes.PUBACK << 4, packets, 0, 1) == MQTTErrorCode.MQTT_ERR_SUCCESS

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle what was read ahead, but no more than there is room for: keepalives must go on."""
        while True:
            code = super().loop_read(max_packets)
            if code or self._taken >= len(self._ahead) or self.attempt.is_held_up():
                return code

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        if self._taken < len(self._ahead):  # `select` does not know of it
            timeout = 0.0
            if code := self.loop_read():
                return code
        return super()._loop(timeout)

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._taken >= len(self._ahead):
            try:
                self._ahead, self._taken = super()._sock_recv(READ_AHEAD), 0
            except ssl.SSLError as error:  # paho would only say that the connection is lost
                self.attempt.broke(error)
                raise
        taken = self._ahead[self._taken : self._taken + bufsize]
        self._taken += len(taken)
        return taken

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:  # noqa: ARG002, FBT001, FBT002 - paho's signature
        """The network thread, from connecting to the end of the connection."""
        error: Exception | None = None
        try:
            return super().loop_forever(timeout)
        except Exception as failure:  # noqa: BLE001 - the top of a foreign thread: what ends it must reach the supervisor
            error = failure
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.attempt.finished(error)
            error = None  # its traceback holds this frame: together they would keep the client's sockets open


class _Attempt:
    """One connection, from CONNECT to its end. The callbacks run in paho's network thread."""

    def __init__(  # noqa: PLR0913 - what a session hands to each of its connections
        self,
        epoch: int,
        protocol: str,
        connection: Connection,
        clock: Clock,
        inbox: Inbox,
        wake: Flag,
        *,
        largest: int,
    ) -> None:
        self.epoch = epoch
        self._largest = largest
        self.happenings: deque[Happening] = deque()
        self.ended = Flag()
        self._protocol = protocol
        self._connection = connection
        self._address = address_of(connection.url)
        self._clock = clock
        self._inbox = inbox
        self._wake = wake
        self._client: _Client | None = None
        self._abandoned = False
        self._answered = False
        self._end: Reason | None = None
        self._filters: Sequence[str] = ()
        self._stale: Sequence[str] = ()
        self._asked: dict[int, Sequence[str]] = {}
        self._refused: dict[str, str] = {}
        self._silence = Timer(self._patience(), self._fell_silent)
        self._silence.daemon = True

    def start(self, client_id: str, filters: Sequence[str], stale: Sequence[str]) -> None:
        """Begin; the outcome is a happening."""
        self._filters, self._stale = filters, stale
        try:
            client = self._client = self._made(client_id)
            host, port, _ = self._address
            client.connect_async(host, port, round(self._connection.keepalive), **self._persistence())
        except (OSError, ValueError) as error:
            self.finished(error)
        else:
            client.loop_start()

    def acknowledge(self, messages: Sequence[Message]) -> bool:
        """Send their PUBACKs; False when the connection has ended."""
        client = self._client  # once: the network thread lets it go at its end
        return client is not None and client.acknowledge(messages)

    def broke(self, error: ssl.SSLError) -> None:
        """Why the connection is about to end: with TLS 1.3 a broker refuses our certificate only after the handshake."""
        if not self._answered:
            self._end = of_error(error, self._address.host, self._address.port)

    def is_held_up(self) -> bool:
        """Whether the owner is behind."""
        return self._inbox.is_full()

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send at QoS 0; False when the connection has ended."""
        client = self._client
        return client is not None and client.publish(topic, payload, qos=0).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def abandon(self) -> None:
        """Disconnect and say no more. A connection that only comes to be after this ends in `_on_connect`."""
        self._abandoned = True
        if client := self._client:
            client.disconnect()

    def finished(self, error: Exception | None) -> None:
        """The network thread is at its end; what it held is let go."""
        self._silence.cancel()
        client, self._client = self._client, None
        if client:
            client.on_connect = client.on_subscribe = client.on_message = None
            client.on_disconnect = client.on_socket_open = None
            if open_socket := client.socket():
                open_socket.close()
        self.ended.set()
        self._happened(Ended(self._reason(error)))

    def _reason(self, error: Exception | None) -> Reason:
        if self._end:
            return self._end
        if error and not isinstance(error, OSError):
            log.error("the MQTT network thread failed", exc_info=error)
        if error:
            return of_error(error, self._address.host, self._address.port)
        if not self._answered:
            return of_early_close(self._protocol, tls=self._address.tls)
        return Reason("line", "the broker closed it, or the network failed")

    def _made(self, client_id: str) -> _Client:
        persistent = self._connection.session_expiry > 0
        five = self._protocol == "5"
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if five else not persistent,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.attempt = self
        client.connect_timeout = CONNECT_WITHIN
        client.on_socket_open = lambda *_: self._silence.start()
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message, client.on_disconnect = self._on_message, self._on_disconnect
        if self._connection.username:
            client.username_pw_set(self._connection.username, self._connection.password)
        if self._address.tls:
            client.tls_set_context(self._trusting())
        return client

    def _trusting(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._connection.ca_file)
        except OSError as error:
            self._end = of_ca_file(self._connection.ca_file or "the system's certificates", error)
            raise
        if certificate := self._connection.cert_file:
            key = self._connection.key_file
            try:
                context.load_cert_chain(certificate, key, password="")  # else OpenSSL asks at the terminal
            except OSError as error:
                self._end = of_certificate(certificate, key, error)
                raise
        context.sslsocket_class = _TlsSocket
        return context

    def _persistence(self) -> dict[str, Any]:
        if self._protocol != "5":
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's __init__ has no types
        properties.SessionExpiryInterval = round(self._connection.session_expiry)
        properties.ReceiveMaximum = self._connection.receive_maximum
        properties.MaximumPacketSize = LARGEST_PACKET
        return {"clean_start": self._connection.session_expiry == 0, "properties": properties}

    def _patience(self) -> float:
        return ANSWER_WITHIN if self._connection.protocol == "auto" else ANSWER_WITHIN_AT_LAST

    def _happened(self, happening: Happening) -> None:
        if not self._abandoned:
            self.happenings.append(happening)
            self._wake.set()

    def _fell_silent(self) -> None:
        client = self._client
        if client and not self._answered:
            self._end = of_silence(self._protocol, self._patience())
            client.disconnect()

    def _on_connect(
        self, client: Client, _: object, flags: ConnectFlags, code: ReasonCode, __: Properties | None
    ) -> None:
        self._silence.cancel()
        self._answered = True
        if self._abandoned:
            client.disconnect()
        elif code.is_failure:
            self._end = of_code(code.value, str(code))
        else:
            self._happened(Connected(flags.session_present))
            self._subscribe(client)

    def _subscribe(self, client: Client) -> None:
        if self._stale:
            client.unsubscribe(list(self._stale))
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        for first in range(0, len(self._filters), FILTERS_PER_PACKET):
            some = self._filters[first : first + FILTERS_PER_PACKET]
            wanted: list[Any] = [(each, options if self._protocol == "5" else 1) for each in some]
            _, mid = client.subscribe(wanted)
            if mid is not None:
                self._asked[mid] = some

    def _on_subscribe(self, _: Client, __: object, mid: int, codes: list[ReasonCode], ___: Properties | None) -> None:
        answered = zip(self._asked.pop(mid, ()), codes, strict=False)
        self._refused |= {each: str(code) for each, code in answered if code.is_failure}
        if not self._asked:
            self._happened(Subscribed(self._clock.now().boottime, self._refused))

    def _on_message(self, _: Client, __: object, message: MQTTMessage) -> None:
        if self._abandoned:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        payload, arrived = bytes(message.payload[: self._largest + 1]), self._clock.now()
        self._inbox.put(Message(self.epoch, message.mid, message.qos, topic, payload, message.retain, arrived))
        self._wake.set()

    def _on_disconnect(
        self, _: Client, __: object, flags: DisconnectFlags, code: ReasonCode, ___: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end = of_code(code.value, str(code))
        elif code.value == KEEPALIVE_TIMEOUT and self._answered:
            self._end = of_dead_line(self._connection.keepalive)
