"""`simulate modbus` and `simulate mqtt` where they do not begin to serve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gateway.simulator.faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.command_line import Done


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("modbus", "--devices", "248"), 2, "1 to 247"),
        (("modbus", "--host", "192.0.2.1"), 1, "cannot listen on 192.0.2.1"),
        (("modbus", "--serial", "--port", "0"), 2, "--port is of use only without --serial"),
        (("modbus", "--serial", "--missing", "0x04"), 2, "--missing is of use only without --serial"),
        (("modbus", "--ascii"), 2, "--ascii is of use only with --serial"),
        (("modbus", "--baudrate", "9600"), 2, "--baudrate is of use only with --serial"),
        (("modbus", "--mute", "6"), 2, "--mute 6: the meters have ids 1 to 5"),
        (("modbus", "--serial", "--baudrate", "9601"), 2, "is none of 300, 600, 1200"),
        (("modbus", "--serial", "--rtu-over-tcp"), 2, "not allowed with"),
        (("modbus", "--fault", "latte"), 2, '(did you mean "late"?)'),
        (("modbus", "--fault", "late=0"), 2, "1 to 1000000"),
        (("modbus", "--fault", "late@6"), 2, "ids 1 to 5"),
        (("modbus", "--serial", "--fault", "reset"), 2, "it needs TCP, so no --serial"),
        (("modbus", "--fault", "two-masters"), 2, "it needs a bus: --rtu-over-tcp or --serial"),
        (("modbus", "--serial", "--ascii", "--fault", "unbiased"), 2, "it needs RTU frames"),
        (("modbus", "--rtu-over-tcp", "--fault", "zero-transaction"), 2, "it needs Modbus TCP"),
        (("mqtt", "--url", "mqtt://127.0.0.1:1"), 1, "--broker starts one"),
        (("mqtt", "--url", "http://x"), 2, "mqtt://host:1883"),
        (("mqtt", "--url", "mqtts://127.0.0.1"), 2, "plain mqtt://"),
        (("mqtt", "--url", "mqtt://192.0.2.1", "--broker"), 2, "127.0.0.1 only"),
        (("mqtt", "--every", "0"), 2, "0.1 to 3600"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    meter_gateway: Callable[..., Done], arguments: tuple[str, ...], code: int, words: str
):
    """Where, which value, and what is allowed."""
    done = meter_gateway("simulate", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err


def test_the_kinds_of_faults_are_a_table_of_80_columns(meter_gateway: Callable[..., Done]):
    """Each with a line; as JSON with the lines of transport it can happen on."""
    lines = meter_gateway("simulate", "modbus", "--list-faults", columns=80).out.splitlines()
    assert len(lines) == 1 + len(KINDS)
    assert max(map(len, lines)) <= 80
    told = meter_gateway("simulate", "modbus", "--list-faults", "--json").out
    kinds = [json.loads(line) for line in told.splitlines()]
    assert [kind["fault"] for kind in kinds] == list(KINDS)
    assert next(kind for kind in kinds if kind["fault"] == "reset")["on"] == ["rtu+tcp", "tcp"]
