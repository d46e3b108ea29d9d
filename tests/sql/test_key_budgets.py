"""A user or a key may have a budget of its own besides the tenant's: it is never overshot, and the ledger accounts for it."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from shared.api_keys import ApiKey
from tests.sql.steps import answer, assert_balances_follow_from_the_ledger, begin, claim, make_key, refused, user
from tests.support import Database

ENOUGH = 10**9
BALANCES = (
    "SELECT period, tokens, settled, reserved FROM budget.balances WHERE scope = %s AND holder_id = %s ORDER BY 1"
)


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def ask(database: Database, tenant: UUID, key: ApiKey | None = None, subject: str = "ann") -> Any:
    """Begin a turn, by a token or a key; every one costs the same."""
    with database.connect("app", tenant, subject, api_key=key.key_id if key else None) as app:
        return begin(app, p_max_tokens=100)


@pytest.fixture
def price(database: Database, tenants: Sequence[UUID]) -> int:
    """What a turn reserves."""
    reserved: int = ask(database, tenants[1])["reserved_tokens"]
    return reserved


def limit(database: Database, tenant: UUID, scope: str, holder: UUID, day: int = ENOUGH, month: int = ENOUGH) -> None:
    with database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens)"
            " VALUES (%(id)s, %(scope)s, %(holder)s, 'day', %(day)s), (%(id)s, %(scope)s, %(holder)s, 'month', %(month)s)",
            {"id": tenant, "scope": scope, "holder": holder, "day": day, "month": month},
        )


def balances(database: Database, scope: str, holder: UUID) -> dict[str, tuple[int, int, int]]:
    """Return (limit, settled, reserved) of a holder's periods."""
    with database.connect() as operator:
        return {period: tuple(rest) for period, *rest in operator.query(BALANCES, [scope, holder])}


