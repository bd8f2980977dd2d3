"""Ctrl-C and SIGTERM at any instant, also while the main thread begins to wait for them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from threading import Event, Thread, get_ident

import pytest

from gateway.commands.common import until_interrupted, wait_for
from gateway.commands.run import _stop_on_signals
from tests.waiting import SOON

pytestmark = pytest.mark.timeout(SOON)  # s: what is tested would last for ever


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_is_interrupted_also_while_it_begins_to_wait_for_that(number: signal.Signals):
    """The main thread has the event's lock then, and so the handler cannot have it."""
    with until_interrupted() as interrupted:
        with interrupted._cond:  # type: ignore[attr-defined]
            signal.raise_signal(number)
        assert interrupted.wait(SOON)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_service_is_stopped_also_while_it_begins_to_wait_for_that(number: signal.Signals):
    """Else systemd would have to kill it."""
    stopping = Event()
    _stop_on_signals(stopping)
    with stopping._cond:  # type: ignore[attr-defined]
        signal.raise_signal(number)
    assert stopping.wait(SOON)


def test_a_signal_that_another_thread_is_given_is_noticed():
    """The system may give it to any."""

    def be_given() -> None:
        Event().wait(0.2)  # the main thread waits meanwhile
        signal.pthread_kill(get_ident(), signal.SIGTERM)

    with until_interrupted() as interrupted:
        other = Thread(target=be_given)
        other.start()
        wait_for(interrupted)
        other.join()
