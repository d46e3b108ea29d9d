"""Another model's vectors, made beside those that answer, and put in their place at once."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.errors import LockNotAvailable
from rich.console import Console

from infra.reembed import Reembedding, Stopped
from shared.embeddings import Model
from tests.conftest import alembic
from tests.sql.steps import refused
from tests.support import (
    WIDTH,
    Caller,
    Database,
    add_document,
    claim_chunks,
    store_chunks,
    store_results,
)

OTHER = 512


@pytest.fixture
def app(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0]) as caller:
        yield caller


@pytest.fixture
def operator(database: Database) -> Iterator[Caller]:
    with database.connect() as operator:
        operator.run("SET lock_timeout = '2s'")
        yield operator


def begin(operator: Caller, name: str = "wider", width: int = OTHER) -> str:
    outcome: str = operator.call("rag.begin_reembedding", p_name=name, p_width=width)
    if outcome == "unprepared":
        operator.call("rag.create_next", p_width=width)
        outcome = operator.call("rag.begin_reembedding", p_name=name, p_width=width)
    return outcome


def queue(operator: Caller, most: int = 1000) -> Any:
    return operator.call("rag.queue_reembedding", p_most=most)


def queue_all(operator: Caller) -> None:
    while not queue(operator)["over"]:
        pass


def embed_all(app: Caller, refuse: str = "\0") -> None:
    """Store a vector, which tells of its text's length, for whatever waits, but not for texts with a word."""
    while (claim := claim_chunks(app))["outcome"] == "claimed":
        rest = [0.0] * (claim["model"]["width"] - 2)
        results: list[dict[str, object]] = [
            {"chunk_id": chunk["id"], "error_code": "embedding_rejected", "error_detail": "No."}
            if refuse in chunk["text"]
            else {"chunk_id": chunk["id"], "embedding": json.dumps([1.0, float(len(chunk["text"])), *rest])}
            for chunk in claim["chunks"]
        ]
        store_results(app, claim, results)


def index(operator: Caller) -> None:
    for _, statement in operator.rows("rag.next_indexes"):
        operator.run(statement)


def switch(operator: Caller, tolerated: int = 0) -> str:
    outcome: str = operator.call("rag.switch_embeddings", p_tolerated=tolerated)
    return outcome


def settle(operator: Caller) -> None:
    last: Any = {}
    while last is not None:
        last = operator.call("rag.settle_documents", p_after=json.dumps(last), p_most=2)
    while operator.call("rag.clear_queue"):
        pass
    operator.call("rag.drop_unused")


def reembed(operator: Caller, app: Caller, name: str = "wider", width: int = OTHER, refuse: str = "\0") -> None:
    """Do the whole of it."""
    assert begin(operator, name, width) == "begun"
    queue_all(operator)
    embed_all(app, refuse)
    index(operator)
    assert switch(operator) == "switched"
    settle(operator)


def shape(operator: Caller) -> dict[str, Any]:
    """Return whatever the catalog says of rag.embeddings, without object ids."""
    of = "'rag.embeddings'::regclass"
    return {
        name: operator.query(query)
        for name, query in {
            "table": f"""SELECT relname, relowner::regrole::text, relrowsecurity, relforcerowsecurity, reloptions,
                relpersistence, (SELECT t.reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid),
                obj_description(oid, 'pg_class')
                FROM pg_class c WHERE oid = {of}""",
            "grants": f"""SELECT e.grantor::regrole::text, e.grantee::regrole::text, privilege_type, is_grantable
                FROM pg_class c, aclexplode(relacl) e WHERE c.oid = {of} ORDER BY 1, 2, 3""",
            "columns": f"""SELECT attname, format_type(atttypid, atttypmod), attnotnull, attstorage, attcompression,
                attidentity, attgenerated, attstattarget, attoptions, pg_get_expr(d.adbin, d.adrelid),
                col_description({of}, attnum),
                (SELECT array_agg(e::text ORDER BY e::text) FROM unnest(attacl) e)
                FROM pg_attribute LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
                WHERE attrelid = {of} AND attnum > 0 AND NOT attisdropped ORDER BY 1""",
            "constraints": f"""SELECT conname, contype, convalidated, pg_get_constraintdef(oid),
                obj_description(oid, 'pg_constraint')
                FROM pg_constraint WHERE conrelid = {of} OR confrelid = {of} ORDER BY 1""",
            "indexes": f"""SELECT c.relname, pg_get_indexdef(indexrelid), indisvalid, indisready, indisreplident,
                indisclustered, c.reloptions, c.relowner::regrole::text, obj_description(indexrelid, 'pg_class')
                FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = {of} ORDER BY 1""",
            "policies": f"""SELECT p.*, obj_description(o.oid, 'pg_policy') FROM pg_policies p
                JOIN pg_policy o ON o.polrelid = {of} AND o.polname = p.policyname
                WHERE schemaname = 'rag' AND tablename = 'embeddings' ORDER BY policyname""",
            "triggers": f"""SELECT tgname, tgenabled, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger')
                FROM pg_trigger WHERE tgrelid = {of} AND NOT tgisinternal ORDER BY 1""",
            "cascades": """SELECT tgrelid::regclass::text, tgfoid::regproc::text, tgenabled FROM pg_trigger
                WHERE tgisinternal AND tgrelid IN ('rag.embeddings'::regclass, 'rag.chunks'::regclass) ORDER BY 1, 2""",
            "statistics": f"""SELECT stxname, pg_get_statisticsobjdef(oid), obj_description(oid, 'pg_statistic_ext')
                FROM pg_statistic_ext WHERE stxrelid = {of} ORDER BY 1""",
            "names": """SELECT relname FROM pg_class WHERE relnamespace = 'rag'::regnamespace ORDER BY 1""",
        }.items()
    }


