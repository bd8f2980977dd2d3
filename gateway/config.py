"""The configuration: one file, checked completely, and every mistake reported at once.

config.toml ─▶ drafting (each table by itself) ─▶ here (what tables say of each other) ─▶ resolving (each meter) ─▶ Config
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pydantic import BaseModel

from drivers import registry
from drivers.fields import SourceBase, is_file
from gateway import secrets
from gateway.drafting import ConnectionDraft, Draft, MeterDraft, check_file, read
from gateway.faults import ConfigFaults, Fault, Findings, counted, nearest, some
from gateway.keys import expiry
from gateway.resolving import Meter, resolve
from gateway.sections import (
    NAME,
    NAME_RULE,
    ApiKey,
    BufferSection,
    ClockSection,
    EnerkeySection,
    GatewaySection,
    HoursSection,
)
from gateway.validating import Checked

__all__ = ["Account", "Config", "ConfigFaults", "Meter", "load"]

_MEANT = re.compile(r'(.*); did you mean "([^"]*)"\?', re.DOTALL)  # how a driver ends a message with a suggestion


@dataclass(frozen=True, slots=True)
class Account:
    """An account at EnerKey. `name` is "" for [enerkey] itself; `where`: the table that its keys stand in."""

    name: str
    where: str
    keys: tuple[ApiKey, ...]
    requests_per_day: int
    burst: str


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes. `warnings` are what works but should be looked at."""

    gateway: GatewaySection
    clock: ClockSection
    hours: HoursSection
    buffer: BufferSection
    enerkey: EnerkeySection | None
    connections: Mapping[str, BaseModel]
    meters: tuple[Meter, ...]
    warnings: tuple[Fault, ...] = ()

    @property
    def accounts(self) -> dict[str, Account]:
        """Every account by name, the default one first; empty without [enerkey]."""
        return _accounts(self.enerkey) if self.enerkey else {}

    @property
    def pushing(self) -> list[Account]:
        """The accounts that a meter pushes to."""
        used = {meter.account for meter in self.meters if meter.push != "off"}
        return [account for account in self.accounts.values() if account.name in used]

    def only(self, names: Iterable[str]) -> Config:
        """The same with these meters alone."""
        wanted = set(names)
        return replace(self, meters=tuple(meter for meter in self.meters if meter.name in wanted))


def load(path: Path, today: date | None = None) -> Config:
    """Read and check everything; raises ConfigFaults with every mistake. Touches no wire, no database, no secret.

    `today` (UTC): warn of keys that expire soon, or have.
    """
    findings, warnings = Findings(str(path)), Findings(str(path))
    draft = read(path, findings)
    meters: list[Meter] = []
    if draft is not None:
        meters = _meters(draft, findings)
        _check_across(draft, findings)
        _look_closer(draft, meters, warnings, today)
        if not len(findings):
            _warn_of_connections(draft, warnings)
    if draft is None or len(findings) or draft.file.value is None:
        raise ConfigFaults(list(findings), list(warnings), forbidden=findings.forbidden)
    file = draft.file.value
    connections = {
        name: each.checked.value for name, each in draft.connections.items() if each.checked and each.checked.value
    }
    return Config(
        file.gateway, file.clock, file.hours, file.buffer, file.enerkey, connections, tuple(meters), tuple(warnings)
    )  # fmt: skip


def _meters(draft: Draft, findings: Findings) -> list[Meter]:
    faulty = {
        meter for connection in draft.connections.values() for meter in _driver_faults(connection, draft, findings)
    }
    resolved = [
        resolve(meter, findings, driver_content=meter.certain and meter.id not in faulty) for meter in draft.meters
    ]
    return [meter for meter in resolved if meter is not None]


def _sources_on(connection: ConnectionDraft, draft: Draft) -> dict[str, Checked[SourceBase]]:
    """The readable sources that are certainly on a connection, by the ids of their meters."""
    return {
        meter.id: meter.source
        for meter in draft.meters
        if meter.connection is connection
        and meter.certain
        and meter.source is not None
        and meter.source.value is not None
    }


