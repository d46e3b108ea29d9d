"""A document from its upload to its passages, over HTTP and by event."""

import hashlib
from datetime import UTC, datetime

import pytest

from functions.ingestion.models import Document
from tests.functions.platform import Mode, Platform, binary, structured
from tests.functions.upstream import Answer, Reply, Upstream, status, vectors
from tests.support import WIDTH

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MOMENTS = ("created_at", "received_at", "stage_at", "finished_at", "updated_at")
GUIDE = "# Guide\n\nStart with `make dev`.\n\n## Ports\n\nThe broker listens on 8010.\n"


def chunks(platform: Platform) -> list[tuple[str, str]]:
    """Return the passages that searches see, as (heading, content)."""
    with platform.database.connect() as operator:
        return [
            (row[0], row[1])
            for row in operator.query("SELECT heading, content FROM rag.chunks WHERE live ORDER BY ordinal")
        ]


async def test_an_upload_is_received_and_then_indexed(platform: Platform) -> None:
    uploaded = await platform.upload("guide.md", GUIDE.encode(), collection="manuals")
    assert uploaded.status == 202
    received = uploaded.json()
    assert uploaded.headers["location"] == f"/documents/{received['id']}"
    assert Document.model_validate(received).model_dump(mode="json").keys() == received.keys()
    assert received | dict.fromkeys(MOMENTS) == {
        "id": received["id"], "collection": "manuals", "name": "guide.md", "title": "", "media_type": "text/markdown",
        "language": None, "metadata": {}, "dated": None, "size_bytes": len(GUIDE),
        "sha256": hashlib.sha256(GUIDE.encode()).hexdigest(), "version": 1, "live_version": None, "status": "received",
        "stage": "received", "pages": None, "chunks_total": 0, "chunks_embedded": 0, "chunks_failed": 0,
        "remaining_seconds": None, "error_code": None, "error_detail": None, "advice": None, "attempts": 0,
        "duplicate_of": None, "etag": f"{received['id']}-1", **dict.fromkeys(MOMENTS),
    }  # fmt: skip
    assert uploaded.headers["etag"] == f'"{received["etag"]}"'
    assert [reply.status for reply in await platform.deliver()] == [200, 200]
    indexed = (await platform.call("ingestion", "GET", f"/documents/{received['id']}")).json()
    assert (indexed["status"], indexed["stage"], indexed["error_code"]) == ("indexed", "indexed", None)
    assert indexed["finished_at"] >= indexed["stage_at"] >= indexed["received_at"] == indexed["created_at"]
    assert indexed["live_version"] == 1
    assert indexed["chunks_embedded"] == indexed["chunks_total"] == len(chunks(platform)) > 0
    assert "make dev" in chunks(platform)[0][1]
    with platform.database.connect() as operator:
        norms = operator.query("SELECT l2_norm(embedding) FROM rag.embeddings")
    assert all(abs(norm - 1) < 0.01 for (norm,) in norms)


async def test_documents_are_listed_by_collection(platform: Platform) -> None:
    for name, collection in (("b.md", "one"), ("a.md", "one"), ("c.md", "two")):
        await platform.upload(name, b"Text.", collection=collection)
    listed = (await platform.call("ingestion", "GET", "/documents")).json()["documents"]
    assert [(d["collection"], d["name"]) for d in listed] == [("one", "a.md"), ("one", "b.md"), ("two", "c.md")]
    one = (await platform.call("ingestion", "GET", "/documents?collection=two")).json()["documents"]
    assert [d["name"] for d in one] == ["c.md"]
    assert (await platform.call("ingestion", "GET", "/documents?collection=three")).json()["documents"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", "Zürich".encode()),
        ("text/plain", "\ufeffZürich".encode()),
        ('Text/Plain; Charset="ISO-8859-1"', "Zürich".encode("latin-1")),
        ("text/plain; format=flowed; charset=windows-1252", "Zürich".encode("cp1252")),
        ("text/plain;charset=utf-16", "Zürich".encode("utf-16")),
    ],
)
async def test_a_text_is_read_in_the_charset_that_its_type_names(
    platform: Platform, content_type: str, body: bytes
) -> None:
    uploaded = await platform.upload("city.txt", body, content_type)
    assert (uploaded.status, uploaded.json()["media_type"]) == (202, "text/plain")
    await platform.deliver()
    assert chunks(platform) == [("", "Zürich")]


async def test_the_same_name_replaces_and_the_same_text_changes_nothing(platform: Platform) -> None:
    first = await platform.store("guide.md", GUIDE)
    again = await platform.upload("guide.md", GUIDE.encode())
    assert (again.json()["id"], again.json()["status"], again.json()["version"]) == (first["id"], "indexed", 1)
    assert await platform.deliver() == []

    changed = await platform.upload("guide.md", b"# Guide\n\nAll is new.")
    assert (changed.json()["id"], changed.json()["status"], changed.json()["version"]) == (first["id"], "received", 2)
    assert "make dev" in chunks(platform)[0][1], "the older passages answer until the new ones are complete"
    await platform.deliver()
    assert [content for _, content in chunks(platform)] == ["# Guide\n\nAll is new."]
    assert (await platform.store("guide.md", GUIDE, collection="other"))["id"] != first["id"]


