"""Names every function and view that differs between a database and `sql/`: `python -m migrations.drift`."""

import sys

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import create_engine, pool

from migrations import logic
from shared.settings import get_settings, with_scheme


def head() -> str:
    """Return the newest revision that this code knows."""
    return str(ScriptDirectory.from_config(Config(toml_file="pyproject.toml")).get_current_head())


def describe(url: str) -> list[logic.Drift]:
    """Return the differences of the database at a URL; the database is left as it is."""
    script = ScriptDirectory.from_config(Config(toml_file="pyproject.toml"))
    engine = create_engine(with_scheme(url, "postgresql+psycopg"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        heads = MigrationContext.configure(connection).get_current_heads()
        if not heads:
            raise SystemExit("The database is not migrated.")
        revisions = frozenset(s.revision for s in script.iterate_revisions(heads, "base"))
        found = logic.drift(connection, revisions)
        connection.rollback()
    engine.dispose()
    return found


def main() -> None:
    """Print a line for each difference; exit with 1 when there is one."""
    try:
        found = describe(get_settings().migration_url("postgresql"))
    except LockNotAvailable:
        sys.exit("A table with a trigger is in use just now: try again. Nothing was changed.")
    for drift in found:
        sys.stdout.write(f"{drift.kind:8} {drift.name}\n")
    sys.stdout.write(f"{len(found)} of the database's functions and views differ from sql/.\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
