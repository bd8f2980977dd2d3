"""A database belongs to one machine: a copy elsewhere collects, closes, and sends nothing until it is adopted (R19, R20)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from buffer import identity
from buffer.store import DATABASE
from gateway.clock import SystemClock, Trust
from gateway.config import load
from gateway.machine import MADE_UP, boot_id, machine_id, zone_name
from gateway.runtime import answer, service_of
from gateway.simulator.enerkey import EnerkeySimulator
from gateway.systemd import Notifier
from gateway.wiring import Gateway, build, open_store
from tests.fakes.site import Site, served_enerkey

OURS, OTHERS = "1" * 32, "2" * 32
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
Make = Callable[[str], Site]


@pytest.fixture
def enerkey() -> Iterator[EnerkeySimulator]:
    """It knows our meters."""
    with served_enerkey(10001, 10002) as simulator:
        yield simulator


@pytest.fixture
def site(tmp_path: Path, enerkey: EnerkeySimulator) -> Site:
    return Site(tmp_path, enerkey=enerkey.url)


@contextmanager
def started(site: Site, machine: str) -> Iterator[Gateway]:
    """A real gateway over the site's database, on a machine of that id; its workers are stepped by the test."""
    store = open_store(load(site.config), command="run", threaded=False)
    try:
        gateway = build(load(site.config), store, SystemClock(Trust("always")), Random(1), machine)
        yield gateway
        assert gateway.uploaders
        gateway.uploaders[""].close()
    finally:
        store.close()


def deliver(gateway: Gateway) -> None:
    """Let the delivery do what it may, until it wants to rest."""
    assert gateway.uploaders
    for _ in range(20):
        due = gateway.uploaders[""].step(gateway.clock.now())
        if due > gateway.clock.now().boottime + 1:  # after the step: on a busy machine an answer may take longer
            return


def copied(site: Site, tmp_path: Path) -> Site:
    """The same site on another card: the database as a plain copy."""
    directory = tmp_path / "copy"
    directory.mkdir()
    copy = Site(directory, enerkey=site.config.read_text().partition('url = "')[2].partition('"')[0])
    copy.data.mkdir()
    shutil.copy(site.data / DATABASE, copy.data / DATABASE)
    return copy


def test_a_copied_database_on_another_machine_sends_nothing_and_says_so(site: Site, tmp_path: Path, enerkey, caplog):
    """R20: the card was cloned; the original goes on, also after a restart."""
    with started(site, OURS):
        pass
    site.close_hours("chiller", HOUR, 1)
    copy = copied(site, tmp_path)
    with started(copy, OTHERS) as clone:
        deliver(clone)
        assert enerkey.requests() == 0
        assert clone.store.read(identity.stranger) == "other"
        status = answer(clone, service_of(clone, Notifier({})), {"want": "status"})
        assert status["delivery"] is not None
    assert "this database belongs to another machine, so nothing is sent" in caplog.text
    with started(site, OURS) as original:
        deliver(original)
    assert len(enerkey.hourly(10002)) == 1


def test_the_copy_goes_on_collecting_and_closing(site: Site, tmp_path: Path):
    """What it measures is not lost, whoever turns out to be the right one."""
    with started(site, OURS):
        pass
    copy = copied(site, tmp_path)
    with started(copy, OTHERS) as clone:
        assert set(clone.drivers) == {"main", "hall"}
        assert clone.closer.step(clone.clock.now()) > 0
    copy.read("chiller", "1", HOUR)


def test_once_adopted_it_reads_each_meter_and_then_sends(site: Site, tmp_path: Path, enerkey):
    """R19: what the other machine sent since the copy was made is found, and not doubled."""
    with started(site, OURS):
        pass
    site.close_hours("chiller", HOUR, 1)
    copy = copied(site, tmp_path)
    with started(site, OURS) as original:
        deliver(original)
    copy.close_hours("chiller", HOUR + timedelta(hours=1), 1)
    with started(copy, OTHERS) as clone:
        deliver(clone)
        assert answer(clone, service_of(clone, Notifier({})), {"adopt": {"author": "ada"}}) == {"adopted": True}
        assert answer(clone, service_of(clone, Notifier({})), {"adopt": {"author": "ada"}}) == {"adopted": False}
        clone.store.write(lambda db: db.execute("UPDATE meter SET look_after = 1"))  # settle is over
        deliver(clone)
        states = clone.store.read(lambda db: db.execute("SELECT state FROM hour ORDER BY hour").fetchall())
        assert states == [("accepted",)] * 2
    assert [micro for _, micro in sorted(enerkey.hourly(10002).items())] == [500_000] * 2
    with started(copy, OTHERS) as clone:
        assert clone.store.read(identity.stranger) is None
    with started(copy, OURS) as back:
        assert back.store.read(identity.stranger) == "other", "adopted by the one, lost to the other"


