"""psql on the deployment's database: `make db-shell`, with the rights of the role that migrates."""

import os
import sys

from infra.postgres_programs import ProgramError, any_client, connection
from infra.target import database_url
from shared.settings import get_settings


def main() -> None:
    """Become psql."""
    try:
        psql = any_client("psql")
    except ProgramError as error:
        sys.exit(f"error: {error}")
    variables, rest = connection(database_url(get_settings()))
    os.execve(psql, ["psql", *([rest] if rest else []), *sys.argv[1:]], {**os.environ, **variables})  # noqa: S606


if __name__ == "__main__":
    main()
