"""What several tests need: a database of one's own, a caller for it, and a stand-in for a user."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from shared.auth import issue_dev_token
from shared.settings import DEV_JWT_SECRET

WIDTH = 384
ISSUED: set[str] = set()
"""Credentials that a test made or sent: none of them may be logged."""
PASSWORDS = {"app": "app-test", "relay": "relay-test", "dba_readonly": "dba-test"}

TEST_ENVIRONMENT = {
    "ENVIRONMENT": "test",
    "EMBEDDING_DIMENSIONS": str(WIDTH),
    "CHUNK_SIZE_TOKENS": "192",
    "CHUNK_OVERLAP_TOKENS": "32",
    "LITELLM_API_KEY": "sk-test",
    "LITELLM_EMBEDDING_MODEL": "local/all-minilm-l6-v2",
    "LITELLM_DEFAULT_MODEL": "local/extractive-standard",
    "MODEL_LIGHT": "local/extractive-light",
    "MODEL_STANDARD": "local/extractive-standard",
    "MODEL_HEAVY": "local/extractive-heavy",
    "TOKEN_BUDGET_DAILY": "1000000",
    "TOKEN_BUDGET_MONTHLY": "20000000",
    "RATE_LIMIT_PER_MINUTE": "10000",
    "REGION": "test",
}


@dataclass(frozen=True)
class Caller:
    """A role's connection that acts for a tenant and a subject, as shared.database does."""

    connection: Connection[TupleRow]

    def call(self, function: str, **arguments: object) -> Any:
        """Return the value of a scalar function."""
        rows = self.rows(function, **arguments)
        return rows[0][0]

    def rows(self, function: str, **arguments: object) -> list[TupleRow]:
        """Return the rows of a function."""
        query = sql.SQL("SELECT * FROM {}({})").format(
            sql.Identifier(*function.split(".")),
            sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in arguments),
        )
        return self.connection.execute(query, arguments).fetchall()

    def query(self, statement: str, arguments: Sequence[object] | Mapping[str, object] = ()) -> list[TupleRow]:
        """Return the rows of a statement."""
        return self.connection.execute(statement, arguments).fetchall()

    def value(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """Return the one value of a statement."""
        return self.query(statement, arguments)[0][0]

    def run(self, statement: str, arguments: Sequence[object] | Mapping[str, object] = ()) -> int:
        """Execute a statement; return how many rows it touched."""
        return self.connection.execute(statement, arguments).rowcount


@dataclass(frozen=True)
class Database:
    """A migrated database of the test's own."""

    urls: Mapping[str, str]
    """Connection URLs by role; `postgres` is the superuser."""

    @contextmanager
    def connect(
        self,
        role: str = "postgres",
        tenant: UUID | None = None,
        subject: str = "ann",
        *,
        operation: str = "chat.ask",
        roles: Sequence[str] = ("tenant_admin",),
        groups: Sequence[str] = (),
        api_key: UUID | None = None,
    ) -> Iterator[Caller]:
        """Yield a caller in autocommit mode.

        With a tenant it acts for a subject of it who was admitted to an operation, for the whole session where the functions
        are for one transaction.
        """
        with psycopg.connect(self.urls[role], autocommit=True) as connection:
            if tenant is not None:
                enter(connection, tenant, subject, operation, roles, groups, api_key)
            yield Caller(connection)


SETTINGS = ("tenant_id", "user_id", "api_key_id", "actor", "operation", "roles")


def enter(
    connection: Connection[TupleRow],
    tenant: UUID,
    subject: str,
    operation: str,
    roles: Sequence[str] = ("tenant_admin",),
    groups: Sequence[str] = (),
    api_key: UUID | None = None,
) -> None:
    """Let a session act for a subject, as core.enter lets a transaction."""
    with connection.transaction():
        connection.execute(
            "SELECT core.enter(%s, %s, %s, %s::text[], %s::text[], NULL, NULL, %s)",
            (tenant, subject, operation, list(roles), list(groups), api_key),
        )
        reading = ", ".join(f"current_setting('app.{name}')" for name in SETTINGS)
        values = connection.execute(f"SELECT {reading}").fetchone()
    writing = ", ".join(f"set_config('app.{name}', %s, false)" for name in SETTINGS)
    connection.execute(f"SELECT {writing}", values)


def vector(*components: float) -> str:
    """Return a vector of WIDTH in pgvector's text form that begins with the components."""
    return json.dumps([*components, *[0.0] * (WIDTH - len(components))])


def add_document(caller: Caller, name: str, passages: Sequence[str], collection: str = "default") -> UUID:
    """Store and index a document whose passages have the vectors e1, e2, ... of their positions."""
    document: UUID = caller.call(
        "rag.store_document",
        p_collection=collection,
        p_name=name,
        p_media_type="text/markdown",
        p_original="\n\n".join(passages).encode(),
    )
    store_chunks(caller, document, passages, heading=name)
    places = {
        str(chunk): place
        for chunk, place in caller.query("SELECT id, ordinal FROM rag.chunks WHERE document_id = %s", [document])
    }
    embed_chunks(caller, lambda chunk: vector(*[0.0] * (places[chunk["id"]] - 1), 1.0))
    return document


def store_chunks(caller: Caller, document: UUID, passages: Sequence[str], heading: str = "") -> str | None:
    """Store the passages of a document that waits for its indexing; return `indexed` when they had their vectors."""
    version = caller.value("SELECT version FROM rag.documents WHERE id = %s", [document])
    lease = {"p_document_id": document, "p_version": version, "p_worker": "test"}
    assert caller.call("rag.claim_document", **lease, p_lease="1 minute")["outcome"] == "claimed"
    chunks = [
        {
            "ordinal": number,
            "heading": heading,
            "content": passage,
            "start_char": 0,
            "end_char": len(passage),
            "token_count": len(passage.split()),
        }
        for number, passage in enumerate(passages, start=1)
    ]
    outcome: str | None = caller.call(
        "rag.store_chunks",
        **lease,
        p_body="\n\n".join(passages),
        p_details="{}",
        p_chunks=json.dumps(chunks),
        p_event_source="test",
        p_event_id=str(document),
    )
    return outcome


def claim_chunks(caller: Caller, worker: str = "test", limit: int = 1000, lease: str = "1 minute") -> Any:
    """Claim chunks of the tenant's queue for an event of no document; return what the claim says."""
    return caller.call(
        "rag.claim_embeddings",
        p_worker=worker,
        p_lease=lease,
        p_limit=limit,
        p_tokens=10**6,
        **NO_EVENT,
    )


def embed_chunks(caller: Caller, made: Callable[[dict[str, Any]], str], worker: str = "test") -> Any:
    """Store the vectors that `made` returns for claimed chunks {id, text, last, exhausted}; return what storing says."""
    claim = claim_chunks(caller, worker)
    if claim["outcome"] != "claimed":
        return None
    results = [{"chunk_id": chunk["id"], "embedding": made(chunk)} for chunk in claim["chunks"]]
    return store_results(caller, claim, results, worker)


def store_results(caller: Caller, claim: Any, results: Sequence[Mapping[str, object]], worker: str = "test") -> Any:
    """Store what became of claimed chunks; return what storing says."""
    return caller.call(
        "rag.store_embeddings",
        p_worker=worker,
        p_model_id=claim["model"]["id"],
        p_results=json.dumps(results),
        **NO_EVENT,
    )


NO_EVENT = {"p_document_id": UUID(int=0), "p_version": 1, "p_event_source": "test", "p_event_id": "none"}


def bearer(
    tenant: UUID, subject: str = "ann", roles: Sequence[str] = ("member",), groups: Sequence[str] = ()
) -> dict[str, str]:
    """Return the Authorization header of a subject of a tenant."""
    token = issue_dev_token(secret=DEV_JWT_SECRET, tenant_id=tenant, subject=subject, roles=roles, groups=groups)
    ISSUED.add(token)
    return {"Authorization": f"Bearer {token}"}
