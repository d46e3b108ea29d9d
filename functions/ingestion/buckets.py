"""Buckets whose objects are documents: who says which, and following what a store tells of them.

A notification is a hint that an object has changed: what counts is the object as it is found then, so that it is the same
whether notifications come late, twice or out of order. Only what was found before a newer notification was dealt with is
dropped (rag.note_object).
"""

import json
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.ingestion import fetching, media_types, notices
from functions.ingestion.documents import FUNCTION
from functions.ingestion.models import BucketObject, BucketPlace, BucketRule, OfTenant, Target
from shared import logs
from shared.access import call
from shared.events import ANY, Consumer, Event
from shared.http import read_body, read_json, validate
from shared.principal import Worker
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings

MAX_BODY_BYTES = 1024 * 1024


async def list_all(request: Request) -> Response:
    """List the rules of a tenant."""
    of = validate(OfTenant, dict(request.query_params))
    return JSONResponse({"buckets": await call(request, "rag.list_buckets", p_tenant_id=of.tenant_id)})


async def assign(request: Request) -> Response:
    """Say that objects of a bucket are documents of a collection."""
    rule = await read_json(request, BucketRule, MAX_BODY_BYTES)
    bucket = await call(
        request,
        "rag.put_bucket",
        p_bucket=rule.bucket,
        p_prefix=rule.prefix,
        p_collection=rule.collection,
        p_tenant_id=rule.tenant_id,
    )
    return JSONResponse(bucket)


async def drop(request: Request) -> Response:
    """End such a rule."""
    place = validate(BucketPlace, dict(request.query_params))
    await call(request, "rag.drop_bucket", p_bucket=place.bucket, p_prefix=place.prefix, p_tenant_id=place.tenant_id)
    return Response(status_code=204)


async def notify(request: Request) -> Response:
    """Take a store's notification over HTTP; the objects are fetched later, by an event for each."""
    body = await read_body(request, MAX_BODY_BYTES)
    objects = notices.read(_json(body))
    told = [thing.model_dump(exclude_none=True) for thing in objects]
    accepted = await call(request, "rag.accept_notices", p_notices=json.dumps(told))
    return JSONResponse({"accepted": accepted}, status_code=202)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed_json", "The body is not JSON.") from error


async def _follow(event: Event) -> None:
    """Take a store's notification as an event, whatever its type: the objects say whose they are."""
    try:
        things = notices.read(event.data)
    except Problem as problem:
        raise Problem("malformed_event", f"No handler takes events of type {event.type}: {problem.detail}") from None
    region = event.extensions.get("region")
    if region not in {None, "local", get_settings().region}:  # as core.enter_function has it
        # It names no tenant, for whom core.enter_function would refuse it before anything is fetched.
        raise Problem("foreign_event", "The event belongs to another region.", extra={"region": region})
    for number, thing in enumerate(things):
        await mirror(thing, event, f"{event.id}/{number}")


follow = Consumer(ANY, _follow)


async def mirror(thing: BucketObject, event: Event, event_id: str, tenant_id: UUID | None = None) -> None:
    """Bring a document to what its object is now: stored, or deleted. One that nobody wants is left alone.

    With a tenant, only an object of that tenant.
    """
    database = await runtime.database()
    target = await database.call("rag.bucket_target", p_bucket=thing.bucket, p_object_key=thing.key)
    ids = {"bucket": thing.bucket, "key": thing.key, "event_id": event.id}
    if target is None or (tenant_id is not None and target["tenant_id"] != str(tenant_id)) or thing.key.endswith("/"):
        logs.info("object_ignored", reason="no rule", **ids)
        return
    worker = Worker(UUID(target["tenant_id"]), FUNCTION, event.extensions.get("region"))
    place = {"p_bucket": thing.bucket, "p_object_key": thing.key, "p_sequencer": thing.sequencer}
    told = {"p_event_source": event.source, "p_event_id": event_id}
    settings = get_settings()
    if thing.removed and await fetching.has_object(thing.bucket, thing.key, settings):
        # An older version was deleted, or it was made anew.
        logs.info("object_ignored", reason="there is a newer one", **ids)
        return
    found = None if thing.removed else await fetching.get_object(thing.bucket, thing.key, settings)
    if found is None:
        document_id = await database.call("rag.remove_object", worker, **place, **told)
        logs.info("object_removed", document_id=document_id, tenant_id=worker.tenant_id, **ids)
        return
    try:
        wanted = validate(Target, {"collection": target["collection"], "name": target["name"]})
        media_type = media_types.understood(found.content_type, wanted.name)
        if media_type == media_types.BYTES:
            raise Problem("unsupported_media_type", "Neither the store nor the name's suffix tells what it is.")
    except Problem as problem:
        # A bucket may hold anything.
        logs.warning("object_ignored", reason=problem.code, detail=problem.detail, **ids)
        return
    if not found.body:
        logs.info("object_ignored", reason="empty", **ids)
        return
    source = {
        "source": f"s3://{thing.bucket}/{thing.key}"[:1000],
        "object_version": found.headers.get("x-amz-version-id"),
    }
    document_id = await database.call(
        "rag.store_object",
        worker,
        **place,
        p_collection=wanted.collection,
        p_name=wanted.name,
        p_media_type=media_type,
        p_original=found.body,
        p_metadata=json.dumps({name: value for name, value in source.items() if value}),
        **told,
    )
    logs.info("document_stored", document_id=document_id, tenant_id=worker.tenant_id, name=wanted.name, **ids)
