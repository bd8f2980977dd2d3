"""`push --dry-run`: every message that would be sent now, byte for byte; nothing leaves and nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffer import overview
from buffer.model import hour_start
from buffer.store import DATABASE, Connection, Unreadable, read_only
from gateway import terminal
from gateway.commands.common import configuration, no_meter
from gateway.enerkey.client import request_of
from gateway.enerkey.models import push_body
from gateway.errors import OK, DatabaseFailure, Misconfigured
from gateway.uploader import PushedMeter, draft_of
from gateway.wiring import delivery_rules, pushed_meters

if TYPE_CHECKING:
    import argparse

    from gateway.composing import Draft
    from gateway.config import Config
    from gateway.enerkey.contract import Contract


def configure(parser: argparse.ArgumentParser) -> None:
    """Only the dry run: the service does the sending."""
    what = "show the exact messages; send and change nothing (required: the service does the sending)"
    parser.add_argument("--dry-run", action="store_true", required=True, help=what)
    parser.add_argument("--meter", metavar="NAME", help="only this meter")


def run(args: argparse.Namespace) -> int:
    """Show what the next messages are."""
    config = configuration(args)
    if config.enerkey is None:
        raise Misconfigured("there is no [enerkey] section: nothing is sent anywhere")
    names = [meter.name for meter in config.meters]
    if args.meter is not None and args.meter not in names:
        raise no_meter(args.meter, names, "the configuration")
    path = config.gateway.data_dir / DATABASE
    try:
        with read_only(path) as db:
            messages = _messages(db, config, config.enerkey.url, config.enerkey.contract, args.meter)
    except Unreadable as error:
        raise DatabaseFailure(f"{path}: {error}; has the gateway ever run with this data_dir?") from None
    if args.json:
        terminal.document({"messages": messages})
    else:
        _show(messages)
    return OK


def _messages(db: Connection, config: Config, url: str, contract: Contract, only: str | None) -> list[dict[str, Any]]:
    rules = delivery_rules(config)
    meters = [each for each in pushed_meters(config, overview.numbers(db), "") if only in {None, each.name}]
    drafts = [(meter, draft_of(db, meter, rules, rules.most_hours)) for meter in meters]
    return [_message(url, contract, meter, draft) for meter, draft in drafts if draft]


def _message(url: str, contract: Contract, meter: PushedMeter, draft: Draft) -> dict[str, Any]:
    method, target, headers = request_of(url, contract, meter.family, meter.enerkey_id)
    return {
        "meter": meter.name,
        "method": method,
        "url": target,
        "headers": headers,
        "body": push_body(contract, meter.enerkey_id, draft.items).decode(),
        "hours": [hour_start(hour).isoformat() for hour in sorted(draft.values)],
    }


def _show(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        hours = f"{len(message['hours'])} h from {message['hours'][0][:16]}Z"
        terminal.show(terminal.coloured(f"# {message['meter']}: {hours}", "bold"))
        terminal.show(f"{message['method']} {message['url']}")
        for name, value in message["headers"].items():
            terminal.show(f"{name}: {value}")
        terminal.show()
        terminal.show(message["body"])
        terminal.show()
    terminal.show(f"dry run: {len(messages)} messages, nothing sent")
