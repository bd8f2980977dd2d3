"""Meters that should have spoken and did not, and the likely cause. Pure.

Silence counts only while the broker is connected and the subscription confirmed: a connection that is down has its own
words. A broker does not say that reading a topic is forbidden, it grants the subscription and sends nothing; so whether
a meter was ever heard, and whether others are, is all there is to tell the causes apart. Messages may come and none be
this meter's, or have its number: that is silence, too, with words of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SILENT_AFTER = 3  # paces without a message
ALIVE_WITHIN = 1.5  # paces since the last message, for a meter that speaks as it should
LOOK_EVERY = 10.0  # s between two looks at all meters
FORBIDDEN = "A broker does not say that reading is forbidden"
NEVER = float("inf")


class Expected(NamedTuple):
    """A meter: where it speaks, how often (s), and what marks its messages there."""

    topic: str
    pace: float
    mark: str = "is a number"


class News(NamedTuple):
    """What became of a meter, or (`meter` is None) of all; `level` as for an event."""

    level: str
    meter: str | None
    text: str


class _Silence(NamedTuple):
    since: float
    text: str


class Staleness:
    """Who of one connection's meters is silent. All times are boottime in seconds."""

    def __init__(self, meters: Mapping[str, Expected]) -> None:
        """Nobody is silent yet."""
        self._meters = meters
        self._next_look = -NEVER
        self._patient_since = -NEVER
        self._all: _Silence | None = None
        self._all_told_at = -NEVER
        self._silent: dict[str, _Silence] = {}  # those that were told, by meter
        self._passed: Mapping[str, float] = {}
        self.due = NEVER  # when the next one may have to be told
        self.words: dict[str, str] = {}  # meter -> why it is silent, as an operator reads it

    @property
    def all_silent(self) -> str:
        """Why nothing at all comes; "" while something does."""
        return next(iter(self.words.values()), "") if self._all else ""

    def look(
        self,
        now: float,
        listening_since: float | None,
        heard: Mapping[str, float],
        refused: Collection[str],
        passed: Mapping[str, float] | None = None,
    ) -> list[News]:
        """What has changed. `listening_since`: the SUBACK of the open connection; `refused`: meters that got none.

        `heard`: the newest reading of each meter; `passed`: the newest message on its topic, whosesoever it was.
        """
        self._passed = heard if passed is None else passed
        if listening_since is None:
            self.due, self._next_look = NEVER, -NEVER
            return []
        if now < self._next_look and now < self.due:
            return []
        self._next_look = now + LOOK_EVERY
        news = self._heard_again(now, heard)
        wanted = [name for name in self._meters if name not in refused]
        since = {name: max(listening_since, self._patient_since, heard.get(name, -NEVER)) for name in wanted}
        limit = {name: since[name] + SILENT_AFTER * self._meters[name].pace for name in wanted}
        late = [name for name in wanted if name not in self._silent and now >= limit[name]]
        if late:
            news += self._tell(late, now, since, heard)
        self.due = min((limit[name] for name in wanted if name not in self._silent), default=NEVER)
        self._describe(now)
        return news

    def _heard_again(self, now: float, heard: Mapping[str, float]) -> list[News]:
        back = [name for name, silence in self._silent.items() if heard.get(name, -NEVER) > silence.since]
        if self._all and any(self._passed.get(name, -NEVER) > self._all_told_at for name in self._silent):
            news = [News("info", None, f"messages come again, after {_long(now - self._all.since)}")]
            self._all, self._patient_since = None, now  # the others get the time to follow
            self._silent.clear()
            return news
        return [
            News("info", name, f"heard again, after {_long(heard[name] - self._silent.pop(name).since)}")
            for name in back
        ]

    def _tell(
        self, late: Sequence[str], now: float, since: Mapping[str, float], heard: Mapping[str, float]
    ) -> list[News]:
        alive = [each for each in since if now - heard.get(each, -NEVER) <= ALIVE_WITHIN * self._meters[each].pace]
        undecided = [each for each in since if each not in heard and each not in late and each not in self._silent]
        passing = {
            each for each in since if now - self._passed.get(each, -NEVER) <= ALIVE_WITHIN * self._meters[each].pace
        }
        if alive or undecided or passing or len(since) == 1:
            others = ", while other meters of this broker are heard" if alive else ", though the broker answers"
            told = {}
            for name in late:
                ever = name in heard
                text = self._why_passed(name, ever=ever) if name in passing else self._why(name, others, ever=ever)
                told[name] = _Silence(since[name], text)
            self._silent |= told
            return [News("warning", name, silence.text) for name, silence in told.items()]
        text = _why_all(len(since), ever=any(name in heard for name in since))
        self._all, self._all_told_at = _Silence(max(since.values()), text), now
        self._silent = {name: _Silence(since[name], text) for name in since}
        return [News("warning", None, text)]

    def _describe(self, now: float) -> None:
        told = dict.fromkeys(self._silent, self._all) if self._all else self._silent
        self.words = {name: f"{each.text} (silent for {_long(now - each.since)})" for name, each in told.items()}

    def _why(self, name: str, others: str, *, ever: bool) -> str:
        topic, pace, _ = self._meters[name]
        what = f'nothing heard on "{topic}" for more than {_long(SILENT_AFTER * pace)}{others}'
        if ever:
            return f"{what}: is the device on and in its network, or was its topic changed?"
        return f"{what}: does the device publish under this topic, and may this user read it? {FORBIDDEN}"

    def _why_passed(self, name: str, *, ever: bool) -> str:
        topic, pace, mark = self._meters[name]
        what = f'messages come on "{topic}", but for more than {_long(SILENT_AFTER * pace)} none that {mark}'
        if ever:
            return f"{what}: does this device still send, and is it well?"
        return f"{what}: is that right? meter-gateway check --message FILE tries it on a stored message"


def _why_all(count: int, *, ever: bool) -> str:
    what = f"nothing heard from any of {count} meters, though the broker answers"
    if ever:
        return f"{what}: do the devices, or the bridge that publishes for them, still reach it?"
    return f"{what}: is it the right one, are the topics right, and may this user read them? {FORBIDDEN}"


def _long(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