def test_after_adopting_nothing_is_read_before_settle_is_over(site: Site, tmp_path: Path, enerkey):
    """EnerKey may not show yet what the other machine sent last."""
    site.config.write_text(site.config.read_text().replace('settle = "1s"', 'settle = "1h"'))
    with started(site, OURS):
        pass
    site.close_hours("chiller", HOUR, 1)
    with started(site, OTHERS) as clone:
        answer(clone, service_of(clone, Notifier({})), {"adopt": {"author": "ada"}})
        deliver(clone)
    assert enerkey.requests() == 0


def test_a_machine_without_an_id_sends_nothing_until_somebody_adopts_the_database(site: Site, enerkey):
    """Nobody could tell it from another one; adopted it sends, and one with an id then is another machine."""
    with started(site, "") as nameless:
        assert nameless.store.read(identity.stranger) == "none"
    site.close_hours("chiller", HOUR, 1)
    with started(site, "") as nameless:
        deliver(nameless)
        assert enerkey.requests() == 0
        answer(nameless, service_of(nameless, Notifier({})), {"adopt": {"author": "ada"}})
    with started(site, "") as nameless:
        assert nameless.store.read(identity.stranger) is None
    with started(site, OURS) as other:
        assert other.store.read(identity.stranger) == "other"


def test_a_machine_that_has_lost_its_id_is_another_one(site: Site):
    """Safe, and said in other words: the id can be made again."""
    with started(site, OURS):
        pass
    with started(site, "") as nameless:
        assert nameless.store.read(identity.stranger) == "none"
    with started(site, OURS) as again:
        assert again.store.read(identity.stranger) is None


def test_a_database_of_a_release_that_bound_nothing_belongs_to_the_machine_that_opens_it(site: Site):
    """An update of the gateway needs no command."""
    with started(site, OURS):
        pass
    site.write(lambda db: db.execute("DELETE FROM meta WHERE key = 'machine'"))
    with started(site, OURS) as gateway:
        assert gateway.store.read(identity.stranger) is None


def test_the_id_itself_is_not_in_the_database(site: Site):
    """machine-id(5): it is to be kept from others; a hash is enough."""
    with started(site, OURS):
        pass
    assert OURS.encode() not in (site.data / DATABASE).read_bytes()


def test_a_restored_database_looks_at_every_meter_and_never_earlier_than_it_would_have(site: Site):
    """R19: for `restore`; a look that waits already waits no shorter."""
    site.make()
    site.write(lambda db: db.execute("UPDATE meter SET look_after = NULL"))
    site.write(lambda db: db.execute("UPDATE meter SET look_after = 9000 WHERE name = 'chiller'"))
    site.write(lambda db: identity.restored(db, 5000))
    found = site.write(lambda db: db.execute("SELECT name, look_after FROM meter ORDER BY name").fetchall())
    assert found == [("chiller", 9000), ("cold-water", 5000), ("main-electricity", 5000)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"0123456789abcdef0123456789abcdef\n", "0123456789abcdef0123456789abcdef"),
        (b"", ""),
        (b"uninitialized\n", ""),
        (b"0" * 32, ""),
        (b"\xff\xfe", ""),
        (b"0123456789ABCDEF0123456789ABCDEF", ""),
    ],
)
def test_a_machine_id_is_what_machine_id_5_says(tmp_path: Path, content: bytes, found: str):
    """Anything else is none: an image's "uninitialized" would be the same on every box."""
    path = tmp_path / "machine-id"
    path.write_bytes(content)
    assert machine_id(path) == found
    path.unlink()
    assert machine_id(path) == ""


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/usr/share/zoneinfo/Europe/Helsinki", "Europe/Helsinki"),
        ("../usr/share/zoneinfo/Etc/UTC", "UTC"),
        ("/somewhere/else", "UTC"),
        (None, "UTC"),
    ],
)
def test_the_time_zone_is_the_one_that_the_machine_is_set_to(tmp_path: Path, target: str | None, name: str):
    """localtime(5): a link into the zone database; UTC where there is none."""
    link = tmp_path / "localtime"
    if target is not None:
        link.symlink_to(target)
    assert zone_name(link) == name


# --- the boot ---------------------------------------------------------------------------------------------------------


def test_the_boot_has_an_id():
    """Two looks in one boot agree."""
    assert boot_id({}) == boot_id({}) != ""


def test_the_unit_may_tell_the_boot_id_instead():
    """In the unit's sandbox /proc/sys does not exist; systemd's %b is the same id without dashes."""
    assert boot_id({"METER_GATEWAY_BOOT_ID": boot_id({})}, Path("/nowhere")) == boot_id({})


def test_without_any_boot_id_a_process_is_a_boot_of_its_own(caplog):
    """The service starts all the same, and says what it cannot do."""
    assert boot_id({}, Path("/nowhere")) != boot_id({}, Path("/nowhere"))
    assert boot_id({}, Path("/nowhere")).startswith(MADE_UP)
    assert "/nowhere cannot be read" in caplog.text
