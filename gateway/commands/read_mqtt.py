"""`read mqtt://…`: what a broker has, without a configuration: topics, last payloads, and what looks like a meter."""

from __future__ import annotations

import getpass
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway import logs, terminal
from gateway.clock import SystemClock
from gateway.commands import blocks
from gateway.commands.common import until_interrupted
from gateway.credentials import secret
from gateway.errors import FAILED, OK, GatewayError, WrongUsage
from gateway.faults import counted
from gateway.machine import zone_name
from gateway.secrets import FORMS, is_literal

if TYPE_CHECKING:
    import argparse
    from threading import Event

    from drivers.base import Clock
    from drivers.mqtt.config import Connection
    from drivers.mqtt.listening import Listener, Topic
    from drivers.mqtt.proposing import Proposal

FLAGS = ("--topic", "--username", "--password", "--ca-file", "--cert-file", "--key-file", "--protocol")
LISTEN = 30.0  # s, unless said otherwise: a number that rises between two messages says more than its name
BREATH = 0.2  # s between two looks at what has arrived
EVERYTHING = "#"
SHOWN = 200  # characters of a payload
LOOK_WITHIN = 20.0  # s for looking into messages for meters; some 5000 topics
KEPT = "kept by the broker, without a time of its own: the first reading comes with the next live message"
NAME = "broker"  # of the connection in the blocks


class Row(NamedTuple):
    """A topic, and what it may be read as: names of meters and their blocks beside the proposals."""

    topic: Topic
    proposals: list[tuple[Proposal, str, str]]
    remark: str


def configure(group: Any) -> None:  # noqa: ANN401 - argparse's group has no public name
    """What to subscribe to, and who asks."""
    group.add_argument(
        "--topic", action="append", metavar="FILTER", help="which topics; + and # as in MQTT (default: #)"
    )
    group.add_argument("--username", metavar="USER", help="at the broker")
    group.add_argument("--password", metavar="WHERE", help=f"{FORMS}; without it you are asked")
    group.add_argument("--ca-file", metavar="FILE", help="authority of the broker's certificate, with mqtts://")
    group.add_argument("--cert-file", metavar="FILE", help="this machine's certificate, where the broker wants one")
    group.add_argument("--key-file", metavar="FILE", help="its key")
    group.add_argument("--protocol", choices=("auto", "5", "3.1.1"), help="version of MQTT (default: auto)")


def run(args: argparse.Namespace) -> int:
    """0 when something was heard, else 1."""
    logs.configure(verbose=args.verbose, usual=logging.CRITICAL)
    for other in ("watch", "orders"):
        if getattr(args, other, None):
            raise WrongUsage(f"--{other} is for meters and Modbus devices; here --wait says how long to listen")
    connection, written = _connection(args)
    filters = _filters(args)
    from gateway.wiring import listener_for_url  # noqa: PLC0415 - paho

    clock = SystemClock()
    listener = listener_for_url(connection, filters, clock)
    wait = LISTEN if args.wait is None else args.wait
    terminal.hint(f"listening to {', '.join(filters)} for {wait:g} s; Ctrl-C ends it and shows what is there")
    try:
        with until_interrupted() as interrupted:
            listened = _listen(listener, clock, wait, interrupted)
    finally:
        listener.close()
    rows = _rows(listener, clock)
    header = blocks.table(f"[connections.{NAME}]", written)
    if args.json:
        terminal.document(_document(args.url, listener, listened, header, rows))
    else:
        _show(listener, listened, header, rows)
    return OK if rows else FAILED


# --- listening --------------------------------------------------------------------------------------------------------


def _connection(args: argparse.Namespace) -> tuple[Connection, dict[str, Any]]:
    """The connection, and its keys as they are written down. Raises WrongUsage with what is allowed."""
    from pydantic import ValidationError  # noqa: PLC0415

    from drivers.mqtt.config import Connection, address_of, check  # noqa: PLC0415 - pydantic

    try:
        address_of(args.url)
    except ValueError as error:
        if "@" in args.url:  # it may hold a password
            raise WrongUsage(f"the URL {error}; here: --username and --password") from None
        raise WrongUsage(f"{args.url} {error}") from None
    given = {key: getattr(args, key) for key in ("username", "ca_file", "cert_file", "key_file", "protocol")}
    written = {"driver": "mqtt", "url": args.url} | {key: value for key, value in given.items() if value is not None}
    password = _password(args)
    try:
        connection = Connection.model_validate(written | ({"password": password} if password else {}))
    except ValidationError as error:
        raise WrongUsage(
            "; ".join(f"--{str(each['loc'][0]).replace('_', '-')}: {each['msg']}" for each in error.errors())
        ) from None
    for fault in check(connection, {}):
        raise WrongUsage(f"--{str(fault.path[-1]).replace('_', '-')} {fault.message}")
    if password:
        written["password"] = args.password or "credential:broker"
    return connection, written