ADDED = """
    SET ROLE ea_owner;
    CREATE INDEX embeddings_added ON rag.embeddings (tenant_id, document_id) WITH (fillfactor = 80)
      WHERE document_id IS NOT NULL;
    COMMENT ON INDEX rag.embeddings_added IS 'Added.';
    CREATE UNIQUE INDEX otherwise_named ON rag.embeddings (chunk_id, tenant_id);
    ALTER TABLE rag.embeddings SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = false);
    ALTER TABLE rag.embeddings ALTER COLUMN tenant_id SET STATISTICS 500;
    ALTER TABLE rag.embeddings ADD CONSTRAINT embeddings_odd CHECK (tenant_id <> chunk_id);
    COMMENT ON CONSTRAINT embeddings_odd ON rag.embeddings IS 'Odd.';
    COMMENT ON CONSTRAINT embeddings_tenant_id_chunk_id_fkey ON rag.embeddings IS 'Goes with its chunk.';
    CREATE STATISTICS rag.embeddings_statistics (ndistinct) ON tenant_id, document_id FROM rag.embeddings;
    COMMENT ON STATISTICS rag.embeddings_statistics IS 'Statistics.';
    CREATE POLICY added ON rag.embeddings AS RESTRICTIVE FOR DELETE TO app, dba_readonly USING (document_id <> chunk_id);
    GRANT SELECT (tenant_id), UPDATE (text_hash) ON rag.embeddings TO relay;
    GRANT SELECT ON rag.embeddings TO public;
    ALTER TABLE rag.embeddings FORCE ROW LEVEL SECURITY;
    CREATE FUNCTION rag.added() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER added AFTER INSERT OR DELETE ON rag.embeddings FOR EACH ROW EXECUTE FUNCTION rag.added();
    COMMENT ON TRIGGER added ON rag.embeddings IS 'Added.';
    CREATE TRIGGER off AFTER DELETE ON rag.embeddings FOR EACH STATEMENT EXECUTE FUNCTION rag.added();
    ALTER TABLE rag.embeddings DISABLE TRIGGER off;
    RESET ROLE;
"""
"""Whatever a later revision, or an administrator, may add to the table."""


