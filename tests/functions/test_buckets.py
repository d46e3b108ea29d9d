"""Buckets whose objects are documents: who says which, and what a store's notifications lead to."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID, uuid4

import pytest

from shared.events import INGESTION_SUBMITTED
from shared.settings import get_settings
from tests import support
from tests.functions.asgi import Reply, call
from tests.functions.object_store import ObjectStore, serving
from tests.functions.platform import Platform
from tests.functions.test_events import event as make_event

SAMPLES = Path(__file__).parent.parent / "data" / "bucket"
FLOWER = "docs/red flower & grüße+1.md"


@pytest.fixture
async def store(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    """An object store, whose bucket `company` holds the first tenant's documents under docs/."""
    async with serving() as store:
        for name, value in store.variables().items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        assert (await assign(platform, "company", "docs/", collection="shelf")).status == 200
        yield store


def platform_admin(platform: Platform, tenant: UUID | None = None) -> dict[str, str]:
    return support.bearer(tenant or platform.tenants[0], "root", roles=("platform_admin",))


def tenant_admin(platform: Platform, tenant: UUID | None = None) -> dict[str, str]:
    return support.bearer(tenant or platform.tenants[0], "boss", roles=("tenant_admin",))


async def assign(
    platform: Platform, bucket: str, prefix: str, by: dict[str, str] | None = None, **fields: Any
) -> Reply:
    rule = {"bucket": bucket, "prefix": prefix, **fields}
    return await platform.call("ingestion", "PUT", "/buckets", rule, headers=by or platform_admin(platform))


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def record(key: str, sequencer: str | None = None, *, removed: bool = False, bucket: str = "company") -> dict[str, Any]:
    """Return a record of S3's shape."""
    thing = {"key": quote_plus(key, safe=""), "size": 1} | ({"sequencer": sequencer} if sequencer else {})
    event = "ObjectRemoved:Delete" if removed else "ObjectCreated:Put"
    return {"eventName": event, "eventSource": "aws:s3", "s3": {"bucket": {"name": bucket}, "object": thing}}


async def notify(
    platform: Platform, data: object, type_: str = "com.amazonaws.s3.ObjectCreated:Put", region: str | None = None
) -> Reply:
    """Deliver a notification as an event of a store's, which knows of no tenant."""
    headers = {
        "ce-specversion": "1.0", "ce-id": str(uuid4()), "ce-type": type_, "ce-source": "aws:s3.us-west-2.company",
        "content-type": "application/json", **({"ce-region": region} if region else {}),
    }  # fmt: skip
    return await call(platform.serve("ingest"), "POST", "/", headers, json.dumps(data).encode())


def documents(platform: Platform) -> dict[str, tuple[str, bytes]]:
    """Return collection and content by name."""
    with platform.database.connect() as operator:
        rows = operator.query(
            "SELECT d.name, c.name, o.original FROM rag.documents d JOIN rag.collections c ON c.id = d.collection_id"
            " JOIN rag.contents o ON o.document_id = d.id AND o.version = d.version"
        )
    return {row[0]: (row[1], row[2]) for row in rows}


async def test_an_object_becomes_a_document_and_goes_with_it(platform: Platform, store: ObjectStore) -> None:
    store.put("company", FLOWER, b"Red.", x_amz_version_id="v1")
    assert (await notify(platform, sample("aws_put"))).status == 200
    assert documents(platform) == {"red flower & grüße+1.md": ("shelf", b"Red.")}
    [document] = (await platform.call("ingestion", "GET", "/documents")).json()["documents"]
    assert document["metadata"] == {"source": f"s3://company/{FLOWER}", "object_version": "v1"}
    assert {reply.status for reply in await platform.deliver()} == {200}
    del store.objects["company", FLOWER]
    assert (await notify(platform, sample("aws_delete"), "com.amazonaws.s3.ObjectRemoved:Delete")).status == 200
    assert documents(platform) == {}
    assert platform.counts()["rag.chunks"] == 0
    assert [entry.action for entry in platform.audited(platform.tenants[0])][-1] == "document.deleted"


