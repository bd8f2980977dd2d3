"""What this machine says of itself: its id (machine-id(5)), by which a database knows its own box, its boot, its time zone.

And what it allows this process.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

MADE_UP = "process"  # begins a boot id that only this process knows
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACHINE_ID = Path("/etc/machine-id")
LOCAL_TIME = Path("/etc/localtime")
OWN_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")

STRANGER = {
    "other": "this database belongs to another machine, so nothing is sent: where that one is stopped for good:"
    " meter-gateway adopt",
    "none": "this machine has no machine-id, so nothing is sent: its database could be a copy of another one's. Make one with"
    " systemd-machine-id-setup (a container: mount the host's /etc/machine-id) and restart, or: meter-gateway adopt",
}

_FORM = re.compile(r"[0-9a-f]{32}")


def machine_id(path: Path | None = None) -> str:
    """32 hexadecimal digits; "" where there are none: no file, an empty one as in container images, or "uninitialized"."""
    try:
        text = (path or MACHINE_ID).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _FORM.fullmatch(text) and text.strip("0") else ""


def boot_id(environ: Mapping[str, str] = os.environ, kernel_says: Path = BOOT_ID) -> str:
    """What names this boot; readings of one boot share a boottime axis.

    Our unit hides /proc/sys from the service (ProcSubset=pid) and gives the id in the environment instead. Where neither
    is to be had, every process counts as a boot of its own: readings of another one are then not placed by its clock.
    Such an id says so, for it does not tell when the boot began.
    """
    try:
        found = environ.get("METER_GATEWAY_BOOT_ID") or kernel_says.read_text()
    except OSError as error:
        log.warning(
            "%s cannot be read (%s): what waits for a trusted clock is placed by this process only",
            kernel_says,
            error.strerror,
        )
        found = MADE_UP + uuid.uuid4().hex
    return found.strip().replace("-", "")


def zone_name(local_time: Path = LOCAL_TIME) -> str:
    """The IANA name of the machine's time zone (localtime(5)); "UTC" where it has none."""
    try:
        _, found, name = str(local_time.readlink()).partition("zoneinfo/")
    except OSError:
        return "UTC"
    return name.removeprefix("Etc/") if found and name else "UTC"


def most_tasks(own: Path = OWN_CGROUP, cgroups: Path = CGROUPS) -> int | None:
    """How many threads the cgroup of this process may have (TasksMax=); None where nothing says."""
    try:
        path = own.read_text().strip().rpartition("0::/")[2]  # version 2 has this one line alone
        return int((cgroups / path / "pids.max").read_text())
    except (OSError, ValueError):  # the word "max"
        return None


def most_files() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft
