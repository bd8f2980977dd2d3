"""One process owns a database: an exclusive lock beside the file that says who holds it (R20)."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any


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
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise LockHeld(path, holder(path) or {}) from None
        self._file.truncate(0)
        json.dump({"pid": os.getpid(), **facts}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Give the lock back."""
        self._file.truncate(0)
        self._file.close()


def holder(path: Path) -> dict[str, Any] | None:
    """What the lock's holder says of itself; None when nobody holds it."""
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _facts(file.read())
    except OSError:
        pass
    return None


def _facts(text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
