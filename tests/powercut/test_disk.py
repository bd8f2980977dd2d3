"""The disk under a recording: what of it survives a cut."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.powercut.disk import SECTOR, Disk
from tests.powercut.trace import Call, Event, Place, read

HERE = Path("/data")
FILE = Place(3, "/data/file")


def write(data: bytes, offset: int = 0, result: int | None = None) -> Call:
    size = len(data) if result is None else result
    return Call(0, 1, "pwrite64", [FILE, data, str(len(data)), str(offset)], size)


def sync(result: int = 0, place: Place = FILE) -> Call:
    return Call(0, 1, "fdatasync", [place], result)


def rename(old: str, new: str) -> Call:
    return Call(0, 1, "rename", [f"/data/{old}".encode(), f"/data/{new}".encode()], 0)


def taken(*calls: Call) -> Disk:
    """An empty file, and then these calls, each one to its end."""
    disk = Disk(HERE, {"file": b""})
    for call in calls:
        disk.take(Event("begin", call))
        disk.take(Event("end", call))
    return disk


def images(disk: Disk) -> set[bytes]:
    """What may be in the file after a cut."""
    return {disk.image(Random(seed))["file"] for seed in range(300)}


def test_what_was_synced_is_there_and_what_was_not_may_be_there_in_part():
    """Sector by sector, in any combination."""
    disk = taken(write(b"a" * SECTOR), sync(), write(b"b" * 2 * SECTOR))
    a, b = b"a" * SECTOR, b"b" * SECTOR
    assert disk.image()["file"] == a
    assert images(disk) == {a, b, a + b, b + b}


def test_a_sync_covers_what_had_returned_before_it_began():
    """What another thread is still writing meanwhile is not covered."""
    disk, late, syncing = taken(write(b"a")), write(b"b", 1), sync()
    for when, call in [("begin", late), ("begin", syncing), ("end", syncing), ("end", late)]:
        disk.take(Event(when, call))
    assert disk.image()["file"] == b"a"
    disk.take(Event("begin", done := sync()))
    disk.take(Event("end", done))
    assert disk.image()["file"] == b"ab"


def test_after_a_sync_that_failed_only_writing_again_helps():
    """The next sync finds nothing to write."""
    assert images(taken(write(b"a"), sync(-1), sync())) == {b""}
    assert images(taken(write(b"a"), sync(-1), write(b"a"), sync())) == {b"a"}


def test_a_write_that_failed_was_none_and_a_short_one_is_short():
    """As the call's result has it."""
    assert images(taken(write(b"abc", result=-1), sync())) == {b""}
    assert images(taken(write(b"abc", result=2), sync())) == {b"ab"}


def test_names_are_certain_when_their_directory_was_synced():
    """Until then the old one may be there, or the new one, never both or neither."""
    disk = taken(write(b"a"), sync(), rename("file", "other"))
    assert {tuple(disk.image(Random(seed))) for seed in range(50)} == {("file",), ("other",)}
    directory = sync(place=Place(4, "/data"))
    disk.take(Event("begin", directory))
    disk.take(Event("end", directory))
    assert list(disk.image()) == ["other"]


def test_a_call_that_it_does_not_know_is_not_passed_over():
    """A recording with one in it would prove nothing."""
    with pytest.raises(AssertionError, match="does not know"):
        taken(Call(0, 1, "fallocate", [FILE, "0", "0", "4096"], 0))
    taken(Call(0, 1, "fallocate", [Place(3, "/elsewhere"), "0", "0", "4096"], 0))


def test_a_recording_is_read_in_its_true_order(tmp_path):
    """A call that another one interrupts begins where it stands and ends where it is resumed; paths and data are in hex."""
    log = tmp_path / "log"
    log.write_text(
        r"""7 pwrite64(3<\x2f\x61>, "\x01\x02", 2, 8 <unfinished ...>
8 sendto(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\x68\x69", 2, 0, NULL, 0) = 2
7 <... pwrite64 resumed>) = 2
7 openat(AT_FDCWD<\x2f>, "\x2f\x62", O_RDWR|O_CREAT, 0644) = 4<\x2f\x62>
7 write(4<\x2f\x62>(deleted), "", 0) = -1 EIO (Input/output error) (INJECTED)
7 fdatasync(3<\x2f\x61> <unfinished ...>
8 +++ exited with 0 +++
9 ???( <unfinished ...>
7 <... fdatasync resumed>) = ?
9 <... ??? resumed>) = ?
7 +++ killed by SIGKILL +++
"""
    )
    events = read([log])
    told = [(event.when, event.call.name, event.call.result) for event in events]
    assert told[:4] == [("begin", "pwrite64", 2), ("begin", "sendto", 2), ("end", "sendto", 2), ("end", "pwrite64", 2)]
    assert told[6:] == [
        ("begin", "write", -1),
        ("end", "write", -1),
        ("begin", "fdatasync", None),
        ("end", "fdatasync", None),
    ]
    calls = [event.call for event in events if event.when == "begin"]
    assert calls[0].place() == Place(3, "/a")
    assert (calls[0].data(), calls[0].number(3)) == (b"\x01\x02", 8)
    assert calls[1].place().name == "TCP:[127.0.0.1:1->127.0.0.1:2]"
    assert calls[2].opened == Place(4, "/b")
    assert calls[3].place().deleted
