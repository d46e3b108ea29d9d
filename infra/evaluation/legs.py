"""The platform's search and each of its legs: the one module of the evaluation that knows their SQL."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    import psycopg
    from psycopg.rows import TupleRow

    Connection = psycopg.Connection[TupleRow]

DEPTH = 100
"""How many chunks each is asked for: enough that the chunks of long documents make 20 documents."""
FUSED_DEPTH = 40
"""How many of a leg's chunks rag.search fuses."""
LEGS = ("vector", "text", "trigram")
DEFAULT_WEIGHTS: Mapping[str, float] = {"vector": 1.0, "text": 1.5, "trigram": 1.0}
"""With which rag.search fuses the legs."""
DEFAULT_K = 10.0
"""Of its reciprocal rank fusion."""

_SEARCH = "SELECT s.chunk_id FROM rag.search(%s, %s, NULL, %s) AS s"
_ASKED = "%(tenant)s, rag.query_words(%(tenant)s, %(query)s), NULL, %(depth)s"
_LEG = {
    "vector": "SELECT f.chunk_id, 1 FROM rag.nearest_chunks(%(tenant)s, %(vector)s, NULL, %(depth)s) AS f ORDER BY f.rank",
    "text": f"SELECT f.chunk_id, f.score FROM rag.matching_chunks({_ASKED}) AS f ORDER BY f.rank",  # noqa: S608
    "trigram": f"SELECT f.chunk_id, f.score FROM rag.similar_chunks({_ASKED}) AS f ORDER BY f.rank",  # noqa: S608
}


@dataclass(frozen=True, slots=True)
class Platform:
    """The search of a tenant, over a connection whose transaction acts for a user of it."""

    connection: Connection
    tenant: UUID

    def search(self, query: str, vector: str | None) -> list[UUID]:
        """Return the chunks that rag.search returns, best first; without a vector it searches by text alone."""
        return _ids(self.connection.execute(_SEARCH, (query, vector, DEPTH)))

    def leg(self, name: str, query: str, vector: str) -> list[tuple[UUID, float]]:
        """Return the chunks that one leg alone returns, best first, and with which share of its weight it fuses each."""
        arguments = {"tenant": self.tenant, "query": query, "vector": vector, "depth": DEPTH}
        return [(row[0], float(row[1])) for row in self.connection.execute(_LEG[name], arguments)]

    def documents(self) -> dict[UUID, str]:
        """Return the name of each chunk's document."""
        rows = self.connection.execute(
            "SELECT c.id, d.name FROM rag.chunks AS c JOIN rag.documents AS d USING (tenant_id)"
            " WHERE c.tenant_id = %s AND d.id = c.document_id",
            [self.tenant],
        )
        return dict(rows.fetchall())


@contextmanager
def entered(connection: Connection, tenant: UUID) -> Iterator[Platform]:
    """Yield the search as a user of the tenant has it, in one transaction; the connection may call internal functions."""
    with connection.transaction():
        connection.execute("SELECT core.enter(%s, 'evaluation', 'chat.ask', '{tenant_admin}')", [tenant])
        yield Platform(connection, tenant)


def _ids(rows: psycopg.Cursor[TupleRow]) -> list[UUID]:
    return [row[0] for row in rows]
