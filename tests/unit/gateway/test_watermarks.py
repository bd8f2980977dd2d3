"""When an edge may be closed (DESIGN 5, reliability 3.2)."""

from __future__ import annotations

from gateway.watermarks import NEVER, READY_LOOK, SLOTS, Watermarks

GRACE = 120.0
FAR = 10**9  # an hour in the far future: the wall clock limits nothing
METER = 7


def marks(ready: float | None = None, grace: float = GRACE) -> Watermarks:
    return Watermarks(grace, lambda _: ready)


def edges(watermarks: Watermarks, boottime: float, limit: int = FAR) -> dict[int, int]:
    return watermarks.due(boottime, limit).edges


def test_an_edge_rests_for_grace_after_the_reading_that_passed_it():
    watermarks = marks()
    assert watermarks.saw(METER, 10, 1000.0)
    again = watermarks.due(1000.0, FAR).again
    assert 1000.0 + GRACE <= again <= 1000.0 + GRACE * (1 + 1 / SLOTS)
    assert edges(watermarks, again - 0.001) == {}
    assert edges(watermarks, again) == {METER: 10}


def test_a_reading_that_passes_no_new_edge_changes_nothing():
    watermarks = marks()
    watermarks.saw(METER, 10, 1000.0)
    assert not watermarks.saw(METER, 10, 1060.0)
    assert not watermarks.saw(METER, 9, 1060.0)  # late, or overtaken
    assert edges(watermarks, 1130.0) == {METER: 10}


def test_each_edge_has_its_own_rest():
    watermarks = marks()
    watermarks.saw(METER, 10, 1000.0)
    watermarks.saw(METER, 12, 1060.0)
    assert edges(watermarks, 1130.0) == {METER: 10}
    watermarks.closed(METER, 10, progress=True, boottime=1130.0)
    assert edges(watermarks, 1190.0) == {METER: 12}
    watermarks.closed(METER, 12, progress=True, boottime=1190.0)
    assert watermarks.due(9999.0, FAR) == ({}, NEVER, False)


def test_what_was_stored_before_this_start_rests_from_the_connections_readiness():
    ready: list[float | None] = [None]
    watermarks = Watermarks(GRACE, lambda _: ready[0])
    watermarks.restored(METER, 9, 10)
    assert watermarks.due(5000.0, FAR) == (
        {},
        5000.0 + READY_LOOK,
        False,
    )  # the broker may still hold the reading before it
    ready[0] = 6000.0
    assert watermarks.due(6000.0, FAR).again == 6000.0 + GRACE
    assert edges(watermarks, 6000.0 + GRACE) == {METER: 10}


def test_what_arrives_after_the_start_does_not_wait_for_what_was_there_before():
    watermarks = marks(ready=None)
    watermarks.restored(METER, 9, 10)
    watermarks.saw(METER, 11, 1000.0)
    assert edges(watermarks, 1130.0) == {METER: 11}


def test_no_edge_of_the_future_is_due():
    """R6: a source's clock runs ahead of ours."""
    watermarks = marks()
    watermarks.saw(METER, 11, 1000.0)
    assert watermarks.due(1200.0, 10) == ({METER: 10}, NEVER, True)
    watermarks.closed(METER, 10, progress=True, boottime=1200.0)
    assert watermarks.due(1200.0, 10) == ({}, NEVER, True)
    assert edges(watermarks, 1300.0, limit=11) == {METER: 11}


def test_a_look_that_closed_nothing_is_repeated_after_a_growing_while_or_with_the_next_edge():
    watermarks = marks()
    watermarks.saw(METER, 10, 1000.0)
    assert edges(watermarks, 1200.0) == {METER: 10}
    pauses = []
    now = 1200.0
    for _ in range(7):
        watermarks.closed(METER, 9, progress=False, boottime=now)
        again = watermarks.due(now, FAR).again
        pauses.append(again - now)
        assert edges(watermarks, again - 1) == {}
        now = again
    assert pauses == [120, 240, 480, 960, 1920, 3600, 3600]
    watermarks.saw(METER, 11, now + 1)
    assert edges(watermarks, now + 2) == {METER: 10}


def test_an_edge_that_is_passed_while_a_look_closes_nothing_is_looked_at_when_it_has_rested():
    """Readings go on arriving while the closer looks: what they bring does not wait for the repetition of that look."""
    watermarks = marks()
    watermarks.saw(METER, 10, 1000.0)
    assert edges(watermarks, 1130.0) == {METER: 10}
    watermarks.saw(METER, 12, 1130.0)
    now = 1130.0
    while (found := edges(watermarks, now)) != {METER: 12} and now < 2000.0:
        if found:
            watermarks.closed(METER, None, progress=False, boottime=now)
        now = watermarks.due(now, FAR).again
    assert now <= 1130.0 + GRACE * (1 + 1 / SLOTS)


def test_a_look_that_closed_nothing_does_not_wait_for_a_newer_edge_that_rests_for_long():
    """A source that may be ten hours late: what was in the way may be settled long before the next edge has rested."""
    watermarks = Watermarks(GRACE, lambda _: None, {METER: 36_000.0})
    watermarks.saw(METER, 10, 0.0)
    now = 36_000.0
    assert edges(watermarks, now) == {METER: 10}
    watermarks.saw(METER, 11, now)
    watermarks.closed(METER, 9, progress=False, boottime=now)
    assert watermarks.due(now, FAR).again == now + 3600
    assert edges(watermarks, now + 3600) == {METER: 10}


def test_a_year_of_edges_within_a_minute_is_a_handful_of_entries():
    watermarks = marks()
    for edge in range(8760):
        watermarks.saw(METER, edge, 1000.0 + edge / 146)
    assert len(watermarks._marks[METER].passed) <= SLOTS
    assert edges(watermarks, 1200.0) == {METER: 8759}


def test_without_grace_an_edge_is_due_at_once():
    watermarks = marks(grace=0.0)
    watermarks.saw(METER, 10, 1000.0)
    assert edges(watermarks, 1000.0) == {METER: 10}


def test_reading_the_file_again_after_a_failure_keeps_the_rests():
    """R26: what is frozen is known from the file only."""
    watermarks = marks(ready=None)
    watermarks.saw(METER, 10, 1000.0)
    watermarks.restored(METER, 9, 10)
    assert edges(watermarks, 1130.0) == {METER: 10}
    watermarks.restored(METER, 10, 10)  # the commit that seemed lost was there
    assert watermarks.due(1130.0, FAR).edges == {}


def test_a_meter_whose_readings_come_late_rests_longer():
    """`lateness` takes the place of `grace` for that meter alone."""
    watermarks = Watermarks(GRACE, lambda _: None, {METER: 3600.0})
    watermarks.saw(METER, 10, 1000.0)
    watermarks.saw(8, 10, 1000.0)
    assert edges(watermarks, 1000.0 + GRACE * (1 + 1 / SLOTS)) == {8: 10}
    assert edges(watermarks, 1000.0 + 3600 * (1 + 1 / SLOTS)) == {METER: 10, 8: 10}
