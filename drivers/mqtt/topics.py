"""Topic filters (MQTT 5.0, section 4.7): what is a filter, what it matches, which ones are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 65_535  # bytes; section 1.5.4


def filter_fault(text: str) -> str:
    """What is wrong with a topic filter, as the end of a sentence that begins with the key; "" when nothing is."""
    levels = text.split("/")
    if not text:
        return "must not be empty"
    if "\0" in text or len(text.encode("utf-8", "surrogatepass")) > LONGEST or not _encodable(text):
        return "must be plain text of at most 65535 bytes"
    if levels[0] == "$share":
        return "must not be a shared subscription: it would give some of a meter's messages to another client"
    if "#" in levels[:-1] or any("#" in level and level != "#" for level in levels):
        return 'must have "#" only alone and as the last level, as in "site/#"'
    if any("+" in level and level != "+" for level in levels):
        return 'must have "+" only as a whole level, as in "site/+/energy"'
    return ""


def covers(wide: str, narrow: str) -> bool:
    """Whether everything that `narrow` (a topic or a filter) stands for is matched by the filter `wide`."""
    if narrow.startswith("$") and wide[0] in "+#":
        return False  # section 4.7.2: wildcards at the start do not match $SYS and its like
    wide_levels, narrow_levels = wide.split("/"), narrow.split("/")
    for position, level in enumerate(wide_levels):
        if level == "#":
            return True
        if position >= len(narrow_levels) or narrow_levels[position] == "#":
            return False
        if level not in {"+", narrow_levels[position]}:
            return False
    return len(wide_levels) == len(narrow_levels)


def minimal(filters: Iterable[str]) -> list[str]:
    """The filters without those that another one covers: a broker may send a copy for each that matches."""
    different = sorted(set(filters))
    return [each for each in different if not any(covers(other, each) for other in different if other != each)]


def _encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
