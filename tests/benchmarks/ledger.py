"""Whether a large ledger makes a turn dearer: ten thousand tenants and ten million entries, beside a ledger that is empty.

Started as `python -m tests.benchmarks.ledger` (`make bench-ledger`; ROWS=1000000 for a quicker look). It measures what a turn
does to its budget (reserve and settle), a key's first turn under a new limit (which sums the ledger), one user's use of a
month, and the check of one tenant, before and after the ledger is filled, on the same server. Fails when one of them reads a
table of the budget from end to end, or takes more than twice as long with the large ledger.
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg

from tests.benchmarks.budget import RESERVE, SETTLE, Connection, Holder, connect, one, prepare, with_server

if TYPE_CHECKING:
    from collections.abc import Callable

TENANTS = 10_000
MONTHS = 6
ROUNDS = 60
LIMIT = 2.0
FILL = """
INSERT INTO budget.ledger (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, day, month, at)
SELECT t.id, gen_random_uuid(), u.id, CASE n %% 3 WHEN 0 THEN k.id END, 'model-' || n %% 4, 'settle', n %% 500, n %% 90, m.day,
       date_trunc('month', m.day)::date, m.day
FROM generate_series(%(first)s, %(last)s) AS n
JOIN bench.tenants AS t ON t.number = n %% %(tenants)s
CROSS JOIN LATERAL (SELECT md5('user' || t.number || n %% 7)::uuid) AS u (id)
CROSS JOIN LATERAL (SELECT md5('key' || t.number || n %% 5)::uuid) AS k (id)
CROSS JOIN LATERAL (SELECT (current_date - ((n / %(tenants)s) %% %(days)s)::integer)) AS m (day)
"""
BALANCES = """
INSERT INTO budget.balances (tenant_id, scope, holder_id, period, starts_on, tokens, settled, cost_settled)
SELECT l.tenant_id, 'tenant', l.tenant_id, p.period, p.starts_on, 1000000000000, sum(l.tokens), sum(l.cost_micros)
FROM budget.ledger AS l
CROSS JOIN LATERAL (VALUES ('day', l.day), ('month', l.month)) AS p (period, starts_on)
WHERE l.entry = 'settle' AND l.tenant_id IN (SELECT t.id FROM bench.tenants AS t)
GROUP BY l.tenant_id, p.period, p.starts_on
"""
RESERVATIONS = """
INSERT INTO budget.reservations (tenant_id, turn_id, user_id, day, month, tokens, cost_micros, settled, cost_settled,
  expires_at, closed_at)
