"""Modbus TCP security: MBAP inside TLS, with the device's certificate always checked."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from drivers.base import LineError, SetupError
from drivers.modbus.address import address_of
from drivers.modbus.bus import PymodbusBus
from drivers.modbus.connection import Connection
from drivers.modbus.plan import Block, Place
from drivers.modbus.wire import Request
from tests.fakes.modbus_server import HOST
from tests.fakes.patience import PATIENCE

ASKED = Request(1, Block("holding", 10, 2, (Place("holding", 10, 2),)), PATIENCE, 0.0)


def certificate(directory: Path, name: str, subject: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key; `subject` is its alternative name."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    made = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    return cert, key


@contextmanager
def meter(cert: Path, key: Path, *, clients: Path | None = None) -> Iterator[str]:
    """A meter that answers 1234; with `clients` only to those whose certificate is from there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    listener = socket.create_server((HOST, 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
                while request := client.recv(64):
                    client.sendall(request[:2] + struct.pack(">HHBBBHH", 0, 7, request[6], 3, 4, 0, 1234))

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield f"tls://{HOST}:{listener.getsockname()[1]}"
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE)


@contextmanager
def bus(url: str, **keys: str) -> Iterator[PymodbusBus]:
    """The wire alone, not open yet."""
    settings = {"driver": "modbus", "url": url, "timeout": f"{PATIENCE:g}s"}
    line = PymodbusBus(Connection.model_validate(settings | keys), address_of(url))
    yield line
    line.close()


def test_a_meter_with_the_expected_certificate_is_read(tmp_path):
    """Its authority stands in `ca_file`."""
    cert, key = certificate(tmp_path, "meter", f"IP:{HOST}")
    with meter(cert, key) as url, bus(url, ca_file=str(cert)) as line:
        line.open()
        assert line.read(ASKED).words == (0, 1234)


def test_a_meter_that_nobody_vouches_for_is_not_read(tmp_path):
    """Only a person can mend that."""
    cert, key = certificate(tmp_path, "meter", f"IP:{HOST}")
    with meter(cert, key) as url, bus(url) as line:
        with pytest.raises(SetupError, match=r"the certificate is not accepted: self.signed certificate"):
            line.open()
        assert not line.is_open


def test_a_certificate_of_another_host_is_not_accepted(tmp_path):
    """The client of pymodbus could not check that."""
    cert, key = certificate(tmp_path, "meter", "DNS:another.example")
    wrong = pytest.raises(SetupError, match="IP address mismatch")
    with meter(cert, key) as url, bus(url, ca_file=str(cert)) as line, wrong:
        line.open()


def test_a_meter_that_wants_to_know_its_client_is_shown_our_certificate(tmp_path):
    """`cert_file` and `key_file`; without them the line is lost, not the process."""
    cert, key = certificate(tmp_path, "meter", f"IP:{HOST}")
    own, own_key = certificate(tmp_path, "gateway", "DNS:gateway.example")
    with meter(cert, key, clients=own) as url:
        with bus(url, ca_file=str(cert), cert_file=str(own), key_file=str(own_key)) as line:
            line.open()
            assert line.read(ASKED).words == (0, 1234)
        with bus(url, ca_file=str(cert)) as line, pytest.raises(LineError):
            line.open()
            line.read(ASKED)


def test_a_certificate_file_that_is_none_is_told_by_its_own_name(tmp_path):
    """Not as a network failure of the meter."""
    cert, key = certificate(tmp_path, "meter", f"IP:{HOST}")
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with meter(cert, key) as url:
        for keys in (
            {"ca_file": broken},
            {"ca_file": cert, "cert_file": broken},
            {"ca_file": tmp_path / "broken.pem.gone"},
        ):
            named = {name: str(path) for name, path in keys.items()}
            with bus(url, **named) as line, pytest.raises(SetupError, match=r"broken\.pem"):
                line.open()
