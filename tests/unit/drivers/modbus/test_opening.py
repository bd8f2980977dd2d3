"""Why a line could not be opened, in words that say what to do."""

from __future__ import annotations

import ssl

import pytest

from drivers.base import LineError
from drivers.modbus.address import address_of
from drivers.modbus.opening import explained


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "what answers there is no TLS; without"),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"), "nobody answered the TLS handshake; without"),
        (ssl.SSLError(1, "[SSL: HANDSHAKE_FAILURE] sslv3 alert handshake failure"), "sslv3 alert handshake failure"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    ],
)
def test_who_speaks_no_tls_is_told_apart_from_who_refuses_it(error: OSError, said: str):
    """tcp:// is what helps where nobody speaks it."""
    found = explained(error, address_of("tls://192.0.2.1"))
    assert isinstance(found, LineError)
    assert str(found).startswith("192.0.2.1:802: ")
    assert said in str(found)
    assert ("tcp://" in str(found)) == ("TLS" in said)
