"""A server that does to a connection exactly what a script says: the wire's faults, one by one, on a real socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

Script = Callable[[socket.socket, Event], None]
"""What happens on one connection; the event is set when the test is over (for scripts that hang)."""


@contextmanager
def scripted(*scripts: Script) -> Iterator[str]:
    """The URL of a server that gives its n-th connection to the n-th script, one after the other."""
    over = Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for script in scripts:
                try:
                    channel, _ = listener.accept()
                except OSError:
                    return
                with channel:
                    channel.settimeout(60.0)
                    script(channel, over)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            try:
                listener.shutdown(socket.SHUT_RDWR)
            finally:
                thread.join(60.0)


def read_request(channel: socket.socket) -> bytes:
    """One whole request."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += channel.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += channel.recv(65536)
    return head + b"\r\n\r\n" + body


def reset(channel: socket.socket) -> None:
    """Close with RST instead of FIN (SO_LINGER with zero seconds, socket(7))."""
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    channel.close()


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """The bytes of a response; `length` lies about the body's."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
