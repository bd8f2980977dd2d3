"""`scan URL`: who answers on a line, what it may be, and the configuration to paste."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from drivers.modbus.address import Serial, address_of
from drivers.modbus.examine import Suggestion
from drivers.modbus.scan import Search
from drivers.modbus.wire import Answer, NoAnswer
from gateway.clock import ScaledClock
from gateway.commands.lines import connection_to
from gateway.commands.outlook import Outlook
from gateway.commands.progress import Progress
from gateway.commands.scan_report import Report, difference
from gateway.commands.scanning import Wire, search_through
from gateway.config import load
from gateway.simulator.building import bus, devices_on_the_bus
from gateway.simulator.faults import Fault
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.command_line import INTERRUPTIBLE, environment, on_terminal
from tests.fakes.modbus_server import Relay, modbus_server
from tests.fakes.serial_line import meeting, serial_line
from tests.fakes.site import Site
from tests.waiting import until

THEN = datetime(2026, 11, 26, 10, tzinfo=UTC)  # of the meters: what they have counted, and may be, depends on the year
PATIENCE = "30"  # s, where nobody is silent: a busy machine is no silent device
PACES = (1, 5, 25)  # where somebody is, and has to be waited for: a busy machine takes all of it so many times longer
WHILE = 0.7  # s, at the usual pace

GOLDEN = """\
device 2 answers: exception 0x02: illegal address

URL: 1 device found, 2 ids silent, in TIME

device 2
  garo-gnm3d, score 9: energy_import_total (holding 52) looks like a meter's
    value; 1 of 2 more values fit; not energy_export_total
    energy_import_total 1129232.9 kWh, power_active_total 900.0 W
  carlo-gavazzi-em24-ethernet, score 7: energy_import_total (holding 52) looks
    like a meter's value; 1 of 3 more values fit; not energy_import_l1,
    energy_import_l2
    energy_import_total 1129232.9 kWh, power_active_total 900.0 W
  carlo-gavazzi-em530, score 6: energy_import_total (holding 52) looks like a
    meter's value; 1 of 3 more values fit; not energy_import_l1,
    energy_import_l2
    energy_import_total 1129232.9 kWh, power_active_total 900.0 W
  also possible: carlo-gavazzi-em330, carlo-gavazzi-em340
  All 5 read energy_import_total in the same way: any of them will do for it;
    the type plate says which

To read them, paste this into a configuration:

[connections.main]
driver = "modbus"
url = "URL"

[[meters]]
name = "meter-2"
push = "off"
unit = "kWh"
# max_rate = 100   # kWh per hour: what its fuse or size allows; nothing faster is believed
# or profile garo-gnm3d, carlo-gavazzi-em530, carlo-gavazzi-em330, carlo-gavazzi-em340: look at its type plate
source = { connection = "main", device = 2, profile = "carlo-gavazzi-em24-ethernet", point = "energy_import_total" }

