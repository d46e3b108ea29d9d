"""What an embedded server needs beside migrations: the database, the roles' passwords, a demo tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
from psycopg import sql

from infra.local.process import PartError
from shared.settings import with_scheme

if TYPE_CHECKING:
    from collections.abc import Mapping

DEMO_SLUG, DEMO_NAME = "demo", "Demo"


def create_database(superuser_url: str, name: str) -> None:
    """Create the database unless it exists."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount
        if not exists:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def set_passwords(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """Give login roles their passwords; raises PartError for a role that the migrations did not make.

    The server sees the SCRAM verifier only, so that no statement log holds a password.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        for role, password in passwords.items():
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
            try:
                connection.execute(statement)
            except psycopg.errors.UndefinedObject as error:
                raise PartError(f"the migrations made no role {role!r}") from error


def demo_tenant(url: str) -> UUID:
    """Return the id of the demo tenant, made at first use, with the rights of the role that migrates."""
    with psycopg.connect(with_scheme(url, "postgresql"), autocommit=True) as connection:
        row = connection.execute(
            "SELECT core.provision_tenant(p_slug => %s, p_name => %s)", [DEMO_SLUG, DEMO_NAME]
        ).fetchone()
    if row is None or not isinstance(row[0], UUID):
        raise PartError(f"core.provision_tenant returned no tenant id but {row!r}")
    return row[0]
