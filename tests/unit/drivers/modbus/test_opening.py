"""How a socket to a gateway is opened, on loopback, and a serial port, on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import socket
import termios

from drivers.modbus.address import address_of
from drivers.modbus.connection import Connection
from drivers.modbus.opening import connected, mind_parity
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
