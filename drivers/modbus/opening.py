"""Why a line could not be opened, in words, and what to do about it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from drivers.base import LineError, SetupError

if TYPE_CHECKING:
    from drivers.modbus.address import Address


def reason(error: BaseException) -> str:
    """What the system says, without its number."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error.args[-1]) if error.args else type(error).__name__


def explained(error: BaseException, address: Address) -> LineError | SetupError:
    """What stands in the way of opening, and what to do about it."""
    host = address.host
    number = getattr(error, "errno", None)
    if not address.serial:
        return LineError(f"{host}:{address.port}: {reason(error)}")
    if number == errno.EACCES:
        return SetupError(
            f"{host}: no permission; the service's user must be in the group that owns the port, mostly dialout"
        )
    if number == errno.EPERM:
        return SetupError(
            f"{host}: the sandbox keeps this device from the service; restart it (an adapter's kind is looked up at its start), "
            "and where that does not help add DeviceAllow= for it to the unit"
        )
    if number == errno.ENOENT:
        return SetupError(
            f"{host}: there is no such port; is the adapter plugged in? See /dev/serial/by-id/ for lasting names"
        )
    if number in {errno.EAGAIN, errno.EBUSY} or "exclusively lock" in str(error):
        return SetupError(f"{host}: another process uses the port; only one may")
    return LineError(f"{host}: cannot be opened with these settings: {reason(error)}")
