"""Whether a process may have the threads and descriptors that a configuration's connections need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivers import registry
from drivers.registry import Needs
from gateway.errors import Misconfigured
from gateway.faults import ConfigFaults, Fault, counted

if TYPE_CHECKING:
    from gateway.config import Config

OURS = Needs(tasks=16, files=32)  # of everything else: 6 and 11 at rest, 18 while a program is asked about the clock
ACCOUNT = Needs(tasks=1, files=2)  # an account at EnerKey
UNIT_TASKS = 640  # TasksMax= of systemd/meter-gateway.service
MOST_FILES = 1024  # select(2), by which paho and pyserial wait, knows no descriptor beyond; LimitNOFILE= of the unit
SPARE = 100  # tasks to be allowed at a time: a drop-in that a person writes should last

DIVIDE = "divide the meters between two gateways"


def needed(config: Config) -> Needs:
    """What the service needs at most; connections without meters are not opened."""
    used = {meter.source.connection for meter in config.meters}
    connections = [config.connections[name] for name in used]
    parts = [OURS, *(ACCOUNT for _ in config.pushing)]
    parts += [registry.config_of(str(dict(each)["driver"])).needs(each) for each in connections]
    return Needs(sum(part.tasks for part in parts), sum(part.files for part in parts))


def room_warnings(file: str, config: Config) -> list[Fault]:
    """What the service's unit must be told before it starts with so many. Raises ConfigFaults where it cannot work at all."""
    need = needed(config)
    if need.files > MOST_FILES:
        words = f"{_needs(config, need.files, 'open files')}, and a process can have {MOST_FILES}: {DIVIDE}"
        raise ConfigFaults([Fault(file, None, "connections", words)], config.warnings)
    if need.tasks <= UNIT_TASKS:
        return []
    words = f"{_needs(config, need.tasks, 'threads')}, and its unit comes with TasksMax={UNIT_TASKS}"
    return [Fault(file, None, "connections", f"{words}: {_remedy(need.tasks)}, unless that is done")]


def insist_on_room(config: Config, tasks: int | None, files: int) -> None:
    """Raises Misconfigured where this process may have too few: it would fail at some connection or other, or at the database.

    `tasks`: None where nothing limits them.
    """
    need = needed(config)
    if tasks is not None and need.tasks > tasks:
        words = f"{_needs(config, need.tasks, 'threads')}, and this process may have {tasks}"
        raise Misconfigured(f"{words}: {_remedy(need.tasks)}")
    if need.files > min(files, MOST_FILES):
        words = f"{_needs(config, need.files, 'open files')}, and this process may have {min(files, MOST_FILES)}"
        remedy = DIVIDE if need.files > MOST_FILES else f"allow it {MOST_FILES} (LimitNOFILE= of a unit, ulimit -n)"
        raise Misconfigured(f"{words}: {remedy}")


def _needs(config: Config, number: int, what: str) -> str:
    connections = counted(len({meter.source.connection for meter in config.meters}), "connection")
    return f"with {connections} the service needs {number} {what}"


def _remedy(tasks: int) -> str:
    enough = math.ceil(tasks / SPARE) * SPARE
    return f'write "[Service]" and "TasksMax={enough}" with systemctl edit meter-gateway'
