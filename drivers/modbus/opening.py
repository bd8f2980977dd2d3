"""Opens a socket to a gateway; looks whether a serial port is as it was told; says why a line could not be opened."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import termios
from typing import TYPE_CHECKING

from drivers.base import LineError, SetupError

if TYPE_CHECKING:
    from drivers.modbus.address import Address, Serial
    from drivers.modbus.connection import Connection

NO_TLS = {  # what Python says of who does not speak it, and what a person should know
    "WRONG_VERSION_NUMBER": "what answers there is no TLS; without encryption it is tcp://",
    "handshake operation timed out": "nobody answered the TLS handshake; without encryption it is tcp://",
}
IFLAG, CFLAG = 0, 2  # places in what tcgetattr gives
SEVEN = 7  # bits
CONNECT_TIMEOUT = 3.0  # s at least: a lost SYN is sent again after 1 s
# Between two polls an hour apart a router forgets a connection, or its other end is gone without a word: then the poll of the
# hour's edge, and the one after it, would find nobody.
KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}  # s, s, times


def must_have(port: int, settings: Serial) -> None:
    """Raises ValueError where an open serial port has other settings than it was told.

    The system changes what it can of a port, and says that all is well even where it left the parity as it was.
    """
    if _character(termios.tcgetattr(port)[CFLAG]) != _character(_flags(settings)):
        raise ValueError(_not_taken(settings))


def mind_parity(port: int) -> None:
    """Let the system make a NUL of each character whose parity is wrong; pyserial lets them pass.

    Where frames are letters that spoils the frame. Their LRC alone does not see two errors in one place of two bytes, while
    the CRC of RTU does.
    """
    flags = termios.tcgetattr(port)
    flags[IFLAG] = (flags[IFLAG] | termios.INPCK) & ~(termios.IGNPAR | termios.PARMRK)
    termios.tcsetattr(port, termios.TCSANOW, flags)


def _not_taken(settings: Serial) -> str:
    return f"it does not take {settings.bytesize}{settings.parity}{settings.stopbits}"


def _flags(settings: Serial) -> int:
    flags = termios.CS7 if settings.bytesize == SEVEN else termios.CS8
    flags |= 0 if settings.parity == "N" else termios.PARENB
    flags |= termios.PARODD if settings.parity == "O" else 0
    return flags | (termios.CSTOPB if settings.stopbits == 2 else 0)


def _character(flags: int) -> int:
    """What of a port's flags says how a character looks; which parity it is counts only where there is one."""
    odd = termios.PARODD if flags & termios.PARENB else 0
    return flags & (termios.CSIZE | termios.PARENB | termios.CSTOPB | odd)


def connected(connection: Connection, address: Address) -> socket.socket:
    """A socket, encrypted where the address says so. Raises OSError, SetupError where only a person can help."""
    timeout = max(CONNECT_TIMEOUT, connection.timeout or 0.0)
    plain = socket.create_connection((address.host, address.port), timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
    if address.scheme != "tls":
        return plain
    try:  # MBAP inside TLS, as the Modbus/TCP Security specification has it; the certificate is always checked
        return _tls_context(connection).wrap_socket(plain, server_hostname=address.host)
    except BaseException:
        plain.close()
        raise


def _tls_context(settings: Connection) -> ssl.SSLContext:
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


def reason(error: BaseException) -> str:
    """What the system says, without its number."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error.args[-1]) if error.args else type(error).__name__


def explained(error: BaseException, address: Address) -> LineError | SetupError:
    """What stands in the way of opening, and what to do about it."""
    if address.serial:
        return _of_port(error, address.host, address.serial)
    why = reason(error)
    if address.scheme == "tls":
        why = next((words for sign, words in NO_TLS.items() if sign in str(error)), why)
    return LineError(f"{address.host}:{address.port}: {why}")


def _of_port(error: BaseException, host: str, settings: Serial) -> LineError | SetupError:
    number = getattr(error, "errno", None)
    if number in {errno.EISDIR, errno.ENOTTY} or os.strerror(errno.ENOTTY) in str(error):
        return SetupError(f"{host}: is no serial port; see /dev/serial/by-id/ for those there are")
    if number == errno.EACCES:
        return SetupError(
            f"{host}: no permission; the service's user must be in the group that owns the port, mostly dialout"
        )
    if number == errno.EPERM:
        return SetupError(
            f"{host}: the sandbox keeps this device from the service; restart it (an adapter's kind is looked up at its start), "
            "and where that does not help add DeviceAllow= for it to the unit"
        )
    if number == errno.ENOENT:
        return SetupError(
            f"{host}: there is no such port; is the adapter plugged in? See /dev/serial/by-id/ for lasting names"
        )
    if number in {errno.EAGAIN, errno.EBUSY} or "exclusively lock" in str(error):
        return SetupError(f"{host}: another process uses the port; only one may")
    unable = isinstance(error, termios.error) and error.args[:1] == (errno.EINVAL,)
    why = _not_taken(settings) if unable else reason(error)
    return LineError(f"{host}: cannot be opened with these settings: {why}")