@pytest.mark.parametrize("added", ["", ADDED], ids=["as migrated", "with more"])
def test_what_is_switched_to_is_like_what_a_fresh_database_has(
    empty_database: str, operator: Caller, app: Caller, added: str
) -> None:
    environment = {"EMBEDDING_DIMENSIONS": str(OTHER), "LITELLM_EMBEDDING_MODEL": "wider"}
    done = alembic(empty_database, "upgrade", "head", **environment)
    assert done.returncode == 0, done.stderr
    add_document(app, "a.md", ["alpha", "beta"])
    if added:
        operator.run(added)
    for number in range(2):  # there and further: nothing of the first is in the way of the second
        if number:
            operator.run("UPDATE rag.embedding_models SET name = 'between' WHERE status = 'active'")
        if not added:
            reembed(operator, app)
        else:
            # Forced policies bind the owner too.
            assert begin(operator) == "begun"
            operator.run("ALTER TABLE rag.embeddings NO FORCE ROW LEVEL SECURITY")
            operator.run("ALTER TABLE rag.embeddings_next NO FORCE ROW LEVEL SECURITY")
            queue_all(operator)
            embed_all(app)
            index(operator)
            assert switch(operator) == "switched"
            settle(operator)
            operator.run("ALTER TABLE rag.embeddings FORCE ROW LEVEL SECURITY")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        fresh = Caller(connection)
        if added:
            fresh.run(added)
        expected = shape(fresh)
    assert shape(operator) == expected
    assert operator.value("SELECT rag.embedding_width()") == OTHER
    assert app.query("SELECT count(*), min(vector_dims(embedding)) FROM rag.embeddings") == [(2, OTHER)]


def test_the_width_is_asked_of_an_endpoint_of_which_that_is_said(operator: Caller, app: Caller) -> None:
    add_document(app, "a.md", ["alpha"])
    active = app.call("rag.active_model")
    assert active.keys() == {"id", "name", "width"}, "what the release before reads"
    same = {"p_name": active["name"], "p_width": active["width"]}
    for send in (True, False):
        assert operator.call("rag.begin_reembedding", **same, p_send_dimensions=send) == "active"
        assert app.call("rag.active_model") == active | ({"send_dimensions": True} if send else {})
    begin(operator, "shorter")
    wanted = {"p_name": "shorter", "p_width": OTHER, "p_send_dimensions": True}
    assert operator.call("rag.begin_reembedding", **wanted) == "resumed"
    queue_all(operator)
    model = claim_chunks(app)["model"]
    assert model == {"id": model["id"], "name": "shorter", "width": OTHER, "send_dimensions": True}
    assert app.call("rag.active_model") == active, "the one that answers is asked as before"


def found(caller: Caller, query: str, vector: str | None = None) -> set[str]:
    return {row[4] for row in caller.rows("rag.search", p_query=query, p_embedding=vector, p_limit=50)}


def state(app: Caller, document: UUID) -> tuple[Any, ...]:
    """Return (status, total, embedded, failed, error code) of a document."""
    [row] = app.query(
        "SELECT status, chunks_total, chunks_embedded, chunks_failed, error_code FROM rag.documents WHERE id = %s",
        [document],
    )
    return row


def without(operator: Caller) -> list[tuple[Any, ...]]:
    """Return the live chunks without a vector, and the vectors without a live chunk."""
    return operator.query(
        "SELECT c.id, e.chunk_id FROM (SELECT * FROM rag.chunks WHERE live) AS c"
        " FULL JOIN rag.embeddings AS e ON (e.tenant_id, e.chunk_id) = (c.tenant_id, c.id)"
        " WHERE c.id IS NULL OR e.chunk_id IS NULL"
    )


def test_until_the_switch_the_old_vectors_answer_and_what_changes_has_both(operator: Caller, app: Caller) -> None:
    kept, gone, changed = (add_document(app, name, [f"word {name} {n}" for n in range(5)]) for name in "abc")
    assert begin(operator) == "begun"
    assert queue(operator, most=4)["waiting"] == 4
    operator.run("DELETE FROM rag.documents WHERE id = %s", [gone])
    operator.run("UPDATE rag.chunks SET content = content || ' anew' WHERE document_id = %s", [changed])
    added = app.call(
        "rag.store_document", p_collection="default", p_name="d", p_media_type="text/plain", p_original="text"
    )
    store_chunks(app, added, ["word d"])
    first = claim_chunks(app)
    assert first["model"]["width"] == WIDTH, "what answers now comes first"
    vector = json.dumps([1.0, *[0.0] * (WIDTH - 1)])
    store_results(app, first, [{"chunk_id": chunk["id"], "embedding": vector} for chunk in first["chunks"]])
    assert state(app, added)[0] == "indexed"
    assert app.query("SELECT count(*), max(vector_dims(embedding)) FROM rag.embeddings") == [(11, WIDTH)]
    assert switch(operator) == "chunks"
    queue_all(operator)
    embed_all(app)
    assert switch(operator) == "indexes"
    assert app.value("SELECT rag.embedding_width()") == WIDTH
    index(operator)
    operator.run("DELETE FROM rag.chunks WHERE document_id = %s AND ordinal = 5", [kept])
    assert switch(operator) == "switched"
    assert without(operator) == []
    assert app.value("SELECT count(*) FROM rag.embedding_queue") == 0
    operator.run("DELETE FROM rag.chunks WHERE document_id = %s AND ordinal = 4", [kept])
    settle(operator)
    assert without(operator) == []
    texts = "SELECT c.content, rag.text_hash(rag.embedded_text(d.title, d.name, c.heading, c.content)) = e.text_hash"
    joined = (
        "rag.chunks AS c JOIN rag.documents AS d ON d.id = c.document_id JOIN rag.embeddings AS e ON e.chunk_id = c.id"
    )
    rows = operator.query(f"{texts} FROM {joined}")
    assert len(rows) == 9
    assert all(same for _, same in rows)
    assert sum(text.endswith(" anew") for text, _ in rows) == 5


