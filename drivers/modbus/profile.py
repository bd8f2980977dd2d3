"""Profiles: what is known of a meter family, as data in `drivers/profiles/NAME.toml`."""

from __future__ import annotations

import difflib
import tomllib
import warnings
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationError

from drivers.fields import LARGEST, Duration, Exact, Kind, OtherWords, Scale, Strict, Words
from drivers.modbus import decode
from drivers.modbus.otherwords import BYTE_ORDERS, PROFILE_KEYS, SOURCE_KEYS, TYPES, WORD_ORDERS
from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, USUAL_REGISTERS, Table

# pydantic takes `register` for ABCMeta.register, which no instance has
warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)

SHORTEST_PART = 3  # letters of a profile's name that say something
MOST_PLACES = 6  # of mistakes, in one sentence
FOLDER = Path(__file__).resolve().parent.parent / "profiles"

Evidence = Literal["datasheet", "capture", "hardware"]
"""How far a profile is proven: read in documents, fed with captured words, or seen on a meter beside its display."""

Agreement = Literal["yes", "single", "no"]
"""Two or more independent texts give the same address, only one gives it, or they contradict each other."""

Type = Annotated[decode.Type, OtherWords(TYPES)]
WordOrder = Annotated[decode.Order, OtherWords(WORD_ORDERS)]
ByteOrder = Annotated[decode.Order, OtherWords(BYTE_ORDERS)]
Register = Annotated[int, Field(ge=0, lt=REGISTERS)]


class UnknownProfile(Exception):  # noqa: N818 - the operator's mistake, not a failure
    """There is no profile of this name."""


class BadProfile(Exception):  # noqa: N818 - as above
    """A profile of the operator's own that cannot be used; its text says why."""


def _marker(value: str) -> str:
    fault = decode.marker_fault(value)
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


class FractionOf(Strict):
    """The fraction of a whole number, in a register of its own; both come from one request."""

    register: int = Field(ge=0, lt=REGISTERS)
    type: Type
    scale: Scale  # to the point's `unit`


class Identification(Strict):
    """Registers that tell which meter this is, read one request each; for commissioning."""

    register: int = Field(ge=0, lt=REGISTERS)
    count: int = Field(1, ge=1, le=MOST_REGISTERS)
    table: Table = "holding"
    kind: Literal["text", "number"] = "text"
    expect: Annotated[tuple[str, ...], Field(strict=False)] = ()  # how it begins; none: only to be shown
    source: str
    note: str = ""


class Point(Strict):
    """One value of the meter."""

    other_words: ClassVar[Mapping[str, str]] = SOURCE_KEYS

    register: int = Field(
        ge=0, lt=REGISTERS
    )  # zero-based PDU address; with `sunspec`, counted from the model's ID register
    type: Type
    unit: str | None = None  # None: set in the meter, so the operator has to say
    kind: Kind = "counter"
    scale: Scale = Decimal(1)
    table: Table | None = None
    word_order: WordOrder | None = None
    byte_order: ByteOrder | None = None
    na: Markers | None = None
    max_rate: Annotated[Exact, Field(gt=0, le=LARGEST)] | None = None  # in `unit` per hour: nothing faster is believed
    rollover: Annotated[Exact, Field(gt=0, le=LARGEST)] | None = (
        None  # modulus in `unit`, only where a document gives it
    )
    resolution: Annotated[Exact, Field(gt=0, le=LARGEST)] | None = (
        None  # in `unit`, where it is not what the type tells
    )
    fraction: FractionOf | None = None
    exponent_register: Register | None = None  # s16, power of ten
    factor_register: Register | None = None  # u16
    evidence: Evidence | None = None
    source: str | None = None  # where the address was read
    agreement: Agreement = "yes"
    note: str = ""


class Profile(Strict):
    """One meter family."""

    other_words: ClassVar[Mapping[str, str]] = PROFILE_KEYS

    manufacturer: str
    model: str
    description: str = ""
    status: Literal["stable", "experimental"] = "stable"  # stable: two texts agree on the main register
    transports: Annotated[
        tuple[Literal["rtu", "tcp"], ...], Field(strict=False)
    ] = ()  # what it has itself, where known
    evidence: Evidence
    source: str
    note: str = ""
    sunspec: Annotated[tuple[int, ...], Field(strict=False)] = ()  # the registers count from the first of these models
    table: Table = "holding"
    word_order: WordOrder = "big"
    byte_order: ByteOrder = "big"
    na: Markers = ()
    max_registers: int = Field(USUAL_REGISTERS, ge=1, le=MOST_REGISTERS)
    max_hole: int = Field(MOST_REGISTERS, ge=0, le=MOST_REGISTERS)  # registers between values that it lets be read
    gap: Annotated[Duration, Field(ge=0, le=10)] | None = None  # RTU only: on TCP the gateway keeps the silence
    timeout: Annotated[Duration, Field(gt=0, le=30)] | None = None  # at least this
    serial: SerialHint | None = None
    identification: Annotated[tuple[Identification, ...], Field(strict=False)] = ()
    points: dict[str, Point] = Field(min_length=1)


def names() -> list[str]:
    """Every shipped profile."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def load(name: str) -> Profile:
    """A shipped profile, or the operator's own by the whole path of its file; raises UnknownProfile or BadProfile."""
    if name.startswith("/"):
        return _own(Path(name))
    if name not in names():
        raise UnknownProfile(name)
    return parse((FOLDER / f"{name}.toml").read_text("utf-8"), name)


def like(name: str, most: int = 6) -> list[str]:
    """The shipped profiles that this name may mean, the likeliest first: those that hold it or are held by it, then the most alike."""

    def plain(text: str) -> str:
        return "".join(sign for sign in text.casefold() if sign.isalnum())

    wanted, there = plain(name), {plain(each): each for each in names()}
    holding = [each for key, each in there.items() if len(wanted) >= SHORTEST_PART and (wanted in key or key in wanted)]
    close = [there[key] for key in difflib.get_close_matches(wanted, there, n=most)]
    both = sorted(holding, key=lambda each: (each not in close, len(each)))
    return list(dict.fromkeys([*both, *close]))[:most]


def known(name: str | None) -> Profile | None:
    """The profile of this name, where there is one that can be used."""
    try:
        return load(name) if name else None
    except (UnknownProfile, BadProfile):
        return None


def parse(text: str, name: str) -> Profile:
    """A profile from its text; raises ValueError that names it."""
    try:
        return Profile.model_validate(tomllib.loads(text))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"profile {name}: {error}") from error


def _own(path: Path) -> Profile:
    try:
        return Profile.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise BadProfile(f"cannot be read: {error.strerror}") from None
    except ValidationError as error:
        places = list(dict.fromkeys(".".join(map(str, each["loc"])) for each in error.errors(include_url=False)))
        more = f" and {len(places) - MOST_PLACES} more places" if len(places) > MOST_PLACES else ""
        raise BadProfile(f"has mistakes, at {', '.join(places[:MOST_PLACES])}{more}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise BadProfile(f"is no profile: {error}") from None
    except RecursionError:  # tomllib descends by itself
        raise BadProfile("is no profile: lists and tables are nested too deeply in one another") from None
