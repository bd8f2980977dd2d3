"""The specification of counters and their hours, as slow and plain as can be: exact fractions, the whole history at hand.

Written from DESIGN 5 and reliability 3.3, not from the product: it looks ahead in the history where the product keeps
state, keeps the register and the offset apart, and rounds only at the very end. Only for counters with `max_rate`.
"""

from __future__ import annotations

from fractions import Fraction

HOUR = 3_600_000
TEN_MINUTES = 600_000
FIFTEEN_OVER_TEN = Fraction(3, 2)


class Meter:
    """What is known of the counter; all in micro and milliseconds."""

    def __init__(self, rate, resolution, rollover, reset, pace, gap=None, hold=0):
        self.rate, self.noise, self.rollover, self.reset, self.pace = rate, 2 * resolution, rollover, reset, pace
        self.gap, self.hold = gap, hold

    def silent(self, left, right):
        """Whether between two readings nothing was said for longer than the source is allowed to be silent."""
        return right[0] - left[0] > max(self.hold, FIFTEEN_OVER_TEN * self.pace)

    def fits(self, reading, value, since):
        """Whether a reading may be the register's next value: not below it, not faster than the rate, noise apart."""
        at, now = reading
        return now - value >= -self.noise and self.may_rise(now - value, at, since)

    def may_rise(self, by, at, since):
        """Whether the rate allows the register to have risen by so much."""
        return by <= Fraction(self.rate * (at - since), HOUR).__floor__() + self.noise

    def levels_in(self, readings):
        """Every (begin, end) of consistent readings that would make a new level, the earliest first."""
        begin = 0
        for index in range(len(readings)):
            if index and not self._goes_on(readings[begin:index], readings[index]):
                begin = index
            if index - begin >= 2 and readings[index][0] - readings[begin][0] >= TEN_MINUTES:
                yield begin, index

    def _goes_on(self, run, reading):
        """Whether a reading continues a run; what counts is the highest value so far, and since when it was reached."""
        stands = max(value for _, value in run)
        since = next(at for at, value in run if value == stands)
        return self.fits(reading, stands, since)


def believed(meter, history):
    """[(instant, total)] of the readings that count, and the spans in which energy may be lost."""
    good, lost = [], []
    left = None  # the register before a fall: (value, since, offset, the new level's first value)
    value, since, offset = history[0][1], history[0][0], 0
    index = 0

    def take(reading):
        nonlocal value, since, left
        at, now = reading
        if now > value:
            value, since = now, at
            if left and now - left[3] > meter.noise:
                left = None
        good.append((at, max([value + offset, *(total for _, total in good[-1:])])))  # never taken back

    while index < len(history):
        reading = history[index]
        if meter.fits(reading, value, since):
            take(reading)
            index += 1
            continue
        if left and meter.fits(reading, left[0], left[1]):
            value, since, offset, _ = left
            left = None
            take(reading)
            index += 1
            continue
        back = next(
            (n for n in range(index, len(history)) if is_back(meter, history[n], value, since, left)), len(history)
        )
        opened = -(-good[0][0] // HOUR) * HOUR <= good[-1][0]
        levels = meter.levels_in(history[index:back])
        found = next((level for level in levels if not opened or history[index + level[0]][1] < value), None)
        if found:
            begin, end = index + found[0], index + found[1]
            first = history[begin]
            if not opened:
                good, left, offset = [], None, 0
            else:
                turn = None if meter.rollover is None else first[1] + meter.rollover - value
                turned = turn is not None and turn >= 0 and meter.may_rise(turn, first[0], since)
                if not turned:
                    lost.append((good[-1][0], first[0]))
                left = None if turned else (value, since, offset, first[1])
                if turned:
                    offset += meter.rollover
                elif meter.reset == "zero" and meter.may_rise(first[1], first[0], since):
                    offset += value
                else:
                    offset += value - first[1]
            value, since = first[1], first[0]
            for each in history[begin : end + 1]:
                take(each)
            index = end + 1
        else:
            index = back  # whatever lies before is a glitch, or waits for a person
    return good, lost


def is_back(meter, reading, value, since, left):
    return meter.fits(reading, value, since) or bool(left and meter.fits(reading, left[0], left[1]))


def hours(meter, history):
    """{hour: (micro, quality)} of every hour that can be closed."""
    good, lost = believed(meter, history)
    first, last = -(-good[0][0] // HOUR), good[-1][0] // HOUR
    edges = {edge: boundary(meter, good, edge * HOUR) for edge in range(first, last + 1)}
    order = ["measured", "interpolated", "estimated"]
    found = {}
    for edge in range(first, last):
        (low, low_quality), (high, high_quality) = edges[edge], edges[edge + 1]
        doubt = any(begin < (edge + 1) * HOUR and end > edge * HOUR for begin, end in lost)
        quality = max(low_quality, high_quality, "estimated" if doubt else "measured", key=order.index)
        found[edge] = (0, "missing") if in_a_hole(meter, good, edge) else (high - low, quality)
    return found


def in_a_hole(meter, good, hour):
    """Whether nothing is known of an hour, and nothing is to be guessed."""
    begin, end = hour * HOUR, (hour + 1) * HOUR
    left, right = max(each for each in good if each[0] <= begin), min(each for each in good if each[0] >= end)
    heard = any(begin < at < end for at, _ in good) or (left[0], right[0]) == (begin, end)
    return meter.gap == "hole" and not heard and meter.silent(left, right)


def boundary(meter, good, at):
    """The register's total at an instant: what it says there, or the line between its neighbours; rounded once."""
    left = max((sample for sample in good if sample[0] <= at), default=None)
    right = min(sample for sample in good if sample[0] >= at)
    if right[0] == at:
        return right[1], "measured"
    if right[0] - left[0] <= meter.hold:
        return left[1], "measured"
    if meter.silent(left, right) and meter.gap == "arrival":
        return left[1], "estimated"
    line = Fraction(left[1]) + Fraction(right[1] - left[1]) * Fraction(at - left[0], right[0] - left[0])
    value = (line + Fraction(1, 2)).__floor__()
    if meter.silent(left, right):
        return value, "estimated"
    return value, "measured" if min(at - left[0], right[0] - at) <= 2000 else "interpolated"