def test_a_version_that_is_not_complete_at_the_switch_waits_for_the_new_vectors_only(
    operator: Caller, app: Caller
) -> None:
    document = add_document(app, "a.txt", ["old"])
    app.call(
        "rag.store_document", p_collection="default", p_name="a.txt", p_media_type="text/markdown", p_original="new"
    )
    store_chunks(app, document, ["new", "newer"])
    assert begin(operator) == "begun"
    queue_all(operator)
    waiting = claim_chunks(app)
    assert waiting["model"]["width"] == WIDTH
    embed_all(app, refuse="newer")  # those of the old model stay in other hands
    index(operator)
    assert switch(operator) == "switched"
    assert found(app, "old new") == {"old"}
    vector = json.dumps([1.0, *[0.0] * (WIDTH - 1)])
    results = [{"chunk_id": chunk["id"], "embedding": vector} for chunk in waiting["chunks"]]
    store_results(app, waiting, results)
    assert found(app, "old new") == {"old"}, "vectors of the earlier model publish nothing"
    settle(operator)
    assert found(app, "old new newer") == {"new", "newer"}
    assert state(app, document) == ("indexed", 2, 1, 1, "embedding_rejected")
    assert app.query("SELECT status FROM rag.embedding_queue") == [("failed",)]


def test_documents_that_failed_for_want_of_the_old_vectors_are_indexed_with_the_new_ones(
    operator: Caller, app: Caller
) -> None:
    """As after uploads to a database that was made for another width than its model has."""
    documents = []
    for name in ("a.txt", "b.txt", "c.txt"):
        documents.append(
            app.call(
                "rag.store_document", p_collection="default", p_name=name, p_media_type="text/plain", p_original=name
            )
        )
        store_chunks(app, documents[-1], [f"good {name}", f"odd {name}"])
    embed_all(app, refuse="")
    set_aside = add_document(app, "d.txt", ["poison", "fine"])
    operator.run("DELETE FROM rag.embeddings WHERE chunk_id = (SELECT id FROM rag.chunks WHERE content = 'poison')")
    operator.run(
        "INSERT INTO rag.embedding_queue (tenant_id, chunk_id, model_id, document_id, version, text_hash, status, error_code)"
        " SELECT c.tenant_id, c.id, (rag.active_model() ->> 'id')::int, c.document_id, 1, gen_random_uuid(), 'failed',"
        " 'embedding_rejected' FROM rag.chunks AS c WHERE content = 'poison'"
    )
    operator.run(
        "UPDATE rag.documents SET chunks_failed = 1, chunks_embedded = 1, error_code = 'embedding_rejected' WHERE id = %s",
        [set_aside],
    )
    states = "SELECT name, status, chunks_embedded, chunks_failed, error_code FROM rag.documents ORDER BY name"
    rejected = "embedding_rejected"
    before = [(name, "failed", 0, 2, rejected) for name in ("a.txt", "b.txt", "c.txt")]
    assert app.query(states) == [*before, ("d.txt", "indexed", 1, 1, rejected)]
    reembed(operator, app, refuse="odd b.txt")
    assert app.query(states) == [
        ("a.txt", "indexed", 2, 0, None),
        ("b.txt", "indexed", 1, 1, rejected),
        ("c.txt", "indexed", 2, 0, None),
        ("d.txt", "indexed", 2, 0, None),
    ]
    assert found(app, "odd") == {"odd a.txt", "odd b.txt", "odd c.txt"}
    app.call("rag.retry_document", p_document_id=documents[1])
    embed_all(app)
    assert app.query(states)[1] == ("b.txt", "indexed", 2, 0, None)
    assert without(operator) == []