def _driver_faults(connection: ConnectionDraft, draft: Draft, findings: Findings) -> set[str]:
    """Report what the driver finds in a connection and its sources; the ids of meters that its faults concern."""
    if connection.driver is None or connection.checked is None or connection.checked.value is None:
        return {meter.id for meter in draft.meters if meter.connection is connection}
    sources = _sources_on(connection, draft)
    values = {name: source.value for name, source in sources.items() if source.value is not None}
    module = registry.config_of(connection.driver)
    for path, model in {
        path: model for source in values.values() for path, model in module.files(source).items()
    }.items():
        check_file(Path(path), model, findings)
    faults = module.check(connection.checked.value, values)
    for fault in faults:
        at = connection.checked if fault.path[0] == "connection" else sources[str(fault.path[0])]
        said = _MEANT.fullmatch(fault.message)
        at.add(findings, fault.path[1:], *(said.groups() if said else (fault.message,)))
    return {str(fault.path[0]) for fault in faults if fault.path[0] != "connection"}


# --- what tables say of each other ------------------------------------------------------------------------------------


def _check_across(draft: Draft, findings: Findings) -> None:
    _check_unique(draft.meters, findings)
    _check_accounts(draft, findings)
    _check_exclusive(draft.connections.values(), findings)
    _check_pushing(draft, findings)
    enerkey = draft.file.value.enerkey if draft.file.value else None
    if enerkey and enerkey.ca_file and not is_file(enerkey.ca_file):
        message = f"names a file that is not there: {enerkey.ca_file}"
        draft.file.add(findings, ("enerkey", "ca_file"), message)
    _check_passwords(draft.connections.values(), findings)
    written = draft.file.written(("meters",)) or draft.file.written(("meters_file",))
    if not draft.meters and not written and not draft.file.guessed & {"meters", "meters_file"}:
        findings.add(draft.file.at(("meters",)), "missing: write a [[meters]] for each meter, or meters_file")


def _check_unique(meters: Iterable[MeterDraft], findings: Findings) -> None:
    """No name and no EnerKey meter twice: two sources would add up in one history.

    Two accounts may have meters of one number: they may be two customers'. That is only warned of.
    """
    first: dict[tuple[object, ...], MeterDraft] = {}
    for meter in meters:
        for key, why in (("name", "its history hangs on it"), ("enerkey_id", "their hours would add up in EnerKey")):
            value = meter.section.written((key,))
            if value is None or key in meter.section.guessed:
                continue
            owner = first.setdefault((key, value, _account_of(meter) if key == "enerkey_id" else ""), meter)
            if owner is not meter:
                message = f"is there twice: {_known_as(owner, meter)} has it already; give each meter its own, {why}"
                meter.section.add(findings, (key,), message)


def _known_as(owner: MeterDraft, other: MeterDraft) -> str:
    """How to find a meter when looking at another one."""
    place, line = owner.section.place, owner.section.place.line
    where = f"line {line}" if place.origin.file == other.section.place.origin.file else f"{place.origin.file}:{line}"
    return f"{place.shown} ({where})"


def _check_exclusive(connections: Iterable[ConnectionDraft], findings: Findings) -> None:
    """Two masters on one bus, or two clients with one identity, disturb each other for ever."""
    owners: dict[str, str] = {}
    for connection in connections:
        checked = connection.checked
        if connection.driver is None or checked is None or checked.value is None or checked.guessed:
            continue
        claim = registry.config_of(connection.driver).exclusive(checked.value)
        owner = owners.setdefault(claim, connection.name) if claim else connection.name
        if owner != connection.name:
            checked.add(
                findings, ("url",), f"{claim} belongs to [connections.{owner}] already: put all its meters there"
            )


