"""The command `meter-gateway`."""

from __future__ import annotations

import io
import sys

from gateway.cli import run


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "³" must not end a command
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