def _password(args: argparse.Namespace) -> str | None:
    """The secret itself; a literal would be seen by everybody who lists the processes."""
    if args.password is not None and is_literal(args.password):
        raise WrongUsage(
            f"--password would be seen in the list of processes: write {FORMS}, or leave it out to be asked"
        )
    if args.password is not None:
        return secret(args.password, "--password")
    if args.username is None or not sys.stdin.isatty():
        return None
    return getpass.getpass(f"password of {args.username} at the broker (none: Enter): ") or None


def _filters(args: argparse.Namespace) -> list[str]:
    from drivers.mqtt.topics import filter_fault  # noqa: PLC0415

    for each in args.topic or ():
        if fault := filter_fault(each):
            raise WrongUsage(f"--topic {fault}")
    return args.topic or [EVERYTHING]


def _listen(listener: Listener, clock: Clock, wait: float, interrupted: Event) -> float:
    """For so many seconds from the broker's answer on; returns how many it was. Raises GatewayError where it lets nobody in."""
    since: float | None = None
    until = clock.now().boottime + wait + 60.0  # a broker that never answers
    while not interrupted.is_set() and (now := clock.now()).boottime < until:
        listener.wake.clear()
        due = listener.step(now)
        if since is None and listener.ready:
            since, until = now.boottime, now.boottime + wait
        _must_be_let_in(listener)
        listener.wake.wait(max(0.0, min(BREATH, due - clock.now().boottime)))
    return 0.0 if since is None else clock.now().boottime - since


def _must_be_let_in(listener: Listener) -> None:
    if not listener.connects and listener.trouble:
        raise GatewayError(listener.trouble)
    if listener.refused and not len(listener.topics):
        narrower = "; try a narrower --topic" if EVERYTHING in listener.refused else ""
        raise GatewayError(f"{listener.trouble}{narrower}")


# --- what was heard ---------------------------------------------------------------------------------------------------


def _rows(listener: Listener, clock: Clock) -> list[Row]:
    from drivers.mqtt.proposing import propose  # noqa: PLC0415 - jmespath

    now = clock.now()._replace(trusted=True)  # times are judged by this machine's clock, whatever it is worth
    zone, taken = zone_name(), set[str]()
    rows = []
    for topic in listener.topics:
        if why := _passed_over(topic, late=clock.now().boottime > now.boottime + LOOK_WITHIN):
            rows.append(Row(topic, [], why))
            continue
        found = propose(listener.topics.heard(topic), now, zone)
        named = [(each, blocks.name_of(each.name, taken)) for each in found.proposals]
        rows.append(Row(topic, [(each, name, _block(topic, each, name)) for each, name in named], found.remark))
    return rows


def _passed_over(topic: Topic, *, late: bool) -> str:
    """Why a topic's messages are not looked into; "" where they are."""
    if not topic.name.isprintable():
        return "its name holds characters that no configuration should"
    if not topic.whole:
        return "too large to be a meter's"
    return "not looked into, there is too much: narrow it down with --topic" if late else ""


def _block(topic: Topic, proposal: Proposal, name: str) -> str:
    now = "no reading now" if proposal.value is None else f"{proposal.value:f} {proposal.unit}"
    doubts = [
        *proposal.doubts,
        *([KEPT] if not topic.live and proposal.value is not None and proposal.at is None else []),
    ]
    comments = [f"{topic.name}: {now} ({_kind(proposal)})", *proposal.reasons, *(f"? {doubt}" for doubt in doubts)]
    source = {"connection": NAME, **proposal.keys}
    return blocks.meter(name, source, proposal.unit, proposal.kind, map(_plain, comments))


def _kind(proposal: Proposal) -> str:
    """With a question mark where nothing shows that it is that."""
    from drivers.mqtt.proposing import PERIOD_HINT  # noqa: PLC0415 - jmespath

    return f"{proposal.kind}{'?' if PERIOD_HINT in proposal.doubts else ''}"


