"""What the operator is told of readings and gaps, and what stays visible in `rejected`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from buffer.counter import HELD, Judged, Verdict
from buffer.model import HOUR_MS, from_micro, from_ms
from buffer.readings import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buffer.frozen import Sample
    from buffer.late import Late
    from buffer.placing import Placed, Stranded

LONG_GAP_MS = 6 * HOUR_MS  # reliability 3.3: a person should know of a longer one
NAMES_SHOWN = 5
DAY_MS = 24 * HOUR_MS
LEVELS = {"glitch": "warning", "rollover": "info", "reset": "warning", "replaced": "error", "returned": "warning"}


class Told(NamedTuple):
    """One event."""

    level: str
    text: str


def verdict_told(verdict: Verdict, meter: str) -> Told:
    """A verdict as a sentence with its numbers, and what to do where a person is needed."""
    first = verdict.samples[0]
    fell = f"the register fell from {_shown(verdict.before)} to {_shown(first)}"
    text = {
        "glitch": f"{_counted(verdict.samples)} did not fit to {_shown(verdict.before)} and to what came after: dropped",
        "rollover": f"{fell}: it began again at zero as configured",
        "reset": f"{fell} and counts from zero: what it counts since is booked, what it had not shown before is lost",
        "replaced": f"{fell} and goes on from there: taken for another meter, nothing is booked across it. When you know both"
        f" readings: meter-gateway meter replaced {meter} --at TIME --old-final VALUE --new-initial VALUE",
        "returned": f"the register is back at {_shown(first)}, where it was before it fell to {_value(verdict.before[1])}",
    }
    return Told(LEVELS[verdict.kind], text[verdict.kind])


def doubt_told(judged: Judged, meter: str) -> Told | None:
    """What is suspect at the moment; None when nothing is."""
    if not judged.suspects:
        return None
    newest = _shown(judged.suspects[-1])
    if judged.objection == HELD:
        words = f"{HELD}: {newest}. Its hours stay open until you raise max_rate, or say: meter-gateway meter replaced {meter}"
        return Told("error", f"{words} --at TIME --old-final VALUE --new-initial VALUE")
    return Told("warning", f"{judged.objection}: {newest} adds nothing until later readings confirm it")


def dropped(verdict: Verdict, connection: str, meter: str) -> list[Rejection]:
    """The readings that a verdict took for a glitch."""
    if verdict.kind != "glitch":
        return []
    near = f"the counter stood at {_shown(verdict.before)}"
    return [Rejection(at, connection, meter, "glitch", near, _value(value)) for at, value in verdict.samples]


def suspected(suspects: Iterable[Sample], objection: str, connection: str, meter: str) -> list[Rejection]:
    """Readings that nobody believes yet: they stay visible, whatever becomes of them."""
    detail = "adds nothing until later readings tell"
    return [Rejection(at, connection, meter, objection, detail, _value(value)) for at, value in suspects]


def gap_told(left: Sample, right: Sample, gap: str | None, parked: int) -> Told:
    """A gap whose hours are closed, and where its energy went."""
    silent = f"no reading from {_time(left)} to {_time(right)} ({(right[0] - left[0]) / HOUR_MS:.1f} h)"
    rose = _value(right[1] - left[1])
    went = {
        "arrival": f"the {rose} used in it are in the hour of its end",
        "hole": f"of the {rose} used in it {_value(parked)} are parked: the hours within it are missing",
    }
    return Told("warning", f"{silent}: {went.get(gap or '', f'the {rose} used in it are spread over its hours')}")


def question_told(gap: tuple[Sample, Sample], meter: str) -> Told:
    """A gap too long to be spread without asking."""
    left, right = gap
    silent = f"no reading from {_time(left)} to {_time(right)} ({(right[0] - left[0]) / DAY_MS:.0f} days)"
    asked = 'say where it belongs: set gap to "spread", "arrival" or "hole", or: meter-gateway meter estimate'
    words = f"{silent}, in which {_value(right[1] - left[1])} were used. Its hours stay open until you {asked} {meter}"
    return Told("error", f"{words} --from TIME --to TIME --total VALUE")


def late_told(late: Late) -> Told:
    """Energy that came after its hour was closed, and where it went."""
    hours = f"the hours from {_edge(late.first)} to {_edge(late.last + 1)}"
    came = f"energy came after {hours} had been closed"
    further = "More of it within an hour is not told again"
    if late.parked:
        away = f"{_value(late.parked)} are parked until you decide, {_value(late.adjusted)} were booked as adjustments"
        return Told("error", f"{came}: {away}. {further}")
    return Told("warning", f"{came}: {_value(late.adjusted)} were booked as adjustments. {further}")


def _edge(hour: int) -> str:
    return f"{from_ms(hour * HOUR_MS):%Y-%m-%d %H:%M}Z"


def placed_told(placed: Placed, vouched: str) -> list[tuple[str, Told]]:
    """What became of the readings that waited for the clock: (subject, event)."""
    found = []
    if placed.stored:
        moved = f": {_at(placed.moved[0])} was {_at(placed.moved[1])}" if placed.moved else ""
        text = f"the clock is trusted now ({vouched}); {len(placed.stored)} readings were placed in time{moved}"
        found.append(("clock", Told("info", text)))
    counters = [each for each in placed.stranded if each.amount is None]
    if counters:
        found.append(("clock", _counters_dropped(counters)))
    found += [(each.name, _energy_stranded(each, each.amount)) for each in placed.stranded if each.amount is not None]
    return found


def _counters_dropped(stranded: Sequence[Stranded]) -> Told:
    names = sorted({each.name for each in stranded})
    shown = ", ".join(names[:NAMES_SHOWN]) + (" and others" if len(names) > NAMES_SHOWN else "")
    text = f"{sum(each.readings for each in stranded)} readings of {len(names)} counters ({shown}) came while the clock was"
    return Told("warning", f"{text} never set: dropped, the next reading of each carries the energy")


def _energy_stranded(stranded: Stranded, amount: int) -> Told:
    since = "" if stranded.after is None else f" after {_at(stranded.after)} and"
    came = f"{stranded.readings} readings came while the clock was never set,{since} before {_at(stranded.before)}"
    energy = f"their {_value(amount)} {stranded.unit}"
    if stranded.parked:
        return Told("error", f"{came}: nobody knows in which hours. {energy} are parked until you book them")
    hour = f"the hour from {_at(stranded.hour * HOUR_MS)}"
    return Told("info", f"{came}: {energy} are in {hour}" if amount else f"{came}: no energy in them")


def _counted(samples: tuple[Sample, ...]) -> str:
    if len(samples) == 1:
        return f"a reading of {_shown(samples[0])}"
    values = [value for _, value in samples]
    return (
        f"{len(samples)} readings between {_value(min(values))} and {_value(max(values))} from {_time(samples[0])} on"
    )


def _shown(sample: Sample) -> str:
    return f"{_value(sample[1])} ({_time(sample)})"


def _value(micro: int) -> str:
    return f"{from_micro(micro).normalize():f}"


def _time(sample: Sample) -> str:
    return _at(sample[0])


def _at(ms: int) -> str:
    return f"{from_ms(ms):%Y-%m-%d %H:%M:%S}Z"
