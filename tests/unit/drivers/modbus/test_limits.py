"""What each device of a connection needs: the operator's word, then the profile's, then the line's."""

from __future__ import annotations

import pytest

from drivers.modbus.device import Limits
from drivers.modbus.limits import devices_of, wants_of
from drivers.modbus.plan import Cost
from tests.fakes.clock import FakeClock
from tests.fakes.driver_ports import FakePorts
from tests.fakes.modbus_driver import connection, source

SDM120 = {"register": None, "type": None, "profile": "eastron-sdm120", "point": "energy_import_total"}  # 60 ms, 20
EM340 = {"register": None, "type": None, "profile": "carlo-gavazzi-em340", "point": "energy_import_total"}  # 50


def limits(*sources, **keys) -> Limits:
    """Of the one device that the sources are about."""
    named = {str(at): each for at, each in enumerate(sources)}
    (device,) = devices_of(connection(**keys), named, FakePorts(FakeClock()).ports)
    return device.limits


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("tcp://192.0.2.10", Limits(1.0, 0.0, 0.0, 60)),
        ("tls://192.0.2.10", Limits(1.0, 0.0, 0.0, 60)),
        ("rtu:///dev/ttyUSB0", Limits(1.0, 0.060, 0.100, 60)),
        ("rtu+tcp://192.0.2.10", Limits(1.5, 0.100, 0.100, 60)),
        ("ascii:///dev/ttyUSB0", Limits(1.0, 0.060, 0.100, 60)),
        ("ascii+tcp://192.0.2.10", Limits(1.5, 0.100, 0.100, 60)),
    ],
)
def test_a_line_has_the_defaults_of_its_kind(url, expected):
    """Eastron wants 60 ms, a change of the device 100 ms; a gateway keeps the silence itself."""
    assert limits(source(), url=url) == expected


def test_the_connections_word_wins_over_the_lines_default():
    """`gap` then is the gap, also when the device changes."""
    assert limits(source(), url="rtu:///dev/ttyUSB0", timeout="2s", gap="10ms") == Limits(2.0, 0.01, 0.01, 60)
    assert limits(source(), url="rtu:///dev/ttyUSB0", gap="0s").gap == 0


def test_the_rest_when_the_device_changes_has_a_key_of_its_own():
    """Some want 200 ms there (mbmd) and little between two requests; it is never shorter than the gap."""
    line = {"url": "rtu:///dev/ttyUSB0", "gap_on_change": "200ms"}
    assert limits(source(), **line) == Limits(1.0, 0.06, 0.2, 60)
    assert limits(source(), gap="10ms", **line) == Limits(1.0, 0.01, 0.2, 60)
    assert limits(source(gap="300ms"), **line) == Limits(1.0, 0.3, 0.3, 60)
    assert limits(source(), url="tcp://192.0.2.10", gap_on_change="50ms") == Limits(1.0, 0.0, 0.05, 60)


def test_the_devices_word_wins_over_the_connections():
    """Said by any one of its sources."""
    told = limits(source(), source(register=20, timeout="3s", gap="0s", max_registers=8), timeout="2s", gap="10ms")
    assert told == Limits(3.0, 0.0, 0.0, 8)


def test_a_profile_knows_how_much_its_meter_takes():
    """The smallest number counts where two profiles share a device."""
    assert limits(source(**SDM120)).max_registers == 20
    assert limits(source(**EM340), source(**SDM120)).max_registers == 20
    assert limits(source(**SDM120, max_registers=40)).max_registers == 40


def test_a_profiles_gap_is_for_serial_lines_only():
    """On TCP the gateway keeps the silence."""
    assert limits(source(**SDM120)).gap == 0
    assert limits(source(**SDM120), url="rtu:///dev/ttyUSB0").gap == 0.060


def test_each_device_has_its_own_sources_in_the_order_of_the_configuration():
    """Two meters behind one gateway."""
    sources = {"b": source(device=9), "a": source(device=2), "c": source(device=9, register=20)}
    devices = devices_of(connection(), sources, FakePorts(FakeClock()).ports)
    assert [(device.number, [target.source for target in device.targets]) for device in devices] == [
        (9, ["b", "c"]),
        (2, ["a"]),
    ]


def cost(*sources, **keys) -> Cost:
    """Of the requests to the one device that the sources are about."""
    (want,) = wants_of(connection(**keys), {str(at): each for at, each in enumerate(sources)})
    return want.cost


@pytest.mark.parametrize(
    ("url", "request_ms", "register_ms"),
    [
        # 13 characters, an answer after 40 ms, a gap of 60 ms; two characters a register
        ("rtu:///dev/ttyUSB0?baudrate=9600", 100 + 13.54, 2.083),
        ("rtu:///dev/ttyUSB0?baudrate=2400&parity=E", 100 + 59.58, 9.167),
        ("rtu:///dev/ttyUSB0?baudrate=115200", 100 + 1.13, 0.174),
        # 28 characters of ten bits, four for a register
        ("ascii:///dev/ttyUSB0?baudrate=9600", 100 + 29.17, 4.167),
        # the line behind is taken for one of 9600 baud
        ("rtu+tcp://192.0.2.10", 140 + 13.54, 2.083),
        ("ascii+tcp://192.0.2.10", 140 + 29.17, 4.167),
        ("tcp://192.0.2.10", 20, 1.0),
    ],
)
def test_what_a_request_and_a_register_cost_is_the_time_they_take(url, request_ms, register_ms):
    """Worked out by hand from the line's speed."""
    told = cost(source(), url=url)
    assert told.request * 1000 == pytest.approx(request_ms, abs=0.01)
    assert told.register * 1000 == pytest.approx(register_ms, abs=0.001)


def test_a_gap_shorter_than_the_silence_between_frames_costs_the_silence():
    """3.5 characters are kept whatever the operator says."""
    line = "rtu:///dev/ttyUSB0?baudrate=2400"
    assert cost(source(), url=line, gap="0s").request == pytest.approx(13 / 240 + 3.5 / 240 + 0.040)


def test_a_profile_knows_which_holes_its_meter_lets_be_read(tmp_path):
    """The smallest number counts where two profiles share a device."""
    path = tmp_path / "own.toml"
    path.write_text("""\
manufacturer = "Acme"
model = "One"
evidence = "datasheet"
source = "its manual"
max_hole = 3
[points.energy_import_total]
register = 10
type = "u32"
unit = "kWh"
""")
    own = {"register": None, "type": None, "profile": str(path), "point": "energy_import_total"}
    assert cost(source(**EM340)).max_hole == 125
    assert cost(source(**EM340), source(**own)).max_hole == 3
