"""What a database wants from time to time: `make db-maintenance`, with the rights of the role that migrates.

Makes the ledger's partitions of the months to come, detaches those older than KEEP_MONTHS full months where that is set, and
vacuums and analyzes the tables that change most. Safe while the platform runs.
"""

import os
import sys

import psycopg

from infra.target import database_url
from shared.settings import get_settings

CHANGING = (
    "budget.balances", "budget.reservations", "budget.ledger", "chat.turns", "chat.messages", "core.users", "core.api_keys",
    "events.outbox", "events.inbox", "inference.jobs", "rag.documents", "rag.chunks", "rag.embeddings",
    "rag.embedding_queue", "routing.health",
)  # fmt: skip


def run(url: str, keep_months: int | None) -> list[str]:
    """Do the work and return a line for each thing that was done; raises psycopg.Error."""
    done = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '5s'")
        for action, partition in connection.execute(
            "SELECT * FROM budget.maintain(p_keep_months => %s)", [keep_months]
        ):
            done.append(f"{action} budget.{partition}")
        for table in CHANGING:
            connection.execute(f"VACUUM (ANALYZE) {table}")
            done.append(f"vacuumed {table}")
    return done


def main() -> None:
    """Maintain the database of MIGRATION_DATABASE_URL (or DATABASE_URL)."""
    keep = os.environ.get("KEEP_MONTHS") or None
    if keep is not None and not (keep.isascii() and keep.isdigit()):
        sys.exit("error: KEEP_MONTHS must be a number of months")
    try:
        done = run(database_url(get_settings()), keep if keep is None else int(keep))
    except psycopg.Error as error:
        sys.exit(f"error: {error.diag.message_primary or error}")
    sys.stdout.write("\n".join(done) + "\n")


if __name__ == "__main__":
    main()
