"""What the process says with its exit code: a fixed surface that units and scripts rely on (DESIGN 9).

After 2 and 78 systemd does not start the service again: only a person can mend what they mean.

GatewayError           1   failed, or something is not ok
├── WrongUsage         2   the words on the command line make no sense together
├── Unreachable       69   the service is needed and not there
├── NoDatabase        73   the database cannot be created or is in use
├── DatabaseFailure   74   I/O error
├── NotPermitted      77   a device or file may not be opened
└── Misconfigured     78   configuration or credentials
"""

from __future__ import annotations

OK = 0
FAILED = 1


class GatewayError(Exception):
    """Ends a command with one clear line on stderr and this exit code."""

    code = FAILED


class WrongUsage(GatewayError):  # noqa: N818 - named for what the operator sees
    """The words on the command line make no sense, or not together."""

    code = 2


class Unreachable(GatewayError):  # noqa: N818
    """The service is needed and not there."""

    code = 69


class NoDatabase(GatewayError):  # noqa: N818
    """The database cannot be created, or another gateway has it."""

    code = 73


class DatabaseFailure(GatewayError):  # noqa: N818
    """The database cannot be read or written."""

    code = 74


class NotPermitted(GatewayError):  # noqa: N818
    """A device or file may not be opened."""

    code = 77


class Misconfigured(GatewayError):  # noqa: N818
    """Configuration or credentials must be mended by a person."""

    code = 78
