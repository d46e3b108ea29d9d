"""Structure and logic go up and down together, and leave nothing behind."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from alembic.command import current, downgrade, upgrade
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine

from infra.local.postgres import EmbeddedPostgres
from migrations import logic
from migrations.drift import describe
from shared.settings import get_settings, with_scheme
from tests.conftest import ROOT, alembic
from tests.support import TEST_ENVIRONMENT, Database, add_document

CATALOG = """
SELECT concat_ws(' ', 'table', c.oid::regclass, c.relkind, c.relacl, obj_description(c.oid, 'pg_class'), c.relrowsecurity)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND c.relkind IN ('r', 'p', 'v', 'S')
UNION ALL
SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                 pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner'
UNION ALL
SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE pg_get_userbyid(n.nspowner) = 'ea_owner'
UNION ALL
SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polroles::regrole[], pg_get_expr(polqual, polrelid),
                 pg_get_expr(polwithcheck, polrelid), obj_description(oid, 'pg_policy'))
FROM pg_policy
UNION ALL
SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT concat_ws(' ', 'function', pg_get_functiondef(p.oid), p.proacl, obj_description(p.oid, 'pg_proc'))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE pg_get_userbyid(n.nspowner) = 'ea_owner'
UNION ALL
SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL
SELECT concat_ws(' ', 'default', defaclrole::regrole, defaclobjtype, defaclacl) FROM pg_default_acl
ORDER BY 1
"""
CONFIG = Config(toml_file=ROOT / "pyproject.toml")
REVISIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()]


def catalog(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute(CATALOG)]


def migrate(url: str, command: Callable[..., None], *arguments: str, **environment: str) -> None:
    """Run one of alembic's commands in this process: a new one would spend more time on its imports."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**TEST_ENVIRONMENT, "MIGRATION_DATABASE_URL": url, **environment}.items():
            patch.setenv(name, value)
        get_settings.cache_clear()
        try:
            command(CONFIG, *arguments)
        finally:
            get_settings.cache_clear()


@contextmanager
def on(url: str) -> Iterator[Connection]:
    engine = create_engine(with_scheme(url, "postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_up_down_up_leaves_the_same_catalog_as_up(empty_database: str) -> None:
    migrate(empty_database, upgrade, "head")
    first = catalog(empty_database)
    migrate(empty_database, downgrade, "base")
    with psycopg.connect(empty_database) as connection:
        left = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE pg_get_userbyid(nspowner) = 'ea_owner'"
        ).fetchall()
    assert left == []
    migrate(empty_database, upgrade, "head")
    assert catalog(empty_database) == first
    assert len(first) > 300


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_stepwise_upgrade_and_downgrade_equal_the_direct_ones(empty_database: str, revision: str) -> None:
    migrate(empty_database, upgrade, revision)
    partial = catalog(empty_database)
    migrate(empty_database, upgrade, "head")
    whole = catalog(empty_database)
    migrate(empty_database, downgrade, revision)
    assert catalog(empty_database) == partial
    migrate(empty_database, upgrade, "head")
    assert catalog(empty_database) == whole


def test_after_a_downgrade_what_remains_works(empty_database: str) -> None:
    migrate(empty_database, upgrade, "head")
    migrate(empty_database, downgrade, "000_core")
    with psycopg.connect(empty_database) as connection:
        gone = connection.execute("SELECT to_regproc('chat.begin_turn'), to_regnamespace('budget')").fetchone()
        assert gone == (None, None)
        tenant = connection.execute("SELECT core.provision_tenant('left', 'Left')").fetchone()
        assert tenant is not None
        connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant[0])])
        connection.execute("INSERT INTO rag.collections (tenant_id, name) VALUES (%s, 'default')", [tenant[0]])
        connection.execute(
            "INSERT INTO rag.documents (tenant_id, collection_id, name, media_type, size_bytes, content_sha256)"
            " SELECT tenant_id, id, 'a.md', 'text/markdown', 4, sha256('text') FROM rag.collections"
        )
        assert connection.execute("SELECT count(*) FROM events.outbox").fetchone() == (1,)


def test_the_migration_takes_over_the_deployments_variables(empty_database: str) -> None:
    migrate(empty_database, upgrade, "head", TOKEN_BUDGET_DAILY="7", MODEL_HEAVY="vllm/big")
    migrate(empty_database, upgrade, "head", TOKEN_BUDGET_DAILY="8", MODEL_HEAVY="vllm/bigger")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT ops.setting('token_budget_daily')").fetchone() == ("8",)
        heavy = connection.execute(
            "SELECT name, enabled FROM routing.models WHERE tier = 'heavy' ORDER BY 1"
        ).fetchall()
    assert heavy == [("vllm/big", False), ("vllm/bigger", True)]


def test_a_failing_migration_changes_nothing(empty_database: str) -> None:
    done = alembic(empty_database, "upgrade", "head", EMBEDDING_DIMENSIONS="5000")
    assert done.returncode != 0
    assert "EMBEDDING_DIMENSIONS" in done.stderr
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT to_regnamespace('core')").fetchone() == (None,)


