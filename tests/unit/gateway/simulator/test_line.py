"""The simulated line without sockets: a request, its instant, and what is sent back when."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from gateway.simulator.faults import EVERY, KINDS, Fault, fault_of
from gateway.simulator.frames import Ascii, Framing, Mbap, Request, Rtu, checksum
from gateway.simulator.line import HangUp, Line, Send, serial_speed
from gateway.simulator.meters import Register, WordMeter
from gateway.simulator.shown import Shown

AT = datetime(2026, 3, 2, 9, 55, tzinfo=UTC)
COUNTER = Register(10, "u32", 1_000_000)
METER = WordMeter(1, {10: 0, 11: 500, 12: 7, 13: 8}, (COUNTER,))
OTHER = WordMeter(2, {10: 0, 11: 900}, (COUNTER,))


def request(framing: Framing, device: int = 1, function: int = 3, register: int = 10, count: int = 2) -> Request:
    """As it comes from the wire."""
    frame = framing.wrap(77, device, struct.pack(">BHH", function, register, count))
    taken, size = framing.take(frame)
    assert size == len(frame)
    assert taken is not None
    return taken


def line(transport: str = "tcp", *faults: Fault, **keys) -> Line:
    """Two meters; chance is always the same."""
    made = Line([METER, OTHER], transport, **keys)
    made.faults = faults
    made.chance = Random(3)
    return made


def answers(made: Line, times: int = 1, **keys) -> list[list[Send | HangUp]]:
    """What follows from the same request, again and again, ten seconds apart."""
    return [made.answer(request(made.framing, **keys), 10.0 * number, AT) for number in range(1, times + 1)]


def sent(made: Line, **keys) -> bytes:
    """The only thing that is sent back to one request."""
    ((send,),) = answers(made, **keys)
    assert isinstance(send, Send)
    return send.data


GOOD = {
    "tcp": bytes([0, 77, 0, 0, 0, 7, 1, 3, 4, 0, 0, 1, 244]),
    "rtu": bytes([1, 3, 4, 0, 0, 1, 244]) + checksum(bytes([1, 3, 4, 0, 0, 1, 244])),
    "ascii": b":010304000001F403\r\n",
}


@pytest.mark.parametrize("transport", ["tcp", "rtu", "ascii"])
def test_a_sound_line_answers_with_the_registers_that_were_asked_for(transport):
    """The frames are those of the specification."""
    assert sent(line(transport)) == GOOD[transport]


def test_the_checksum_is_that_of_another_implementation():
    """That of pymodbus, on frames of all lengths."""
    chance = Random(1)
    for size in range(1, 256):
        frame = chance.randbytes(size)
        assert checksum(frame) == FramerRTU.compute_CRC(frame).to_bytes(2, "big")


@pytest.mark.parametrize("framing", [Mbap(), Rtu(), Ascii()])
def test_a_request_in_pieces_is_awaited_and_two_in_one_are_told_apart(framing):
    """Wherever the bytes are cut."""
    frame = request(framing).frame
    for cut in range(len(frame)):
        assert framing.take(frame[:cut]) == (None, 0)
    first, size = framing.take(frame + request(framing, device=2).frame)
    assert first is not None
    assert (first.device, size) == (1, len(frame))


def test_what_is_no_request_is_dropped():
    """A wrong checksum, and a header that is none."""
    frame = request(Rtu()).frame
    assert Rtu().take(frame[:-1] + b"\0") == (None, len(frame))
    assert Mbap().take(b"GET / HTTP/1.1\r\n") == (None, 16)
    assert Ascii().take(b"\0\0:01") == (None, 2)
    assert Ascii().take(b":010300000002FB\r\n") == (None, 17)
    assert Ascii().take(b":01 hello\r\n:") == (None, 11)


@pytest.mark.parametrize(
    ("kind", "transport", "expected"),
    [
        ("hole", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 2])),
        ("too-many", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 3])),
        ("failure", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 4])),
        ("acknowledge", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 5])),
        ("busy", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 6])),
        ("path", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 0x0A])),
        ("target", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 0x0B])),
        ("unknown", "tcp", bytes([0, 77, 0, 0, 0, 3, 1, 0x83, 0xF4])),
        ("corrupt", "tcp", bytes([0, 77, 0x4D, 0x42]) + GOOD["tcp"][4:]),
        ("corrupt", "rtu", GOOD["rtu"][:-2] + bytes(byte ^ 1 for byte in GOOD["rtu"][-2:])),
        ("corrupt", "ascii", b":010304000001F402\r\n"),
        ("zero-transaction", "tcp", bytes([0, 0]) + GOOD["tcp"][2:]),
        ("old-transaction", "tcp", bytes([0, 76]) + GOOD["tcp"][2:]),
        ("wrong-unit", "tcp", GOOD["tcp"][:6] + bytes([103]) + GOOD["tcp"][7:]),
        ("wrong-function", "tcp", GOOD["tcp"][:7] + bytes([4]) + GOOD["tcp"][8:]),
        ("long", "tcp", bytes([0, 77, 0, 0, 0, 9, 1, 3, 6, 0, 0, 1, 244, 0, 7])),
        ("echo", "rtu", bytes([1, 3, 0, 10, 0, 2, 0xE4, 0x09]) + GOOD["rtu"]),
        ("sentinel", "tcp", GOOD["tcp"][:-4] + b"\xff" * 4),
        ("nan", "tcp", GOOD["tcp"][:-4] + b"\xff" * 4),
        ("counter-reset", "tcp", GOOD["tcp"][:-4] + bytes(4)),
    ],
)
def test_a_fault_changes_the_frame_as_it_says(kind, transport, expected):
    """Byte for byte."""
    assert sent(line(transport, Fault(kind, every=1))) == expected


@pytest.mark.parametrize("transport", ["tcp", "rtu"])
def test_faults_of_chance_stay_within_what_they_say(transport):
    """Whatever chance brings."""
    good = GOOD[transport]
    for seed in range(40):
        got = {}
        for kind in ("cut", "noise", "length", "short"):
            made = line(transport, Fault(kind, every=1))
            made.chance = Random(seed)
            got[kind] = sent(made)
        assert good.startswith(got["cut"])
        assert 0 < len(got["cut"]) < len(good)
        assert got["noise"].find(good) > 0
        assert not got["noise"].endswith(good)
        assert len(got["length"]) == len(good)
        assert got["length"] != good
        assert len(got["short"]) in {len(good) - 2, len(good) - 4}
        if transport == "rtu":
            assert checksum(got["short"][:-2]) == got["short"][-2:]


def test_what_does_not_come_does_not_come():
    """Silence, and connections that end."""
    assert answers(line("tcp", Fault("silent", every=1))) == [[]]
    assert answers(line("tcp", Fault("reset", every=1))) == [[HangUp(10.0, "reset")]]
    assert answers(line("tcp", Fault("half-close", every=1))) == [[HangUp(10.0, "half")]]


def test_a_late_answer_is_late_within_its_bounds_and_no_device_answers_out_of_turn():
    """The next answer of the same device comes behind it, that of another does not wait."""
    made = line("tcp", Fault("late", every=2, device=1))
    made.late = (3.0, 4.0)
    first, second, third, other = (
        made.answer(request(made.framing, device=device), 10.0 + number / 10, AT)[0].at
        for number, device in enumerate((1, 1, 1, 2))
    )
    late, following = (first, second) if first > 12 else (second, third)
    assert 3.0 <= late - 10.0 <= 4.1
    assert following >= late
    assert other == pytest.approx(10.3)


def test_an_answer_may_rest_in_its_middle():
    """Half of it comes in time, the other one late."""
    made = line("rtu", Fault("pause", every=1))
    made.late = (3.0, 4.0)
    ((first, second),) = answers(made)
    assert first.data + second.data == GOOD["rtu"]
    assert 3.0 <= second.at - first.at <= 4.0


def test_an_answer_comes_again_unasked():
    """Some time after it was over."""
    ((first, again),) = answers(line("rtu", Fault("unasked", every=1)))
    assert first.data == again.data
    assert again.at > first.at


def test_another_master_is_heard_before_the_answer_that_it_gets():
    """As many registers, from elsewhere, with other numbers."""
    ((asked, answer),) = answers(line("rtu", Fault("two-masters", every=1)))
    assert isinstance(asked, Send)
    assert isinstance(answer, Send)
    assert asked.data == Rtu.wrap(0, 1, struct.pack(">BHH", 3, 266, 2))
    assert answer.data == Rtu.wrap(0, 1, bytes([3, 4, 1, 1, 0, 245]))
    assert answer.at > asked.at


def test_every_fifth_answer_of_each_device_meets_a_fault_and_not_all_in_one_round():
    """Else a line whose devices are asked in turn would show the fault at one device only, or at all of them at once."""
    made = line("tcp", Fault("silent"))
    silent = {
        device: [number for number, got in enumerate(answers(made, 4 * EVERY, device=device)) if not got]
        for device in (1, 2)
    }
    for numbers in silent.values():
        assert len(numbers) == 4
        assert {after - before for before, after in pairwise(numbers)} == {EVERY}
    assert not set(silent[1]) & set(silent[2])


def test_a_fault_of_one_device_is_no_other_ones():
    """`@DEVICE`."""
    made = line("tcp", fault_of("silent=1@2"))
    assert answers(made, device=2) == [[]]
    assert answers(made, device=1)[0]


def counts(made: Line, times: int, counter: Register = COUNTER) -> list[int]:
    """What the counter shows, time after time; the truth is 500, 501, ..."""
    held = dict(METER.held)
    made._meters[1], made._shown[1] = WordMeter(1, held, (counter,)), Shown((counter,))
    shown = []
    for number in range(times):
        held[11] = 500 + number
        shown.append(int(COUNTER.unpack(struct.unpack(">HH", sent(made)[-4:]))))
    return shown


def test_a_counter_that_was_reset_counts_on_from_0():
    """Again and again."""
    assert counts(line("tcp", Fault("counter-reset", every=3, device=1)), 8) == [500, 0, 1, 2, 0, 1, 2, 0]


def test_a_counter_rolls_over_once_at_the_end_of_its_digits():
    """It is nearly full at first, and never goes back by anything else."""
    coarse = COUNTER._replace(step=3_000_000)
    shown = counts(line("tcp", Fault("rollover", device=1)), 8, coarse)
    assert shown == [coarse.full - 3, coarse.full - 2, coarse.full - 1, 0, 1, 2, 3, 4]


def test_a_value_that_is_asked_for_in_part_is_left_alone():
    """A fault of the counter changes whole counters."""
    assert sent(line("tcp", Fault("sentinel", every=1)), register=11, count=3)[-6:] == bytes([1, 244, 0, 7, 0, 8])


@pytest.mark.parametrize(
    ("baudrate", "parity", "character", "silence"),
    [
        (9600, "N", 10 / 9600, 35 / 9600),
        (19_200, "E", 11 / 19_200, 3.5 * 11 / 19_200),
        (38_400, "N", 10 / 38_400, 0.00175),
    ],
)
def test_an_answer_begins_after_the_turnaround_and_never_before_the_silence_that_ends_a_request(
    baudrate, parity, character, silence
):
    """Modbus over serial line 1.02, section 2.5.1.1: a meter sees a request's end by 3.5 characters without a byte."""
    assert serial_speed(baudrate, parity)[:2] == pytest.approx((character, silence))
    for turnaround, begins in ((0.0, silence), (0.04, 0.04)):
        made = line("rtu", speed=serial_speed(baudrate, parity, turnaround))
        assert answers(made)[0][0].at == pytest.approx(10.0 + begins)


