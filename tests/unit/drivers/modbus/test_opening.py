"""How a socket to a gateway is opened, on loopback."""

from __future__ import annotations

import socket

from drivers.modbus.address import address_of
from drivers.modbus.connection import Connection
from drivers.modbus.opening import connected
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
