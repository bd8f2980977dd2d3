"""What an operator writes about a register: a meter's `source` on a Modbus connection."""

from __future__ import annotations

import warnings
from typing import Annotated

from pydantic import Field

from drivers.fields import Duration, SourceBase
from drivers.modbus.decode import Order, Type
from drivers.modbus.plan import MOST_REGISTERS, REGISTERS, USUAL_REGISTERS, Table
from drivers.modbus.profile import Markers

# pydantic takes `register` for ABCMeta.register, which no instance has
warnings.filterwarnings("ignore", 'Field name "register"', UserWarning)


class Source(SourceBase):
    """A meter's `source` on a Modbus connection: a profile and its point, or a register and its type."""

    device: int = Field(ge=0, le=255, description="Device (unit) id: 1 to 247 on RTU, 0 to 255 on TCP.")
    profile: str | None = Field(
        None, description="Meter family with known registers; see the list of supported meters."
    )
    point: str | None = Field(None, description="Which of the profile's values, such as `energy_import_total`.")
    register: int | None = Field(
        None,
        ge=0,
        lt=REGISTERS,
        description="First register as a zero-based address: manuals that print 40001 or 30001 mean 0, those that "
        "count from 1 mean one less.",
    )
    table: Table | None = Field(
        None, description="`holding` (function code 3) or `input` (function code 4). Default `holding`."
    )
    type: Type | None = Field(
        None, description="What the registers hold: integers u and s, IEEE 754 floats f, with their bits."
    )
    word_order: Order | None = Field(
        None, description="Which register comes first: `big` the most significant (ABCD), `little` the least (CDAB)."
    )
    byte_order: Order | None = Field(
        None,
        description="Order of the two bytes in a register: `big` is Modbus; `little` for devices that swap them "
        "(BADC, DCBA).",
    )
    na: Markers | None = Field(
        None,
        description='Raw values by which the meter says "no value", as hex of the whole value: `["0xFFFFFFFF"]`. NaN '
        "and infinity always do.",
    )
    timeout: Annotated[Duration, Field(ge=0.05, le=30)] | None = Field(
        None, description="This device's own timeout; the same for all sources of the device."
    )
    gap: Annotated[Duration, Field(ge=0, le=10)] | None = Field(
        None, description="Silence that this device needs before a request; the same for all sources of the device."
    )
    max_registers: Annotated[int, Field(ge=1, le=MOST_REGISTERS)] | None = Field(
        None,
        description=f"Most registers in one request to this device. Default: the profile's, else {USUAL_REGISTERS}.",
    )