"""


@pytest.fixture
def line() -> Iterator[ModbusSimulator]:
    """Five meters with ids 1 to 5; others are silent."""
    simulator = ModbusSimulator(devices_on_the_bus(bus(5, push="off")), ScaledClock(THEN, 1.0))
    yield simulator
    simulator.stop()


@pytest.fixture
def scan(site: Site, meter_gateway):
    """`scan` on a machine where nothing is configured."""
    site.config.unlink()
    return lambda *words, **how: meter_gateway("scan", *map(str, words), **how)


def document(done) -> dict:
    """What a scan found."""
    return json.loads(done.out)


def unhurried(holds: Callable[[int], None]) -> None:
    """What is true of times that are longer or shorter than others, at any pace that the machine can keep."""
    for pace in PACES[:-1]:
        with suppress(AssertionError):
            holds(pace)
            return
    holds(PACES[-1])


def test_what_a_scan_says_at_80_columns(scan):
    """Who answers, what it may be and why, with its values for a look at the display, and what to paste."""

    def holds(pace: int) -> None:
        done = scan(server.url, "--ids", "1-2,9", "--timeout", WHILE * pace, columns=80)
        assert done.code == 0
        said = re.sub(r"in \d+ s", "in TIME", done.out.replace(server.url, "URL"))
        assert said == GOLDEN
        shown = said.partition("To read them")[0]
        assert max(map(len, shown.splitlines())) <= 80

    with modbus_server({1: {}, 2: {40: 9000, 41: 0, 52: 0x4EA9, 53: 0x00AC}}) as server:
        server.mute.add(1)
        unhurried(holds)


def test_the_meters_of_the_simulated_building_are_found_and_suggested(scan, line: ModbusSimulator):
    """Every family is among the suggestions of its device, first or as likely; what is not there is counted as silent."""

    def holds(pace: int) -> None:
        found = document(scan(line.url, "--ids", "1-6", "--timeout", WHILE * pace, "--json"))
        assert (found["complete"], found["silent"]) == (True, 1)
        assert [device["device"] for device in found["devices"]] == [1, 2, 3, 4, 5]
        for device, meter in zip(found["devices"], devices_on_the_bus(bus(5)), strict=True):
            best = device["suggestions"][0]["score"] if device["suggestions"] else 0
            near = [each for each in device["suggestions"] if each["score"] >= best - 6]
            points = {each["profile"]: (each["point"], float(each["values"][0]["value"]) > 0) for each in near}
            assert points.get(meter.model.profile) == (meter.model.point, True)

    unhurried(holds)


def test_a_device_that_may_be_slow_may_be_slow_at_every_question(scan, line: ModbusSimulator):
    """The operator's timeout is also that of the questions by which a meter is told: late answers are no silences."""
    line.line.late = (1.1, 1.1)  # s; longer than usual
    line.faults = [Fault("late", every=17)]
    (found,) = document(scan(line.url, "--ids", "3", "--timeout", PATIENCE, "--json"))["devices"]
    assert not found["cut"]
    assert line.line.spoilt >= 3


def test_what_is_to_be_pasted_is_a_configuration(scan, line: ModbusSimulator, tmp_path: Path):
    """As it stands, beside a data directory: it loads, and has a meter for each device."""
    found = document(scan(line.url, "--ids", "1-5", "--timeout", PATIENCE, "--json"))
    pasted = tmp_path / "pasted.toml"
    pasted.write_text(f'[gateway]\nname = "site"\ndata_dir = "{tmp_path}/data"\n{found["config"]}')
    assert [meter.name for meter in load(pasted).meters] == [f"meter-{device}" for device in range(1, 6)]


def test_nobody_is_told_with_what_to_look_at(scan, line: ModbusSimulator):
    """Exit code 1."""
    done = scan(line.url, "--ids", "20-22", "--timeout", "0.05", "--ids-only")
    assert done.code == 1
    assert "nobody answered, 3 ids silent" in done.out
    assert "The connection works, nobody behind it answers: the gateway's own speed and parity" in done.out
    assert "does it speak RTU frames (rtu+tcp:// instead of tcp://)?" in done.out


def test_a_gateway_that_says_device_failure_for_everybody_finds_nobody(scan):
    """0x04 for ids that are not there: listed apart, not as devices."""
    simulator = ModbusSimulator(devices_on_the_bus(bus(1, push="off")), ScaledClock(THEN, 1.0), missing="0x04")
    done = scan(simulator.url, "--ids", "1-4", "--timeout", PATIENCE, "--ids-only")
    simulator.stop()
    assert done.code == 0
    assert "1 device found" in done.out
    assert 'ids 2, 3, 4: "device failure" (0x04), which some gateways say for ids that are not there' in done.out


def test_a_device_that_answers_for_every_id_is_one_device(scan):
    """Many meters with a network port do not look at the id: one is shown, and one is asked what it is."""
    with modbus_server({device: {0: 1} for device in range(1, 71)}) as server:
        done = scan(server.url, "--ids", "1-70", "--timeout", PATIENCE)
        assert server.reads[2] == 1, "found, and not asked again what it is"
    assert "Every id answers: this device does not look at the id" in done.out
    assert re.findall(r"^device (\d+)", done.out.partition("Every")[2], re.MULTILINE) == ["1"]


def test_a_line_that_cannot_be_opened_is_one_sentence(scan, tmp_path: Path):
    """Exit code 1, with the system's word and what to do."""
    refused = "meter-gateway: 127.0.0.1:1: Connection refused; nothing listens at this port: Modbus is mostly at 502\n"
    assert scan("tcp://127.0.0.1:1") == (1, "", refused)
    done = scan(f"rtu://{tmp_path}/ttyUSB9")
    assert (done.code, done.out) == (1, "")
    assert "there is no such port; is the adapter plugged in?" in done.err


