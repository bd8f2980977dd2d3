"""A broker that sends little ahead costs a card twice as much: said once, where it is so."""

from __future__ import annotations

import pytest

from drivers.mqtt.wear import WATCHED, Wear


def told(messages: int, every: float, *, limited: bool = True, connections: int = 1) -> list[str]:
    """What is said in two hours of batches of so many messages, per connection."""
    wear, texts = Wear(20), []
    for number in range(connections):
        begun = number * 10_000.0
        wear.begin(begun, limited=limited)
        for step in range(round(2 * WATCHED / every)):
            texts.append(wear.stored(begun + step * every, messages))
    return [text for text in texts if text]


def test_commits_of_the_usual_window_are_told_once_with_what_they_write_and_the_remedy():
    """200 meters at 60 s."""
    (text,) = told(20, every=6.0, connections=3)
    assert (
        "every 20 are a commit: some 173 MB are written a day. max_inflight_messages 1000 in mosquitto.conf halves that"
        in text
    )


@pytest.mark.parametrize(
    ("messages", "every", "limited"),
    [(20, 60.0, True), (83, 25.0, True), (200, 6.0, True), (20, 6.0, False)],
    ids=["few meters", "a wider window", "many meters", "MQTT 5"],
)
def test_where_little_is_written_nothing_is_said(messages: int, every: float, limited: bool):
    """A hint that does not apply is noise."""
    assert told(messages, every, limited=limited) == []