def test_a_failed_document_whose_vectors_are_there_meanwhile_is_not_read_again(operator: Caller, app: Caller) -> None:
    document = app.call(
        "rag.store_document", p_collection="default", p_name="a.txt", p_media_type="text/plain", p_original="text"
    )
    store_chunks(app, document, ["alpha"])
    embed_all(app, refuse="")
    assert begin(operator) == "begun"
    queue_all(operator)
    embed_all(app)
    index(operator)
    assert switch(operator) == "switched"
    operator.run("DELETE FROM rag.embedding_queue WHERE status = 'failed'")
    app.call("rag.retry_document", p_document_id=document)
    assert state(app, document)[0] == "indexed"
    assert without(operator) == []


def test_nothing_is_left_of_what_was_cancelled(operator: Caller, app: Caller) -> None:
    before = shape(operator)
    add_document(app, "a.txt", ["alpha", "beta"])
    assert operator.call("rag.cancel_reembedding") is False
    assert begin(operator) == "begun"
    queue_all(operator)
    held = claim_chunks(app, limit=1)
    embed_all(app)
    assert operator.value("SELECT count(*) FROM rag.embeddings_next") == 1
    assert operator.call("rag.cancel_reembedding") is True
    operator.call("rag.drop_unused")
    store_results(app, held, [{"chunk_id": held["chunks"][0]["id"], "embedding": json.dumps([1.0] * OTHER)}])
    assert queue(operator) is None
    assert switch(operator) == "none"
    operator.call("rag.sweep_embeddings")
    assert operator.value("SELECT count(*) FROM rag.embedding_queue") == 0
    assert shape(operator) == before
    assert operator.query("SELECT status FROM rag.embedding_models ORDER BY id") == [("active",), ("cancelled",)]
    add_document(app, "b.txt", ["gamma"])
    assert without(operator) == []
    reembed(operator, app)
    assert without(operator) == []


def test_what_is_under_way_goes_on_and_nothing_else_begins(operator: Caller, app: Caller) -> None:
    add_document(app, "a.txt", ["alpha", "beta", "gamma"])
    active = operator.call("rag.active_model")
    assert begin(operator, active["name"], active["width"]) == "active"
    assert begin(operator) == "begun"
    assert queue(operator, most=2)["passed"] == 2
    embed_all(app, refuse="a")
    assert sum(operator.call("rag.count_reembedding")["failed"].values()) == 2
    operator.run("DELETE FROM events.outbox")
    assert begin(operator) == "resumed"
    counts = operator.call("rag.count_reembedding")
    assert (counts["chunks"], counts["passed"], counts["failed"]) == (3, 2, {})
    assert operator.value("SELECT count(*) FROM events.outbox") == 1, "somebody is told that they wait"
    with refused("EA013"):
        begin(operator, "third")
    with refused("EA013"):
        begin(operator, active["name"], active["width"])
    queue_all(operator)
    embed_all(app)
    index(operator)
    assert switch(operator) == "switched"
    assert without(operator) == []


def test_a_reembedding_waits_for_its_endpoint_without_end(operator: Caller, app: Caller) -> None:
    add_document(app, "a.txt", ["alpha"])
    begin(operator)
    queue_all(operator)
    for _ in range(30):
        [chunk] = (claim := claim_chunks(app))["chunks"]
        assert not chunk["last"]
        assert not chunk["exhausted"]
        back = {"p_worker": "test", "p_model_id": claim["model"]["id"], "p_code": "embedding_unavailable"}
        assert app.call("rag.return_embeddings", **back, p_chunk_ids=[chunk["id"]], p_detail="Not there.") == 1
        operator.run("UPDATE rag.embedding_queue SET due_at = now()")
    assert queue(operator)["error"] == "embedding_unavailable: Not there."
    for _ in range(8):  # but not for one at which each worker dies
        claim = claim_chunks(app)
        operator.run("UPDATE rag.embedding_queue SET due_at = now()")
    assert [chunk["exhausted"] for chunk in claim["chunks"]] == [True]


