"""One process owns a database, and says who it is (R20)."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buffer import lock as module
from buffer.lock import Lock, LockHeld, holder

HOLD = """
import sys
from pathlib import Path
from buffer.lock import Lock
lock = Lock(Path(sys.argv[1]), {"command": "meter-gateway run"})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "buffer.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, other):
    path = tmp_path / "buffer.lock"
    with pytest.raises(
        LockHeld, match=rf"{tmp_path} is in use by process {other.pid} \(meter-gateway run\); stop it"
    ) as held:
        Lock(path, {})
    assert held.value.holder == {"pid": other.pid, "command": "meter-gateway run"}
    assert holder(path) == held.value.holder


def test_a_killed_holder_holds_nothing_and_its_words_are_not_believed(tmp_path, other):
    path = tmp_path / "buffer.lock"
    other.kill()
    other.wait()
    assert str(other.pid) in path.read_text()
    assert holder(path) is None
    lock = Lock(path, {})
    assert json.loads(path.read_text()) == {"pid": os.getpid()}
    lock.release()
    assert path.read_text() == ""
    assert holder(path) is None


def test_it_is_held_against_the_same_process_too(tmp_path):
    lock = Lock(tmp_path / "lock", {"command": "a command much longer than the next one"})
    with pytest.raises(LockHeld, match="a command much longer"):
        Lock(tmp_path / "lock", {})
    lock.release()
    Lock(tmp_path / "lock", {"command": "b"}).release()


def test_somebody_who_only_looks_does_not_keep_the_gateway_from_starting(tmp_path, monkeypatch):
    """`status` takes the lock shared for a moment; that is not a holder."""
    path = tmp_path / "lock"
    path.touch()
    looks = [path.open()]
    fcntl.flock(looks[0], fcntl.LOCK_SH)

    def look_and_leave(path):
        found = holder(path)
        while looks:
            looks.pop().close()
        return found

    monkeypatch.setattr(module, "holder", look_and_leave)
    Lock(path, {}).release()


def test_a_lock_that_never_comes_free_and_names_nobody_is_still_held(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(LockHeld, match=r"process \? \(unknown\)"):
            Lock(path, {})


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0\0", '"x"'])
def test_a_holder_that_says_nothing_sensible_is_a_holder(tmp_path, content):
    path = tmp_path / "lock"
    path.write_text(content)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) == {}


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Lock(tmp_path / "nowhere" / "lock", {})
    assert holder(tmp_path / "nowhere" / "lock") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_is_an_os_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        Lock(tmp_path / "lock", {})


FULL = """
import resource, signal, sys
from pathlib import Path
from buffer.lock import Lock
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from buffer.lock import holder
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited))
lock = Lock(Path(sys.argv[1]), {"command": "run"})
print("held", holder(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
for _ in range(2):
    lock.tell()
    print(holder(Path(sys.argv[1]))["command"])
"""


def test_a_full_disk_does_not_keep_the_lock_from_being_taken(tmp_path: Path):
    """R27: who holds it cannot be written down before there is room; that it is held can."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "lock")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "held {}\nrun\nrun\n"
    assert "cannot say who holds it" in done.stderr
