"""What `check` says of Modbus settings that work and do not fit each other: with the numbers, at the key to look at."""

from __future__ import annotations

import pytest

from drivers.modbus.address import address_of
from drivers.modbus.cautions import hint
from drivers.modbus.config import Source, cautions, check
from tests.fakes.modbus_driver import connection, source

SLOW = "rtu:///dev/ttyUSB0?baudrate=9600&parity=N"
SDM = {"register": None, "type": None, "profile": "eastron-sdm630", "point": "energy_import_total"}
WIDE = {"type": "u64", "max_registers": 125}


def said(sources: dict[str, Source] | list[Source] | None = None, **keys) -> dict[tuple[str | int, ...], str]:
    """The cautions of a connection, by their key."""
    named = sources if isinstance(sources, dict) else {str(at): each for at, each in enumerate(sources or [source()])}
    settings = connection(**keys)
    assert not check(settings, named)
    return {fault.path: fault.message for fault in cautions(settings, named)}


def meters(count: int) -> list[Source]:
    """So many devices with one value of two registers each."""
    return [source(device=at) for at in range(1, count + 1)]


@pytest.mark.parametrize(
    "url",
    [
        "tcp://192.0.2.10",
        "tls://meter.example",
        "rtu+tcp://192.0.2.10",
        "ascii+tcp://192.0.2.10",
        SLOW,
        "rtu:///dev/ttyUSB0?baudrate=1200&parity=E",
        "rtu:///dev/ttyUSB0?baudrate=19200&stopbits=2",
        "ascii:///dev/ttyUSB0",
        "ascii:///dev/ttyUSB0?parity=N&stopbits=2",
        "ascii:///dev/ttyUSB0?parity=N&bytesize=8",
    ],
)
def test_nothing_is_said_of_usual_settings(url):
    """8N1 is no standard and what very many meters have: nobody reads warnings that are always there."""
    assert said([source(**SDM), source(device=2)], url=url) == {}


# --- poll -------------------------------------------------------------------------------------------------------------


def test_a_round_that_takes_longer_than_the_poll_interval_is_told_with_its_time():
    """31 x (17 characters + 100 ms gap + 40 ms) at 9600 baud."""
    assert said(meters(31), url=SLOW, poll="2s") == {
        ("connection", "poll"): "a round of 31 devices with 31 requests takes about 4.9 s at 9600 baud: "
        'a poll every 2 s cannot be kept; at least "7s"'
    }
    assert said(meters(31), url=SLOW, poll="5s") == {}


def test_a_round_is_shorter_where_the_operator_makes_the_gap_short_and_the_line_fast():
    """The same 31 devices."""
    assert said(meters(31), url=SLOW.replace("9600", "115200"), gap="10ms", poll="2s") == {}


def test_requests_are_counted_as_they_are_planned():
    """Twenty values in one request, or each in its own: far from each other."""
    near = {str(at): source(register=10 + 2 * at) for at in range(20)}
    far = {str(at): source(register=100 * at) for at in range(20)}
    assert said(near, url=SLOW, poll="1s") == {}
    assert said(far, url=SLOW, poll="1s")["connection", "poll"].startswith("a round of 20 requests takes about 2.4 s")


def test_ascii_takes_twice_the_time_of_its_characters():
    """On the same line at 1200 baud."""
    sources = meters(10)
    rtu, ascii_ = ("rtu", "ascii")
    times = {}
    for scheme in (rtu, ascii_):
        url = f"{scheme}:///dev/ttyUSB0?baudrate=1200&parity=N&bytesize=8"
        words = said(sources, url=url, poll="1s", gap="0s")["connection", "poll"]
        times[scheme] = float(words.partition("about ")[2].split()[0])
    assert 1.5 < times[ascii_] / times[rtu] < 2.2


def test_behind_a_network_the_line_is_assumed_and_said():
    """Nobody tells its speed, nor how fast a device with an Ethernet port of its own is."""
    words = said(meters(40), url="rtu+tcp://192.0.2.10", poll="5s")["connection", "poll"]
    assert "takes about 6.3 s if the line behind the gateway has 9600 baud" in words
    words = said(meters(100), url="tcp://192.0.2.10", poll="2s")["connection", "poll"]
    assert "takes about 2.2 s if answers take 20 ms" in words
    assert said(meters(40), url="tcp://192.0.2.10", poll="1s") == {}


