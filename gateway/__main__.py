"""The command `meter-gateway`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        sys.stdout = sys.stdout or _nowhere()  # closed by the caller, `>&-`
        sys.stderr = sys.stderr or _nowhere()
        from gateway.cli import run  # noqa: PLC0415 - here, so that Ctrl-C while it is loaded ends quietly too

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without "³" must not end a command
        code = run(sys.argv[1:])
    except BaseException as error:
        if not is_interrupt(error):
            raise
        code = INTERRUPTED
    sys.exit(code)


def is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C: also one that pydantic met while it built a model, and made an error of its own from."""
    wrapped = type(error).__module__.startswith("pydantic_core") and KeyboardInterrupt.__name__ in str(error)
    return isinstance(error, KeyboardInterrupt) or wrapped


def _nowhere() -> io.TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")


if __name__ == "__main__":
    main()
