"""Which rules follow from what `probe` found out of EnerKey's API, and where the configuration says otherwise. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from buffer.model import from_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffer.findings import Finding
    from gateway.sections import EnerkeySection

UNPROBED_SETTLE = 3600.0  # s; reliability 3.1, rule 9
SHORTEST_SETTLE = (
    600.0  # s; more than the client's longest wait for an answer and 5 min, which the rule asks for as well
)
LAGS = 3  # times the longest delay seen: the next one may be longer
MOST_DECIMALS = 6


class Doubt(NamedTuple):
    """A key of [enerkey] that contradicts what was found: what comes of it, and what to write."""

    key: str
    words: str


@dataclass(frozen=True, slots=True)
class Probed:
    """What is known of the API, in seconds and counts; None where it was not found out."""

    lag: float | None = None
    same_hour: str | None = None
    hour_stamp: str | None = None
    decimals: int | None = None
    whole_refusals: bool = False
    largest_message: int | None = None  # days
    at: str = ""  # the day, for people

    @property
    def settle(self) -> float:
        """How long a message of unknown fate must rest (s)."""
        return UNPROBED_SETTLE if self.lag is None else max(SHORTEST_SETTLE, LAGS * self.lag)

    @property
    def kept_decimals(self) -> int:
        """As many decimals as EnerKey keeps of a value."""
        return MOST_DECIMALS if self.decimals is None else self.decimals


UNPROBED = Probed()


def api_of(section: EnerkeySection) -> str:
    """What names the API that is spoken to: its URL and contract. No key is in it, so that a new one changes nothing."""
    text = f"{section.url}\n{section.contract.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def probed(section: EnerkeySection, findings: Iterable[Finding]) -> Probed:
    """What the findings say of the API that this section speaks to; those of another one say nothing."""
    ours = {each.name: each for each in findings if each.api == api_of(section)}
    said = {name: each.value for name, each in ours.items()}
    return Probed(
        lag=float(said["lag"]) if "lag" in said else None,
        same_hour=said.get("same_hour"),
        hour_stamp=said.get("hour_stamp"),
        decimals=int(said["decimals"]) if "decimals" in said else None,
        whole_refusals=said.get("refusal") == "whole",
        largest_message=int(said["largest_message"]) if "largest_message" in said else None,
        at=f"{from_ms(max(each.at for each in ours.values())):%Y-%m-%d}" if ours else "",
    )


def settle_of(section: EnerkeySection, known: Probed) -> float:
    """How long a message of unknown fate rests (s)."""
    return known.settle if section.settle is None else section.settle


def same_hour_of(section: EnerkeySection, known: Probed) -> Literal["sum", "replace"]:
    """How adjustments to accepted hours are sent: as a difference, or as the hour's new value."""
    if section.same_hour != "auto":
        return section.same_hour
    return "replace" if known.same_hour == "replace" else "sum"


def hour_stamp_of(section: EnerkeySection, known: Probed) -> Literal["start", "end"]:
    """Which end of its hour a consumption is stamped with."""
    if section.hour_stamp != "auto":
        return section.hour_stamp
    return "end" if known.hour_stamp == "end" else "start"


def decimals_of(section: EnerkeySection, known: Probed) -> int:
    """Most decimals of a number that is sent."""
    return known.kept_decimals if section.push_decimals is None else section.push_decimals


def doubts(section: EnerkeySection, known: Probed) -> list[Doubt]:
    """Where the configuration contradicts what was found; with what happens and what to write instead."""
    found = [
        Doubt("same_hour", _same_hour_doubt(section, known)),
        Doubt("hour_stamp", _hour_stamp_doubt(section, known)),
        Doubt("push_decimals", _decimals_doubt(section, known)),
        Doubt("settle", _settle_doubt(section, known)),
        Doubt("max_days", _size_doubt(section, known)),
    ]
    return [doubt for doubt in found if doubt.words]


def _same_hour_doubt(section: EnerkeySection, known: Probed) -> str:
    kept = "hours are still counted once, but corrections to hours that EnerKey has do not arrive: the daily comparison holds them"
    match same_hour_of(section, known), known.same_hour:
        case "sum", "replace":
            return (
                f"EnerKey takes a second value of an hour instead of the first (probed {known.at}). Hours are still counted once,"
                ' but a correction would stand in place of its hour: write same_hour = "replace", or "auto"'
            )
        case "replace", "sum":
            return (
                f"EnerKey adds a second value of an hour (probed {known.at}). Hours are still counted once, but a correction"
                ' would count its hour twice: write same_hour = "sum", or "auto"'
            )
        case _, "first-wins":
            return f"EnerKey keeps the first value of an hour (probed {known.at}): {kept}. No setting mends that: ask EnerKey"
        case _, "reject":
            refused = (
                kept.partition(", but")[0] + ", but corrections to hours that EnerKey has are refused, and held for you"
            )
            return f"EnerKey refuses a second value of an hour (probed {known.at}): {refused}. No setting mends that: ask EnerKey"
        case _:
            return ""


def _hour_stamp_doubt(section: EnerkeySection, known: Probed) -> str:
    spoken = hour_stamp_of(section, known)
    if known.hour_stamp not in {"start", "end"} or known.hour_stamp == spoken:
        return ""
    shift = "early" if spoken == "start" else "late"
    return (
        f"EnerKey takes a stamp for the {known.hour_stamp} of its hour (probed {known.at}): every hour lies one hour too {shift}"
        f' there, and read-backs hold them. Write hour_stamp = "{known.hour_stamp}", or "auto"'
    )


def _decimals_doubt(section: EnerkeySection, known: Probed) -> str:
    sent = decimals_of(section, known)
    if sent <= known.kept_decimals:
        return ""
    return (
        f"EnerKey keeps {known.kept_decimals} decimals (probed {known.at}) and rounds each of the {sent} that are sent, so that"
        f' sums of hours drift: write push_decimals = {known.kept_decimals}, or "auto"'
    )


def _settle_doubt(section: EnerkeySection, known: Probed) -> str:
    rests = settle_of(section, known)
    if known.lag is None or rests >= known.settle:
        return ""
    return (
        f"EnerKey shows what it was sent after {known.lag:.0f} s (probed {known.at}), and a message may be under way for minutes:"
        f' read back after {rests:.0f} s, an hour might be sent twice. Write settle = "auto" ({known.settle:.0f} s)'
    )


def _size_doubt(section: EnerkeySection, known: Probed) -> str:
    if known.largest_message is None or section.max_days <= known.largest_message:
        return ""
    return (
        f"EnerKey refused a larger message than one of {known.largest_message} days (probed {known.at}), so that backlogs cost"
        f" requests in vain: write max_days = {known.largest_message}"
    )
