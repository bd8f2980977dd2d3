"""`read URL` of a Modbus device: registers in every order, or a profile, without any configuration."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.modbus.decode import Encoding, encode
from gateway.commands import lines
from tests.fakes.command_line import INTERRUPTIBLE, command_bound_by_permissions, environment
from tests.fakes.modbus_server import ModbusServer, modbus_server
from tests.fakes.serial_line import serial_line
from tests.fakes.site import Site

KWH = encode(12_345.5, Encoding("f32"))
EM340 = {52: 0x4EA9, 53: 0x00AC, 40: 25, 41: 0}
WORDS = {7: {10: KWH[0], 11: KWH[1], 16: 0xFFFF, 17: 0xFFFF, 20: 0, 21: 0} | EM340, 8: {0: 258}, 9: {}}

PATIENTLY = ("--timeout", "30")  # s: a busy machine is no silent device

GOLDEN = """\
device 7, holding 10: 2 registers in N ms
register  hex   decimal
      10  4640    17984
      11  E600    58880

type        ABCD        CDAB        BADC      DCBA
u16        17984                   16454
s16        17984                   16454
u32   1178658304  3858777664  1078329574  15089734
s32   1178658304  -436189632  1078329574  15089734
f32    * 12345.5   -1.51e+23    3.093805  2.11e-38
* looks like a meter's: compare with its display; read --watch shows what counts
"""


@pytest.fixture
def server() -> Iterator[ModbusServer]:
    """Device 7 with a float, marks, zeros and two registers of an EM340; device 8 with one register; 9 says nothing."""
    with modbus_server(WORDS) as running:
        running.mute.add(9)
        yield running


@pytest.fixture
def unconfigured(site: Site) -> None:
    """Nothing is configured on this machine."""
    site.config.unlink()


@pytest.fixture
def read(server: ModbusServer, unconfigured, meter_gateway):
    """`read` at the server's URL."""
    return lambda *words, **how: meter_gateway("read", server.url, *PATIENTLY, *words, **how)


# --- registers --------------------------------------------------------------------------------------------------------


def test_registers_in_every_order_at_80_columns(read):
    """Raw words in hex and decimal; each width that fits in four orders; what looks like a meter's is marked."""
    done = read("--device", "7", "--register", "10", "--count", "2", columns=80)
    assert (done.code, done.err) == (0, "")
    assert re.sub(r"in \d+ ms", "in N ms", done.out) == GOLDEN
    assert max(map(len, done.out.splitlines())) <= 80


def test_fewer_registers_are_read_where_there_are_no_four(read):
    """Without --count as many as every type needs, or what the device has."""
    assert read("--device", "7", "--register", "0xA").out.startswith("device 7, holding 10: 2 registers")
    assert read("--device", "8", "--register", "0").out.startswith("device 8, holding 0: 1 register in")


def test_one_type_all_along_the_registers(read):
    """With --type, value after value."""
    done = read("--device", "7", "--register", "52", "--count", "2", "--type", "u16", "--table", "input")
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()[-3:-1]] == [["52", "u16"], ["53", "u16"]]


def test_marks_and_zeros_are_explained(read):
    """All ones are mostly no value, zeros do not tell the order."""
    assert 'mostly mean "no value"' in read("--device", "7", "--register", "16").out
    assert "All 0: nothing counted yet" in read("--device", "7", "--register", "20").out


def test_as_json_with_every_value_exactly(read):
    """What the table only sketches is there in full; null for what is no number."""
    done = read("--device", "7", "--register", "16", "--json")
    document = json.loads(done.out)
    assert (document["raw"], document["words"], document["device"]) == ("FFFF FFFF", [65_535, 65_535], 7)
    values = {(value["type"], value["order"]): value for value in document["values"]}
    assert values["u32", "CDAB"]["value"] == "4294967295"
    assert values["f32", "ABCD"] == {"register": 16, "type": "f32", "order": "ABCD", "value": None, "likely": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--register", "12"), "try --register 11. Else the other table (--table input), or fewer registers (--count)"),
        (
            ("--register", "40011"),
            "A manual's 40011 is mostly --table holding --register 10, or counts from 1: --register 40010.",
        ),
        (("--register", "30011", "--table", "input"), "A manual's 30011 is mostly --table input --register 10, or"),
    ],
)
def test_a_register_that_is_not_there_is_told_with_what_to_try(read, words, said):
    """Exit code 1. An address counts from 0, so 40011 is what it says; what a manual may mean is explained."""
    done = read("--device", "7", *words)
    assert (done.code, done.out) == (1, "")
    assert "exception 0x02: illegal address; it has no such registers" in done.err
    assert said in done.err


