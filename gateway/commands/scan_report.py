"""What a scan found: for people, as JSON, and as configuration to paste."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from drivers.modbus import profile as profiles
from drivers.modbus.scan import TAGGED, in_words
from gateway import terminal
from gateway.faults import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drivers.modbus.examine import Suggestion, Value
    from drivers.modbus.scan import Found, Line, Search
    from gateway.commands.scanning import Device, Wire

SHOWN = 3  # suggestions with their reasons; further ones by name
NEAR = 5  # points of score within which two profiles are as likely
IN_ENERKEY = {"Wh": "kWh", "kWh": "kWh", "MWh": "kWh", "GJ": "kWh", "l": "m3"}  # the unit that a meter mostly has there


class Report:
    """One scan's result."""

    def __init__(
        self, url: str, wire: Wire, search: Search, devices: Sequence[Device], *, complete: bool, looks: bool
    ) -> None:
        """`devices` may be fewer than were found: some were not looked at, or none of them without `looks`."""
        self._url = url
        self._wire = wire
        self._search = search
        self._known = {(device.found.line, device.found.device): device for device in devices}
        self._complete = complete
        self._looks = looks

    def document(self) -> dict[str, Any]:
        """All of it, as JSON can say it."""
        search = self._search
        return {
            "url": self._url,
            "complete": self._complete,
            "took_s": round(self._wire.elapsed, 1),
            "silent": self._silent(),
            "not_asked": self._rest,
            "hung_up": self._wire.hung_up,
            "every_id_answers": search.everybody,
            "failing": [_where(*each) for each in search.failing],
            "garbled": [_where(*each) for each in search.garbled],
            "local_echo": self._wire.local_echo,
            "unusable": [in_words(line) for line in search.unusable],
            "devices": [self._device(found) for found in search.found],
            "config": self.config(),
        }

    def show(self, *, took: str) -> None:
        """For people."""
        search = self._search
        many = f"{counted(len(search.found), 'device')} found" if search.found else "nobody answered"
        stopped = "" if self._complete else "stopped before the end: "
        terminal.show()
        silent = f"{counted(self._silent(), 'id')} silent"
        said = f"{self._url}: {stopped}{many}, {silent}, in {took}"
        terminal.show(terminal.coloured(terminal.wrapped(said, "  "), "bold"))
        for line in (*self._remarks(), *self._unasked()):
            terminal.show(terminal.wrapped(line, "  "))
        for each in search.found[:1] if search.everybody else search.found:
            if device := self._known.get((each.line, each.device)):
                _show_device(device)
        if config := self.config():
            terminal.show("\nTo read them, paste this into a configuration:\n")
            terminal.show(config)

    def _silent(self) -> int:
        """Ids that did not answer at any of the settings."""
        return len({device for _, device in self._search.silent} - {found.device for found in self._search.found})

    def config(self) -> str:
        """TOML of the connection, and of a meter for every device whose profile is known well enough."""
        known = [device for device in self._known.values() if device.suggestions]
        if not known:
            return ""
        line = known[0].found.line  # a connection has one speed
        blocks = [self._block(device) for device in known if device.found.line == line]
        head = f'[connections.main]\ndriver = "modbus"\nurl = "{self._wire.url(line)}"\n'
        head += "local_echo = true\n" if self._wire.local_echo else ""
        return "\n".join([head, *blocks])

    def _remarks(self) -> Iterator[str]:
        search = self._search
        if search.everybody:
            yield (
                "Every id answers: this device does not look at the id, or the gateway answers for all. One is shown; ask for "
                "single ids with --ids."
            )
        if search.failing:
            ids = _some([device for _, device in search.failing])
            yield f'{ids}: "device failure" (0x04), which some gateways say for ids that are not there'
        if search.garbled:
            ids = _some([device for _, device in search.garbled])
            yield f"{ids}: something answers that is no answer: two devices with one id, noise, or another speed"
        if len(lines := list(dict.fromkeys(each.line for each in search.found))) > 1:
            where = "; ".join(
                f"{in_words(line)}: {_some([each.device for each in search.found if each.line == line])}"
                for line in lines
            )
            yield f"{where}. A line has one speed and parity: set all its devices alike. What is to be pasted is for one of them"
        if self._wire.local_echo:
            yield "The adapter hears its own requests: local_echo = true"
        if search.unusable:
            yield f"not tried, because the port cannot have it: {', '.join(filter(None, map(in_words, search.unusable)))}"
        if not (search.found or search.failing or search.garbled or self._rest):
            yield self._advice()

    def _unasked(self) -> Iterator[str]:
        """What was left out, and how to go on from here."""
        if self._rest:
            yield f"{self._rest} of {self._search.total} questions were not asked; --ids 1-10 is quicker"
        found = self._search.found[:1] if self._search.everybody else self._search.found
        unknown = [each.device for each in found if (each.line, each.device) not in self._known]
        if unknown and self._looks and not self._complete:
            yield f"what {_some(unknown)} may be was not asked: scan with --ids {','.join(map(str, unknown))}"

    @property
    def _rest(self) -> int:
        """Requests of a search that was stopped."""
        return 0 if self._complete else self._search.left

    def _advice(self) -> str:
        if self._wire.address.serial is not None:
            other = (
                "RTU (rtu:// instead of ascii://)" if self._wire.address.ascii else "ASCII (ascii:// instead of rtu://)"
            )
            return (
                f"{self._narrow()}Try A and B (+ and -) the other way round; look at power, termination and the adapter; "
                f"does the line speak {other}? --thorough waits longer and asks for more registers"
            )
        if self._wire.hung_up == self._search.asked:
            return (
                "Each question was answered by closing the connection: another program has the gateway's only place, or what "
                "listens at this port is not Modbus"
            )
        other = (
            "RTU frames (rtu+tcp:// instead of tcp://)"
            if self._wire.address.scheme in TAGGED
            else "Modbus TCP (tcp:// instead of rtu+tcp://)"
        )
        return (
            "The connection works, nobody behind it answers: the gateway's own speed and parity, the wiring behind it, or ids "
            "outside the range (--ids 0,255 is the gateway itself); "
            f"does it speak {other}? --thorough waits longer and asks for more registers"
        )

    def _narrow(self) -> str:
        """Where the operator left one setting to try."""
        tried = {line for line, _ in self._search.silent}
        if len(tried) != 1 or self._search.unusable or not self._complete:
            return ""
        return f"Only {in_words(tried.pop())} was tried, as was said: leave that out, and the usual settings are. "

    def _device(self, found: Found) -> dict[str, Any]:
        device = self._known.get((found.line, found.device))
        facts = {
            **_where(found.line, found.device),
            "url": self._wire.url(found.line),
            "answer": found.answer,
            "took_ms": None if found.took is None else round(found.took * 1000, 1),
        }
        if device is None:
            return facts | {"suggestions": None}
        suggestions = [
            {key: value for key, value in each._asdict().items() if key != "register"}
            | {
                "read_as": _register(each),
                "values": [value._asdict() | {"value": str(value.value)} for value in each.values],
            }
            for each in device.suggestions
        ]
        return facts | {
            "sunspec": list(device.models),
            "texts": list(device.texts),
            "cut": device.cut,
            "suggestions": suggestions,
        }

    def _block(self, device: Device) -> str:
        near = _near(device.suggestions)
        best = _safest(near)
        point = profiles.load(best.profile).points[best.point]
        unit = IN_ENERKEY.get(point.unit or "kWh", point.unit)
        source = (
            f'connection = "main", device = {device.found.device}, profile = "{best.profile}", point = "{best.point}"'
        )
        lines = ["[[meters]]", f'name = "meter-{device.found.device}"', 'push = "off"', f'unit = "{unit}"']
        if point.max_rate is None:
            lines.append(
                f"# max_rate = 100   # {unit} per hour: what its fuse or size allows; nothing faster is believed"
            )
        if point.unit is None:
            lines.append("# its own unit is set in the meter: look at the display, and correct the unit in source")
            source += ', unit = "kWh"'
        if others := [_instead(each, best) for each in near if each != best]:
            lines.append(f"# or profile {', '.join(others)}: look at its type plate")
        return "\n".join([*lines, f"source = {{ {source} }}"]) + "\n"