def test_a_port_that_is_no_serial_line_is_one_sentence(scan, tmp_path: Path):
    """A device of another kind, a file, a directory."""
    (tmp_path / "file").touch()
    for path in ("/dev/null", tmp_path / "file", tmp_path):
        done = scan(f"rtu://{path}", "--ids", "1")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"meter-gateway: {path}: is no serial port; see /dev/serial/by-id/")


@contextmanager
def hanging_up(*there: int, ends: int, functions: set[int] | None = None) -> Iterator[str]:
    """The URL of a gateway with these devices, which closes the connection at any other id, and goes away at one of them.

    `functions`: where the codes are collected that the devices were asked with.
    """
    functions = set() if functions is None else functions
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                channel, _ = listener.accept()
                with channel:
                    while (request := channel.recv(64)) and request[6] in there:
                        functions.add(request[7])
                        channel.sendall(request[:4] + bytes([0, 3, request[6], request[7] | 0x80, 2]))
                    if request and request[6] == ends:
                        listener.shutdown(socket.SHUT_RDWR)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(60)


def test_a_gateway_that_hangs_up_at_unknown_ids_is_searched_to_the_end(scan):
    """It is opened again; such an id counts as silent."""
    with hanging_up(5, 8, ends=0) as url:
        found = document(scan(url, "--ids", "5-8", "--timeout", PATIENCE, "--ids-only", "--json"))
    assert [device["device"] for device in found["devices"]] == [5, 8]
    assert (found["complete"], found["silent"]) == (True, 2)


def test_a_gateway_that_hangs_up_at_every_id_is_not_said_to_work(scan):
    """Mostly it has one place, and somebody else has it; or it is a web server."""
    with hanging_up(5, ends=0) as url:
        done = scan(url, "--ids", "6-7", "--timeout", PATIENCE, "--ids-only")
        told = document(scan(url, "--ids", "6-7", "--timeout", PATIENCE, "--ids-only", "--json"))
    assert done.code == 1
    assert (
        "Each question was answered by closing the connection: another program has the gateway's only place" in done.out
    )
    assert "The connection works" not in done.out
    assert (told["hung_up"], told["silent"], told["not_asked"]) == (2, 2, 0)


def test_what_was_found_before_the_line_was_lost_is_shown(scan):
    """Exit code 1, and the reason after it."""
    with hanging_up(5, ends=6) as url:
        done = scan(url, "--ids", "5-9", "--timeout", PATIENCE, "--ids-only")
    assert done.code == 1
    assert "stopped before the end: 1 device found" in done.out
    assert "Connection refused" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tcp://127.0.0.1:1", "--ids", "0-300"), "--ids '0-300' must be an id from 0 to 255, or such as 1-32"),
        (("rtu:///dev/null", "--ids", "0"), "--ids '0' must be an id from 1 to 247"),
        (("tcp://127.0.0.1:1", "--baudrate", "9600"), "--baudrate and --parity are for serial lines: rtu://"),
        (("rtu:///dev/null", "--baudrate", "9601"), "--baudrate 9601 must be of 300, 600, 1200"),
        (("rtu:///dev/null", "--parity", "X"), "--parity X must be of N, E, O"),
        (("tcp://127.0.0.1:1", "--timeout", "0"), "--timeout must be a number of seconds from 0.05"),
        (("mqtt://127.0.0.1",), "must look like"),
        (("127.0.0.1",), "must look like"),
        ((), "the following arguments are required: URL"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(scan, words, said):
    """Exit code 2, with what is allowed."""
    done = scan(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mqtt://192.0.2.20", "what a broker has is shown by meter-gateway read mqtt://192.0.2.20"),
        ("/dev/ttyUSB0", "a serial port is rtu:///dev/ttyUSB0"),
        ("ttyUSB0", "a serial port is rtu:///dev/ttyUSB0"),
        ("192.0.2.7", "did you mean tcp://192.0.2.7?"),
        ("192.0.2.7:5020", "did you mean tcp://192.0.2.7:5020?"),
        ("tpc://gateway.local:502/", "did you mean tcp://gateway.local:502?"),
    ],
)
def test_what_is_no_modbus_url_is_told_with_what_was_meant(scan, url, said):
    """On his first day a person writes what he has."""
    done = scan(url)
    assert done.code == 2
    assert said in done.err