@pytest.mark.parametrize(
    ("name", "key", "type_"),
    [
        ("minio_put", "docs/manual.md", "com.amazonaws.s3:ObjectCreated:Put"),
        ("eventbridge_created", "docs/red flower+1.md", "aws.s3.object_created"),
    ],
)
async def test_every_stores_shape_leads_to_the_object(
    platform: Platform, store: ObjectStore, name: str, key: str, type_: str
) -> None:
    store.put("company", key, b"Text.")
    assert (await notify(platform, sample(name), type_)).status == 200
    assert documents(platform) == {key.removeprefix("docs/"): ("shelf", b"Text.")}


async def test_a_notification_of_another_region_is_refused_before_anything_is_fetched(
    platform: Platform, store: ObjectStore
) -> None:
    store.put("company", "docs/a.md", b"Text.")
    for removed in (False, True):
        reply = await notify(platform, record("docs/a.md", removed=removed), region="eu-west-1")
        assert (reply.status, reply.code()) == (422, "foreign_event")
    assert store.asked == []
    assert documents(platform) == {}
    assert (await notify(platform, record("docs/a.md"), region="test")).status == 200
    assert documents(platform) == {"a.md": ("shelf", b"Text.")}


async def test_a_store_that_knows_no_events_notifies_over_http(platform: Platform, store: ObjectStore) -> None:
    store.put("company", "docs/manual.md", b"Text.")
    told = await platform.call("ingestion", "POST", "/buckets/notifications", sample("minio_put"))
    assert (told.status, told.json()) == (202, {"accepted": 1})
    assert store.asked == [], "it is answered before anything is fetched"
    await platform.deliver()
    assert documents(platform) == {"manual.md": ("shelf", b"Text.")}
    # Another tenant's key may tell what it wants: it concerns the own buckets only.
    eve = platform.bearer("eve", platform.tenants[1])
    told = await platform.call("ingestion", "POST", "/buckets/notifications", sample("minio_delete"), headers=eve)
    assert told.json() == {"accepted": 0}
    told = await platform.call("ingestion", "POST", "/buckets/notifications", sample("aws_test"))
    assert (told.status, told.json()) == (202, {"accepted": 0})
    for rubbish in (b"{", b"[" * 100_000, b"[]", b'{"Records": 5}', b'"\xff"'):
        refused = await platform.call("ingestion", "POST", "/buckets/notifications", body=rubbish)
        assert refused.code() in {"malformed_json", "invalid_request"}, rubbish


async def test_an_older_notification_never_undoes_a_newer_one(platform: Platform, store: ObjectStore) -> None:
    async def told(sequencer: str, body: bytes | None, *, removed: bool = False) -> dict[str, tuple[str, bytes]]:
        """Deliver a notification that finds what was there when it was sent: as if the store had been slow to answer."""
        store.objects.clear()
        if body is not None:
            store.put("company", "docs/a.md", body)
        assert (await notify(platform, record("docs/a.md", sequencer, removed=removed))).status == 200
        return documents(platform)

    assert await told("0A10", b"First.") == {"a.md": ("shelf", b"First.")}
    assert await told("0A30", b"Third.") == {"a.md": ("shelf", b"Third.")}
    assert await told("0a2f", b"Second.") == {"a.md": ("shelf", b"Third.")}
    # The shorter one is filled with zeros on the right.
    assert await told("0A3", b"Also third.") == {"a.md": ("shelf", b"Also third.")}
    assert await told("0A3001", b"Fourth.") == {"a.md": ("shelf", b"Fourth.")}
    assert await told("0A30", None, removed=True) == {"a.md": ("shelf", b"Fourth.")}
    assert await told("0A4", None, removed=True) == {}
    assert await told("0A3002", b"From the past.") == {}, "what is gone is remembered for a while"
    assert await told("0A5", b"Anew.") == {"a.md": ("shelf", b"Anew.")}


