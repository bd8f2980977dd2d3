"""Why a connection to a broker ended, in words an integrator understands. Pure."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Trouble = Literal["line", "setup", "version"]
"""line: pause and try again · setup: only a person can mend it · version: try the other MQTT version."""


class Reason(NamedTuple):
    """What kind of trouble, and the sentence about it, which begins with the broker's address or "the broker"."""

    trouble: Trouble
    text: str


# reason codes of CONNACK and DISCONNECT, MQTT 5.0 sections 3.2.2.2 and 3.14.2.1; paho translates those of 3.1.1 to them
UNSUPPORTED_VERSION = 132
KEEPALIVE_TIMEOUT = 141
_CODES: dict[int, Reason] = {
    UNSUPPORTED_VERSION: Reason("version", "the broker does not speak this version of MQTT"),
    133: Reason("setup", "the broker does not accept the client id: set another client_id"),
    134: Reason("setup", "the broker does not accept the user name or password: check username and password"),
    135: Reason(
        "setup",
        "the broker does not let this gateway in (not authorized): check username, password and the broker's rules",
    ),
    136: Reason("line", "the broker says that it is not available now"),
    137: Reason("line", "the broker says that it is busy"),
    138: Reason("setup", "the broker has banned this client"),
    139: Reason("line", "the broker is shutting down"),
    140: Reason("setup", "the broker wants another way of authentication than user name and password"),
    KEEPALIVE_TIMEOUT: Reason(
        "line", "the broker ended the connection: it heard nothing from this gateway for too long"
    ),
    142: Reason(
        "line",
        "another client connected with the same client id and took the session over: is a second gateway running with "
        "this identity? Each needs its own client_id",
    ),
    149: Reason("line", "the broker ended the connection: a packet was too large"),
    151: Reason("line", "the broker says that a quota is used up"),
    152: Reason("line", "the broker ended the connection: an administrator's action"),
    156: Reason("setup", "the broker says that another server is to be used: change url"),
    157: Reason("setup", "the broker says that it has moved: change url"),
    159: Reason("line", "the broker refuses so many connections in a short time"),
}


_RENEWED = "it must be renewed at the broker, unless this machine's clock is wrong"
_NAMED = "url must have a name or address that it was made for"
_CERTIFICATE_ADVICE = {
    9: _RENEWED,
    10: _RENEWED,
    62: _NAMED,
    64: _NAMED,
}  # x509_vfy.h: not valid yet, expired, name, address


def of_code(code: int, name: str) -> Reason:
    """The reason that a broker gave; `name` is the specification's word for it."""
    return _CODES.get(code) or Reason("line", f'the broker gave the reason "{name}" ({code})')


def of_silence(protocol: str, seconds: float) -> Reason:
    """The broker took the connection and then said nothing."""
    text = f"the broker took the connection but did not answer within {seconds:g} s"
    return Reason("version", f"{text}: does it speak MQTT {protocol} on this port?")


def of_early_close(protocol: str, *, tls: bool) -> Reason:
    """The broker closed the connection instead of answering."""
    other = "" if tls else ", and without TLS"
    text = "the broker closed the connection without an answer"
    return Reason("version", f"{text}: does it speak MQTT {protocol} on this port{other}?")


def of_dead_line(keepalive: float) -> Reason:
    """We closed the connection because the broker no longer answered."""
    return Reason("line", f"nothing was heard from the broker for more than {keepalive:g} s")


def of_ca_file(path: str, error: OSError) -> Reason:
    """The certificate authority's file cannot be used."""
    why = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
    return Reason("setup", f"the broker's certificate cannot be checked with ca_file {path}: {why}")


def of_certificate(certificate: str, key: str | None, error: OSError) -> Reason:
    """Our own certificate or key cannot be used."""
    files = f"{certificate} and {key or 'the key in it'}"
    why = "they do not fit together, or the key has a passphrase" if isinstance(error, ssl.SSLError) else error.strerror
    return Reason("setup", f"the broker cannot be shown cert_file {files}: {why or error}")


def of_error(error: Exception, host: str, port: int) -> Reason:
    """An exception on the way to a connection or during it."""
    where = f"{host}:{port}"
    for kind, trouble, text in _ERRORS:
        if isinstance(error, kind):
            return Reason(trouble, f"{where}: {text(error, host)}")
    return Reason("line", f"{where}: {type(error).__name__}: {error}")


def _of_verification(error: ssl.SSLCertVerificationError) -> str:
    advice = _CERTIFICATE_ADVICE.get(getattr(error, "verify_code", 0), "see ca_file")
    return f"the broker's certificate is not accepted: {error.verify_message.rstrip('.')}; {advice}"


def _of_tls(error: ssl.SSLError) -> str:
    said = (getattr(error, "reason", "") or str(error)).replace("_", " ")
    if "ALERT" in said and ("CERTIFICATE" in said or "UNKNOWN CA" in said):
        return f"the broker refuses this gateway's certificate ({said.lower()}): check cert_file and key_file"
    return f"no TLS: {said}; is this the broker's TLS port?"


_ERRORS: tuple[tuple[type[Exception], Trouble, Callable[[Any, str], str]], ...] = (
    (
        ssl.SSLCertVerificationError,
        "setup",
        lambda error, _: _of_verification(error),
    ),
    (
        ssl.SSLError,
        "setup",
        lambda error, _: _of_tls(error),
    ),
    (socket.gaierror, "line", lambda error, host: f"the name {host} is not known (DNS: {error.strerror})"),
    (
        ConnectionRefusedError,
        "line",
        lambda *_: "the connection was refused: is the broker running, and is the port right?",
    ),
    (
        ConnectionResetError,
        "line",
        lambda *_: (
            "the other side ended the connection at once: is the port right, and is TLS (mqtts://) spoken there?"
        ),
    ),
    (TimeoutError, "line", lambda *_: "no answer: check the address, the network and firewalls"),
    (OSError, "line", lambda error, _: f"{error.strerror or error}"),
)
