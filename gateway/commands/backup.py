"""`backup FILE|DIR`: a consistent copy of the database while the service runs; the target is whole, or as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from buffer.copies import NotCopied, back_up
from buffer.files import is_damage
from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.common import until_interrupted
from gateway.errors import OK, DatabaseFailure, GatewayError, NotPermitted
from gateway.locate import data_dir, find_config
from gateway.report import stored

if TYPE_CHECKING:
    import argparse

    from buffer.store import Connection


def configure(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("target", metavar="FILE|DIR", type=Path, help="a file, or a directory: then the name says when")
    parser.add_argument("--force", action="store_true", help="overwrite the file")


def run(args: argparse.Namespace) -> int:
    """Copy; 1 when the file is there already, 74 when it cannot be written."""
    with stored(data_dir(find_config(args.config))) as db:
        source = _file_of(db)
    target = args.target
    if target.is_dir():
        target /= f"meter-gateway-{SystemClock().now().wall:%Y%m%dT%H%M%SZ}.db"
    with until_interrupted() as interrupted:
        try:
            size = back_up(source, target, force=args.force, stop=interrupted.is_set)
        except FileExistsError:
            raise GatewayError(f"{target} is there already: take another name, or --force") from None
        except PermissionError as error:
            raise NotPermitted(f"{error.filename or target}: {error.strerror}") from None
        except (NotCopied, OSError) as error:
            if interrupted.is_set():
                raise KeyboardInterrupt from None
            raise DatabaseFailure(_words(source, target, error)) from None
    if args.json:
        terminal.document({"file": str(target), "bytes": size})
    else:
        terminal.show(
            terminal.wrapped(f"{target}: {size / 1e6:.1f} MB; to go back: meter-gateway restore {target}", "  ")
        )
    return OK


def _file_of(db: Connection) -> Path:
    return Path(db.execute("PRAGMA database_list").fetchone()[2])


def _words(source: Path, target: Path, error: Exception) -> str:
    if is_damage(error):
        return f"{source} is damaged ({error}): restart the service, it salvages what can be read; then try again"
    said = error.strerror if isinstance(error, OSError) else error
    return f"{target}: no backup was made: {said}"
