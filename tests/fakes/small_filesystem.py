"""A filesystem of a few MiB over a directory, for processes that are started in it; needs no rights where namespaces work.

    with small_filesystem(directory, 24 * MIB) as small:
        subprocess.run([*small.inside, "df", directory])   # they see it
        small.path                                         # where everybody else does

The test is skipped with a sentence where nothing can be mounted.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && echo ready && exec cat'
PAGE = 4096
ROOT = Path(__file__).parents[2]


class SmallFilesystem(NamedTuple):
    """`inside`: what comes before a command that is to see it; `path`: it, seen from outside."""

    inside: list[str]
    path: Path

    def fill(self) -> None:
        """Somebody else takes all of its room."""
        fill(self.path / "others")

    def leave(self) -> None:
        """And gives it back."""
        (self.path / "others").unlink()


def fill(file: Path) -> None:
    """Let a file grow until there is no room."""
    with suppress(OSError), file.open("ab", buffering=0) as others:
        while others.write(bytes(PAGE)):
            pass


@cache
def why_not() -> str:
    """Why nothing can be mounted here; "" where it can."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return "unshare and nsenter are not installed: apt install util-linux"
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    tried = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return "" if tried.returncode == 0 else "no filesystem can be mounted here: the kernel or the container forbids it"


@contextmanager
def small_filesystem(directory: Path, size: int) -> Iterator[SmallFilesystem]:
    """It is there until the end of the block, and empty at its beginning."""
    if reason := why_not():
        pytest.skip(reason)
    command = ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(size), str(directory)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    try:
        assert holder.stdout.readline() == b"ready\n"
        inside = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials"]
        inside += ["sh", "-c", 'cd "$0" && exec "$@"', str(ROOT)]  # it enters at the root
        yield SmallFilesystem(inside, Path(f"/proc/{holder.pid}/root{directory}"))
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(60)
