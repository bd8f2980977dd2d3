"""Two accounts in one gateway: each has its own keys, budget and manners, and none waits for the other (R22, R23)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from buffer.model import EPOCH
from tests.fakes.clock import START
from tests.fakes.enerkey_transport import transport
from tests.fakes.small_gateway import Make, SmallGateway, closed_hours

NINE = (START - EPOCH) // timedelta(hours=1)
EIGHT = NINE - 1
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def make(make: Make) -> Make:
    """Meter "a" of the default account with the key "one", meter "n" of the account north with the key "north"."""

    def build(*meters: str, **settings) -> SmallGateway:
        names = meters or ("a", "n")
        accounts = {name: "north" for name in names if name.startswith("n")}
        keys = {"keys": ("one",), "keys_of": {"north": ("north",)}}
        return make(*names, server={"keys": ["one", "north"]}, **keys | {"account_of": accounts} | settings)

    return build


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def silent(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("timed out", request=request)


def limited(_: httpx.Request) -> httpx.Response:
    return httpx.Response(429, headers={"Retry-After": "3000"})


def refused(_: httpx.Request) -> httpx.Response:
    return httpx.Response(401, text="unknown key")


def failing(_: httpx.Request) -> httpx.Response:
    return httpx.Response(500)


def messages_of(gateway: SmallGateway, meter: str) -> list[str]:
    find = "SELECT state FROM message WHERE meter = ? ORDER BY id"
    number = gateway.numbers[meter]
    return [row[0] for row in gateway.store.read(lambda db: db.execute(find, (number,)).fetchall())]


# --- what is wrong with one is nothing to the other --------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [unreachable, silent, limited, refused, failing])
@pytest.mark.parametrize("bad", ["", "north"])
def test_whatever_keeps_one_account_waiting_keeps_no_other(make: Make, wrong: Answer, bad: str):
    """R23: hour after hour the other one's go at once; when it is over, the first one's are all there, once (R14, R24)."""
    trouble = True
    gateway: SmallGateway

    def answer(request: httpx.Request) -> httpx.Response:
        return wrong(request) if trouble else transport(gateway.simulator).handler(request)

    gateway = make("a", "a2", "n", "n2", handler_of={bad: answer})
    ill, well = (["a", "a2"], ["n", "n2"]) if bad == "" else (["n", "n2"], ["a", "a2"])
    for hour in range(NINE, NINE + 3):
        gateway.run((EPOCH + timedelta(hours=hour + 1) - gateway.clock.wall).total_seconds())
        closed_hours(gateway, hour, 1, gateway.meters)
        gateway.wake()
        gateway.run(1)
        assert [set(gateway.states(name)) for name in well] == [{"accepted"}] * 2
        assert not any("accepted" in gateway.states(name) for name in ill)
    trouble = False
    gateway.run(2 * 3600)
    assert all(set(gateway.states(name)) == {"accepted"} for name in ill)
    for number in range(4):
        assert gateway.simulator.hourly(100 + number) == dict.fromkeys(range(NINE, NINE + 3), 500_000)


def test_each_account_sends_with_its_own_key_and_says_so_under_its_name(make: Make):
    """No key is ever shown to another account's server."""
    seen: dict[str, set[str]] = {"": set(), "north": set()}
    gateway: SmallGateway

    def answer_for(account: str) -> Answer:
        def answer(request: httpx.Request) -> httpx.Response:
            seen[account].add(request.headers["authorization"])
            return transport(gateway.simulator).handler(request)

        return answer

    gateway = make(handler_of={name: answer_for(name) for name in seen})
    closed_hours(gateway, EIGHT, 1, ("a", "n"))
    gateway.run(1)
    assert seen == {"": {"one"}, "north": {"north"}}
    assert [uploader.name for uploader in gateway.uploaders.values()] == ["delivery", "delivery north"]
    gateway.simulator.keys = {"one"}
    closed_hours(gateway, NINE, 1, ("a", "n"))
    gateway.run(600)
    ((level, subject, text),) = [event for event in gateway.events() if "refuses" in event[2]]
    assert (level, subject) == ("error", "delivery north")
    assert text.startswith("EnerKey refuses API key 1 (env:NORTH) for consumption: HTTP 401")
    assert gateway.uploaders["north"].snapshot()["no_key_for"] == ["consumption"]
    assert gateway.uploader.snapshot()["no_key_for"] == []


def test_each_account_has_its_own_budget_also_across_a_restart(make: Make):
    """R22: what one has spent is nothing to the other."""
    names = [f"a{number}" for number in range(30)]
    gateway = make(*names, "n", requests_per_day=20)
    closed_hours(gateway, NINE - 11, 1, names)
    gateway.run(3600)
    assert gateway.simulator.requests() == 18  # a tenth is left to reading back
    closed_hours(gateway, NINE - 11, 1, ("n",))
    gateway.run(3600)
    assert gateway.states("n") == ["accepted"]
    gateway.crash()
    gateway.run(3600)
    assert gateway.simulator.requests() == 19
    find = "SELECT account, sum(requests) FROM request_budget GROUP BY account"
    spent = dict(gateway.store.read(lambda db: db.execute(find).fetchall()))
    assert spent == {"": 18, "north": 1}


# --- one database, two deliveries --------------------------------------------------------------------------------------


def test_an_account_that_starts_later_leaves_a_message_of_the_other_under_way(make: Make):
    """An open intent is an orphan only to the delivery that made it."""
    gateway: SmallGateway

    def answer(request: httpx.Request) -> httpx.Response:
        gateway.uploader.step(
            gateway.clock.now()
        )  # the default account's first step, while north's request is on its way
        return transport(gateway.simulator).handler(request)

    gateway = make(handler_of={"north": answer})
    closed_hours(gateway, EIGHT, 1, ("n",))
    gateway.uploaders["north"].step(gateway.clock.now())
    assert messages_of(gateway, "n") == ["accepted"]


