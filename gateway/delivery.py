"""What delivery lives by: which meters are pushed, and the settings of [enerkey] with what the probe found out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffer import findings
from gateway.errors import Misconfigured
from gateway.messages import DeliveryRules, PushedMeter
from gateway.pacing import push_offset
from gateway.probed import UNPROBED, Doubt, Probed, decimals_of, doubts, hour_stamp_of, probed, same_hour_of, settle_of
from gateway.sections import parse_burst

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffer.store import Connection
    from gateway.config import Config


def pushed_meters(config: Config, numbers: Mapping[str, int], identity: str) -> list[PushedMeter]:
    """The meters whose hours go to EnerKey, with their offsets after the hour."""
    spread = config.enerkey.push_spread if config.enerkey else 0.0
    return [
        PushedMeter(
            numbers[meter.name],
            meter.name,
            meter.enerkey_id,
            meter.push,
            push_offset(identity, meter.name, spread),
            meter.account,
        )
        for meter in config.meters
        if meter.push != "off" and meter.enerkey_id is not None and meter.name in numbers
    ]


def delivery_rules(config: Config, known: Probed = UNPROBED, account: str = "") -> DeliveryRules:
    """The settings of [enerkey] that one of its accounts lives by, and what the probe found out."""
    section = config.enerkey
    if section is None:
        raise Misconfigured("there is no [enerkey] section: nothing is sent anywhere")
    return DeliveryRules(
        settle=settle_of(section, known),
        on_unknown=section.on_unknown,
        same_hour=same_hour_of(section, known),
        hour_stamp=hour_stamp_of(section, known),
        decimals=decimals_of(section, known),
        most_hours=section.max_days * 24,
        requests_per_day=config.accounts[account].requests_per_day,
        burst=parse_burst(config.accounts[account].burst),
        push_estimated=section.push_estimated,
        whole_refusals=known.whole_refusals,
        kept_decimals=known.kept_decimals,
    )


def settle_ms(config: Config, db: Connection) -> int:
    """How long EnerKey may take to show what it has accepted."""
    section = config.enerkey
    return round(settle_of(section, probed(section, findings.known(db))) * 1000) if section else 0


def doubts_of(config: Config, db: Connection) -> list[Doubt]:
    """Where [enerkey] contradicts what the probe found out."""
    section = config.enerkey
    return doubts(section, probed(section, findings.known(db))) if section else []
