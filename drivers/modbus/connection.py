"""What an operator writes about a Modbus connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from drivers.fields import Duration, Strict, Words
from drivers.modbus.address import address_of
from drivers.modbus.otherwords import CONNECTION_KEYS

POLL = 60.0  # s


def _url(value: str) -> str:
    address_of(value)
    return value


class Connection(Strict):
    """`[connections.NAME]` with `driver = "modbus"`: one bus, gateway or meter, with one request at a time."""

    other_words: ClassVar[Mapping[str, str]] = CONNECTION_KEYS

    driver: Literal["modbus"]
    url: Annotated[str, AfterValidator(_url), Words('a URL such as "tcp://192.0.2.10:502"')] = Field(
        description="`tcp://host:502` (Modbus TCP), `rtu+tcp://host:port` (RTU frames through a serial server), "
        "`tls://host:802` (Modbus TCP security), `rtu:///dev/ttyUSB0?baudrate=9600&parity=N&stopbits=1` (serial line), "
        "`ascii:///dev/ttyUSB0?baudrate=9600&bytesize=7&parity=E&stopbits=1` or `ascii+tcp://host:port` (Modbus ASCII). "
        "What is not said is as here; the standard for RTU is `parity=E`, and many meters have `N`. All devices of a line "
        "must be set alike."
    )
    poll: Annotated[Duration, Field(ge=1, le=3600)] = Field(
        POLL,
        description="How often every device is read. Polls are aligned to the wall clock: one falls on each full hour.",
    )
    timeout: Annotated[Duration, Field(ge=0.05, le=30)] | None = Field(
        None,
        description="How long a device may take to begin its answer. On RTU and ASCII at least 500 ms is wise: a late answer "
        'can be taken for the next one. Default `"1s"`, for `rtu+tcp` and `ascii+tcp` `"1500ms"`, or more where the profile asks for it.',
    )
    gap: Annotated[Duration, Field(ge=0, le=10)] | None = Field(
        None,
        description="Silence before the next request; on a serial line with RTU never less than 3.5 characters. Default: serial line "
        "60 ms, 100 ms when the device changes; `rtu+tcp` and `ascii+tcp` 100 ms; TCP none.",
    )
    gap_on_change: Annotated[Duration, Field(ge=0, le=10)] | None = Field(
        None,
        description="The same before the first request after another device was asked; never less than `gap`. Default: `gap` where that "
        "is said, else as above.",
    )
    pause_after_connect: Annotated[Duration, Field(ge=0, le=30)] = Field(
        0.0, description="Rest between opening the connection and the first request, for gateways that need it."
    )
    local_echo: bool = Field(
        False,  # noqa: FBT003 - pydantic's default
        description="The RS-485 adapter hears its own requests: skip them. Only RTU and ASCII.",
    )
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="Certificate authority of the device (PEM) instead of the system's; only `tls://`.",
    )
    cert_file: str | None = Field(None, min_length=1, description="This gateway's certificate (PEM); only `tls://`.")
    key_file: str | None = Field(
        None, min_length=1, description="Its private key (PEM), where `cert_file` does not hold it."
    )
