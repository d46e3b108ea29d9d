"""A million chunks in a thousand tenants for `make bench-search`: words as frequent as in a language, and clustered vectors.

Tenants: one with 30 % of all chunks, twenty between 5 % and 0.2 % (at a million chunks 50,000 to 2,000), the others with a few
hundred each. A document has up to 20 chunks; the documents of all tenants come in random order, as they would over time.

Vectors: points of a mixture. There are 500 topics in a space of 32 dimensions; a document lies around a topic, a chunk around
its document; a random linear map takes the point to 384 dimensions, and some noise in all of them is added. Uniform noise would
be no test: in 384 dimensions any two of its points are about as far from each other as any other two, no index finds the
nearest, and no model makes such vectors.

Words: Zipf's law (a word's frequency is that of the most common one, divided by its rank) over 200,000 words, 100 a chunk.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from numpy.typing import NDArray

    Connection = psycopg.Connection[tuple[Any, ...]]
    Floats = NDArray[np.float32]

TENANTS = 1000
WIDTH = 384
LATENT = 32
TOPICS = 500
SPREAD_OF_DOCUMENTS, SPREAD_OF_CHUNKS, NOISE = 0.6, 0.5, 0.15
VOCABULARY = 200_000
CHUNK_WORDS = (60, 140)
DOCUMENT_CHUNKS = 20
LARGE_SHARE = 0.3
MIDDLE = 20
MIDDLE_SHARES = (0.05, 0.002)
TOKENS_A_WORD = 1.3
BATCH_DOCUMENTS = 1000
LANGUAGE = "english"

INDEXES = (
    "CREATE INDEX embeddings_document ON rag.embeddings (tenant_id, document_id)",
    (
        "CREATE INDEX chunks_lexemes ON rag.chunks USING gin (rag.scoped_lexemes(tenant_id, search_text))"
        " WITH (fastupdate = off) WHERE live"
    ),
    "CREATE INDEX vocabulary_endings ON rag.vocabulary (tenant_id, reverse(lexeme)) WHERE length(lexeme) BETWEEN 4 AND 40",
    "CREATE INDEX embeddings_embedding ON rag.embeddings USING hnsw (embedding halfvec_cosine_ops)",
)
"""As the migration makes them; here they are made after the rows, which takes a tenth of the time."""
STATISTICS = """
INSERT INTO rag.statistics (tenant_id, language, chunks, tokens)
SELECT c.tenant_id, c.language, count(*), sum(c.token_count) FROM rag.chunks AS c WHERE c.live GROUP BY c.tenant_id, c.language
"""
WORDS = """
INSERT INTO rag.vocabulary (tenant_id, lexeme, chunks)
SELECT c.tenant_id, l.lexeme, count(*)
FROM rag.chunks AS c CROSS JOIN unnest(tsvector_to_array(c.search_text)) AS l (lexeme)
WHERE c.live GROUP BY c.tenant_id, l.lexeme ORDER BY c.tenant_id, l.lexeme COLLATE "C"
"""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant of the benchmark by its place, the largest first, and how many chunks it has."""

    place: int
    chunks: int

    @property
    def id(self) -> UUID:
        """Return its id."""
        return UUID(int=(0xABC << 96) + self.place)

    @property
    def collection(self) -> UUID:
        """Return the id of its one collection."""
        return UUID(int=(0xC01 << 96) + self.place)


def tenants(chunks: int) -> list[Tenant]:
    """Return the tenants that have so many chunks together, the largest first."""
    sizes = [int(chunks * LARGE_SHARE)]
    sizes += [int(share * chunks) for share in np.geomspace(*MIDDLE_SHARES, MIDDLE)]
    small = TENANTS - len(sizes)
    each = (chunks - sum(sizes)) / (small * (small + 1) / 2)
    sizes += [max(1, int(each * rank)) for rank in range(small, 0, -1)]
    sizes[1 + MIDDLE] += chunks - sum(sizes)  # what rounding left
    return [Tenant(place, size) for place, size in enumerate(sizes)]


