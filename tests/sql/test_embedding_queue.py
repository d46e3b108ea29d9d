"""Chunks get their vectors from a queue: in turn, once, by whoever holds the lease; a version is seen when it is whole."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.steps import refused
from tests.support import (
    Caller,
    Database,
    add_document,
    claim_chunks,
    embed_chunks,
    store_chunks,
    store_results,
    vector,
)

REQUESTED = "com.enterprise-agents.embedding.requested.v1"


@pytest.fixture
def app(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0]) as caller:
        yield caller


def received(caller: Caller, name: str, original: str = "text", **arguments: object) -> UUID:
    """Store a document that waits for its indexing."""
    document: UUID = caller.call(
        "rag.store_document",
        p_collection="default",
        p_name=name,
        p_media_type="text/plain",
        p_original=original,
        **arguments,
    )
    return document


def chunked(caller: Caller, name: str, passages: Sequence[str], original: str = "text") -> UUID:
    """Store a document whose chunks wait for their vectors."""
    document = received(caller, name, original)
    store_chunks(caller, document, passages)
    return document


def numbered(word: str, count: int) -> list[str]:
    return [f"{word} {number}" for number in range(count)]


def state(caller: Caller, document: UUID) -> tuple[Any, ...]:
    """Return (status, total, embedded, failed) of a document."""
    told = caller.call("rag.read_document", p_document_id=document)
    return (told["status"], told["chunks_total"], told["chunks_embedded"], told["chunks_failed"])


def vectors(claim: Any) -> list[dict[str, object]]:
    """Return a result with a vector for each claimed chunk."""
    return [{"chunk_id": chunk["id"], "embedding": vector(1.0)} for chunk in claim["chunks"]]


def requested(database: Database) -> int:
    with database.connect() as operator:
        count: int = operator.value("SELECT count(*) FROM events.outbox WHERE type = %s", [REQUESTED])
    return count


@pytest.mark.parametrize(("chunks", "events"), [(1, 1), (128, 1), (129, 2), (400, 4), (5000, 10)])
def test_a_long_document_asks_for_more_workers(database: Database, app: Caller, chunks: int, events: int) -> None:
    chunked(app, "a.txt", numbered("word", chunks))
    assert requested(database) == events


def test_a_version_is_seen_when_its_last_vector_is_there(app: Caller) -> None:
    add_document(app, "a.txt", ["the old wording"])
    document = chunked(app, "a.txt", ["the new wording", "more wording"], original="new")
    first, second = claim_chunks(app, limit=1), claim_chunks(app, limit=1)
    assert store_results(app, first, vectors(first)) == {"stored": 1, "ended": []}
    assert state(app, document) == ("processing", 2, 1, 0)
    assert found(app, "wording") == {"the old wording"}
    ended = store_results(app, second, vectors(second))["ended"]
    assert [(end["status"], end["version"], end["chunks"]) for end in ended] == [("indexed", 2, 2)]
    assert state(app, document) == ("indexed", 2, 2, 0)
    assert found(app, "wording") == {"the new wording", "more wording"}
    assert app.query("SELECT version FROM rag.contents") == [(2,)]
    assert app.query("SELECT version, live FROM rag.chunks") == [(2, True)] * 2
    assert app.value("SELECT count(*) FROM rag.embedding_queue") == 0


def found(caller: Caller, query: str) -> set[str]:
    return {row[4] for row in caller.rows("rag.search", p_query=query, p_embedding=vector(1.0), p_limit=20)}


def test_a_search_beside_the_publishing_of_versions_sees_one_whole(database: Database, tenants: Sequence[UUID]) -> None:
    """A search may begin before a version is published and end after it."""
    passages = {number: numbered(f"version{number} wording", 5) for number in range(40)}
    whole = [frozenset(version) for version in passages.values()]
    over = threading.Event()

    def search() -> list[frozenset[str]]:
        seen = []
        with database.connect("app", tenants[0], "reader") as reader:
            while not over.is_set():
                seen.append(frozenset(found(reader, "wording")))
        return seen

    with database.connect("app", tenants[0]) as app, ThreadPoolExecutor() as pool:
        document = add_document(app, "a.txt", passages[0])
        searching = [pool.submit(search) for _ in range(2)]
        try:
            for version in list(passages.values())[1:]:
                assert add_document(app, "a.txt", version) == document
        finally:
            over.set()
        seen = [answer for reader in searching for answer in reader.result()]
    assert set(seen) <= set(whole), "each search saw one version, and the whole of it"
    assert len(set(seen)) > 5, "the searches ran beside the publishing"


def test_of_two_workers_that_end_at_once_one_publishes(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as one, database.connect("app", tenants[0]) as two:
        for number in range(20):
            document = chunked(one, f"{number}.txt", numbered(f"word{number}", 2))
            claims = [claim_chunks(one, "one", limit=1), claim_chunks(two, "two", limit=1)]
            start = threading.Barrier(2)

            def store(caller: Caller, claim: Any, worker: str, start: threading.Barrier = start) -> int:
                start.wait()
                return len(store_results(caller, claim, vectors(claim), worker)["ended"])

            with ThreadPoolExecutor() as pool:
                ended = pool.map(store, (one, two), claims, ("one", "two"))
                assert sum(ended) == 1
            assert state(one, document) == ("indexed", 2, 2, 0)


def test_a_worker_that_waits_for_another_sees_what_it_has_stored(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as one, database.connect("app", tenants[0]) as two:
        document = chunked(one, "a.txt", ["alpha", "beta"])
        first, second = claim_chunks(one, "one", limit=1), claim_chunks(two, "two", limit=1)
        with ThreadPoolExecutor() as pool:
            with one.connection.transaction():
                assert store_results(one, first, vectors(first), "one")["ended"] == []
                waiting = pool.submit(store_results, two, second, vectors(second), "two")
                pid = two.connection.info.backend_pid
                with database.connect() as operator:
                    while not operator.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]):
                        assert not waiting.done()
            assert [end["status"] for end in waiting.result()["ended"]] == ["indexed"]
        assert state(one, document) == ("indexed", 2, 2, 0)


def test_a_short_document_does_not_wait_for_the_end_of_a_long_one(app: Caller) -> None:
    chunked(app, "long.txt", numbered("long", 1000))
    chunked(app, "short.txt", numbered("short", 3))
    texts = [chunk["text"] for _ in range(3) for chunk in claim_chunks(app, limit=32)["chunks"]]
    assert sum("short" in text for text in texts) == 3
    chunked(app, "middling.txt", numbered("middling", 100))
    texts = [chunk["text"] for _ in range(4) for chunk in claim_chunks(app, limit=32)["chunks"]]
    assert sum("middling" in text for text in texts) >= 64


def test_a_batch_is_bounded_by_its_tokens_too(app: Caller) -> None:
    chunked(app, "a.txt", ["one two three four"] * 10)
    claim = {"p_worker": "w", "p_lease": "1 minute", "p_limit": 100, "p_document_id": UUID(int=0), "p_version": 1}
    event = {"p_event_source": "test", "p_event_id": "1"}
    assert len(app.call("rag.claim_embeddings", **claim, **event, p_tokens=9)["chunks"]) == 3
    assert len(app.call("rag.claim_embeddings", **claim, **event, p_tokens=1)["chunks"]) == 1


def test_a_claim_is_a_lease(app: Caller, database: Database) -> None:
    chunked(app, "a.txt", ["alpha"])
    dead = claim_chunks(app, "dead")
    assert claim_chunks(app, "alive") == {"outcome": "done"}, "for an event that names another document"
    [chunk] = dead["chunks"]
    with database.connect() as operator:
        operator.run("UPDATE rag.embedding_queue SET due_at = now()")
    app.call("rag.renew_embeddings", p_worker="dead", p_chunk_ids=[chunk["id"]], p_lease="1 minute")
    assert claim_chunks(app, "alive")["outcome"] == "done"
    with database.connect() as operator:
        operator.run("UPDATE rag.embedding_queue SET due_at = now()")
    alive = claim_chunks(app, "alive")
    assert [chunk["id"]] == [again["id"] for again in alive["chunks"]]
    app.call("rag.renew_embeddings", p_worker="dead", p_chunk_ids=[chunk["id"]], p_lease="1 day")
    assert app.value("SELECT max(due_at) < now() + interval '2 minutes' FROM rag.embedding_queue")
    assert store_results(app, dead, vectors(dead), "dead") == {"stored": 0, "ended": []}
    assert store_results(app, alive, vectors(alive), "alive")["stored"] == 1


def test_the_event_of_a_document_is_not_done_while_its_chunks_are_in_other_hands(app: Caller) -> None:
    document = chunked(app, "a.txt", ["alpha"])
    claim = {"p_worker": "w", "p_lease": "1 minute", "p_limit": 9, "p_tokens": 9, "p_version": 1}
    event = {"p_document_id": document, "p_event_source": "test", "p_event_id": "2"}
    held = claim_chunks(app, "other")
    assert app.call("rag.claim_embeddings", **claim, **event) == {"outcome": "busy"}
    store_results(app, held, vectors(held), "other")
    assert app.call("rag.claim_embeddings", **claim, **event) == {"outcome": "done"}
    assert app.query("SELECT consumer FROM events.inbox WHERE id = '2'") == [("embedding",)]


def test_a_text_that_the_tenant_has_embedded_takes_that_vector(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "a.txt", ["alpha", "beta", "gamma"])
        document = received(app, "a.txt", "changed")
        assert store_chunks(app, document, ["zero", "alpha", "gamma"], heading="a.txt") is None
        assert state(app, document) == ("processing", 3, 2, 0)
        [missing] = claim_chunks(app)["chunks"]
        assert missing["text"] == "a.txt a.txt\nzero"
        with database.connect() as operator:
            operator.run("UPDATE rag.embedding_queue SET due_at = now() WHERE status = 'waiting'")
        embed_chunks(app, lambda _: vector(0, 0, 0, 1))
        assert state(app, document) == ("indexed", 3, 3, 0)
        rows = app.query(
            "SELECT c.content, e.embedding::text FROM rag.chunks AS c JOIN rag.embeddings AS e ON e.chunk_id = c.id"
        )
        places = {content: json.loads(embedding).index(1) for content, embedding in rows}
        assert places == {"zero": 3, "alpha": 0, "gamma": 2}
    with database.connect("app", tenants[1]) as other:
        assert store_chunks(other, received(other, "a.txt"), ["alpha"], heading="a.txt") is None, (
            "another tenant's text"
        )


def test_a_version_that_says_what_the_older_one_said_is_published_at_once(database: Database, app: Caller) -> None:
    document = add_document(app, "a.txt", ["alpha", "beta"])
    before = requested(database)
    received(app, "a.txt", "other bytes, the same text")
    assert store_chunks(app, document, ["alpha", "beta"], heading="a.txt") == "indexed"
    assert requested(database) == before
    assert state(app, document) == ("indexed", 2, 2, 0)
    assert app.query("SELECT version FROM rag.chunks") == [(2,), (2,)]


def test_of_a_replaced_version_nothing_is_embedded_any_more(app: Caller) -> None:
    document = chunked(app, "a.txt", ["old"])
    old = claim_chunks(app)
    received(app, "a.txt", "new")
    assert app.value("SELECT count(*) FROM rag.embedding_queue") == 0
    assert store_results(app, old, vectors(old)) == {"stored": 0, "ended": []}
    assert state(app, document)[0] == "received"
    store_chunks(app, document, ["new"])
    embed_chunks(app, lambda _: vector(1.0))
    assert found(app, "old new") == {"new"}


def failure(chunk: Any, code: str = "embedding_rejected") -> dict[str, object]:
    return {"chunk_id": chunk["id"], "error_code": code, "error_detail": "The endpoint said no."}


def test_a_chunk_without_a_vector_is_found_by_its_words_and_says_why(app: Caller) -> None:
    document = chunked(app, "a.txt", ["alpha", "poison", "gamma"])
    claim = claim_chunks(app)
    store_results(
        app, claim, [failure(c) if "poison" in c["text"] else vectors({"chunks": [c]})[0] for c in claim["chunks"]]
    )
    assert state(app, document) == ("indexed", 3, 2, 1)
    told = app.call("rag.read_document", p_document_id=document)
    assert (told["error_code"], told["error_detail"]) == ("embedding_rejected", "Passage 2: The endpoint said no.")
    assert [hit[4] for hit in app.rows("rag.search", p_query="poison", p_embedding=None)] == ["poison"]
    app.call("rag.retry_document", p_document_id=document)
    assert state(app, document) == ("indexed", 3, 3, 0)
    embed_chunks(app, lambda _: vector(0.0, 1.0))
    assert app.value("SELECT count(*) FROM rag.embeddings") == 3
    with refused("EA013"):
        app.call("rag.retry_document", p_document_id=document)


def test_a_document_of_which_every_chunk_is_rejected_has_failed(app: Caller) -> None:
    add_document(app, "a.txt", ["the old wording"])
    document = chunked(app, "a.txt", ["alpha", "beta"], original="new")
    claim = claim_chunks(app)
    [ended] = store_results(app, claim, [failure(chunk) for chunk in claim["chunks"]])["ended"]
    assert (ended["status"], ended["code"]) == ("failed", "embedding_rejected")
    assert state(app, document) == ("failed", 2, 0, 2)
    assert found(app, "wording") == {"the old wording"}
    app.call("rag.retry_document", p_document_id=document)
    assert state(app, document) == ("processing", 2, 0, 0)
    embed_chunks(app, lambda _: vector(1.0))
    assert state(app, document) == ("indexed", 2, 2, 0)
    assert found(app, "alpha beta") == {"alpha", "beta"}


def test_when_the_endpoint_stays_away_the_document_fails_and_keeps_what_it_has(app: Caller, database: Database) -> None:
    document = chunked(app, "a.txt", ["alpha", "beta", "gamma"])
    first = claim_chunks(app, limit=1)
    store_results(app, first, vectors(first))
    for attempt in range(1, 13):
        claim = claim_chunks(app, limit=1)
        assert [chunk["last"] for chunk in claim["chunks"]] == [attempt == 12]
        back = {"p_worker": "test", "p_model_id": claim["model"]["id"], "p_code": "embedding_unavailable"}
        ids = [chunk["id"] for chunk in claim["chunks"]]
        if attempt < 12:
            assert app.call("rag.return_embeddings", **back, p_chunk_ids=ids, p_detail="Not there.") == 1
            other = claim_chunks(app, "other")
            assert ids[0] not in [chunk["id"] for chunk in other.get("chunks", ())], "it waits for its back-off"
        with database.connect() as operator:
            operator.run(
                "UPDATE rag.embedding_queue SET due_at = CASE WHEN chunk_id = %s THEN now() ELSE 'infinity' END", ids
            )
    store_results(app, claim, [failure(chunk, "embedding_unavailable") for chunk in claim["chunks"]])
    assert state(app, document) == ("failed", 3, 1, 2)
    assert app.call("rag.read_document", p_document_id=document)["error_code"] == "embedding_unavailable"
    app.call("rag.retry_document", p_document_id=document)
    assert state(app, document) == ("processing", 3, 1, 0)
    assert len(claim_chunks(app)["chunks"]) == 2


def test_a_chunk_at_which_every_worker_dies_is_set_aside(app: Caller, database: Database) -> None:
    chunked(app, "a.txt", ["alpha"])
    with database.connect() as operator:
        operator.run("UPDATE rag.embedding_queue SET attempts = 12")
    [chunk] = claim_chunks(app)["chunks"]
    assert chunk["exhausted"]


def test_a_live_chunk_that_somebody_changes_is_embedded_again_alone(app: Caller, database: Database) -> None:
    document = add_document(app, "a.txt", ["alpha", "beta"])
    before = requested(database)
    with database.connect() as operator:
        operator.run("UPDATE rag.chunks SET content = content")
        operator.run("UPDATE rag.chunks SET page = 3")
        assert requested(database) == before
        operator.run("UPDATE rag.chunks SET content = 'omega' WHERE content = 'beta'")
    assert requested(database) == before + 1
    assert app.value("SELECT count(*) FROM rag.embeddings") == 2, "the old vector answers until the new one is there"
    claim = claim_chunks(app)
    assert [chunk["text"] for chunk in claim["chunks"]] == ["a.txt a.txt\nomega"]
    store_results(app, claim, [{"chunk_id": claim["chunks"][0]["id"], "embedding": vector(0, 0, 1)}])
    assert state(app, document) == ("indexed", 2, 2, 0)
    assert json.loads(app.value(VECTOR_OF, ["omega"]))[:3] == [0, 0, 1]
    with database.connect() as operator:
        operator.run("UPDATE rag.chunks SET content = 'alpha', heading = 'a.txt' WHERE content = 'omega'")
    assert claim_chunks(app)["outcome"] == "done", "the text of another chunk: its vector is known"
    assert {json.loads(row[0]).index(1) for row in app.query(VECTOR_OF, ["alpha"])} == {0}


VECTOR_OF = (
    "SELECT e.embedding::text FROM rag.embeddings AS e JOIN rag.chunks AS c ON c.id = e.chunk_id WHERE c.content = %s"
)


def test_a_vector_of_what_a_chunk_said_before_is_not_stored(app: Caller, database: Database) -> None:
    chunked(app, "a.txt", ["alpha"])
    stale = claim_chunks(app)
    with database.connect() as operator:
        operator.run("UPDATE rag.chunks SET content = 'omega'")
    assert store_results(app, stale, vectors(stale))["stored"] == 0
    assert [chunk["text"] for chunk in claim_chunks(app)["chunks"]] == ["a.txt \nomega"]


def entitle(database: Database, document: UUID, title: str) -> None:
    with database.connect() as operator:
        operator.run("UPDATE rag.documents SET title = %s WHERE id = %s", [title, document])


def test_a_document_of_another_title_is_embedded_again_and_nothing_else(app: Caller, database: Database) -> None:
    document = add_document(app, "a.txt", ["alpha", "beta"])
    add_document(app, "b.txt", ["gamma"])
    before = requested(database)
    entitle(database, document, "Omega")
    assert requested(database) == before + 1
    assert app.value("SELECT count(*) FROM rag.embeddings") == 3, "the old vectors answer until the new ones are there"
    claim = claim_chunks(app)
    assert sorted(chunk["text"] for chunk in claim["chunks"]) == ["Omega a.txt\nalpha", "Omega a.txt\nbeta"]
    store_results(app, claim, [{"chunk_id": c["id"], "embedding": vector(0, 0, 1)} for c in claim["chunks"]])
    assert state(app, document) == ("indexed", 2, 2, 0)
    assert {json.loads(row[0]).index(1) for row in app.query(VECTOR_OF, ["alpha"])} == {2}
    with database.connect() as operator:
        operator.run("UPDATE rag.documents SET name = 'c.txt' WHERE id = %s", [document])
    assert claim_chunks(app)["outcome"] == "done", "the name is no part of what was embedded"
    assert requested(database) == before + 1


def test_a_document_of_another_title_is_embedded_by_it_while_it_is_being_indexed(
    app: Caller, database: Database
) -> None:
    document = chunked(app, "a.txt", ["alpha", "beta"])
    stored, stale = claim_chunks(app, limit=1), claim_chunks(app, limit=1)
    store_results(app, stored, vectors(stored))
    entitle(database, document, "Omega")
    assert store_results(app, stale, vectors(stale))["stored"] == 0
    assert state(app, document) == ("processing", 2, 0, 0)
    claim = claim_chunks(app)
    assert sorted(chunk["text"] for chunk in claim["chunks"]) == ["Omega \nalpha", "Omega \nbeta"]
    store_results(app, claim, vectors(claim))
    assert state(app, document) == ("indexed", 2, 2, 0)


def test_a_document_of_which_every_chunk_was_rejected_is_tried_again_by_another_title(
    app: Caller, database: Database
) -> None:
    document = chunked(app, "a.txt", ["alpha"])
    claim = claim_chunks(app)
    store_results(app, claim, [failure(chunk) for chunk in claim["chunks"]])
    entitle(database, document, "Omega")
    assert state(app, document) == ("processing", 1, 0, 0)
    embed_chunks(app, lambda _: vector(1.0))
    assert state(app, document) == ("indexed", 1, 1, 0)


def test_a_title_by_which_the_text_was_embedded_before_takes_that_vector(app: Caller, database: Database) -> None:
    add_document(app, "a.txt", ["alpha"])
    other = chunked(app, "b.txt", ["alpha"])
    with database.connect() as operator:
        operator.run("UPDATE rag.chunks SET heading = 'a.txt' WHERE document_id = %s", [other])
    entitle(database, other, "a.txt")
    assert state(app, other) == ("indexed", 1, 1, 0)


def test_a_vector_of_another_width_than_its_models_is_not_stored(app: Caller) -> None:
    chunked(app, "a.txt", ["alpha"])
    claim = claim_chunks(app)
    with refused("EA007"):
        store_results(app, claim, [{"chunk_id": claim["chunks"][0]["id"], "embedding": "[1,2,3]"}])


def test_the_sweeper_asks_again_for_what_nobody_takes(app: Caller, database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[1]) as other:
        chunked(other, "b.txt", ["beta"])
    chunked(app, "a.txt", numbered("alpha", 10))
    before = requested(database)
    with database.connect("app") as sweeper, database.connect() as operator:
        assert sweeper.call("rag.sweep_embeddings") == 0
        operator.run("UPDATE rag.embedding_queue SET turn_at = turn_at - interval '2 minutes'")
        assert sweeper.call("rag.sweep_embeddings") == 2
        assert requested(database) == before + 2
        claim_chunks(app, limit=100)
        operator.run("DELETE FROM rag.embedding_queue WHERE tenant_id = %s", [tenants[1]])
        assert sweeper.call("rag.sweep_embeddings") == 0, "one is in hand, and the other not forgotten for long"
        operator.run("UPDATE rag.documents SET updated_at = now() - interval '2 minutes' WHERE name = 'b.txt'")
        assert sweeper.call("rag.sweep_embeddings") == 1
        assert operator.query("SELECT status FROM rag.documents WHERE name = 'b.txt'") == [("indexed",)]


def test_deleting_leaves_nothing(app: Caller, database: Database) -> None:
    add_document(app, "a.txt", ["alpha"])
    chunked(app, "a.txt", ["beta"], original="new")
    chunked(app, "b.txt", ["gamma"])
    with database.connect() as operator:
        operator.run("DELETE FROM rag.documents")
        for table in ("contents", "chunks", "embeddings", "embedding_queue"):
            assert operator.value(f"SELECT count(*) FROM rag.{table}") == 0, table


def test_a_question_of_another_model_is_refused(app: Caller, database: Database) -> None:
    model = app.call("rag.active_model")
    app.call("chat.begin_turn", p_message="Hi", p_embedding=vector(1.0), p_embedding_model=model["id"])
    with database.connect() as operator:
        operator.run("UPDATE rag.embedding_models SET status = 'retired'")
        operator.run(
            "INSERT INTO rag.embedding_models (name, width, status) VALUES (%s, %s, 'active')",
            [model["name"], model["width"]],
        )
    with pytest.raises(psycopg.Error) as raised:
        app.call("chat.begin_turn", p_message="Hi", p_embedding=vector(1.0), p_embedding_model=model["id"])
    assert raised.value.sqlstate == "EA020"