def script(database: Database, app: Caller, *, refuse: str = "\0", force: bool = False) -> str:
    """Run what `make reembed` runs, before somebody who embeds; return what it says."""
    shown = Console(file=StringIO(), width=200)
    reembedding = Reembedding(database.urls["postgres"], shown)
    with ThreadPoolExecutor() as pool:
        making = pool.submit(reembedding.make, Model(0, "wider", OTHER), force=force)
        while not making.done():
            embed_all(app, refuse)
    reembedding.close()
    making.result()
    assert isinstance(shown.file, StringIO)
    return shown.file.getvalue()


def test_a_model_that_refuses_most_texts_does_not_take_over_unless_it_has_to(database: Database, app: Caller) -> None:
    document = add_document(app, "a.txt", [*(f"odd {n}" for n in range(3)), *(f"good {n}" for n in range(17))])
    with pytest.raises(Stopped, match=r"3 embedding_rejected of 20 passages .* \(embedding_rejected: No\.\)"):
        script(database, app, refuse="odd")
    assert app.value("SELECT rag.embedding_width()") == WIDTH
    said = script(database, app, refuse="odd 2")
    assert "Going on" in said
    assert "1 embedding_rejected: these passages have no vector" in said
    assert state(app, document) == ("indexed", 20, 19, 1, "embedding_rejected")
    assert app.query("SELECT count(*), min(vector_dims(embedding)) FROM rag.embeddings") == [(19, OTHER)]


def test_who_has_to_does_without_vectors(database: Database, operator: Caller, app: Caller) -> None:
    add_document(app, "a.txt", ["odd", "good"])
    assert "wider answers" in script(database, app, refuse="odd", force=True)
    assert operator.value("SELECT to_regclass('rag.embeddings_old') IS NULL")


def test_an_index_that_was_left_half_built_is_built_again(database: Database, operator: Caller, app: Caller) -> None:
    add_document(app, "a.txt", ["alpha", "beta"])
    begin(operator)
    queue_all(operator)
    embed_all(app)
    index(operator)
    operator.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rag.embeddings_next_embedding'::regclass")
    assert switch(operator) == "indexes"
    script(database, app)
    assert operator.value("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'rag.embeddings'::regclass")
    assert app.value("SELECT rag.embedding_width()") == OTHER


def test_what_a_switch_left_is_put_away_by_the_next_run(database: Database, operator: Caller, app: Caller) -> None:
    add_document(app, "a.txt", ["alpha"])
    waiting = app.call(
        "rag.store_document", p_collection="default", p_name="b.txt", p_media_type="text/plain", p_original="text"
    )
    begin(operator)
    queue_all(operator)
    embed_all(app)
    store_chunks(app, waiting, ["beta"])
    claim_chunks(app)  # somebody dies of the old vector
    embed_all(app)
    index(operator)
    assert switch(operator) == "switched"
    assert "nothing to do" in script(database, app)
    assert operator.value("SELECT to_regclass('rag.embeddings_old') IS NULL")
    assert operator.query("SELECT status FROM rag.documents") == [("indexed",)] * 2
    assert without(operator) == []
    assert operator.value("SELECT count(*) FROM rag.embedding_queue") == 0


def test_the_switch_waits_for_who_searches_and_a_question_for_the_switch(
    database: Database, tenants: Sequence[UUID], operator: Caller, app: Caller
) -> None:
    add_document(app, "a.txt", ["alpha"])
    begin(operator)
    queue_all(operator)
    embed_all(app)
    index(operator)
    old = operator.call("rag.active_model")["id"]
    operator.run("SET lock_timeout = '10ms'")
    with database.connect("postgres", tenants[0]) as reader, ThreadPoolExecutor() as pool:
        with reader.connection.transaction():
            reader.call("rag.require_model", p_model_id=old)
            with pytest.raises(LockNotAvailable):
                switch(operator)
            assert found(reader, "alpha", json.dumps([1.0, *[0.0] * (WIDTH - 1)])) == {"alpha"}
        with operator.connection.transaction():
            assert switch(operator) == "switched"
            asking = pool.submit(reader.call, "rag.require_model", p_model_id=old)
            with database.connect() as observer:
                pid = reader.connection.info.backend_pid
                while not observer.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]):
                    assert not asking.done()
        with refused("EA020"):
            asking.result()
        assert found(reader, "alpha", json.dumps([1.0, *[0.0] * (OTHER - 1)])) == {"alpha"}