# --- timeout and gap --------------------------------------------------------------------------------------------------


def test_a_timeout_in_which_a_slow_meter_cannot_begin_its_answer_is_told_where_it_stands():
    """Below half a second another meter may take the next request for the late answer (libmodbus 83)."""
    assert said(url=SLOW, timeout="300ms") == {
        ("connection", "timeout"): "a meter may take 500 ms to begin its answer; what comes after 300 ms is lost, "
        'and a danger to the next answer: at least "500ms"'
    }
    assert set(said([source(timeout="100ms")], url=SLOW)) == {("0", "timeout")}
    assert said(url=SLOW, timeout="500ms") == {}
    assert said(url="tcp://192.0.2.10", timeout="300ms") == {}


def test_through_a_network_the_timeout_has_to_hold_the_whole_answer():
    """80 registers and the request are 173 characters: 180 ms at 9600 baud."""
    wide = {str(at): source(register=4 * at, **WIDE) for at in range(20)}
    found = said(wide, url="rtu+tcp://192.0.2.10", timeout="600ms")
    assert found == {
        (
            "connection",
            "timeout",
        ): "a meter may take 500 ms to begin its answer, and its answer of 80 registers takes 180 ms "
        'at 9600 baud; what comes after 600 ms is lost, and a danger to the next answer: at least "700ms"'
    }
    assert said(wide, url=SLOW, timeout="600ms") == {}
    assert 'at least "900ms"' in said(wide, url="ascii+tcp://192.0.2.10", timeout="700ms")["connection", "timeout"]


def test_a_gap_that_is_shorter_than_the_standards_silence_is_told():
    """It does no harm, since the silence is kept; 0 says that nothing more is wanted."""
    assert said(url=SLOW, gap="2ms") == {
        (
            "connection",
            "gap",
        ): "2 ms is less than the silence that RTU needs: 3.5 characters at 9600 baud take 3.65 ms; "
        "so long is waited in any case"
    }
    assert set(said([source(gap="1ms")], url=SLOW)) == {("0", "gap")}
    assert said(url=SLOW, gap="0s") == said(url=SLOW, gap="4ms") == {}
    assert said(url="ascii:///dev/ttyUSB0", gap="1ms") == said(url="tcp://192.0.2.10", gap="1ms") == {}


# --- characters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "rtu:///dev/ttyUSB0?parity=E&stopbits=2",
            "8E2 makes characters of 12 bits where the standard has 11: 8E1, 8O1 or 8N2",
        ),
        ("ascii:///dev/ttyUSB0?parity=N", "7N1 makes characters of 9 bits where the standard has 10: 7E1, 7O1 or 7N2"),
        ("ascii:///dev/ttyUSB0?stopbits=2", "7E2 makes characters of 11 bits"),
    ],
)
def test_characters_of_an_odd_length_are_told_with_what_the_standard_has(url, words):
    """A stop bit too many is a slip of the pen, mostly."""
    assert said(url=url)["connection", "url"].startswith(words)


def test_where_a_device_has_never_answered_its_line_is_compared_with_how_it_leaves_the_factory():
    """Once, when it matters; the settings of a line that works are nobody's concern."""
    profile = {"register": None, "type": None, "profile": "inepro-pro380", "point": "energy_import_total"}
    assert (
        hint(address_of(SLOW), [source(**profile)])
        == "the line has 9600 baud 8N1, and inepro-pro380 leaves the factory with 9600 baud 8E1"
    )
    assert hint(address_of(SLOW), [source()]) == "are its id and 9600 baud 8N1 as set in the meter?"
    assert hint(address_of("rtu:///dev/ttyUSB0?parity=E"), [source(**profile)]).startswith(
        "are its id and 9600 baud 8E1"
    )
    assert hint(address_of("tcp://192.0.2.10"), [source(**profile)]) == ""
