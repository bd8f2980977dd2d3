"""The drivers by name. Modules are named, not imported: an MQTT-only box never loads pymodbus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from pydantic import BaseModel

    from drivers.base import Clock, DeliverTogether, Driver, Helper, Ports


class Fault(NamedTuple):
    """A mistake in a configuration: where (key path below the thing checked), what is wrong, what is allowed."""

    path: tuple[str | int, ...]
    message: str


class Needs(NamedTuple):
    """What the process must be allowed, at most."""

    tasks: int  # threads
    files: int  # descriptors


class ConfigModule(Protocol):
    """What `drivers.<kind>.config` offers. Importing it must not import the wire library."""

    Connection: type[BaseModel]  # [connections.NAME] with this driver
    Source: type[BaseModel]  # a meter's `source = {...}` on such a connection

    def check(self, connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
        """Mistakes that no single field shows (profile or point unknown, two speeds on one line).

        Paths start with "connection" or with a key of `sources` (the source id).
        """
        ...

    def cautions(self, connection: BaseModel, sources: Mapping[str, BaseModel]) -> list[Fault]:
        """What works but should be looked at, paths as for `check`, which has found nothing before."""
        ...

    def describe(self, source: BaseModel) -> SourceFacts:
        """What the gateway must know of a source without opening it."""
        ...

    def pace(self, connection: BaseModel, source: BaseModel) -> float:
        """Seconds between two readings that the source is expected to give."""
        ...

    def files(self, source: BaseModel) -> Mapping[str, type[BaseModel]]:
        """TOML files of the operator's own that a source names, by their paths, and the model that each follows."""
        ...

    def exclusive(self, connection: BaseModel) -> str | None:
        """What only one connection may use, in words ("the serial port /dev/ttyUSB0"); None where nothing is."""
        ...

    def needs(self, connection: BaseModel) -> Needs:
        """What an open connection takes of the process, and one that is being opened."""
        ...


class SourceFacts(NamedTuple):
    """A source as the gateway sees it. None where neither the operator nor a profile says."""

    unit: str | None  # unit of the reading's value
    kind: str  # counter | interval | power
    where: str  # "device 1, energy_import_total" or the topic: for people
    max_rate: str | None = None  # from a profile's rating, in `unit` per hour
    rollover: str | None = None  # modulus in `unit`
    resolution: str | None = None  # the register's smallest step, in `unit`
    float32: bool = False  # the step grows with the value
    register: str = ""  # what makes it this register and no other: when that changes, the counter is another one
    caution: str = ""  # why an operator should look twice; said once, however many sources have it


class DriverModule(Protocol):
    """What `drivers.<kind>.driver` offers."""

    def build(self, name: str, connection: BaseModel, sources: Mapping[str, BaseModel], ports: Ports) -> Driver:
        """A driver that has touched nothing yet."""
        ...

    def share(
        self, drivers: Sequence[Driver], clock: Clock, deliver: DeliverTogether, longest_wait: float
    ) -> Sequence[Helper]:
        """What serves some of these drivers together, in threads of its own; once, before any of them steps.

        `longest_wait` (s of `clock`): each driver is to be looked at so often, as its own thread does.
        """
        ...


DRIVERS: dict[str, str] = {
    "modbus": "drivers.modbus",
    "mqtt": "drivers.mqtt",
}


def names() -> Sequence[str]:
    """The driver names that a connection may give."""
    return tuple(DRIVERS)


def config_of(driver: str) -> ConfigModule:
    """The configuration models of a driver, without its wire library."""
    return cast("ConfigModule", _module(f"{DRIVERS[driver]}.config"))


def driver_of(driver: str) -> DriverModule:
    """The driver itself, with its wire library."""
    return cast("DriverModule", _module(f"{DRIVERS[driver]}.driver"))


def _module(name: str) -> Any:  # noqa: ANN401 - a module is checked against the protocols by the driver contract suite
    return import_module(name)
