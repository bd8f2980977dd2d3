"""What the probe found out is kept, the newest answer to each question."""

from __future__ import annotations

from buffer.findings import Finding, known, record

SUM = Finding("same_hour", "sum", "a second value is added", "api-1", 1000)
LAG = Finding("lag", "12.0", "shown after 12 s", "api-1", 1000)


def test_findings_are_kept_with_their_date_and_the_api_that_was_probed(store):
    """As they were found, in that order."""
    store.write(lambda db: record(db, [SUM, LAG]))
    assert store.read(known) == [SUM, LAG]


def test_a_newer_answer_takes_the_place_of_an_older_one(store):
    """What was not found out again keeps the older answer, with its date."""
    store.write(lambda db: record(db, [SUM, LAG]))
    newer = SUM._replace(value="replace", at=2000)
    store.write(lambda db: record(db, [newer]))
    assert store.read(known) == [newer, LAG]


def test_accounts_do_not_see_each_other(store):
    """Another account may be another EnerKey."""
    store.write(lambda db: record(db, [SUM], "north"))
    assert store.read(known) == []
    assert store.read(lambda db: known(db, "north")) == [SUM]
