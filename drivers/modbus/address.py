"""Where a Modbus connection leads: the URL's meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

PORTS = {"tcp": 502, "rtu+tcp": 502, "ascii+tcp": 502, "tls": 802}
EXAMPLES = (
    '"tcp://192.0.2.10:502", "rtu+tcp://192.0.2.10:4001", "tls://192.0.2.10:802", '
    '"rtu:///dev/ttyUSB0?baudrate=9600&parity=N" or "ascii:///dev/ttyUSB0?baudrate=9600"'
)
LONGEST_LABEL = 63  # characters; a longer one makes the resolver raise instead of answering
BAUDRATES = (300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400)
FAST = 19_200  # baud above which the silence between frames is fixed (Modbus over serial line 1.02, section 2.5.1.1)
FAST_SILENCE = 0.00175  # s

USUAL = {  # settings of a serial line where its URL does not say; for ASCII as the standard has them
    "rtu": {"baudrate": "9600", "parity": "N", "stopbits": "1", "bytesize": "8"},
    "ascii": {"baudrate": "9600", "parity": "E", "stopbits": "1", "bytesize": "7"},
}

Scheme = Literal["tcp", "rtu+tcp", "ascii+tcp", "tls", "rtu", "ascii"]
Parity = Literal["N", "E", "O"]


class Serial(NamedTuple):
    """A serial line's settings. RTU needs eight data bits; ASCII frames are letters and mostly travel in seven."""

    baudrate: int = 9600
    parity: Parity = "N"
    stopbits: int = 1
    bytesize: int = 8

    @property
    def bits(self) -> int:
        """Of one character: start bit, data bits, parity, stop bits."""
        return 1 + self.bytesize + (self.parity != "N") + self.stopbits

    @property
    def character(self) -> float:
        """Seconds for one character."""
        return self.bits / self.baudrate

    @property
    def silence(self) -> float:
        """Seconds of silence that end an RTU frame; an ASCII frame says itself where it ends."""
        return FAST_SILENCE if self.baudrate > FAST else 3.5 * self.character


class Address(NamedTuple):
    """A host and port, or a serial port (`host` is its path)."""

    scheme: Scheme
    host: str
    port: int = 0
    serial: Serial | None = None

    @property
    def untagged(self) -> bool:
        """Whether frames have no transaction id, so that a late answer looks like the next one's."""
        return self.scheme not in {"tcp", "tls"}

    @property
    def ascii(self) -> bool:
        """Whether frames are letters with an LRC instead of bytes with a CRC."""
        return self.scheme in {"ascii", "ascii+tcp"}

    @property
    def silence(self) -> float:
        """Seconds of silence before each request, where the protocol asks for some and the line's speed is ours to know."""
        return self.serial.silence if self.serial and not self.ascii else 0.0


def address_of(url: str) -> Address:
    """The address in a URL; raises ValueError with what is allowed."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no IPv6 address
        raise ValueError(f"must look like {EXAMPLES}") from None
    if parts.scheme in {"rtu", "ascii"}:
        return _serial(parts)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"must look like {EXAMPLES}")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must be only a host and a port: devices and registers belong to the meters")
    if any(len(label) > LONGEST_LABEL for label in parts.hostname.split(".")) or ".." in parts.hostname:
        raise ValueError("must name a host whose parts between the dots have 1 to 63 characters")
    return Address(cast("Scheme", parts.scheme), parts.hostname, _port(parts))


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must have a port between 1 and 65535")
    return port or PORTS[parts.scheme]


def _serial(parts: SplitResult) -> Address:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path == "/":
        raise ValueError(
            f'must name the port with its whole path after three slashes: "{parts.scheme}:///dev/ttyUSB0?baudrate=9600"'
        )
    if parts.fragment:
        raise ValueError('must write a "#" in the port\'s path as "%23"')
    settings = USUAL[parts.scheme] | _settings(parts.query)
    baudrate = _number(settings["baudrate"], "baudrate", BAUDRATES)
    stopbits = _number(settings["stopbits"], "stopbits", (1, 2))
    bytesize = _number(settings["bytesize"], "bytesize", (7, 8))
    parity = settings["parity"].upper()
    if parity not in {"N", "E", "O"}:
        raise ValueError("must have parity=N (none), E (even) or O (odd)")
    if parts.scheme == "rtu" and bytesize != 8:
        raise ValueError("must have bytesize=8: RTU frames are bytes; a line with seven data bits speaks ascii://")
    return Address(cast("Scheme", parts.scheme), path, 0, Serial(baudrate, cast("Parity", parity), stopbits, bytesize))


def said_in(url: str) -> Iterable[str]:
    """Which settings of a serial line the URL names; the others are the usual ones."""
    return _settings(urlsplit(url).query)


def _settings(query: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in USUAL["rtu"]:
            raise ValueError(f'knows no setting "{key}"; there are: {", ".join(USUAL["rtu"])}')
        if key in settings:
            raise ValueError(f"must not have {key} twice")
        settings[key] = value
    return settings


def _number(text: str, name: str, allowed: tuple[int, ...]) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) not in allowed:
        raise ValueError(f"must have {name} one of {', '.join(map(str, allowed))}")
    return int(text)
