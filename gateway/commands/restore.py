"""`restore FILE`: a backup takes the place of the database, which is moved aside; the service must be stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from buffer.copies import CopyError, NotCopied, restore
from buffer.lock import LockHeld
from buffer.migrations import NewerDatabase
from gateway import terminal
from gateway.errors import OK, DatabaseFailure, GatewayError, Misconfigured, NoDatabase, NotPermitted
from gateway.locate import data_dir, find_config

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """From where."""
    parser.add_argument("backup", metavar="FILE", type=Path, help="what `meter-gateway backup` wrote")


def run(args: argparse.Namespace) -> int:
    """Put it back; 1 when the file is no whole backup, 73 while a gateway runs, 74 and 77 when the disk or rights say no."""
    directory = data_dir(find_config(args.config))
    try:
        aside = restore(args.backup, directory, {"command": "restore"})
    except CopyError as error:
        raise GatewayError(str(error)) from None
    except NewerDatabase as error:
        raise Misconfigured(f"{args.backup}: {error}; install that release again, nothing was changed") from None
    except LockHeld as error:
        raise NoDatabase(f"{error}: sudo systemctl stop meter-gateway") from None
    except PermissionError as error:
        raise NotPermitted(f"{error.filename or directory}: {error.strerror}; try again with sudo") from None
    except (NotCopied, OSError) as error:
        raise DatabaseFailure(f"{args.backup}: not restored: {error}") from None
    if args.json:
        terminal.document({"restored": str(args.backup), "replaced": aside and str(aside)})
        return OK
    _say(f"{args.backup} is the database now.")
    if aside:
        _say(f"The one before is in {aside}; it is never deleted by itself.")
    _say(
        "What was sent after the backup is not in it: each meter is read at EnerKey, after `settle`, before anything of it"
        " is sent. What is there already counts as accepted."
    )
    _say("Next: sudo systemctl start meter-gateway, then meter-gateway status")
    return OK


def _say(line: str) -> None:
    terminal.show(terminal.wrapped(line, "  "))