@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_exactly_as_many_simultaneous_turns_as_fit_are_admitted_by_a_key(
    database: Database, tenants: Sequence[UUID], price: int, period: str
) -> None:
    budget: dict[str, Any] = {f"p_token_budget_{period}": 3 * price + price // 2}
    key = make_key(database, tenants[0], **budget)

    def attempt(_: int) -> str:
        try:
            ask(database, tenants[0], key)
        except psycopg.Error as error:
            return str(error.sqlstate)
        return "admitted"

    with ThreadPoolExecutor(6) as threads:
        outcomes = list(threads.map(attempt, range(12)))
    assert (outcomes.count("admitted"), outcomes.count("EA004")) == (3, 9)
    ask(database, tenants[0])  # the user's token has the tenant's budget
    with database.connect("app", tenants[0]) as app:
        assert app.value("SELECT count(*) FROM chat.turns") == 4, "a refused turn leaves no row"
    assert balances(database, "tenant", tenants[0])["day"][2] == 4 * price
    assert_balances_follow_from_the_ledger(database, tenants[0])


def test_a_limit_of_a_user_counts_tokens_and_every_key_of_the_user_and_nobody_else(
    database: Database, tenants: Sequence[UUID], price: int
) -> None:
    keys = [make_key(database, tenants[0]) for _ in range(2)]
    limit(database, tenants[0], "user", user(database, tenants[0]), day=3 * price)
    for key in (None, *keys):
        ask(database, tenants[0], key)
    for key in (None, *keys):
        with refused("EA004"):
            ask(database, tenants[0], key)
    ask(database, tenants[0], subject="bob")
    assert_balances_follow_from_the_ledger(database, tenants[0])


@pytest.mark.parametrize("scope", ["tenant", "user", "api_key"])
@pytest.mark.parametrize("period", ["day", "month"])
def test_a_refusal_names_the_budget_that_is_used_up(
    database: Database, tenants: Sequence[UUID], price: int, scope: str, period: str
) -> None:
    key = make_key(database, tenants[0])
    holders = {"tenant": tenants[0], "user": user(database, tenants[0]), "api_key": key.key_id}
    for name, holder in holders.items():
        tokens = {period: price + 7} if name == scope else {}
        limit(database, tenants[0], name, holder, **tokens)
    ask(database, tenants[0], key)
    with refused("EA004") as raised:
        ask(database, tenants[0], key)
    told = json.loads(raised.value.diag.message_detail or "")
    assert {name: told[name] for name in told if name not in {"resets_at", "starts_on"}} == {
        "scope": scope, "holder_id": str(holders[scope]), "period": period, "unit": "tokens", "limit": price + 7,
        "settled": 0, "reserved": price, "remaining": 7, "requested": price,
    }  # fmt: skip
    assert scope.replace("api_key", "API key") in str(raised.value)
    assert "resets_at" in told
    assert_balances_follow_from_the_ledger(database, tenants[0])


@pytest.mark.parametrize("scope", ["user", "api_key"])
def test_a_limit_that_is_set_in_mid_period_counts_what_was_used_before(
    database: Database, tenants: Sequence[UUID], price: int, scope: str
) -> None:
    key = make_key(database, tenants[0])
    holder = key.key_id if scope == "api_key" else user(database, tenants[0])
    answered, running = ask(database, tenants[0], key)["turn_id"], ask(database, tenants[0], key)["turn_id"]
    answer(database, tenants[0], answered, tokens=30)
    ask(database, tenants[0], subject="bob")  # somebody else's use does not count
    if scope == "api_key":
        ask(database, tenants[0])  # nor does what the same user asks without the key
    assert balances(database, scope, holder) == {}, "without a limit there is nothing to keep"

    limit(database, tenants[0], scope, holder, day=30 + 2 * price)
    ask(database, tenants[0], key)
    assert balances(database, scope, holder) == {
        "day": (30 + 2 * price, 30, 2 * price),
        "month": (ENOUGH, 30, 2 * price),
    }
    with refused("EA004"):
        ask(database, tenants[0], key)
    # What began before there was a limit is settled in it, and makes room.
    answer(database, tenants[0], running, tokens=20)
    assert balances(database, scope, holder)["day"] == (30 + 2 * price, 50, price)
    assert_balances_follow_from_the_ledger(database, tenants[0])


@pytest.mark.parametrize("scope", ["user", "api_key"])
def test_a_limit_below_what_was_used_already_is_full_and_what_runs_is_charged(
    database: Database, tenants: Sequence[UUID], price: int, scope: str
) -> None:
    key = make_key(database, tenants[0])
    holder = key.key_id if scope == "api_key" else user(database, tenants[0])
    running = ask(database, tenants[0], key)["turn_id"]
    limit(database, tenants[0], scope, holder, day=1)
    with refused("EA004") as raised:
        ask(database, tenants[0], key)
    told = json.loads(raised.value.diag.message_detail or "")
    assert (told["scope"], told["remaining"], told["reserved"]) == (scope, 0, price)
    assert answer(database, tenants[0], running, tokens=25)["charged_tokens"] == 25
    assert_balances_follow_from_the_ledger(database, tenants[0])


def test_a_turn_is_settled_in_the_budget_of_the_key_that_asked_also_when_the_key_is_gone(
    database: Database, tenants: Sequence[UUID], price: int
) -> None:
    key, other = (make_key(database, tenants[0], p_token_budget_daily=10 * price) for _ in range(2))
    turns = [ask(database, tenants[0], key)["turn_id"] for _ in range(2)]
    ask(database, tenants[0], other)
    # The worker acts for the tenant alone, with no key; the turn knows its own.
    answer(database, tenants[0], turns[0], tokens=30)
    assert balances(database, "api_key", key.key_id)["day"] == (10 * price, 30, price)
    claim(database, tenants[0], turns[1])
    with database.connect("app", tenants[0], operation="keys.revoke") as app:
        app.call("core.revoke_key", p_key_id=key.key_id)
    with database.connect() as operator:
        operator.run("UPDATE inference.jobs SET leased_until = now() - interval '1 second' WHERE status = 'running'")
        operator.run("UPDATE inference.jobs SET attempts = 0")
    answer(database, tenants[0], turns[1], tokens=40)
    assert balances(database, "api_key", key.key_id)["day"] == (10 * price, 70, 0)
    assert balances(database, "api_key", other.key_id)["day"] == (10 * price, 0, price)
    assert_balances_follow_from_the_ledger(database, tenants[0])


def test_use_beyond_the_reservation_is_charged_as_far_as_every_budget_holds_it(
    database: Database, tenants: Sequence[UUID], price: int
) -> None:
    key = make_key(database, tenants[0], p_token_budget_daily=price + 50)
    limit(database, tenants[0], "user", user(database, tenants[0]), day=price + 80)
    turn = ask(database, tenants[0], key)["turn_id"]
    assert answer(database, tenants[0], turn, tokens=price + 200)["charged_tokens"] == price + 50
    with database.connect() as operator:
        assert operator.query("SELECT tokens FROM budget.ledger WHERE entry = 'overrun'") == [(150,)]
    assert balances(database, "api_key", key.key_id)["day"] == (price + 50, price + 50, 0)
    assert_balances_follow_from_the_ledger(database, tenants[0])


def test_the_ledger_adds_up_for_every_scope_when_turns_of_all_kinds_end_at_once(
    database: Database, tenants: Sequence[UUID], price: int
) -> None:
    keys = [make_key(database, tenants[0], p_token_budget_daily=100 * price) for _ in range(2)]
    limit(database, tenants[0], "user", user(database, tenants[0]), day=100 * price)

    def live(number: int) -> None:
        turn = ask(database, tenants[0], [None, *keys][number % 3])["turn_id"]
        if number % 4 == 0:
            with database.connect("app", tenants[0]) as app:
                app.call("chat.stop_turn", p_turn_id=turn)
        elif number % 4 < 3:
            answer(database, tenants[0], turn, tokens=10 + number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(live, range(24)))
    with database.connect() as operator:
        holders = "SELECT count(DISTINCT holder_id) FROM budget.balances WHERE tenant_id = %s"
        assert operator.value(holders, [tenants[0]]) == 4, "the tenant, the user and two keys"
    assert_balances_follow_from_the_ledger(database, tenants[0])


@pytest.mark.parametrize("scope", ["user", "api_key"])
def test_a_limit_that_is_taken_away_in_mid_period_leaves_turns_that_can_end(
    database: Database, tenants: Sequence[UUID], price: int, scope: str
) -> None:
    key = make_key(database, tenants[0])
    holder = key.key_id if scope == "api_key" else user(database, tenants[0])
    limit(database, tenants[0], scope, holder, day=2 * price)
    before = ask(database, tenants[0], key)["turn_id"]
    answer(database, tenants[0], before, tokens=30)
    with database.connect() as operator:
        operator.run("DELETE FROM budget.limits WHERE holder_id = %s", [holder])
    turns = [ask(database, tenants[0], key)["turn_id"] for _ in range(3)]
    for turn in turns:
        assert answer(database, tenants[0], turn, tokens=25)["charged_tokens"] == 25
    assert balances(database, "tenant", tenants[0])["day"][1:] == (30 + 3 * 25, 0)


@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_a_key_with_a_budget_makes_no_key_that_has_more(
    database: Database, tenants: Sequence[UUID], period: str
) -> None:
    """A key cannot make a key that may do more than itself, or its budget binds nobody."""
    budget: dict[str, Any] = {f"p_token_budget_{period}": 1000}
    key = make_key(database, tenants[0], **budget)
    for more in ({}, {f"p_token_budget_{period}": 1001}):
        with refused("EA008"):
            make_key(database, tenants[0], by_key=key.key_id, **more)  # type: ignore[arg-type]
