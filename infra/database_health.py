"""The database's state as JSON: `make db-health`, with the rights of the role that migrates; status 1 when it is ill."""

import json
import sys
from typing import Any

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.rows import scalar_row
from pydantic import ValidationError

from infra.target import database_url
from migrations import drift
from shared.guards import malformed
from shared.settings import get_settings


def run(url: str) -> dict[str, Any]:
    """Return what ops.health says, with `healthy`, and with the newest revision and the drift under `migration`."""
    try:
        with psycopg.connect(url, autocommit=True, row_factory=scalar_row) as connection:
            state: dict[str, Any] | None = connection.execute("SELECT ops.health()").fetchone()
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        return _ill("migration", "the database is not migrated, or by older code: run `make migrate`")
    except psycopg.Error as error:
        return _ill("server", str(error).strip())
    if state is None:
        return _ill("server", "ops.health() says nothing")
    _add_migration(url, state)
    return {"healthy": not any(f["severity"] == "problem" for f in state["findings"]), **state}


def _add_migration(url: str, state: dict[str, Any]) -> None:
    migration, newest = state["migration"], drift.head()
    migration |= {"head": newest, "is_head": migration["revision"] == newest, "drift": None}
    if not migration["is_head"]:
        state["findings"].append(
            _finding(
                "problem", "migration", f"the revision is {migration['revision']}, not {newest}: run `make migrate`"
            )
        )
        return
    try:
        migration["drift"] = [f"{found.kind} {found.name}" for found in drift.describe(url)]
    except LockNotAvailable:
        state["findings"].append(_finding("warning", "drift", "not compared, because a table is in use: try again"))
        return
    if migration["drift"]:
        told = (
            f"{', '.join(migration['drift'])}: `make db-drift` tells more, `make migrate` applies what is new in sql/"
        )
        state["findings"].append(_finding("problem", "drift", told))


def _finding(severity: str, subject: str, told: str) -> dict[str, str]:
    return {"severity": severity, "subject": subject, "told": told}


def _ill(subject: str, told: str) -> dict[str, Any]:
    return {"healthy": False, "findings": [_finding("problem", subject, told)]}


def main() -> None:
    """Print the state."""
    try:
        state = run(database_url(get_settings()))
    except ValidationError as error:
        state = _ill("variables", "; ".join(malformed(error)))
    sys.stdout.write(json.dumps(state, indent=2) + "\n")
    sys.exit(0 if state["healthy"] else 1)


if __name__ == "__main__":
    main()
