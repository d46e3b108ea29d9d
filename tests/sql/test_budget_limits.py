"""Limits may be changed, topped up, paused and taken away; nothing gets around them, and who is near one is told once."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.budget_steps import (
    assert_sound,
    balance,
    cost_balance,
    limit,
    operator_of,
    price,
    reserve,
    settle,
    told,
    use,
)
from tests.sql.steps import act, entries, make_key, refused, user
from tests.support import Caller, Database

DAILY = 1_000_000
REACHED = "com.enterprise-agents.budget.reached.v1"
DAY: dict[str, Any] = {"p_period": "day"}


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@pytest.fixture
def caller(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    """Ann's turns."""
    with operator_of(database, tenants[0]) as acting:
        yield acting


def set_limit(database: Database, tenant: UUID, holder: UUID, scope: str = "user", **arguments: Any) -> Any:
    """Set a limit as an administrator of the tenant, or of the platform where it is the tenant's."""
    role = "platform_admin" if scope == "tenant" else "tenant_admin"
    return act(
        database, tenant, "budgets.update", "budget.set_limit", subject="root", roles=[role],
        p_scope=scope, p_holder_id=holder, **DAY | arguments,
    )  # fmt: skip


def top_up(database: Database, tenant: UUID, holder: UUID, scope: str = "user", **arguments: Any) -> Any:
    role = "platform_admin" if scope == "tenant" else "tenant_admin"
    return act(
        database, tenant, "budgets.update", "budget.top_up", subject="root", roles=[role],
        p_scope=scope, p_holder_id=holder, **DAY | arguments,
    )  # fmt: skip


def holder_of(database: Database, tenant: UUID, scope: str) -> tuple[UUID, UUID | None]:
    """Return who is limited, and the key by which it asks."""
    if scope == "tenant":
        return tenant, None
    if scope == "user":
        return user(database, tenant), None
    key = make_key(database, tenant).key_id
    return key, key


SCOPES = pytest.mark.parametrize("scope", ["tenant", "user", "api_key"])


