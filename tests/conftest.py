"""One embedded PostgreSQL and Redis a session; one migrated template database; a clone of it for every test that asks."""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pytest_postgresql.janitor import DatabaseJanitor

from infra.local import ports
from infra.local.postgres import EmbeddedPostgres
from infra.local.redis import EmbeddedRedis
from tests.support import PASSWORDS, TEST_ENVIRONMENT, Database

ROOT = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Give a session of root's a temporary folder of its own.

    Pytest's own is in one that each new session closes to all other accounts, also to the one under which another session's
    PostgreSQL runs, which then ends.
    """
    if os.geteuid() == 0 and not config.option.basetemp:
        folder = tempfile.TemporaryDirectory(prefix="platform-tests-", ignore_cleanup_errors=True)
        config.option.basetemp = Path(folder.name) / "session"
        config.add_cleanup(folder.cleanup)


def undurable(folder: Path) -> EmbeddedPostgres:
    """Return a server without durability: tests kill processes, not machines."""
    settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}
    return EmbeddedPostgres(folder / "data", ports.free(["server"])["server"], settings=settings)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server of all tests that leave its roles as they are."""
    with undurable(tmp_path_factory.mktemp("postgres")) as server:
        yield server


def janitor(postgres: EmbeddedPostgres, name: str, template: str | None = None) -> DatabaseJanitor:
    """Return what creates and drops a database."""
    return DatabaseJanitor(
        user="postgres",
        password=postgres.superuser_password,
        host="127.0.0.1",
        port=postgres.port,
        dbname=name,
        template_dbname=template,
    )


def alembic(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run alembic as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, **TEST_ENVIRONMENT, "MIGRATION_DATABASE_URL": url, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a migrated database that nobody connects to."""
    with janitor(postgres, "platform_template") as database:
        url = postgres.url(database.dbname)
        done = alembic(url, "upgrade", "head")
        assert done.returncode == 0, done.stderr
        with psycopg.connect(url, autocommit=True) as connection:
            for role, password in PASSWORDS.items():
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), password))
        yield database.dbname


@pytest.fixture
def database(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    with janitor(postgres, name, template):
        urls = {role: postgres.url(name, user=role, password=password) for role, password in PASSWORDS.items()}
        yield Database({"postgres": postgres.url(name), **urls})


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:  # noqa: ARG001 - roles have passwords
    """The superuser's URL of a database without anything in it."""
    name = f"empty_{uuid.uuid4().hex}"
    with janitor(postgres, name):
        yield postgres.url(name)


@pytest.fixture
def tenants(database: Database) -> tuple[uuid.UUID, uuid.UUID]:
    """Two tenants, alpha and beta."""
    with database.connect() as operator:
        return (
            operator.call("core.provision_tenant", p_slug="alpha", p_name="Alpha"),
            operator.call("core.provision_tenant", p_slug="beta", p_name="Beta"),
        )


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis for the session."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), ports.free(["server"])["server"]) as server:
        yield server
