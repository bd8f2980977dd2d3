"""What `read mqtt://…` refuses before it opens anything, and a broker that is not there."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mqtt://192.0.2.1/topic"], "must end after the port"),
        (["mqtt://192.0.2.1", "--topic", "a/#/b"], 'must have "#" only alone'),
        (["mqtt://192.0.2.1", "--ca-file", "/nowhere"], "--ca-file is of use only with mqtts://"),
        (["mqtt://192.0.2.1", "--register", "5"], "--register goes with a URL such as tcp://"),
        (["--topic", "a/b"], "--topic goes with a URL such as mqtt://"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_opened(meter_gateway, words: list[str], said: str):
    """Wrong usage: exit 2 and what is allowed."""
    done = meter_gateway("read", *words)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mqtt://192.0.2.1", "--username", "u", "--password", "hunter2-is-secret"], "list of processes"),
        (["mqtt://u:hunter2-is-secret@192.0.2.1"], "here: --username and --password"),
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(meter_gateway, words: list[str], said: str):
    """Everybody on the machine can list the processes; a reference says where it is."""
    done = meter_gateway("read", *words)
    assert done.code == 2
    assert said in done.err
    assert "hunter2" not in done.err


def test_a_broker_that_is_not_there_is_one_line(meter_gateway):
    """Without waiting for it."""
    done = meter_gateway("read", "mqtt://127.0.0.1:1")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "127.0.0.1:1: the connection was refused" in done.err
