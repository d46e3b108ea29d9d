"""A database from a backup: `make db-restore`, with the rights of the role that migrates.

A restore is one transaction: it succeeds as a whole or changes nothing. A backup with tables goes into an empty database, with
CREATE_DB=1 into one that it makes, and with FORCE=1 into the place of all that the platform has in a database. A backup of
rows alone takes the place of those that a migrated database without tenants has, or with FORCE=1 of all rows.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import scalar_row
from pydantic import ValidationError

from infra.backup import contents
from infra.postgres_programs import ProgramError, client, connection
from infra.target import ROOT, database_url
from shared.guards import malformed
from shared.settings import get_settings

ROLES = ROOT / "migrations" / "versions" / "000_core" / "01_roles.admin.sql"
MAINTENANCE = ("postgres", "template1")
"""Databases to be connected to while the platform's own is not there."""
REVISION_TABLE = "alembic_version"
NEEDED = frozenset({"vector", "pg_trgm"})
"""The extensions without which the platform is nothing. Others are an operator's own, or the server's."""
HEAD_LINES = 40
"""The settings of a dump stand within its first lines."""
LOCK_TIMEOUT = "10s"

EXTENSION = re.compile(r"^\d+; \d+ \d+ (?:EXTENSION - |COMMENT - EXTENSION )(\S+)")
STRUCTURE = re.compile(r"^\d+; \d+ \d+ TABLE (?!DATA )")
SETTING = re.compile(rb"^SET (\w+) = ")

OBJECTS = """
SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
OURS = "SELECT n.nspname FROM pg_namespace AS n WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' ORDER BY 1"
TABLES = """
SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND (pg_get_userbyid(n.nspowner) = 'ea_owner' OR c.oid = to_regclass('public.alembic_version'))
ORDER BY 1
"""
ROLE_NAMES = "SELECT r.rolname::text FROM pg_roles AS r"

Connection = psycopg.Connection[Any]


class Refused(Exception):
    """Nothing was changed, for the reason given."""


@dataclass(frozen=True)
class Backup:
    """What is in a file."""

    file: Path
    entries: list[str]

    @property
    def has_tables(self) -> bool:
        """Whether it makes tables, or only fills them."""
        return any(STRUCTURE.match(entry) for entry in self.entries)

    @property
    def extensions(self) -> list[str]:
        """The extensions that it needs."""
        return sorted({match[1] for entry in self.entries if (match := EXTENSION.match(entry))})

    @property
    def restored(self) -> list[str]:
        """The entries without the extensions, which are made beforehand: none but their owner may comment on them."""
        return [entry for entry in self.entries if not EXTENSION.match(entry)]


@dataclass(frozen=True)
class Restored:
    """What is to be known afterwards.

    `new_roles` have no password yet, `absent` are extensions that were left out, `revision` is None where no row says it.
    """

    tables: int
    revision: str | None
    new_roles: list[str]
    absent: list[str]


def run(url: str, file: Path, *, create: bool, force: bool) -> Restored:
    """Restore a backup; raises Refused, ProgramError and psycopg.Error."""
    if not file.is_file():
        raise Refused(f"there is no file {file}: BACKUP_FILE says which to restore")
    name = str(conninfo_to_dict(url).get("dbname") or "")
    made = False
    with _server(url, name) as server:
        pg_restore = client("pg_restore", server.info.server_version // 10000)
        backup = Backup(file, contents(pg_restore, file))
        if not _exists(server, name):
            if not (create and backup.has_tables):
                needed = "CREATE_DB=1 makes it" if backup.has_tables else "the backup holds rows and no tables for them"
                raise Refused(f"there is no database {name}: {needed}")
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            made = True
        try:
            return _restore(url, name, backup, pg_restore, force=force)
        except BaseException:
            if made:
                server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            raise


def _restore(url: str, name: str, backup: Backup, pg_restore: Path, *, force: bool) -> Restored:
    with psycopg.connect(url, autocommit=True, row_factory=scalar_row) as target:
        if backup.has_tables:
            clearing = _room_for_tables(target, name, force=force)
            new_roles, absent = _prepare(target, backup)
        else:
            clearing = _room_for_rows(target, name, _revision_in(backup, pg_restore), force=force)
            new_roles, absent = [], []
        known = {setting.encode() for setting in target.execute("SELECT name FROM pg_settings")}
    _load(url, backup, pg_restore, clearing, known)
    with psycopg.connect(url, autocommit=True, row_factory=scalar_row) as target:
        target.execute("ANALYZE")
        tables = target.execute(TABLES).fetchall()
        revision = target.execute(f"SELECT max(version_num) FROM public.{REVISION_TABLE}").fetchone()
    return Restored(len(tables), revision, new_roles, absent)


def _server(url: str, name: str) -> Connection:
    """Return a connection to the server, whether the platform's database exists or not."""
    failed = None
    for database in (name, *MAINTENANCE):
        try:
            return psycopg.connect(make_conninfo(url, dbname=database), autocommit=True, row_factory=scalar_row)
        except psycopg.OperationalError as error:
            failed = failed or error
    raise failed or Refused("the connection string names no database")


