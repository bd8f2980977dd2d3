"""EnerKey that refuses some hours: HTTP 400 with its words for a message that names one of them.

As a handler for `SmallGateway(handler=...)`. What becomes of the message's other hours, nobody has told us: `whole`
applies nothing, else everything but the refused ones is applied.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import httpx

from gateway.enerkey.models import parse_stamp, stamp
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.enerkey_transport import transport

WORDS = "value out of range"


class PickyEnerkey:
    """`bad`: stamps (of consumptions: the hour's beginning; of readings: the boundary) of `meter` that are refused."""

    def __init__(self, simulator: EnerkeySimulator, bad: Collection[str], meter: int, *, whole: bool = True) -> None:
        self.bad, self.meter, self.whole = set(bad), meter, whole
        self.sizes: list[int] = []  # of the messages of that meter
        self.reads = 0
        self._serve = transport(simulator).handler

    def __call__(self, request: httpx.Request) -> httpx.Response:
        mine = f"meterId={self.meter}" in str(request.url)
        if request.method == "GET":
            self.reads += mine
            return self._serve(request)
        items = json.loads(request.read())
        if mine:
            self.sizes.append(len(items))
        good = [item for item in items if not mine or _utc(item["timestamp"]) not in self.bad]
        if len(good) == len(items):
            return self._serve(request)
        if good and not self.whole:
            self._serve(httpx.Request("POST", request.url, headers=request.headers, content=json.dumps(good)))
        return httpx.Response(400, text=WORDS)


def _utc(text: str) -> str:
    return stamp(parse_stamp(text))
