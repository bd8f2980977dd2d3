"""What strace recorded of a process, as events in their true order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

_LINE = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*)|(\+\+\+|---) .*)", re.DOTALL)
_KILLED = re.compile(
    r"\d+ +(\?\?\?\(|<\.\.\. \?\?\? resumed>).*"
)  # before strace saw which call it was, and before it ran
_UNFINISHED = " <unfinished ...>"
_RESULT = re.compile(r"(.*)\) += (-?\d+|\?)(.*)", re.DOTALL)
_WORD = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|(\d+|AT_FDCWD)<((?:->|[^<>])*)(?:<[^>]*>)?>(\(deleted\))?|([^,"<>]+)')


class Place(NamedTuple):
    """A file descriptor with what it stands for: a path, or an address such as TCP:[127.0.0.1:1->127.0.0.1:2]."""

    fd: int
    name: str
    deleted: bool = False


Argument = bytes | Place | str


@dataclass(slots=True)
class Call:
    """One system call. `result` is None where the process ended inside it; `data`: what it received, for receiving calls."""

    run: int  # which recorded process, from 0 on
    thread: int
    name: str
    arguments: list[Argument]
    result: int | None = None
    opened: Place | None = None

    @property
    def done(self) -> bool:
        """Whether it came to its end without an error."""
        return self.result is not None and self.result >= 0

    def place(self) -> Place:
        """The descriptor that it acts on."""
        first = self.arguments[0]
        assert isinstance(first, Place), self
        return first

    def data(self) -> bytes:
        """As many of its bytes as were taken."""
        found = next(each for each in self.arguments if isinstance(each, bytes))
        return found[: self.result] if self.result is not None else found

    def number(self, index: int) -> int:
        """An argument that is a number."""
        text = self.arguments[index]
        assert isinstance(text, str), self
        return int(text, 0)


class Event(NamedTuple):
    """A call begins or ends. Its bytes may leave, or reach the disk, from its beginning on; it has returned at its end."""

    when: Literal["begin", "end"]
    call: Call


def read(logs: Iterable[Path]) -> list[Event]:
    """The events of processes that ran one after the other."""
    return [event for run, log in enumerate(logs) for event in _events(run, log.read_text().splitlines())]


def _events(run: int, lines: Iterable[str]) -> Iterator[Event]:
    open_calls: dict[int, tuple[Call, str]] = {}
    for line in lines:
        if _KILLED.fullmatch(line):
            continue
        match = _LINE.fullmatch(line)
        assert match, f"not understood: {line[:300]}"
        thread = int(match[1])
        if match[6]:
            continue  # a signal, or the end of a thread: what it had begun has no result
        if match[2] and match[3].endswith(_UNFINISHED):
            begun = match[3].removesuffix(_UNFINISHED)
            call = Call(run, thread, match[2], _arguments(begun))
            open_calls[thread] = call, begun
            yield Event("begin", call)
        elif match[2]:
            call = Call(run, thread, match[2], [])
            _finish(call, match[3])
            yield Event("begin", call)
            yield Event("end", call)
        else:
            call, begun = open_calls.pop(thread)
            _finish(call, begun + match[5])
            yield Event("end", call)


def _finish(call: Call, text: str) -> None:
    match = _RESULT.fullmatch(text)
    assert match, f"no result: {text[:300]}"
    call.arguments = _arguments(match[1])
    call.result = None if match[2] == "?" else int(match[2])
    if call.name in {"open", "openat", "creat"} and call.done:
        place = _arguments(match[2] + match[3])[0]
        call.opened = place if isinstance(place, Place) else None


def _arguments(text: str) -> list[Argument]:
    return [_argument(match) for match in _WORD.finditer(text) if match[0].strip()]


def _argument(match: re.Match[str]) -> Argument:
    if match[1] is not None:
        return bytes.fromhex(match[1].replace("\\x", ""))
    if match[2] is not None:
        name = match[3]
        if name.startswith("\\x"):
            name = bytes.fromhex(name.replace("\\x", "")).decode()
        return Place(-1 if match[2] == "AT_FDCWD" else int(match[2]), name, match[4] is not None)
    return match[0].strip()
