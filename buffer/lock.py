"""One process owns a database: an exclusive lock beside the file that says who holds it (R20)."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

ATTEMPTS = 100  # to get past those who only look (see `holder`); each of them is gone within microseconds


class LockHeld(Exception):  # noqa: N818 - says what was found
    """Another process owns the database; `holder` is what it wrote about itself."""

    def __init__(self, path: Path, holder: dict[str, Any]) -> None:
        """Name the holder as precisely as it named itself."""
        self.holder = holder
        who = f"process {holder.get('pid', '?')} ({holder.get('command', 'unknown')})"
        super().__init__(f"{path.parent} is in use by {who}; stop it first, or give this gateway its own data_dir")


class Lock:
    """Held from construction to `release` or the end of the process, however it ends."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Take the lock or raise LockHeld; `facts` tells others who holds it and how to speak to it."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take(self._fd, path)
        except BaseException:
            os.close(self._fd)
            raise
        self._path = path
        self._untold = json.dumps({"pid": os.getpid(), **facts}).encode()
        self.tell()

    def tell(self) -> None:
        """Write down who holds it, where that could not be done yet."""
        if not self._untold:
            return
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, self._untold, 0)
        except OSError as error:  # a full disk must not keep the gateway from starting (R27)
            log.warning("%s cannot say who holds it: %s", self._path, error)
        else:
            self._untold = b""

    def release(self) -> None:
        """Give the lock back."""
        try:
            os.ftruncate(self._fd, 0)
        finally:
            os.close(self._fd)


def holder(path: Path) -> dict[str, Any] | None:
    """What the lock's holder says of itself; None when nobody holds it."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _facts(file.read())
    except OSError:
        pass
    return None


def _take(fd: int, path: Path) -> None:
    for _ in range(ATTEMPTS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = holder(path)
            if who is not None:
                raise LockHeld(path, who) from None
        else:
            return
    raise LockHeld(path, {})


def _facts(text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
