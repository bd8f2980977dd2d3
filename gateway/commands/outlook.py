"""How long a scan still takes: the rest of the search, and asking those who were found what they are. Pure."""

from __future__ import annotations

USUAL_REQUESTS = (
    60  # of one examination: from 52, where everything is refused, to about 80, where much has to be looked up
)
USUAL_REQUEST = 0.1  # s, until somebody has answered


class Outlook:
    """Told how long things took, it says how long the others will."""

    def __init__(self, *, looks: bool) -> None:
        """`looks`: whether devices are asked what they are once all are found."""
        self._looks = looks
        self._answered: list[float] = []  # s of each request that found somebody
        self._looked: list[float] = []  # s of each examination

    def answered(self, seconds: float) -> None:
        """A request was answered, with the silence before it."""
        self._answered.append(seconds)

    def looked(self, seconds: float) -> None:
        """A device was asked everything."""
        self._looked.append(seconds)

    def of_looks(self, devices: int) -> float:
        """Seconds for asking so many devices what they are."""
        if not (self._looks and devices):
            return 0.0
        return devices * (_mean(self._looked) if self._looked else USUAL_REQUESTS * self._request())

    def of_this_look(self, asked: int, spent: float) -> float:
        """Seconds for the rest of an examination in which so much was asked."""
        return max(USUAL_REQUESTS - asked, 0) * (spent / asked if asked else self._request())

    def _request(self) -> float:
        return _mean(self._answered) if self._answered else USUAL_REQUEST


def _mean(seconds: list[float]) -> float:
    return sum(seconds) / len(seconds)
