"""Hybrid search finds by meaning, by words and by spelling, and uses its indexes."""

from collections.abc import Iterator, Sequence
from uuid import UUID

import psycopg
import pytest

from tests.support import WIDTH, Caller, Database, add_document, vector

MANY_WORDS = " ".join(f"w{number:x}" for number in range(20_000))


@pytest.fixture
def app(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0]) as caller:
        yield caller


def names(caller: Caller, query: str, embedding: str | None = None, **arguments: object) -> list[str]:
    return [row[2] for row in caller.rows("rag.search", p_query=query, p_embedding=embedding, **arguments)]


def test_each_leg_contributes_its_rank(app: Caller) -> None:
    add_document(app, "leave.md", ["Employees have thirty days of vacation."])
    [row] = app.rows("rag.search", p_query="vacation", p_embedding=vector(1.0))
    assert row[6:9] == (1, 1, None)
    assert row[5] == pytest.approx(2 / 61)


def test_a_passage_found_by_two_legs_comes_before_those_found_by_one(app: Caller) -> None:
    add_document(app, "near.md", ["Nothing of that.", "zebra crossing"])
    found = app.rows("rag.search", p_query="zebra", p_embedding=vector(0.0, 1.0))
    assert found[0][4] == "zebra crossing"
    assert found[0][5] > found[1][5]


def test_any_word_of_a_question_may_match(app: Caller) -> None:
    add_document(app, "a.md", ["The quarterly report is due in March."])
    assert names(app, "When exactly must we hand in the report?") == ["a.md"]


def test_a_misspelt_word_is_found_by_its_trigrams(app: Caller) -> None:
    add_document(app, "names.md", ["Contact Katharina Wozniak about invoices."])
    add_document(app, "other.md", ["Nothing to see here."])
    [row] = app.rows("rag.search", p_query="Wozniack", p_embedding=None)
    assert row[2] == "names.md"
    assert row[6:9] == (None, None, 1)


def test_without_an_embedding_the_text_is_searched(app: Caller) -> None:
    add_document(app, "a.md", ["alpha beta"])
    assert names(app, "beta") == ["a.md"]
    assert names(app, "unrelated") == []


@pytest.mark.parametrize(
    "query",
    [
        "the and of",
        "???",
        "' | & ! ( ) :* <->",
        "\\",
        "a" * 5000,
        "🚀",
        "x\ty\nz",
        MANY_WORDS,
    ],
)
def test_no_query_text_is_an_error(app: Caller, query: str) -> None:
    add_document(app, "a.md", ["alpha beta"])
    assert names(app, query, vector(1.0)) == ["a.md"]


def test_collections_limit_every_leg(app: Caller) -> None:
    add_document(app, "hr.md", ["vacation days"], collection="hr")
    add_document(app, "it.md", ["vacation notebook"], collection="it")
    assert names(app, "vacation", vector(1.0), p_collections=["it"]) == ["it.md"]
    assert names(app, "vacaton", vector(1.0), p_collections=["hr"]) == ["hr.md"]
    assert sorted(names(app, "vacation", vector(1.0), p_collections=["hr", "it"])) == ["hr.md", "it.md"]


def test_an_unknown_collection_is_named(app: Caller) -> None:
    with pytest.raises(psycopg.Error, match="nowhere") as raised:
        names(app, "x", p_collections=["nowhere"])
    assert raised.value.sqlstate == "EA002"


def test_a_replaced_document_answers_with_its_new_text_only(app: Caller) -> None:
    add_document(app, "a.md", ["the old wording"])
    add_document(app, "a.md", ["the new wording"])
    assert [row[4] for row in app.rows("rag.search", p_query="wording", p_embedding=vector(1.0))] == ["the new wording"]


def test_a_document_that_is_stored_again_answers_with_its_old_text_until_indexed(app: Caller) -> None:
    add_document(app, "a.md", ["the old wording"])
    app.call(
        "rag.store_document", p_collection="default", p_name="a.md", p_media_type="text/markdown", p_original="new one"
    )
    assert [row[4] for row in app.rows("rag.search", p_query="wording", p_embedding=None)] == ["the old wording"]
    assert app.call("rag.list_documents")["documents"][0]["status"] == "received"


def test_the_same_text_again_has_nothing_to_do(app: Caller) -> None:
    document = add_document(app, "a.md", ["same"])
    again = app.call(
        "rag.store_document", p_collection="default", p_name="a.md", p_media_type="text/markdown", p_original="same"
    )
    assert again == document
    assert app.query("SELECT status, version FROM rag.documents") == [("indexed", 1)]


