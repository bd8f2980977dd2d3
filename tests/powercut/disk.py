"""A disk under a recorded process: what a power cut leaves of it (reliability 5.3, appendix B).

What was synced is there. Of what was written since, any subset of 512-byte sectors may be; of the names made and removed
since their directory was synced, any first part for each name. A sync that failed wrote nothing, and the next one that
succeeds does not make up for it: the kernel has marked those pages clean (reliability 3.6, "fsync error").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.powercut.trace import Call, Event

SECTOR = 512
BALLAST_NAME = "buffer.ballast"  # nothing is in it: after a cut it may be of any length, here it has none
SHARED = "-shm"  # SQLite's index of the log, in shared memory: made anew after every cut


class _Change(NamedTuple):
    """Bytes at an offset, or with `data` None the size to which a file is cut."""

    call: Call
    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
            return
        content.extend(bytes(max(0, self.offset + len(self.data) - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> list[_Change]:
        if self.data is None:
            return [self]
        first = -self.offset % SECTOR
        edges = [0, *range(first or SECTOR, len(self.data), SECTOR), len(self.data)]
        return [_Change(self.call, self.offset + low, self.data[low:high]) for low, high in pairwise(edges)]


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[_Change] = field(default_factory=list)


class Disk:
    """The files of one directory; `take` the events in their order."""

    def __init__(self, directory: Path, before: Mapping[str, bytes] | None = None, *, lying: bool = False) -> None:
        """`before`: what was there, synced. `lying`: a device that takes every sync for done and does nothing."""
        self._directory = directory
        self._lying = lying
        files = {name: _File(bytearray(content)) for name, content in (before or {}).items()}
        self._names: dict[str, _File] = dict(files)  # as the processes see them
        self._synced_names: dict[str, _File] = dict(files)
        self._renamed: list[dict[str, _File | None]] = []  # names made and removed since the directory was synced
        self._covers: dict[int, list[_Change]] = {}  # id of a running sync -> what was written before it began
        self._name_covers: dict[int, int] = {}
        self._returned: set[int] = set()  # ids of the writes that have
        self._positions: dict[tuple[int, int], int] = {}
        self.syncs = 0

    def take(self, event: Event) -> None:
        """What has begun may be on the disk; what a sync has returned from surely is."""
        call = event.call
        match call.name:
            case "pwrite64" | "write" | "ftruncate":
                self._write(call) if event.when == "begin" else self._returned.add(id(call))
            case "fsync" | "fdatasync":
                self._sync_begins(call) if event.when == "begin" else self._sync_ends(call)
            case "open" | "openat" | "creat":
                if event.when == "end" and call.opened:
                    self._open(call)
            case "unlink" | "unlinkat":
                if event.when == "end" and call.done and (name := self._path(call, 0)):
                    self._name({name: None})
            case "rename" | "renameat" | "renameat2":
                if event.when == "end" and call.done:
                    self._rename(call)
            case "fallocate":
                place = call.place()  # a deleted one is a trial of the quota, which no cut leaves behind
                assert place.deleted or self._name_of(place.name) in {None, BALLAST_NAME}, (
                    f"a call that this disk does not know but for the ballast: {call}"
                )
            case "sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg":
                pass
            case _:
                assert not self._touches(call), f"a call that this disk does not know: {call}"

    def image(self, random: Random | None = None) -> dict[str, bytes]:
        """The files after a cut here: with `random`, of what is not synced a torn part; without, nothing of it."""
        names = dict(self._synced_names)
        if random:
            kept: set[int] = set()
            for name in dict.fromkeys(name for change in self._renamed for name in change):
                ours = [number for number, change in enumerate(self._renamed) if name in change]
                kept.update(ours[: random.randrange(len(ours) + 1)])
            for number in sorted(kept):
                _put(names, self._renamed[number])
        return {name: self._content(file, random) for name, file in names.items() if not name.endswith(SHARED)}

    @staticmethod
    def _content(file: _File, random: Random | None) -> bytes:
        if random is None or not file.pending:
            return bytes(file.synced)
        content = bytearray(file.synced)
        share = random.choice((0.0, 0.5, 1.0, random.random()))
        for change in file.pending:
            for sector in change.sectors():
                if random.random() < share:
                    sector.apply(content)
        return bytes(content)

    # --- the calls --------------------------------------------------------------------------------------------------

    def _write(self, call: Call) -> None:
        place = call.place()
        file = self._names.get(self._name_of(place.name) or "")
        if file is None or place.deleted or (call.result is not None and call.result < 0):
            return
        if call.name == "ftruncate":
            file.pending.append(_Change(call, call.number(1), None))
            return
        if call.name == "pwrite64":
            offset = call.number(3)
        else:
            offset = self._positions[call.run, place.fd]
            self._positions[call.run, place.fd] += len(call.data())
        file.pending.append(_Change(call, offset, call.data()))

    def _sync_begins(self, call: Call) -> None:
        name = self._name_of(call.place().name)
        if name == "":
            self._name_covers[id(call)] = len(self._renamed)
        elif name in self._names:
            # A write that is still under way is not covered; one that ended with its process is.
            pending = self._names[name].pending
            self._covers[id(call)] = [
                change for change in pending if id(change.call) in self._returned or change.call.run < call.run
            ]

    def _sync_ends(self, call: Call) -> None:
        count = self._name_covers.pop(id(call), 0)
        covered = self._covers.pop(id(call), [])
        if covered and call.result is not None and call.result < 0:
            self._without(self._file(call), covered)  # never to be written
        if not call.done or self._lying:
            return
        self.syncs += 1
        for change in self._renamed[:count]:
            _put(self._synced_names, change)
        del self._renamed[:count]
        if covered:
            for written in covered:
                written.apply(self._file(call).synced)
            self._without(self._file(call), covered)

    def _file(self, call: Call) -> _File:
        return self._names[self._name_of(call.place().name) or ""]

    @staticmethod
    def _without(file: _File, covered: list[_Change]) -> None:
        gone = {id(change) for change in covered}
        file.pending = [change for change in file.pending if id(change) not in gone]

    def _open(self, call: Call) -> None:
        assert call.opened
        name = self._name_of(call.opened.name)
        if not name:
            return
        flags = next(each for each in call.arguments if isinstance(each, str) and each.startswith("O_"))
        if name not in self._names and ("O_CREAT" in flags):
            self._name({name: _File()})
        if name in self._names and "O_TRUNC" in flags:
            self._names[name].pending.append(_Change(call, 0, None))
        self._positions[call.run, call.opened.fd] = 0

    def _name(self, change: dict[str, _File | None]) -> None:
        _put(self._names, change)
        self._renamed.append(change)

    def _rename(self, call: Call) -> None:
        old, new = self._path(call, 0), self._path(call, 1)
        assert (old is None) == (new is None), f"renamed across the directory's edge: {call}"
        if old and new:
            self._name({old: None, new: self._names[old]})

    def _path(self, call: Call, index: int) -> str | None:
        paths = [each for each in call.arguments if isinstance(each, bytes)]
        return self._name_of(paths[index].decode())

    def _name_of(self, path: str) -> str | None:
        """The name within the directory; "" for the directory itself, None for what lies elsewhere."""
        whole = str(self._directory)
        return path.removeprefix(whole).lstrip("/") if (path + "/").startswith(whole + "/") else None

    def _touches(self, call: Call) -> bool:
        told = [each for each in call.arguments if not isinstance(each, str)]
        names = [each.decode(errors="replace") if isinstance(each, bytes) else each.name for each in told]
        return any(self._name_of(name) is not None for name in names)


def _put(names: dict[str, _File], change: dict[str, _File | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def found(directory: Path) -> dict[str, bytes]:
    """The files of a directory, as an image."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def lay_down(image: Mapping[str, bytes], directory: Path) -> None:
    """Write an image's files into a directory that is there and empty."""
    for name, content in image.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
