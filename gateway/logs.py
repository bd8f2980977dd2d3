"""Log lines: priorities for the journal, times for a terminal; one event per line."""

from __future__ import annotations

import logging
import os
import sys

_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_TALKERS = ("httpx", "httpcore", "hpack", "pymodbus", "paho", "amqtt", "transitions", "asyncio", "sqlite_utils")


class _OneLine(logging.Formatter):
    """A message and its traceback on one line, whatever a server or device wrote into it."""

    def format(self, record: logging.LogRecord) -> str:
        text = " | ".join(line for line in super().format(record).splitlines() if line.strip())
        return "".join(sign if sign.isprintable() else "?" for sign in text)


class _ForJournal(_OneLine):
    """Prefixes the line with <N>, from which systemd-journald takes the priority (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 6)}>{super().format(record)}"


def configure(*, verbose: bool = False, usual: int = logging.INFO) -> None:
    """Send log lines to stderr, for the journal or for a person; those below the level `usual` only when `verbose`."""
    handler = logging.StreamHandler(sys.stderr)
    if is_journal():
        handler.setFormatter(_ForJournal("%(message)s"))
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else usual, handlers=[handler], force=True)
    for talker in _TALKERS:  # they log whole requests, the API key in their headers included; what matters we say
        logging.getLogger(talker).setLevel(logging.CRITICAL)


def last_words(message: str) -> None:
    """Why the process ends, for a person or with its priority for the journal."""
    prefix = f"<{_PRIORITY[logging.ERROR]}>" if is_journal() else ""
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in message.splitlines()))


def is_journal() -> bool:
    """Whether stderr is the stream that $JOURNAL_STREAM names, which outlives a redirection (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        here = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(here.st_dev), str(here.st_ino))
