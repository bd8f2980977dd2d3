"""The unit, the user and the directories, checked by systemd's own tools without a running systemd."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.commands.room import MOST_FILES, UNIT_TASKS
from gateway.errors import Misconfigured, WrongUsage
from gateway.locate import DEFAULT_CONFIG, DEFAULT_DATA
from gateway.secrets import DIRECTORY_PREFIX

FILES = Path(__file__).parents[2] / "systemd"
UNIT = FILES / "meter-gateway.service"
COMMAND = "/opt/meter-gateway/venv/bin/meter-gateway"
WORST_EXPOSURE = 1.5
CONNECTIONS, OTHERS = 500, 50  # and the threads and files of everything else

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on the PATH")


def directives(unit: str) -> dict[str, list[str]]:
    """Every assignment of a unit file, in order; comments and sections left out."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def complaints(unit: str, directory: Path) -> str:
    """All that `systemd-analyze verify` says; its exit status is 0 even for misspelt keys, so only silence is good."""
    file = directory / UNIT.name
    file.write_text(unit.replace(COMMAND, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], check=False, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def exposure(file: Path) -> float:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path):
    """`systemd-analyze verify` prints nothing."""
    assert complaints(UNIT.read_text(), tmp_path) == ""


def test_the_unit_leaves_room_for_hundreds_of_connections():
    """Each has a thread and a socket of its own; what `check` says of the unit's limits is so."""
    limits = directives(UNIT.read_text())
    assert CONNECTIONS + OTHERS <= int(limits["TasksMax"][0]) == UNIT_TASKS
    assert CONNECTIONS + OTHERS <= int(limits["LimitNOFILE"][0]) == MOST_FILES


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("WatchdogSec=", "WatchDogSec="), ("@system-service", "@sytem-service"), ("AF_UNIX", "AF_UNIQUE")],
)
def test_a_slip_in_the_unit_would_be_heard(tmp_path, right, wrong):
    """The check above can fail: planted typos in a key, a call group and an address family are named."""
    assert complaints(UNIT.read_text().replace(right, wrong), tmp_path)


def test_the_service_is_hardly_exposed():
    """`systemd-analyze security` offline scores at most 1.5 of 10."""
    assert exposure(UNIT) <= WORST_EXPOSURE


def test_a_fault_that_only_a_person_can_mend_is_not_tried_again():
    """Exit 2 (usage) and 78 (configuration) end the unit; everything else, a disk that is mounted late too, starts again for ever."""
    found = directives(UNIT.read_text())
    ends = [WrongUsage.code, Misconfigured.code]
    assert found["RestartPreventExitStatus"] == [" ".join(map(str, ends))]
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]


def test_the_exit_codes_page_says_which_of_them_end_the_unit():
    """The table of docs/operations.md is the unit's."""
    rows = re.findall(
        r"^\| (\d+) \|.*\| (yes|no) \|$", (FILES.parent / "docs" / "operations.md").read_text(), re.MULTILINE
    )
    ends = directives(UNIT.read_text())["RestartPreventExitStatus"][0].split()
    assert [code for code, again in rows if again == "no"] == ends
    assert len(rows) > len(ends)


def test_the_start_waits_neither_for_the_network_nor_for_the_time():
    """Both can take for ever in a basement, and reading meters needs neither."""
    ordered = " ".join(
        value for key in ("After", "Wants", "Requires") for value in directives(UNIT.read_text()).get(key, [])
    )
    assert "network-online.target" not in ordered
    assert "time-sync.target" not in ordered


def test_the_unit_and_the_service_agree_where_things_are():
    """The default paths of the program are the directories that the unit gives it."""
    found = directives(UNIT.read_text())
    name, directory = found["LoadCredential"][0].split(":")
    assert f"{name}_" == DIRECTORY_PREFIX
    assert Path("/etc") / found["ConfigurationDirectory"][0] == DEFAULT_CONFIG.parent == Path(directory).parent
    assert Path("/var/lib") / found["StateDirectory"][0] == DEFAULT_DATA


def test_the_user_is_made_once(tmp_path):
    """systemd-sysusers makes a system user that cannot log in, and a second run changes nothing."""
    users = tmp_path / "etc"
    users.mkdir()
    for _ in range(2):
        file = FILES / "meter-gateway.sysusers"
        subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(file)], check=True, capture_output=True)
    lines = [line for line in (users / "passwd").read_text().splitlines() if line.startswith("meter-gateway:")]
    assert len(lines) == 1
    assert lines[0].endswith(":Meter gateway:/var/lib/meter-gateway:/usr/sbin/nologin")


def test_the_credentials_directory_is_there_and_closed(tmp_path):
    """A unit with LoadCredential= of a missing directory does not start: tmpfiles makes it, for root alone."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\nmeter-gateway:x:999:\n")
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(FILES / "meter-gateway.tmpfiles")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in {0, 73}, done.stderr  # 73: not run as root, so groups could not be given
    config = tmp_path / "etc" / "meter-gateway"
    modes = [oct(path.stat().st_mode & 0o7777) for path in (config, config / "credentials")]
    assert modes == ["0o2750", "0o700"]
    assert directives(UNIT.read_text())["ConfigurationDirectoryMode"] == [
        "2750"
    ]  # else systemd complains at each start