SELECT l.tenant_id, l.turn_id, l.user_id, l.day, l.month, l.tokens + 1, 0, l.tokens, 0, l.at, l.at
FROM budget.ledger AS l WHERE l.month = date_trunc('month', now())::date
ON CONFLICT DO NOTHING
"""
SCANS = """
SELECT relid::regclass::text, seq_scan, seq_tup_read FROM pg_stat_user_tables
WHERE schemaname IN ('budget', 'core', 'routing') AND seq_tup_read > 1000
"""


def make_months(connection: Connection) -> None:
    """Make the tenants and the partitions: both ledgers reach back as far, only one is full."""
    connection.execute(
        "CREATE TABLE bench.tenants AS SELECT n AS number, core.provision_tenant('filled-' || n, 'Filled') AS id"
        " FROM generate_series(0, %s) AS n",
        (TENANTS - 1,),
    )
    connection.execute(
        "INSERT INTO budget.ledger (tenant_id, turn_id, user_id, entry, tokens, cost_micros, day, month)"
        " SELECT t.id, gen_random_uuid(), gen_random_uuid(), 'settle', 1, 0, m::date, m::date FROM bench.tenants AS t,"
        " generate_series(date_trunc('month', now()) - make_interval(months => %s), now(), '1 month') AS m WHERE t.number = 0",
        (MONTHS,),
    )
    connection.execute("SELECT budget.maintain()")


def fill(connection: Connection, rows: int) -> None:
    """Make the movements, a batch at a time, and what goes with them."""
    step = 500_000
    began = time.perf_counter()
    for first in range(0, rows, step):
        values = {"first": first, "last": min(first + step, rows) - 1, "tenants": TENANTS, "days": MONTHS * 30}
        connection.execute(FILL, values)
        print(
            f"\r{min(first + step, rows):,} of {rows:,} entries, {time.perf_counter() - began:.0f} s",
            end="",
            flush=True,
        )
    print()
    connection.execute(BALANCES)
    connection.execute(RESERVATIONS)
    connection.execute("VACUUM (ANALYZE) budget.ledger, budget.balances, budget.reservations, core.tenants")


def steps(connection: Connection, holder: Holder) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    key = str(uuid4())

    def turn() -> None:
        turn_id = uuid4()
        connection.execute(RESERVE, (turn_id,))
        connection.execute(SETTLE, (turn_id,))

    def new_limit() -> None:
        values = {"t": holder.tenant, "k": key}
        connection.execute(
            "SELECT * FROM budget.moved(%(t)s, 'api_key', %(k)s, 'month', date_trunc('month', now())::date, NULL)",
            values,
        ).fetchall()

    def usage() -> None:
        connection.execute(
            "SELECT budget.usage(date_trunc('month', now())::date, now()::date, '{day,model}', %s)", (holder.user,)
        )

    def check() -> None:
        connection.execute(
            "SELECT * FROM budget.verify(%s, date_trunc('month', now())::date)", (holder.tenant,)
        ).fetchall()

    return {
        "reserve + settle": turn,
        "a key's first turn under a limit": new_limit,
        "a user's month": usage,
        "verify": check,
    }


def measure(connection: Connection, holder: Holder) -> dict[str, float]:
    """Return the median seconds of each step."""
    holder.enter(connection)
    medians = {}
    for name, step in steps(connection, holder).items():
        taken = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            step()
            taken.append(time.perf_counter() - began)
        medians[name] = median(taken)
    return medians


def scanned(connection: Connection) -> set[str]:
    """Return the large tables that were read from end to end since the counters were reset."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    return {str(row[0]) for row in connection.execute(SCANS)}


def run(url: str) -> int:
    """Measure before and after; return the exit status."""
    rows = int(os.environ.get("ROWS") or 10_000_000)
    # Two tenants, each measured once: what a tenant has moved itself is the same before and after.
    first, second = prepare(url)[:2]
    failed = 0
    with psycopg.connect(url, autocommit=True) as operator:
        make_months(operator)
        with connect(url) as connection:
            empty = measure(connection, first)
        fill(operator, rows)
        [tenant] = one(operator, "SELECT id FROM bench.tenants WHERE number = 7")
        [user] = one(operator, "SELECT user_id FROM budget.ledger WHERE tenant_id = %s LIMIT 1", tenant)
        operator.execute("SELECT pg_stat_reset()")
        with connect(url) as connection:
            large = measure(connection, second)
            # One of those with a history of their own; how much of it is theirs decides, not how much there is.
            busy = measure(connection, Holder(UUID(str(tenant)), UUID(str(user))))
        time.sleep(1.5)
        scans = scanned(operator)
    for name in empty:
        ratio = large[name] / empty[name]
        failed += ratio > LIMIT
        print(
            f"{name:34} empty {empty[name] * 1000:7.3f} ms   {rows:,} entries {large[name] * 1000:7.3f} ms"
            f"   ratio {ratio:5.2f} (at most {LIMIT})   a tenant with its share {busy[name] * 1000:7.3f} ms"
        )
    print(f"tables read from end to end: {', '.join(sorted(scans)) or 'none'}")
    return 1 if failed or scans else 0


if __name__ == "__main__":
    sys.exit(with_server(run))
