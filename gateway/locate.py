"""Where the configuration and the data are, without reading all of the configuration: `status` and `hours` start fast."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from gateway.errors import Misconfigured

DEFAULT_CONFIG = Path("/etc/meter-gateway/config.toml")
DEFAULT_DATA = Path("/var/lib/meter-gateway")


def find_config(given: str | None) -> Path:
    """`-c`, else $METER_GATEWAY_CONFIG, else /etc/meter-gateway/config.toml."""
    return Path(given or os.environ.get("METER_GATEWAY_CONFIG") or DEFAULT_CONFIG)


def data_dir(config: Path) -> Path:
    """The data directory that a configuration names. Raises Misconfigured when the file cannot be read."""
    try:
        with config.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise Misconfigured(f"{config}: {error.strerror}; name a configuration with -c") from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{config}: {error}; run `meter-gateway check`") from None
    section = content.get("gateway", {})
    named = section.get("data_dir", DEFAULT_DATA) if isinstance(section, dict) else DEFAULT_DATA
    return Path(named) if isinstance(named, (str, Path)) else DEFAULT_DATA
