"""MBAP inside TLS, as the Modbus/TCP Security specification has it; the certificate is always checked."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from drivers.base import SetupError
from drivers.modbus.opening import reason

if TYPE_CHECKING:
    import socket

    from drivers.modbus.connection import Connection


def encrypted(connected: socket.socket, settings: Connection, host: str) -> ssl.SSLSocket:
    """The connection after its handshake; raises OSError, or SetupError. Closed then."""
    try:
        return _context(settings).wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise


def _context(settings: Connection) -> ssl.SSLContext:
    """Files that cannot be read are the operator's to mend; they are no failure of the network."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise SetupError(f"{settings.ca_file}: no certificate can be read from it: {reason(error)}") from None
    if settings.cert_file:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except OSError as error:
            files = f"{settings.cert_file} and {settings.key_file or 'the key in it'}"
            raise SetupError(f"{files}: cannot be used as certificate and key: {reason(error)}") from None
    return context
