"""Accounts and keys in the configuration: what an account has of its own, and every mistake with them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.config import Config, ConfigFaults, load
from gateway.faults import listing

CANARY = "canary-3f9a"
MAIN = '[connections.main]\ndriver = "modbus"\nurl = "tcp://192.0.2.1"\n'
SOURCE = 'connection = "main", device = {}, register = 0, type = "u32", unit = "kWh"'
KEYS = '[enerkey]\napi_keys = ["credential:a"]\n'
NORTH = '[enerkey.accounts.north]\napi_keys = [{ key = "env:N", expires = 2027-01-31 }]\nrequests_per_day = 500\n'
LIMIT = "max_rate = 5"


def meter(name: str = "heat", *lines: str, push: str = "off") -> str:
    """A meter with further lines."""
    more = "".join(f"{line}\n" for line in lines)
    return f'[[meters]]\nname = "{name}"\npush = "{push}"\nunit = "kWh"\n{more}source = {{ {SOURCE.format(ord(name[0]))} }}\n'


def loaded(tmp_path: Path, text: str) -> Config:
    """The configuration in this text."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(path)


def said(tmp_path: Path, text: str) -> list[str]:
    """Its mistakes, without the directory."""
    with pytest.raises(ConfigFaults) as caught:
        loaded(tmp_path, text)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def pushing(name: str, number: int, *lines: str) -> str:
    """A meter that pushes."""
    return meter(name, LIMIT, f"enerkey_id = {number}", *lines, push="consumption")


def warned(tmp_path: Path, text: str, today: date | None = None) -> list[str]:
    """The warnings of a configuration without mistakes, without the directory."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return [str(each).replace(f"{tmp_path}/", "") for each in load(path, today).warnings]


def test_an_account_has_its_own_keys_and_limits_and_the_rest_of_enerkey(tmp_path: Path):
    """What it does not say is as in [enerkey]; only accounts that a meter pushes to count."""
    text = f"{KEYS}burst = '5/1s'\n{NORTH}[enerkey.accounts.spare]\n{MAIN}" + pushing("a", 1)
    config = loaded(tmp_path, text + pushing("b", 2, 'account = "north"') + meter("c", LIMIT, 'account = "spare"'))
    found = [(account.name, account.requests_per_day, account.burst) for account in config.pushing]
    assert found == [("", 40_000, "5/1s"), ("north", 500, "5/1s")]
    assert [key.expires for key in config.accounts["north"].keys] == [date(2027, 1, 31)]
    assert [each.account for each in config.meters] == ["", "north", "spare"]
    assert config.warnings == ()


def test_a_meter_of_a_spreadsheet_names_its_account_too(tmp_path: Path):
    """An empty cell is the default account."""
    header = "name;enerkey_id;push;account;unit;max_rate;connection;device;register;type;source_unit"
    rows = ["a;1;consumption;north;kWh;5;main;1;0;u32;kWh", "b;2;consumption;;kWh;5;main;2;0;u32;kWh"]
    (tmp_path / "meters.csv").write_text("\n".join([header, *rows]))
    config = loaded(tmp_path, f'meters_file = "meters.csv"\n{KEYS}{NORTH}{MAIN}')
    assert [each.account for each in config.meters] == ["north", ""]


def test_every_mistake_with_accounts_is_named(tmp_path: Path):
    """Unknown, without keys, a meter twice in one; what follows from it is not."""
    assert said(tmp_path, KEYS + NORTH + MAIN + pushing("a", 1) + pushing("b", 2, 'account = "nroth"')) == [
        (
            'config.toml:22: meters.b.account: unknown account "nroth"; there are: north; without it the keys of [enerkey] are used; '
            'did you mean "north"?'
        )
    ]
    assert said(tmp_path, MAIN + meter("a", 'account = "north"')) == [
        (
            'config.toml:8: meters.a.account: unknown account "north"; write an [enerkey.accounts.NAME] first; '
            "without it the keys of [enerkey] are used"
        )
    ]
    bare = "[enerkey.accounts.north]\nburst = '1/1s'\n"
    assert said(tmp_path, KEYS + bare + MAIN + pushing("a", 1) + pushing("b", 2, 'account = "north"')) == [
        (
            'config.toml:3: enerkey.accounts.north.api_keys: missing: meter "b" pushes; write a list of one or two keys, '
            'for example ["credential:enerkey-1"]'
        )
    ]
    assert said(tmp_path, NORTH + MAIN + pushing("a", 1) + pushing("b", 2, 'account = "north"')) == [
        (
            'config.toml:1: enerkey.api_keys: missing: meter "a" pushes; write a list of one or two keys, '
            'for example ["credential:enerkey-1"]'
        )
    ]
    twice = pushing("a", 1, 'account = "north"') + pushing("b", 1, 'account = "north"')
    assert [each.partition("; ")[0] for each in said(tmp_path, NORTH + MAIN + twice)] == [
        "config.toml:20: meters.b.enerkey_id: is there twice: meters.a (line 7) has it already"
    ]
    odd = '[enerkey.accounts]\napi_keys = ["env:A"]\n'
    assert said(tmp_path, odd + MAIN + meter()) == [
        "config.toml:1: enerkey.accounts: must have a name for each account: [enerkey.accounts.NAME]"
    ]
    assert said(tmp_path, f'[enerkey.accounts."no rth"]\n{MAIN}{meter()}') == [
        (
            'config.toml:1: enerkey.accounts.no rth: is no name for an account: it must be up to 64 letters, digits and "-", "_", '
            '".", beginning with a letter or digit'
        )
    ]
    assert said(tmp_path, f"[enerkey.accounts.north]\nrequest_per_day = 5\nburst = 3\n{MAIN}{meter()}") == [
        'config.toml:2: enerkey.accounts.north.request_per_day: unknown key; did you mean "requests_per_day"?',
        "config.toml:3: enerkey.accounts.north.burst: must be text in quotes, not 3",
    ]


def test_a_key_may_be_a_table_and_its_mistakes_are_named_without_its_value(tmp_path: Path):
    """Whatever stands beside a key may be one, put into the wrong place."""
    wrong = f"""[enerkey]
