"""Applies the living logic of `sql/` to a database, remembers it, and compares the two.

A file `sql/<schema>/<object>.sql` creates one function, procedure or view with `CREATE OR REPLACE`, together with what
belongs to it: its comment, its grants, and for a trigger function the trigger. Its first line names the revision whose
structure it needs: `-- requires: 000_core`. `ops.sql_history` keeps every body that a database has run.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import DependentObjectsStillExist
from sqlalchemy import Connection, text

SQL_ROOT = Path(__file__).parent.parent / "sql"
REQUIRES = re.compile(r"\A-- requires: (\S+)\n")


@dataclass(frozen=True)
class LogicFile:
    """One file of `sql/`, or one of its earlier bodies."""

    file: str
    body: str
    requires: str

    @property
    def name(self) -> str:
        """The object's qualified name, which is the file's path."""
        return self.file.removesuffix(".sql").replace("/", ".")

    @property
    def checksum(self) -> str:
        """SHA-256 of the body, hexadecimal."""
        return hashlib.sha256(self.body.encode()).hexdigest()


@dataclass(frozen=True)
class Drift:
    """One difference between a database and `sql/`."""

    name: str
    kind: str
    """`changed` (by hand, or not yet applied), `missing` (in the database) or `unknown` (in no file)."""


def read_files(root: Path = SQL_ROOT) -> list[LogicFile]:
    """Read `sql/`, functions before the views that may call them.

    Raises ValueError for a file that does not say which revision it requires.
    """
    files = []
    for path in sorted(root.glob("*/*.sql")):
        body = path.read_text()
        found = REQUIRES.match(body)
        if found is None:
            raise ValueError(f"{path.relative_to(root)}: the first line must be '-- requires: <revision>'")
        files.append(LogicFile(str(path.relative_to(root)), body, found[1]))
    return sorted(files, key=lambda file: "CREATE OR REPLACE VIEW" in file.body)


def apply(connection: Connection, revisions: frozenset[str], root: Path = SQL_ROOT) -> list[LogicFile]:
    """Bring the database's logic to what `sql/` says, as far as its structure (`revisions`) allows.

    Runs in the caller's transaction. Changed files are replaced and recorded, and objects whose file is gone are dropped.
    Returns the files that were applied.
    """
    files = [file for file in read_files(root) if file.requires in revisions]
    current = _current(connection)
    changed = [file for file in files if (c := current.get(file.file)) is None or c.checksum != file.checksum]
    _execute(connection, changed)
    for file in changed:
        _record(connection, "apply", file.file, file.requires, file)
    known = {file.file for file in read_files(root)}
    for gone in (past for past in current.values() if past.file not in known):
        _drop_triggers(connection, gone.name)
        _drop(connection, gone.name)
        _record(connection, "drop", gone.file, gone.requires, None)
    return changed


def remove_requiring(connection: Connection, revision: str, ancestors: frozenset[str]) -> list[LogicFile]:
    """Drop the objects whose present body needs `revision`; return the bodies that stood there before it.

    Called by a downgrade before it undoes the structure.
    """
    earlier = []
    for present in _current(connection).values():
        if present.requires != revision:
            continue
        past = connection.execute(
            text(
                "SELECT file, body, requires FROM ops.sql_history"
                " WHERE file = :file AND body IS NOT NULL AND requires = ANY (:ancestors) ORDER BY id DESC LIMIT 1"
            ),
            {"file": present.file, "ancestors": list(ancestors)},
        ).one_or_none()
        if past is not None:
            # Replaced in place if a policy or trigger uses it: dropping it would take them along.
            earlier.append(LogicFile(*past))
            _drop_replaceable(connection, present.name)
        else:
            _drop(connection, present.name, cascade=True)
        _record(connection, "drop", present.file, revision, None)
    return earlier


def restore(connection: Connection, files: Iterable[LogicFile]) -> None:
    """Create the given earlier bodies again and record it."""
    files = list(files)
    _execute(connection, files)
    for file in files:
        _record(connection, "restore", file.file, file.requires, file)


def drift(connection: Connection, revisions: frozenset[str], root: Path = SQL_ROOT) -> list[Drift]:
    """Compare the catalog with `sql/`: run every file in a transaction that is rolled back, and see what it would change."""
    files = [file for file in read_files(root) if file.requires in revisions]
    names = {file.name for file in files}
    found = []
    with connection.begin_nested() as savepoint:
        run_script(connection, "SET LOCAL lock_timeout = '2s'")
        before = _definitions(connection)
        _execute(connection, files)
        after = _definitions(connection)
        savepoint.rollback()
    for name in sorted(names | before.keys()):
        if name not in names:
            found.append(Drift(name, "unknown"))
        elif name not in before:
            found.append(Drift(name, "missing"))
        elif before[name] != after[name]:
            found.append(Drift(name, "changed"))
    return found


def run_script(connection: Connection, script: str) -> None:
    """Run several statements in the connection's transaction, past SQLAlchemy, which would read % and : as parameters."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(script)
    finally:
        cursor.close()


