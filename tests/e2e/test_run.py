"""`run` as systemd runs it: who may start, what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from gateway.clock import SystemClock
from gateway.simulator.building import bus, devices_on_the_bus
from gateway.simulator.modbus import ModbusSimulator
from tests.fakes.command_line import (
    COMMAND,
    command,
    command_bound_by_permissions,
    command_with_descriptors,
    environment,
)
from tests.fakes.damage import damage, leaves_of
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.ports import lasting_port
from tests.waiting import SOON, until

REFUSED = "tcp://127.0.0.1:1"  # nobody listens on the ports below 1024 of a test machine's loopback

HEAD = """
[gateway]
name = "bench"
data_dir = "{data}"
[clock]
trust = "always"
"""
METER = """
[connections.main]
driver = "modbus"
url = "{url}"
timeout = "30s"
poll = "60s"
[[meters]]
name = "main-electricity"
push = "off"
unit = "kWh"
max_rate = 1800
source = {{ connection = "main", device = 1, profile = "eastron-sdm630", point = "energy_import_total" }}
"""
TOPIC = """
[connections.hall]
driver = "mqtt"
url = "mqtt://127.0.0.1:1"
[[meters]]
name = "cold-water"
push = "off"
unit = "m3"
max_rate = 10
source = { connection = "hall", topic = "water", value = "total", unit = "m3" }
"""


@pytest.fixture
def meters() -> Iterator[str]:
    """The URL of a Modbus line with one meter."""
    simulator = ModbusSimulator(devices_on_the_bus(bus(1, push="off")), SystemClock())
    yield simulator.url
    simulator.stop()


def written(tmp_path: Path, text: str) -> Path:
    """A configuration that keeps its data in tmp_path/data."""
    path = tmp_path / "config.toml"
    path.write_text(HEAD.format(data=tmp_path / "data") + text)
    return path


def status(config: Path) -> dict:
    """The status document of a running service."""
    return json.loads(command("status", "--json", "-c", config).out)


def readings(database: Path) -> int:
    """How many readings are in the file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return db.execute("SELECT count(*) FROM reading").fetchone()[0]


# --- who may start ----------------------------------------------------------------------------------------------------


def test_a_second_gateway_on_the_same_data_is_refused_and_told_who_has_it(tmp_path: Path, meters: str) -> None:
    """R20: one process owns a database; exit code 73, with the holder's pid and what to do."""
    config = written(tmp_path, METER.format(url=meters))
    with GatewayProcess(config, tmp_path / "log") as gateway:
        second = command("run", "-c", config)
        assert second.code == 73
        *_, last = second.err.splitlines()
        assert last == (
            f"meter-gateway: {tmp_path}/data is in use by process {gateway.pid} (run); "
            "stop it first, or give this gateway its own data_dir"
        )
        assert status(config)["service"]["answers"], "the refused one must not take the first one's socket"
        assert gateway.stop() == 0


def test_after_a_kill_the_next_one_may_start(tmp_path: Path, meters: str) -> None:
    """R20: the lock ends with its process, however that ends; a socket left behind is in nobody's way."""
    config = written(tmp_path, METER.format(url=meters))
    with GatewayProcess(config, tmp_path / "log") as gateway:
        gateway.kill()
        assert (tmp_path / "data" / "control.sock").exists()
        gateway.start()
        assert status(config)["service"]["pid"] == gateway.pid
        assert gateway.stop() == 0


def test_a_faulty_configuration_starts_nothing_and_tells_every_fault(tmp_path: Path) -> None:
    """Exit code 78, on which systemd does not start it again; no database is made."""
    faulty = METER.format(url=REFUSED).replace('poll = "60s"', 'pol = "60s"').replace('unit = "kWh"', 'unit = "kWhh"')
    done = command("run", "-c", written(tmp_path, faulty))
    assert done.code == 78
    assert 'did you mean "poll"?' in done.err
    assert "kWhh" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "data").exists()