def test_profiles_that_read_one_register_under_two_names_are_alike():
    """The point's name is the profile's; who compares displays wants to know whether the registers differ."""
    alike = [
        Suggestion(name, 4, (), point, "device 1, holding 3203 s64 big/big x 1 in Wh", ())
        for name, point in (("powertag", "energy_sum_total"), ("iem3155", "energy_import_total"))
    ]
    said = " read holding 3203 s64 big/big x 1 in Wh in the same way: any of them will do for it; the type plate says which"
    assert difference(alike, of=2) == f"Both{said}"
    assert difference(alike, of=3) == f"powertag and iem3155{said}", "not the third that is listed"


def test_in_a_pipe_each_device_that_is_looked_at_is_told(scan, line):
    """It takes the most of the time, and nobody wants to wonder."""
    done = scan(line.url, "--ids", "2-3", "--timeout", PATIENCE)
    assert re.search(
        r"device 2, 1 of 2: which meter is it\? [^\n]+ s left\ndevice 3, 2 of 2: which meter is it\? [^\n]+ s left\n",
        done.err,
    )


def test_what_is_to_be_pasted_does_not_hold_back_what_a_larger_meter_counts(scan, line: ModbusSimulator):
    """Of profiles that read alike, no rating of a smaller meter; a stable one; and each other one with its own point."""
    config = document(scan(line.url, "--ids", "2,3,5", "--timeout", PATIENCE, "--json"))["config"]
    assert 'device = 3, profile = "abb-b23"' in config
    assert "# or profile abb-b21: look" in config
    assert 'device = 2, profile = "carlo-gavazzi-em24-ethernet"' in config
    assert 'profile schneider-iem3155 with point = "energy_import_total": look' in config


AT_LEAST_TEN_SECONDS = r"([1-9]\d s|\d+ min \d+ s|\d+ h \d+ min)"


@pytest.mark.parametrize(("looks", "left"), [(True, AT_LEAST_TEN_SECONDS), (False, r"\d s")])
def test_what_is_left_counts_the_devices_that_are_yet_to_be_asked_what_they_are(capsys, looks, left):
    """At the end of the search that is most of it, as long as a look takes some seconds; nothing with --ids-only."""
    with serial_line({device: {0: 7} for device in range(1, 6)}) as line:
        address = address_of(line.url)
        wire = Wire(connection_to(line.url), address)
        search = Search([address.serial], range(1, 6), 30.0, longest=30.0)  # for a busy machine
        search.timeout = 0.5  # by which what is left is reckoned
        search_through(search, wire, Progress(), Outlook(looks=looks), None)
        wire.close()
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(f"80 %, 9600 baud 8N1, id 5, 4 found, {left} left", told)


# --- serial lines -----------------------------------------------------------------------------------------------------


def test_the_speed_of_a_serial_line_is_found(scan):
    """The likeliest settings first; where somebody answers, the search stays, and the URL has what it found."""

    def holds(pace: int) -> None:
        with serial_line({5: {0: 7}, 100: {0: 7}}, baudrate=19200) as line:
            url = line.url.partition("?")[0]
            found = document(scan(url, "--ids", "5,100", "--timeout", WHILE * pace, "--ids-only", "--json"))
        assert [(device["device"], device["line"]) for device in found["devices"]] == [
            (5, "19200 baud 8N1"),
            (100, "19200 baud 8N1"),
        ]
        assert found["devices"][0]["url"] == f"rtu://{line.port}?baudrate=19200&parity=N"
        assert (line.unheard, line.line.heard) == (1, 2), (
            "once at the likelier speed, then both where one answered; a port without parity is not asked with any"
        )

    unhurried(holds)


