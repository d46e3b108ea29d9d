"""Statistics and vocabulary say at every moment what a count of the live chunks would say."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.search_corpus import make_documents
from tests.support import Caller, Database

WORDS = ("invoice", "pump", "march", "board", "zebra", "the", "AX-4711-B")
WRONG = """
SELECT 'statistics', coalesce(s.language, c.language) FROM rag.statistics AS s
FULL JOIN (
  SELECT tenant_id, language, count(*) AS chunks, sum(token_count) AS tokens FROM rag.chunks WHERE live GROUP BY 1, 2
) AS c USING (tenant_id, language)
WHERE (s.chunks, s.tokens) IS DISTINCT FROM (c.chunks, c.tokens)
UNION ALL
SELECT 'vocabulary', coalesce(v.lexeme, c.lexeme) FROM rag.vocabulary AS v
FULL JOIN (
  SELECT tenant_id, l.lexeme, count(*) AS chunks
  FROM rag.chunks, unnest(tsvector_to_array(search_text)) AS l (lexeme) WHERE live GROUP BY 1, 2
) AS c ON c.tenant_id = v.tenant_id AND c.lexeme = v.lexeme COLLATE "C"
WHERE v.chunks IS DISTINCT FROM c.chunks
UNION ALL
SELECT 'changes', transaction::text FROM rag.chunk_changes
"""

Step = tuple[str, int, str]
CHUNK = """
INSERT INTO rag.chunks (tenant_id, document_id, version, live, ordinal, content, start_char, end_char, token_count, language)
SELECT d.tenant_id, d.id, 1, %(live)s, coalesce(last.ordinal, 0) + 1, %(text)s, 0, 1, 1 + length(%(text)s), %(language)s
FROM rag.documents AS d
CROSS JOIN LATERAL (SELECT max(c.ordinal) AS ordinal FROM rag.chunks AS c WHERE c.document_id = d.id) AS last
"""
CHANGES = {
    "publish": "UPDATE rag.chunks SET live = true WHERE NOT live",
    "withdraw": "UPDATE rag.chunks SET live = false WHERE ordinal %% 3 = %(number)s",
    "rewrite": "UPDATE rag.chunks SET content = %(text)s WHERE ordinal %% 3 = %(number)s",
    "translate": "UPDATE rag.chunks SET language = 'german' WHERE ordinal %% 3 = %(number)s",
    "measure": "UPDATE rag.chunks SET token_count = token_count + 1 WHERE ordinal %% 3 = %(number)s",
    "retitle": "UPDATE rag.documents SET title = %(text)s",
    "rename": "UPDATE rag.documents SET name = %(text)s || id",
    "point": "UPDATE rag.chunks SET page = 7",
    "delete": "DELETE FROM rag.chunks WHERE ordinal %% 3 = %(number)s",
    "drop": "DELETE FROM rag.documents WHERE id = (SELECT id FROM rag.documents ORDER BY id OFFSET %(number)s LIMIT 1)",
    "truncate": "TRUNCATE rag.chunks CASCADE",
}
steps = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "draft", *CHANGES]),
        st.integers(0, 2),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    ),
    max_size=6,
)


def perform(operator: Caller, step: Step) -> None:
    kind, number, text = step
    values = {"number": number, "text": text, "language": ("english", "simple", "german")[number]}
    if kind in ("store", "draft"):
        operator.run(CHUNK, values | {"live": kind == "store"})
    else:
        operator.run(CHANGES[kind], values)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transactions=st.lists(st.tuples(steps, st.sampled_from(["commit", "roll back", "savepoint"])), max_size=5))
def test_every_change_is_counted_and_nothing_twice(
    cleared_database: Database, transactions: list[tuple[list[Step], str]]
) -> None:
    with cleared_database.connect() as operator:
        for slug in ("one", "two"):
            tenant = operator.call("core.provision_tenant", p_slug=slug, p_name=slug)
            make_documents(operator, tenant, [2, 1, 1])
        try:
            for changes, end in transactions:
                with operator.connection.transaction(force_rollback=end == "roll back"):
                    for step in changes:
                        with operator.connection.transaction(force_rollback=end == "savepoint" and step[1] == 1):
                            perform(operator, step)
                assert operator.query(WRONG) == []
        finally:
            operator.run("DELETE FROM core.tenants")
        assert operator.query("SELECT FROM rag.statistics UNION ALL SELECT FROM rag.vocabulary") == []


@pytest.mark.parametrize(
    "everything",
    [
        lambda operator: operator.run("DELETE FROM core.tenants"),
        lambda operator: operator.run("DELETE FROM rag.collections"),
        lambda operator: operator.run("DELETE FROM rag.documents"),
        lambda operator: operator.run("DELETE FROM rag.chunks"),
        lambda operator: operator.run("TRUNCATE rag.chunks CASCADE"),
        lambda operator: operator.run("UPDATE rag.chunks SET live = false"),
    ],
    ids=["tenants", "collections", "documents", "chunks", "all chunks at once", "none live"],
)
def test_deleting_all_leaves_no_word(cleared_database: Database, everything: Callable[[Caller], int]) -> None:
    with cleared_database.connect() as operator:
        tenant = operator.call("core.provision_tenant", p_slug="one", p_name="One")
        make_documents(operator, tenant, [20, 20])
        assert operator.value("SELECT count(*) FROM rag.vocabulary") > 20
        everything(operator)
        for table in ("statistics", "vocabulary", "chunk_changes"):
            assert operator.query(f"SELECT * FROM rag.{table}") == []


def test_publishing_side_by_side_deadlocks_nobody(cleared_database: Database) -> None:
    """Documents of one tenant and of two, with the same words in other orders, all replaced again and again."""
    rounds, workers = 12, 6
    with cleared_database.connect() as operator:
        tenants = [operator.call("core.provision_tenant", p_slug=slug, p_name=slug) for slug in ("one", "two")]
        for tenant in tenants:
            make_documents(operator, tenant, [1])
    words = [f"word{number}" for number in range(300)]

    def replace(worker: int) -> None:
        mine = random.Random(worker)  # noqa: S311 - the same order in every run
        documents: dict[UUID, UUID] = {tenant: uuid4() for tenant in tenants}
        with psycopg.connect(cleared_database.urls["postgres"], autocommit=True) as connection:
            for tenant, document in documents.items():
                connection.execute(
                    "INSERT INTO rag.documents (tenant_id, id, collection_id, name, media_type, size_bytes, content_sha256)"
                    " SELECT %s, %s, id, %s, 'text/plain', 1, '' FROM rag.collections WHERE tenant_id = %s",
                    (tenant, document, str(document), tenant),
                )
            for number in range(rounds):
                with connection.transaction():
                    for tenant in mine.sample(tenants, k=1 + worker % 2):
                        connection.execute("DELETE FROM rag.chunks WHERE document_id = %s", [documents[tenant]])
                        for ordinal in (1, 2):
                            text = " ".join(mine.sample(words, k=100))
                            connection.execute(
                                "INSERT INTO rag.chunks (tenant_id, document_id, version, live, ordinal, content, start_char,"
                                " end_char, token_count) VALUES (%s, %s, %s, true, %s, %s, 0, 1, 100)",
                                (tenant, documents[tenant], number, ordinal, text),
                            )

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(replace, worker) for worker in range(workers)]:
            done.result()
    with cleared_database.connect() as operator:
        assert operator.query(WRONG) == []
        assert operator.value("SELECT sum(chunks) FROM rag.statistics") >= 2 + 2 * workers
