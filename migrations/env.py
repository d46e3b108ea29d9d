"""Alembic's entry point: structure first, then the logic of `sql/`, then the deployment's settings, in one transaction.

An advisory lock lets one migration run at a time, however many pods start it.
"""

import json
import sys

from alembic import context
from pydantic import ValidationError
from sqlalchemy import Connection, create_engine, pool, text

from migrations import logic, structure
from shared.guards import malformed
from shared.settings import get_settings

LOCK_TIMEOUT = "5s"
"""A migration that cannot get a lock within this time fails and changes nothing, rather than queue behind traffic."""
ADVISORY_LOCK = 0x6561_6D69_6772
"""Session-level lock key: the letters "eamigr"."""


def sync_settings(connection: Connection) -> None:
    """Copy the variables that the logic reads into ops.settings."""
    settings = get_settings()
    values = settings.for_database()
    given = {name: value for name, value in values.items() if name in settings.model_fields_set}
    connection.execute(
        text("SELECT ops.sync_settings(CAST(:given AS jsonb), CAST(:defaults AS jsonb))"),
        {"given": json.dumps(given), "defaults": json.dumps(values)},
    )


def adopt_model(connection: Connection, revisions: frozenset[str]) -> None:
    """Let a database without vectors take over the embedding model that is set; of another, say which one it has.

    The vectors that there are stay in use, and questions are embedded by their model: nothing is wrong until `make reembed`.
    """
    settings = get_settings()
    fields = {"name": "litellm_embedding_model", "width": "embedding_dimensions"}
    wanted = {
        name: getattr(settings, field) if field in settings.model_fields_set else None for name, field in fields.items()
    }
    send = settings.embedding_send_dimensions if "018_shortened_vectors" in revisions else None
    adopt = text("SELECT rag.adopt_model(:name, :width, :send)")
    active = connection.execute(adopt, {**wanted, "send": send}).scalar_one()
    for name, field in fields.items():
        if wanted[name] not in (None, active[name]):
            sys.stderr.write(
                f"{field.upper()} is {wanted[name]}, and the vectors of this database are made by {active['name']} with "
                f"{active['width']} dimensions, which stays in use: `make reembed` changes that.\n"
            )


def run() -> None:
    """Upgrade or downgrade over one connection."""
    try:
        url = get_settings().migration_url("postgresql+psycopg")
    except ValidationError as error:
        raise SystemExit(f"Nothing was changed: {'; '.join(malformed(error))}") from None
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=False)
        with context.begin_transaction():
            context.run_migrations()
            if context.get_context().opts.get("dont_mutate"):
                return  # `alembic current` and the like only look
            revisions = structure.revisions_up_to(context.get_context().get_current_heads())
            if revisions:
                # Not in the platform's schemas, so that no file of sql/ can grant it. ops.health and make doctor read it.
                connection.execute(text("GRANT SELECT ON alembic_version TO app, dba_readonly"))
                logic.apply(connection, revisions)
                sync_settings(connection)
                if "008_ingestion_pipeline" in revisions:
                    adopt_model(connection, revisions)
                if "012_budget_metrics" in revisions:
                    connection.execute(text("SELECT budget.maintain()"))
    engine.dispose()


if context.is_offline_mode():
    raise SystemExit("The logic of sql/ is applied against a live database: --sql is not supported.")
run()