def _plain(text: str) -> str:
    """One line that no terminal acts upon: topics and payloads are anybody's."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def _document(url: str, listener: Listener, listened: float, header: str, rows: list[Row]) -> dict[str, Any]:
    return {
        "url": url,
        "protocol": listener.version,
        "listened_s": round(listened, 1),
        "messages": listener.topics.messages,
        "left_out": listener.topics.left_out + listener.dropped,
        "trouble": listener.trouble or None,
        "connection": header,
        "topics": [_facts(row) for row in rows],
    }


def _facts(row: Row) -> dict[str, Any]:
    from drivers.mqtt.values import printable  # noqa: PLC0415

    topic = row.topic
    return {
        "topic": topic.name if topic.name.isprintable() else topic.name.encode("unicode_escape").decode(),
        "live": topic.live,
        "retained": topic.retained,
        "every_s": None if topic.every is None else round(topic.every, 3),
        "size": topic.size,
        "payload": printable(topic.newest, SHOWN),
        "remark": row.remark or None,
        "proposals": [
            {
                "name": name,
                "source": each.keys,
                "value": None if each.value is None else str(each.value),
                "unit": each.unit,
                "kind": each.kind,
                "at": each.at and each.at.isoformat(),
                "reasons": each.reasons,
                "doubts": each.doubts,
                "block": block,
            }
            for each, name, block in row.proposals
        ],
    }


def _show(listener: Listener, listened: float, header: str, rows: list[Row]) -> None:
    for row in rows:
        _show_topic(row)
    meters = [block for row in rows for block in _worth_pasting(row)]
    if meters:
        terminal.show()
        terminal.show(
            terminal.coloured("For the configuration: keep what you want, compare with the displays.", "bold")
        )
        terminal.show()
        terminal.show("\n\n".join([header, *meters]))
        terminal.show()
    found, more = listener.topics, listener.topics.left_out + listener.dropped
    words = f"{counted(found.messages, 'message')} on {counted(len(found), 'topic')} in {listened:.0f} s, {len(meters)} that may be meters"
    terminal.show(terminal.wrapped(words + (f"; {more} messages were not looked at: use --topic" if more else "")))
    if listener.trouble:
        terminal.show(terminal.wrapped(listener.trouble, "  "))
    if not rows:
        hint = "nothing: is the topic right, and may this user read it? A broker does not say that reading is forbidden"
        terminal.show(terminal.wrapped(hint, "  "))
    elif any(row.topic.live < 2 for row in rows if row.proposals):
        terminal.show(terminal.wrapped("some spoke only once: --wait 600 hears those that speak every five minutes"))


def _worth_pasting(row: Row) -> list[str]:
    """A message's counters, else its power: whoever has the counter needs no estimate of it."""
    counters = [block for each, _, block in row.proposals if each.kind != "power"]
    return counters or [block for _, _, block in row.proposals]


def _show_topic(row: Row) -> None:
    from drivers.mqtt.values import printable  # noqa: PLC0415

    topic = row.topic
    terminal.show(terminal.wrapped(f"{terminal.coloured(_plain(topic.name), 'bold')}  {_pace(topic)}", "  "))
    room = min(SHOWN, max(20, terminal.width() - 2))
    shown = printable(topic.newest, room)
    terminal.show(terminal.coloured(f"  {shown}" if topic.newest else "  (empty)", "dim"))
    for each, name, _ in row.proposals:
        value = "no reading now" if each.value is None else f"{each.value:f} {each.unit}"
        preset = f", preset {each.keys['preset']}" if "preset" in each.keys else ""
        at = f" at {terminal.stamp(each.at)}" if each.at else ""
        terminal.show(terminal.wrapped(f"  -> {name}: {value} ({_kind(each)}{preset}){at}", "     "))
    if row.remark:
        terminal.show(terminal.wrapped(f"  {row.remark}", "  "))


def _pace(topic: Topic) -> str:
    """How many messages came, and how: those that the broker had kept may be of any age."""
    parts = [f"{topic.live} live"] if topic.live else []
    parts += [f"every {round(topic.every, 1):.3g} s"] if topic.every is not None else []
    parts += ["retained"] if topic.retained else []
    return ", ".join(parts)
