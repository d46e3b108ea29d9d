"""Notifications of object stores, in the shapes in which they come.

- S3's own, which MinIO, Ceph and others send as well: `{"Records": [{"eventName", "s3": {"bucket", "object"}}]}`, or one such
  record alone, which is how the CloudEvents adapter for S3 and Knative's sources put it into an event. Keys are URL-encoded.
- EventBridge's: `{"detail-type": "Object Created", "source": "aws.s3", "detail": {"bucket", "object"}}`. Keys are plain.

Sources: "Event message structure" and "EventBridge event message structure", Amazon S3 User Guide; adapters/aws-s3.md of the
CloudEvents specification; "Publish events to webhook", MinIO's documentation.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from functions.ingestion.models import BucketObject
from shared.http import validate
from shared.problems import Problem

MAX_RECORDS = 1000
CREATED = ("ObjectCreated:", "ObjectRestore:Completed")
REMOVED = ("ObjectRemoved:", "LifecycleExpiration:")
BRIDGED = {"Object Created": False, "Object Restore Completed": False, "Object Deleted": True}
"""Whether the object is gone."""


def read(document: object) -> list[BucketObject]:
    """Return the objects that a notification says have come or gone; what else it tells is of no interest.

    Raises Problem `invalid_request` for what is no notification.
    """
    if not isinstance(document, Mapping):
        raise _unknown()
    found = list(_bridged(document) if "detail-type" in document else _recorded(document))
    return [validate(BucketObject, one) for one in found]


def _recorded(document: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    if document.get("Event") == "s3:TestEvent":
        return  # what S3 sends when a notification is configured
    records = document.get("Records", [document])
    if not isinstance(records, list) or len(records) > MAX_RECORDS:
        raise _unknown()
    for record in records:
        try:
            name, entity = record["eventName"].removeprefix("s3:"), record["s3"]
            bucket, thing = entity["bucket"]["name"], entity["object"]
            key = unquote_plus(thing["key"], errors="strict")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _unknown() from error
        if name.startswith((*CREATED, *REMOVED)):
            yield _object(bucket, key, thing, removed=name.startswith(REMOVED))


def _bridged(document: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    try:
        removed, detail = BRIDGED.get(document["detail-type"]), document["detail"]
        bucket, thing = detail["bucket"]["name"], detail["object"]
        key = thing["key"]
    except (KeyError, TypeError) as error:
        raise _unknown() from error
    if removed is not None:
        yield _object(bucket, key, thing, removed=removed)


def _object(bucket: object, key: str, thing: Mapping[str, Any], *, removed: bool) -> dict[str, object]:
    return {"bucket": bucket, "key": key, "removed": removed, "sequencer": thing.get("sequencer") or None}


def _unknown() -> Problem:
    return Problem(
        "invalid_request", "This is no notification of a bucket: neither S3's Records nor EventBridge's detail."
    )
