"""How a socket to a gateway is opened, on loopback, and a serial port, on a pseudo-terminal; and why one could not be."""

from __future__ import annotations

import os
import pty
import socket
import ssl
import termios

import pytest

from drivers.base import LineError
from drivers.modbus.address import address_of
from drivers.modbus.connection import Connection
from drivers.modbus.opening import connected, explained, mind_parity
from tests.fakes.modbus_server import HOST


def test_the_system_looks_after_a_connection_that_rests_between_two_polls():
    """Else a router forgets it within the hour, and the poll of the hour's edge finds nobody."""
    with socket.create_server((HOST, 0)) as server:
        url = f"tcp://{HOST}:{server.getsockname()[1]}"
        with connected(Connection(driver="modbus", url=url), address_of(url)) as opened:
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            first = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            later = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            times = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    assert first + later * times <= 300


def test_a_character_with_a_wrong_parity_is_none_of_the_frames():
    """The system hands on a NUL instead; a pseudo-terminal has no parity, but keeps what it was told to do about it."""
    ours, theirs = pty.openpty()
    try:
        mind_parity(ours)
        flags = termios.tcgetattr(ours)[0]
    finally:
        os.close(ours)
        os.close(theirs)
    assert flags & termios.INPCK
    assert not flags & (termios.IGNPAR | termios.PARMRK)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "what answers there is no TLS; without"),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"), "nobody answered the TLS handshake; without"),
        (ssl.SSLError(1, "[SSL: HANDSHAKE_FAILURE] sslv3 alert handshake failure"), "sslv3 alert handshake failure"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    ],
)
def test_who_speaks_no_tls_is_told_apart_from_who_refuses_it(error: OSError, said: str):
    """tcp:// is what helps where nobody speaks it."""
    found = explained(error, address_of("tls://192.0.2.1"))
    assert isinstance(found, LineError)
    assert str(found).startswith("192.0.2.1:802: ")
    assert said in str(found)
    assert ("tcp://" in str(found)) == ("TLS" in said)
