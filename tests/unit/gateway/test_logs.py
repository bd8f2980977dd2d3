"""Log lines for the journal and for a terminal."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator

import pytest

from gateway import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    for talker in logs._TALKERS:
        logging.getLogger(talker).setLevel(logging.NOTSET)


def lines(monkeypatch, tmp_path, *, journal: bool, verbose: bool = False) -> list[str]:
    with (tmp_path / "stderr").open("w+") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        here = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{here.st_dev}:{here.st_ino if journal else here.st_ino + 1}")
        logs.configure(verbose=verbose)
        log = logging.getLogger("gateway.test")
        log.debug("detail")
        log.info("started")
        log.warning("one\ntwo\x1b[31m")
        try:
            raise ValueError("boom")
        except ValueError:
            log.critical("died", exc_info=True)
        logging.getLogger("httpcore.http11").debug("send_request_headers Authorization: secret")
        logging.getLogger("pymodbus.logging").error("frame")
        stream.seek(0)
        return stream.read().splitlines()


def test_in_the_journal_each_line_has_its_priority_and_nothing_else_in_front(monkeypatch, tmp_path):
    found = lines(monkeypatch, tmp_path, journal=True)
    assert found[:2] == ["<6>started", "<4>one | two?[31m"]
    assert found[2].startswith("<2>died | Traceback")
    assert found[2].endswith("ValueError: boom")
    assert len(found) == 3


def test_elsewhere_each_line_has_its_time_and_level(monkeypatch, tmp_path):
    found = lines(monkeypatch, tmp_path, journal=False)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    started", found[0])
    assert len(found) == 3


def test_even_at_its_most_talkative_no_library_logs_what_may_hold_a_key(monkeypatch, tmp_path):
    found = lines(monkeypatch, tmp_path, journal=True, verbose=True)
    assert found[0] == "<7>detail"
    assert "secret" not in "".join(found)


def test_a_stream_without_a_file_is_not_the_journals(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not logs.is_journal()
