"""`probe` as a person runs it: over real sockets and in real time, beside a service that holds the database."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from buffer import findings, journal
from buffer.model import to_ms
from gateway.probing import plan
from gateway.simulator.enerkey import EnerkeySimulator
from tests.fakes.command_line import INTERRUPTIBLE, command, environment
from tests.fakes.site import KEY, Site, served_enerkey
from tests.waiting import SOON

pytestmark = pytest.mark.timeout(300)  # a machine that does other things too
METER, REGISTER = 10099, 10098


@pytest.fixture
def enerkey() -> Iterator[EnerkeySimulator]:
    """It replaces, and has two meters for tests."""
    with served_enerkey(10001, 10002, METER, REGISTER, same_hour="replace") as simulator:
        yield simulator


@pytest.fixture
def site(tmp_path: Path, enerkey: EnerkeySimulator) -> Site:
    """A site that has run before; its burst is wide, so that the test need not wait for it."""
    site = Site(tmp_path, enerkey=enerkey.url)
    site.config.write_text(site.config.read_text().replace('settle = "1s"', 'burst = "2000/1s"'))
    site.make()
    return site


def booked(enerkey: EnerkeySimulator) -> list[int]:
    return [micro for meter in (METER, REGISTER) for micro in enerkey.hourly(meter).values() if micro]


def test_a_probe_beside_the_running_service_finds_out_keeps_and_restores(site: Site, enerkey: EnerkeySimulator):
    """One JSON document; the service's database has the findings and the debit, and the key is nowhere."""
    with site.running() as gateway:
        words = ("probe", "-c", site.config, "--meter", METER, "--cumulative-meter", REGISTER, "--yes", "--json")
        process = subprocess.run(
            [*INTERRUPTIBLE, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            env=environment(),
        )
        assert (process.returncode, process.stderr) == (0, "")
        document = json.loads(process.stdout)
        found = {each["name"]: each["value"] for each in document["findings"]}
        assert (found["same_hour"], found["hour_stamp"], found["reading_again"]) == ("replace", "start", "harmless")
        assert None not in found.values()
        assert (document["left"], document["ended"]) == ([], None)
        assert [text.partition(":")[0] for text in document["contradictions"]] == ["[enerkey] same_hour"]
        kept = gateway.store.read(findings.known)
        assert {each.name: each.value for each in kept} == found
        spent = gateway.store.read(lambda db: journal.spent(db, to_ms(datetime.now(UTC))))
        assert document["requests"] <= spent == plan.MOST_REQUESTS + plan.LOOK_REQUESTS
    assert booked(enerkey) == []
    assert KEY not in process.stdout + str(kept)


def test_ctrl_c_takes_away_what_was_sent(site: Site, enerkey: EnerkeySimulator):
    """And says so; what was found out until then is kept, without a service too."""
    interrupted = []
    started = Event()

    def after_the_second_value(push) -> None:
        if len(enerkey.pushes) == 2 and not interrupted:
            interrupted.append(push)
            assert started.wait(SOON)
            process.send_signal(signal.SIGINT)

    enerkey.on_push = after_the_second_value
    words = ("probe", "-c", site.config, "--meter", METER, "--yes")
    process = subprocess.Popen(
        [*INTERRUPTIBLE, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    started.set()
    out, err = process.communicate(timeout=280)
    assert (process.returncode, err) == (1, "")
    assert "did not come to its end: interrupted." in out
    assert "The meters show again what they showed before." in out
    assert booked(enerkey) == []
    assert "hour_stamp: start" in command("probe", "-c", site.config, "--show").out