def test_silence_is_told_with_what_to_look_at(read):
    """Exit code 1."""
    done = read("--device", "9", "--register", "1", "--timeout", "0.05")
    assert done.code == 1
    assert "device 9, holding 1: no answer within 0.05 s: is it the right id" in done.err


def test_nobody_who_listens_is_told(unconfigured, meter_gateway):
    """Exit code 1, with the system's word and what it means."""
    done = meter_gateway("read", "tcp://127.0.0.1:1", "--register", "1")
    assert (done.code, done.err) == (
        1,
        "meter-gateway: 127.0.0.1:1: Connection refused; nothing listens at this port: Modbus is mostly at 502\n",
    )


def test_a_serial_line_is_read_in_the_same_way(unconfigured, meter_gateway):
    """Over a pseudo-terminal, with RTU frames; also where the adapter hears itself."""
    words = ("--device", "5", "--register", "0", "--type", "f32", *PATIENTLY)
    with serial_line({5: {0: 0x4366, 1: 0x199A}}) as line:
        done = meter_gateway("read", line.url, *words)
        line.echo = True
        echoed = meter_gateway("read", line.url, *words)
        skipped = meter_gateway("read", line.url, *words, "--local-echo")
    assert (done.code, skipped.code) == (0, 0)
    assert "0 f32  * 230.1" in done.out
    assert "0 f32  * 230.1" in skipped.out
    assert "local_echo" in echoed.err


