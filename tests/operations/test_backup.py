"""What is backed up comes back: the same answers to the same questions, the same rights, the same books."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra import backup, restore, seed
from infra.local import ports
from infra.local.postgres import EmbeddedPostgres
from infra.postgres_programs import ProgramError, client
from infra.restore import Refused
from migrations import drift
from shared.settings import DEV_JWT_SECRET, Settings
from tests.conftest import ROOT
from tests.privileges import GOLDEN, privileges
from tests.support import PASSWORDS, Database, add_document, vector

OWNERSHIP = """
SELECT n.nspname || '.' || c.relname, pg_get_userbyid(c.relowner), c.relrowsecurity, c.relacl::text
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND c.relkind IN ('r', 'p', 'v', 'S')
UNION ALL
SELECT p.oid::regprocedure::text, pg_get_userbyid(p.proowner), p.prosecdef, p.proacl::text || obj_description(p.oid)
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE pg_get_userbyid(n.nspowner) = 'ea_owner'
UNION ALL
SELECT p.polrelid::regclass || '.' || p.polname, p.polcmd::text, p.polpermissive, pg_get_expr(p.polqual, p.polrelid)
FROM pg_policy AS p
UNION ALL
SELECT d.defaclobjtype::text, pg_get_userbyid(d.defaclrole), true, d.defaclacl::text
FROM pg_default_acl AS d
ORDER BY 1, 2
"""


@pytest.fixture
def tenant(database: Database) -> UUID:
    """A tenant with documents that have vectors, a conversation, budgets and an audit log."""
    settings = Settings.model_validate(
        {"environment": "test", "migration_database_url": database.urls["postgres"], "dev_jwt_secret": DEV_JWT_SECRET}
    )
    made = seed.run(settings, "harbour", "Harbour").tenant_id
    with database.connect("app", made, "member", operation="documents.write") as app:
        add_document(
            app, "pump.md", ["The relief valve opens at 31 bar.", "The spring washer is replaced.", "Zoë's ledger\t\\."]
        )
    return made


def told(database: Database, tenant: UUID) -> dict[str, Any]:
    """Return what the platform answers a member and an administrator of a tenant."""
    with database.connect("app", tenant, "member", roles=("member",)) as app:
        found = [
            app.rows("rag.search", p_query=query, p_embedding=embedding)
            for query, embedding in (
                ("relief valve", vector(0.0, 1.0)),
                ("first safety briefing", None),
                ("ledgr", None),
            )
        ]
        conversations = app.call("chat.list_conversations")
        history = [
            app.call("chat.read_conversation", p_conversation_id=c["id"]) for c in conversations["conversations"]
        ]
        budget = app.call("budget.status")
    with database.connect("app", tenant, "admin", operation="audit.verify") as app:
        audit = app.call("compliance.verify_audit")
    assert all(found[:1])
    assert history
    assert audit["intact"]
    return {"found": found, "history": [conversations, *history], "budget": budget, "audit": audit}


def kept(url: str) -> dict[str, list[Any]]:
    """Return every row of every table."""
    with psycopg.connect(url) as connection:
        tables = [row[0] for row in connection.execute(restore.TABLES)]
        rows = {
            table: sorted(row for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t")) for table in tables
        }
        sequences = [row for (row,) in connection.execute("SELECT s::text FROM pg_sequences AS s ORDER BY 1")]
    return rows | {"sequences": sequences}


def rights(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(OWNERSHIP).fetchall()


def drop(url: str) -> None:
    with psycopg.connect(make_conninfo(url, dbname="postgres"), autocommit=True) as server:
        server.execute(f'DROP DATABASE "{conninfo_to_dict(url)["dbname"]}" WITH (FORCE)')


def test_after_a_wipe_the_same_questions_have_the_same_answers(
    database: Database, tenant: UUID, tmp_path: Path
) -> None:
    url = database.urls["postgres"]
    before, rows, owned = told(database, tenant), kept(url), rights(url)
    file = backup.run(url, "full", tmp_path)
    drop(url)
    with pytest.raises(Refused, match="CREATE_DB=1"):
        restore.run(url, file, create=False, force=False)
    restored = restore.run(url, file, create=True, force=False)
    assert (restored.revision, restored.new_roles) == (drift.head(), [])
    assert told(database, tenant) == before
    assert kept(url) == rows
    assert rights(url) == owned
    with database.connect() as operator:
        assert privileges(operator) == json.loads(GOLDEN.read_text())
        assert operator.rows("budget.verify") == []
        assert operator.query("SELECT * FROM compliance.chain_breaks(%s)", [tenant]) == []
    assert drift.describe(url) == []


@pytest.fixture
def another_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server on which the platform never was: without its roles."""
    settings = {"fsync": "off", "full_page_writes": "off"}
    with EmbeddedPostgres(tmp_path / "other" / "data", ports.free(["server"])["server"], settings=settings) as server:
        yield server


