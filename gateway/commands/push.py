"""`push --dry-run`: every message that would be sent now, byte for byte; nothing leaves and nothing is written."""

from __future__ import annotations

import argparse
from typing import Any

from buffer import overview
from buffer.model import hour_start
from buffer.store import DATABASE, Connection, Unreadable, read_only
from gateway import terminal
from gateway.commands.check import load_or_exit
from gateway.config import Config
from gateway.enerkey.client import request_of
from gateway.enerkey.models import push_body
from gateway.errors import OK, DatabaseFailure, Misconfigured
from gateway.locate import find_config
from gateway.uploader import PushedMeter, draft_of
from gateway.wiring import delivery_rules, pushed_meters


def configure(parser: argparse.ArgumentParser) -> None:
    """Only the dry run: the service does the sending."""
    parser.add_argument("--dry-run", action="store_true", required=True, help="show the exact messages; send and change nothing")
    parser.add_argument("--meter", metavar="NAME", help="only this meter")


def run(args: argparse.Namespace) -> int:
    """Show what the next messages are."""
    config = load_or_exit(find_config(args.config))
    if config.enerkey is None:
        raise Misconfigured("there is no [enerkey] section: nothing is sent anywhere")
    path = config.gateway.data_dir / DATABASE
    try:
        with read_only(path) as db:
            messages = _messages(db, config, args.meter)
    except Unreadable as error:
        raise DatabaseFailure(f"{path}: {error}; has the gateway ever run with this data_dir?") from None
    if args.json:
        terminal.document({"messages": messages})
    else:
        _show(messages)
    return OK


def _messages(db: Connection, config: Config, only: str | None) -> list[dict[str, Any]]:
    rules = delivery_rules(config)
    numbers = {name: number for name, number in overview.numbers(db).items() if name in {each.name for each in config.meters}}
    found = []
    for meter in pushed_meters(config, {each.name: numbers.get(each.name, -1) for each in config.meters}, ""):
        draft = draft_of(db, meter, rules, rules.most_hours) if only in {None, meter.name} else None
        if draft:
            found.append(_message(config, meter, draft.items, sorted(draft.values)))
    return found


def _message(config: Config, meter: PushedMeter, items: list[Any], hours: list[int]) -> dict[str, Any]:
    if config.enerkey is None:
        raise AssertionError("checked by the caller")
    body = push_body(config.enerkey.contract, meter.enerkey_id, items)
    method, url, headers = request_of(config.enerkey.url, config.enerkey.contract, meter.family, meter.enerkey_id)
    return {
        "meter": meter.name,
        "method": method,
        "url": url,
        "headers": headers,
        "body": body.decode(),
        "hours": [hour_start(hour).isoformat() for hour in hours],
    }


def _show(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        hours = f"{len(message['hours'])} h from {message['hours'][0][:16]}Z" if message["hours"] else "0 h"
        terminal.show(terminal.coloured(f"# {message['meter']}: {hours}", "bold"))
        terminal.show(f"{message['method']} {message['url']}")
        for name, value in message["headers"].items():
            terminal.show(f"{name}: {value}")
        terminal.show()
        terminal.show(message["body"])
        terminal.show()
    terminal.show(f"dry run: {len(messages)} messages, nothing sent")
