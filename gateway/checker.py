"""Looks through the database after an unclean stop, while collecting goes on and pushes wait; ends the process on damage.

What to do about damage is for the next start, before anything else uses the file (`buffer.recovery`): systemd starts again
whatever ended with a failure.
"""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffer.store import Store
    from drivers.base import Now

LOOK_EVERY = 5.0  # s between looks at whether some read or write has met damage
AGAIN = 60.0  # s until a check that could not read the file is tried again


class Damaged(Exception):  # noqa: N818 - says what was found
    """The database must be opened anew by a process that has done nothing yet."""


class Checker:
    """The worker."""

    def __init__(self, store: Store, on_checked: Callable[[], None]) -> None:
        """`on_checked()` when pushes may begin."""
        self.name = "check"
        self.wake = Event()
        self._store = store
        self._on_checked = on_checked

    def step(self, now: Now) -> float:
        """Check when that is due; Damaged when the file is."""
        if not self._store.checked and not self._store.damaged:
            self._store.check()
            if self._store.checked:
                self._on_checked()
        if self._store.damaged:
            raise Damaged("the database is damaged; the next start salvages what can be read")
        return now.boottime + (LOOK_EVERY if self._store.checked else AGAIN)
