"""Where secrets come from: errors say where it was looked for, never what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.secrets import LONGEST, SecretError, is_literal, parse, resolve

CANARY = "canary-3f9a"


def test_a_credential_is_a_file_in_the_directory_that_systemd_names(tmp_path: Path):
    """LoadCredential=enerkey-1:..., systemd.exec(5)."""
    (tmp_path / "enerkey-1").write_text(f"{CANARY}\n")
    assert resolve("credential:enerkey-1", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == CANARY


def test_a_credential_loaded_from_a_whole_directory_has_a_prefix(tmp_path: Path):
    """LoadCredential=meter-gateway:/etc/meter-gateway/credentials names its files so."""
    (tmp_path / "meter-gateway_enerkey-1").write_text(CANARY)
    assert resolve("credential:enerkey-1", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == CANARY


def test_a_variable_and_a_file_give_a_secret_without_its_line_end(tmp_path: Path):
    """Editors add a newline, on Windows two characters."""
    path = tmp_path / "key"
    path.write_bytes(CANARY.encode() + b"\r\n")
    assert resolve(f"file:{path}", {}) == CANARY
    assert resolve("env:KEY", {"KEY": CANARY}) == CANARY


def test_anything_else_is_the_secret_itself():
    """Also with a colon in it."""
    for text in (CANARY, "a:b", "https://x", "x" * 200, "12345:678"):
        assert parse(text).kind == "literal"
        assert is_literal(text)
        assert resolve(text, {}) == text


def test_a_literal_never_shows_itself():
    """repr() is what ends in logs and tracebacks."""
    assert CANARY not in repr(parse(CANARY))
    assert CANARY not in f"{parse(CANARY)}"
    assert repr(parse("env:KEY")) == "Reference(env:KEY)"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("", 'is empty; write "credential:NAME"'),
        ("   ", "is empty"),
        ("credentials:enerkey-1", 'must begin with "credential:"'),
        ("Credential:enerkey-1", 'must begin with "credential:"'),
        ("ENV:KEY", 'must begin with "env:"'),
        ("file :/a", 'must begin with "file:"'),
        ("credential:", 'needs letters, digits and _ . @ - after "credential:"'),
        ("credential:../../etc/shadow", "needs letters"),
        ("env:1KEY", "not beginning with a digit"),
        ("env:A B", "needs letters"),
        ("file:key.txt", 'needs an absolute path after "file:"'),
    ],
)
def test_what_is_nearly_a_reference_is_a_mistake_and_not_a_secret(reference: str, said: str):
    """Otherwise "credentials:x" would be sent to EnerKey as the key."""
    with pytest.raises(SecretError, match=said.replace(".", r"\.")):
        parse(reference)
    assert not is_literal(reference)


def test_a_secret_that_is_not_there_is_named_by_its_place(tmp_path: Path):
    """What to look at, and nothing else."""
    for reference, environ, said in [
        ("env:KEY", {}, "the environment variable KEY is not set"),
        ("env:KEY", {"KEY": " "}, "the environment variable KEY is empty"),
        ("credential:k", {}, "the credential k is given by systemd only: $CREDENTIALS_DIRECTORY is not set"),
        (f"file:{tmp_path}/no", {}, f"{tmp_path}/no cannot be read: No such file or directory"),
        (f"file:{tmp_path}", {}, f"{tmp_path} cannot be read: Is a directory"),
    ]:
        with pytest.raises(SecretError) as caught:
            resolve(reference, environ)
        assert str(caught.value) == said


def test_a_credential_is_found_where_our_unit_takes_it_from_when_a_person_runs_a_command(tmp_path: Path):
    """Systemd gives it to the service alone; where it gives one, that counts."""
    given, ours = tmp_path / "given", tmp_path / "ours"
    for directory in (given, ours):
        directory.mkdir()
        (directory / "k").write_text(directory.name)
    assert resolve("credential:k", {}, ours) == "ours"
    assert resolve("credential:k", {"CREDENTIALS_DIRECTORY": str(given)}, ours) == "given"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{CANARY}\n{CANARY}\n".encode(), "holds more than one line of plain text"),
        (f"{CANARY}\x1b[0m".encode(), "holds more than one line of plain text"),
        (CANARY.encode() + b"\xff", "is not text"),
        (CANARY.encode() * LONGEST, "is too large for a secret"),
        (b"\n", "is empty"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_without_being_repeated(tmp_path: Path, content: bytes, said: str):
    """A private key or a whole document by mistake would end in the log."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        resolve(f"file:{path}", {})
    assert str(caught.value) == f"{path} {said}"
    assert "canary" not in str(caught.value)


def test_an_endless_file_is_not_read_to_its_end():
    """/dev/zero instead of a key."""
    with pytest.raises(SecretError, match="too large"):
        resolve("file:/dev/zero", {})


@given(st.text(max_size=20))
@settings(max_examples=200)
def test_every_text_is_a_reference_a_literal_or_a_mistake(text: str):
    """And a mistake never repeats it, as it may be the secret."""
    try:
        reference = parse(text)
    except SecretError as error:
        mistake = str(error)
    else:
        assert reference.kind != "literal" or reference.target == text.strip()
        return
    word = '"(credential|env|file):"'
    assert re.fullmatch(f'is empty; write .*|must begin with {word}|needs [^"]* after {word}', mistake), (
        "our words alone"
    )
