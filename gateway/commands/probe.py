"""`probe`: find out on a meter of its own how EnerKey's API behaves, and keep what was found."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from buffer import findings
from buffer.lock import Lock, LockHeld
from buffer.model import Accepted, from_micro, from_ms, hour_start, to_ms
from buffer.store import StoreError
from gateway import terminal
from gateway.clock import SystemClock
from gateway.commands.common import configuration, enerkey_id, span, until_interrupted
from gateway.control import ask
from gateway.credentials import keys_of
from gateway.delivery import doubts_of
from gateway.enerkey.client import EnerkeyClient
from gateway.enerkey.models import written_body
from gateway.errors import FAILED, OK, DatabaseFailure, GatewayError, Misconfigured, NoDatabase, Unreachable, WrongUsage
from gateway.keys import Key, KeyRing
from gateway.line import said
from gateway.pacing import Burst
from gateway.probed import api_of
from gateway.probing import plan
from gateway.probing.commission import Commission, Meters, Result
from gateway.probing.keeping import keep
from gateway.probing.wire import Wire
from gateway.report import holder_of, stored
from gateway.sections import parse_burst
from gateway.wiring import open_store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from buffer.store import Connection
    from gateway.config import Config
    from gateway.probing.restoring import Left
    from gateway.sections import EnerkeySection

LONGEST_LAG = 900.0  # s
LOCK = "probe.lock"
SLOW = 600.0  # s; a delay for which the plan tells the duration, too


class _Look(NamedTuple):
    """What EnerKey shows before anything is sent: where there is room."""

    hours: plan.Hours
    before: Mapping[int, int]


def configure(parser: argparse.ArgumentParser) -> None:
    """The meters, and how to go about it."""
    parser.add_argument(
        "--meter", type=enerkey_id, metavar="ID", help="EnerKey id of a test meter that nothing else fills"
    )
    words = "EnerKey id of another one for register readings (default: they are not probed)"
    parser.add_argument("--cumulative-meter", type=enerkey_id, metavar="ID", help=words)
    words = f"how long to wait at most until a value shows (default: {LONGEST_LAG:.0f})"
    parser.add_argument("--longest-lag", type=span(10, 86_400), default=LONGEST_LAG, metavar="SECONDS", help=words)
    parser.add_argument("--yes", action="store_true", help="go on without being asked, for scripts")
    parser.add_argument("--show", action="store_true", help="only show what was found out before")


def run(args: argparse.Namespace) -> int:
    """0 when everything was asked and the meters are as before, 1 when not."""
    if not args.show:
        _check_words(args)
    config = configuration(args)
    if config.enerkey is None:
        raise Misconfigured("there is no [enerkey] section: there is no API to probe")
    with stored(config.gateway.data_dir) as db:
        if args.show:
            return _show_known(args, config, db)
    _check_meters(args, config)
    keys = keys_of(config.accounts[""])
    if not keys:
        raise Misconfigured("[enerkey] has no api_keys: a probe needs one")
    wire = _wire(config.enerkey, keys)
    with _alone(config), closing(wire.client):
        return _probe(args, config, config.enerkey, wire)


def _check_words(args: argparse.Namespace) -> None:
    if args.meter is None:
        raise WrongUsage("--meter ID is missing: the EnerKey id of a test meter; see meter-gateway probe --help")
    if args.meter == args.cumulative_meter:
        raise WrongUsage("--meter and --cumulative-meter must be two meters: hours and readings are not mixed in one")
    asks = sys.stdin.isatty() and sys.stdout.isatty() and not args.json
    if not args.yes and not asks:
        raise WrongUsage("a probe writes to EnerKey and nobody can be asked here: say --yes when that is meant")


def _check_meters(args: argparse.Namespace, config: Config) -> None:
    ours = {meter.enerkey_id: meter.name for meter in config.meters}
    for wanted in (args.meter, args.cumulative_meter):
        if wanted is not None and wanted in ours:
            raise WrongUsage(
                f"{wanted} is the meter {ours[wanted]} of the configuration: a probe needs a meter of its own"
            )


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """Two probes would take each other's values for EnerKey's doing."""
    path = config.gateway.data_dir / LOCK
    try:
        lock = Lock(path, {"command": "probe"})
    except LockHeld as error:
        raise NoDatabase(f"another probe is running (process {error.holder.get('pid', '?')})") from None
    except OSError as error:
        raise DatabaseFailure(f"{path}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _wire(section: EnerkeySection, keys: list[Key]) -> Wire:
    most, within = parse_burst(section.burst)
    client = EnerkeyClient(section.url, section.contract, ca_file=section.ca_file)
    half = Burst(max(1, most // 2), within)  # the other half is for the service that may run
    return Wire(client, section.contract, KeyRing(keys), SystemClock(), Event(), half, plan.MOST_REQUESTS, written_body)


def _probe(args: argparse.Namespace, config: Config, section: EnerkeySection, wire: Wire) -> int:
    meters = Meters(args.meter, args.cumulative_meter)
    _kept(config, {"spend": plan.LOOK_REQUESTS})
    look = _look(wire, meters)
    if not args.json:
        _show_plan(section, meters, look.hours)
    if not args.yes and not _agreed():
        terminal.show("nothing was sent")
        return OK
    _kept(config, {"spend": plan.MOST_REQUESTS})
    most, within = parse_burst(section.burst)
    pace = f"{most // 2 or 1} requests in {within:g} s"
    with until_interrupted() as wire.stop:
        commission = Commission(wire, meters, look.hours, look.before, args.longest_lag, pace, terminal.hint)
        result = commission.run()
    unkept = _keep_findings(config, section, result)
    doubts = _doubts(config)
    code = FAILED if result.ended or result.left else OK
    if args.json:
        terminal.document(_document(result, wire, doubts) | {"not_kept": None if unkept is None else str(unkept)})
        return code if unkept is None else unkept.code
    _show_result(result, wire, doubts)
    if unkept:
        raise unkept
    return code


def _doubts(config: Config) -> list[str]:
    try:
        with stored(config.gateway.data_dir) as db:
            return [f"[enerkey] {doubt.key}: {doubt.words}" for doubt in doubts_of(config, db)]
    except GatewayError:
        return []


def _keep_findings(config: Config, section: EnerkeySection, result: Result) -> GatewayError | None:
    """Why they are not kept; None when they are. They are shown in any case: they have cost an effort."""
    rows = [[each.name, each.value, each.words, api_of(section)] for each in result.proofs if each.value is not None]
    try:
        _kept(config, {"findings": rows})
    except GatewayError as error:
        return error
    return None


def _look(wire: Wire, meters: Meters) -> _Look:
    """P1, before anybody is asked: which hours are empty."""
    now = wire.clock.now().wall
    since, until = plan.window(now)
    values = _read(wire, meters.consumption, since, until)
    base = plan.quiet_run(values, since, until, plan.RUN)
    if base is None:
        words = f"EnerKey shows values in {len(values)} of the {until - since} h before yesterday"
        raise GatewayError(
            f"meter {meters.consumption}: {words}, and {plan.RUN} empty ones in a row are needed: take another"
        )
    register = None
    if meters.cumulative is not None:
        register = plan.register_run(_read(wire, meters.cumulative, since, until + plan.QUIET), now)
        if register is None:
            words = "EnerKey shows values, or those of a probe of the last hours: take an empty one, or wait a day"
            raise GatewayError(f"meter {meters.cumulative}: {words}")
    run = {hour: micro for hour, micro in values.items() if base <= hour < base + plan.RUN}
    return _Look(plan.hours(now, base, register), run)


def _read(wire: Wire, meter: int, since: int, until: int) -> Mapping[int, int]:
    values, fate = wire.read(meter, since, until)
    if values is None:
        why = "an answer that is not understood" if isinstance(fate, Accepted) else said(fate)
        raise GatewayError(f"meter {meter}: its hours cannot be read ({why}); check the id and [enerkey.contract]")
    return values


def _agreed() -> bool:
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in {"y", "yes"}


# --- the buffer -------------------------------------------------------------------------------------------------------


def _kept(config: Config, asked: dict[str, Any]) -> None:
    """Through the running service, else in the database itself. Raises GatewayError when it is refused."""
    held_by = holder_of(config.gateway.data_dir)
    answer = _by_service(held_by, asked) if held_by else _by_ourselves(config, asked)
    if "refused" in answer:
        raise GatewayError(answer["refused"])


def _by_service(held_by: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    answer = ask(Path(held_by.get("socket", "")), {"probe": asked})
    if answer is None:
        raise Unreachable(f"process {held_by.get('pid', '?')} holds the data but does not answer: look at its log")
    return answer


def _by_ourselves(config: Config, asked: dict[str, Any]) -> dict[str, Any]:
    if config.enerkey is None:
        raise AssertionError("a probe has an API")
    share, now_ms = config.enerkey.requests_per_day, to_ms(SystemClock().now().wall)
    store = open_store(config, command="probe", threaded=False)
    try:
        return store.write(lambda db: keep(db, asked, share, now_ms))
    except StoreError as error:
        raise DatabaseFailure(str(error)) from None
    finally:
        store.close()


# --- what is shown ----------------------------------------------------------------------------------------------------


def _show_plan(section: EnerkeySection, meters: Meters, hours: plan.Hours) -> None:
    steps = plan.steps(cumulative=meters.cumulative is not None)
    usual = sum(step.pushes + step.reads for step in steps)
    soon, late = terminal.ago(plan.duration(1.0)), terminal.ago(plan.duration(SLOW))
    pace = f"about {soon} where values show within a second, {late} where they need {SLOW / 60:.0f} min"
    most = f"at most {plan.MOST_REQUESTS}"
    _say(f"Probing {section.url} with about {usual} requests, {most}; it takes {pace}. These hours are touched:")
    first, end = hour_start(hours.base), hour_start(hours.base + plan.RUN)
    _say(f"  meter {meters.consumption}: {terminal.stamp(first)} to {terminal.stamp(end)}, all empty;")
    _say(f"    {terminal.stamp(hour_start(hours.october))} and the hour after it (one local name);")
    _say(f"    {terminal.stamp(hour_start(hours.future))} (ahead), {terminal.stamp(hour_start(hours.old))} (old);")
    _say("    zeros in every empty hour of the last 365 days, which stay")
    if meters.cumulative is not None and hours.register is not None:
        begin = terminal.stamp(hour_start(hours.register))
        _say(f"  meter {meters.cumulative}: readings in {plan.REGISTER} h from {begin}. They cannot be taken away:")
        _say("    they stay, brought to one level, so that their hours are 0")
    for step in steps:
        _say(f"{step.name:5}{step.words}" + (f" ({_requests(step)})" if step.pushes + step.reads else ""))


def _requests(step: plan.Step) -> str:
    parts = ((step.pushes, "sent"), (step.reads, "read"))
    return ", ".join(f"{count} {what}" for count, what in parts if count)


def _show_result(result: Result, wire: Wire, doubts: list[str]) -> None:
    for proof in result.proofs:
        _say(f"{proof.step:5}{proof.name}: {proof.value or 'NOT FOUND OUT'}; {proof.words}")
    terminal.show()
    if result.ended:
        _say(f"The probe did not come to its end: {result.ended}. Say the same again for the rest.")
    _show_left(result.left)
    for doubt in doubts:
        _say(f"{terminal.coloured('warning', 'warn')}: {doubt}")
    if any(proof.value for proof in result.proofs):
        _say(
            f"{wire.requests} requests. What was found out counts from the service's next start: systemctl restart meter-gateway"
        )


def _show_left(left: list[Left]) -> None:
    if not left:
        _say("The meters show again what they showed before.")
        return
    terminal.show("Not as before; look at EnerKey and mend it there:")
    for each in left:
        shows = (
            "was sent and may show"
            if each.shows is None
            else f"shows {_number(each.shows)}, was {_number(each.before)}"
        )
        _say(f"  meter {each.meter} {each.at}: {shows}")


def _number(micro: int) -> str:
    return f"{from_micro(micro).normalize():f}"


def _document(result: Result, wire: Wire, doubts: list[str]) -> dict[str, Any]:
    return {
        "findings": [proof._asdict() for proof in result.proofs],
        "left": [
            {
                "meter": each.meter,
                "at": each.at,
                "shows": None if each.shows is None else _number(each.shows),
                "before": _number(each.before),
            }
            for each in result.left
        ],
        "ended": result.ended or None,
        "requests": wire.requests,
        "contradictions": doubts,
    }


def _show_known(args: argparse.Namespace, config: Config, db: Connection) -> int:
    if config.enerkey is None:
        raise AssertionError("checked by the caller")
    known, ours, doubts = findings.known(db), api_of(config.enerkey), _doubts(config)
    if args.json:
        rows = [each._asdict() | {"at": from_ms(each.at).isoformat(), "current": each.api == ours} for each in known]
        terminal.document({"findings": rows, "contradictions": doubts})
        return OK
    if not known:
        _say("nothing was probed yet: meter-gateway probe --meter ID")
    for each in known:
        other = "" if each.api == ours else " (of another URL or contract: it does not count)"
        _say(f"{from_ms(each.at):%Y-%m-%d}  {each.name}: {each.value}; {each.words}{other}")
    for doubt in doubts:
        _say(f"{terminal.coloured('warning', 'warn')}: {doubt}")
    return OK


def _say(line: str) -> None:
    terminal.show(terminal.wrapped(line, "     "))
