"""Documents that events bring: inside of them, or by telling where they are."""

import base64
import binascii
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from functions.ingestion import buckets, fetching, media_types
from functions.ingestion.documents import FUNCTION
from functions.ingestion.models import BucketObject, Submission, Target
from functions.ingestion.storing import arguments, check_size
from shared import logs
from shared.events import INGESTION_SUBMITTED, Consumer, Delivery, Event
from shared.http import validate
from shared.problems import Problem
from shared.settings import get_settings
from shared.text import is_storable


async def _store(event: Event) -> None:
    """Store a submitted document; storing it asks for its indexing by another event."""
    submission = _submission(event)
    delivery = Delivery(event, event.worker(FUNCTION), submission)
    dataref = event.extensions.get("dataref")
    thing = submission.object or _object(dataref)
    if thing is not None or dataref is not None:
        # Nothing of another region is fetched.
        await delivery.belongs_here()
    if thing is not None:
        await buckets.mirror(thing, event, event.id, delivery.actor.tenant_id)
        return
    settings = get_settings()
    if dataref is None:
        content_type, original = submission.media_type or "", _inline(event, submission)
    elif submission.content or submission.content_base64 or isinstance(event.data, bytes):
        raise Problem("invalid_request", "The event has content, and a dataref besides.")
    else:
        fetched = await fetching.get(dataref, settings)
        content_type, original = submission.media_type or fetched.content_type, fetched.body
    check_size(original, settings.max_document_bytes)
    named = submission.name or event.subject or PurePosixPath(unquote(urlsplit(dataref or "").path)).name
    target = validate(Target, {"name": named, "collection": submission.collection})
    target = target.model_copy(update={"metadata": submission.metadata, "dated": submission.dated})
    media_type = media_types.understood(content_type, target.name)
    document_id = await delivery.effect("rag.store_document", **arguments(target, media_type, original))
    logs.info("document_stored", document_id=document_id, tenant_id=delivery.actor.tenant_id, name=target.name)


store_submitted = Consumer(INGESTION_SUBMITTED, _store)


def _submission(event: Event) -> Submission:
    """Return what an event says of its document; with a dataref, or with data that are the document, there need be nothing."""
    if isinstance(event.data, bytes):
        told = {name: event.extensions[name] for name in ("collection",) if name in event.extensions}
        return validate(Submission, told | {"media_type": event.extensions.get("datacontenttype")})
    return validate(Submission, {} if event.data is None and "dataref" in event.extensions else event.data)


def _object(dataref: str | None) -> BucketObject | None:
    """Return the object that an address of the form s3://bucket/key means."""
    if dataref is None or not dataref.startswith("s3://"):
        return None
    parts = urlsplit(dataref)
    return validate(BucketObject, {"bucket": parts.netloc, "key": unquote(parts.path.removeprefix("/"))})


def _inline(event: Event, submission: Submission) -> bytes:
    if isinstance(event.data, bytes):
        return event.data
    if submission.content_base64 is not None:
        try:
            return base64.b64decode(submission.content_base64, validate=True)
        except binascii.Error as error:
            raise Problem("invalid_request", "content_base64: must be base64") from error
    if submission.content is None:
        raise Problem("invalid_request", "The event has no content, and no dataref either.")
    if not is_storable(submission.content):
        raise Problem("undecodable_document", "The document contains NUL characters or lone surrogates: it is no text.")
    return submission.content.encode()
