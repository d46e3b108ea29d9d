"""What was used, by whom and how: the numbers are the ledger's, and everybody sees what is theirs to see."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, count, product
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.budget_steps import limit, operator_of, price, reserve, settle, use
from tests.sql.steps import act, make_key, refused, user
from tests.support import Database

DIMENSIONS = ("day", "user", "api_key", "model")
COLUMNS = {"day": "day", "user": "user_id", "api_key": "api_key_id", "model": "model"}
DAYS = (date(2025, 11, 30), date(2025, 12, 1), date(2025, 12, 31), date(2026, 1, 1), date(2026, 2, 28))
ALL = {"p_from": DAYS[0], "p_until": DAYS[-1]}
MEASURES = "count(DISTINCT turn_id), sum(prompt_tokens), sum(completion_tokens), sum(tokens), sum(cost_micros)"


@dataclass(frozen=True)
class Spent:
    """A tenant whose users have used something on several days, over several partitions of the ledger."""

    database: Database
    tenant: UUID
    users: dict[str, UUID]
    keys: dict[str, UUID]

    def usage(
        self, subject: str = "boss", roles: Sequence[str] = ("tenant_admin",), **arguments: Any
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = act(
            self.database, self.tenant, "usage.read", "budget.usage", subject=subject, roles=roles, **ALL | arguments
        )
        return found

    def ledger(self, by: Sequence[str], where: str = "true") -> list[tuple[Any, ...]]:
        """Return the same from the ledger itself, by a statement that is not the function's."""
        columns = ", ".join(COLUMNS[dimension] for dimension in by)
        groups = f"GROUP BY {columns} ORDER BY {columns}" if by else "HAVING count(*) > 0"
        with self.database.connect() as operator:
            return operator.query(
                f"SELECT {columns + ',' if by else ''} {MEASURES} FROM budget.ledger"
                f" WHERE tenant_id = %s AND entry = 'settle' AND {where} {groups}",
                [self.tenant],
            )