def _safest(near: Sequence[Suggestion]) -> Suggestion:
    """Of those that read the same value alike: one that is well known, and that believes the most.

    The rating of a smaller member of a family would hold back what a larger one has really counted.
    """
    alike = [each for each in near if each.register == near[0].register]

    def worth(suggestion: Suggestion) -> tuple[bool, Decimal]:
        profile = profiles.load(suggestion.profile)
        rate = profile.points[suggestion.point].max_rate
        return profile.status == "stable", Decimal("Infinity") if rate is None else rate

    return max(alike, key=worth)


def _instead(other: Suggestion, best: Suggestion) -> str:
    return other.profile if other.point == best.point else f'{other.profile} with point = "{other.point}"'


def _show_device(device: Device) -> None:
    found = device.found
    took = "" if found.took is None else f" ({found.took * 1000:.0f} ms)"
    setting = f" at {in_words(found.line)}" if found.line else ""
    terminal.show()
    terminal.show(terminal.coloured(f"device {found.device}{setting}{took}", "bold"))
    for line in _said(device):
        terminal.show(terminal.wrapped(f"  {line}", "    "))
    for suggestion in device.suggestions[:SHOWN]:
        _show_suggestion(suggestion)
    _show_others(device)


def _show_suggestion(suggestion: Suggestion) -> None:
    said = f"  {suggestion.profile}, score {suggestion.score}: {'; '.join(suggestion.reasons)}"
    terminal.show(terminal.wrapped(said, "    "))
    if suggestion.values:
        terminal.show(
            terminal.coloured(terminal.wrapped(f"    {', '.join(map(_value, suggestion.values))}", "      "), "dim")
        )