def test_on_another_server_the_roles_are_made_and_the_platform_answers(
    database: Database, tenant: UUID, tmp_path: Path, another_server: EmbeddedPostgres
) -> None:
    file = backup.run(database.urls["postgres"], "full", tmp_path)
    before, owned = told(database, tenant), rights(database.urls["postgres"])
    url = another_server.url("enterprise_agents")
    restored = restore.run(url, file, create=True, force=False)
    assert restored.new_roles == ["app", "dba_readonly", "ea_owner", "relay"]
    with psycopg.connect(url, autocommit=True) as server:
        for role, password in PASSWORDS.items():
            server.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
    there = Database(
        {"postgres": url, "app": another_server.url("enterprise_agents", user="app", password=PASSWORDS["app"])}
    )
    assert told(there, tenant) == before
    assert rights(url) == owned
    with there.connect() as operator:
        assert privileges(operator) == json.loads(GOLDEN.read_text())


def test_a_schema_and_then_its_data_are_the_whole(
    database: Database, tenant: UUID, tmp_path: Path, empty_database: str
) -> None:
    url = database.urls["postgres"]
    schema, data = backup.run(url, "schema", tmp_path), backup.run(url, "data", tmp_path)
    assert restore.run(empty_database, schema, create=False, force=False).revision is None
    assert not any(rows for table, rows in kept(empty_database).items() if table != "sequences")
    assert rights(empty_database) == rights(url)
    assert restore.run(empty_database, data, create=False, force=False).revision == drift.head()
    assert kept(empty_database) == kept(url)
    name = conninfo_to_dict(empty_database)["dbname"]
    there = Database({role: make_conninfo(address, dbname=name) for role, address in database.urls.items()})
    assert told(there, tenant) == told(database, tenant)


def test_rows_take_the_place_of_those_of_a_migrated_database(database: Database, tenant: UUID, tmp_path: Path) -> None:
    """Also of its tenants, when that is said."""
    url = database.urls["postgres"]
    before, rows = told(database, tenant), kept(url)
    data = backup.run(url, "data", tmp_path)
    with database.connect() as operator:
        operator.call("core.provision_tenant", p_slug="later", p_name="Later")
    changed = kept(url)
    with pytest.raises(Refused, match="FORCE=1"):
        restore.run(url, data, create=False, force=False)
    assert kept(url) == changed
    restore.run(url, data, create=False, force=True)
    assert kept(url) == rows
    assert told(database, tenant) == before


def test_a_database_that_holds_something_is_replaced_only_when_that_is_said(
    database: Database, tenant: UUID, tmp_path: Path
) -> None:
    url = database.urls["postgres"]
    file, before = backup.run(url, "full", tmp_path), told(database, tenant)
    with database.connect() as operator:
        operator.run("DROP TABLE chat.citations CASCADE")
        operator.run("CREATE TABLE chat.later ()")
    with pytest.raises(Refused, match="not empty"):
        restore.run(url, file, create=True, force=False)
    restore.run(url, file, create=False, force=True)
    assert told(database, tenant) == before
    with database.connect() as operator:
        assert operator.value("SELECT to_regclass('chat.later')") is None
        assert privileges(operator) == json.loads(GOLDEN.read_text())


def test_a_restore_that_fails_changes_nothing(database: Database, tenant: UUID, tmp_path: Path) -> None:
    url = database.urls["postgres"]
    file, rows = backup.run(url, "full", tmp_path), kept(url)
    # Its table of contents is good, and its rows are cut off.
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ProgramError, match="nothing was restored"):
        restore.run(url, file, create=False, force=True)
    assert kept(url) == rows
    absent = make_conninfo(url, dbname="made_for_nothing")
    with pytest.raises(ProgramError, match="nothing was restored"):
        restore.run(absent, file, create=True, force=False)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(absent)
    assert tenant


def test_rows_of_another_revision_are_refused(database: Database, tenant: UUID, tmp_path: Path) -> None:
    url = database.urls["postgres"]
    data = backup.run(url, "data", tmp_path)
    with database.connect() as operator:
        operator.run("UPDATE alembic_version SET version_num = '999_later'")
    with pytest.raises(Refused, match="999_later"):
        restore.run(url, data, create=False, force=True)
    assert tenant


