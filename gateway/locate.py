"""Where the configuration and the data are, without reading all of the configuration: `status` and `hours` start fast."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from pathlib import Path

from gateway.errors import Misconfigured, NotPermitted

DEFAULT_CONFIG = Path("/etc/meter-gateway/config.toml")
DEFAULT_DATA = Path("/var/lib/meter-gateway")
LARGEST = 16 * 2**20  # bytes; ten thousand meters take three million

_ADVICE = {
    errno.ENOENT: "; write the path of a file that is there",
    errno.EISDIR: "; write the path of a file",
    errno.EACCES: "; try again with sudo, or let the user who runs this read it",
}
_NONE_YET = "; say which with -c FILE, or begin with what meter-gateway scan URL prints, or with config.example.toml"


def find_config(given: str | None) -> Path:
    """`-c`, else $METER_GATEWAY_CONFIG, else /etc/meter-gateway/config.toml."""
    return Path(given or os.environ.get("METER_GATEWAY_CONFIG") or DEFAULT_CONFIG)


class Unreadable(Misconfigured):
    """A file that gives no text: `reason` says why and what to do, `line` where; `forbidden`: another user may read it."""

    def __init__(self, path: Path, reason: str, line: int | None = None, *, forbidden: bool = False) -> None:
        """Keep them apart for those who report more than this."""
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}")
        self.reason = reason
        self.line = line
        self.forbidden = forbidden
        if forbidden:
            self.code = NotPermitted.code


def read_text(path: Path) -> str:
    """The text of a file, with or without a byte order mark, its line ends as Unix has them. Raises Unreadable."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            content = file.read(LARGEST + 1)
            unfed = not content and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        if path == DEFAULT_CONFIG and error.errno == errno.ENOENT:
            advice = _NONE_YET
        forbidden = isinstance(error, PermissionError)
        raise Unreadable(path, f"cannot be read: {error.strerror}{advice}", forbidden=forbidden) from None
    except ValueError:  # a zero byte in the path
        raise Unreadable(path, "is not the path of a file") from None
    if unfed:
        raise Unreadable(path, f"is a pipe that nothing came out of{_ADVICE[errno.EISDIR]}")
    if len(content) > LARGEST:
        raise Unreadable(path, f"is too large: more than {LARGEST // 2**20} MiB")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(path, "is not UTF-8 text; save it as UTF-8", line) from None


def is_pipe(path: Path) -> bool:
    """Whether what it holds can be read once only; False where nobody may look."""
    try:
        return path.is_fifo()
    except OSError:
        return False


def _at_once(path: str, flags: int) -> int:
    """Without waiting for somebody who writes into a FIFO: one that nobody has open is empty."""
    number = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(number, True)
    return number


def data_dir(config: Path) -> Path:
    """The data directory that a configuration names. Raises Misconfigured when the file cannot be read."""
    text = read_text(config)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError):  # what is wrong, and where, is for `check` to say: it never shows a secret
        raise Misconfigured(f"{config}: is not TOML; run `meter-gateway check -c {config}`") from None
    section = content.get("gateway", {})
    named = section.get("data_dir", DEFAULT_DATA) if isinstance(section, dict) else DEFAULT_DATA
    return Path(named) if isinstance(named, (str, Path)) else DEFAULT_DATA
