"""`push --dry-run`: every message that would be sent now, byte for byte; nothing leaves and nothing is written."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from buffer import doubts, findings, journal, overview
from buffer.model import hour_start
from gateway import terminal
from gateway.commands.common import configuration, no_meter
from gateway.delivery import delivery_rules, pushed_meters
from gateway.enerkey.client import request_of
from gateway.enerkey.models import push_body
from gateway.errors import OK, GatewayError, Misconfigured
from gateway.faults import counted
from gateway.messages import PushedMeter, draft_of
from gateway.probed import probed
from gateway.report import stored

if TYPE_CHECKING:
    import argparse

    from buffer.store import Connection
    from gateway.composing import Draft
    from gateway.config import Config
    from gateway.sections import EnerkeySection


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
    pushes = {meter.name: meter.push for meter in config.meters}
    if args.meter is not None and args.meter not in pushes:
        raise no_meter(args.meter, pushes, "the configuration")
    if args.meter is not None and pushes[args.meter] == "off":
        raise GatewayError(f'{args.meter} has push = "off": nothing of it is sent')
    with stored(config.gateway.data_dir) as db:
        outlook = _outlook(db, config, config.enerkey, args.meter)
    if args.json:
        terminal.document(outlook)
    else:
        _show(**outlook)
    return OK


def _outlook(db: Connection, config: Config, enerkey: EnerkeySection, only: str | None) -> dict[str, Any]:
    """Each meter's message, and why other meters with pending hours have none."""
    rules = delivery_rules(config, probed(enerkey, findings.known(db)))
    meters = [each for each in pushed_meters(config, overview.numbers(db), "") if only in {None, each.name}]
    free = journal.without_open_message(db, [meter.id for meter in meters])
    blocked = doubts.blocked(db)
    messages, waiting = [], []
    for meter in meters:
        draft = draft_of(db, meter, rules, rules.most_hours)
        if draft and meter.id in free:
            messages.append(_message(enerkey, meter, draft))
        elif draft:
            waiting.append({"meter": meter.name, "why": "an earlier message is settled first"})
        elif journal.pending(db, meter.id, 1, estimated=rules.push_estimated):
            why = f"an earlier hour waits for a decision: meter-gateway resolve {meter.name}"
            if meter.id in blocked:
                why = f"somebody else fills this meter: meter-gateway takeover {meter.name}"
            waiting.append({"meter": meter.name, "why": why})
    return {"messages": messages, "waiting": waiting}


def _message(enerkey: EnerkeySection, meter: PushedMeter, draft: Draft) -> dict[str, Any]:
    method, target, headers = request_of(enerkey.url, enerkey.contract, meter.family, meter.enerkey_id)
    return {
        "meter": meter.name,
        "account": meter.account or None,
        "method": method,
        "url": target,
        "headers": headers,
        "body": push_body(enerkey.contract, meter.enerkey_id, draft.items).decode(),
        "hours": [hour_start(hour).isoformat() for hour in sorted(draft.values)],
    }


def _show(messages: list[dict[str, Any]], waiting: list[dict[str, str]]) -> None:
    for message in messages:
        hours = f"{len(message['hours'])} h from {terminal.stamp(datetime.fromisoformat(message['hours'][0]))}"
        account = f", account {message['account']}" if message["account"] else ""
        terminal.show(terminal.coloured(f"# {message['meter']}: {hours}{account}", "bold"))
        terminal.show(f"{message['method']} {message['url']}")
        for name, value in message["headers"].items():
            terminal.show(f"{name}: {value}")
        terminal.show()
        terminal.show(message["body"])
        terminal.show()
    for each in waiting:
        terminal.show(terminal.wrapped(f"{each['meter']} waits: {each['why']}", "  "))
    nothing = "" if messages or waiting else ": no closed hour waits"
    terminal.show(terminal.wrapped(f"dry run: {counted(len(messages), 'message')}, nothing sent{nothing}"))
