"""Whether the process may have the threads and descriptors that the connections of a configuration need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.commands.room import MOST_FILES, insist_on_room, needed, room_warnings
from gateway.config import Config, ConfigFaults, load
from gateway.errors import Misconfigured
from gateway.machine import most_files, most_tasks

MQTT, SERIAL, TCP = "mqtt://192.0.2.1:1883", "rtu:///dev/ttyUSB{}?baudrate=9600&parity=N", "tcp://192.0.2.1:{}"
Write = Callable[..., Config]


@pytest.fixture
def configured(tmp_path: Path) -> Write:
    """A configuration with so many connections of a URL, each with a meter."""

    def write(url: str, number: int, meters: int | None = None) -> Config:
        text = []
        driver = "mqtt" if url == MQTT else "modbus"
        for each in range(number):
            text.append(f'[connections.c{each}]\ndriver = "{driver}"\nurl = "{url.format(each + 1)}"\n')
        where = 'topic = "t", value = "v"' if url == MQTT else 'device = 1, register = 0, type = "u32"'
        for each in range(number if meters is None else meters):
            head = f'[[meters]]\nname = "m{each}"\npush = "off"\nunit = "kWh"\n'
            text.append(f'{head}source = {{ connection = "c{each}", {where}, unit = "kWh" }}\n')
        path = tmp_path / "config.toml"
        path.write_text("".join(text))
        return load(path)

    return write


@pytest.mark.parametrize(("url", "tasks", "files"), [(TCP, 1, 1), (SERIAL, 1, 5), (MQTT, 3, 3)])
def test_each_connection_needs_what_its_driver_says(configured: Write, url: str, tasks: int, files: int):
    """A thread and a socket over TCP; what pyserial and paho open besides counts, too."""
    one, four = needed(configured(url, 1)), needed(configured(url, 4))
    assert (four.tasks - one.tasks, four.files - one.files) == (3 * tasks, 3 * files)


def test_a_connection_without_meters_needs_nothing(configured: Write):
    """It is not opened."""
    assert needed(configured(TCP, 3, meters=1)) == needed(configured(TCP, 1))


def test_more_threads_than_the_unit_allows_are_warned_of_with_the_remedy(configured: Write):
    """A drop-in can allow them, so it is no mistake; fewer are nothing to speak of."""
    config = configured(TCP, 700)
    [warning] = room_warnings("config.toml", config)
    assert str(warning) == (
        "config.toml: connections: with 700 connections the service needs 716 threads, and its unit comes with TasksMax=640:"
        ' write "[Service]" and "TasksMax=800" with systemctl edit meter-gateway, unless that is done'
    )
    assert room_warnings("config.toml", config.only(f"m{each}" for each in range(600))) == []


def test_more_descriptors_than_a_process_can_use_are_a_mistake(configured: Write):
    """No setting helps: paho and pyserial wait with select(2)."""
    config = configured(SERIAL, 200)
    with pytest.raises(ConfigFaults, match="needs 1032 open files, and a process can have 1024: divide the meters"):
        room_warnings("config.toml", config)
    with pytest.raises(Misconfigured, match="divide the meters"):
        insist_on_room(config, None, 65_536)


def test_a_service_that_may_have_too_few_threads_does_not_start(configured: Write):
    """Else it dies at one of them, and is started again for ever."""
    config = configured(TCP, 3)
    with pytest.raises(Misconfigured, match=r'needs 19 threads, and this process may have 18: write .*"TasksMax=100"'):
        insist_on_room(config, 18, MOST_FILES)
    insist_on_room(config, 19, MOST_FILES)


def test_a_service_that_may_have_too_few_descriptors_does_not_start(configured: Write):
    """Else the database is what cannot be opened, in the end."""
    config = configured(TCP, 3)
    with pytest.raises(Misconfigured, match="needs 35 open files, and this process may have 34: allow it 1024"):
        insist_on_room(config, None, 34)
    insist_on_room(config, None, 35)


def test_the_cgroup_says_how_many_threads_there_may_be(tmp_path: Path):
    """pids.max of our own cgroup; nothing where there is none, or no limit."""
    own, cgroup = tmp_path / "cgroup", tmp_path / "system.slice" / "meter-gateway.service"
    own.write_text("0::/system.slice/meter-gateway.service\n")
    assert most_tasks(own, tmp_path) is None
    cgroup.mkdir(parents=True)
    (cgroup / "pids.max").write_text("640\n")
    assert most_tasks(own, tmp_path) == 640
    (cgroup / "pids.max").write_text("max\n")
    assert most_tasks(own, tmp_path) is None
    assert most_tasks(tmp_path / "none", tmp_path) is None


def test_this_process_may_open_something():
    """The limit is read from the kernel."""
    assert most_files() > 2
