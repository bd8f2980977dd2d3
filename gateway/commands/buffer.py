"""`buffer check`: the whole database held against its own rules, beside the running service or without it. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffer import recovery
from buffer.checking import check
from buffer.model import from_micro, from_ms, hour_start
from gateway import terminal
from gateway.errors import FAILED, OK
from gateway.locate import data_dir, find_config
from gateway.report import stored

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from buffer.checking import Checked, Finding


def configure(parser: argparse.ArgumentParser) -> None:
    """One thing to do so far."""
    kinds = parser.add_subparsers(title="what to do", dest="what", metavar="WHAT", required=True)
    words = "the file, the sums of every meter, and the journal of what was sent"
    kinds.add_parser("check", help=words, description=f"{words[0].upper()}{words[1:]}.")


def run(args: argparse.Namespace) -> int:
    """0 all is right, 1 something is not, 69 there is no database yet."""
    directory = data_dir(find_config(args.config))
    with stored(directory) as db:
        checked = check(db)
    document = _document(directory, checked)
    if args.json:
        terminal.document(document)
    else:
        _show(document)
    return FAILED if checked.findings else OK


def _document(directory: Path, checked: Checked) -> dict[str, Any]:
    return {
        "data_dir": str(directory),
        "ok": not checked.findings,
        "tables": checked.tables,
        "newest_reading": {
            name: {"at": from_ms(at).isoformat(), "value": f"{from_micro(value).normalize():f}"}
            for name, (at, value) in sorted(checked.newest.items())
        },
        "salvaged": recovery.reports(directory),
        "findings": [_finding(each) for each in checked.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    hour = None if finding.hour is None else hour_start(finding.hour).isoformat()
    return {"meter": finding.meter, "hour": hour, "what": finding.what, "todo": finding.todo}


def _show(document: dict[str, Any]) -> None:
    terminal.show(
        terminal.table(("table", "rows"), [(name, str(n)) for name, n in document["tables"].items()], right=(1,))
    )
    newest = document["newest_reading"]
    if newest:
        terminal.show()
        rows = [(name, each["value"], f"{each['at'][:19]}Z") for name, each in newest.items()]
        terminal.show(terminal.table(("meter", "newest reading", "at"), rows, right=(1,)))
    for each in document["salvaged"]:
        terminal.show(terminal.wrapped(f"\nonce: {each['text']}", "  "))
    terminal.show()
    if document["ok"]:
        terminal.show(terminal.coloured("ok", "ok"))
    for number, each in enumerate(document["findings"], 1):
        where = " ".join(word for word in (each["meter"], each["hour"] and f"{each['hour'][:16]}Z") if word)
        terminal.show(
            terminal.wrapped(f"{number}. {f'{where}: ' if where else ''}{each['what']}; {each['todo']}", "   ")
        )
