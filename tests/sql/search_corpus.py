"""Chunks by the thousand, made in the database: what tests of the search's indexes and counts stand on."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from tests.support import WIDTH, Caller

DOCUMENT = """
INSERT INTO rag.documents (tenant_id, id, collection_id, name, media_type, size_bytes, content_sha256, live_version, status,
  stage, chunks_total, metadata)
SELECT %(tenant)s, %(document)s, c.id, %(name)s, 'text/plain', 4, '', 1, 'indexed', 'indexed', %(count)s, %(metadata)s
FROM rag.collections AS c WHERE c.tenant_id = %(tenant)s
"""
CHUNKS = """
WITH c AS (
  INSERT INTO rag.chunks (tenant_id, document_id, version, live, ordinal, content, start_char, end_char, token_count)
  SELECT %(tenant)s, %(document)s, 1, true, n, 'common ' || 'tenth' || n %% 10 || ' word' || n || ' in' || %(shift)s, 0, 1, 4
  FROM generate_series(1, %(count)s) AS n
  RETURNING id, document_id, ordinal AS n)
INSERT INTO rag.embeddings (tenant_id, chunk_id, document_id, embedding)
-- Four coordinates that look random and never repeat, spread over all components.
SELECT %(tenant)s, c.id, c.document_id,
  (SELECT array_agg(z[1] * sin(i) + z[2] * sin(2 * i + 1) + z[3] * sin(3 * i + 2) + z[4] * sin(5 * i + 3))
   FROM generate_series(1, %(width)s) AS i)::vector::halfvec
FROM c, LATERAL (SELECT array_agg(mod(((n + %(shift)s) * k * sqrt(7919 * k + 13))::numeric, 1) - 0.5)::float8[]
                 FROM generate_series(1, 4) AS k) AS point (z)
"""
EXACT = """
SELECT e.chunk_id FROM rag.embeddings AS e WHERE e.tenant_id = %s AND (%s::uuid IS NULL OR e.document_id = %s)
ORDER BY e.embedding <=> %s::halfvec, e.chunk_id LIMIT %s
"""


def make_documents(operator: Caller, tenant: UUID, sizes: Sequence[int]) -> list[UUID]:
    """Store live documents with so many chunks each; chunk n has the words `common`, `tenth<n mod 10>` and `word<n>`.

    A word of the document's own is in each of its chunks: none is another document's chunk again.
    """
    operator.run(
        "INSERT INTO rag.collections (tenant_id, name) VALUES (%s, 'default') ON CONFLICT DO NOTHING", [tenant]
    )
    documents = []
    for place, size in enumerate(sizes):
        document = uuid4()
        values = {"tenant": tenant, "document": document, "count": size, "width": WIDTH, "shift": 10_000 * place}
        operator.run(DOCUMENT, values | {"name": f"d{place}-{document}", "metadata": f'{{"place": {place}}}'})
        operator.run(CHUNKS, values)
        documents.append(document)
    operator.run("ANALYZE rag.documents, rag.chunks, rag.embeddings, rag.vocabulary")
    return documents


def exact(operator: Caller, tenant: UUID, embedding: str, limit: int, document: UUID | None = None) -> list[UUID]:
    """Return the nearest chunks of a tenant, or of one document, by comparing with all."""
    operator.run("SET enable_indexscan = off")
    rows = operator.query(EXACT, [tenant, document, document, embedding, limit])
    operator.run("RESET enable_indexscan")
    return [row[0] for row in rows]


def embedding_of(operator: Caller, tenant: UUID, word: int) -> str:
    """Return the vector of a tenant's first chunk with `word<n>`."""
    text: str = operator.value(
        "SELECT e.embedding::text FROM rag.embeddings AS e JOIN rag.chunks AS c ON c.id = e.chunk_id"
        " WHERE c.tenant_id = %s AND c.ordinal = %s ORDER BY c.document_id LIMIT 1",
        [tenant, word],
    )
    return text
