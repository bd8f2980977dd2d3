"""What a connection's URL means, and what is said of one that means nothing."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.address import FAST_SILENCE, Address, Serial, address_of


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://192.0.2.10:502", Address("tcp", "192.0.2.10", 502)),
        ("tcp://192.0.2.10", Address("tcp", "192.0.2.10", 502)),
        ("tcp://192.0.2.10:1502/", Address("tcp", "192.0.2.10", 1502)),
        ("TCP://Meters.Example:502", Address("tcp", "meters.example", 502)),
        ("tcp://[2001:db8::1]:503", Address("tcp", "2001:db8::1", 503)),
        ("rtu+tcp://192.0.2.11:4001", Address("rtu+tcp", "192.0.2.11", 4001)),
        ("rtu+tcp://moxa", Address("rtu+tcp", "moxa", 502)),
        ("tls://meter.example", Address("tls", "meter.example", 802)),
        ("rtu:///dev/ttyUSB0", Address("rtu", "/dev/ttyUSB0", 0, Serial(9600, "N", 1))),
        (
            "rtu:///dev/serial/by-id/usb-FTDI?baudrate=19200&parity=e&stopbits=2",
            Address("rtu", "/dev/serial/by-id/usb-FTDI", 0, Serial(19_200, "E", 2)),
        ),
        ("rtu:///dev/my%20port?parity=O", Address("rtu", "/dev/my port", 0, Serial(9600, "O", 1))),
        ("rtu:///dev/ttyUSB0?bytesize=8", Address("rtu", "/dev/ttyUSB0", 0, Serial(9600, "N", 1))),
        ("ascii:///dev/ttyUSB0", Address("ascii", "/dev/ttyUSB0", 0, Serial(9600, "E", 1, 7))),
        (
            "ascii:///dev/ttyUSB0?baudrate=2400&bytesize=8&parity=N&stopbits=2",
            Address("ascii", "/dev/ttyUSB0", 0, Serial(2400, "N", 2, 8)),
        ),
        ("ascii+tcp://192.0.2.12:4001", Address("ascii+tcp", "192.0.2.12", 4001)),
    ],
)
def test_a_url_leads_where_it_says(url, address):
    """Every scheme, with and without what has a default."""
    assert address_of(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must look like"),
        ("192.0.2.10:502", "must look like"),
        ("modbus://192.0.2.10", "must look like"),
        ("tcp://", "must look like"),
        ("tcp://:502", "must look like"),
        ("tcp://[2001:db8::1", "must look like"),
        ("tcp://[no-address]:502", "must look like"),
        ("tcp://192.0.2.10:0", "between 1 and 65535"),
        ("tcp://192.0.2.10:65536", "between 1 and 65535"),
        ("tcp://192.0.2.10:modbus", "between 1 and 65535"),
        ("tcp://192.0.2.10/1", "only a host and a port"),
        ("tcp://192.0.2.10?unit=1", "only a host and a port"),
        ("tcp://192.0.2.10#1", "only a host and a port"),
        ("tcp://me:secret@192.0.2.10", "only a host and a port"),
        (f"tcp://{'m' * 64}.example", "1 to 63 characters"),
        ("tcp://meters..example", "1 to 63 characters"),
        ("rtu://ttyUSB0", "three slashes"),
        ("rtu:///", "three slashes"),
        ("rtu:", "three slashes"),
        ("rtu:///dev/ttyUSB0?baudrate=9601", "baudrate one of 300, 600, 1200"),
        ("rtu:///dev/ttyUSB0?baudrate=", "baudrate one of 300, 600, 1200"),
        ("rtu:///dev/ttyUSB0?baudrate=९६००", "baudrate one of 300, 600, 1200"),
        ("rtu:///dev/ttyUSB0?parity=M", "parity=N"),
        ("rtu:///dev/ttyUSB0?stopbits=1.5", "stopbits one of 1, 2"),
        ("rtu:///dev/ttyUSB0?bytesize=7", "a line with seven data bits speaks ascii://"),
        ("rtu:///dev/ttyUSB0?bytesize=9", "bytesize one of 7, 8"),
        (
            "ascii:///dev/ttyUSB0?databits=7",
            'knows no setting "databits"; there are: baudrate, parity, stopbits, bytesize',
        ),
        ("ascii://ttyUSB0", 'three slashes: "ascii:///dev/ttyUSB0'),
        ("rtu:///dev/ttyUSB0?baudrate=9600&baudrate=19200", "must not have baudrate twice"),
        ("rtu:///dev/ttyUSB#0", "%23"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_with_what_is_allowed(url, said):
    """The operator reads the message as it is."""
    with pytest.raises(ValueError, match=re.escape(said)):
        address_of(url)


@given(st.text(max_size=40) | st.text(max_size=30).map("tcp://".__add__) | st.text(max_size=30).map("rtu:///".__add__))
def test_no_text_does_worse_than_being_refused(text):
    """ValueError is the only way to fail."""
    with suppress(ValueError):
        assert address_of(text).host


@pytest.mark.parametrize(
    ("serial", "character", "silence"),
    [  # ms, from the table in the facts page
        (Serial(2400, "N", 1), 4.167, 14.58),
        (Serial(9600, "N", 1), 1.042, 3.65),
        (Serial(9600, "E", 1), 1.146, 4.01),
        (Serial(19_200, "N", 1), 0.521, 1.82),
        (Serial(19_200, "E", 1), 0.573, 2.01),
        (Serial(9600, "N", 2), 1.146, 4.01),
        (Serial(38_400, "N", 1), 0.260, 1.75),
        (Serial(115_200, "E", 1), 0.095, 1.75),
    ],
)
def test_a_line_is_silent_for_three_and_a_half_characters(serial, character, silence):
    """And for a fixed time above 19 200 baud."""
    assert serial.character * 1000 == pytest.approx(character, abs=0.001)
    assert serial.silence * 1000 == pytest.approx(silence, abs=0.01)
    assert serial.baudrate <= 19_200 or serial.silence == FAST_SILENCE


@pytest.mark.parametrize(
    ("scheme", "untagged"),
    [("tcp", False), ("tls", False), ("rtu", True), ("rtu+tcp", True), ("ascii", True), ("ascii+tcp", True)],
)
def test_rtu_and_ascii_frames_have_no_transaction_id_on_whatever_they_travel(scheme, untagged):
    """What decides about late answers."""
    assert Address(scheme, "x").untagged is untagged


def test_only_rtu_on_a_line_of_our_own_needs_silence_between_frames():
    """An ASCII frame begins with a colon; a gateway keeps the silence of its own line."""
    assert address_of("rtu:///dev/ttyUSB0").silence == Serial().silence
    assert address_of("ascii:///dev/ttyUSB0").silence == 0
    assert address_of("rtu+tcp://192.0.2.11").silence == 0