def test_devices_that_are_set_differently_are_told_apart(capsys):
    """A configuration has one speed for a line: those at another one are not silently left out."""
    slow, fast = Serial(9600), Serial(19_200)
    search = Search([slow, fast], [3, 7], 0.1, longest=1.0, everywhere=True)
    while knock := search.wanted:
        answers = (knock.line, knock.device) in {(slow, 3), (fast, 7)}
        search.heard(Answer((1,), 0.01) if answers else NoAnswer("no answer"))
    wire = Wire(connection_to("rtu:///dev/ttyUSB0"), address_of("rtu:///dev/ttyUSB0"))
    Report("rtu:///dev/ttyUSB0", wire, search, [], complete=True, looks=True).show(took="1 s")
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "9600 baud 8N1: id 3; 19200 baud 8N1: id 7. A line has one speed and parity: set all its devices alike." in said
    )


@pytest.mark.parametrize("said", ["", "?baudrate=9600", "?parity=N"])
def test_an_ascii_line_is_found_without_knowing_how_it_is_set(scan, said):
    """The standard's seven bits first, then eight; the URL to paste says what is not usual."""
    with serial_line({5: {0: 7}}, ascii=True) as line:
        url = line.url.partition("?")[0] + said
        found = document(scan(url, "--ids", "5", "--timeout", PATIENCE, "--ids-only", "--json"))
    assert [(device["device"], device["line"]) for device in found["devices"]] == [(5, "9600 baud 8N1")]
    assert found["devices"][0]["url"] == f"ascii://{line.port}?baudrate=9600&parity=N&bytesize=8"
    assert ("9600 baud 7E1" in found["unusable"]) == (said != "?parity=N"), "a pseudo-terminal has eight bits"


def test_a_url_that_says_all_of_its_settings_is_tried_as_it_is(scan):
    """What a person knows is not searched for."""
    with serial_line({}) as line:
        done = scan(line.url, "--ids", "7", "--timeout", "0.2")
        until(lambda: line.line.heard)
    assert "nobody answered, 1 id silent" in done.out
    assert (line.unheard, line.line.heard) == (0, 1)
    assert "Only 9600 baud 8N1 was tried, as was said: leave that out, and the usual settings are." in " ".join(
        done.out.split()
    )


def test_an_option_says_more_than_the_url(scan):
    """The URL is mostly a pasted one."""
    with serial_line({5: {0: 7}}) as line:
        url = f"{line.url.partition('?')[0]}?baudrate=19200&parity=E"
        words = ("--ids", "5", "--baudrate", "9600", "--parity", "N", "--timeout", PATIENCE, "--ids-only", "--json")
        found = document(scan(url, *words))
    assert [device["url"] for device in found["devices"]] == [f"rtu://{line.port}?baudrate=9600&parity=N"]


def test_an_id_that_is_silent_at_every_setting_is_counted_once(scan):
    """People count devices, not attempts."""

    def holds(pace: int) -> None:
        with serial_line({}) as line:
            url = line.url.partition("?")[0]
            done = scan(url, "--ids", "7", "--baudrate", "9600,19200", "--parity", "N", "--timeout", 0.2 * pace)
            until(lambda: line.unheard)
        assert "nobody answered, 1 id silent" in done.out
        assert (line.unheard, line.line.heard) == (1, 1)

    unhurried(holds)


def test_a_late_answer_is_not_taken_for_the_next_ids(scan):
    """5 answers when its time is over: the line is kept quiet, 6 is not there, and 5 is found all the same."""

    def holds(pace: int) -> None:
        with serial_line({5: {0: 7}}) as line:
            late = 0.55 * pace
            line.line.late, line.faults = (late, late), [Fault("late", every=6)]  # the first of 5's answers
            found = document(scan(line.url, "--ids", "5-6", "--timeout", 0.3 * pace, "--ids-only", "--json"))
            silences = line.silences()
        assert [device["device"] for device in found["devices"]] == [5]
        assert (found["silent"], found["garbled"]) == (1, [])
        assert min(silences) >= 3.5 * 10 / 9600

    unhurried(holds)


def test_what_a_line_without_bias_says_is_nobodys_late_answer(scan):
    """4 is asked once: that 5 is heard behind a 0x00 does not make anybody slow."""

    def holds(pace: int) -> None:
        with serial_line({5: {0: 7}}) as line, meeting(line, "unbiased"):
            found = document(scan(line.url, "--ids", "4-5", "--timeout", WHILE * pace, "--ids-only", "--json"))
        assert [device["device"] for device in found["devices"]] == [5]
        assert (found["silent"], found["garbled"], line.line.heard) == (1, [], 2)

    unhurried(holds)