async def test_a_notification_is_a_hint_and_the_object_the_truth(platform: Platform, store: ObjectStore) -> None:
    store.put("company", "docs/a.md", b"There.")
    # An older version was deleted for good: the object is still there.
    await notify(platform, record("docs/a.md", "01"))
    assert (await notify(platform, record("docs/a.md", "02", removed=True))).status == 200
    assert documents(platform) == {"a.md": ("shelf", b"There.")}
    # It was deleted before its creation was heard of.
    assert (await notify(platform, record("docs/never.md", "01"))).status == 200
    assert list(documents(platform)) == ["a.md"]
    # Without sequencers the last one that comes counts.
    store.put("company", "docs/a.md", b"Changed.")
    assert (await notify(platform, record("docs/a.md"))).status == 200
    assert documents(platform) == {"a.md": ("shelf", b"Changed.")}


async def test_the_same_event_again_has_no_further_effect(platform: Platform, store: ObjectStore) -> None:
    store.put("company", "docs/a.md", b"Once.")
    thing = {"bucket": "company", "key": "docs/a.md", "sequencer": "01"}
    event = make_event(platform, INGESTION_SUBMITTED, {"object": thing})
    assert [(await platform.post(event)).status for _ in range(3)] == [200] * 3
    counts = platform.counts()
    assert (counts["rag.documents"], counts["events.inbox"]) == (1, 1)
    with platform.database.connect() as operator:
        assert operator.value("SELECT version FROM rag.documents") == 1


async def test_what_nobody_wants_or_nobody_can_read_is_left_alone(platform: Platform, store: ObjectStore) -> None:
    store.put("company", "other/a.md", b"Elsewhere.")
    store.put("company", "docs/picture.png", b"\x89PNG", "image/png")
    store.put("company", "docs/folder/", b"", "application/x-directory")
    store.put("company", "docs/empty.md", b"")
    store.put("company", "docs/../../etc/passwd", b"root", "text/plain")
    store.put("company", "docs/" + "n" * 300, b"Long.", "text/plain")
    for _, key in list(store.objects):
        assert (await notify(platform, record(key))).status == 200, key
    assert (await notify(platform, record("docs/a.md", bucket="unknown"))).status == 200
    assert documents(platform) == {}
    store.put("company", "docs/a.bin.md", b"By its suffix.", "application/octet-stream")
    assert (await notify(platform, record("docs/a.bin.md"))).status == 200
    assert list(documents(platform)) == ["a.bin.md"]


async def test_a_store_that_does_not_answer_is_asked_again_and_one_that_refuses_is_not(
    platform: Platform, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    store.put("company", "docs/a.md", b"Text.")
    for status, expected in (
        (503, (503, "dataref_unavailable")),
        (429, (503, "dataref_unavailable")),
        (403, (422, "dataref_refused")),
    ):
        store.status = status
        for removed in (False, True):
            reply = await notify(platform, record("docs/a.md", removed=removed))
            assert (reply.status, reply.code()) == expected
    store.status = None
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "another")
    get_settings.cache_clear()
    assert (await notify(platform, record("docs/a.md"))).code() == "dataref_refused"
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    get_settings.cache_clear()
    reply = await notify(platform, record("docs/a.md"))
    assert (reply.status, reply.code()) == (503, "dataref_unavailable")
    monkeypatch.setenv("S3_ENDPOINT_URL", "")
    get_settings.cache_clear()
    assert (await notify(platform, record("docs/a.md"))).code() == "dataref_forbidden"
    assert documents(platform) == {}