@pytest.mark.parametrize("count", [0, 126, 65_535])
def test_a_read_of_no_registers_or_more_than_the_protocol_knows_is_refused(count):
    """Exception 0x03, whatever the meter."""
    assert sent(line("tcp"), count=count)[-2:] == bytes([0x83, 3])


@given(st.binary(max_size=300), st.sampled_from(["tcp", "rtu", "ascii"]), st.sets(st.sampled_from(sorted(KINDS))))
def test_whatever_comes_the_line_goes_on(data, transport, kinds):
    """Bytes from anywhere, with any faults: something is sent back or not, and nothing else happens."""
    made = line(transport, *(Fault(kind, every=1) for kind in kinds))
    rest = data
    while rest:
        taken, size = made.framing.take(rest)
        if size == 0:
            break
        rest = rest[size:]
        if taken is not None:
            made.answer(taken, 0.0, AT)
    first, register, registers = (data + bytes(3))[:3]
    function = (
        1 + first % 6
    )  # those whose requests are a register and a number; on RTU the function says how long they are
    for action in answers(made, function=function, register=register, count=registers)[0]:
        assert action.at >= 10.0
        assert isinstance(action, HangUp) or action.data


def test_a_single_byte_that_rests_is_sent_once():
    """What broke off so early has no halves."""
    made = line("rtu", Fault("cut", every=1), Fault("pause", every=1))
    assert all(send.data for sends in answers(made, 50) for send in sends)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("late", Fault("late", EVERY, None)),
        ("late=2", Fault("late", 2, None)),
        ("busy@7", Fault("busy", EVERY, 7)),
        ("busy=1@7", Fault("busy", 1, 7)),
    ],
)
def test_a_fault_is_written_as_kind_number_and_device(text, fault):
    """`KIND[=N][@DEVICE]`."""
    assert fault_of(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no kind of fault"),
        ("latte", "'latte' is no kind of fault .did you mean \"late\"..; --list-faults"),
        ("late=", "1 to 1000000"),
        ("late=0", "1 to 1000000"),
        ("late=-1", "1 to 1000000"),
        ("late=1000001", "1 to 1000000"),
        ("late=" + "9" * 5000, "1 to 1000000"),
        ("late=\u0661", "1 to 1000000"),
        ("late@", "1 to 247"),
        ("late@248", "1 to 247"),
        ("late@1=5", "1 to 247"),
    ],
)
def test_a_fault_that_is_none_is_told_with_what_is_allowed(text, says):
    """And nothing else comes out."""
    with pytest.raises(ValueError, match=says):
        fault_of(text)


def test_every_kind_is_explained_in_a_line():
    """At 80 columns, beside its name."""
    assert all(len(kind) <= 16 and 5 < len(facts.text) <= 60 for kind, facts in KINDS.items())
