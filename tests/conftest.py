"""One embedded PostgreSQL and Redis a session; one migrated template database; a clone of it for every test that asks."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from infra.local import ports
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import birth
from infra.local.redis import EmbeddedRedis
from tests.support import PASSWORDS, TEST_ENVIRONMENT, Database

ROOT = Path(__file__).parent.parent
STACK = ROOT / "tests" / "stack"
MEMORY = Path("/dev/shm")  # noqa: S108 - in a folder of its own, which only the owner writes
PREFIX = "platform-tests-of-"
ROOM_BYTES = 2 << 30
"""Several times what the tests' databases take."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, where the stack's tests alone are wanted, what has none: to import all takes as long as a dozen of them."""
    if config.option.markexpr != "stack" or not collection_path.name.startswith("test_"):
        return None
    return None if _has_stacks(collection_path) else True


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Refuse a test that is marked `stack` where that is not seen: neither of make test's calls would run it."""
    collected = list(items)
    yield
    hidden = {item.path for item in collected if item.get_closest_marker("stack") and not _has_stacks(item.path)}
    if hidden:
        raise pytest.UsageError(f"write pytest.mark.stack into {', '.join(map(str, sorted(hidden)))}")


def _has_stacks(path: Path) -> bool:
    """Whether a file has tests with a stack, as can be seen without importing it."""
    return path.is_relative_to(STACK) or "mark.stack" in path.read_text()


# An example may take long: on a busy machine that says nothing of what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Give a session of root's a temporary folder of its own.

    Pytest's own is in one that each new session closes to all other accounts, also to the one under which another session's
    PostgreSQL runs, which then ends.
    """
    if os.geteuid() == 0 and not config.option.basetemp:
        folder = tempfile.TemporaryDirectory(prefix="platform-tests-", ignore_cleanup_errors=True)
        config.option.basetemp = Path(folder.name) / "session"
        config.add_cleanup(folder.cleanup)


@contextmanager
def undurable(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server without durability: tests kill processes, not machines. Its log is in `folder`.

    Its data is in memory where there is room: a database is 600 files, which a disk takes ten times as long to copy.
    """
    settings = {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "300",
        "max_wal_size": "256MB",
        # What makes a stolen password file useless costs each connection three milliseconds.
        "scram_iterations": "1",
    }
    for left in MEMORY.glob(f"{PREFIX}*"):  # by sessions that were killed; a server whose data is gone ends by itself
        if birth(int(left.name.removeprefix(PREFIX).partition("-")[0])) is None:
            shutil.rmtree(left, ignore_errors=True)
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=MEMORY if roomy else folder) as data:
        port = ports.free(["server"])["server"]
        with EmbeddedPostgres(Path(data) / "data", port, settings=settings, log_path=folder / "server.log") as server:
            with psycopg.connect(server.superuser_url) as connection:
                # Again, with these iterations.
                connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(server.superuser_password))
            yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server of all tests that leave its roles as they are."""
    with undurable(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@contextmanager
def new_database(postgres: EmbeddedPostgres, name: str, template: str = "template1") -> Iterator[str]:
    """A copy of a database to which nobody is connected, by its superuser's URL; dropped afterwards, whoever is connected."""
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        # Not through the log, which takes twice as long in memory.
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield postgres.url(name)
    finally:
        with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


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
    name = "platform_template"
    with new_database(postgres, name) as url:
        done = alembic(url, "upgrade", "head")
        assert done.returncode == 0, done.stderr
        with psycopg.connect(url, autocommit=True) as connection:
            for role, password in PASSWORDS.items():
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), password))
        with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        yield name


@pytest.fixture
def database(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    with new_database(postgres, name, template):
        urls = {role: postgres.url(name, user=role, password=password) for role, password in PASSWORDS.items()}
        yield Database({"postgres": postgres.url(name), **urls})


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:  # noqa: ARG001 - roles have passwords
    """The superuser's URL of a database without anything in it."""
    name = f"empty_{uuid.uuid4().hex}"
    with new_database(postgres, name) as url:
        yield url


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


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and which nobody else gets meanwhile; a server of the test's own may take it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