def test_credentials_that_are_not_there_are_a_matter_of_configuration(tmp_path: Path) -> None:
    """Exit code 78, every one with its place and name; nothing was started."""
    enerkey = '[enerkey]\napi_keys = ["env:NOT_SET_ANYWHERE", "file:/nowhere/at/all"]\n'
    pushing = METER.format(url=REFUSED).replace('push = "off"', 'push = "consumption"\nenerkey_id = 1')
    broker = TOPIC.replace("[[meters]]", 'username = "u"\npassword = "env:NOT_SET_EITHER"\n[[meters]]')
    done = command("run", "-c", written(tmp_path, enerkey + pushing + broker))
    assert done.code == 78
    told = done.err.splitlines()[-3:]
    assert told[0].startswith("meter-gateway: enerkey.api_keys: ")
    assert "NOT_SET_ANYWHERE" in told[0]
    assert told[1].startswith("enerkey.api_keys: /nowhere/at/all")
    assert told[2].startswith("connections.hall.password: ")
    assert not (tmp_path / "data").exists()


def test_a_process_that_may_have_too_few_descriptors_does_not_start(tmp_path: Path) -> None:
    """Exit code 78: to start again helps nobody, and at last it would be the database that cannot be opened."""
    config = written(tmp_path, METER.format(url=REFUSED) + TOPIC)
    done = command_with_descriptors(30, "run", "-c", config)
    assert done.code == 78
    assert "with 2 connections the service needs 36 open files, and this process may have 30" in done.err
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_may_not_be_written_is_a_matter_of_permission(tmp_path: Path) -> None:
    """Exit code 77, with the path and what to do."""
    config = written(tmp_path, METER.format(url=REFUSED))
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o555)
    done = command_bound_by_permissions("run", "-c", config)
    assert done.code == 77
    assert done.err.splitlines()[-1] == (
        f"meter-gateway: {tmp_path}/data/buffer.lock: Permission denied; "
        "run as the user that owns it, or set [gateway] data_dir"
    )


def test_a_configuration_that_may_not_be_read_is_a_matter_of_permission(tmp_path: Path) -> None:
    """Exit code 77; nothing was started."""
    config = written(tmp_path, METER.format(url=REFUSED))
    config.chmod(0)
    done = command_bound_by_permissions("run", "-c", config)
    assert done.code == 77
    assert f"{config}: cannot be read: Permission denied" in done.err
    assert not (tmp_path / "data").exists()


def test_a_socket_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    """Exit code 1: a full runtime directory mends itself, and meanwhile systemd starts it again."""
    config = written(tmp_path, METER.format(url=REFUSED))
    done = command("run", "-c", config, RUNTIME_DIRECTORY=str(tmp_path / "gone"))
    assert done.code == 1
    assert f"{tmp_path}/gone/control.sock: cannot listen for commands: No such file" in done.err


def test_a_data_directory_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    """Exit code 73: a file stands where the directory should be."""
    config = written(tmp_path, METER.format(url=REFUSED))
    (tmp_path / "data").write_text("not a directory")
    done = command("run", "-c", config)
    assert done.code == 73
    assert done.err.splitlines()[-1] == f"meter-gateway: {tmp_path}/data: cannot create the database: not a directory"


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    """Exit code 74; what lies there stays as it is."""
    config = written(tmp_path, METER.format(url=REFUSED))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "buffer.db").write_text("thesis " * 1000)
    done = command("run", "-c", config)
    assert done.code == 74
    assert "Traceback" not in done.err
    assert str(tmp_path / "data" / "buffer.db") in done.err.splitlines()[-1]
    assert (tmp_path / "data" / "buffer.db").read_text() == "thesis " * 1000


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(tmp_path: Path, meters: str, signum: signal.Signals) -> None:
    """Exit code 0, a last line that says so, no log of the database and no socket left over."""
    config = written(tmp_path, METER.format(url=meters) + TOPIC)
    with GatewayProcess(config, tmp_path / "log") as gateway:
        until(lambda: readings(tmp_path / "data" / "buffer.db"))
        assert gateway.stop(signum) == 0
    log = (tmp_path / "log").read_text().splitlines()
    assert [line.split(maxsplit=2)[2] for line in log[-2:]] == ["stopping", "stopped"]
    assert sorted(each.name for each in (tmp_path / "data").iterdir()) == [
        "buffer.ballast",
        "buffer.db",
        "buffer.db.outline",
        "buffer.lock",
    ]