def _check_passwords(connections: Iterable[ConnectionDraft], findings: Findings) -> None:
    """A reference that is nearly one, as the drivers do not know of references."""
    for connection in connections:
        password = connection.checked.written(("password",)) if connection.checked else None
        if connection.checked and isinstance(password, str) and "password" not in connection.checked.guessed:
            try:
                secrets.parse(password)
            except secrets.SecretError as error:
                connection.checked.add(findings, ("password",), str(error))


def _check_accounts(draft: Draft, findings: Findings) -> None:
    """Names that are none, and meters of accounts that are not there."""
    enerkey = draft.file.value.enerkey if draft.file.value else None
    names: list[str] = list(enerkey.accounts) if enerkey else []
    if "enerkey" in draft.file.guessed:  # something is wrong in there, and reported; the names stand all the same
        written = draft.file.written(("enerkey", "accounts"))
        if not isinstance(written, dict):
            return
        names = list(written)
    for name in names:
        if not NAME.fullmatch(name):
            findings.add(draft.file.at(("enerkey", "accounts", name)), f"is no name for an account: it {NAME_RULE}", {})
    there = f"there are: {some(names)}; " if names else "write an [enerkey.accounts.NAME] first; "
    for meter in draft.meters:
        account = _account_of(meter)
        if account and account not in names and "account" not in meter.section.guessed:
            message = f'unknown account "{account}"; {there}without it the keys of [enerkey] are used'
            meter.section.add(findings, ("account",), message, nearest(account, names))


def _account_of(meter: MeterDraft) -> str:
    account = meter.section.written(("account",))
    return account if isinstance(account, str) else ""


def _accounts(enerkey: EnerkeySection) -> dict[str, Account]:
    share, burst = enerkey.requests_per_day, enerkey.burst
    default = Account("", "enerkey", enerkey.api_keys, share, burst)
    further = [
        Account(name, f"enerkey.accounts.{name}", each.api_keys, each.requests_per_day or share, each.burst or burst)
        for name, each in enerkey.accounts.items()
    ]
    return {account.name: account for account in (default, *further)}


def _check_pushing(draft: Draft, findings: Findings) -> None:
    pushing = [meter for meter in draft.meters if _pushes(meter)]
    for meter in pushing:
        if meter.section.written(("enerkey_id",)) is None:
            meter.section.add(findings, ("enerkey_id",), 'missing: a meter that pushes needs it; or write push = "off"')
    if not pushing or draft.file.value is None or "enerkey" in draft.file.guessed:
        return
    enerkey = draft.file.value.enerkey
    if enerkey is None:
        message = f'missing: {_push(pushing)}; write [enerkey] with api_keys, or push = "off"'
        findings.add(draft.file.at(("enerkey",)), message)
        return
    for account in _accounts(enerkey).values():
        its = [meter for meter in pushing if _account_of(meter) == account.name]
        if its and not account.keys:
            message = f'missing: {_push(its)}; write a list of one or two keys, for example ["credential:enerkey-1"]'
            findings.add(draft.file.at((*account.where.split(".", 2), "api_keys")), message)


def _push(meters: Sequence[MeterDraft]) -> str:
    return f'meter "{meters[0].id}" pushes' if len(meters) == 1 else f"{len(meters)} meters push"


def _pushes(meter: MeterDraft) -> bool:
    section = meter.section
    return section.value is not None and "push" not in section.guessed and section.value.push != "off"


# --- what works but should be looked at -------------------------------------------------------------------------------