@dataclass
class Traffic:
    """Tenants that upload, delete and search until it is over."""

    database: Database
    over: threading.Event = field(default_factory=threading.Event)

    def upload(self, tenant: UUID, number: int) -> int:
        """Upload documents, and delete or change some; return how many it were."""
        turn = 0
        with self.database.connect("app", tenant) as app, self.database.connect() as owner:
            while not self.over.is_set():
                name = f"{number} {turn % 7}"
                original = {"p_media_type": "text/plain", "p_original": str(turn)}
                document = app.call("rag.store_document", p_collection="default", p_name=name, **original)
                store_chunks(app, document, [f"word{n} {name} {turn}" for n in range(4)])
                embed_all(app)
                if turn % 3 == 2:
                    owner.run("DELETE FROM rag.documents WHERE id = %s", [document])
                elif turn % 3 == 1:
                    with owner.connection.transaction():  # documents before their chunks: so does the platform
                        owner.run("SELECT FROM rag.documents WHERE id = %s FOR UPDATE", [document])
                        owner.run(
                            "UPDATE rag.chunks SET content = content || ' more' WHERE document_id = %s", [document]
                        )
                turn += 1
        return turn

    def search(self, tenant: UUID) -> int:
        """Search by vectors; return how often. Each search finds something."""
        turn = 0
        with self.database.connect("postgres", tenant) as app:
            while not self.over.is_set():
                turn += 1
                model = app.call("rag.active_model")
                with suppress(ModelChanged), app.connection.transaction():
                    try:
                        app.call("rag.require_model", p_model_id=model["id"])
                    except psycopg.Error as error:
                        if error.sqlstate == "EA020":
                            raise ModelChanged from error
                        raise
                    assert found(app, "word1", json.dumps([1.0] * model["width"]))
        return turn


class ModelChanged(Exception):
    """The vectors are another model's."""


def work(
    operator: Caller, tenants: Sequence[UUID], database: Database, name: str, width: int, tolerated: int = 0
) -> None:
    """Re-embed as the script and the functions do."""
    assert patiently(begin, operator, name, width) == "begun"
    while (waits := patiently(switch, operator, tolerated)) != "switched":
        if waits == "indexes":
            operator.run("SET lock_timeout = 0")
            index(operator)
            operator.run("SET lock_timeout = '2s'")
            continue
        patiently(queue, operator, 20)
        for tenant in tenants:
            with database.connect("app", tenant) as app:
                embed_all(app)
    patiently(settle, operator)


def test_beside_uploads_deletions_and_searches_no_chunk_is_lost(
    database: Database, tenants: Sequence[UUID], operator: Caller
) -> None:
    """What could be a deadlock is another attempt."""
    traffic = Traffic(database)
    for tenant in tenants:
        with database.connect("app", tenant) as app:
            for number in range(5):
                add_document(app, f"{number}.txt", [f"word1 {number} {n}" for n in range(8)])
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(traffic.upload, tenant, number) for number in range(2) for tenant in tenants]
        futures += [pool.submit(traffic.search, tenant) for tenant in tenants]
        try:
            work(operator, tenants, database, "wider", 16, tolerated=5)
            assert patiently(begin, operator, "third", 64) == "begun"
            for _ in range(5):
                patiently(queue, operator, 20)
            assert patiently(operator.call, "rag.cancel_reembedding")
            patiently(settle, operator)
            work(operator, tenants, database, "narrow", 32, tolerated=20)
        finally:
            traffic.over.set()
        assert min(future.result() for future in futures) > 3
    for tenant in tenants:
        with database.connect("app", tenant) as app:
            embed_all(app)
    assert without(operator) == []
    assert operator.value("SELECT count(*) FROM rag.embedding_queue") == 0
    stale = (
        "SELECT count(*) FROM rag.chunks AS c JOIN rag.documents AS d ON d.id = c.document_id JOIN rag.embeddings AS e ON"
        " e.chunk_id = c.id WHERE rag.text_hash(rag.embedded_text(d.title, d.name, c.heading, c.content)) <> e.text_hash"
    )
    assert operator.value(stale) == 0
    assert operator.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def patiently(function: Callable[..., Any], *arguments: object) -> Any:
    """Call again while somebody is in the way."""
    while True:
        with suppress(LockNotAvailable):
            return function(*arguments)
