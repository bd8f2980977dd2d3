"""The lock files, by the pip of Debian 12."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def pinned(lock: Path) -> dict[str, set[str]]:
    """The packages of a lock, each with the extras it is pinned with."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[([^\]]+)\])?==", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): {extra.strip() for extra in extras.split(",") if extra} for name, extras in found}


def asked_with_extras(names: set[str]) -> set[tuple[str, str]]:
    """What the packages want of each other by an extra, on this machine."""
    found = set()
    for name in names:
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # of another platform
            continue
        for each in map(Requirement, lines):
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                found |= {(canonicalize_name(each.name), extra) for extra in each.extras}
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_what_is_wanted_with_an_extra_is_pinned_with_it(lock: Path):
    """Pip 23.0 takes the newest release for coverage[toml] beside coverage==7.17.4, and --require-hashes refuses it."""
    lines = pinned(lock)
    wanted = {(name, extra) for name, extra in asked_with_extras(set(lines)) if name in lines}
    assert [f"{name}[{extra}]" for name, extra in sorted(wanted) if extra not in lines[name]] == []


def test_the_locks_are_three_and_an_extra_is_wanted_somewhere():
    """Or the test above says nothing."""
    assert len(LOCKS) == 3
    assert ("coverage", "toml") in asked_with_extras(set(pinned(ROOT / "requirements-dev.lock")))