def test_a_vector_of_another_width_is_refused(app: Caller) -> None:
    add_document(app, "a.md", ["alpha"])
    with pytest.raises(psycopg.Error, match="3 dimensions, and the database was made for 384") as raised:
        names(app, "alpha", "[1,2,3]")
    assert raised.value.sqlstate == "EA007"


def test_a_large_tenant_is_searched_by_index_and_as_completely(database: Database, tenants: Sequence[UUID]) -> None:
    """3,000 passages of one tenant beside 300 of another: both get as many results as they ask for, and the right first."""
    generate = """
        WITH d AS (
          INSERT INTO rag.documents (
            tenant_id, collection_id, name, media_type, size_bytes, content_sha256, live_version, status, stage)
          SELECT %(tenant)s, id, 'bulk', 'text/plain', 4, '', 1, 'indexed', 'indexed' FROM rag.collections
          WHERE tenant_id = %(tenant)s RETURNING id),
        c AS (
          INSERT INTO rag.chunks (tenant_id, document_id, version, live, ordinal, content, start_char, end_char, token_count)
          SELECT %(tenant)s, d.id, 1, true, n, 'common word number' || n, 0, 1, 3
          FROM d, generate_series(1, %(count)s) AS n RETURNING id, document_id, ordinal AS n)
        INSERT INTO rag.embeddings (tenant_id, chunk_id, document_id, embedding)
        -- Four coordinates that look random and never repeat, spread over all components.
        SELECT %(tenant)s, c.id, c.document_id,
          (SELECT array_agg(z[1] * sin(i) + z[2] * sin(2 * i + 1) + z[3] * sin(3 * i + 2) + z[4] * sin(5 * i + 3))
           FROM generate_series(1, %(width)s) AS i)::vector::halfvec
        FROM c, LATERAL (SELECT array_agg(mod((n * k * sqrt(7919 * k + 13))::numeric, 1) - 0.5)::float8[]
                         FROM generate_series(1, 4) AS k) AS point (z)
    """
    for tenant, count in zip(tenants, (3000, 300), strict=True):
        with database.connect("app", tenant) as app:
            add_document(app, "first.md", ["seed"])
        with database.connect() as operator:
            operator.run(generate, {"tenant": tenant, "width": WIDTH, "count": count})
    with database.connect() as operator:
        operator.run("ANALYZE rag.chunks, rag.embeddings")
    for tenant in tenants:
        with database.connect("app", tenant) as app:
            probe = app.value(
                "SELECT embedding::text FROM rag.embeddings AS e JOIN rag.chunks AS c ON c.id = e.chunk_id WHERE ordinal = 77"
            )
            found = app.rows("rag.search", p_query="zzzz", p_embedding=probe, p_limit=20)
            assert len(found) == 20
            assert found[0][4] == "common word number77"
            app.run("SET enable_indexscan = off")
            exact = app.query(
                "SELECT chunk_id FROM rag.embeddings ORDER BY embedding <=> %s::halfvec, chunk_id LIMIT 10", [probe]
            )
            assert len({row[0] for row in exact} & {row[0] for row in found}) >= 9


def test_the_legs_of_a_large_tenant_use_their_indexes(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "first.md", ["seed"])
    with database.connect() as operator:
        operator.run(
            """
            WITH c AS (
              INSERT INTO rag.chunks (tenant_id, document_id, version, live, ordinal, content, start_char, end_char,
                token_count)
              SELECT tenant_id, document_id, 1, true, n + 1, 'word' || n || ' filler' || n %% 91, 0, 1, 3
              FROM rag.chunks, generate_series(1, 4000) AS n
              RETURNING tenant_id, id, document_id)
            INSERT INTO rag.embeddings (tenant_id, chunk_id, document_id, embedding)
            SELECT tenant_id, id, document_id,
              (SELECT array_agg(random()) FROM generate_series(1, %s) AS i WHERE c.id IS NOT NULL)::vector::halfvec
            FROM c
            """,
            [WIDTH],
        )
        operator.run("ANALYZE rag.chunks, rag.embeddings")
        operator.run("SET enable_seqscan = off")  # a table this small may be scanned as well
        tenant = str(tenants[0])
        plans = {
            "embeddings_embedding": "SELECT FROM rag.embeddings WHERE tenant_id = %s"
            " ORDER BY embedding <=> %s::halfvec LIMIT 40",
            "chunks_search_text": "SELECT id FROM rag.chunks WHERE tenant_id = %s AND live AND search_text @@ %s::tsquery",
        }
        arguments = {
            "embeddings_embedding": vector(1.0),
            "chunks_search_text": "'word17'",
        }
        for index, statement in plans.items():
            plan = "\n".join(
                row[0]
                for row in operator.query(f"EXPLAIN {statement}", [tenant, arguments[index]][-statement.count("%s") :])
            )
            assert index in plan, plan