def plain(usage: list[dict[str, Any]], by: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return a usage's rows as the ledger's are."""
    types: dict[str, Callable[[str], Any]] = {"day": date.fromisoformat, "user": UUID, "api_key": UUID, "model": str}
    measures = ("turns", "prompt_tokens", "completion_tokens", "tokens", "cost_micros")
    return [
        (
            *(types[name](row[COLUMNS[name]]) if COLUMNS[name] in row else None for name in by),
            *(row[name] for name in measures),
        )
        for row in usage
    ]


@pytest.fixture(scope="module")
def spent(module_database: Database) -> Iterator[Spent]:
    with module_database.connect() as operator:
        tenant = operator.call("core.provision_tenant", p_slug="spender", p_name="Spender")
        other = operator.call("core.provision_tenant", p_slug="other", p_name="Other")
        operator.rows("budget.maintain")
        # Two of the months have a partition, the others are in the default one.
        for month, following in (("2025-12-01", "2026-01-01"), ("2026-02-01", "2026-03-01")):
            operator.run(
                f"CREATE TABLE budget.ledger_{month[:7].replace('-', '_')} PARTITION OF budget.ledger"
                f" FOR VALUES FROM ('{month}') TO ('{following}')"
            )
    price(module_database, "dear", 3, 5)
    price(module_database, "unknown", None, None)
    keys = {name: make_key(module_database, tenant, subject=name).key_id for name in ("ann", "bob")}
    users = {name: user(module_database, tenant, name) for name in ("ann", "bob", "boss")}
    amounts = count(1)
    for day, name, by_key, model in product(DAYS, ("ann", "bob"), (False, True), ("dear", "unknown", None)):
        key = keys[name] if by_key else None
        with operator_of(module_database, tenant, name, api_key=key, clock=f"{day} 12:00Z") as caller:
            use(caller, next(amounts), next(amounts), model)
    with operator_of(module_database, tenant, "ann", clock=f"{DAYS[0]} 12:00Z") as caller:
        caller.call("budget.release", p_turn_id=reserve(caller, 100))
        reserve(caller, 100)
    with operator_of(module_database, other, "ann", clock=f"{DAYS[0]} 12:00Z") as caller:
        use(caller, 1000)
    yield Spent(module_database, tenant, users, keys)
    with module_database.connect() as operator:
        operator.run("DELETE FROM core.tenants")


@pytest.mark.parametrize("by", [by for size in range(5) for by in combinations(DIMENSIONS, size)], ids=str)
def test_use_is_told_by_any_dimensions_together_as_the_ledger_has_it(spent: Spent, by: tuple[str, ...]) -> None:
    found = plain(spent.usage(p_by=list(by)), by)
    assert sorted(found, key=str) == sorted(spent.ledger(by), key=str)
    assert sum(row[-5] for row in found) == 60, "each turn once; what was given back or still runs is not used"


def test_rows_come_in_the_order_of_their_days(spent: Spent) -> None:
    assert [row["day"] for row in spent.usage()] == [str(day) for day in DAYS]


@pytest.mark.parametrize(("since", "until"), list(combinations((*DAYS, date(2026, 3, 1)), 2)), ids=str)
def test_both_ends_of_a_range_are_in_it(spent: Spent, since: date, until: date) -> None:
    found = plain(spent.usage(p_from=since, p_until=until), ["day"])
    assert found == spent.ledger(["day"], f"day BETWEEN '{since}' AND '{until}'")


def test_a_day_is_a_range(spent: Spent) -> None:
    assert len(spent.usage(p_from=DAYS[2], p_until=DAYS[2])) == 1
    assert spent.usage(p_from=date(2025, 12, 2), p_until=date(2025, 12, 30)) == []


@pytest.mark.parametrize(("since", "until"), [("2026-01-02", "2026-01-01"), ("2025-01-01", "2026-02-06")])
def test_a_range_that_ends_before_it_begins_or_is_too_long_is_refused(spent: Spent, since: str, until: str) -> None:
    with refused("EA012"):
        spent.usage(p_from=since, p_until=until)
    assert spent.usage(p_from="2025-01-02", p_until="2026-02-06")


def test_use_is_narrowed_to_a_user_a_key_and_a_model(spent: Spent) -> None:
    ann, key = spent.users["ann"], spent.keys["ann"]
    for arguments, where in (
        ({"p_user_id": ann}, f"user_id = '{ann}'"),
        ({"p_api_key_id": key}, f"api_key_id = '{key}'"),
        ({"p_model": "dear"}, "model = 'dear'"),
        ({"p_user_id": ann, "p_api_key_id": key, "p_model": "dear"}, f"api_key_id = '{key}' AND model = 'dear'"),
    ):
        found = plain(spent.usage(**arguments, p_by=["model", "day"]), ["day", "model"])
        assert found == spent.ledger(["day", "model"], where)
        assert found
    assert spent.usage(p_user_id=ann, p_api_key_id=spent.keys["bob"]) == []


@pytest.mark.parametrize(("roles", "sees_all"), [(["tenant_admin"], True), (["auditor"], True), (["member"], False)])
def test_who_may_not_see_all_sees_the_own_use(spent: Spent, roles: list[str], *, sees_all: bool) -> None:
    ann = spent.users["ann"]
    own = spent.ledger(["user"], f"user_id = '{ann}'")
    everybody = spent.ledger(["user"])
    found = plain(spent.usage("ann", roles, p_by=["user"]), ["user"])
    assert found == (everybody if sees_all else own)
    bobs = spent.usage("ann", roles, p_by=["user"], p_user_id=spent.users["bob"])
    assert [row["user_id"] for row in bobs] == [str(spent.users["bob"] if sees_all else ann)], (
        "asking for another changes nothing"
    )
    assert bool(spent.usage("ann", roles, p_api_key_id=spent.keys["bob"])) is sees_all


def test_who_uses_nothing_reads_no_use(spent: Spent) -> None:
    with refused("EA008"):
        spent.usage("nobody", ["viewer"])


def test_a_platform_admin_reads_what_another_tenant_used_and_nothing_of_its_people(
    spent: Spent, database: Database, tenants: Sequence[UUID]
) -> None:
    other: dict[str, Any] = {"p_from": "2000-01-01", "p_until": "2000-12-31", "p_tenant_id": tenants[0]}
    with database.connect("app", tenants[1], "root", operation="usage.read", roles=["platform_admin"]) as root:
        assert root.call("budget.usage", **other) == []
        for by in (["user"], ["day", "api_key"]):
            with refused("EA008"):
                root.call("budget.usage", **other, p_by=by)
        with refused("EA002"):
            root.call("budget.usage", **other | {"p_tenant_id": uuid4()})
    with refused("EA008"):
        act(database, tenants[1], "usage.read", "budget.usage", subject="boss", **other)
    assert spent


def test_use_outlives_the_user_the_key_and_the_model(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0], subject="bob").key_id
    bob = user(database, tenants[0], "bob")
    with operator_of(database, tenants[0], "bob", api_key=key, clock="2026-02-02 12:00Z") as caller:
        use(caller, 10, 5, price(database, "gone", 1, 1))
    act(database, tenants[0], "users.erase", "core.erase_user", p_user_id=bob)
    with database.connect() as operator:
        operator.run("DELETE FROM routing.models WHERE name = 'gone'")
    found = act(
        database, tenants[0], "usage.read", "budget.usage",
        p_from="2026-02-01", p_until="2026-02-28", p_by=list(DIMENSIONS),
    )  # fmt: skip
    assert found == [
        {
            "day": "2026-02-02", "user_id": str(bob), "api_key_id": str(key), "model": "gone",
            "turns": 1, "prompt_tokens": 10, "completion_tokens": 5, "tokens": 15, "cost_micros": 15,
        }
    ]  # fmt: skip


# The running budgets


def budgets(database: Database, tenant: UUID, subject: str, role: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    listed = act(database, tenant, "budgets.read", "budget.list_budgets", subject=subject, roles=[role])
    assert [b["scope"] for b in listed] == sorted((b["scope"] for b in listed), key=["tenant", "user", "api_key"].index)
    return {(b["scope"], b["holder_id"], b["period"]): b for b in listed}


@pytest.mark.parametrize("role", ["tenant_admin", "auditor", "member", "viewer", "service", "platform_admin"])
def test_the_running_budgets_are_the_tenants_and_the_own_or_for_an_administrator_or_auditor_all(
    database: Database, tenants: Sequence[UUID], role: str
) -> None:
    ann, bob = (user(database, tenants[0], name) for name in ("ann", "bob"))
    keys = [make_key(database, tenants[0], subject=name).key_id for name in ("ann", "bob")]
    for holder, scope in ((ann, "user"), (bob, "user"), (keys[0], "api_key"), (keys[1], "api_key")):
        limit(database, tenants[0], 100, scope=scope, holder=holder, cost=50)
    limit(database, tenants[1], 7)
    dear = price(database, "dear", 1, 1)
    with operator_of(database, tenants[0], "ann", api_key=keys[0]) as caller:
        settle(caller, reserve(caller, 30, 0, dear), 20)
        reserve(caller, 5, 0, dear)

    found = budgets(database, tenants[0], "ann", role)
    own = {("user", str(ann), "day"), ("api_key", str(keys[0]), "day")}
    others = {("user", str(bob), "day"), ("api_key", str(keys[1]), "day")}
    shared = {("tenant", str(tenants[0]), period) for period in ("day", "month")}
    assert set(found) == shared | own | (others if role in {"tenant_admin", "auditor"} else set())
    for name in own:
        expected = {
            "limit": 100, "settled": 20, "reserved": 5, "remaining": 75, "paused": False, "reached": 0,
            "cost_limit": 50, "cost_settled": 20, "cost_reserved": 5, "cost_remaining": 25,
        }  # fmt: skip
        assert {member: found[name][member] for member in expected} == expected
    month = found["tenant", str(tenants[0]), "month"]
    assert (month["limit"], month["settled"], month["reserved"]) == (20_000_000, 20, 5)
    assert "cost_limit" not in month


def test_a_limit_that_nobody_has_met_yet_is_listed_with_what_counts_in_it_already(
    database: Database, tenants: Sequence[UUID]
) -> None:
    ann = user(database, tenants[0])
    with operator_of(database, tenants[0]) as caller:
        use(caller, 30)
        reserve(caller, 10)
    limit(database, tenants[0], 100, scope="user", holder=ann)
    listed = budgets(database, tenants[0], "ann", "member")["user", str(ann), "day"]
    assert (listed["limit"], listed["settled"], listed["reserved"], listed["remaining"]) == (100, 30, 10, 60)
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.balances WHERE scope = 'user'") == 0, "reading makes none"


def test_a_paused_limit_is_listed_as_such(database: Database, tenants: Sequence[UUID]) -> None:
    ann = user(database, tenants[0])
    act(
        database, tenants[0], "budgets.update", "budget.set_limit",
        p_scope="user", p_holder_id=ann, p_period="month", p_paused=True,
    )  # fmt: skip
    listed = budgets(database, tenants[0], "ann", "member")
    assert {name: b["paused"] for name, b in listed.items()} == {
        ("tenant", str(tenants[0]), "day"): False,
        ("tenant", str(tenants[0]), "month"): False,
        ("user", str(ann), "month"): True,
    }
    assert (listed["user", str(ann), "month"]["limit"], listed["user", str(ann), "month"]["remaining"]) == (None, None)