api_keys = [{{ key = "env:", expires = "{CANARY}" }}, {{ expire = 2027-01-31T00:00:00Z }}]
[enerkey.accounts.north]
api_keys = [5, {{ key = "{CANARY}", expires = "2027-02-30" }}]
"""
    found = said(tmp_path, wrong + MAIN + meter())
    assert found == [
        'config.toml:2: enerkey.api_keys[0].key: needs letters, digits and _, not beginning with a digit after "env:"',
        "config.toml:2: enerkey.api_keys[0].expires: must be a day, written year-month-day",
        "config.toml:2: enerkey.api_keys[1].key: missing: write " + '"credential:NAME", "env:NAME" or "file:/PATH"',
        'config.toml:2: enerkey.api_keys[1].expire: unknown key; did you mean "expires"?',
        "config.toml:4: enerkey.accounts.north.api_keys[0]: must be text in quotes, or a table with key and expires",
        "config.toml:4: enerkey.accounts.north.api_keys[1].expires: must be a day, written year-month-day",
    ]
    with pytest.raises(ConfigFaults) as caught:
        loaded(tmp_path, wrong + MAIN + meter())
    assert CANARY not in listing(caught.value.faults) + repr(caught.value.faults)


def test_what_works_with_accounts_but_should_be_looked_at_is_warned_of(tmp_path: Path):
    """Accounts that nobody uses, one number in two accounts, one key in two places."""
    assert warned(tmp_path, KEYS + NORTH + MAIN + pushing("a", 1)) == [
        'config.toml:3: enerkey.accounts.north: no meter has account = "north"'
    ]
    assert warned(tmp_path, KEYS + NORTH + MAIN + pushing("a", 1, 'account = "north"')) == [
        "config.toml:2: enerkey.api_keys: every meter names another account; these keys are not used"
    ]
    both = pushing("a", 1) + pushing("b", 1, 'account = "north"')
    assert warned(tmp_path, KEYS + NORTH + MAIN + both) == [
        (
            "config.toml:21: meters.b.enerkey_id: is also meters.a (line 9), of another account: right only where two customers "
            "are meant"
        )
    ]
    assert warned(tmp_path, KEYS + NORTH.replace("env:N", "credential:a") + MAIN + pushing("a", 1)
        + pushing("b", 2, 'account = "north"')) == [
        ("config.toml:4: enerkey.accounts.north.api_keys[0]: is the same key as enerkey.api_keys[0]: EnerKey counts the "
        "requests of both together")
    ]  # fmt: skip


@pytest.mark.parametrize("written", ["2027-01-31", '"2027-01-31"'])
def test_keys_that_expire_within_a_month_are_warned_of(tmp_path: Path, written: str):
    """As a TOML date or a text; without the day of today nothing is said."""
    text = f"[enerkey]\napi_keys = [{{ key = 'env:N', expires = {written} }}]\n" + MAIN + pushing("a", 1)
    place = "config.toml:2: enerkey.api_keys[0].expires: the key"
    assert warned(tmp_path, text, date(2026, 12, 31)) == []
    assert warned(tmp_path, text, date(2027, 1, 1)) == [
        f"{place} expires on 2027-01-31: put a new one in its place before that"
    ]
    assert warned(tmp_path, text, date(2027, 1, 31)) == [f"{place} expired on 2027-01-31: put a new one in its place"]
    assert warned(tmp_path, text) == []
