"""Each lint over the catalog finds what it is there to find."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from tests.sql.test_catalog import LINTS
from tests.support import Database

OWNED = "SET LOCAL ROLE ea_owner; "
TABLE = OWNED + "CREATE TABLE core.planted (tenant_id uuid, id uuid); "
FUNCTION = OWNED + "CREATE FUNCTION core.planted() RETURNS int LANGUAGE sql"
PLANTED: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType(
    {
        "a table without a comment": [
            (TABLE, "core.planted"),
            (OWNED + "CREATE VIEW core.planted AS SELECT 1 AS one", "core.planted"),
            (OWNED + "COMMENT ON TABLE chat.turns IS NULL", "chat.turns"),
        ],
        "a function without a comment": [
            (FUNCTION + " RETURN 1", "core.planted()"),
            (OWNED + "COMMENT ON FUNCTION core.require_tenant() IS NULL", "core.require_tenant()"),
        ],
        "a schema without a comment": [("CREATE SCHEMA planted AUTHORIZATION ea_owner", "planted")],
        "a table with a tenant but without row-level security": [
            (TABLE, "core.planted"),
            (OWNED + "ALTER TABLE core.api_keys DISABLE ROW LEVEL SECURITY", "core.api_keys"),
        ],
        "a table with row-level security but without a policy for the functions": [
            (TABLE + "ALTER TABLE core.planted ENABLE ROW LEVEL SECURITY", "core.planted"),
            (OWNED + "DROP POLICY tenant ON compliance.audit_log", "compliance.audit_log"),
            (OWNED + "ALTER POLICY tenant ON chat.turns TO relay", "chat.turns"),
        ],
        "a policy of the functions that is evaluated for each row": [
            (
                OWNED + "ALTER POLICY tenant ON rag.documents USING (tenant_id = core.current_tenant())",
                "rag.documents.tenant",
            ),
            (
                OWNED + "ALTER POLICY tenant ON rag.documents USING (tenant_id = (SELECT core.current_tenant()))"
                " WITH CHECK (tenant_id = core.current_tenant())",
                "rag.documents.tenant",
            ),
        ],
        "a policy of the functions that does not ask for the tenant": [
            (OWNED + "ALTER POLICY tenant ON rag.documents USING (true)", "rag.documents.tenant"),
            (
                OWNED + "ALTER POLICY tenant ON rag.documents"
                " USING (name = '' OR tenant_id = (SELECT core.current_tenant()))",
                "rag.documents.tenant",
            ),
            (
                OWNED + "ALTER POLICY tenant ON rag.documents"
                " USING (tenant_id = (SELECT core.current_tenant()) OR name = '')",
                "rag.documents.tenant",
            ),
            (OWNED + "CREATE POLICY planted ON chat.turns FOR SELECT TO app USING (true)", "chat.turns.planted"),
            (OWNED + "CREATE POLICY planted ON chat.turns FOR INSERT TO app WITH CHECK (true)", "chat.turns.planted"),
            (OWNED + "ALTER POLICY tenant ON chat.shares WITH CHECK (true)", "chat.shares.tenant"),
            (
                OWNED + "ALTER POLICY tenant ON rag.documents"
                " USING (tenant_id = (SELECT core.current_tenant()) AND version = 1 OR name = '')",
                "rag.documents.tenant",
            ),
        ],
        "a function with the owner's rights whose search path is not pinned": [
            (FUNCTION + " SECURITY DEFINER RETURN 1", "core.planted()"),
            (FUNCTION + " SECURITY DEFINER SET search_path = pg_catalog RETURN 1", "core.planted()"),
            (FUNCTION + " SECURITY DEFINER SET search_path = public, pg_temp RETURN 1", "core.planted()"),
            (FUNCTION + " SECURITY DEFINER SET search_path = pg_temp, pg_catalog RETURN 1", "core.planted()"),
        ],
        "a function that everybody may execute": [
            (FUNCTION + " RETURN 1; GRANT EXECUTE ON FUNCTION core.planted() TO public", "core.planted()"),
            (OWNED + "GRANT EXECUTE ON FUNCTION budget.release(uuid) TO public", "budget.release(uuid)"),
            # Made by the superuser, it is open by default.
            ("CREATE FUNCTION core.planted() RETURNS int LANGUAGE sql RETURN 1", "core.planted()"),
        ],
        "an object that the owner does not own": [
            ("CREATE TABLE core.planted (id uuid)", "core.planted"),
            ("CREATE VIEW core.planted AS SELECT 1 AS one", "core.planted"),
            ("CREATE SEQUENCE core.planted", "core.planted"),
            ("ALTER FUNCTION core.require_tenant() OWNER TO postgres", "core.require_tenant()"),
        ],
        "a foreign key without an index on its columns": [
            (
                TABLE + "ALTER TABLE core.planted ADD CONSTRAINT users FOREIGN KEY (tenant_id, id) REFERENCES core.users",
                "core.planted.users",
            ),
            (
                TABLE + "ALTER TABLE core.planted ADD CONSTRAINT users FOREIGN KEY (tenant_id, id) REFERENCES core.users;"
                " CREATE INDEX ON core.planted (tenant_id)",
                "core.planted.users",
            ),
            (
                TABLE + "ALTER TABLE core.planted ADD CONSTRAINT users FOREIGN KEY (tenant_id, id) REFERENCES core.users;"
                " CREATE INDEX ON core.planted (tenant_id, id) WHERE id IS NULL",
                "core.planted.users",
            ),
            (OWNED + "DROP INDEX core.api_keys_user", "core.api_keys.api_keys_tenant_id_user_id_fkey"),
        ],
        "an overloaded function": [
            (OWNED + "CREATE FUNCTION core.require_tenant(int) RETURNS int LANGUAGE sql RETURN 1", "core.require_tenant"),
        ],
    }
)  # fmt: skip


def test_every_lint_has_a_violation_to_find() -> None:
    assert set(PLANTED) == set(LINTS)
    assert all(PLANTED.values())


@pytest.mark.parametrize(
    ("lint", "number"), [(lint, number) for lint, planted in PLANTED.items() for number in range(len(planted))]
)
def test_a_lint_finds(module_database: Database, lint: str, number: int) -> None:
    statement, named = PLANTED[lint][number]
    with module_database.connect() as operator, operator.connection.transaction(force_rollback=True):
        operator.connection.execute(statement)
        assert named in [row[0] for row in operator.query(LINTS[lint])]
