"""A turn's budget costs the same with many tenants and a long ledger: indexes only, and one month's partition."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import pytest

from infra.local.postgres import EmbeddedPostgres
from tests.conftest import new_database
from tests.sql.budget_steps import assert_sound, limit, operator_of, price, reserve, settle, use
from tests.sql.steps import make_key, user
from tests.support import PASSWORDS, Caller, Database

TENANTS = 2_000
ROWS = 200_000
MONTHS = ("2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01")
NOW = "2026-06-15 12:00Z"
FILL = f"""
INSERT INTO core.tenants (id, slug, name) SELECT md5('t' || n)::uuid, 't-' || n, 'T' FROM generate_series(1, {TENANTS}) AS n;
INSERT INTO core.users (tenant_id, id, subject)
  SELECT t.id, md5(t.slug || u)::uuid, 'u' || u
  FROM core.tenants AS t CROSS JOIN generate_series(1, 5) AS u
  WHERE t.slug LIKE 't-%';
CREATE TEMP TABLE movement AS
  SELECT md5('t' || g.tenant)::uuid AS tenant_id, md5('turn' || g.n)::uuid AS turn_id,
    md5('t-' || g.tenant || (g.n / {TENANTS}) % 5 + 1)::uuid AS user_id,
    CASE WHEN g.n % 3 = 0 THEN md5('key' || g.tenant)::uuid END AS api_key_id,
    (DATE '2026-01-01' + (g.n / 2) % 166)::date AS day
  FROM (SELECT n, n % {TENANTS} + 1 AS tenant FROM generate_series(1, {ROWS // 4}) AS n) AS g;
INSERT INTO budget.ledger
    (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, prompt_tokens, day, month)
  SELECT m.tenant_id, m.turn_id, m.user_id, m.api_key_id, 'm', e.entry, e.tokens, 0,
    CASE e.entry WHEN 'settle' THEN 5 END, m.day, date_trunc('month', m.day)::date
  FROM movement AS m
  CROSS JOIN (VALUES ('reserve', 10), ('release', 10), ('settle', 5), ('overrun', 1)) AS e (entry, tokens);
INSERT INTO budget.reservations
    (tenant_id, turn_id, user_id, api_key_id, day, month, tokens, cost_micros, settled, cost_settled, closed_at, expires_at)
  SELECT tenant_id, turn_id, user_id, api_key_id, day, date_trunc('month', day)::date, 10, 0, 5, 0, day, day
  FROM movement;
INSERT INTO budget.balances (tenant_id, scope, holder_id, period, starts_on, tokens, settled)
  SELECT tenant_id, 'tenant', tenant_id, p.period, p.starts_on, 1000000, count(*) * 5
  FROM movement CROSS JOIN LATERAL (VALUES ('day', day), ('month', date_trunc('month', day)::date)) AS p (period, starts_on)
  GROUP BY tenant_id, p.period, p.starts_on;
INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens)
  SELECT tenant_id, 'tenant', tenant_id, 'day', 1000000 FROM movement GROUP BY tenant_id;
INSERT INTO routing.models (name, tier) SELECT 'model-' || n, 'light' FROM generate_series(1, 1000) AS n;
DROP TABLE movement;
ANALYZE;
"""
WATCHED = ["budget.balances", "budget.reservations", "budget.limits", "core.tenants", "core.users", "routing.models"]


@dataclass(frozen=True)
class Scans:
    """How many rows were read from end to end, and how often tables were read by an index."""

    sequential: dict[str, int]
    by_index: dict[str, int]


@pytest.fixture(scope="module")
def full(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A database with many tenants, and half a year of ledger."""
    name = "budget_plans"
    with new_database(postgres, name, template):
        urls = {role: postgres.url(name, user=role, password=password) for role, password in PASSWORDS.items()}
        opened = Database({"postgres": postgres.url(name), **urls})
        with opened.connect() as operator:
            for month in MONTHS:
                operator.run(
                    f"CREATE TABLE budget.ledger_{month[:7].replace('-', '_')} PARTITION OF budget.ledger"
                    f" FOR VALUES FROM ('{month}') TO (DATE '{month}' + INTERVAL '1 month')"
                )
            # The rows of this fixture are limits of no running period.
            operator.run("ALTER TABLE budget.limits DISABLE TRIGGER apply_limit")
            operator.connection.execute(FILL)
            operator.run("ALTER TABLE budget.limits ENABLE TRIGGER apply_limit")
        yield opened


@pytest.fixture
def tenant(full: Database) -> UUID:
    """One of the many."""
    with full.connect() as operator:
        found: UUID = operator.value("SELECT id FROM core.tenants WHERE slug = 't-777'")
    return found


@contextmanager
def scans(caller: Caller) -> Iterator[Scans]:
    """Count what the statements inside, and those inside of the functions that they call, read in one transaction."""
    seen = Scans({}, {})
    # What the session has counted before and not yet reported counts as this transaction's.
    caller.query("SELECT pg_stat_force_next_flush()")
    with caller.connection.transaction():
        yield seen
        for name, sequential, by_index in caller.query(
            "SELECT relid::regclass::text, seq_tup_read, coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables"
            " WHERE schemaname IN ('budget', 'core', 'routing')"
        ):
            seen.sequential[name] = sequential
            seen.by_index[name] = by_index


def assert_indexed(seen: Scans, *tables: str, partitions: Sequence[str] = ()) -> None:
    """Check that no big table was read from end to end, that those named were read by an index, and of the ledger only some."""
    assert [name for name in (*WATCHED, *seen.sequential) if seen.sequential.get(name) and not is_small(name)] == []
    for table in tables:
        assert seen.by_index[table] > 0, table
    touched = {name for name, number in seen.by_index.items() if name.startswith("budget.ledger_") and number}
    assert touched == {f"budget.ledger_{month}" for month in partitions}


def is_small(name: str) -> bool:
    """Whether a table has a handful of rows however large the platform is."""
    return name not in WATCHED and not name.startswith("budget.ledger")


def test_what_is_watched_would_be_noticed(full: Database) -> None:
    with full.connect() as operator, scans(operator) as seen:
        operator.query("SELECT sum(settled) FROM budget.balances")
        operator.query("SELECT sum(tokens) FROM budget.ledger WHERE day = '2026-03-03' AND month = '2026-03-01'")
    assert seen.sequential["budget.balances"] > TENANTS
    assert {name for name, number in seen.sequential.items() if number and "ledger" in name} == {
        "budget.ledger_2026_03"
    }


def test_reserving_settling_and_releasing_read_by_index(full: Database, tenant: UUID) -> None:
    limit(full, tenant, 10**6, scope="user", holder=user(full, tenant, "u1"))
    model = price(full, "model-500", 1, 1)
    with operator_of(full, tenant, "u1", clock=NOW) as caller:
        reserve(caller, 1)
        with scans(caller) as seen:
            turn = reserve(caller, 10, 10, model)
        assert_indexed(seen, "budget.balances", "budget.limits", "core.tenants", "routing.models")
        with scans(caller) as seen:
            settle(caller, turn, 5)
        assert_indexed(seen, "budget.balances", "budget.reservations")
        turn = reserve(caller, 10)
        with scans(caller) as seen:
            settle(caller, turn, 500)  # beyond what it holds
        assert_indexed(seen, "budget.balances", "budget.reservations")
        turn = reserve(caller, 10)
        with scans(caller) as seen:
            caller.call("budget.release", p_turn_id=turn)
        assert_indexed(seen, "budget.balances", "budget.reservations")
    assert_sound(full, tenant)


@pytest.mark.parametrize("clock", ["2026-06-20 12:00Z", "2026-04-30 12:00Z"])
def test_the_first_turn_of_a_day_reads_nothing_of_the_ledger(full: Database, tenant: UUID, clock: str) -> None:
    with operator_of(full, tenant, "u2", clock=clock) as caller:
        caller.run(
            "DELETE FROM budget.balances WHERE tenant_id = %s AND period = 'day' AND starts_on = %s::timestamptz::date",
            [tenant, clock],
        )
        with scans(caller) as seen:
            reserve(caller, 10)
        assert_indexed(seen, "budget.balances", partitions=[])


@pytest.mark.parametrize("scope", ["user", "api_key"])
def test_a_new_limits_first_turn_reads_one_month_of_its_holder_by_index(
    full: Database, tenant: UUID, scope: str
) -> None:
    key = make_key(full, tenant, subject="u3").key_id
    holder = key if scope == "api_key" else user(full, tenant, "u3")
    for period in ("day", "month"):
        limit(full, tenant, 10**6, scope=scope, holder=holder, period=period)
    with operator_of(full, tenant, "u3", api_key=key, clock=NOW) as caller:
        with scans(caller) as seen:
            reserve(caller, 10)
        assert_indexed(seen, "budget.balances", partitions=["2026_06"])
    assert_sound(full, tenant)


def test_verifying_a_tenant_reads_its_rows_by_index_and_since_a_month_no_earlier_ones(
    full: Database, tenant: UUID
) -> None:
    with full.connect() as operator:
        operator.run("SET plan_cache_mode = force_custom_plan")
        with scans(operator) as seen:
            assert operator.rows("budget.verify", p_tenant_id=tenant) == []
        assert_no_end_to_end(seen)
        with scans(operator) as seen:
            assert operator.rows("budget.verify", p_tenant_id=tenant, p_since=date(2026, 5, 1)) == []
        assert_no_end_to_end(seen)


def assert_no_end_to_end(seen: Scans) -> None:
    assert [name for name, number in seen.sequential.items() if number and not is_small(name)] == []


def test_the_use_of_a_user_reads_the_months_that_are_asked_for_by_index(full: Database, tenant: UUID) -> None:
    with operator_of(full, tenant, "u4", roles=["member"]) as caller:
        arguments = {"p_from": date(2026, 2, 10), "p_until": date(2026, 3, 20), "p_by": ["day", "model"]}
        with scans(caller) as seen:
            assert caller.call("budget.usage", **arguments, p_user_id=user(full, tenant, "u4"))
        assert_indexed(seen, partitions=["2026_02", "2026_03"])
        with scans(caller) as seen:
            assert caller.call("budget.usage", **arguments)
        assert_indexed(seen, partitions=["2026_02", "2026_03"])


def test_listing_the_budgets_reads_by_index(full: Database, tenant: UUID) -> None:
    with operator_of(full, tenant, "u5", clock=NOW) as caller:
        limit(full, tenant, 10**6, scope="user", holder=user(full, tenant, "u5"))
        with scans(caller) as seen:
            assert caller.call("budget.list_budgets")
        assert_no_end_to_end(seen)


def test_expiring_reads_open_reservations_by_index(full: Database, tenant: UUID) -> None:
    with operator_of(full, tenant, "u1", clock=NOW) as caller:
        reserve(caller, 10)
        caller.run(
            "UPDATE budget.reservations SET expires_at = '2020-01-01' WHERE tenant_id = %s AND closed_at IS NULL",
            [tenant],
        )
        with scans(caller) as seen:
            assert caller.call("budget.expire")["count"] >= 1
        assert_indexed(seen, "budget.reservations", "budget.balances")
    assert_sound(full, tenant)


# Partitions


def partitions(caller: Caller) -> set[str]:
    return {
        name
        for (name,) in caller.query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'budget.ledger'::regclass"
        )
    }


def test_maintenance_makes_months_ahead_moves_rows_out_of_the_default_partition_and_is_idle_the_second_time(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with operator_of(database, tenants[0]) as caller:
        for clock in ("2025-12-31 12:00Z", "2026-01-01 12:00Z", "2031-07-01 12:00Z"):
            caller.value("SELECT set_config('budget.clock', %s, false)", [clock])
            use(caller, 10)
            reserve(caller, 5)
    with database.connect() as operator:
        before = operator.query("SELECT * FROM budget.ledger ORDER BY id")
        assert operator.value("SELECT count(*) FROM budget.ledger_default") > 0
        made = operator.rows("budget.maintain", p_ahead=6)
        assert {action for action, _ in made} == {"created"}
        assert {"ledger_2025_12", "ledger_2026_01", "ledger_2031_07"} <= {name for _, name in made}
        ahead = operator.value(
            "SELECT count(*) FROM generate_series(date_trunc('month', now()), now() + interval '6 months', '1 month') AS m"
            " WHERE to_regclass('budget.ledger_' || to_char(m, 'YYYY_MM')) IS NOT NULL"
        )
        assert ahead == 7
        assert operator.value("SELECT count(*) FROM budget.ledger_default") == 0
        assert operator.query("SELECT * FROM budget.ledger ORDER BY id") == before
        assert operator.rows("budget.maintain", p_ahead=6) == []
        for name in partitions(operator):
            assert operator.value("SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass", [name]), name
    assert_sound(database, tenants[0])
    with operator_of(database, tenants[0], clock="2026-01-02 12:00Z") as caller:
        use(caller, 10)
        assert caller.value("SELECT count(*) FROM budget.ledger_2026_01 WHERE day = '2026-01-02'") == 3
    assert_sound(database, tenants[0])


def test_old_months_leave_the_ledger_and_stay_as_tables_of_their_own(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with operator_of(database, tenants[0]) as caller:
        use(caller, 7)
        for clock in ("2020-01-31 12:00Z", "2020-02-01 12:00Z"):
            caller.value("SELECT set_config('budget.clock', %s, false)", [clock])
            use(caller, 10)
    with database.connect() as operator:
        operator.rows("budget.maintain")
        detached = operator.rows("budget.maintain", p_keep_months=2)
        assert detached == [("detached", "ledger_2020_01"), ("detached", "ledger_2020_02")]
        assert operator.rows("budget.maintain", p_keep_months=2) == []
        assert not {"budget.ledger_2020_01", "budget.ledger_2020_02"} & partitions(operator)
        assert operator.value("SELECT sum(tokens) FROM budget.ledger_2020_01 WHERE entry = 'settle'") == 10
        assert operator.value("SELECT sum(tokens) FROM budget.ledger WHERE entry = 'settle'") == 7
        assert operator.rows("budget.verify") == [], "what cannot be recomputed any more is left alone"
        operator.run("UPDATE budget.balances SET settled = 8 WHERE settled = 7 AND period = 'day'")
        assert len(operator.rows("budget.verify")) == 1, "what can be is not"


def test_a_month_in_which_something_is_held_leaves_the_ledger_when_that_has_ended(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with operator_of(database, tenants[0], clock="2020-01-31 23:59Z") as caller:
        turn = reserve(caller, 10)
        caller.rows("budget.maintain")
        assert caller.rows("budget.maintain", p_keep_months=0) == []
        settle(caller, turn, 5)
        assert_sound(database, tenants[0])
        assert caller.rows("budget.maintain", p_keep_months=0) == [("detached", "ledger_2020_01")]
    assert_sound(database, tenants[0])


def test_a_month_that_is_still_wanted_stays(database: Database, tenants: Sequence[UUID]) -> None:
    with operator_of(database, tenants[0]) as caller:
        use(caller, 7)
    with database.connect() as operator:
        assert {action for action, _ in operator.rows("budget.maintain", p_keep_months=0)} <= {"created"}
        assert operator.value("SELECT sum(tokens) FROM budget.ledger WHERE entry = 'settle'") == 7
