"""Bringing a collection into a tenant of its own, as ingestion would: the same passages, the same functions of the database."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from functions.ingestion import tokens
from functions.ingestion.chunking import Chunk, split
from infra.evaluation.vectors import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg
    from psycopg.rows import TupleRow

    from infra.evaluation.collection import Entry
    from infra.evaluation.vectors import Vectors
    from shared.settings import Settings

    Connection = psycopg.Connection[TupleRow]

COLLECTION = "evaluation"
MEDIA_TYPE = "text/plain"
DOCUMENTS_A_TRANSACTION = 100


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document of the collection."""

    entry: Entry
    chunk: Chunk

    @property
    def embedded_text(self) -> str:
        """What the vector is made of. The name is left out: here it is an id that says nothing."""
        return f"{self.entry.title}\n{self.chunk.content}" if self.entry.title else self.chunk.content


def passages(documents: Sequence[Entry], settings: Settings) -> list[Passage]:
    """Return the passages of all documents, in their order; the title stands above each as its heading."""
    size, overlap = settings.chunk_size_tokens, settings.chunk_overlap_tokens
    tokenizer = tokens.load(settings.embedding_tokenizer, size)
    return [
        Passage(entry, chunk)
        for entry in documents
        for chunk in split(
            entry.text, MEDIA_TYPE, (), size_tokens=size, overlap_tokens=overlap, tokenizer=tokenizer, name=entry.title
        )
    ]


@contextmanager
def fresh_tenant(connection: Connection) -> Iterator[UUID]:
    """Yield a new tenant, and delete it with all that it holds. The connection is in autocommit mode, with the rights to."""
    row = connection.execute(
        "SELECT core.provision_tenant(p_slug => %s, p_name => 'Evaluation')", [f"evaluation-{uuid4().hex[:12]}"]
    ).fetchone()
    if row is None or not isinstance(row[0], UUID):
        raise TypeError(f"core.provision_tenant returned {row!r}")
    try:
        yield row[0]
    finally:
        connection.execute("DELETE FROM core.tenants WHERE id = %s", row)


def load(
    connection: Connection,
    tenant: UUID,
    indexed: Sequence[Passage],
    vectors: Vectors,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Store and index the documents of these passages; `advance` is told how many more are. Raises psycopg.Error.

    A document is stored, claimed and indexed in one transaction, so that no worker of a running platform takes it up.
    """
    places = enumerate(indexed)
    documents = [list(group) for _, group in groupby(places, key=lambda place: place[1].entry.id)]
    for at in range(0, len(documents), DOCUMENTS_A_TRANSACTION):
        batch = documents[at : at + DOCUMENTS_A_TRANSACTION]
        with connection.transaction():
            connection.execute("SELECT core.enter_function(%s, 'evaluation')", [tenant])
            _index(connection, [[(passage, as_text(vectors[row])) for row, passage in group] for group in batch])
        advance(len(batch))
    connection.execute("VACUUM (ANALYZE) rag.documents, rag.contents, rag.chunks, rag.embeddings")


def _index(connection: Connection, batch: Sequence[Sequence[tuple[Passage, str]]]) -> None:
    stored = _pipelined(
        connection,
        "SELECT rag.store_document(%s, %s, %s, %s)",
        [(COLLECTION, group[0][0].entry.id, MEDIA_TYPE, group[0][0].entry.text.encode()) for group in batch],
    )
    _pipelined(
        connection,
        "SELECT rag.claim_document(%s, 1, 'evaluation', '1 hour')",
        [(document,) for document in stored],
    )
    _pipelined(
        connection,
        "SELECT rag.store_chunks(%s, 1, 'evaluation', %s, '{}', %s, 'evaluation', %s)",
        [
            (
                document,
                group[0][0].entry.text,
                json.dumps([_row(passage) for passage, _ in group]),
                str(document),
            )
            for document, group in zip(stored, batch, strict=True)
        ],
    )
    vectors = {
        (document, passage.chunk.ordinal): vector
        for document, group in zip(stored, batch, strict=True)
        for passage, vector in group
    }
    chunks = connection.execute(
        "SELECT c.id, c.document_id, c.ordinal FROM rag.chunks AS c WHERE c.document_id = ANY (%s)", [stored]
    ).fetchall()
    places = {str(chunk): (document, ordinal) for chunk, document, ordinal in chunks}
    while claimed := _claim(connection):
        results = [{"chunk_id": chunk["id"], "embedding": vectors[places[chunk["id"]]]} for chunk in claimed["chunks"]]
        connection.execute(
            "SELECT rag.store_embeddings('evaluation', %s, %s, %s, 1, 'evaluation', 'none')",
            [claimed["model"]["id"], json.dumps(results), stored[0]],
        )


def _claim(connection: Connection) -> dict[str, Any] | None:
    """Return chunks of the tenant that want a vector, or None."""
    row = connection.execute(
        "SELECT rag.claim_embeddings('evaluation', '1 hour', 1000, 10000000, %s, 1, 'evaluation', 'none')",
        [UUID(int=0)],
    ).fetchone()
    return row[0] if row is not None and row[0]["outcome"] == "claimed" else None


def _row(passage: Passage) -> dict[str, object]:
    chunk = passage.chunk
    return {
        "ordinal": chunk.ordinal,
        "heading": passage.entry.title,
        "content": chunk.content,
        "start_char": chunk.start_char,
        "end_char": chunk.end_char,
        "token_count": chunk.token_count,
    }


def _pipelined(connection: Connection, statement: str, arguments: Sequence[Sequence[object]]) -> list[object]:
    """Execute a statement for each of the arguments in one round trip; return the first value of each."""
    with connection.pipeline():
        cursors = [connection.execute(statement, row) for row in arguments]
        return [row[0] for cursor in cursors if (row := cursor.fetchone()) is not None]
