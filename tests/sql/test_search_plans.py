"""Each leg of the search uses the index that is made for it, and the index never costs a result."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.search_corpus import embedding_of, exact, make_documents
from tests.support import Caller, Database

SIZES = {"large": [1500, 1500, 40], "small": [150, 150]}
EXACT_BELOW = 1000
CANDIDATES = 400
LONG_QUESTION = " ".join(f"common word{number} tenth{number % 10}" for number in range(1, 250))
USED = """
SELECT indexrelname FROM pg_stat_user_indexes WHERE schemaname = 'rag' AND idx_scan > 0
UNION ALL
SELECT 'all of ' || relname FROM pg_stat_user_tables
WHERE schemaname = 'rag' AND seq_scan > 0 AND relname IN ('chunks', 'embeddings', 'vocabulary', 'documents')
"""
BOOKS = {"chunks_lexemes", "embeddings_embedding", "embeddings_document", "vocabulary_endings"}


@pytest.fixture(scope="module")
def filled(module_database: Database) -> dict[str, tuple[UUID, list[UUID]]]:
    """A large and a small tenant with their documents."""
    with module_database.connect() as operator:
        tenants = {
            size: operator.call("core.provision_tenant", p_slug=size, p_name=size.capitalize()) for size in SIZES
        }
        documents = {size: make_documents(operator, tenant, SIZES[size]) for size, tenant in tenants.items()}
        change = json.dumps({"exact_below": EXACT_BELOW, "candidates": CANDIDATES})
        operator.call("rag.set_search_settings", p_settings=change, p_tenant_id=None)
        operator.run("VACUUM (ANALYZE)")
    return {size: (tenants[size], documents[size]) for size in SIZES}


@contextmanager
def acting(database: Database, tenant: UUID) -> Iterator[Caller]:
    with database.connect("app", tenant) as app:
        yield app


def used(operator: Caller) -> set[str]:
    """Return what was read since the counters were reset: the search's own indexes, and whole tables."""
    operator.run("SELECT pg_stat_force_next_flush()")
    return {row[0] for row in operator.query(USED) if row[0] in BOOKS or row[0].startswith("all of")}


SEARCHES = {
    "vectors of a large tenant": ("large", "", True, {}, {"embeddings_embedding"}),
    "vectors of a small tenant": ("small", "", True, {}, {"embeddings_document"}),
    "vectors of a small document of a large tenant": (
        "large", "", True, {"metadata": {"place": 2}}, {"embeddings_document"},
    ),
    "vectors of a large document": ("large", "", True, {"metadata": {"place": 0}}, {"embeddings_embedding"}),
    "rare words": ("large", "word17 word18", False, {}, {"chunks_lexemes"}),
    "a long question": ("large", LONG_QUESTION, False, {}, {"chunks_lexemes"}),
    "a word of a tenth of the chunks": ("large", "tenth3", False, {}, {"chunks_lexemes"}),
    "a word of all chunks": ("large", "common", False, {}, set()),
    "words of a small document": ("large", "tenth3", False, {"metadata": {"place": 2}}, set()),
    "a misspelt word": ("small", "wrd145", False, {}, {"chunks_lexemes", "vocabulary_endings"}),
}  # fmt: skip


@pytest.mark.parametrize("search", SEARCHES)
def test_a_leg_reads_the_index_that_is_made_for_it_and_no_table_from_end_to_end(
    module_database: Database, filled: dict[str, tuple[UUID, list[UUID]]], search: str
) -> None:
    size, query, near, wanted, expected = SEARCHES[search]
    tenant, _ = filled[size]
    with module_database.connect() as operator:
        embedding = embedding_of(operator, tenant, 7) if near else None
        arguments = {"p_query": query, "p_embedding": embedding, "p_filter": json.dumps(wanted)}
        with acting(module_database, tenant) as app:
            assert app.rows("rag.search", **arguments, p_limit=10)
            app.run("SELECT pg_stat_force_next_flush()")
            operator.run("SELECT pg_stat_reset()")
            # Looking whether two results are duplicates reads vectors by their key; fusing compares nothing else.
            app.rows("rag.search", **arguments, p_limit=10)
            app.run("SELECT pg_stat_force_next_flush()")
        assert used(operator) == expected


def test_the_explanation_shows_these_indexes(
    module_database: Database, filled: dict[str, tuple[UUID, list[UUID]]]
) -> None:
    for size, index in (("large", "embeddings_embedding"), ("small", "embeddings_document")):
        tenant, _ = filled[size]
        with module_database.connect() as operator:
            embedding = embedding_of(operator, tenant, 7)
        with acting(module_database, tenant) as app:
            found = app.call("rag.find", p_query="word17", p_embedding=embedding, p_explain=True)
            legs = found["plan"]["legs"]
        assert any(index in line for line in legs["vector"]["plan"])
        assert any("chunks_lexemes" in line for line in legs["text"]["plan"])
        assert legs["vector"]["method"] == ("hnsw" if size == "large" else "exact")


