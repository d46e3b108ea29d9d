"""Notifications of object stores that ingestion takes: of each shape the members that functions.ingestion.notices reads."""

from typing import Annotated, Literal

from pydantic import Field

from functions.ingestion.notices import MAX_RECORDS
from infra.api_docs.streams import Message
from shared.models import Shape


class StoreBucket(Shape):
    """A bucket."""

    name: str


class StoreObject(Shape):
    """An object; in `Records` its key is URL-encoded, of EventBridge it is plain."""

    key: str
    sequencer: str | None = None


class Place(Shape):
    """Which object of which bucket."""

    bucket: StoreBucket
    object: StoreObject


class Record(Shape):
    """One change, as the CloudEvents adapter for S3 puts it into an event."""

    event_name: Annotated[str, Field(alias="eventName")]
    s3: Place


class Records(Shape):
    """Changes, as S3, MinIO and Ceph send them."""

    records: Annotated[list[Record], Field(alias="Records", max_length=MAX_RECORDS)]


class TestNotice(Shape):
    """What S3 sends when a notification is configured."""

    __test__ = False  # no test of pytest's

    event: Annotated[Literal["s3:TestEvent"], Field(alias="Event")]


class Bridged(Shape):
    """A change, as EventBridge tells it."""

    detail_type: Annotated[str, Field(alias="detail-type")]
    detail: Place


_PLACE = {"bucket": {"name": "company"}, "object": {"key": "docs/travel+2026.md", "sequencer": "0055AED6DCD90281E5"}}
_RECORD = {"eventName": "ObjectCreated:Put", "s3": _PLACE}
NOTIFICATIONS = (
    Message("s3.Records", Records, ({"Records": [_RECORD, {"eventName": "s3:ObjectRemoved:Delete", "s3": _PLACE}]},)),
    Message("s3.Record", Record, (_RECORD,)),
    Message("s3.TestEvent", TestNotice, ({"Event": "s3:TestEvent"},)),
    Message("eventbridge", Bridged, ({"detail-type": "Object Created", "detail": _PLACE},)),
)
