"""What a broker may deliver: each consumer answers so that the broker knows whether to try again."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from shared.events import INFERENCE_REQUESTED, INGESTION_RECEIVED, INGESTION_SUBMITTED, PING
from shared.runtime import runtime
from shared.settings import get_settings
from tests.functions.asgi import call
from tests.functions.platform import Mode, Platform, binary, structured, until
from tests.functions.upstream import Upstream, stream, text

RETRIED = {404, 408, 409, 429}
UNKNOWN = "00000000-0000-4000-8000-000000000000"
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/test",
    "ce-type": INGESTION_SUBMITTED,
    "content-type": "application/json",
}
STRUCTURED = {"content-type": "application/cloudevents+json"}
NOTE = {"name": "note.txt", "media_type": "text/plain", "content": "Lunch is at noon."}


def envelope(**attributes: object) -> bytes:
    """Return an event in structured mode."""
    known = {"specversion": "1.0", "id": "1", "source": "/test", "type": INGESTION_SUBMITTED, "data": NOTE}
    return json.dumps({name: value for name, value in (known | attributes).items() if value is not None}).encode()


NO_EVENTS: dict[str, tuple[dict[str, str], bytes]] = {
    "nothing": ({}, b""),
    "plain JSON": ({"content-type": "application/json"}, b"{}"),
    "truncated": (STRUCTURED, envelope()[:-20]),
    "binary": (STRUCTURED, bytes(range(256))),
    "deep": (STRUCTURED, b"[" * 100_000),
    "a list": (STRUCTURED, b"[]"),
    "a number": (STRUCTURED, b"5"),
    "null": (STRUCTURED, b"null"),
    "a batch": ({"content-type": "application/cloudevents-batch+json"}, b"[" + envelope() + b"]"),
    "no id": (STRUCTURED, envelope(id=None)),
    "empty id": (STRUCTURED, envelope(id="")),
    "id is a number": (STRUCTURED, envelope(id=5)),
    "id is an object": (STRUCTURED, envelope(id={"a": 1})),
    "id with NUL": (STRUCTURED, envelope(id="a\0b")),
    "id with a lone surrogate": (STRUCTURED, envelope(id="\ud800")),
    "id of 5 kB": (STRUCTURED, envelope(id="\U0001f600" * 1250)),
    "source of 5 kB": (STRUCTURED, envelope(source="/" + "x" * 5000)),
    "no source": (STRUCTURED, envelope(source=None)),
    "no type": (STRUCTURED, envelope(type=None)),
    "no version": (STRUCTURED, envelope(specversion=None)),
    "another version": (STRUCTURED, envelope(specversion="0.1")),
    "type is a list": (STRUCTURED, envelope(type=[INGESTION_SUBMITTED])),
    "unknown type": (STRUCTURED, envelope(type="com.example.other.v1")),
    "deep data": (HEADERS, b"[" * 100_000),
    "no specversion": ({n: v for n, v in HEADERS.items() if n != "ce-specversion"}, b"{}"),
    "no tenant": (HEADERS, json.dumps(NOTE).encode()),
    "tenant is no id": (HEADERS | {"ce-tenantid": "alpha"}, json.dumps(NOTE).encode()),
}


@pytest.mark.parametrize("function", ["infer", "ingest", "sweep"])
async def test_what_is_no_event_is_poison(platform: Platform, function: str) -> None:
    before = platform.counts()
    for case, (headers, body) in NO_EVENTS.items():
        reply = await call(platform.serve(function), "POST", "/", headers, body)
        assert (reply.status, reply.code()) == (400, "malformed_event"), case
    assert platform.counts() == before


async def test_an_event_that_is_too_large_is_poison(platform: Platform) -> None:
    reply = await call(platform.serve("ingest"), "POST", "/", HEADERS, b" " * (16 * 1024 * 1024 + 1))
    assert (reply.status, reply.code()) == (413, "request_too_large")


WRONG_DATA: dict[str, tuple[str, object, str]] = {
    "no object": (INGESTION_SUBMITTED, [NOTE], "invalid_request"),
    "nothing": (INGESTION_SUBMITTED, {}, "invalid_request"),
    "null": (INGESTION_SUBMITTED, None, "invalid_request"),
    "unknown field": (INGESTION_SUBMITTED, NOTE | {"a": 1}, "invalid_request"),
    "name with NUL": (INGESTION_SUBMITTED, NOTE | {"name": "a\0"}, "invalid_request"),
    "name with a lone surrogate": (INGESTION_SUBMITTED, NOTE | {"name": "\ud800"}, "invalid_request"),
    "collection with a path": (INGESTION_SUBMITTED, NOTE | {"collection": "../a"}, "invalid_request"),
    "collection with a lone surrogate": (INGESTION_SUBMITTED, NOTE | {"collection": "\ud800"}, "invalid_request"),
    "lone surrogate as a field": (INGESTION_SUBMITTED, NOTE | {"\ud800": 1}, "invalid_request"),
    "content is no text": (INGESTION_SUBMITTED, NOTE | {"content": 5}, "invalid_request"),
    "content is empty": (INGESTION_SUBMITTED, NOTE | {"content": ""}, "invalid_request"),
    "content with NUL": (INGESTION_SUBMITTED, NOTE | {"content": "a\0"}, "undecodable_document"),
    "content with a lone surrogate": (INGESTION_SUBMITTED, NOTE | {"content": "\ud800"}, "invalid_request"),
    "unknown media type": (INGESTION_SUBMITTED, NOTE | {"media_type": "image/png"}, "unsupported_media_type"),
    "no document": (INGESTION_RECEIVED, {}, "invalid_request"),
    "document is no id": (INGESTION_RECEIVED, {"document_id": "a", "version": 1}, "invalid_request"),
    "version is no number": (INGESTION_RECEIVED, {"document_id": UNKNOWN, "version": "new"}, "invalid_request"),
    "enormous version": (INGESTION_RECEIVED, {"document_id": UNKNOWN, "version": 10**30}, "invalid_request"),
    "no job": (INFERENCE_REQUESTED, {}, "invalid_request"),
    "job is no id": (INFERENCE_REQUESTED, {"job_id": 5, "turn_id": UNKNOWN}, "invalid_request"),
    "unknown job": (INFERENCE_REQUESTED, {"job_id": UNKNOWN, "turn_id": UNKNOWN}, "not_found"),
}


def event(platform: Platform, kind: str, data: object, **attributes: object) -> dict[str, Any]:
    """Return an event as the outbox holds it."""
    return {
        "id": str(uuid4()),
        "source": "/test",
        "type": kind,
        "subject": "a",
        "created_at": datetime.now(UTC),
        "extensions": {"tenantid": str(platform.tenants[0])},
        "data": data,
    } | attributes


@pytest.mark.parametrize("mode", [binary, structured])
async def test_data_that_is_wrong_is_poison(platform: Platform, mode: Mode) -> None:
    before = platform.counts()
    for case, (kind, data, code) in WRONG_DATA.items():
        reply = await platform.post(event(platform, kind, data), mode)
        assert reply.json()["code"] == code, (case, reply)
        assert 400 <= reply.status < 500, case
        assert reply.status not in RETRIED, case
    assert platform.counts() == before


async def test_data_that_is_not_json_is_poison(platform: Platform) -> None:
    headers = HEADERS | {"ce-tenantid": str(platform.tenants[0])}
    for kind in (INGESTION_SUBMITTED, INGESTION_RECEIVED):
        reply = await call(platform.serve("ingest"), "POST", "/", headers | {"ce-type": kind}, b"{nonsense")
        assert (reply.status, reply.code()) == (422, "invalid_request"), kind


async def test_an_event_of_an_unknown_tenant_is_poison(platform: Platform) -> None:
    stranger = {"tenantid": str(uuid4())}
    for kind, data in (
        (INGESTION_SUBMITTED, NOTE),
        (INFERENCE_REQUESTED, {"job_id": UNKNOWN, "turn_id": UNKNOWN}),
    ):
        reply = await platform.post(event(platform, kind, data, extensions=stranger))
        assert 400 <= reply.status < 500, kind
        assert reply.status not in RETRIED, kind


async def test_an_event_cannot_reach_into_another_tenant(platform: Platform) -> None:
    await platform.begin()
    document = (await platform.upload("a.md", b"Text.")).json()["id"]
    job = next(e["data"] for e in platform.claim() if e["type"] == INFERENCE_REQUESTED)
    other = {"tenantid": str(platform.tenants[1])}
    reply = await platform.post(event(platform, INFERENCE_REQUESTED, job, extensions=other))
    assert (reply.status, reply.json()["code"]) == (422, "not_found")
    data = {"document_id": document, "version": 1}
    assert (await platform.post(event(platform, INGESTION_RECEIVED, data, extensions=other))).status == 200
    with platform.database.connect() as operator:
        assert operator.query("SELECT status FROM inference.jobs") == [("queued",)]
        assert operator.query("SELECT status FROM rag.documents") == [("received",)]


async def test_a_document_that_no_longer_exists_is_done(platform: Platform) -> None:
    data = {"document_id": UNKNOWN, "version": 1}
    assert (await platform.post(event(platform, INGESTION_RECEIVED, data))).status == 200


async def test_the_sweeper_takes_ticks_and_nothing_else(platform: Platform) -> None:
    assert (await platform.tick()).status == 200
    reply = await call(platform.serve("sweep"), "POST", "/", HEADERS | {"ce-type": PING + ".other"}, b"{}")
    assert (reply.status, reply.code()) == (400, "malformed_event")


async def test_while_the_database_is_away_an_event_is_to_be_delivered_again(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app:secret@127.0.0.1:{closed_port}/functions")
    get_settings.cache_clear()
    for kind, data in (
        (INGESTION_SUBMITTED, NOTE),
        (INGESTION_RECEIVED, {"document_id": UNKNOWN, "version": 1}),
        (INFERENCE_REQUESTED, {"job_id": UNKNOWN, "turn_id": UNKNOWN}),
    ):
        reply = await platform.post(event(platform, kind, data))
        assert (reply.status, reply.code()) == (503, "database_unavailable"), kind
    assert (await platform.tick()).status == 503


async def test_a_process_whose_time_is_up_hands_its_jobs_back_before_it_closes_its_connections(
    platform: Platform, upstream: Upstream
) -> None:
    upstream.chat = stream(*text("Half ", "said")[:1], gate=asyncio.Event())
    turn = await platform.begin()
    [requested] = platform.claim()
    delivery = asyncio.create_task(platform.post(requested))
    with platform.database.connect() as operator:
        await until(lambda: len(upstream.requests) > 1)
        # What uvicorn does when its patience is over: it cancels the requests, and at once tells the application to close.
        delivery.cancel()
        await runtime.close()
        assert operator.query("SELECT status, attempts, leased_by FROM inference.jobs") == [("queued", 1, None)]
    upstream.chat = stream(*text("All ", "said."))
    await platform.deliver()
    assert (await platform.read(turn))["answer"] == "All said."
