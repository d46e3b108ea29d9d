"""A copy of the database as one file: `make db-backup`, with the rights of the role that migrates.

The file is one of pg_dump's custom format. It gets its name when it is complete and readable, so that whatever has the name
of a backup is one. It holds everything that people wrote, so that nobody but its owner may read it. Roles and their passwords
belong to the server and are not in it.
"""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from pydantic import ValidationError

from infra.postgres_programs import ProgramError, client, connection
from infra.target import database_url
from shared.guards import malformed
from shared.settings import get_settings

MODES: dict[str, list[str]] = {
    "full": [],
    "schema": ["--schema-only"],
    "data": ["--data-only", "--load-via-partition-root"],
}
DEFAULT_FOLDER = "backups"
LOCK_WAIT = "60s"
"""It waits so long at most for a table that a migration holds."""


def run(url: str, mode: str, folder: Path) -> Path:
    """Write a backup and return its file; raises ProgramError, OSError and psycopg.Error."""
    with psycopg.connect(url) as server:
        major = server.info.server_version // 10000
    pg_dump, pg_restore = client("pg_dump", major), client("pg_restore", major)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"enterprise_agents_{mode}_{datetime.now(UTC):%Y%m%d_%H%M%S}.dump"
    part = final.with_suffix(".part")
    variables, rest = connection(url)
    command = [str(pg_dump), "--format=custom", "--no-password", f"--lock-wait-timeout={LOCK_WAIT}", f"--file={part}"]
    try:
        done = subprocess.run(
            [*command, *MODES[mode], *([f"--dbname={rest}"] if rest else [])],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,
        )
        if done.returncode != 0:
            raise ProgramError(f"pg_dump: {done.stderr.strip()}")
        if not contents(pg_restore, part):
            raise ProgramError("there is nothing in this database: is it the right one?")
        # Not over another one: two backups in one second are a mistake.
        os.link(part, final)
    finally:
        part.unlink(missing_ok=True)
    return final


def contents(pg_restore: Path, file: Path) -> list[str]:
    """Return the entries of a backup's table of contents; raises ProgramError for a file that is no backup, or cut off."""
    done = subprocess.run([pg_restore, "--list", file], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProgramError(f"{file} is no backup that can be read: {done.stderr.strip()}")
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]


def main() -> None:
    """Back up as BACKUP_MODE says (`full`, `schema` or `data`) into BACKUP_DIR."""
    mode, folder = os.environ.get("BACKUP_MODE") or "full", os.environ.get("BACKUP_DIR") or DEFAULT_FOLDER
    if mode not in MODES:
        sys.exit(f"error: BACKUP_MODE must be one of {', '.join(MODES)}")
    started = time.monotonic()
    try:
        file = run(database_url(get_settings()), mode, Path(folder).expanduser())
    except ValidationError as error:
        sys.exit(f"error: {'; '.join(malformed(error))}")
    except (ProgramError, OSError, psycopg.Error) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{file}\n")
    sys.stderr.write(f"{mode}, {file.stat().st_size:,} bytes, {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    main()