def run_query(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of one query, past SQLAlchemy as well."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(query)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def _execute(connection: Connection, files: list[LogicFile]) -> None:
    """Create the objects, whatever the order in which they refer to each other.

    The first pass leaves bodies unchecked; the second creates them again with the check on, so that a reference to
    something that does not exist fails the upgrade and not the first call.
    """
    run_script(connection, "SET LOCAL ROLE ea_owner")
    run_script(connection, "SET LOCAL check_function_bodies = off")
    for file in files:
        _drop_replaceable(connection, file.name)
        _create(connection, file)
    run_script(connection, "SET LOCAL check_function_bodies = on")
    for file in files:
        _create(connection, file)
    run_script(connection, "RESET ROLE")


def _create(connection: Connection, file: LogicFile) -> None:
    try:
        run_script(connection, file.body)
    except psycopg.Error as error:
        error.add_note(f"while applying sql/{file.file}")
        raise


def _drop_replaceable(connection: Connection, name: str) -> None:
    """Drop the object if nothing depends on it, so that its parameters and result may change."""
    try:
        with connection.begin_nested():
            _drop(connection, name)
    except DependentObjectsStillExist:
        pass  # a trigger, policy or view uses it: it is replaced in place, and its parameters cannot change


def _drop_triggers(connection: Connection, name: str) -> None:
    """Drop the triggers that execute the function of that name."""
    drops = connection.execute(
        text(
            "SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t"
            " JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname || '.' || p.proname = :name"
        ),
        {"name": name},
    ).scalars()
    for drop in drops.all():
        run_script(connection, drop)


def _drop(connection: Connection, name: str, *, cascade: bool = False) -> None:
    """Drop every function, procedure or view of that name."""
    drops = connection.execute(
        text(
            """
            SELECT format('DROP %s %s', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure)
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE n.nspname || '.' || p.proname = :name
            UNION ALL
            SELECT format('DROP VIEW %s', c.oid::regclass)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'v' AND n.nspname || '.' || c.relname = :name
            """
        ),
        {"name": name},
    ).scalars()
    for drop in drops.all():
        run_script(connection, f"{drop} CASCADE" if cascade else drop)


def _record(connection: Connection, action: str, file: str, requires: str, body: LogicFile | None) -> None:
    connection.execute(
        text(
            "INSERT INTO ops.sql_history (file, action, requires, checksum, body)"
            " VALUES (:file, :action, :requires, :checksum, :body)"
        ),
        {
            "file": file,
            "action": action,
            "requires": requires,
            "checksum": body.checksum if body else None,
            "body": body.body if body else None,
        },
    )


def _current(connection: Connection) -> dict[str, LogicFile]:
    """Return what the history says is in force, by file."""
    rows = connection.execute(
        text("SELECT DISTINCT ON (file) file, body, requires FROM ops.sql_history ORDER BY file, id DESC")
    )
    return {row.file: LogicFile(row.file, row.body, row.requires) for row in rows if row.body is not None}


def _definitions(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Return every function and view of the platform's schemas: text, comment, rights and triggers, by qualified name."""
    rows = connection.execute(
        text(
            """
            SELECT n.nspname || '.' || p.proname AS name,
                   pg_get_functiondef(p.oid) AS definition,
                   coalesce(obj_description(p.oid, 'pg_proc'), '') AS description,
                   coalesce((SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(p.proacl) AS a), '') AS rights,
                   coalesce((SELECT string_agg(pg_get_triggerdef(t.oid, true) || t.tgenabled::text, ';' ORDER BY t.tgname)
                             FROM pg_trigger t WHERE t.tgfoid = p.oid), '') AS triggers
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND p.prokind IN ('f', 'p')
            UNION ALL
            SELECT n.nspname || '.' || c.relname, pg_get_viewdef(c.oid), coalesce(obj_description(c.oid, 'pg_class'), ''),
                   coalesce((SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(c.relacl) AS a), ''), ''
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'v' AND pg_get_userbyid(n.nspowner) = 'ea_owner'
            ORDER BY 1, 2
            """
        )
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        found[row.name] = (*found.get(row.name, ()), *row[1:])
    return found