@pytest.mark.parametrize("clean", ["", "north"])
def test_a_clean_end_of_one_account_is_not_one_of_the_other(make: Make, clean: str):
    """R19: cut off from the power, every meter is read before it sends, whichever account it has by now."""
    gateway = make()
    gateway.run(10)
    for name, uploader in gateway.uploaders.items():
        uploader.close(clean=name == clean)
    gateway.store.close()
    gateway.boot = "boot-2"
    gateway.account_of = {"a": "north"}
    gateway.open()
    gateway.run(10)
    after = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM meter WHERE look_after > 0").fetchone())
    assert after == (2,)


def test_when_both_ended_by_themselves_nothing_is_read(make: Make):
    """R19: only then."""
    gateway = make()
    gateway.run(10)
    gateway.close()
    gateway.boot = "boot-2"
    gateway.open()
    gateway.run(10)
    after = gateway.store.read(lambda db: db.execute("SELECT count(*) FROM meter WHERE look_after > 0").fetchone())
    assert after == (0,)


# --- a meter changes its account ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lost-answer", "lost-request"])
def test_a_message_of_unknown_fate_is_settled_by_the_account_that_has_the_meter_now(make: Make, fault: str):
    """R14, R16: read back with the new account's key, and the hour is there once."""
    gateway = make()
    gateway.simulator.faults = iter([fault])
    closed_hours(gateway, EIGHT, 1, ("a",))
    gateway.run(1)
    assert messages_of(gateway, "a") == ["unknown"]
    gateway.account_of = {"a": "north", "n": "north"}
    gateway.crash()
    gateway.simulator.keys = {"north"}
    gateway.run(3600)
    assert messages_of(gateway, "a")[0] == "verified"
    assert gateway.simulator.hourly(100) == {EIGHT: 500_000}
    assert gateway.states("a") == ["accepted"]


def test_an_intent_that_was_under_way_is_settled_by_the_account_that_has_the_meter_now(make: Make):
    """R14: the process died before the answer; the account was changed before the next start."""
    gateway: SmallGateway

    def killed(request: httpx.Request) -> httpx.Response:
        transport(gateway.simulator).handler(request)
        raise KeyboardInterrupt

    gateway = make(handler_of={"north": killed})
    closed_hours(gateway, EIGHT, 1, ("n",))
    with pytest.raises(KeyboardInterrupt):
        gateway.run(1)
    gateway.account_of = {}
    gateway.crash()
    gateway.run(3600)
    assert messages_of(gateway, "n") == ["verified"]
    assert gateway.simulator.hourly(101) == {EIGHT: 500_000}


def test_a_meter_that_changed_its_account_is_read_before_it_sends(make: Make):
    """Nobody has seen what the other account shows of it; what is there already counts and is not sent."""
    gateway = make()
    gateway.crash()
    gateway.account_of = {"a": "north", "n": "north"}
    gateway.crash()
    closed_hours(gateway, EIGHT, 1, ("a", "n"))
    methods: list[str] = []
    serve = gateway.simulator.handle
    gateway.simulator.handle = lambda request: (
        methods.append(f"{request.method} {request.target[-3:]}") or serve(request)
    )
    gateway.run(1)
    gets = [each for each in methods if each.startswith("GET")]
    assert len(gets) == 1
    assert gateway.states("a") == gateway.states("n") == ["accepted"]


def test_a_meter_that_left_the_configuration_is_settled_by_the_account_that_it_had(make: Make):
    """R31: never with another customer's key."""
    gateway = make("a", "n", "n2")
    gateway.simulator.faults = iter(["lost-answer"])
    closed_hours(gateway, EIGHT, 1, ("n",))
    gateway.run(1)
    keys: list[str] = []
    serve = gateway.simulator.handle
    gateway.simulator.handle = lambda request: keys.append(request.headers["authorization"]) or serve(request)
    number = gateway.numbers["n"]
    gateway.meters = ("a", "n2")
    gateway.crash()
    gateway.run(3600)
    assert keys == ["north"]
    find = "SELECT state FROM message WHERE meter = ?"
    assert gateway.store.read(lambda db: db.execute(find, (number,)).fetchall()) == [("verified",)]


# --- keys that expire --------------------------------------------------------------------------------------------------


def test_thirty_days_before_a_key_expires_the_log_says_so_once(make: Make, caplog):
    """Also after restarts; and on the day itself in other words."""
    gateway = make(expires=START.date() + timedelta(days=31))
    gateway.run(3600)
    assert "expires" not in caplog.text
    for _ in range(2):
        gateway.clock.advance(86_400)
        gateway.run(600)
        gateway.crash()
    warned = "delivery: API key 1 (env:ONE) expires on 2026-04-02: put a new one in its place before that"
    assert [record.getMessage() for record in caplog.records if "expires" in record.getMessage()] == [warned]
    gateway.clock.advance(30 * 86_400)
    gateway.run(600)
    told = [event for event in gateway.events() if "expire" in event[2]]
    assert [(level, subject) for level, subject, _ in told] == [("warning", "delivery")] * 2
    assert told[1][2] == "API key 1 (env:ONE) expired on 2026-04-02: put a new one in its place"


def test_under_an_untrusted_clock_nothing_is_said_of_expiry(make: Make):
    """R5: a clock that was never set is decades off, either way."""
    gateway = make(expires=START.date())
    gateway.clock.trusted = False
    gateway.run(3600)
    assert gateway.events() == []
    gateway.clock.trusted = True
    gateway.run(3600)
    assert len(gateway.events()) == 1
