"""Alembic's entry point: structure first, then the logic of `sql/`, then the deployment's settings, in one transaction.

An advisory lock lets one migration run at a time, however many pods start it.
"""

import json

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from migrations import logic, structure
from shared.settings import get_settings

ADVISORY_LOCK = 0x6561_6D69_6772
"""Session-level lock key: the letters "eamigr"."""


def sync_settings(connection: Connection) -> None:
    """Copy the variables that the logic reads into ops.settings."""
    connection.execute(
        text("SELECT ops.sync_settings(CAST(:settings AS jsonb))"),
        {"settings": json.dumps(get_settings().for_database())},
    )


def run() -> None:
    """Upgrade or downgrade over one connection."""
    engine = create_engine(get_settings().migration_url("postgresql+psycopg"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=False)
        with context.begin_transaction():
            context.run_migrations()
            revisions = structure.revisions_up_to(context.get_context().get_current_heads())
            if revisions:
                logic.apply(connection, revisions)
                sync_settings(connection)
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit("The logic of sql/ is applied against a live database: --sql is not supported.")
run()