def test_a_long_question_ranks_fewer_passages_by_the_words_that_weigh_most(
    module_database: Database, filled: dict[str, tuple[UUID, list[UUID]]]
) -> None:
    tenant, _ = filled["large"]
    with acting(module_database, tenant) as app:
        plan = app.call("rag.find", p_query=LONG_QUESTION, p_embedding=None, p_explain=True)["plan"]
    chunks = {word["lexeme"]: word["chunks"] for word in plan["words"]}
    with module_database.connect() as operator:
        sought = operator.query(
            "SELECT w.lexeme FROM rag.sought_words(rag.query_words(%s, %s)) AS w", [tenant, LONG_QUESTION]
        )
    any_of = plan["legs"]["text"]["any_of"]
    assert any_of
    assert {*any_of} <= {lexeme for (lexeme,) in sought}
    assert len(sought) == 32 < len(chunks)
    assert len(sought) * sum(chunks[lexeme] for lexeme in any_of) <= 12 * CANDIDATES


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.sampled_from(list(SIZES)),
    word=st.integers(1, 40),
    limit=st.sampled_from([1, 10, 50, 400]),
    exact_below=st.sampled_from([0, EXACT_BELOW, 1_000_000]),
    place=st.sampled_from([None, 0, 1]),
    max_scan_tuples=st.sampled_from([1000, 20000]),
)
def test_a_search_never_finds_fewer_than_an_exact_one_and_nearly_the_same(
    module_database: Database,
    filled: dict[str, tuple[UUID, list[UUID]]],
    size: str,
    word: int,
    limit: int,
    exact_below: int,
    place: int | None,
    max_scan_tuples: int,
) -> None:
    tenant, documents = filled[size]
    change = {"exact_below": exact_below, "max_scan_tuples": max_scan_tuples, "duplicate_similarity": 1}
    with module_database.connect() as operator:
        operator.call("rag.set_search_settings", p_settings=json.dumps(change), p_tenant_id=tenant)
        try:
            embedding = embedding_of(operator, tenant, word)
            document = None if place is None else documents[place]
            expected = exact(operator, tenant, embedding, limit, document)
            with acting(module_database, tenant) as app:
                wanted = None if place is None else json.dumps({"metadata": {"place": place}})
                arguments = {"p_query": "", "p_embedding": embedding, "p_limit": limit, "p_filter": wanted}
                found = [row[0] for row in app.rows("rag.search", **arguments)]
        finally:
            operator.run("DELETE FROM rag.search_settings WHERE tenant_id = %s", [tenant])
    assert len(found) == len(expected)
    assert len({*found[:10]} & {*expected[:10]}) >= 0.9 * min(limit, 10)
    if exact_below == 1_000_000:
        assert found == expected


@pytest.mark.parametrize("query", ["word17 tenth3 common", "tenth3 common", "common", "wrd145"])
def test_words_of_another_tenant_change_nothing(
    module_database: Database, filled: dict[str, tuple[UUID, list[UUID]]], query: str
) -> None:
    tenant, _ = filled["small"]

    def found() -> Sequence[tuple[object, ...]]:
        with acting(module_database, tenant) as app:
            return [tuple(row) for row in app.rows("rag.search", p_query=query, p_embedding=None, p_limit=20)]

    before = found()
    assert before
    with module_database.connect() as operator:
        stranger = operator.call("core.provision_tenant", p_slug="stranger", p_name="Stranger")
        make_documents(operator, stranger, [500])
        try:
            assert found() == before
        finally:
            operator.run("DELETE FROM core.tenants WHERE id = %s", [stranger])


PLANS = [
    ({"rare": 5, "usual": 300, "common": 9000}, ["rare", "usual"], [], "common"),
    ({"usual": 300, "more": 400, "common": 4000}, ["usual"], ["more", "common"], "more"),
    ({"common": 9000, "commoner": 9500}, [], [], "common"),
    ({"some": 600, "others": 700}, [], ["some", "others"], "some"),
    ({"some": 3000, "others": 3000, "third": 4000}, [], ["others", "some", "third"], "others"),
    ({"only": 10}, ["only"], [], None),
    ({"all": 10_000}, [], [], "all"),
]


@pytest.mark.parametrize(("frequencies", "any_of", "all_of", "otherwise"), PLANS)
def test_the_rarest_words_find_the_candidates(
    module_database: Database,
    frequencies: dict[str, int],
    any_of: list[str],
    all_of: list[str],
    otherwise: str | None,
) -> None:
    with module_database.connect() as operator:
        [plan] = operator.rows(
            "rag.text_plan",
            p_lexemes=list(frequencies),
            p_chunks=list(frequencies.values()),
            p_total=10_000,
            p_candidates=500,
        )
    assert plan[:3] == (any_of, all_of, otherwise)


@pytest.mark.parametrize("k", [0.4, 0.645, 0.9, 1.2, 2.5])
def test_saturation_follows_bm25(module_database: Database, k: float) -> None:
    with module_database.connect() as operator:
        for times in (1, 2, 3, 5, 10, 50):
            share = operator.value(
                "SELECT rag.saturation(ts_rank('{0.5, 0.5, 0.5, 1}',"
                " setweight(to_tsvector('simple', repeat('word ', %s)), 'B'), 'word'), %s)",
                [times, k],
            )
            assert share == pytest.approx(times / (times + k), rel=0.02)
        heading = "SELECT rag.saturation(ts_rank('{0.5, 0.5, 0.5, 1}', setweight('word:1'::tsvector, 'A'), 'word'), %s)"
        assert operator.value(heading, [k]) == pytest.approx(1)
        absent = "SELECT rag.saturation(ts_rank('{0.5, 0.5, 0.5, 1}', 'other:1'::tsvector, 'word'), %s)"
        assert operator.value(absent, [k]) is None