def _show_others(device: Device) -> None:
    suggestions = device.suggestions
    if not suggestions:
        why = "it fell silent before everything was asked" if device.cut else "none fits what it says"
        terminal.show(terminal.wrapped(f"  no profile: {why}; read it by the registers in its manual", "    "))
        return
    worth = min(suggestions[0].score - NEAR, suggestions[0].score // 2)
    further = [each.profile for each in suggestions[SHOWN:] if each.score >= worth]
    less = len(suggestions) - len(suggestions[:SHOWN]) - len(further)
    told = [", ".join(further)] if further else []
    if told or less:
        told += [f"{less} less likely (--json)"] if less else []
        terminal.show(terminal.wrapped(f"  also possible: {', and '.join(told)}", "    "))
    if len(alike := _near(suggestions)) > 1:
        terminal.show(terminal.wrapped(f"  {difference(alike, of=len(suggestions))}", "    "))


def _near(suggestions: Sequence[Suggestion]) -> list[Suggestion]:
    """The best, and those that are about as likely."""
    return [each for each in suggestions if each.score >= suggestions[0].score - NEAR]


def difference(alike: Sequence[Suggestion], *, of: int) -> str:
    """What tells profiles apart that fit alike; there are so many suggestions (`of`) in all."""
    first, *others = alike
    same = [each.profile for each in others if each.register == first.register]
    if len(same) == len(others):
        both = "Both" if of == 2 else f"{first.profile} and {others[0].profile}"
        many = both if len(alike) == 2 else f"All {len(alike)}"
        names = {each.point for each in alike}
        what = first.point if len(names) == 1 else _register(first)
        return f"{many} read {what} in the same way: any of them will do for it; the type plate says which"
    other = next(each for each in others if each.profile not in same)
    return (
        f"{first.profile} and {other.profile} read different registers ({_register(first)}; {_register(other)}): compare "
        "the values with the display, or look at the type plate"
    )


def _register(suggestion: Suggestion) -> str:
    return suggestion.register.partition(", ")[2]


def _said(device: Device) -> Iterator[str]:
    if device.texts:
        yield f"it says of itself: {', '.join(device.texts)}"
    if device.models:
        yield f"SunSpec models {', '.join(map(str, device.models))}"


def _value(value: Value) -> str:
    return f"{value.point} {value.value:f}{f' {value.unit}' if value.unit else ''}"


def _where(line: Line, device: int) -> dict[str, Any]:
    return {"device": device, "line": in_words(line)}


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:10])) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
    return f"id {shown}" if len(ids) == 1 else f"ids {shown}"