def _exists(server: Connection, name: str) -> bool:
    return bool(server.execute("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", [name]).fetchone())


def _room_for_tables(target: Connection, name: str, *, force: bool) -> str:
    """Return the SQL that removes what is in the way; raises Refused."""
    objects = target.execute(OBJECTS).fetchone()
    if not objects:
        return ""
    if not force:
        raise Refused(
            f"the database {name} is not empty ({objects} tables, views and sequences): FORCE=1 replaces them"
        )
    schemas = target.execute(OURS).fetchall()
    drop = [sql.SQL("DROP SCHEMA {} CASCADE;").format(sql.Identifier(schema)) for schema in schemas]
    return sql.Composed([*drop, sql.SQL(f"DROP TABLE IF EXISTS public.{REVISION_TABLE};")]).as_string(target)


def _room_for_rows(target: Connection, name: str, revision: str, *, force: bool) -> str:
    """Return the SQL that removes the rows that are there, and lets no trigger answer to those that come; raises Refused."""
    tables = target.execute(TABLES).fetchall()
    if "core.tenants" not in tables:
        raise Refused(f"the backup holds rows only, and the database {name} has no tables for them: run `make migrate`")
    there = target.execute(f"SELECT max(version_num) FROM public.{REVISION_TABLE}").fetchone()
    if there not in (None, revision):
        raise Refused(f"the rows are of revision {revision}, and the tables of the database {name} of {there}")
    if not force and target.execute("SELECT EXISTS (SELECT FROM core.tenants)").fetchone():
        raise Refused(
            f"the database {name} has tenants: FORCE=1 puts the backup's rows in the place of all that it has"
        )
    return f"SET session_replication_role = replica; TRUNCATE {', '.join(tables)};"


def _prepare(target: Connection, backup: Backup) -> tuple[list[str], list[str]]:
    """Make roles and extensions, which no backup makes; return the roles that are new, and the extensions left out.

    Left out is what this server does not know and the platform does not need, such as a provider's own. Where something in the
    backup is made of it, that fails, and the restore as a whole.
    """
    before = set(target.execute(ROLE_NAMES).fetchall())
    # The first statement of the migration that made them, which makes those that are absent.
    statement, _, _ = ROLES.read_text().partition("$$;")
    target.execute(f"{statement}$$".encode())
    known = set(target.execute("SELECT name::text FROM pg_available_extensions").fetchall()) | NEEDED
    for extension in sorted(known.intersection(backup.extensions)):
        target.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
    new_roles = sorted(set(target.execute(ROLE_NAMES).fetchall()) - before)
    return new_roles, [extension for extension in backup.extensions if extension not in known]