def test_a_device_that_never_answers_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """The stop is bounded although a request is open: a connection that is taken and never served."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        slow = METER.format(url=f"tcp://127.0.0.1:{mute.getsockname()[1]}")
        config = written(tmp_path, slow)
        with GatewayProcess(config, tmp_path / "log") as gateway:
            mute.settimeout(SOON)
            channel, _ = mute.accept()
            with channel:
                channel.settimeout(SOON)
                assert channel.recv(100), "the request is open now"
                assert gateway.stop() == 0
    assert "stopped with main still at work" in (tmp_path / "log").read_text().splitlines()[-1]


def test_a_second_signal_stops_it_at_once(tmp_path: Path) -> None:
    """An impatient Ctrl-C Ctrl-C: every promise is kept by the disk, not by the stop."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        slow = METER.format(url=f"tcp://127.0.0.1:{mute.getsockname()[1]}")
        log = tmp_path / "log"
        with GatewayProcess(written(tmp_path, slow), log) as gateway:
            mute.settimeout(SOON)
            channel, _ = mute.accept()
            with channel:
                channel.settimeout(SOON)
                assert channel.recv(100), "a request is open, so that the stop takes a while"
                os.kill(gateway.pid, signal.SIGINT)
                until(lambda: "stopping" in log.read_text())
                assert gateway.stop(signal.SIGINT) == -signal.SIGINT


def test_a_worker_that_dies_takes_the_process_down(tmp_path: Path, meters: str) -> None:
    """Exit code 1, so that systemd starts it again, after log lines that say which worker and why."""
    config = written(tmp_path, METER.format(url=meters).replace('"60s"', '"1s"'))
    with GatewayProcess(config, tmp_path / "log") as gateway:
        until(lambda: readings(tmp_path / "data" / "buffer.db"))
        with closing(sqlite3.connect(tmp_path / "data" / "buffer.db")) as db:
            db.execute("DROP TABLE reading")  # no code expects that
        assert gateway.wait() == 1
    log = (tmp_path / "log").read_text()
    assert re.search("worker (main|modbus tcp, storing) died", log), (
        "whoever stored next: one that is not lent stores itself"
    )
    assert "no such table" in log
    assert log.splitlines()[-1].endswith("stopped: a worker died")


def test_damage_takes_the_process_down_and_the_next_start_goes_on_by_itself(tmp_path: Path, meters: str) -> None:
    """R29: systemd starts it again; nobody comes, and `status` says what was lost until somebody has looked."""
    config = written(tmp_path, METER.format(url=meters).replace('"60s"', '"1s"'))
    data = tmp_path / "data"
    with GatewayProcess(config, tmp_path / "log") as gateway:
        until(lambda: readings(data / "buffer.db"))
        gateway.stop()
        damage(data / "buffer.db", leaves_of(data / "buffer.db", "message"), Random(1))
        (data / "buffer.db-wal").write_bytes(bytes(32))  # as after an unclean stop
        gateway.start()
        assert gateway.wait() == 1
        assert "worker check died" in (tmp_path / "log").read_text()
        gateway.start()
        until(lambda: readings(data / "buffer.db"))
        (problem,) = until(lambda: problems if len(problems := status(config)["problems"]) == 1 else None)
        (aside,) = data.glob("corrupt-*")
        assert f"remove {aside}" in problem
        assert gateway.stop() == 0


# --- what it says to systemd ------------------------------------------------------------------------------------------


