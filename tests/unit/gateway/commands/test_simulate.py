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
        (
            ("modbus", "--host", "192.0.2.1"),
            1,
            "cannot listen on 192.0.2.1 port 5020: Cannot assign requested address\n",
        ),
        (
            ("modbus", "--host", "127.0.0.1:5"),
            1,
            "cannot listen on 127.0.0.1:5 port 5020: it is no IPv4 address of this machine\n",
        ),
        (
            ("enerkey", "--host", "127.0.0.1:5"),
            1,
            "cannot listen on 127.0.0.1:5 port 8040: it is no IPv4 address of this machine\n",
        ),
        (("modbus", "--host", "::1"), 1, "cannot listen on ::1 port 5020: it is no IPv4 address of this machine\n"),
        (("modbus", "--host", "\x1b[31m"), 1, "cannot listen on \\x1b[31m port 5020"),
        (("enerkey", "--host", ""), 2, "--host: '' is no address"),
        (("modbus", "--host", ""), 2, "--host: '' is no address"),
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


@pytest.mark.parametrize("what", ["enerkey", "modbus", "mqtt"])
def test_the_help_of_each_part_fits_a_phone(meter_gateway: Callable[..., Done], what: str):
    """40 columns, as the help of each command."""
    done = meter_gateway("simulate", what, "--help", columns=40)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 40


NONSENSE = ("-3", "1.5x", "nan", "inf", "-inf", "1e999", "9" * 30, "9" * 5000, "x", "")
NUMBERS = {
    ("enerkey", "--port={}"): "0 to 65535",
    ("enerkey", "--meter={}"): "is no EnerKey id",
    ("enerkey", "--requests-per-day={}"): "must be a number from 1 to 10000000",
    ("enerkey", "--burst={}"): "must be a number from 1 to 10000000",
    ("enerkey", "--decimals={}"): "must be a number from 0 to 6",
    ("enerkey", "--lag={}"): "must be a number of seconds from 0 to 86400",
    ("enerkey", "--fault={}:lost-answer"): "a rate from 0 to 1",
    ("modbus", "--port={}"): "0 to 65535",
    ("modbus", "--devices={}"): "must be a number from 1 to 247",
    ("modbus", "--mute={}"): "must be a number from 1 to 247",
    ("modbus", "--baudrate={}"): "is none of 300, 600",
    ("modbus", "--fault=late={}"): "from 1 to 1000000",
    ("modbus", "--fault=late@{}"): "from 1 to 247",
    ("mqtt", "--every={}"): "must be a number of seconds from 0.1 to 3600",
    ("mqtt", "--url=mqtt://127.0.0.1:{}x"): "a port between 1 and 65535",
}


@pytest.mark.parametrize(("option", "words"), NUMBERS.items(), ids=str)
def test_a_number_that_is_none_is_told_from_what_is_allowed(
    meter_gateway: Callable[..., Done], option: tuple[str, str], words: str
):
    """Negative, fractions, no number, endless, too long: each is wrong usage in a sentence that fits a screen."""
    what, form = option
    for nonsense in NONSENSE:
        done = meter_gateway("simulate", what, form.format(nonsense))
        assert (done.code, done.out) == (2, ""), nonsense[:40]
        assert words in done.err, nonsense[:40]
        assert len(done.err) < 300, nonsense[:40]


@pytest.mark.parametrize("option", ["--meter=0", "--requests-per-day=0", "--burst=0", "--decimals=7", "--burst=1.5"])
def test_numbers_that_enerkey_cannot_have_are_refused(meter_gateway: Callable[..., Done], option: str):
    """No meter is 0, and a server that allows no request simulates nothing."""
    assert meter_gateway("simulate", "enerkey", option).code == 2


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (("0.6:lost-answer", "0.5:500-before"), "the rates of all --fault come to 1.1, more than 1"),
        (("0.1:lost-answer", "0.2:lost-answer"), "--fault lost-answer stands there twice"),
    ],
)
def test_faults_of_requests_that_do_not_go_together_are_refused(
    meter_gateway: Callable[..., Done], faults: tuple[str, str], words: str
):
    """A request fails in one way; what would be left over, or overruled, is said."""
    done = meter_gateway("simulate", "enerkey", *(f"--fault={fault}" for fault in faults))
    assert (done.code, done.out) == (2, "")
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
