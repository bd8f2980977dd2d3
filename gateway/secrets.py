"""Where API keys and passwords come from. A configuration names a secret; errors say where it was looked for, never what it is.

credential:NAME   a systemd credential (systemd.exec(5), LoadCredential=), or its file where a person runs a command
env:NAME          a variable of the environment
file:/PATH        a file that only the service may read
anything else     the secret itself, which is warned about
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast

Kind = Literal["credential", "env", "file", "literal"]

CREDENTIALS = "CREDENTIALS_DIRECTORY"
OURS = Path("/etc/meter-gateway/credentials")  # what our unit hands to systemd: for commands that root runs by hand
DIRECTORY_PREFIX = "meter-gateway_"  # LoadCredential=meter-gateway:/a/directory names its files so
FORMS = '"credential:NAME", "env:NAME" or "file:/PATH"'
LONGEST = 64 * 1024  # bytes; a file that holds more is not a secret

_WORDS = ("credential", "env", "file")
_WORD = re.compile(r"([A-Za-z]{2,16})\s*:(.*)", re.DOTALL)
_NAMES = {
    "credential": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*"),
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "file": re.compile(r"/.+"),
}
_WANTED = {
    "credential": "letters, digits and _ . @ -",
    "env": "letters, digits and _, not beginning with a digit",
    "file": "an absolute path",
}


class SecretError(Exception):
    """A reference that cannot be understood, or a secret that is not where it should be. Never holds the secret."""


class Reference(NamedTuple):
    """Where a secret is; for a literal, `target` is the secret itself."""

    kind: Kind
    target: str

    def __repr__(self) -> str:
        """Never shows a literal."""
        return f"Reference({self.kind}:{'(hidden)' if self.kind == 'literal' else self.target})"


def parse(reference: str) -> Reference:
    """Understand a reference; raises SecretError where it is empty or nearly one of the three forms."""
    text = reference.strip()
    if not text:
        raise SecretError(f"is empty; write {FORMS}")
    match = _WORD.fullmatch(text)
    word = match and _meant(match[1])
    if not match or not word:
        return Reference("literal", text)
    if match[1] != word or text[len(word)] != ":":
        raise SecretError(f'must begin with "{word}:"')
    target = match[2]
    if not _NAMES[word].fullmatch(target):
        raise SecretError(f'needs {_WANTED[word]} after "{word}:"')
    return Reference(word, target)


def is_literal(reference: str) -> bool:
    """Whether this is the secret itself. What is neither that nor a reference is not: it is a mistake."""
    try:
        return parse(reference).kind == "literal"
    except SecretError:
        return False


def resolve(reference: str, environ: Mapping[str, str], ours: Path = OURS) -> str:
    """The secret itself, without its trailing newline; raises SecretError where it cannot be had."""
    kind, target = parse(reference)
    if kind == "literal":
        return target
    if kind == "env":
        return _said(environ.get(target), f"the environment variable {target}")
    if kind == "file":
        return _said(_read(Path(target)), target)
    directory = environ.get(CREDENTIALS) or _seen(ours)
    if not directory:
        raise SecretError(f"the credential {target} is given by systemd only: ${CREDENTIALS} is not set")
    plain, prefixed = Path(directory) / target, Path(directory) / f"{DIRECTORY_PREFIX}{target}"
    return _said(_read(plain if plain.exists() else prefixed, f"the credential {target}"), f"the credential {target}")


def _seen(directory: Path) -> str | None:
    try:
        return str(directory) if directory.is_dir() else None
    except PermissionError:
        return None


def _meant(word: str) -> Kind | None:
    """The form that a word before a colon stands for, misspelt or not."""
    close = difflib.get_close_matches(word.lower(), _WORDS, n=1, cutoff=0.8)
    return cast("Kind", close[0]) if close else None


def _read(path: Path, called: str = "") -> str:
    called = called or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        looked = f" ({path})" if called != str(path) else ""
        raise SecretError(f"{called} cannot be read{looked}: {error.strerror}") from None
    if len(content) > LONGEST:
        raise SecretError(f"{called} is too large for a secret")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SecretError(f"{called} is not text") from None


def _said(secret: str | None, called: str) -> str:
    if secret is None:
        raise SecretError(f"{called} is not set")
    secret = secret.rstrip("\r\n")
    if not secret.strip():
        raise SecretError(f"{called} is empty")
    if not secret.isprintable():
        raise SecretError(f"{called} holds more than one line of plain text")
    return secret
