"""What this machine says of itself: its id (machine-id(5)), by which a database knows its own box, and its time zone."""

from __future__ import annotations

import re
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
LOCAL_TIME = Path("/etc/localtime")

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


def zone_name(local_time: Path = LOCAL_TIME) -> str:
    """The IANA name of the machine's time zone (localtime(5)); "UTC" where it has none."""
    try:
        _, found, name = str(local_time.readlink()).partition("zoneinfo/")
    except OSError:
        return "UTC"
    return name.removeprefix("Etc/") if found and name else "UTC"