async def test_an_event_for_an_older_version_is_done(platform: Platform) -> None:
    await platform.upload("guide.md", GUIDE.encode())
    await platform.upload("guide.md", b"New.")
    older, newer = sorted(platform.claim(), key=lambda event: int(event["data"]["version"]))
    assert (await platform.post(older)).status == 200
    assert await platform.deliver() == []
    assert (await platform.post(newer)).status == 200
    await platform.deliver()
    assert chunks(platform) == [("", "New.")]


@pytest.mark.parametrize("mode", [binary, structured])
async def test_a_document_inside_an_event_is_stored_once(platform: Platform, mode: Mode) -> None:
    event = submitted(platform, {"name": "note.txt", "media_type": "text/plain", "content": "Lunch is at noon."})
    assert (await platform.post(event, mode)).status == 200
    assert (await platform.post(event, mode)).status == 200
    counts = platform.counts()
    assert (counts["rag.documents"], counts["events.outbox"], counts["events.inbox"]) == (1, 1, 1)
    assert [reply.status for reply in await platform.deliver(mode)] == [200, 200]
    assert chunks(platform) == [("", "Lunch is at noon.")]
    [document] = (await platform.call("ingestion", "GET", "/documents")).json()["documents"]
    assert (document["name"], document["collection"], document["status"]) == ("note.txt", "default", "indexed")


def submitted(platform: Platform, data: object, **attributes: object) -> dict[str, object]:
    """Return an event of an external source."""
    [event] = [
        {
            "id": "1",
            "source": "//files/inbox",
            "type": "com.enterprise-agents.ingestion.submitted.v1",
            "subject": "note.txt",
            "created_at": NOW,
            "extensions": {"tenantid": str(platform.tenants[0])},
            "data": data,
        }
    ]
    return event | attributes


async def test_an_event_delivered_again_is_done(platform: Platform) -> None:
    await platform.upload("guide.md", GUIDE.encode())
    [event] = platform.claim()
    assert [(await platform.post(event, mode)).status for mode in (binary, structured, binary)] == [200, 200, 200]
    with platform.database.connect() as operator:
        assert operator.value("SELECT attempts FROM rag.documents") == 1
        assert operator.value("SELECT count(*) FROM events.inbox") == 1


async def test_a_document_that_another_worker_indexes_is_in_progress(platform: Platform) -> None:
    document = (await platform.upload("guide.md", GUIDE.encode())).json()["id"]
    with platform.database.connect("app", platform.tenants[0]) as other:
        lease = {"p_document_id": document, "p_version": 1, "p_worker": "other", "p_lease": "1 minute"}
        assert other.call("rag.claim_document", **lease)["outcome"] == "claimed"
    [event] = platform.claim()
    busy = await platform.post(event)
    assert (busy.status, busy.code()) == (409, "in_progress")
    with platform.database.connect() as operator:
        operator.run("UPDATE rag.documents SET leased_until = now() - interval '1 second'")
    assert (await platform.post(event)).status == 200
    await platform.deliver()
    assert chunks(platform)


FAILURES = {
    "refused": (status(400, b"\xff no \x00"), "embedding_rejected"),
    "width": (vectors(1.0), "embedding_width_mismatch"),
    "too few": (vectors(*[0.1] * WIDTH, count=0), "embedding_rejected"),
    "not finite": (vectors(*[float("inf")] * WIDTH), "embedding_rejected"),
}


@pytest.mark.parametrize(("answer", "code"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_document_whose_embedding_fails_says_why_and_can_be_sent_again(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, answer: Answer, code: str
) -> None:
    monkeypatch.setattr("shared.embeddings.RETRY_DELAYS_SECONDS", (0.01, 0.01))
    long = GUIDE + "\n\n".join(f"## Part {number}\n\n{'Words of this part. ' * 40}" for number in range(40))
    healthy, upstream.embeddings = upstream.embeddings, answer
    failed = await platform.store("guide.md", long)
    assert (failed["status"], failed["stage"], failed["error_code"]) == ("failed", "embedding", code)
    assert failed["error_detail"]
    assert failed["chunks_total"] > 32, "several batches fail at once"
    assert chunks(platform) == []
    upstream.embeddings = healthy
    repaired = await platform.store("guide.md", long)
    assert (repaired["id"], repaired["status"], repaired["error_code"]) == (failed["id"], "indexed", None)
    assert len(chunks(platform)) == failed["chunks_total"]


async def test_older_passages_answer_while_a_newer_version_cannot_be_embedded(
    platform: Platform, upstream: Upstream
) -> None:
    await platform.store("guide.md", GUIDE)
    before = chunks(platform)
    upstream.embeddings = status(400)
    assert (await platform.store("guide.md", "# Guide\n\nNew."))["status"] == "failed"
    assert chunks(platform) == before


async def test_headings_alone_are_no_document(platform: Platform) -> None:
    failed = await platform.store("empty.md", "# One\n\n## Two\n")
    assert (failed["status"], failed["error_code"]) == ("failed", "no_text")
    assert "under headings" in failed["advice"], "and nothing of its charset"


async def test_an_embedding_that_is_busy_for_a_moment_is_asked_again(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.embeddings.RETRY_DELAYS_SECONDS", (0.01, 0.01))
    healthy, answers = upstream.embeddings, [status(429), status(503)]

    async def answer(reply: Reply, request: dict[str, object]) -> None:
        await (answers.pop() if answers else healthy)(reply, request)

    upstream.embeddings = answer
    assert (await platform.store("guide.md", GUIDE))["status"] == "indexed"
