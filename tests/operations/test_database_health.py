"""`make db-health` says that a good database is good, and what is wrong with another one."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from uuid import UUID

import pytest
from psycopg.conninfo import make_conninfo

from infra import database_health
from tests.conftest import ROOT
from tests.support import Caller, Database

OLD = "now() - interval '1 hour'"
EVENT = f"""
INSERT INTO events.outbox (tenant_id, type, subject, data, created_at, available_at)
VALUES (TENANT, 'com.enterprise-agents.budget.reached.v1', 'x', '{{}}', {OLD}, {OLD})
"""
DEAD = """
INSERT INTO events.dead_letters (id, tenant_id, type, subject, extensions, data, created_at, attempts, last_error)
VALUES (gen_random_uuid(), TENANT, 'com.enterprise-agents.budget.reached.v1', 'x', '{}', '{}', now(), 1, 'no')
"""


NO_PARTITION = """
DO $$ DECLARE name text := 'budget.ledger_' || to_char(now() + interval '1 month', 'YYYY_MM');
BEGIN EXECUTE format('ALTER TABLE budget.ledger DETACH PARTITION %s', name); EXECUTE 'DROP TABLE ' || name; END $$
"""


def asked(operator: Caller, tenant: UUID, database: Database) -> None:
    with database.connect("app", tenant) as app:
        app.call("chat.begin_turn", p_message="Why?", p_max_tokens=10)
    operator.run(f"UPDATE inference.jobs SET emitted_at = {OLD}")
    operator.run("DELETE FROM events.outbox")


def test_a_migrated_database_is_healthy_and_tells_of_itself(database: Database, tenants: Sequence[UUID]) -> None:
    state = database_health.run(database.urls["postgres"])
    assert (state["healthy"], state["findings"]) == (True, [])
    assert state["migration"]["revision"] == state["migration"]["head"]
    assert state["migration"]["drift"] == []
    assert {"vector", "pg_trgm"} <= state["extensions"].keys()
    assert 0 < state["connections"]["used"] < state["connections"]["limit"]
    sizes = {table["name"]: table for table in state["tables"]}
    assert sizes["core.tenants"]["bytes"] > sizes["core.tenants"]["index_bytes"] > 0
    assert [t["bytes"] for t in state["tables"]] == sorted((t["bytes"] for t in state["tables"]), reverse=True)
    assert tenants


def test_a_database_administrator_reads_it_in_sql(database: Database) -> None:
    with database.connect("dba_readonly") as dba:
        state = dba.call("ops.health")
    assert state["migration"]["revision"] == database_health.run(database.urls["postgres"])["migration"]["head"]


@pytest.mark.parametrize(
    ("statement", "severity", "subject"),
    [
        (EVENT, "problem", "outbox"),
        (DEAD, "warning", "dead letters"),
        ("DROP EXTENSION pg_trgm CASCADE", "problem", "extensions"),
        ("UPDATE alembic_version SET version_num = '000_core'", "problem", "migration"),
        ("DROP FUNCTION ops.problems", "problem", "drift"),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'inference.jobs_unfinished'::regclass",
            "problem",
            "indexes",
        ),
        (
            NO_PARTITION,
            "warning",
            "partitions",
        ),
    ],
)
def test_what_is_wrong_is_found(
    database: Database, tenants: Sequence[UUID], statement: str, severity: str, subject: str
) -> None:
    with database.connect() as operator:
        operator.connection.execute(statement.replace("TENANT", f"'{tenants[0]}'").encode())
    state = database_health.run(database.urls["postgres"])
    assert (severity, subject) in {(f["severity"], f["subject"]) for f in state["findings"]}
    assert state["healthy"] == (severity == "warning")


def test_a_job_that_nobody_takes_is_a_problem(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect() as operator:
        asked(operator, tenants[0], database)
    state = database_health.run(database.urls["postgres"])
    assert [(f["severity"], f["subject"]) for f in state["findings"]] == [("problem", "jobs")]
    assert state["jobs"] == {"queued": 1}


def command(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.database_health"],
        cwd=ROOT,
        env={**os.environ, "MIGRATION_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_json_and_its_status_says_whether_it_is_good(
    database: Database, empty_database: str
) -> None:
    good = command(database.urls["postgres"])
    assert (good.returncode, json.loads(good.stdout)["healthy"]) == (0, True)
    empty = command(empty_database)
    assert (empty.returncode, json.loads(empty.stdout)["healthy"]) == (1, False)
    assert "make migrate" in empty.stdout
    away = command(make_conninfo("postgresql://nobody:secret-word@127.0.0.1:1/none"))
    assert (away.returncode, json.loads(away.stdout)["healthy"]) == (1, False)
    assert "secret-word" not in away.stdout + away.stderr
