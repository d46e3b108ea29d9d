"""A first tenant to begin with: `make seed`. Running it again changes nothing and shows no secret again.

It works with the rights of the role that migrates. Outside production it makes users of every role, a service account with a
key, documents and a conversation, and prints development tokens. In production it makes the tenant and one key, good for a
week, with which the first administrators are appointed; people log in at the company's identity provider.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import scalar_row

from infra.target import database_url
from shared.api_keys import ApiKey
from shared.auth import issue_dev_token
from shared.settings import Settings, get_settings

SAMPLES = Path(__file__).parent / "samples"
PEOPLE = {
    "operator": ("platform_admin",),
    "admin": ("tenant_admin",),
    "member": ("member",),
    "viewer": ("viewer",),
    "auditor": ("auditor",),
}
"""Subjects and the roles granted to each."""
SERVICE, SERVICE_ROLES = "sample-service", ["service"]
BOOTSTRAP, BOOTSTRAP_ROLES, BOOTSTRAP_DAYS = "bootstrap", ["platform_admin", "tenant_admin"], 7
COLLECTION = "handbook"
QUESTION = "When is the first safety briefing of a new colleague?"
ANSWER = (
    "On the second day at nine o'clock, in the ground-floor meeting room. (This answer is sample data of `make seed`.)"
)


@dataclass
class Seed:
    """What a run has made; `keys` and `new` hold what is shown this once."""

    tenant_id: UUID
    slug: str
    new: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    documents: int = 0


class Seeder:
    """Makes what is missing, as an operator of one tenant."""

    def __init__(self, connection: psycopg.Connection[Any], slug: str, name: str) -> None:
        self._connection = connection
        self.seed = Seed(self._call("core.provision_tenant", p_slug=slug, p_name=name), slug)

    def people(self) -> None:
        """Make a user for each role."""
        for subject, roles in PEOPLE.items():
            user = self._user(subject)
            if user is None:
                self.seed.new.add(subject)
                with self._as(subject, "me.read"):
                    user = self._call("core.current_user_id")
            with self._as_operator():
                self._call("core.grant_roles", p_roles=list(roles), p_user_id=user)

    def service_account(self, name: str, roles: list[str], days: int | None = None) -> None:
        """Make a service account, and a key of it unless it has a good one; none for one that somebody made by hand."""
        user = self._user(f"service:{name}")
        with self._as_operator():
            if user is None:
                user = UUID(self._call("core.create_service_account", p_name=name, p_roles=roles)["id"])
            keys = self._call("core.list_keys", p_user_id=user)
            if any(key["status"] == "active" for key in keys):
                return
            key = ApiKey.generate(self.seed.tenant_id)
            self._call(
                "core.create_key",
                p_key_id=key.key_id,
                p_secret_sha256=key.digest(),
                p_name="made by make seed",
                p_user_id=user,
                p_expires_at=days and datetime.now(UTC) + timedelta(days=days),
            )
            self.seed.keys[name] = key.text()

    def samples(self) -> None:
        """Store the sample documents, and a conversation about them."""
        for path in sorted(SAMPLES.glob("*.md")):
            with self._as("member", "documents.write"):
                self._call(
                    "rag.store_document",
                    p_collection=COLLECTION,
                    p_name=path.name,
                    p_media_type="text/markdown",
                    p_original=path.read_bytes(),
                )
            self.seed.documents += 1
        with self._as("member", "chat.ask"):
            turn = self._call("chat.begin_turn", p_message=QUESTION, p_max_tokens=64, p_idempotency_key="seed")
            if turn["replayed"]:
                return
            job = self._value("SELECT id FROM inference.jobs WHERE turn_id = %s", turn["turn_id"])
            self._call("inference.claim", p_job_id=job, p_worker="seed", p_lease=timedelta(minutes=1))
            self._call(
                "inference.complete",
                p_job_id=job,
                p_worker="seed",
                p_attempt=1,
                p_status="completed",
                p_content=ANSWER,
                p_prompt_tokens=None,
                p_completion_tokens=None,
                p_event_source="/seed",
                p_event_id=turn["turn_id"],
            )

    def _user(self, subject: str) -> UUID | None:
        """Return the id of a user that there is."""
        query = "SELECT id FROM core.users WHERE tenant_id = %s AND subject = %s"
        row: UUID | None = self._connection.execute(query, [self.seed.tenant_id, subject]).fetchone()
        return row

    @contextmanager
    def _as(self, subject: str, operation: str) -> Iterator[None]:
        """Let one transaction act for a user who does an operation."""
        with self._connection.transaction():
            roles = list(PEOPLE[subject])
            self._connection.execute(
                "SELECT core.enter(%s, %s, %s, %s::text[])", [self.seed.tenant_id, subject, operation, roles]
            )
            yield

    @contextmanager
    def _as_operator(self) -> Iterator[None]:
        """Let one transaction work on the tenant, for no user of it."""
        with self._connection.transaction():
            self._connection.execute("SELECT core.enter_function(%s, 'seed')", [self.seed.tenant_id])
            yield

    def _call(self, function: str, **arguments: object) -> Any:
        placeholders = ", ".join(f"{name} => %s" for name in arguments)
        return self._value(f"SELECT {function}({placeholders})", *arguments.values())

    def _value(self, query: str, *arguments: object) -> Any:
        return self._connection.execute(query, arguments).fetchone()


def run(settings: Settings, slug: str, name: str) -> Seed:
    """Seed a tenant; raises psycopg.Error."""
    with psycopg.connect(database_url(settings), autocommit=True, row_factory=scalar_row) as connection:
        seeder = Seeder(connection, slug, name)
        if settings.environment == "prod":
            seeder.service_account(BOOTSTRAP, BOOTSTRAP_ROLES, BOOTSTRAP_DAYS)
        else:
            seeder.people()
            seeder.service_account(SERVICE, SERVICE_ROLES)
            seeder.samples()
        return seeder.seed


def report(seed: Seed, settings: Settings, fresh_tokens: bool) -> str:
    """Return what the operator reads: tokens of new users and new keys, which are shown this once."""
    lines = [f"Tenant {seed.slug}: {seed.tenant_id}"]
    if seed.documents:
        lines.append(f"{seed.documents} documents in the collection {COLLECTION}, and a conversation of `member`")
    shown = [] if settings.environment == "prod" else [s for s in PEOPLE if fresh_tokens or s in seed.new]
    for subject in shown:
        token = issue_dev_token(
            secret=settings.dev_jwt_secret.get_secret_value(),
            tenant_id=seed.tenant_id,
            subject=subject,
            roles=PEOPLE[subject],
            issuer=settings.oidc_issuer_url,
            audience=settings.oidc_audience,
        )
        lines += ["", f"{subject} ({', '.join(PEOPLE[subject])}), a development token for a day:", f"  {token}"]
    for account, key in seed.keys.items():
        lines += ["", f"API key of the service account {account}; it is not shown again:", f"  {key}"]
    if not shown and not seed.keys:
        hint = "" if settings.environment == "prod" else " FRESH_TOKENS=1 issues development tokens anew."
        lines.append(f"Everything was there already; no token or key is shown again.{hint}")
    return "\n".join(lines)


def main() -> None:
    """Seed the tenant that TENANT and NAME describe, `demo` by default."""
    settings = get_settings()
    slug = os.environ.get("TENANT") or "demo"
    try:
        seed = run(settings, slug, os.environ.get("NAME") or slug.capitalize())
    except psycopg.OperationalError as error:
        sys.exit(f"error: the database does not answer; is the platform running, or DATABASE_URL set? {error}")
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        sys.exit("error: the database is not migrated: run `make migrate`")
    except psycopg.Error as error:
        sys.exit(f"error: {error.diag.message_primary or error}")
    sys.stdout.write(report(seed, settings, bool(os.environ.get("FRESH_TOKENS"))) + "\n")


if __name__ == "__main__":
    main()