@SCOPES
def test_a_raised_limit_admits_more_at_once_and_a_lowered_one_nothing_below_what_is_used(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    set_limit(database, tenants[0], holder, scope, p_tokens=100)
    with operator_of(database, tenants[0], api_key=key) as caller:
        use(caller, 60)
        held = reserve(caller, 40)
        with refused("EA004"):
            reserve(caller, 1)
        set_limit(database, tenants[0], holder, scope, p_tokens=150)
        reserve(caller, 50)
        set_limit(database, tenants[0], holder, scope, p_tokens=10)
        assert balance(database, holder) == (150, 60, 90), "what is used and held cannot be taken back"
        with refused("EA004"):
            reserve(caller, 1)
        assert settle(caller, held, 40) == 40, "what was admitted is charged in full"
    assert_sound(database, tenants[0])


@SCOPES
def test_a_limit_that_was_lowered_below_what_is_held_admits_nothing_when_that_is_given_back(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    set_limit(database, tenants[0], holder, scope, p_tokens=1000, p_cost_micros=1000)
    one = price(database, "one", 1, 1)
    with operator_of(database, tenants[0], api_key=key) as caller:
        held = [reserve(caller, 250, 0, one) for _ in range(2)]
        set_limit(database, tenants[0], holder, scope, p_tokens=30, p_cost_micros=20)
        assert settle(caller, held[0], 10) == 10
        assert balance(database, holder) == (260, 10, 250)
        assert cost_balance(database, holder) == (260, 10, 250)
        caller.call("budget.release", p_turn_id=held[1])
        assert balance(database, holder) == (30, 10, 0)
        assert cost_balance(database, holder) == (20, 10, 0)
        with refused("EA004"):
            reserve(caller, 11, 0, one)
        reserve(caller, 20)
    assert_sound(database, tenants[0])


@SCOPES
def test_a_limit_below_what_was_used_before_there_was_one_comes_down_too(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    with operator_of(database, tenants[0], api_key=key) as caller:
        held = reserve(caller, 500)
        set_limit(database, tenants[0], holder, scope, p_tokens=10)
        with refused("EA004"):
            reserve(caller, 1)
        settle(caller, held, 4)
        with refused("EA004"):
            reserve(caller, 7)
        reserve(caller, 6)
    assert_sound(database, tenants[0])


@SCOPES
def test_a_top_up_is_for_the_running_period_only(database: Database, tenants: Sequence[UUID], scope: str) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    set_limit(database, tenants[0], holder, scope, p_tokens=100, p_cost_micros=1000)
    told_now = top_up(database, tenants[0], holder, scope, p_tokens=50, p_cost_micros=7)
    assert (told_now["limit"], told_now["remaining"], told_now["cost_limit"]) == (150, 150, 1007)
    with operator_of(database, tenants[0], api_key=key) as caller:
        use(caller, 150)
        with refused("EA004"):
            reserve(caller, 1)
    with operator_of(database, tenants[0], api_key=key, clock="2031-05-05 12:00Z") as caller:
        use(caller, 100)
        with refused("EA004"):
            reserve(caller, 1)
    assert_sound(database, tenants[0])


def test_a_top_up_of_the_default_budget_needs_no_limit_and_one_of_no_limit_is_refused(
    database: Database, tenants: Sequence[UUID]
) -> None:
    assert top_up(database, tenants[0], tenants[0], "tenant", p_tokens=5)["limit"] == DAILY + 5
    ann = user(database, tenants[0])
    with refused("EA013"):
        top_up(database, tenants[0], ann, p_tokens=5)
    set_limit(database, tenants[0], ann, p_tokens=100)
    with refused("EA013"):
        top_up(database, tenants[0], ann, p_cost_micros=5)
    with refused("EA013"):
        top_up(database, tenants[0], ann, p_period="month", p_tokens=5)
    with refused("EA013"):
        top_up(database, tenants[0], ann, p_period="week", p_tokens=5)
    assert_sound(database, tenants[0])


@SCOPES
def test_a_paused_limit_admits_nothing_whatever_is_left_until_it_is_resumed(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    set_limit(database, tenants[0], holder, scope, p_tokens=100)
    top_up(database, tenants[0], holder, scope, p_tokens=11)
    with operator_of(database, tenants[0], api_key=key) as caller:
        held = reserve(caller, 10)
        set_limit(database, tenants[0], holder, scope, p_tokens=100, p_paused=True)
        with refused("EA014") as raised:
            reserve(caller, 1)
        assert told(raised.value) == {"scope": scope, "period": "day"}
        assert settle(caller, held, 10) == 10, "what is on its way is charged"
        with operator_of(database, tenants[1]) as other:
            reserve(other, 1)
        set_limit(database, tenants[0], holder, scope, p_tokens=100)
        assert balance(database, holder) == (111, 10, 0), "a pause does not cost what was topped up"
        reserve(caller, 101)
    assert_sound(database, tenants[0])


@SCOPES
def test_a_limit_that_was_only_paused_binds_when_it_is_resumed(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    set_limit(database, tenants[0], holder, scope, p_tokens=100)
    for paused in (True, False):
        set_limit(database, tenants[0], holder, scope, p_paused=paused, p_keep=True)
    with operator_of(database, tenants[0], api_key=key) as caller:
        with refused("EA004"):
            reserve(caller, 101)
        reserve(caller, 100)
    assert_sound(database, tenants[0])


def test_a_pause_without_a_limit_binds_and_leaves_without_a_trace(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    ann = user(database, tenants[0])
    set_limit(database, tenants[0], ann, p_paused=True)
    set_limit(database, tenants[0], tenants[0], "tenant", p_paused=True, p_period="month")
    with refused("EA014"):
        reserve(caller, 1)
    set_limit(database, tenants[0], ann)
    with refused("EA014") as raised:
        reserve(caller, 1)
    assert told(raised.value) == {"scope": "tenant", "period": "month"}
    set_limit(database, tenants[0], tenants[0], "tenant", p_period="month")
    reserve(caller, 1)
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.limits") == 0
    assert_sound(database, tenants[0])


@pytest.mark.parametrize("by_hand", [False, True])
@SCOPES
def test_a_limit_that_is_taken_away_binds_no_more_and_a_later_one_counts_all_of_the_period(
    database: Database, tenants: Sequence[UUID], scope: str, *, by_hand: bool
) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    set_limit(database, tenants[0], holder, scope, p_tokens=50)
    with operator_of(database, tenants[0], api_key=key) as caller:
        use(caller, 30)
        held = reserve(caller, 20)
        if by_hand:
            with database.connect() as administrator:
                administrator.run("DELETE FROM budget.limits")
        else:
            set_limit(database, tenants[0], holder, scope)
        use(caller, 100)
        settle(caller, held, 10)
        set_limit(database, tenants[0], holder, scope, p_tokens=150)
        with refused("EA004") as raised:
            reserve(caller, 11)
        assert (told(raised.value)["settled"], told(raised.value)["remaining"]) == (140, 10)
        reserve(caller, 10)
    assert_sound(database, tenants[0])


def test_a_limit_stays_with_its_holder_and_period(database: Database, tenants: Sequence[UUID], caller: Caller) -> None:
    """Else the balance of the former holder would stay, and nobody would keep it."""
    ann, bob = (user(database, tenants[0], name) for name in ("ann", "bob"))
    limit(database, tenants[0], 100, scope="user", holder=ann)
    reserve(caller, 10)
    with database.connect() as administrator:
        for change in (f"holder_id = '{bob}'", "period = 'month'"):
            with refused("EA012"):
                administrator.run(f"UPDATE budget.limits SET {change}")
    reserve(caller, 10)
    assert_sound(database, tenants[0])


# Money


def test_a_limit_in_money_counts_what_is_priced_and_nothing_that_is_free_or_unknown(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    dear, free, unknown = (
        price(database, name, *prices)
        for name, prices in {"dear": (3, 5), "free": (0, 0), "unknown": (None, None)}.items()
    )
    limit(database, tenants[0], 10_000, cost=100)
    for model in (free, unknown, None):
        reserve(caller, 1000, 500, model)
    assert cost_balance(database, tenants[0]) == (100, 0, 0)
    assert balance(database, tenants[0]) == (10_000, 0, 4500), "in tokens all of them count"
    turn = reserve(caller, 10, 12, dear)
    assert cost_balance(database, tenants[0]) == (100, 0, 90)
    with refused("EA004") as raised:
        reserve(caller, 2, 1, dear)
    members = told(raised.value)
    assert {name: members[name] for name in ("unit", "requested", "cost_limit", "cost_remaining", "scope")} == {
        "unit": "cost", "requested": 11, "cost_limit": 100, "cost_remaining": 10, "scope": "tenant",
    }  # fmt: skip
    reserve(caller, 0, 2, dear)
    settle(caller, turn, 10, 1)
    assert cost_balance(database, tenants[0]) == (100, 35, 10)
    assert_sound(database, tenants[0])


def test_a_limit_in_money_alone_leaves_a_user_without_one_in_tokens(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    limit(database, tenants[0], scope="user", holder=user(database, tenants[0]), cost=10)
    reserve(caller, 1000, 0, price(database, "free", 0, 0))
    with refused("EA004") as raised:
        reserve(caller, 11, 0, price(database, "one", 1, 1))
    assert (told(raised.value)["unit"], told(raised.value)["limit"]) == ("cost", None)
    assert_sound(database, tenants[0])


def test_a_fraction_of_a_millionth_is_charged_as_a_whole_one(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    limit(database, tenants[0], cost=10)
    cheap = price(database, "cheap", 0.01, 0.01)
    for _ in range(10):
        use(caller, 1, 1, cheap)
    with refused("EA004"):
        reserve(caller, 1, 0, cheap)
    assert_sound(database, tenants[0])


@pytest.mark.parametrize("later", [(1, 1), (900, 900), (None, None)])
def test_a_turn_is_charged_at_the_prices_of_its_reservation(
    database: Database, tenants: Sequence[UUID], caller: Caller, later: tuple[float | None, float | None]
) -> None:
    limit(database, tenants[0], cost=1000)
    model = price(database, "changing", 3, 5)
    turn = reserve(caller, 100, 100, model)
    price(database, "changing", *later)
    settle(caller, turn, 50, 10)
    assert cost_balance(database, tenants[0]) == (1000, 200, 0)
    assert_sound(database, tenants[0])


def test_use_beyond_what_was_held_is_charged_as_far_as_the_money_goes_and_the_rest_is_recorded(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    limit(database, tenants[0], cost=100)
    turn = reserve(caller, 10, 10, price(database, "dear", 3, 5))
    settle(caller, turn, 20, 20)
    assert cost_balance(database, tenants[0]) == (100, 100, 0)
    assert balance(database, tenants[0])[1] == 40
    with database.connect() as operator:
        overruns = operator.query("SELECT tokens, cost_micros FROM budget.ledger WHERE entry = 'overrun'")
    assert overruns == [(0, 60)]
    assert_sound(database, tenants[0])


# Who may


def test_a_tenants_own_limit_is_for_the_platforms_administrator(database: Database, tenants: Sequence[UUID]) -> None:
    own: dict[str, Any] = {"p_scope": "tenant", "p_holder_id": tenants[0], **DAY, "p_tokens": 5}
    for function in ("budget.set_limit", "budget.top_up"):
        with refused("EA008"):
            act(database, tenants[0], "budgets.update", function, **own)
        act(database, tenants[0], "budgets.update", function, roles=["platform_admin"], **own)
    assert balance(database, tenants[0])[0] == 10


@pytest.mark.parametrize("roles", [["member"], ["viewer"], ["auditor"], ["service"]])
def test_nobody_else_sets_a_limit(database: Database, tenants: Sequence[UUID], roles: list[str]) -> None:
    ann = user(database, tenants[0])
    for function in ("budget.set_limit", "budget.top_up"):
        with refused("EA008"):
            act(
                database, tenants[0], "budgets.update", function, roles=roles,
                p_scope="user", p_holder_id=ann, **DAY, p_tokens=5,
            )  # fmt: skip
        with refused("EA008"):
            act(
                database, tenants[0], "budgets.read", function,
                p_scope="user", p_holder_id=ann, **DAY, p_tokens=5,
            )  # fmt: skip


@SCOPES
def test_the_holders_of_another_tenant_are_not_there(database: Database, tenants: Sequence[UUID], scope: str) -> None:
    theirs, _ = holder_of(database, tenants[1], scope)
    # A tenant's own budget is the platform's to set, whichever tenant it is.
    for holder in (uuid4(),) if scope == "tenant" else (theirs, uuid4()):
        for change in (set_limit, top_up):
            with refused("EA002"):
                change(database, tenants[0], holder, scope, p_tokens=5)
    with refused("EA002"):
        set_limit(database, tenants[0], theirs, "group", p_tokens=5)
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.limits") == 0


def test_every_change_is_in_the_audit_log_with_what_was_before_and_one_that_changes_nothing_is_not(
    database: Database, tenants: Sequence[UUID]
) -> None:
    ann = user(database, tenants[0])
    root = f"user:{user(database, tenants[0], 'root')}"
    before = len(entries(database, tenants[0]))
    set_limit(database, tenants[0], ann, p_tokens=100)
    set_limit(database, tenants[0], ann, p_tokens=100)
    set_limit(database, tenants[0], ann, p_tokens=100, p_cost_micros=9, p_paused=True)
    top_up(database, tenants[0], ann, p_tokens=4)
    set_limit(database, tenants[0], ann)
    written = entries(database, tenants[0])[before:]
    assert [(actor, action, about) for _, actor, action, about, _ in written] == [
        (root, action, str(ann))
        for action in ("budget.changed", "budget.changed", "budget.topped_up", "budget.changed")
    ]
    first, paused, topped, removed = (data for *_, data in written)
    limited = {"tokens": 100, "cost_micros": None, "paused": False}
    assert first == {"scope": "user", "period": "day", "before": None, "after": limited}
    assert paused["before"] == limited
    assert paused["after"] == {"tokens": 100, "cost_micros": 9, "paused": True} == removed["before"]
    today = datetime.now(UTC).date().isoformat()
    assert topped == {"scope": "user", "period": "day", "starts_on": today, "tokens": 4, "cost_micros": 0}


# Who is told


def events(database: Database, holder: UUID) -> list[tuple[str, int]]:
    """Return period and percent of the events about a holder, in their order."""
    with database.connect() as operator:
        return [
            (data["period"], data["percent"])
            for (data,) in operator.query(
                "SELECT data FROM events.outbox WHERE type = %s AND subject = %s ORDER BY created_at, id",
                [REACHED, str(holder)],
            )
        ]


@SCOPES
def test_80_and_100_percent_are_told_once_a_period(database: Database, tenants: Sequence[UUID], scope: str) -> None:
    holder, key = holder_of(database, tenants[0], scope)
    limit(database, tenants[0], 100, scope=scope, holder=holder)
    with operator_of(database, tenants[0], api_key=key) as caller:
        use(caller, 79)
        held = reserve(caller, 1)
        assert events(database, holder) == [], "what is held is not used"
        settle(caller, held, 1)
        assert events(database, holder) == [("day", 80)]
        use(caller, 19)
        assert events(database, holder) == [("day", 80)]
        use(caller, 1)
        assert events(database, holder) == [("day", 80), ("day", 100)]
    with operator_of(database, tenants[0], api_key=key, clock="2031-05-05 12:00Z") as caller:
        use(caller, 100)
    assert events(database, holder) == [("day", 80), ("day", 100), ("day", 100)], "the next day is told anew"


def test_the_event_says_whose_budget_it_is_and_how_it_stands(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    ann = user(database, tenants[0])
    limit(database, tenants[0], 100, scope="user", holder=ann, cost=50)
    use(caller, 10, 0, price(database, "dear", 4, 5))
    with database.connect() as operator:
        about, extensions, data = operator.query(
            "SELECT subject, extensions, data FROM events.outbox WHERE type = %s", [REACHED]
        )[0]
    assert (about, extensions) == (str(ann), {"region": "test", "partitionkey": str(tenants[0])})
    today = datetime.now(UTC).date().isoformat()
    expected = {
        "scope": "user", "holder_id": str(ann), "period": "day", "starts_on": today, "percent": 80,
        "limit": 100, "settled": 10, "reserved": 0, "remaining": 90,
        "cost_limit": 50, "cost_settled": 40, "cost_reserved": 0, "cost_remaining": 10,
    }  # fmt: skip
    assert {name: value for name, value in data.items() if name != "resets_at"} == expected


def test_a_raised_limit_is_told_again_when_it_is_reached_and_other_changes_are_not(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    tenant = tenants[0]
    set_limit(database, tenant, tenant, "tenant", p_tokens=100)
    use(caller, 85)
    set_limit(database, tenant, tenant, "tenant", p_tokens=100, p_paused=True)
    set_limit(database, tenant, tenant, "tenant", p_tokens=100)
    set_limit(database, tenant, tenant, "tenant", p_tokens=90)
    use(caller, 1)
    assert events(database, tenant) == [("day", 80)]
    set_limit(database, tenant, tenant, "tenant", p_tokens=200)
    use(caller, 64)
    assert events(database, tenant) == [("day", 80)]
    use(caller, 10)
    assert events(database, tenant) == [("day", 80), ("day", 80)]
    use(caller, 40)
    top_up(database, tenant, tenant, "tenant", p_tokens=1000)
    assert events(database, tenant) == [("day", 80), ("day", 80), ("day", 100)]
    use(caller, 1000)
    assert events(database, tenant) == [("day", 80), ("day", 80), ("day", 100), ("day", 100)]


def test_a_refused_turn_tells_that_the_budget_is_exhausted_once(database: Database, tenants: Sequence[UUID]) -> None:
    """The refusal's own transaction leaves nothing, so that who asked says it afterwards."""
    with database.connect("app", tenants[0]) as app:
        held = app.call("chat.begin_turn", p_message="How much?", p_max_tokens=100)["reserved_tokens"]
        limit(database, tenants[0], 2 * held)
        for used in (0.5, 0.9, 0.9):
            if used > 0.5:
                limit(database, tenants[0], round(held / used))
            with refused("EA004") as raised:
                app.call("chat.begin_turn", p_message="How much?", p_max_tokens=450)
            full = {f"p_{name}": told(raised.value)[name] for name in ("scope", "holder_id", "period", "starts_on")}
            app.call("budget.note_exhausted", **full)
            # A turn that is larger than what is left of a budget half full does not use it up.
            assert events(database, tenants[0]) == ([] if used == 0.5 else [("day", 100)])
            for paused in (True, False):
                set_limit(database, tenants[0], tenants[0], "tenant", p_tokens=round(held / used), p_paused=paused)
    assert_sound(database, tenants[0])


# No way around

WRITES = {
    "balances": "UPDATE budget.balances SET settled = 0",
    "limits": "UPDATE budget.limits SET tokens = 1000000000",
    "reservations": "DELETE FROM budget.reservations",
    "ledger": "DELETE FROM budget.ledger",
    "another limit": "INSERT INTO budget.limits (tenant_id, scope, holder_id, period) SELECT core.current_tenant(), 'user',"
    " core.current_user_id(), 'day'",
    "an entry": "INSERT INTO budget.ledger (tenant_id, turn_id, user_id, entry, tokens, cost_micros, day, month)"
    " SELECT core.current_tenant(), core.current_user_id(), core.current_user_id(), 'settle', 1, 0, now(), now()",
    "a partition": "DELETE FROM budget.ledger_default",
    "the trigger": "ALTER TABLE budget.limits DISABLE TRIGGER apply_limit",
    "settle": "SELECT budget.settle(gen_random_uuid(), 0)",
    "release": "SELECT budget.release(gen_random_uuid())",
    "reserve": "SELECT budget.reserve(gen_random_uuid(), 1)",
    "maintain": "SELECT budget.maintain()",
}


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("role", ["app", "dba_readonly", "relay"])
def test_the_functions_the_relay_and_the_readers_change_no_budget_but_by_the_platforms_own_calls(
    database: Database, tenants: Sequence[UUID], what: str, role: str
) -> None:
    with database.connect(role) as caller:
        if role == "app":
            caller.value("SELECT set_config('app.tenant_id', %s, false)", [str(tenants[0])])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.run(WRITES[what])


BROKEN = {
    "settled + reserved within the limit": "UPDATE budget.balances SET settled = tokens, reserved = 1",
    "reserved within the limit": "UPDATE budget.balances SET reserved = tokens + 1",
    "cost within the limit": "UPDATE budget.balances SET cost_settled = cost_micros + 1 WHERE cost_micros IS NOT NULL",
    "limit not below what is used": "UPDATE budget.balances SET tokens = 9",
    "cost limit not below what is used": "UPDATE budget.balances SET cost_micros = 9",
    "settled not negative": "UPDATE budget.balances SET settled = -1",
    "reserved not negative": "UPDATE budget.balances SET reserved = -1",
    "cost settled not negative": "UPDATE budget.balances SET cost_settled = -1",
    "cost reserved not negative": "UPDATE budget.balances SET cost_reserved = -1",
    "a known share": "UPDATE budget.balances SET reached = 90",
    "a known period": "UPDATE budget.balances SET period = 'week'",
    "a known scope": "UPDATE budget.balances SET scope = 'group'",
    "a limit not negative": "UPDATE budget.limits SET tokens = -1",
    "a cost limit not negative": "UPDATE budget.limits SET cost_micros = -1",
    "a limit's known period": "UPDATE budget.limits SET period = 'week'",
    "a limit's known scope": "UPDATE budget.limits SET scope = 'group'",
    "a tenant's limit is for the tenant": "UPDATE budget.limits SET holder_id = gen_random_uuid()",
    "a reservation of something": "UPDATE budget.reservations SET tokens = 0",
    "a reservation's cost not negative": "UPDATE budget.reservations SET cost_micros = -1",
    "a settlement not negative": "UPDATE budget.reservations SET settled = -1, cost_settled = 0, closed_at = now()",
    "a closed reservation is settled": "UPDATE budget.reservations SET closed_at = now()",
    "a settled reservation is closed": "UPDATE budget.reservations SET settled = 1, cost_settled = 1",
    "an entry not negative": "UPDATE budget.ledger SET tokens = -1",
    "an entry's cost not negative": "UPDATE budget.ledger SET cost_micros = -1",
    "a known entry": "UPDATE budget.ledger SET entry = 'gift'",
}


@pytest.mark.parametrize("what", BROKEN)
def test_even_the_superuser_writes_nothing_that_cannot_be(
    database: Database, tenants: Sequence[UUID], caller: Caller, what: str
) -> None:
    limit(database, tenants[0], 100, cost=100)
    reserve(caller, 10, 0, price(database, "one", 1, 1))
    with database.connect() as operator, pytest.raises(psycopg.errors.CheckViolation):
        operator.run(BROKEN[what])
    assert_sound(database, tenants[0])


def test_a_balance_that_was_changed_by_hand_is_found(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    use(caller, 10)
    with database.connect() as operator:
        for change in ("settled = 9", "reserved = 1", "cost_settled = 1", "cost_reserved = 1"):
            with operator.connection.transaction(force_rollback=True):
                operator.run(f"UPDATE budget.balances SET {change} WHERE period = 'day'")
                assert len(operator.rows("budget.verify", p_tenant_id=tenants[0])) == 1, change
        for statement in ("DELETE FROM budget.ledger WHERE entry = 'settle'", "DELETE FROM budget.balances"):
            with operator.connection.transaction(force_rollback=True):
                operator.run(statement)
                assert len(operator.rows("budget.verify")) == 2, statement
    assert_sound(database, tenants[0])
