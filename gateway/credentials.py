"""The secrets that the configuration refers to, had when they are needed: API keys, and passwords of connections."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway import secrets
from gateway.errors import Misconfigured
from gateway.keys import Key

if TYPE_CHECKING:
    from gateway.config import Account, Config


def check_credentials(config: Config) -> None:
    """Raise Misconfigured with every secret that cannot be had: nobody wants to hear of them one start at a time."""
    wanted = [(key.key, f"{account.where}.api_keys") for account in config.pushing for key in account.keys]
    for name, connection in config.connections.items():
        password = dict(connection).get("password")
        if password and any(meter.source.connection == name for meter in config.meters):
            wanted.append((password, f"connections.{name}.password"))
    faults = []
    for reference, where in wanted:
        try:
            secret(reference, where)
        except Misconfigured as error:
            faults.append(str(error))
    if faults:
        raise Misconfigured("\n".join(faults))


def keys_of(account: Account) -> list[Key]:
    """An account's keys; one that stands in the file is known by its place there."""
    where = f"{account.where}.api_keys"
    return [
        Key(secret(key.key, where), f"{where}[{slot}]" if secrets.is_literal(key.key) else key.key.strip(), key.expires)
        for slot, key in enumerate(account.keys)
    ]


def secret(reference: str, where: str) -> str:
    """The secret behind a reference; Misconfigured, with the place in the configuration, when it cannot be had."""
    try:
        return secrets.resolve(reference, os.environ)
    except secrets.SecretError as error:
        raise Misconfigured(f"{where}: {error}") from None
