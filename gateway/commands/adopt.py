"""`adopt`: a database that came from another machine belongs to this one now, and may send again (R20)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffer import identity
from gateway import terminal
from gateway.commands.common import configuration
from gateway.commands.telling import author, write
from gateway.delivery import settle_ms
from gateway.errors import OK
from gateway.machine import machine_id
from gateway.report import stored

if TYPE_CHECKING:
    import argparse

    from buffer.store import Connection


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""
    del parser


def run(args: argparse.Namespace) -> int:
    """Bind the database to this machine; nothing changes where it belongs here already."""
    config = configuration(args)
    with stored(config.gateway.data_dir):
        pass  # adopting makes no database
    who = author()

    def ourselves(db: Connection, now_ms: int) -> dict[str, Any]:
        return {"adopted": identity.adopt(db, machine_id(), who, now_ms + settle_ms(config, db), now_ms)}

    adopted = write(config, {"adopt": {"author": who}}, ourselves, command="adopt")["adopted"]
    blind = bool(config.enerkey and config.enerkey.on_unknown == "hold")
    if args.json:
        terminal.document({"adopted": adopted, "reads_before_sending": not blind})
        return OK
    said = "the database belongs to this machine already; nothing was changed"
    if adopted:
        said = "the database belongs to this machine now. Each meter is read at EnerKey before anything of it is sent."
        if blind:
            said = (
                'the database belongs to this machine now. Nothing is read before it is sent (on_unknown = "hold"):'
                " what the other machine sent since the copy was made is sent again."
            )
    terminal.show(terminal.wrapped(said, "  "))
    return OK
