"""A Modbus line that a command opens by its URL: what the URL means, and that the running service does not hold it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError, Misconfigured, NotPermitted, WrongUsage
from gateway.locate import DEFAULT_DATA, Unreadable, data_dir, find_config, is_pipe, read_text
from gateway.report import holder_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from pydantic import BaseModel

    from drivers.base import DriverError
    from drivers.modbus.address import Address
    from drivers.modbus.config import Connection


_HOST = re.compile(r"(?:[A-Za-z-]+:?//)?((?:\d{1,3}\.){3}\d{1,3}|[A-Za-z][\w-]*(?:\.[\w-]+)+)(:\d+)?/?")


def connection_to(url: str, **settings: Any) -> Connection:  # noqa: ANN401 - whatever a connection has
    """The connection of a URL. Raises WrongUsage with what is allowed."""
    from drivers.modbus.address import address_of  # noqa: PLC0415 - pydantic
    from drivers.modbus.config import Connection  # noqa: PLC0415

    try:
        address_of(url)
    except ValueError as error:
        raise WrongUsage(f"{url} {error}{_meant(url)}") from None
    return Connection.model_validate({"driver": "modbus", "url": url} | settings)


def _meant(url: str) -> str:
    if url.startswith(("/", "tty")):
        return f"; a serial port is rtu://{'' if url.startswith('/') else '/dev/'}{url}"
    if url.startswith("mqtt"):
        return f"; what a broker has is shown by meter-gateway read {url}"
    found = _HOST.fullmatch(url)
    return f"; did you mean tcp://{found[1]}{found[2] or ''}?" if found else ""


def devices_of(url: str) -> range:
    """The ids that devices of a line can have."""
    from drivers.modbus.address import address_of  # noqa: PLC0415
    from drivers.modbus.config import RTU_DEVICES, TCP_DEVICES  # noqa: PLC0415

    return RTU_DEVICES if address_of(url).untagged else TCP_DEVICES


def must_be_free(args: argparse.Namespace, connection: Connection) -> None:
    """Raises GatewayError where the service that runs here has this very line: two masters take each other's answers."""
    from drivers.modbus.config import exclusive  # noqa: PLC0415
    from gateway.config import load  # noqa: PLC0415

    path = find_config(args.config)
    if not _is_there(path, named=args.config is not None):
        return
    line = exclusive(connection)
    name: str | None
    try:
        config = load(path)
    except Misconfigured:  # a file in the making; only beside a running service does it leave a doubt
        name, directory = "", _data_dir(path)
    else:
        name = next((name for name, other in config.connections.items() if _line_of(other) == line), None)
        directory = config.gateway.data_dir
    held_by = None if name is None else holder_of(directory)
    if held_by:
        as_which = f" as connection {name}" if name else f" perhaps ({path} has mistakes)"
        raise GatewayError(
            f"process {held_by.get('pid', '?')} (the service) holds {line}{as_which}, and a line has one master: "
            "systemctl stop meter-gateway, or read its meters by their names"
        )


def _is_there(path: Path, *, named: bool) -> bool:
    """Whether there is a configuration. Raises NotPermitted, or Unreadable where one was named that is none."""
    if is_pipe(path):
        return True
    try:
        read_text(path)
    except Unreadable as error:
        if error.forbidden:
            raise NotPermitted(
                f"{path} cannot be read, so nobody can say whether the service holds this line: try again with sudo"
            ) from None
        if not path.is_file():
            if not named:
                return False
            raise  # says what is wrong with a file that was named
    return True


def failure(error: DriverError, address: Address) -> GatewayError:
    """A line that cannot be opened or has broken, with the exit code that fits."""
    from drivers.modbus.address import PORTS  # noqa: PLC0415 - pydantic

    serial = address.serial is not None
    forbidden = serial and Path(address.host).exists() and not os.access(address.host, os.R_OK | os.W_OK)
    usual = "" if serial or address.port == PORTS[address.scheme] else f": Modbus is mostly at {PORTS[address.scheme]}"
    hint = f"; nothing listens at this port{usual}" if str(error).endswith(os.strerror(errno.ECONNREFUSED)) else ""
    if forbidden:
        return NotPermitted(f"{error}; or try again with sudo")
    return GatewayError(f"{error}{hint}")


def _data_dir(path: Path) -> Path:
    try:
        return data_dir(path)
    except Misconfigured:
        return DEFAULT_DATA


def _line_of(connection: BaseModel) -> str | None:
    from drivers.modbus.config import exclusive  # noqa: PLC0415

    facts: Mapping[str, Any] = dict(connection)
    return exclusive(connection) if facts["driver"] == "modbus" else None
