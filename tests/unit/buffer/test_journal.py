"""Intent before the first byte, one open message per meter, every fate explicit (R12-R17, R22)."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer import journal, poison
from buffer.closing import freeze
from buffer.frozen import Frozen
from buffer.hours import ClosedHour
from buffer.journal import BIN_MS, Intent, JournalError, OpenMessage, PendingHour
from buffer.migrations import migrate
from buffer.model import Accepted, NotSent, Refused, Unknown
from buffer.readings import MeterRow, register_meters

NOW = 1_790_000_000_000
FIRST = 480_000


def close(db, meter: int, hours: dict[int, int], quality="measured") -> None:
    """Freeze hours with these consumptions."""
    rows = [ClosedHour(hour, value, 1000 + value, quality, quality) for hour, value in hours.items()]
    freeze(db, meter, rows, Frozen(max(hours) + 1, 0, quality, None), NOW)


def intent(meter: int, values: dict[int, int], body: bytes = b"[]") -> Intent:
    return Intent(meter, "consumption", 100 + meter, body, values, 0)


def states(db, meter: int) -> dict[int, str]:
    return dict(db.execute("SELECT hour, state FROM hour WHERE meter = ?", (meter,)).fetchall())


def message_row(db, message: int):
    return db.execute("SELECT state, fate, fate_at FROM message WHERE id = ?", (message,)).fetchone()


VALUES = {FIRST: 10, FIRST + 1: 0, FIRST + 2: 30}


@pytest.fixture
def begun(store):
    """Meter 1 has three closed hours in one open message; meter 2 has one pending hour."""
    store.write(lambda db: close(db, 1, VALUES))
    store.write(lambda db: close(db, 2, {FIRST: 5}))
    store.message = store.write(lambda db: journal.begin(db, intent(1, VALUES, b"body"), "boot", NOW))
    return store


def test_an_intent_is_the_exact_body_with_its_hours_claimed(begun):
    """R12: everything that a restart must know."""
    row = begun.read(lambda db: db.execute("SELECT * FROM message").fetchone())
    sha256 = hashlib.sha256(b"body").hexdigest()
    assert row == (begun.message, 1, "consumption", 101, b"body", sha256, 0, "boot", NOW, "open", None, "")
    hours = begun.read(lambda db: db.execute("SELECT meter, hour, value FROM message_hour").fetchall())
    assert hours == [(1, hour, value) for hour, value in VALUES.items()]
    assert begun.read(lambda db: states(db, 1)) == dict.fromkeys(VALUES, "claimed")
    assert begun.read(lambda db: journal.spent(db, NOW)) == 1


@pytest.mark.parametrize(
    ("fate", "state", "words", "hours"),
    [
        (Accepted(200), "accepted", "HTTP 200", "accepted"),
        (Refused("data", 400, "bad"), "unknown", "HTTP 400: bad", "claimed"),  # the good ones may be applied
        (Refused("endpoint", 405, "no"), "refused", "HTTP 405: no", "pending"),
        (Refused("meter", 404, "who?"), "refused", "HTTP 404: who?", "pending"),
        (Refused("key", 401, "no"), "refused", "HTTP 401: no", "pending"),
        (Refused("size", 413, "big"), "refused", "HTTP 413: big", "pending"),
        (NotSent("refused"), "not_sent", "refused", "pending"),
        (Unknown("lost"), "unknown", "lost", "claimed"),
    ],
)
def test_every_fate_is_written_down_with_what_it_means_for_the_hours(begun, fate, state, words, hours):
    """R15: only what proves that nothing was applied returns an hour to pending."""
    begun.write(lambda db: journal.settle(db, begun.message, fate, NOW + 9))
    assert begun.read(lambda db: message_row(db, begun.message)) == (state, words, NOW + 9)
    assert begun.read(lambda db: states(db, 1)) == dict.fromkeys(VALUES, hours)
    credited = VALUES if state == "accepted" else {}
    assert begun.read(lambda db: journal.in_ledger(db, 1, list(VALUES))) == credited
    assert begun.read(lambda db: journal.ever_accepted(db, 1)) == bool(credited)


def test_a_refusal_that_is_known_to_apply_nothing_returns_the_hours(begun):
    """R15; and the hours are looked through for the one that is meant."""
    fate = Refused("data", 400, "bad")
    begun.write(lambda db: journal.settle(db, begun.message, fate, NOW, whole=True))
    assert begun.read(lambda db: message_row(db, begun.message))[0] == "refused"
    assert begun.read(lambda db: states(db, 1)) == dict.fromkeys(VALUES, "pending")
    assert begun.read(lambda db: poison.suspects(db, 1)) == list(VALUES)


def test_an_hour_that_is_refused_alone_is_held(begun):
    message = begun.write(lambda db: journal.begin(db, intent(2, {FIRST: 5}), "boot", NOW))
    begun.write(lambda db: journal.settle(db, message, Refused("data", 400, "bad"), NOW))
    assert begun.read(lambda db: states(db, 2)) == {FIRST: "held"}
    assert begun.read(lambda db: poison.suspects(db, 2)) == []


def test_one_search_comes_after_the_other(begun):
    """Hours that are refused during a search wait for its end: two that take turns would never end."""
    begun.write(lambda db: journal.settle(db, begun.message, Refused("data", 400, "bad"), NOW, whole=True))
    newer = {FIRST + 3: 1, FIRST + 4: 2}
    begun.write(lambda db: close(db, 1, newer))
    second = begun.write(lambda db: journal.begin(db, intent(1, newer), "boot", NOW))
    begun.write(lambda db: journal.settle(db, second, Refused("data", 400, "bad"), NOW, whole=True))
    assert begun.read(lambda db: poison.suspects(db, 1)) == list(VALUES)
    assert begun.read(lambda db: poison.involved(db, 1)) == {*VALUES, *newer}
    for hour, fate in ((FIRST, Accepted(200)), (FIRST + 1, Accepted(200)), (FIRST + 2, Refused("data", 400, "bad"))):
        message = begun.write(lambda db, h=hour: journal.begin(db, intent(1, {h: VALUES[h]}), "boot", NOW))
        begun.write(lambda db, m=message, f=fate: journal.settle(db, m, f, NOW))
    assert begun.read(lambda db: poison.involved(db, 1)) == set()


@pytest.mark.parametrize("fate", [Accepted(200), NotSent("x"), Unknown("x")])
def test_a_message_is_settled_once(begun, fate):
    """R14: a second settling would count the hours twice; it fails and changes nothing."""
    begun.write(lambda db: journal.settle(db, begun.message, fate, NOW))
    before = begun.read(lambda db: list(db.iterdump()))
    for again in [Accepted(200), NotSent("y"), Unknown("y")]:
        with pytest.raises(JournalError, match="is not open"):
            begun.write(lambda db, again=again: journal.settle(db, begun.message, again, NOW))
    assert begun.read(lambda db: list(db.iterdump())) == before


def test_only_an_unknown_message_is_settled_by_reading_back_and_once(begun):
    fates = dict.fromkeys(VALUES, "accepted")
    with pytest.raises(JournalError, match="is not unknown"):
        begun.write(lambda db: journal.settle_by_hour(db, begun.message, fates, "", NOW))
    begun.write(lambda db: journal.settle(db, begun.message, Unknown("lost"), NOW))
    begun.write(lambda db: journal.settle_by_hour(db, begun.message, fates, "", NOW))
    with pytest.raises(JournalError, match="is not unknown"):
        begun.write(lambda db: journal.settle_by_hour(db, begun.message, fates, "", NOW))
    assert begun.read(lambda db: journal.in_ledger(db, 1, list(VALUES))) == VALUES


def test_a_read_back_decides_hour_by_hour(begun):
    """A server that applied half of a message and broke down."""
    begun.write(lambda db: journal.settle(db, begun.message, Unknown("lost"), NOW))
    fates = {FIRST: "accepted", FIRST + 1: "pending", FIRST + 2: "held", FIRST + 99: "accepted"}
    begun.write(lambda db: journal.settle_by_hour(db, begun.message, fates, "half of it", NOW + 9))
    del fates[FIRST + 99]  # no hour of this message: not touched
    assert begun.read(lambda db: states(db, 1)) == fates
    assert begun.read(lambda db: message_row(db, begun.message)) == ("verified", "half of it", NOW + 9)
    assert begun.read(lambda db: journal.in_ledger(db, 1, list(VALUES))) == {FIRST: 10}
    kept = begun.read(lambda db: dict(db.execute("SELECT hour, fate FROM message_hour").fetchall()))
    assert kept == fates
    assert begun.read(lambda db: journal.held_before(db, 1, FIRST + 1)) is False
    assert begun.read(lambda db: journal.held_before(db, 1, FIRST + 2)) is True


def test_a_meter_has_one_open_message_and_the_others_go_on(begun):
    """R13: while it is open, and while its fate is unknown."""
    begun.write(lambda db: close(db, 1, {FIRST + 3: 1}))
    for settled in [False, True]:
        if settled:
            begun.write(lambda db: journal.settle(db, begun.message, Unknown("lost"), NOW))
        with pytest.raises(sqlite3.IntegrityError):
            begun.write(lambda db: journal.begin(db, intent(1, {FIRST + 3: 1}), "boot", NOW))
        assert begun.read(lambda db: states(db, 1)[FIRST + 3]) == "pending"
        assert begun.read(lambda db: journal.without_open_message(db, [1, 2])) == {2}
    begun.write(lambda db: journal.begin(db, intent(2, {FIRST: 5}), "boot", NOW))
    assert begun.read(lambda db: journal.spent(db, NOW)) == 2


@pytest.mark.parametrize("hours", [[FIRST], [FIRST + 2, FIRST + 3], [FIRST + 9]])
def test_an_hour_that_is_not_pending_cannot_be_claimed(begun, hours):
    """R14: accepted, held or never closed, it is not sent; nothing of the intent stays."""
    begun.write(lambda db: journal.settle(db, begun.message, Unknown("lost"), NOW))
    fates = {FIRST: "accepted", FIRST + 1: "pending", FIRST + 2: "held"}
    begun.write(lambda db: journal.settle_by_hour(db, begun.message, fates, "", NOW))
    begun.write(lambda db: close(db, 1, {FIRST + 3: 1}))
    before = begun.read(lambda db: list(db.iterdump()))
    with pytest.raises(JournalError, match=f"1 of {len(hours)} h of meter 1 are not pending"):
        begun.write(lambda db: journal.begin(db, intent(1, dict.fromkeys(hours, 1)), "boot", NOW))
    assert begun.read(lambda db: list(db.iterdump())) == before


def test_a_restart_turns_open_intents_into_unknown_fates(begun):
    assert begun.write(lambda db: journal.orphaned_intents(db, NOW + 9)) == 1
    assert begun.write(lambda db: journal.orphaned_intents(db, NOW + 10)) == 0
    assert begun.read(journal.unknown_messages) == [
        OpenMessage(begun.message, 1, "consumption", 101, 0, NOW + 9, VALUES)
    ]
    assert begun.read(lambda db: states(db, 1)) == dict.fromkeys(VALUES, "claimed")


def test_unknown_messages_come_longest_waiting_first(begun):
    second = begun.write(lambda db: journal.begin(db, intent(2, {FIRST: 5}), "boot", NOW))
    begun.write(lambda db: journal.settle(db, second, Unknown("lost"), NOW + 1))
    begun.write(lambda db: journal.settle(db, begun.message, Unknown("lost"), NOW + 2))
    assert [message.id for message in begun.read(journal.unknown_messages)] == [second, begun.message]


def test_pending_hours_come_oldest_first_within_the_span_of_one_message(store):
    """R21."""
    store.write(lambda db: close(db, 1, {FIRST: 1, FIRST + 1: 2}))
    store.write(lambda db: close(db, 1, {FIRST + 2: 3}, "missing"))
    store.write(lambda db: close(db, 1, {FIRST + 3: 4}, "estimated"))
    store.write(lambda db: close(db, 1, {FIRST + 9: 5}))

    def pending(most, **kwargs):
        return [row.hour - FIRST for row in store.read(lambda db: journal.pending(db, 1, most, **kwargs))]

    assert store.read(lambda db: journal.pending(db, 1, 1)) == [PendingHour(FIRST, 1, 1001)]
    assert pending(2) == [0, 1]
    assert pending(4) == [0, 1, 3]
    assert pending(9) == [0, 1, 3]
    assert pending(10) == [0, 1, 3, 9]
    assert pending(10, estimated=False) == [0, 1, 9]
    assert store.read(lambda db: journal.pending(db, 2, 10)) == []
    ends = [store.read(lambda db, m=meter: journal.pending_ends(db, m, estimated=False)) for meter in (1, 2)]
    assert ends == [(FIRST, FIRST + 9), None]
    assert store.read(lambda db: journal.in_ledger(db, 1, [])) == {}


def test_the_budget_is_a_rolling_day_that_never_counts_too_few(store):
    """R22: a request counts for at least 24 h, and for at most one bin longer; what is older is forgotten."""
    day = 86_400_000
    for offset in [0, 0, BIN_MS - 1]:
        store.write(lambda db, offset=offset: journal.spend(db, NOW // BIN_MS * BIN_MS + offset))
    start = NOW // BIN_MS * BIN_MS
    for later, counted in [(0, 3), (BIN_MS - 1 + day - 1, 3), (day + BIN_MS - 1, 3), (day + BIN_MS, 0)]:
        assert store.read(lambda db, later=later: journal.spent(db, start + later)) == counted
    store.write(lambda db: journal.spend(db, start + 2 * day))
    assert store.read(lambda db: db.execute("SELECT count(*) FROM request_budget").fetchone()) == (1,)


# --- the outbox against a plain model and a server that sums ----------------------------------------------------------


class Outbox(RuleBasedStateMachine):
    """Two meters, one journal, one summing server; answers get lost, the process dies, somebody meddles.

    `hours` is the model: (meter, hour) -> [state, value]. `server` is what EnerKey has.
    """

    METERS = (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        migrate(self.db)
        rows = [MeterRow(name, 100, "kWh", "counter", "consumption", "hall") for name in "ab"]
        self.write(lambda db: register_meters(db, rows))
        self.hours: dict[tuple[int, int], list] = {}
        self.server: Counter[tuple[int, int]] = Counter()
        self.flying: dict[int, tuple[int, dict[int, int]]] = {}  # meter -> what this process believes to be in the air
        self.unknown: set[int] = set()  # meters
        self.begun = 0

    def write(self, work):
        self.db.execute("BEGIN")
        try:
            result = work(self.db)
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")
        return result

    def teardown(self) -> None:
        """Faults stop: read back, send what is pending, and everything is there exactly once (R16, R17)."""
        self.crash()
        self.read_back()
        for meter in self.METERS:
            while self.pending(meter):
                self.begin(meter, 5)
                self.answer(meter, "accepted", applied=9)
        self.every_hour_is_in_one_state()
        for key, (state, value) in self.hours.items():
            assert state == "held" or (state == "accepted" and self.server[key] == value)
        self.db.close()

    def pending(self, meter: int) -> dict[int, int]:
        return {hour: value for (of, hour), (state, value) in self.hours.items() if (of, state) == (meter, "pending")}

    def set_hours(self, meter: int, states: dict[int, str]) -> None:
        for hour, state in states.items():
            self.hours[meter, hour][0] = state

    @initialize()
    def some_hours(self) -> None:
        for meter in self.METERS:
            self.close_hours(meter, [7, 8])

    @rule(meter=st.sampled_from(METERS), values=st.lists(st.integers(1, 9), min_size=1, max_size=3))
    def close_hours(self, meter: int, values: list[int]) -> None:
        first = FIRST + sum(1 for of, _ in self.hours if of == meter)
        new = {first + number: value for number, value in enumerate(values)}
        self.write(lambda db: close(db, meter, new))
        self.hours |= {(meter, hour): ["pending", value] for hour, value in new.items()}

    @rule(meter=st.sampled_from(METERS), most=st.integers(1, 5))
    def begin(self, meter: int, most: int) -> None:
        rows = journal.pending(self.db, meter, most)
        expected = self.pending(meter)
        first = min(expected, default=0)
        assert {row.hour: row.consumption for row in rows} == {
            hour: value for hour, value in expected.items() if hour < first + most
        }
        if not rows:
            return
        values = {row.hour: row.consumption for row in rows}
        if meter in self.flying or meter in self.unknown:
            with pytest.raises(sqlite3.IntegrityError):
                self.write(lambda db: journal.begin(db, intent(meter, values), "boot", NOW))
            return
        message = self.write(lambda db: journal.begin(db, intent(meter, values), "boot", NOW))
        self.begun += 1
        self.flying[meter] = message, values
        self.set_hours(meter, dict.fromkeys(values, "claimed"))

    @precondition(lambda self: self.flying)
    @rule(
        meter=st.sampled_from(METERS),
        outcome=st.sampled_from(["accepted", "lost", "data", "key", "not_sent"]),
        applied=st.integers(0, 9),
    )
    def answer(self, meter: int, outcome: str, applied: int) -> None:
        """The message arrives or not (`lost`: so many of its hours, and no answer), and the process hears."""
        if meter not in self.flying:
            return
        message, values = self.flying.pop(meter)
        fate, state = {
            "accepted": (Accepted(200), "accepted"),
            "lost": (Unknown("lost"), "claimed"),
            "data": (Refused("data", 400, ""), "held" if len(values) == 1 else "claimed"),
            "key": (Refused("key", 401, ""), "pending"),
            "not_sent": (NotSent(""), "pending"),
        }[outcome]
        refused_in_parts = outcome == "data" and len(values) > 1
        arrived = len(values) if outcome == "accepted" else applied if outcome == "lost" or refused_in_parts else 0
        self.apply(meter, values, arrived)
        self.write(lambda db: journal.settle(db, message, fate, NOW))
        self.set_hours(meter, dict.fromkeys(values, state))
        if outcome == "lost" or refused_in_parts:
            self.unknown.add(meter)
        with pytest.raises(JournalError):
            self.write(lambda db: journal.settle(db, message, Accepted(200), NOW))

    def apply(self, meter: int, values: dict[int, int], most: int) -> None:
        for hour in list(values)[:most]:
            self.server[meter, hour] += values[hour]

    @rule(applied=st.integers(0, 9))
    def crash(self, applied: int = 9) -> None:
        """The process dies with messages in the air; so many hours of each have arrived."""
        for meter, (_, values) in self.flying.items():
            self.apply(meter, values, applied)
        assert self.write(lambda db: journal.orphaned_intents(db, NOW)) == len(self.flying)
        self.unknown |= set(self.flying)
        self.flying.clear()

    @rule(meter=st.sampled_from(METERS), hour=st.integers(FIRST, FIRST + 20))
    def meddle(self, meter: int, hour: int) -> None:
        """Somebody else adds to an hour whose fate is unknown."""
        if meter in self.unknown and self.hours.get((meter, hour), ["", 0])[0] == "claimed":
            self.server[meter, hour] += 100

    @rule()
    def read_back(self) -> None:
        for message in journal.unknown_messages(self.db):
            fates = {}
            for hour, value in message.values.items():
                seen = self.server[message.meter, hour]
                fates[hour] = "pending" if seen == 0 else "accepted" if seen == value else "held"
            self.write(lambda db, m=message, f=fates: journal.settle_by_hour(db, m.id, f, "", NOW))
            self.set_hours(message.meter, fates)
            self.unknown.discard(message.meter)

    @invariant()
    def every_hour_is_in_one_state(self) -> None:
        """R17: closed hours are pending, claimed, accepted or held; nothing is lost and nothing is invented."""
        for meter in self.METERS:
            assert states(self.db, meter) == {
                hour: state for (of, hour), (state, _) in self.hours.items() if of == meter
            }

    @invariant()
    def a_claimed_hour_belongs_to_exactly_one_unsettled_message(self) -> None:
        """R13."""
        find = (
            "SELECT message.meter, hour FROM message JOIN message_hour ON message = message.id"
            f" WHERE {journal.UNSETTLED} ORDER BY 1, 2"
        )
        claimed = sorted(key for key, (state, _) in self.hours.items() if state == "claimed")
        assert self.db.execute(find).fetchall() == claimed

    @invariant()
    def the_ledger_is_what_the_server_has_of_accepted_hours(self) -> None:
        """R16, as far as anybody can know it."""
        ledger = self.db.execute("SELECT meter, hour, accepted FROM ledger").fetchall()
        accepted = {key: value for key, (state, value) in self.hours.items() if state == "accepted"}
        assert {(meter, hour): value for meter, hour, value in ledger} == accepted
        assert all(self.server[key] == value for key, value in accepted.items())
        assert all(self.server[key] == 0 for key, (state, _) in self.hours.items() if state == "pending")

    @invariant()
    def every_message_was_paid_for(self) -> None:
        """R22."""
        assert journal.spent(self.db, NOW) == self.begun


TestOutbox = Outbox.TestCase
TestOutbox.settings = settings(deadline=None, max_examples=120, stateful_step_count=30)
