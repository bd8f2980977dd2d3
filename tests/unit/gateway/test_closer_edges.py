"""What the collector tells the closer of: it looks closer only where an edge may be new, and misses none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer.hours import Rule, reach
from buffer.model import HOUR_MS, MINUTE_MS
from buffer.readings import MeterRow, add, register_meters
from buffer.store import Store
from drivers.base import Now
from gateway.clock import EARLIEST, Trust
from gateway.closer import Closer, ClosingMeter
from gateway.watermarks import Watermarks

FIRST = 490_000  # an hour
QUARTER = 15 * MINUTE_MS
RULES = {
    1: Rule("counter", MINUTE_MS),
    2: Rule("interval", QUARTER, period_ms=QUARTER, stamp="start"),  # passes an edge before it is there
    3: Rule("interval", QUARTER, period_ms=QUARTER),
}
around_edges = st.builds(
    lambda hour, off: (FIRST + hour) * HOUR_MS + off,
    st.integers(0, 3),
    st.sampled_from([-QUARTER - 1, -QUARTER, -QUARTER + 1, -1, 0, 1, 1800_000]),
)
told = st.dictionaries(st.sampled_from(sorted(RULES)), around_edges, min_size=1)
closed = st.tuples(st.sampled_from(sorted(RULES)), st.integers(FIRST, FIRST + 4))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three meters and no reading."""
    store = Store(tmp_path, threaded=False)
    rows = [MeterRow(f"m{n}", None, "kWh", rule.kind, "off", "x") for n, rule in RULES.items()]
    store.write(lambda db: register_meters(db, rows))
    yield store
    store.close()


def marks() -> Watermarks:
    return Watermarks(120.0, lambda _: None)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(told | closed, max_size=12))
def test_the_closer_is_woken_by_each_new_edge_and_by_nothing_else(store: Store, events: list):
    """As if each reading's edge was looked up: late readings, edges far ahead, hours closed meanwhile, for good (R8)."""
    plain, seen, frozen = marks(), marks(), dict.fromkeys(RULES, FIRST)
    meters = [ClosingMeter(n, f"m{n}", rule) for n, rule in RULES.items()]
    closer = Closer(store, meters, seen, "boot", Trust("always"), lambda: None)
    for n, event in enumerate(events):
        if isinstance(event, dict):
            closer.wake.clear()
            closer.saw(event, 10.0 * n)
            new = plain.saw_all([(meter, reach((at, 0), RULES[meter])) for meter, at in event.items()], 10.0 * n)
            assert closer.wake.is_set() == new
        else:
            meter, edge = event
            frozen[meter] = max(edge, frozen[meter])
            for each in (plain, seen):
                each.closed(meter, frozen[meter], progress=True, boottime=10.0 * n)
        assert seen.due(1000.0, FIRST + 9) == plain.due(1000.0, FIRST + 9)


def test_an_edge_that_the_file_has_lost_is_new_again(store: Store):
    """R26: where the file was salvaged without its newest hours, a reading that comes again closes them again."""
    store.write(lambda db: add(db, [(FIRST * HOUR_MS, 1, 0, 0)]))
    seen = marks()
    closer = Closer(store, [ClosingMeter(1, "m1", RULES[1])], seen, "boot", Trust("always"), lambda: None)
    closer.saw({1: (FIRST + 2) * HOUR_MS}, 10.0)
    seen.closed(1, FIRST + 2, progress=True, boottime=20.0)
    store.close()  # no write succeeds from here on
    for _ in ("fails", "asks the file"):
        closer.step(Now(30.0, EARLIEST, trusted=True))
    closer.wake.clear()
    closer.saw({1: (FIRST + 1) * HOUR_MS}, 40.0)
    assert closer.wake.is_set()
    assert seen.due(1000.0, FIRST + 9).edges == {1: FIRST + 1}
