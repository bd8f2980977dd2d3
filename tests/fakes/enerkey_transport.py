"""The simulated EnerKey behind httpx without a socket: `EnerkeyClient(URL, contract, transport=transport(sim))`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from gateway.simulator.http import Request

if TYPE_CHECKING:
    from gateway.simulator.enerkey import EnerkeySimulator

URL = "http://localhost"


def transport(simulator: EnerkeySimulator) -> httpx.MockTransport:
    """Every request goes straight to `simulator.handle`; a hang-up is what httpx makes of a closed connection."""

    def handle(request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        response = simulator.handle(Request(request.method, request.url.raw_path.decode(), headers, request.read()))
        if response is None:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        return httpx.Response(response.status, headers=dict(response.headers), content=response.body)

    return httpx.MockTransport(handle)