def _look_closer(draft: Draft, meters: Iterable[Meter], warnings: Findings, today: date | None) -> None:
    enerkey = draft.file.value.enerkey if draft.file.value else None
    if enerkey and "enerkey" not in draft.file.guessed:
        _look_at_keys(draft, list(_accounts(enerkey).values()), warnings, today)
        _look_at_accounts(draft, list(_accounts(enerkey).values()), warnings)
    for connection in draft.connections.values():
        password = connection.checked.written(("password",)) if connection.checked else None
        if connection.checked and isinstance(password, str) and secrets.is_literal(password):
            place = connection.checked.at(("password",))
            warnings.add(place, f"the password stands in this file; better keep it elsewhere: {secrets.FORMS}")
    _warn_of_sources(draft, meters, warnings)
    unlimited = {meter.name for meter in meters if meter.kind == "counter" and meter.max_rate is None}
    for draft_meter in draft.meters:
        if draft_meter.id in unlimited:
            message = (
                "not set: no jump of the counter is too large to be believed; write the most that one hour can bring"
            )
            warnings.add(draft_meter.section.at(("max_rate",)), message)


def _look_at_keys(draft: Draft, accounts: Iterable[Account], warnings: Findings, today: date | None) -> None:
    """Keys that stand in the file, that expire, or that stand there twice: those would be spent from two budgets."""
    seen: dict[str, str] = {}
    for account in accounts:
        for number, key in enumerate(account.keys):
            place = draft.file.at((*account.where.split(".", 2), "api_keys", number))
            if secrets.is_literal(key.key):
                warnings.add(place, f"the key stands in this file; better keep it elsewhere: {secrets.FORMS}")
            first = seen.setdefault(key.key.strip(), place.shown)
            if first != place.shown:
                warnings.add(place, f"is the same key as {first}: EnerKey counts the requests of both together")
            if today and (words := expiry("the key", key.expires, today)):
                warnings.add(place.at("expires"), words)


def _look_at_accounts(draft: Draft, accounts: Sequence[Account], warnings: Findings) -> None:
    """Accounts without a meter, and EnerKey meters that two accounts have."""
    used = {_account_of(meter) for meter in draft.meters}
    if used - {account.name for account in accounts}:  # a mistake, and reported: what follows from it is not
        return
    for account in accounts:
        if account.name not in used and (account.name or (account.keys and len(accounts) > 1)):
            keys = tuple(account.where.split(".", 2)) if account.name else ("enerkey", "api_keys")
            warnings.add(draft.file.at(keys), _unused(account.name))
    first: dict[object, MeterDraft] = {}
    for meter in draft.meters:
        number = meter.section.written(("enerkey_id",))
        owner = meter if number is None else first.setdefault(number, meter)
        if _account_of(owner) != _account_of(meter):
            words = f"is also {_known_as(owner, meter)}, of another account: right only where two customers are meant"
            warnings.add(meter.section.at(("enerkey_id",)), words)


def _unused(name: str) -> str:
    return f'no meter has account = "{name}"' if name else "every meter names another account; these keys are not used"


def _warn_of_sources(draft: Draft, meters: Iterable[Meter], warnings: Findings) -> None:
    """What the driver would look at twice: told at the first meter that has it, with how many others."""
    cautions: dict[str, list[str]] = {}
    for meter in meters:
        if meter.caution:
            cautions.setdefault(meter.caution, []).append(meter.name)
    sources = {each.id: each.source for each in draft.meters}
    for caution, names in cautions.items():
        source = sources.get(names[0])
        if source is not None:
            others = f" (also {counted(len(names) - 1, 'other meter')})" if len(names) > 1 else ""
            warnings.add(source.place, f"{caution}{others}")


def _warn_of_connections(draft: Draft, warnings: Findings) -> None:
    """What the driver would look at twice in a connection as a whole."""
    for connection in draft.connections.values():
        if connection.driver is None or connection.checked is None or connection.checked.value is None:
            continue
        sources = _sources_on(connection, draft)
        values = {name: source.value for name, source in sources.items() if source.value is not None}
        for caution in registry.config_of(connection.driver).cautions(connection.checked.value, values):
            at = connection.checked if caution.path[0] == "connection" else sources[str(caution.path[0])]
            warnings.add(at.at(caution.path[1:]), caution.message)