def test_a_port_that_this_user_may_not_open_is_told(tmp_path):
    """Exit code 77, with the group that may."""
    site = Site(tmp_path)
    with serial_line({5: {0: 1}}) as line:
        Path(line.port).chmod(0o000)
        done = command_bound_by_permissions("read", line.url, "--register", "0", "-c", site.config)
    assert (done.code, done.out) == (77, "")
    assert (
        "no permission; the service's user must be in the group that owns the port, mostly dialout; or try again with sudo"
        in done.err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tcp://127.0.0.1:1",), "say what to read: --register N or --profile NAME"),
        (("tcp://127.0.0.1:1", "--register", "1", "--profile", "x"), "--register or --profile: one of the two"),
        (("tcp://127.0.0.1:1", "chiller", "--register", "1"), "one URL at a time"),
        (("http://127.0.0.1", "--register", "1"), "nothing is read at http://; there are: tcp://"),
        (("tcp://127.0.0.1:99999", "--register", "1"), "must have a port between 1 and 65535"),
        (("rtu://dev/ttyUSB0", "--register", "1"), "with its whole path after three slashes"),
        (("tcp://127.0.0.1:1", "--register", "65536"), "must be a number from 0 to 65535"),
        (("tcp://127.0.0.1:1", "--register", "4x"), "must be a number from 0 to 65535"),
        (("tcp://127.0.0.1:1", "--register", "65535", "--type", "u32"), "must be at most 65534"),
        (("tcp://127.0.0.1:1", "--register", "1", "--count", "126"), "must be 1 to 125 here"),
        (("tcp://127.0.0.1:1", "--register", "1", "--count", "1", "--type", "f64"), "must be 4 to 125 here"),
        (("tcp://127.0.0.1:1", "--register", "1", "--device", "256"), "must be 0 to 255 on this line"),
        (("rtu:///dev/null", "--register", "1", "--device", "0"), "must be 1 to 247 on this line"),
        (("/dev/ttyUSB0",), "/dev/ttyUSB0 is neither a meter's name nor a URL such as tcp://"),
        (("tcp://127.0.0.1:1", "--register", "1", "--type", "int32"), "acc64; did you mean s32?"),
        (("tcp://127.0.0.1:1", "--register", "1", "--type", "F32"), "acc64; did you mean f32?"),
        (
            ("tcp://127.0.0.1:1", "--register", "1", "--device", "x"),
            "'x' must be an id from 1 to 247, on TCP from 0 to 255",
        ),
        (
            ("tcp://127.0.0.1:1", "--profile", "em340"),
            'no profile "em340"; docs/meters.md lists them; did you mean carlo-gavazzi-em340',
        ),
        (("tcp://127.0.0.1:1", "--profile", "my.toml"), "one of your own is named with its whole path: /"),
        (("tcp://127.0.0.1:1", "--profile", "abb"), 'no profile "abb"; docs/meters.md lists them; did you mean abb-b'),
        (("tcp://127.0.0.1:1", "--register", "1", "--timeout", "99"), "must be a number of seconds from 0.05 to 30"),
        (("tcp://127.0.0.1:1", "--profile", "abb-b21", "--type", "u32"), "--type goes with --register"),
        (("tcp://127.0.0.1:1", "--register", "1", "--topic", "a"), "--topic goes with a URL such as mqtt://"),
        (("tcp://127.0.0.1:1", "--register", "1", "--local-echo"), "--local-echo is for RS-485 adapters"),
        (("chiller", "--register", "1"), "--register goes with a URL such as tcp://192.0.2.10:502"),
        (("chiller", "--watch", "0"), "must be a number of seconds from 0.1 to 3600"),
        (("--watch", "chiller"), "a name goes before it: read chiller --watch"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(meter_gateway, words, said):
    """Exit code 2, before anything is opened, with what is allowed."""
    done = meter_gateway("read", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_a_profile_shows_each_of_its_values(read):
    """Value and unit of what the device has, and why the rest is missing: exit code 0 where anything was read."""
    done = read("--device", "7", "--profile", "carlo-gavazzi-em340", columns=80)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "device 7 as Carlo Gavazzi EM340, ET340"
    assert any(line.split()[:5] == ["energy_import_total", "1129232.9", "kWh", "4EA9", "00AC"] for line in lines)
    assert "illegal address (exception 0x02): energy_export_total," in done.out
    assert max(map(len, lines)) <= 80


def test_a_profile_as_json(read):
    """A document with a row for each point."""
    done = read("--device", "7", "--profile", "carlo-gavazzi-em340", "--json")
    points = {point["point"]: point for point in json.loads(done.out)["points"]}
    assert (points["energy_import_total"]["value"], points["energy_import_total"]["unit"]) == ("1129232.9", "kWh")
    assert points["energy_export_total"]["value"] is None


def test_a_profile_at_a_device_that_is_not_there(read):
    """Exit code 1, and one sentence instead of a row for each point."""
    done = read("--device", "9", "--profile", "eastron-sdm630", "--timeout", "0.05")
    assert (done.code, len(done.out.splitlines())) == (1, 2)
    assert "FAIL no answer within 0.05 s" in done.out


def test_a_profile_that_is_not_there_is_told_with_the_nearest(read):
    """Exit code 2: a word that makes no sense."""
    done = read("--profile", "carlo-gavazzi-em34")
    assert done.code == 2
    assert 'no profile "carlo-gavazzi-em34"' in done.err
    assert "carlo-gavazzi-em340" in done.err


# --- whose line it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("read", "--register", "10"), ("scan",)])
def test_a_line_that_the_service_holds_is_not_opened(tmp_path, server: ModbusServer, meter_gateway, command):
    """Exit code 1, with the process and what to do: two masters on one line take each other's answers."""
    site = Site(tmp_path, bus=server.url)
    site.make()
    with site.running():
        done = meter_gateway(command[0], server.url, *command[1:])
        site.config.write_text(site.config.read_text().replace('push = "off"', 'push = "on"'))
        doubtful = meter_gateway(command[0], server.url, *command[1:])
    assert (done.code, done.out) == (1, "")
    assert "(the service) holds 127.0.0.1:" in done.err
    assert "as connection main, and a line has one master: systemctl stop meter-gateway" in done.err
    assert (doubtful.code, doubtful.out) == (1, "")
    assert f"perhaps ({site.config} has mistakes)" in doubtful.err
    assert server.connections == 0


def test_another_line_is_read_beside_the_service(tmp_path, server: ModbusServer, meter_gateway):
    """The service has its own."""
    site = Site(tmp_path)
    site.make()
    with site.running():
        assert meter_gateway("read", server.url, *PATIENTLY, "--device", "7", "--register", "10").code == 0


def test_a_configuration_in_the_making_stands_in_nobodys_way(
    site: Site, server: ModbusServer, meter_gateway, monkeypatch
):
    """Who writes one scans and reads meanwhile."""
    monkeypatch.setattr(lines, "DEFAULT_DATA", site.data)  # not that of a gateway that may run here
    site.config.write_text("[gateway]\nname = ")
    assert meter_gateway("read", server.url, *PATIENTLY, "--device", "7", "--register", "10").code == 0


def test_a_configuration_out_of_a_pipe_is_read_once(tmp_path, server: ModbusServer, meter_gateway):
    """`-c <(…)`: whose line it is stands in there as well."""
    site = Site(tmp_path, bus=server.url)
    site.make()
    with site.running():
        out, into = os.pipe()
        os.write(into, site.config.read_bytes())
        os.close(into)
        done = meter_gateway("scan", server.url, "-c", f"/dev/fd/{out}")
        os.close(out)
    assert (done.code, server.connections) == (1, 0)
    assert "as connection main, and a line has one master: systemctl stop meter-gateway" in done.err


def test_who_may_not_read_the_configuration_opens_nothing(tmp_path: Path, server: ModbusServer):
    """Exit code 77: nobody can say whose line it is."""
    hidden = tmp_path / "etc"
    hidden.mkdir(mode=0o000)
    done = command_bound_by_permissions("read", server.url, "--register", "1", "-c", hidden / "config.toml")
    hidden.chmod(0o700)
    assert (done.code, server.connections) == (77, 0)
    assert "nobody can say whether the service holds this line: try again with sudo" in done.err


def test_a_configuration_that_was_named_must_be_there(read, tmp_path):
    """Exit code 78."""
    done = read("--register", "1", "-c", str(tmp_path / "nowhere.toml"))
    assert done.code == 78


# --- again and again --------------------------------------------------------------------------------------------------


def test_watching_a_register_shows_what_counts(server: ModbusServer):
    """In a pipe a line for each look, with change and rate; Ctrl-C ends it well."""
    server.counting = 30
    words = ("read", server.url, *PATIENTLY, "--device", "7", "--register", "30", "--type", "u32", "--watch", "0.1")
    lines, code = watched(words, 3)
    assert code == 0
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ holding 30 u32 ABCD 700\d", line) for line in lines)
    assert re.search(r" 7002 \+1 [\d.]+/h$", lines[1])


def test_watching_as_json_brings_a_document_for_each_look(server: ModbusServer):
    """One line each; a change has the register's own decimals; what is not known is null."""
    words = ("read", server.url, *PATIENTLY, "--device", "7", "--profile", "carlo-gavazzi-em340", "--watch", "0.1")
    lines, _ = watched((*words, "--json"), 2)
    documents = [json.loads(line) for line in lines]
    points = [document["points"][1] for document in documents]
    assert [point["point"] for point in points] == ["energy_import_total"] * 2
    assert [point["change"] for point in points] == [None, "0.0"]
    assert [point["rate"] for point in points] == [None, "0.000"]
    assert [point["problem"] for point in points] == [None, None]


def watched(words: tuple[str, ...], looks: int) -> tuple[list[str], int]:
    """The first lines of so many looks, and the exit code after Ctrl-C."""
    with subprocess.Popen([*INTERRUPTIBLE, *words], stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout
        lines = [process.stdout.readline().rstrip("\n") for _ in range(looks)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    return lines, process.returncode