def test_devices_are_asked_for_their_names_only_on_request(scan):
    """Some devices need a restart after function 0x2B; one that does not know it is no failure."""
    asked: set[int] = set()
    with hanging_up(5, ends=0, functions=asked) as url:
        assert scan(url, "--ids", "5", "--names", "--timeout", PATIENCE).code == 0
        assert asked == {0x2B, 3, 4}
        asked.clear()
        assert scan(url, "--ids", "5", "--timeout", PATIENCE).code == 0
    assert asked == {3, 4}


def test_a_late_answer_over_tcp_is_noticed_too(scan):
    """It comes while 6 is asked, and is not taken for its answer: both are found."""

    def holds(pace: int) -> None:
        with modbus_server({5: {0: 7}, 6: {0: 7}}) as server, Relay(server.port) as relay:
            relay.late = 1
            url = f"tcp://127.0.0.1:{relay.port}"
            found = document(scan(url, "--ids", "5-6", "--timeout", WHILE * pace, "--ids-only", "--json"))
        assert sorted(device["device"] for device in found["devices"]) == [5, 6]
        assert (found["silent"], found["garbled"]) == (0, [])

    unhurried(holds)


def test_an_adapter_that_hears_itself_is_noticed(scan):
    """What came back is our own request: from then on it is skipped, and the configuration says so."""

    def holds(pace: int) -> None:
        with serial_line({5: {0: 7}}) as line:
            line.echo = True
            done = scan(line.url, "--ids", "4-5", "--timeout", WHILE * pace, "--ids-only")
        assert "device 5 answers" in done.out
        assert "1 device found, 1 id silent" in done.out
        assert "The adapter hears its own requests: local_echo = true" in done.out

    unhurried(holds)


def test_two_devices_with_one_id_are_told_as_noise(scan):
    """Frames that never have a right checksum are no device, and not nobody either."""

    def holds(pace: int) -> None:
        with serial_line({3: {0: 7}}) as line, meeting(line, "corrupt"):
            done = scan(line.url, "--ids", "3", "--timeout", 0.3 * pace, "--ids-only")
        assert done.code == 1
        noise = "id 3: something answers that is no answer: two devices with one id, noise, or another speed"
        assert noise in " ".join(done.out.split())

    unhurried(holds)


# --- progress, and the end of patience --------------------------------------------------------------------------------


def test_a_bar_on_a_terminal_and_lines_in_a_pipe(scan, site: Site, line: ModbusSimulator):
    """Of how far it is and how long it takes still; on stderr, so that a pipe's results stay clean."""
    words = ("scan", line.url, "--ids", "20-23", "--timeout", "0.11", "--ids-only", "-c", site.config)
    piped = scan(line.url, "--ids", "20-22", "--timeout", "0.05", "--ids-only")
    assert re.fullmatch(r"(\d+ %, id \d+, 0 found, \d+ s left\n)+", piped.err)
    site.config.write_text(f'[gateway]\ndata_dir = "{site.data}"\n')  # not that of a gateway that may run here
    shown = on_terminal(*words).out
    assert re.search(r"\r\033\[K.{16}  +\d+ %  id 2\d, 0 found, \d+ s left", shown)
    shown = on_terminal(*words, columns=40).out
    assert re.search(r"\r\033\[K.{4}  +\d+ %  id 2\d, 0 found, \d+ s left", shown), "the words say more than the bar"


def test_stopped_it_shows_what_it_has_found(line: ModbusSimulator, tmp_path: Path):
    """Ctrl-C after the first device: that one is there, and that it was stopped is said."""
    with subprocess.Popen(
        [*INTERRUPTIBLE, "scan", line.url, "--ids", "5,20-200", "--timeout", PATIENCE],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment(METER_GATEWAY_CONFIG=str(tmp_path / "nowhere.toml")),
    ) as process:  # fmt: skip
        assert process.stdout
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert first == "device 5 answers: exception 0x02: illegal address\n"
    assert "stopped before the end: 1 device found" in rest
    assert re.search(r"\d+ of 182 questions were not asked; --ids 1-10 is quicker", rest)
    assert "what id 5 may be was not asked: scan with --ids 5" in rest
    assert "device 5" not in rest, "it was told already, and more is not known"
    assert "Traceback" not in rest
    assert process.returncode == 0
