"""A disk that fails when it is told to, under this process' own, unmodified SQLite: a VFS before the one of the system.

    with failing_disk(directory) as disk:       # for every file that SQLite opens below this directory from now on
        disk.fail({17, 19}, ENOSPC)             # these operations from now on: writes, syncs and truncates are counted
        disk.fail(AtLeast(17), EIO)             # that one and all that follow
        disk.heal()
        disk.operations, disk.failed            # how many there were since, and how many of them failed
    disk.nameless                           # how many temporary files there were

A write that finds no space has written its first half, as write(2) may. Nothing is really synced, so it is fast; what
a failed sync does to the pages, only strace and a replay can show. The test is skipped with a sentence where Python's SQLite
is not a library of its own.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Container, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, addressof, c_char_p, c_int, c_int64, c_void_p, cast, sizeof
from errno import EIO, ENOSPC
from pathlib import Path
from typing import Any, Literal

import pytest

__all__ = ["EIO", "ENOSPC", "AtLeast", "FailingDisk", "FromTheSyncOn", "failing_disk"]

Kind = Literal["write", "sync", "truncate"]
SKIPPED = "this Python has SQLite built in: no disk can be put under it"
CODES: dict[tuple[Kind, int], int] = {  # as os_unix.c has them; no space is told apart only where data is written
    ("write", ENOSPC): sqlite3.SQLITE_FULL,
    ("write", EIO): sqlite3.SQLITE_IOERR_WRITE,
    ("sync", ENOSPC): sqlite3.SQLITE_IOERR_FSYNC,
    ("sync", EIO): sqlite3.SQLITE_IOERR_FSYNC,
    ("truncate", ENOSPC): sqlite3.SQLITE_IOERR_TRUNCATE,
    ("truncate", EIO): sqlite3.SQLITE_IOERR_TRUNCATE,
}

_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):
    """sqlite3_vfs, as far as it is changed."""

    _fields_ = (
        ("version", c_int), ("file_size", c_int), ("longest_path", c_int), ("next", c_void_p), ("name", c_char_p),
        ("data", c_void_p), ("open", c_void_p), ("others", c_void_p * 14),
    )  # fmt: skip


class _Methods(Structure):
    """sqlite3_io_methods."""

    _fields_ = (
        ("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", c_void_p), ("truncate", c_void_p),
        ("sync", c_void_p), ("others", c_void_p * 13),
    )  # fmt: skip


class AtLeast:
    """Every number from the first one on."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number >= self._first


_MADE: list[FailingDisk] = []  # a connection that a failed test has forgotten calls its methods at the very end


class FailingDisk:
    """See the module; `failing_disk` makes one."""

    def __init__(self, library: Any, directory: Path) -> None:
        self.operations = 0
        self.kind: Kind = "write"  # of the operation that is under way
        self.failed: list[tuple[int, Kind]] = []
        self.nameless = 0  # files that SQLite has opened for itself, in the system's directory for temporary ones
        self._failing: Container[int] = ()
        self._error = EIO
        self._directory = str(directory).encode()
        self._library = library
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._system = library.sqlite3_vfs_find(None)
        self._vfs = _Vfs.from_buffer_copy(self._system.contents)
        self._vfs.name = b"failing"
        self._system_open = _OPEN(self._system.contents.open)
        self._methods: dict[int, _Methods] = {}  # the system's -> ours
        self._keep: list[Any] = [_OPEN(self._open)]  # what C holds must not be collected
        self._vfs.open = cast(self._keep[0], c_void_p)

    def fail(self, which: Container[int], error: int) -> None:
        """Let these operations fail, counted from now on; the first one is 1."""
        self.operations, self.failed = 0, []
        self._failing, self._error = which, error

    def heal(self) -> None:
        """It works again."""
        self._failing = ()

    def use(self) -> None:
        """Every file that is opened from now on goes through this disk."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)

    def leave(self) -> None:
        """Give SQLite its own back."""
        self._library.sqlite3_vfs_register(self._system, 1)
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def _fails(self, kind: Kind) -> int:
        """The code of the failure that is due; 0 when none is."""
        self.operations += 1
        self.kind = kind
        if self.operations not in self._failing:
            return sqlite3.SQLITE_OK
        self.failed.append((self.operations, kind))
        return CODES[kind, self._error]

    def _open(self, vfs: int, name_at: int | None, file: int, flags: int, flags_out: int) -> int:
        result = self._system_open(vfs, name_at, file, flags, flags_out)  # which keeps the pointer to the name
        name = ctypes.string_at(name_at) if name_at else b""
        self.nameless += not name_at
        ours = name.startswith(self._directory + b"/") and not name.endswith(b"-shm")
        if result == sqlite3.SQLITE_OK and ours:
            methods = cast(file, POINTER(c_void_p))
            if methods[0]:
                methods[0] = addressof(self._changed(methods[0]))
        return result

    def _changed(self, address: int) -> _Methods:
        """The system's methods with ours in front of three of them."""
        if address not in self._methods:
            methods = _Methods()
            size = sizeof(_Methods) if c_int.from_address(address).value >= 3 else _Methods.others.offset + 12 * 8
            ctypes.memmove(addressof(methods), address, size)
            write, truncate = _WRITE(methods.write), _TRUNCATE(methods.truncate)

            def do_write(file: int, data: int, size: int, offset: int) -> int:
                code = self._fails("write")
                if code == sqlite3.SQLITE_FULL:
                    write(file, data, size // 2, offset)
                return code or write(file, data, size, offset)

            def do_truncate(file: int, size: int) -> int:
                return self._fails("truncate") or truncate(file, size)

            def do_sync(file: int, flags: int) -> int:
                return self._fails("sync")

            changed = [_WRITE(do_write), _TRUNCATE(do_truncate), _SYNC(do_sync)]
            methods.write, methods.truncate, methods.sync = (cast(each, c_void_p) for each in changed)
            self._keep += changed
            self._methods[address] = methods
        return self._methods[address]


class FromTheSyncOn:
    """The pages are written, the sync fails, and so does the checkpoint when the connection is closed.

    So COMMIT raises, and after opening again the transaction is there (reliability 2.5).
    """

    def __init__(self, disk: FailingDisk) -> None:
        self._disk = disk
        self._begun = False

    def __contains__(self, number: object) -> bool:
        self._begun = self._begun or self._disk.kind == "sync"
        return self._begun


@contextmanager
def failing_disk(directory: Path) -> Iterator[FailingDisk]:
    """A disk that works until it is told otherwise."""
    library = ctypes.CDLL(_sqlite3.__file__)
    if not hasattr(library, "sqlite3_vfs_find"):
        pytest.skip(SKIPPED)
    disk = FailingDisk(library, directory)
    _MADE.append(disk)
    disk.use()
    try:
        yield disk
    finally:
        disk.leave()