def test_the_width_of_the_embeddings_is_the_deployments(empty_database: str) -> None:
    migrate(empty_database, upgrade, "head", EMBEDDING_DIMENSIONS="768")
    with psycopg.connect(empty_database) as connection:
        width = connection.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'rag.embeddings'::regclass AND attname = 'embedding'"
        ).fetchone()
    assert width == ("halfvec(768)",)


def test_a_role_without_superuser_rights_can_migrate(postgres: EmbeddedPostgres, empty_database: str) -> None:
    name = empty_database.rsplit("/", 1)[1]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector; CREATE EXTENSION pg_trgm")
        connection.execute("CREATE ROLE migrator LOGIN CREATEROLE PASSWORD 'migrator-test'")
        connection.execute("GRANT ea_owner TO migrator WITH ADMIN OPTION, SET TRUE, INHERIT TRUE")
        connection.execute(f'ALTER DATABASE "{name}" OWNER TO migrator')
    url = postgres.url(name, user="migrator", password="migrator-test")
    try:
        migrate(url, upgrade, "head")
        migrate(url, downgrade, "base")
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" OWNER TO postgres')
            connection.execute("DROP OWNED BY migrator; DROP ROLE migrator")


def test_the_history_holds_every_applied_body(database: Database) -> None:
    with database.connect() as operator:
        rows = operator.query("SELECT file, checksum FROM ops.sql_history WHERE action = 'apply'")
    recorded: dict[str, str] = dict(rows)
    assert recorded == {file.file: file.checksum for file in logic.read_files()}


def test_a_second_upgrade_applies_nothing(database: Database) -> None:
    migrate(database.urls["postgres"], upgrade, "head")
    with database.connect() as operator:
        assert operator.value("SELECT count(*) = count(DISTINCT file) FROM ops.sql_history")


def test_changed_logic_is_applied_dropped_and_restored_with_its_revision(database: Database, tmp_path: Path) -> None:
    """A file changes its signature with a later revision: the downgrade brings the older body back."""
    root = Path(shutil.copytree(logic.SQL_ROOT, tmp_path / "sql"))
    probe = root / "ops" / "probe.sql"
    text = "-- requires: {}\nCREATE OR REPLACE FUNCTION ops.probe({}) RETURNS text LANGUAGE sql RETURN '{}';\n"
    core, both = frozenset({"000_core"}), frozenset({"000_core", "012_budget_metrics"})
    with on(database.urls["postgres"]) as connection:
        probe.write_text(text.format("000_core", "", "old"))
        assert [file.name for file in logic.apply(connection, both, root)] == ["ops.probe"]
        probe.write_text(text.format("012_budget_metrics", "p_n integer DEFAULT 1", "new"))
        assert logic.apply(connection, core, root) == [], "its structure is not there yet"
        logic.apply(connection, both, root)
        assert logic.run_query(connection, "SELECT ops.probe(2)") == [("new",)]
        logic.restore(connection, logic.remove_requiring(connection, "012_budget_metrics", core))
        assert logic.run_query(connection, "SELECT ops.probe()") == [("old",)]
        assert logic.run_query(connection, "SELECT to_regproc('budget.reserve')") == [(None,)]
        probe.unlink()
        logic.apply(connection, core, root)
        assert logic.run_query(connection, "SELECT to_regproc('ops.probe')") == [(None,)]
        connection.rollback()


def test_drift_names_what_someone_changed_by_hand(database: Database) -> None:
    url = database.urls["postgres"]
    assert describe(url) == []
    with database.connect() as operator:
        operator.run("CREATE OR REPLACE FUNCTION ops.setting(p_name text) RETURNS text LANGUAGE sql STABLE RETURN 'x'")
        operator.run("CREATE FUNCTION core.backdoor() RETURNS int LANGUAGE sql RETURN 1")
        operator.run("DROP FUNCTION rag.list_documents")
        operator.run("GRANT EXECUTE ON FUNCTION rag.nearest_chunks TO app")
        operator.run("COMMENT ON FUNCTION budget.status() IS 'Changed.'")
        operator.run("DROP TRIGGER emit_requested ON inference.jobs")
    found = {(drift.name, drift.kind) for drift in describe(url)}
    assert found == {
        ("ops.setting", "changed"),
        ("core.backdoor", "unknown"),
        ("rag.list_documents", "missing"),
        ("rag.nearest_chunks", "changed"),
        ("budget.status", "changed"),
        ("inference.emit_requested", "changed"),
    }
    with database.connect() as operator:
        assert operator.value("SELECT ops.setting('region')") == "x", "the check must change nothing"
    migrate(url, upgrade, "head")
    assert ("core.backdoor", "unknown") in {(drift.name, drift.kind) for drift in describe(url)}


def test_a_file_without_its_revision_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "x.sql").write_text("CREATE OR REPLACE FUNCTION ops.x() RETURNS int LANGUAGE sql RETURN 1;")
    with pytest.raises(ValueError, match="requires"):
        logic.read_files(tmp_path)


