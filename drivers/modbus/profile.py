"""Profiles: what is known of a meter family, as data in `drivers/profiles/NAME.toml`."""

from __future__ import annotations

import tomllib
import warnings
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from drivers.fields import Duration, Exact, Kind, Scale, Strict, Words
from drivers.modbus.decode import Order, Type, marker_fault
from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, USUAL_REGISTERS, Table

# pydantic takes `register` for ABCMeta.register, which no instance has
warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)

FOLDER = Path(__file__).resolve().parent.parent / "profiles"

Evidence = Literal["datasheet", "capture", "hardware"]
"""How far a profile is proven: read in documents, fed with captured words, or seen on a meter beside its display."""


class UnknownProfile(Exception):  # noqa: N818 - the operator's mistake, not a failure
    """There is no profile of this name."""


def _marker(value: str) -> str:
    fault = marker_fault(value)
    if fault:
        raise ValueError(fault)
    return value


Marker = Annotated[str, AfterValidator(_marker)]
Markers = Annotated[tuple[Marker, ...], Field(strict=False), Words('a list such as ["0xFFFFFFFF"]')]


class SerialHint(Strict):
    """How the meter leaves the factory, where known; never applied: a line has one speed for all its meters."""

    baudrate: int = Field(gt=0)
    parity: Literal["N", "E", "O"]
    stopbits: Literal[1, 2] = 1


class Point(Strict):
    """One value of the meter."""

    register: int = Field(ge=0, lt=REGISTERS)  # zero-based PDU address
    type: Type
    unit: str | None = None  # None: set in the meter, so the operator has to say
    kind: Kind = "counter"
    scale: Scale = Decimal(1)
    table: Table | None = None
    word_order: Order | None = None
    byte_order: Order | None = None
    na: Markers | None = None
    max_rate: Annotated[Exact, Field(gt=0)] | None = None  # in `unit` per hour: nothing faster is believed
    rollover: Annotated[Exact, Field(gt=0)] | None = None  # modulus in `unit`, only where a document gives it
    evidence: Evidence | None = None
    source: str | None = None  # where the address was read
    agreement: Literal["yes", "single"] = "yes"  # two or more independent texts, or one
    note: str = ""


class Profile(Strict):
    """One meter family."""

    manufacturer: str
    model: str
    description: str = ""
    evidence: Evidence
    source: str
    table: Table = "holding"
    word_order: Order = "big"
    byte_order: Order = "big"
    na: Markers = ()
    max_registers: int = Field(USUAL_REGISTERS, ge=1, le=MOST_REGISTERS)
    gap: Annotated[Duration, Field(ge=0, le=10)] | None = None  # RTU only: on TCP the gateway keeps the silence
    timeout: Annotated[Duration, Field(gt=0, le=30)] | None = None  # at least this
    serial: SerialHint | None = None
    points: dict[str, Point] = Field(min_length=1)


def names() -> list[str]:
    """Every shipped profile."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def load(name: str) -> Profile:
    """A shipped profile; raises UnknownProfile."""
    if name not in names():
        raise UnknownProfile(name)
    return parse((FOLDER / f"{name}.toml").read_text("utf-8"), name)


def parse(text: str, name: str) -> Profile:
    """A profile from its text; raises ValueError that names it."""
    try:
        return Profile.model_validate(tomllib.loads(text))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"profile {name}: {error}") from error
