"""Where the configuration and the data are."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from gateway.errors import Misconfigured
from gateway.locate import DEFAULT_CONFIG, DEFAULT_DATA, LARGEST, data_dir, find_config, read_text


def test_the_option_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch):
    """-c, $METER_GATEWAY_CONFIG, /etc."""
    monkeypatch.setenv("METER_GATEWAY_CONFIG", "/from/environment.toml")
    assert find_config("/from/option.toml") == Path("/from/option.toml")
    assert find_config(None) == Path("/from/environment.toml")
    monkeypatch.setenv("METER_GATEWAY_CONFIG", "")
    assert find_config(None) == DEFAULT_CONFIG


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_file_from_windows_reads_like_any_other(tmp_path: Path, before: bytes, end: bytes):
    """A byte order mark and its line ends are nobody's mistake, for `status` as for `check`."""
    path = tmp_path / "config.toml"
    path.write_bytes(before + b"[gateway]" + end + b'data_dir = "/data"' + end)
    assert read_text(path) == '[gateway]\ndata_dir = "/data"\n'
    assert data_dir(path) == Path("/data")


@pytest.mark.parametrize("text", ["", "[gateway]\n", "gateway = 1\n", "[gateway]\ndata_dir = 5\n"])
def test_without_a_data_dir_it_is_the_default(tmp_path: Path, text: str):
    """What is wrong with the rest is for `check` to say."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert data_dir(path) == DEFAULT_DATA


def test_a_missing_file_a_directory_and_a_null_byte_say_what_to_do(tmp_path: Path):
    """Each in one sentence with the path."""
    for path, said in [
        (tmp_path / "no.toml", "cannot be read: No such file or directory; write the path of a file that is there"),
        (tmp_path, "cannot be read: Is a directory; write the path of a file"),
        (Path("a\0b"), "is not the path of a file"),
    ]:
        with pytest.raises(Misconfigured) as caught:
            read_text(path)
        assert str(caught.value) == f"{path}: {said}"


@pytest.mark.skipif(DEFAULT_CONFIG.exists(), reason="this machine has a configuration")
def test_who_has_no_configuration_yet_is_told_how_to_begin():
    """At the usual place, which nobody has typed."""
    with pytest.raises(Misconfigured, match="say which with -c FILE, or begin with what meter-gateway scan URL prints"):
        read_text(DEFAULT_CONFIG)


def test_a_pipe_is_read_and_one_that_nobody_feeds_is_not_waited_for(tmp_path: Path):
    """`check -c <(envsubst < template)` works; a FIFO by a slip of the hand stops no command."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(Misconfigured) as caught:
        read_text(fifo)
    assert str(caught.value) == f"{fifo}: is a pipe that nothing came out of; write the path of a file"
    out, into = os.pipe()
    os.write(into, b"[gateway]\n")
    os.close(into)
    assert read_text(Path(f"/dev/fd/{out}")) == "[gateway]\n"
    os.close(out)


def test_a_pipe_whose_writer_takes_its_time_is_read_to_its_end():
    """Whoever has it open is waited for."""
    out, into = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_text, Path(f"/dev/fd/{out}"))
        for part in (b"[gateway]\n", b'name = "x"\n'):
            assert not wait([reading], timeout=0.02).done
            os.write(into, part)
        os.close(into)
        assert reading.result(30) == '[gateway]\nname = "x"\n'
    os.close(out)


def test_text_that_is_not_utf8_has_a_line(tmp_path: Path):
    """The line of the first byte that no UTF-8 text has."""
    path = tmp_path / "config.toml"
    path.write_bytes(b'[gateway]\nname = "K\xe4lte"\n')
    with pytest.raises(Misconfigured, match=rf"^{path}:2: is not UTF-8 text; save it as UTF-8$"):
        data_dir(path)


def test_an_endless_file_is_not_read_to_its_end():
    """/dev/zero by a slip of the hand."""
    with pytest.raises(Misconfigured, match=f"more than {LARGEST // 2**20} MiB"):
        read_text(Path("/dev/zero"))


@pytest.mark.parametrize("text", ["a = [\n", "a = " + "[" * 100_000, "a = " + "9" * 5000, "[a]\n[a]\n"])
def test_what_is_not_toml_is_sent_to_check(tmp_path: Path, text: str):
    """The words of the parser may hold anything that stands in the file; `check` knows what may be shown."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured) as caught:
        data_dir(path)
    assert str(caught.value) == f"{path}: is not TOML; run `meter-gateway check -c {path}`"
    assert caught.value.code == 78