def test_a_command_that_only_looks_changes_nothing(database: Database) -> None:
    migrate(database.urls["postgres"], current, TOKEN_BUDGET_DAILY="7")
    with database.connect() as operator:
        assert operator.value("SELECT ops.setting('token_budget_daily')") == "1000000"


def test_variables_that_are_not_set_leave_the_database_as_it_is(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_database, upgrade, "head", TOKEN_BUDGET_DAILY="7", MODEL_HEAVY="vllm/big")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("INSERT INTO routing.models (name, tier) VALUES ('own', 'heavy')")
        connection.execute("UPDATE routing.models SET enabled = false WHERE tier = 'light'")
    for name in ("TOKEN_BUDGET_DAILY", "MODEL_HEAVY", "MODEL_LIGHT", "MODEL_STANDARD", "LITELLM_DEFAULT_MODEL"):
        monkeypatch.delitem(TEST_ENVIRONMENT, name)
    migrate(empty_database, upgrade, "head")
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT ops.setting('token_budget_daily')").fetchone() == ("7",)
        enabled = connection.execute("SELECT name FROM routing.models WHERE enabled ORDER BY 1").fetchall()
    assert enabled == [("local/extractive-standard",), ("own",), ("vllm/big",)]


MODEL = "SELECT rag.active_model() ->> 'name', rag.active_model() ->> 'width', rag.embedding_width()"


def test_a_database_without_vectors_takes_over_the_embedding_model_that_is_set(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database.urls["postgres"]
    migrate(url, upgrade, "head", EMBEDDING_DIMENSIONS="768", LITELLM_EMBEDDING_MODEL="wider")
    with database.connect() as operator:
        assert operator.query(MODEL) == [("wider", "768", 768)]
    for name in ("EMBEDDING_DIMENSIONS", "LITELLM_EMBEDDING_MODEL"):
        monkeypatch.delitem(TEST_ENVIRONMENT, name)
    migrate(url, upgrade, "head")
    with database.connect() as operator:
        assert operator.query(MODEL) == [("wider", "768", 768)], "what is not set changes nothing"


def test_a_migration_takes_over_that_the_endpoint_is_asked_for_its_width(database: Database) -> None:
    url, sends = database.urls["postgres"], "SELECT rag.active_model() -> 'send_dimensions'"
    with database.connect() as operator:
        for variables, sent in (
            ({"EMBEDDING_SEND_DIMENSIONS": "true", "LITELLM_EMBEDDING_MODEL": "wider"}, True),
            ({"EMBEDDING_SEND_DIMENSIONS": "false", "LITELLM_EMBEDDING_MODEL": "wider"}, True),  # not taken back
            ({"LITELLM_EMBEDDING_MODEL": "other"}, None),
            ({"LITELLM_EMBEDDING_MODEL": "other", "EMBEDDING_SEND_DIMENSIONS": "true"}, True),
        ):
            migrate(url, upgrade, "head", **variables)
            assert operator.value(sends) is sent, variables
        migrate(url, downgrade, "017_long_ingestion", EMBEDDING_SEND_DIMENSIONS="true")
        assert operator.query(MODEL) == [(TEST_ENVIRONMENT["LITELLM_EMBEDDING_MODEL"], "384", 384)]


def test_a_database_with_vectors_keeps_their_model_and_says_so(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "a.md", ["Text."])
    done = alembic(database.urls["postgres"], "upgrade", "head", EMBEDDING_DIMENSIONS="768", TOKEN_BUDGET_DAILY="7")
    assert done.returncode == 0
    assert "EMBEDDING_DIMENSIONS is 768, and the vectors of this database are made by" in done.stderr
    assert "make reembed" in done.stderr
    assert "LITELLM_EMBEDDING_MODEL is" not in done.stderr
    with database.connect() as operator:
        assert operator.query(MODEL) == [(TEST_ENVIRONMENT["LITELLM_EMBEDDING_MODEL"], "384", 384)]
        assert operator.value("SELECT ops.setting('token_budget_daily')") == "7"


def test_drift_sees_a_disabled_trigger_and_passes_over_aggregates(database: Database) -> None:
    with database.connect() as operator:
        operator.run("ALTER TABLE inference.jobs DISABLE TRIGGER emit_requested")
        operator.run("CREATE AGGREGATE core.total (integer) (sfunc = int4pl, stype = integer)")
    found = {(drift.name, drift.kind) for drift in describe(database.urls["postgres"])}
    assert ("inference.emit_requested", "changed") in found


def test_a_trigger_function_whose_file_is_gone_leaves_with_its_trigger(database: Database, tmp_path: Path) -> None:
    root = Path(shutil.copytree(logic.SQL_ROOT, tmp_path / "sql"))
    (root / "inference" / "emit_requested.sql").unlink()
    with on(database.urls["postgres"]) as connection:
        logic.apply(connection, frozenset(REVISIONS), root)
        assert logic.run_query(connection, "SELECT 1 FROM pg_trigger WHERE tgname = 'emit_requested'") == []
        connection.rollback()