async def test_an_object_that_is_too_large_is_not_taken(
    platform: Platform, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_DOCUMENT_BYTES", "1000")
    get_settings.cache_clear()
    store.put("company", "docs/a.md", b"x" * 1001)
    reply = await notify(platform, record("docs/a.md"))
    assert (reply.status, reply.code()) == (413, "request_too_large")
    store.put("company", "docs/a.md", b"x" * 1000)
    assert (await notify(platform, record("docs/a.md"))).status == 200


async def test_an_address_of_a_bucket_is_read_only_for_its_own_tenant(platform: Platform, store: ObjectStore) -> None:
    store.put("company", "docs/a b.md", b"Text.")
    extensions = {"tenantid": str(platform.tenants[1]), "dataref": "s3://company/docs/a%20b.md"}
    assert (await platform.post(make_event(platform, INGESTION_SUBMITTED, {}, extensions=extensions))).status == 200
    assert (store.asked, documents(platform)) == ([], {})
    extensions["tenantid"] = str(platform.tenants[0])
    assert (await platform.post(make_event(platform, INGESTION_SUBMITTED, {}, extensions=extensions))).status == 200
    assert documents(platform) == {"a b.md": ("shelf", b"Text.")}


async def test_the_platform_assigns_and_the_tenant_divides(platform: Platform, store: ObjectStore) -> None:
    boss, other = tenant_admin(platform), tenant_admin(platform, platform.tenants[1])
    assert (await assign(platform, "company", "docs/hr/", boss, collection="people")).status == 200
    store.put("company", "docs/hr/a.md", b"A.")
    store.put("company", "docs/b.md", b"B.")
    for key in ("docs/hr/a.md", "docs/b.md"):
        await notify(platform, record(key))
    assert documents(platform) == {"a.md": ("people", b"A."), "b.md": ("shelf", b"B.")}

    # Nobody takes what is another tenant's, or what nobody was given.
    for prefix in ("", "docs/", "docs/hr/x", "doc"):
        assert (await assign(platform, "company", prefix, other)).code() == "forbidden", prefix
        conflict = await assign(platform, "company", prefix, tenant_id=str(platform.tenants[1]))
        assert (conflict.status, conflict.code()) == (409, "conflict"), prefix
    assert (await assign(platform, "company", "", boss)).code() == "forbidden"
    assert (await assign(platform, "company", "docs/", boss, tenant_id=str(platform.tenants[1]))).code() == "forbidden"
    assert (await assign(platform, "company", "mail/", tenant_id=str(platform.tenants[1]))).status == 200
    listed = (await platform.call("ingestion", "GET", "/buckets", headers=boss)).json()["buckets"]
    assert [(rule["prefix"], rule["collection"], rule["assigned"]) for rule in listed] == [
        ("docs/", "shelf", True),
        ("docs/hr/", "people", False),
    ]
    url = f"/buckets?tenant_id={platform.tenants[1]}"
    assert (await platform.call("ingestion", "GET", url, headers=boss)).code() == "forbidden"
    assert len((await platform.call("ingestion", "GET", url, headers=platform_admin(platform))).json()["buckets"]) == 1

    # What was assigned only the platform takes away, and the division goes with it.
    drop = "/buckets?bucket=company&prefix="
    assert (await platform.call("ingestion", "DELETE", f"{drop}docs/", headers=boss)).code() == "forbidden"
    assert (await platform.call("ingestion", "DELETE", f"{drop}nowhere", headers=boss)).code() == "not_found"
    assert (await platform.call("ingestion", "DELETE", f"{drop}docs/", headers=platform_admin(platform))).status == 204
    assert (await platform.call("ingestion", "GET", "/buckets", headers=boss)).json() == {"buckets": []}
    await notify(platform, record("docs/hr/c.md"))
    assert set(documents(platform)) == {"a.md", "b.md"}, "the documents stay"
    actions = [entry.action for entry in platform.audited(platform.tenants[0])]
    assert actions.count("bucket.assigned") == 2
    assert actions.count("bucket.dropped") == 1