class Space:
    """Where the vectors lie; the same in every run."""

    def __init__(self) -> None:
        """Draw the topics and the map."""
        random = np.random.default_rng(1)
        self._map = random.standard_normal((LATENT, WIDTH)).astype(np.float32) / np.float32(np.sqrt(LATENT))
        self._topics = random.standard_normal((TOPICS, LATENT)).astype(np.float32)

    def documents(self, random: np.random.Generator, topics: NDArray[np.int64]) -> Floats:
        """Return points (n, LATENT) around the topics (n,)."""
        return self._topics[topics] + SPREAD_OF_DOCUMENTS * _normal(random, len(topics), LATENT)

    def chunks(self, random: np.random.Generator, documents: Floats) -> Floats:
        """Return unit vectors (n, WIDTH) of chunks around the points (n, LATENT) of their documents."""
        points = documents + SPREAD_OF_CHUNKS * _normal(random, len(documents), LATENT)
        vectors = points @ self._map + NOISE * _normal(random, len(points), WIDTH)
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def tenant_topics(tenant: Tenant) -> NDArray[np.int64]:
    """Return what a tenant writes about, most of it about the first: more topics the larger it is."""
    random = np.random.default_rng(tenant.place)
    topics: NDArray[np.int64] = random.choice(TOPICS, size=min(TOPICS, 5 + tenant.chunks // 200), replace=False)
    return topics


def draw_topics(random: np.random.Generator, topics: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return topics of so many documents."""
    drawn: NDArray[np.int64] = topics[(len(topics) * random.random(number) ** 2).astype(int)]
    return drawn


def word(rank: int) -> str:
    """Return the word of a rank, from 0 for the most common one."""
    consonants, vowels = "bcdfghklmnprstvwz", "aeiou"
    base = len(consonants) * len(vowels)
    rest, syllables = rank + base, ""
    while rest:
        rest, syllable = divmod(rest, base)
        syllables = consonants[syllable // len(vowels)] + vowels[syllable % len(vowels)] + syllables
    return syllables


def fill(connection: Connection, chunks: int) -> None:
    """Fill the tables of a migrated database, in autocommit mode as a superuser, and make their indexes."""
    random, space, all_tenants = np.random.default_rng(7), Space(), tenants(chunks)
    documents = [
        (tenant, min(DOCUMENT_CHUNKS, tenant.chunks - first), int(topic))
        for tenant in all_tenants
        for first, topic in zip(
            range(0, tenant.chunks, DOCUMENT_CHUNKS),
            draw_topics(random, tenant_topics(tenant), -(-tenant.chunks // DOCUMENT_CHUNKS)),
            strict=True,
        )
    ]
    order = random.permutation(len(documents))
    _make_tenants(connection, all_tenants)
    # Foreign keys and counting by statement are left out, and done for all at once below.
    connection.execute("SET session_replication_role = replica")
    connection.execute("ALTER TABLE rag.chunks ENABLE ALWAYS TRIGGER prepare_chunk")
    for index in INDEXES:
        connection.execute(f"DROP INDEX rag.{index.split()[2]}")
    vocabulary = [word(rank) for rank in range(VOCABULARY)]
    began, done = time.perf_counter(), 0
    for first in range(0, len(order), BATCH_DOCUMENTS):
        batch = [documents[place] for place in order[first : first + BATCH_DOCUMENTS]]
        done += _copy(connection, random, space, batch, first, vocabulary)
        print(f"\r{done:,} of {chunks:,} chunks, {time.perf_counter() - began:.0f} s", end="", flush=True)
    print()
    connection.execute("ALTER TABLE rag.chunks ENABLE TRIGGER prepare_chunk")
    connection.execute("SET session_replication_role = origin")
    connection.execute(
        "SET maintenance_work_mem = '3GB'; SET max_parallel_maintenance_workers = 2; SET work_mem = '512MB'"
    )
    for step in (STATISTICS, WORDS, *INDEXES, "VACUUM (ANALYZE)"):
        began = time.perf_counter()
        connection.execute(step)
        print(f"{' '.join(step.split()[:4])}: {time.perf_counter() - began:.0f} s", flush=True)


def _make_tenants(connection: Connection, all_tenants: list[Tenant]) -> None:
    with connection.cursor().copy("COPY core.tenants (id, slug, name) FROM STDIN") as copy:
        for tenant in all_tenants:
            copy.write_row((tenant.id, f"bench-{tenant.place}", "Bench"))
    with connection.cursor().copy("COPY rag.collections (tenant_id, id, name) FROM STDIN") as copy:
        for tenant in all_tenants:
            copy.write_row((tenant.id, tenant.collection, "default"))


def _copy(
    connection: Connection,
    random: np.random.Generator,
    space: Space,
    batch: list[tuple[Tenant, int, int]],
    first: int,
    vocabulary: list[str],
) -> int:
    """Store documents (tenant, number of chunks, topic) with their chunks and vectors; return the number of chunks."""
    sizes = np.array([size for _, size, _ in batch])
    number, of_document = int(sizes.sum()), np.repeat(np.arange(len(batch)), sizes)
    documents = [UUID(int=(0xD0C << 96) + first + place) for place in range(len(batch))]
    with connection.cursor().copy(
        "COPY rag.documents (tenant_id, id, collection_id, name, media_type, language, metadata, dated, size_bytes,"
        " content_sha256, live_version, status, stage, chunks_total, chunks_embedded) FROM STDIN"
    ) as copy:
        for place, (tenant, size, _) in enumerate(batch):
            label = f"document-{first + place}.txt"
            metadata, dated = f'{{"tenth": "{(first + place) % 10}"}}', f"2026-{1 + place % 12:02}-01"
            fields = (tenant.id, documents[place], tenant.collection, label, "text/plain", LANGUAGE, metadata, dated)
            copy.write_row((*fields, 1, b"", 1, "indexed", "indexed", size, size))
    ids = random.bytes(16 * number)
    words = np.searchsorted(_zipf(), random.random(int((lengths := random.integers(*CHUNK_WORDS, number)).sum())))
    ends = np.cumsum(lengths)
    with connection.cursor().copy(
        "COPY rag.chunks (tenant_id, id, document_id, version, live, ordinal, content, start_char, end_char, token_count,"
        " language) FROM STDIN"
    ) as copy:
        ordinal = 0
        for row in range(number):
            place = int(of_document[row])
            ordinal = 1 if row == 0 or place != of_document[row - 1] else ordinal + 1
            text = " ".join([vocabulary[rank] for rank in words[ends[row] - lengths[row] : ends[row]]])
            row_of_text = (1, True, ordinal, text, 0, len(text), int(lengths[row] * TOKENS_A_WORD), LANGUAGE)
            chunk = UUID(bytes=ids[16 * row : 16 * row + 16])
            copy.write_row((batch[place][0].id, chunk, documents[place], *row_of_text))
    points = space.documents(random, np.array([topic for _, _, topic in batch]))
    with connection.cursor().copy(
        "COPY rag.embeddings (tenant_id, chunk_id, document_id, embedding) FROM STDIN (FORMAT binary)"
    ) as copy:
        for piece in _binary(
            b"".join(batch[place][0].id.bytes for place in of_document),
            ids,
            b"".join(documents[place].bytes for place in of_document),
            space.chunks(random, points[of_document]),
        ):
            copy.write(piece)
    return number


ROW = np.dtype(
    [
        ("fields", ">i2"), ("tenant_size", ">i4"), ("tenant", "V16"), ("chunk_size", ">i4"), ("chunk", "V16"),
        ("document_size", ">i4"), ("document", "V16"), ("vector_size", ">i4"), ("width", ">i2"), ("unused", ">i2"),
        ("vector", ">u2", (WIDTH,)),
    ]
)  # fmt: skip
"""A row of rag.embeddings in COPY's binary format; pgvector sends a halfvec as its width, 0, and the components."""


def _binary(tenant_ids: bytes, chunk_ids: bytes, document_ids: bytes, vectors: Floats) -> Iterator[bytes]:
    rows = np.zeros(len(vectors), ROW)
    rows["fields"], rows["width"], rows["vector_size"] = 4, WIDTH, 4 + 2 * WIDTH
    rows["tenant_size"] = rows["chunk_size"] = rows["document_size"] = 16
    for name, data in (("tenant", tenant_ids), ("chunk", chunk_ids), ("document", document_ids)):
        rows[name] = np.frombuffer(data, "V16")
    rows["vector"] = vectors.astype(np.float16).view(np.uint16)
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    yield rows.tobytes()
    yield b"\xff\xff"


def text(random: np.random.Generator, words: int) -> str:
    """Return so many words, each as often as in a chunk."""
    return " ".join(word(int(rank)) for rank in np.searchsorted(_zipf(), random.random(words)))


def _zipf() -> NDArray[np.float64]:
    """Return the distribution function of the words' ranks."""
    cumulated: NDArray[np.float64] = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    cumulated /= cumulated[-1]
    return cumulated


def _normal(random: np.random.Generator, rows: int, columns: int) -> Floats:
    return random.standard_normal((rows, columns), dtype=np.float32)
