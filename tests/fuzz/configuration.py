"""What a fuzzer calls in reading the configuration; what it raises is a bug."""

from __future__ import annotations

from pathlib import Path

from gateway import config
from gateway.errors import Misconfigured


def configuration(data: bytes, path: Path) -> None:
    """A file of these bytes: a configuration, or mistakes in words."""
    path.write_bytes(data)
    try:
        config.load(path)
    except Misconfigured as refused:
        str(refused).encode()
