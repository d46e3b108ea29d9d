"""Lints over the catalog: what every object of the platform must have."""

import json
import os
import re

import pytest

from migrations import logic
from shared.problems import PROBLEM_TYPES
from tests.privileges import GOLDEN, OWN, privileges
from tests.support import Database

ACTS_FOR_A_TENANT = re.compile(r"core\.(require|current)_tenant\(\)")

SAME_TENANT = r"(tenant_)?id = \( SELECT core\.current_tenant\(\) AS current_tenant\)"
OF_THE_TENANT = rf"^\(({SAME_TENANT}|\({SAME_TENANT}\) AND .+)\)$"
"""As PostgreSQL writes an expression that is this comparison alone, or has it before AND; one with OR begins otherwise."""

LINTS = {
    "a table without a comment": f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OWN} AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL""",
    "a function without a comment": f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OWN} AND obj_description(p.oid, 'pg_proc') IS NULL""",
    "a schema without a comment": f"""
        SELECT n.nspname FROM pg_namespace n WHERE {OWN} AND obj_description(n.oid, 'pg_namespace') IS NULL""",
    "a table with a tenant but without row-level security": f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OWN} AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND EXISTS (
          SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')""",
    "a table with row-level security but without a policy for the functions": f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OWN} AND c.relrowsecurity AND NOT c.relispartition AND NOT EXISTS (
          SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND 'app'::regrole = ANY (p.polroles))""",
    "a policy of the functions that is evaluated for each row": """
        SELECT p.polrelid::regclass || '.' || p.polname FROM pg_policy p
        WHERE 'app'::regrole = ANY (p.polroles)
          AND regexp_replace(concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
                             '\\( SELECT [a-z_]+\\.[a-z_]+\\(\\) AS [a-z_]+\\)', '', 'g') ~ '[a-z_]+\\('""",
    "a policy of the functions that does not ask for the tenant": f"""
        SELECT p.polrelid::regclass || '.' || p.polname FROM pg_policy p
        CROSS JOIN LATERAL (
          SELECT pg_get_expr(p.polqual, p.polrelid) AS reads, pg_get_expr(p.polwithcheck, p.polrelid) AS writes) AS e
        WHERE 'app'::regrole = ANY (p.polroles)
          AND NOT (coalesce(e.reads, e.writes) ~ '{OF_THE_TENANT}' AND coalesce(e.writes, e.reads) ~ '{OF_THE_TENANT}')""",
    "a function with the owner's rights whose search path is not pinned": f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OWN} AND p.prosecdef AND NOT coalesce(p.proconfig::text ~ 'search_path=pg_catalog,.*pg_temp', false)""",
    "a function that everybody may execute": f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OWN} AND has_function_privilege('public', p.oid, 'EXECUTE')""",
    "an object that the owner does not own": f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OWN} AND c.relkind IN ('r', 'p', 'v', 'S') AND pg_get_userbyid(c.relowner) <> 'ea_owner'
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OWN} AND pg_get_userbyid(p.proowner) <> 'ea_owner'""",
    "a foreign key without an index on its columns": rf"""
        SELECT k.conrelid::regclass || '.' || k.conname
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
        WHERE {OWN} AND k.contype = 'f' AND NOT EXISTS (
          SELECT FROM pg_index i
          WHERE i.indrelid = k.conrelid
            -- A key that is looked for is not null, so that an index without the nulls finds it.
            AND coalesce(pg_get_expr(i.indpred, i.indrelid) ~ '^\(\w+ IS NOT NULL\)$', true)
            AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey)""",
    "an overloaded function": f"""
        SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OWN} GROUP BY 1 HAVING count(*) > 1""",
}


@pytest.mark.parametrize("lint", LINTS)
def test_there_is_no(database: Database, lint: str) -> None:
    with database.connect() as operator:
        assert [row[0] for row in operator.query(LINTS[lint])] == []


def test_functions_of_the_owners_rights_that_the_functions_may_call_act_for_the_current_tenant(
    database: Database,
) -> None:
    """Those that work across tenants are few, and named here."""
    across = {
        # The door: they find out whom a request acts for, or record that it acts for nobody.
        "core.enter", "core.enter_function", "core.authenticate_key", "compliance.record_refusal",
        # Where the tenant of a request is at home.
        "core.residency", "compliance.record_residency",
        # For platform_admin only.
        "core.list_tenants", "core.create_tenant",
        "core.list_regions", "core.set_region", "core.drop_region", "core.read_home", "core.drop_home",
        "inference.sweep", "inference.renew", "rag.sweep_documents", "rag.sweep_embeddings", "budget.expire",
        # Finds out whose an object of a bucket is.
        "rag.bucket_target",
        # Forgets what is of no use any more, whosever it was.
        "ops.maintain",
        # Tables alone, of all tenants.
        "ops.make_partitions",
        # Numbers alone, for the metrics.
        "ops.gauges",
        # A model belongs to no tenant.
        "routing.claim_probes", "routing.report_probe",
    }  # fmt: skip
    with database.connect() as operator:
        found = operator.query(
            f"SELECT n.nspname || '.' || p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            f" WHERE {OWN} AND p.prosecdef AND has_function_privilege('app', p.oid, 'EXECUTE')"
        )
    assert {name for name, body in found if not ACTS_FOR_A_TENANT.search(body)} == across


def test_every_object_stands_in_the_file_of_its_name(database: Database) -> None:
    with database.connect() as operator:
        names = operator.query(
            f"SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OWN}"
        )
    assert {row[0] for row in names} == {file.name for file in logic.read_files()}


def test_the_databases_problems_are_those_that_http_knows(database: Database) -> None:
    with database.connect() as operator:
        raised = {code: sqlstate for code, sqlstate, _ in operator.rows("ops.problems")}
    assert raised == {code: kind.sqlstate for code, kind in PROBLEM_TYPES.items() if kind.sqlstate}


def test_privileges_are_the_golden_ones(database: Database) -> None:
    """The matrix role x object x privilege. A deliberate change is written with UPDATE_GOLDEN=1 (see docs/database.md)."""
    with database.connect() as operator:
        matrix = privileges(operator)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(matrix, indent=2, sort_keys=True) + "\n")
    assert matrix == json.loads(GOLDEN.read_text())


def test_the_functions_role_cannot_change_budgets_events_or_history() -> None:
    golden = json.loads(GOLDEN.read_text())["app"]
    for table in ("budget.balances", "budget.ledger", "budget.reservations", "budget.limits", "ops.settings"):
        assert golden[table] == "select"
    assert "events.outbox" not in golden
    assert "ops.sql_history" not in golden
