"""Why a connection ended, in words an integrator understands, and what is to be done about it."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from drivers.mqtt import reasons

WORDS = {  # code -> (what to do, what the sentence must name)
    132: ("version", "does not speak this version of MQTT"),
    133: ("setup", "client_id"),
    134: ("setup", "check username and password"),
    135: ("setup", "not authorized"),
    136: ("line", "not available"),
    137: ("line", "busy"),
    138: ("setup", "banned"),
    139: ("line", "shutting down"),
    140: ("setup", "authentication"),
    141: ("line", "heard nothing from this gateway"),
    142: ("line", "another client connected with the same client id"),
    149: ("line", "too large"),
    151: ("line", "quota"),
    152: ("line", "administrator"),
    156: ("setup", "change url"),
    157: ("setup", "change url"),
    159: ("line", "so many connections"),
}


@pytest.mark.parametrize("code", WORDS)
def test_a_known_reason_is_told_in_our_words(code: int):
    """MQTT 5.0, sections 3.2.2.2 and 3.14.2.1."""
    trouble, words = WORDS[code]
    reason = reasons.of_code(code, "Specification's word")
    assert reason.trouble == trouble
    assert words in reason.text


def test_a_reason_of_the_future_keeps_the_specifications_word():
    """An unknown code is trouble with the line: try again."""
    assert reasons.of_code(200, "Sunspots") == reasons.Reason("line", 'the broker gave the reason "Sunspots" (200)')


def test_silence_and_an_early_end_may_mean_another_version():
    """Brokers of MQTT 3.1.1 close or stay silent instead of answering MQTT 5."""
    silent = reasons.of_silence("5", 3)
    assert silent.trouble == "version"
    assert silent.text.endswith("did not answer within 3 s: does it speak MQTT 5 on this port?")
    closed = reasons.of_early_close("3.1.1", tls=False)
    assert closed.trouble == "version"
    assert closed.text.endswith("does it speak MQTT 3.1.1 on this port, and without TLS?")
    assert reasons.of_early_close("5", tls=True).text.endswith("does it speak MQTT 5 on this port?")


def test_a_dead_line_says_how_long_it_was_silent():
    """The keepalive."""
    assert reasons.of_dead_line(30) == reasons.Reason("line", "nothing was heard from the broker for more than 30 s")


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "trouble", "text"),
    [
        (
            unverified(20, "unable to get local issuer"),
            "setup",
            "is not accepted: unable to get local issuer; see ca_file",
        ),
        (
            unverified(10, "certificate has expired"),
            "setup",
            "certificate has expired; it must be renewed at the broker",
        ),
        (unverified(9, "certificate is not yet valid"), "setup", "unless this machine's clock is wrong"),
        (
            unverified(62, "Hostname mismatch."),
            "setup",
            "Hostname mismatch; url must have a name or address that it was made",
        ),
        (
            unverified(64, "IP address mismatch."),
            "setup",
            "mismatch; url must have a name or address that it was made for",
        ),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "setup", "is this the broker's TLS port?"),
        (socket.gaierror(-2, "Name or service not known"), "line", "the name broker is not known (DNS: Name or"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "line", "is the broker running, and is the port right"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "line", "is TLS (mqtts://) spoken there?"),
        (TimeoutError("timed out"), "line", "no answer: check the address, the network and firewalls"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "line", "No route to host"),
        (UnicodeError("label empty"), "line", "UnicodeError: label empty"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_on_the_way_names_the_broker_and_what_to_check(error: Exception, trouble: str, text: str):
    """Certificates and ports are a person's business; names, refusals and silence may mend themselves."""
    reason = reasons.of_error(error, "broker", 1883)
    assert reason.trouble == trouble
    assert reason.text.startswith("broker:1883: ")
    assert text in reason.text


def test_a_ca_file_that_cannot_be_used_is_named():
    """Missing, unreadable, or without a certificate."""
    reason = reasons.of_ca_file("/etc/ca.pem", PermissionError(errno.EACCES, "Permission denied"))
    assert reason == ("setup", "the broker's certificate cannot be checked with ca_file /etc/ca.pem: Permission denied")
    assert reasons.of_ca_file("/etc/ca.pem", ssl.SSLError()).text.endswith("it holds no certificate in PEM form")
