"""A new database's first script, and the backup that a cluster makes of it: on a server of one's own, with its own programs."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local import ports
from infra.local.assembly import ROOT
from infra.local.postgres import EmbeddedPostgres
from tests.conftest import alembic, new_database

INIT = ROOT / "infra" / "postgres" / "init.sql"
BACKUP = ROOT / "infra" / "postgres" / "backup.sh"
PASSWORDS = {"APP_PASSWORD": 'app\'s "own"', "RELAY_PASSWORD": "relay-own", "DBA_PASSWORD": "dba-own"}
ROLES = {"app": "APP_PASSWORD", "relay": "RELAY_PASSWORD", "dba_readonly": "DBA_PASSWORD"}
DAY_SECONDS = 86400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server of one's own, because roles belong to the server; it logs every statement."""
    folder = tmp_path_factory.mktemp("first")
    port = ports.free(["server"])["server"]
    settings = {"fsync": "off", "log_statement": "all", "log_min_duration_statement": "0"}
    with EmbeddedPostgres(folder / "data", port, log_path=folder / "server.log", settings=settings) as server:
        yield server


@pytest.fixture
def new(server: EmbeddedPostgres) -> Iterator[str]:
    """The superuser's URL of a new database."""
    with new_database(server, "enterprise_agents"):
        yield server.url("enterprise_agents")


def run(server: EmbeddedPostgres, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a container of PostgreSQL does, with its programs and the variables that it is given."""
    path = f"{server.bin_dir}:{os.environ['PATH']}"
    return subprocess.run(command, env={"PATH": path, **variables}, capture_output=True, text=True, check=False)


def initialise(server: EmbeddedPostgres, url: str, **passwords: str) -> None:
    done = run(server, "psql", "-X", "-q", "-d", url, "-f", INIT, **passwords)
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr


def log_in(server: EmbeddedPostgres, role: str, password: str) -> str:
    url = server.url("enterprise_agents", user=role, password=password)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row is not None
    return str(row[0])


def test_a_new_database_gets_extensions_and_roles_that_may_log_in_and_no_password_is_logged(
    server: EmbeddedPostgres, new: str
) -> None:
    initialise(server, new, **PASSWORDS)
    with psycopg.connect(new) as connection:
        there = {name for (name,) in connection.execute("SELECT extname FROM pg_extension")}
        available = {name for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
        rights = connection.execute(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = ANY (%s)",
            [list(ROLES)],
        ).fetchall()
    assert {"vector", "pg_trgm"} <= there
    assert ("uuid-ossp" in there) == ("uuid-ossp" in available)
    assert rights == [(False,)] * len(ROLES)
    for role, variable in ROLES.items():
        assert log_in(server, role, PASSWORDS[variable]) == role
    logged = server.log_path.read_text()
    assert "CREATE ROLE" in logged
    assert not [password for password in ("relay-own", "dba-own") if password in logged]
    # Again, and without passwords: what is there stays.
    initialise(server, new)
    assert log_in(server, "relay", PASSWORDS["RELAY_PASSWORD"]) == "relay"


def test_the_migrations_take_the_database_from_there(server: EmbeddedPostgres, new: str) -> None:
    initialise(server, new, **PASSWORDS)
    done = alembic(new, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    url = server.url("enterprise_agents", user="app", password=PASSWORDS["APP_PASSWORD"])
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT ops.readiness()").fetchone()
    assert row == ({"bypasses_policies": False},)


def backup(
    server: EmbeddedPostgres, folder: Path, database: str = "enterprise_agents"
) -> subprocess.CompletedProcess[str]:
    return run(
        server,
        "sh",
        BACKUP,
        PGHOST="127.0.0.1",
        PGPORT=str(server.port),
        PGUSER="postgres",
        PGPASSWORD=server.superuser_password,
        PGDATABASE=database,
        BACKUP_DIR=str(folder),
        BACKUP_KEEP_DAYS="14",
    )


def test_a_backup_is_whole_private_and_makes_room_for_itself(
    server: EmbeddedPostgres, new: str, tmp_path: Path
) -> None:
    with psycopg.connect(new) as connection:
        connection.execute("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) AS n")
    ages = {
        "enterprise_agents_full_20200101_000000.dump": 30,
        "enterprise_agents_full_20200102_000000.dump": 10,
        "else": 30,
    }
    for name, days in ages.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - days * DAY_SECONDS,) * 2)
    done = backup(server, tmp_path)
    assert done.returncode == 0, done.stderr
    file = Path(done.stdout.strip())
    assert {path.name for path in tmp_path.iterdir()} == {
        "enterprise_agents_full_20200102_000000.dump",
        "else",
        file.name,
    }
    assert file.stat().st_mode & 0o777 == 0o600
    with new_database(server, "restored"):
        restored = run(server, "pg_restore", "--exit-on-error", "-d", server.url("restored"), file)
        assert restored.returncode == 0, restored.stderr
        with psycopg.connect(server.url("restored")) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_what_a_killed_backup_left_is_taken_away_but_not_what_one_under_way_writes(
    server: EmbeddedPostgres, new: str, tmp_path: Path
) -> None:
    with psycopg.connect(new) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    left, written = (tmp_path / f"enterprise_agents_full_2020010{day}_000000.dump.part" for day in (1, 2))
    for part, days in ((left, 2), (written, 0)):
        part.write_bytes(b"PGDMP")
        os.utime(part, (time.time() - days * DAY_SECONDS,) * 2)
    done = backup(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(tmp_path.iterdir()) == {written, Path(done.stdout.strip())}


def test_a_backup_that_fails_leaves_no_file_and_deletes_none(server: EmbeddedPostgres, tmp_path: Path) -> None:
    old = tmp_path / "enterprise_agents_full_20200101_000000.dump"
    old.touch()
    os.utime(old, (0, 0))
    done = backup(server, tmp_path, "no_such_database")
    assert done.returncode != 0
    assert "no_such_database" in done.stderr
    assert list(tmp_path.iterdir()) == [old]