def test_settings_that_the_server_has_not_are_left_out(
    database: Database, tenant: UUID, tmp_path: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a server that is older than the programs."""
    file = backup.run(database.urls["postgres"], "full", tmp_path)
    whole = restore._load  # noqa: SLF001 - as if the server had not transaction_timeout, which is new in 17
    seen: list[set[bytes]] = []

    def load(url: str, found: restore.Backup, pg_restore: Path, clearing: str, known: set[bytes]) -> None:
        seen.append(known)
        whole(url, found, pg_restore, clearing, known - {b"transaction_timeout"})

    monkeypatch.setattr(restore, "_load", load)
    restore.run(empty_database, file, create=False, force=False)
    assert b"transaction_timeout" in seen[0]
    assert kept(empty_database) == kept(database.urls["postgres"])
    assert tenant


def extension_of_another_server(database: Database, folder: Path, script: str) -> None:
    """Have the database, and no other one of its server, an extension that is not among the server's."""
    place = folder / "extension"
    place.mkdir()
    for directory in (folder, place):
        directory.chmod(0o755)
    (place / "elsewhere.control").write_text("default_version = '1'\n")
    (place / "elsewhere--1.sql").write_text(script)
    url = database.urls["postgres"]
    with psycopg.connect(url, autocommit=True) as server:
        name = server.info.dbname
        server.execute(f"ALTER DATABASE {name} SET extension_control_path = '$system:{folder}'")
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("CREATE EXTENSION elsewhere")


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that the server's own user may read too."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_an_extension_that_this_server_has_not_is_left_out_and_named(
    database: Database, tenant: UUID, tmp_path: Path, readable: Path, empty_database: str
) -> None:
    extension_of_another_server(database, readable, "")
    file = backup.run(database.urls["postgres"], "full", tmp_path)
    done = command("infra.restore", empty_database, BACKUP_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert "elsewhere" in done.stdout
    assert kept(empty_database) == kept(database.urls["postgres"])
    assert tenant


def test_what_is_made_of_such_an_extension_is_not_lost_unseen(
    database: Database, tmp_path: Path, readable: Path, empty_database: str
) -> None:
    extension_of_another_server(database, readable, "CREATE DOMAIN public.elsewheres AS text;")
    with psycopg.connect(database.urls["postgres"]) as server:
        server.execute("CREATE TABLE public.notes (note public.elsewheres)")
    file = backup.run(database.urls["postgres"], "full", tmp_path)
    with pytest.raises(ProgramError, match="elsewheres"):
        restore.run(empty_database, file, create=False, force=False)
    with psycopg.connect(empty_database) as server:
        assert server.execute(restore.OBJECTS).fetchone() == (0,)


def command(module: str, url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "MIGRATION_DATABASE_URL": url, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_tell_where_the_file_is_and_what_came_of_it(
    database: Database, empty_database: str, tmp_path: Path
) -> None:
    done = command("infra.backup", database.urls["postgres"], BACKUP_DIR=str(tmp_path / "new" / "folder"))
    assert done.returncode == 0, done.stderr
    file = Path(done.stdout.strip())
    assert file.parent == tmp_path / "new" / "folder"
    assert file.match("enterprise_agents_full_[0-9]*_[0-9]*.dump")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    done = command("infra.restore", empty_database, BACKUP_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert drift.head() in done.stdout


@pytest.mark.parametrize(
    ("module", "variables", "reason"),
    [
        ("infra.backup", {"BACKUP_MODE": "half"}, "BACKUP_MODE"),
        ("infra.backup", {"BACKUP_DIR": "/proc/none"}, "/proc/none"),
        ("infra.restore", {}, "BACKUP_FILE"),
        ("infra.restore", {"BACKUP_FILE": str(ROOT / "README.md")}, "no backup"),
    ],
)
def test_what_cannot_be_done_is_one_line_without_the_password(
    postgres: EmbeddedPostgres, empty_database: str, module: str, variables: dict[str, str], reason: str
) -> None:
    done = command(module, empty_database, **variables)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert postgres.superuser_password not in done.stderr


def test_an_empty_database_is_no_backup(empty_database: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="nothing in this database"):
        backup.run(empty_database, "full", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_process_has_the_password_on_its_command_line(
    postgres: EmbeddedPostgres, database: Database, tmp_path: Path
) -> None:
    seen = tmp_path / "arguments"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore", "psql"):
        real = client(name, 18)
        # As a newer program on PATH would be: it notes how it was called.
        (programs / name).write_text(f'#!/bin/sh\necho "$0 $@" >> {seen}\nexec {real} "$@"\n')
        (programs / name).chmod(0o755)
    only = {"PATH": f"{programs}:{os.environ['PATH']}"}
    url = database.urls["postgres"]
    done = command("infra.backup", url, BACKUP_DIR=str(tmp_path / "out"), **only)
    assert done.returncode == 0, done.stderr
    done = command("infra.restore", url, BACKUP_FILE=done.stdout.strip(), FORCE="1", **only)
    assert done.returncode == 0, done.stderr
    told = seen.read_text()
    assert {line.split()[0].rpartition("/")[2] for line in told.splitlines()} == {"pg_dump", "pg_restore", "psql"}
    assert postgres.superuser_password not in told


def test_programs_that_are_older_than_the_server_are_refused_by_name() -> None:
    with pytest.raises(ProgramError, match=r"pg_dump of PostgreSQL 99 or later is needed.*postgresql-client-99"):
        client("pg_dump", 99)