def test_systemd_hears_ready_then_the_watchdog_then_stopping(tmp_path: Path, meters: str) -> None:
    """sd_notify(3) over a datagram socket with a path, as systemd gives one."""
    config = written(tmp_path, METER.format(url=meters))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SOON)
        with subprocess.Popen(
            [*COMMAND, "run", "-c", config],
            stderr=subprocess.DEVNULL, env=environment(NOTIFY_SOCKET=str(tmp_path / "notify")),
        ) as process:  # fmt: skip
            assert manager.recv(1000) == b"EXTEND_TIMEOUT_USEC=3600000000", (
                "salvaging a damaged database takes its time"
            )
            assert manager.recv(1000) == b"READY=1"
            assert manager.recv(1000) == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            heard = until(lambda: [said] if (said := manager.recv(1000)) != b"WATCHDOG=1" else [])
            assert heard == [b"STOPPING=1"]
            assert process.wait(SOON) == 0


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    """Where stderr is the journal's stream, each line begins with its priority; the last word of a failure too."""
    log = tmp_path / "journal"
    with log.open("wb") as stream:
        here = os.fstat(stream.fileno())
        subprocess.run(
            [*COMMAND, "run", "-c", tmp_path / "nowhere.toml"],
            stderr=stream, check=False, timeout=SOON, env=environment(JOURNAL_STREAM=f"{here.st_dev}:{here.st_ino}"),
        )  # fmt: skip
    lines = log.read_text().splitlines()
    assert lines
    assert all(re.match(r"<3>", line) for line in lines)


# --- what it does meanwhile -------------------------------------------------------------------------------------------


def test_the_first_reading_is_stored_soon_after_the_start(tmp_path: Path, meters: str) -> None:
    """Without [enerkey], with `push = "off"`: it collects, and does not wait for the next poll slot to begin."""
    config = written(tmp_path, METER.format(url=meters).replace('"60s"', '"1h"'))
    with GatewayProcess(config, tmp_path / "log") as gateway:
        until(lambda: readings(tmp_path / "data" / "buffer.db"))
        until(lambda: status(config)["problems"] == [])
        said = status(config)
        assert said["meters"][0]["push"] == "off"
        assert said["delivery"] == {}
        assert command("status", "-c", config).code == 0
        assert gateway.stop() == 0


def test_it_runs_on_while_meter_and_broker_are_away_and_the_status_says_so(tmp_path: Path) -> None:
    """A refused Modbus port and an absent broker are told once each, with their address, and end nothing."""
    config = written(tmp_path, METER.format(url=REFUSED) + TOPIC)
    with GatewayProcess(config, tmp_path / "log") as gateway:

        def both_in_trouble() -> bool:
            return {each["state"] for each in status(config)["connections"].values()} == {"trouble"}

        until(both_in_trouble)
        done = command("status", "-c", config)
        assert done.code == 1
        problems = [line for line in done.out.splitlines() if re.match(r"\d+\. ", line)]
        assert [re.sub(r":1:.*", "", problem) for problem in problems] == [
            "1. connection main: 127.0.0.1",
            "2. connection hall: 127.0.0.1",
        ], "one problem per cause: that nothing was read yet follows from it"
        assert gateway.stop() == 0
    log = (tmp_path / "log").read_text()
    assert log.count("127.0.0.1:1:") == 2, "said on the transition, not at each try"


def test_a_meter_that_comes_back_is_read_again(tmp_path: Path) -> None:
    """The gateway that started before its meters finds them without a restart."""
    port = lasting_port()
    config = written(tmp_path, METER.format(url=f"tcp://127.0.0.1:{port}").replace('"60s"', '"1s"'))
    with GatewayProcess(config, tmp_path / "log") as gateway:
        until(lambda: status(config)["connections"]["main"]["state"] == "trouble")
        simulator = ModbusSimulator(devices_on_the_bus(bus(1, push="off")), SystemClock(), port=port)
        try:
            until(lambda: readings(tmp_path / "data" / "buffer.db"))
            until(lambda: status(config)["problems"] == [])
            assert gateway.stop() == 0
        finally:
            simulator.stop()
    assert "connected again" in (tmp_path / "log").read_text()