def _revision_in(backup: Backup, pg_restore: Path) -> str:
    """Return the revision that a backup's rows are of; raises Refused."""
    done = subprocess.run(
        [pg_restore, "--data-only", f"--table={REVISION_TABLE}", "--file=-", backup.file],
        capture_output=True,
        text=True,
        check=False,
    )
    _, _, rows = done.stdout.partition(f"COPY public.{REVISION_TABLE} ")
    revision = rows.partition("\n")[2].partition("\n")[0]
    if revision in ("", "\\."):
        raise Refused(f"{backup.file} does not say which revision its rows are of: it is no backup of this platform")
    return revision


def _load(url: str, backup: Backup, pg_restore: Path, clearing: str, known: set[bytes]) -> None:
    """Let psql run what pg_restore tells, in one transaction; raises ProgramError.

    `known` are the settings of the server: pg_restore sets some that an older server has not. The commit is sent when all was
    told, so that nothing is kept if either program, or this one, is ended before.
    """
    variables, rest = connection(url)
    psql = [
        str(pg_restore.with_name("psql")),
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--set=ON_ERROR_STOP=1",
        "--file=-",
    ]
    with (
        tempfile.NamedTemporaryFile("w", suffix=".list") as entries,
        tempfile.TemporaryFile() as complaints,
    ):
        entries.write("\n".join(backup.restored) + "\n")
        entries.flush()
        telling = subprocess.Popen(
            [pg_restore, f"--use-list={entries.name}", "--file=-", backup.file],
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        doing = subprocess.Popen(
            [*psql, *([f"--dbname={rest}"] if rest else [])],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
        )
        with telling, doing:
            try:
                _pass_on(telling, doing, clearing, known)
            except BrokenPipeError:
                pass  # psql has ended, and said why
            except BaseException:
                doing.kill()
                raise
            finally:
                telling.kill()
        if doing.returncode != 0 or telling.returncode != 0:
            complaints.seek(0)
            raise ProgramError(f"nothing was restored. {complaints.read().decode(errors='replace').strip()}")


def _pass_on(
    telling: subprocess.Popen[bytes], doing: subprocess.Popen[bytes], clearing: str, known: set[bytes]
) -> None:
    told, does = _pipe(telling.stdout), _pipe(doing.stdin)
    with does:
        does.write(
            f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET client_min_messages = warning; BEGIN; {clearing}\n".encode()
        )
        for _ in range(HEAD_LINES):
            line = told.readline()
            match = SETTING.match(line)
            if match is None or match[1] in known:
                does.write(line)
        shutil.copyfileobj(told, does)
        if telling.wait() != 0:
            doing.kill()
            return
        does.write(b"COMMIT;\n")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ProgramError("a program has no pipe")
    return pipe


def _told(restored: Restored, head: str) -> list[str]:
    """Return what the operator is told."""
    lines = [f"Restored: {restored.tables} tables, revision {restored.revision or 'unknown: the backup has no rows'}."]
    if restored.new_roles:
        lines.append(
            f"The roles {', '.join(restored.new_roles)} are new and have no password yet: \\password in `make db-shell`."
        )
    if restored.absent:
        lines.append(
            f"The extensions {', '.join(restored.absent)}, which the platform does not need, are not on this server: left out."
        )
    if restored.revision not in (None, head):
        lines.append(f"The newest revision of this code is {head}: `make migrate` goes there.")
    return lines


def main() -> None:
    """Restore BACKUP_FILE; CREATE_DB=1 makes the database, FORCE=1 replaces what it holds."""
    from migrations.drift import head

    started = time.monotonic()
    try:
        restored = run(
            database_url(get_settings()),
            Path(os.environ.get("BACKUP_FILE") or "(none)").expanduser(),
            create=os.environ.get("CREATE_DB") == "1",
            force=os.environ.get("FORCE") == "1",
        )
    except ValidationError as error:
        sys.exit(f"error: {'; '.join(malformed(error))}")
    except (Refused, ProgramError, OSError, psycopg.Error) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write("\n".join([*_told(restored, head()), f"{time.monotonic() - started:.1f} s"]) + "\n")


if __name__ == "__main__":
    main()
