"""Notifications of object stores, in the shapes that AWS and MinIO document (tests/data/bucket)."""

import json
from pathlib import Path
from typing import Any

import pytest

from functions.ingestion.models import BucketObject
from functions.ingestion.notices import read
from shared.problems import Problem

SAMPLES = Path(__file__).parent.parent / "data" / "bucket"
FLOWER = "docs/red flower & grüße+1.md"
EXPECTED = {
    "aws_put": [("company", FLOWER, False, "0055AED6DCD90281E5")],
    "aws_delete": [("company", FLOWER, True, "0055AED6DCD90281E6")],
    "aws_test": [],
    "minio_put": [("company", "docs/manual.md", False, "17B1C2A1F18A2C40")],
    "minio_delete": [("company", "docs/manual.md", True, "17B1C2BE9AE1A5B8")],
    "eventbridge_created": [("company", "docs/red flower+1.md", False, "617f08299329d189")],
    "eventbridge_deleted": [("company", "docs/red flower+1.md", True, "617f0837b476e463")],
}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def told(objects: list[BucketObject]) -> list[tuple[str, str, bool, str | None]]:
    return [(thing.bucket, thing.key, thing.removed, thing.sequencer) for thing in objects]


def test_every_sample_is_expected() -> None:
    assert {path.stem for path in SAMPLES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_stores_notification_is_understood(name: str) -> None:
    assert told(read(sample(name))) == EXPECTED[name]


def test_a_record_alone_is_one_too() -> None:
    assert told(read(sample("aws_put")["Records"][0])) == EXPECTED["aws_put"]


def test_several_records_keep_their_order() -> None:
    records = [sample(name)["Records"][0] for name in ("aws_put", "minio_put", "aws_delete")]
    assert [thing.removed for thing in read({"Records": records})] == [False, False, True]


@pytest.mark.parametrize(
    ("event", "removed"),
    [
        ("s3:ObjectCreated:CompleteMultipartUpload", False),
        ("ObjectCreated:Copy", False),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("LifecycleExpiration:Delete", True),
    ],
)
def test_every_way_to_come_and_go_counts(event: str, removed: bool) -> None:
    record = sample("aws_put")["Records"][0] | {"eventName": event}
    assert [thing.removed for thing in read(record)] == [removed]


@pytest.mark.parametrize("event", ["s3:ObjectAccessed:Get", "ObjectTagging:Put", "s3:Replication:OperationNotTracked"])
def test_what_changes_no_content_is_of_no_interest(event: str) -> None:
    assert read(sample("minio_put")["Records"][0] | {"eventName": event}) == []
    assert read(sample("eventbridge_created") | {"detail-type": "Object Tags Added"}) == []


RUBBISH: dict[str, object] = {
    "nothing": None,
    "a text": "ObjectCreated:Put",
    "a list": [],
    "an empty object": {},
    "no list of records": {"Records": {}},
    "a record that is none": {"Records": [5]},
    "too many records": {"Records": [{}] * 1001},
    "no key": {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {}}},
    "no bucket": {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "k"}}},
    "a key that is no text": {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": 5}}},
    "a key that is no UTF-8": {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "%ff"}},
    },
    "a key with NUL": {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "%00"}}},
    "a name that is no text": {"eventName": 5, "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}},
    "a bucket that is no text": {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": {}}, "object": {"key": "k"}},
    },
    "an odd sequencer": {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "k", "sequencer": "xyz"}},
    },
    "no detail": {"detail-type": "Object Created", "source": "aws.s3"},
    "a detail that is none": {"detail-type": "Object Created", "detail": [1]},
    "a detail without a key": {"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {}}},
    "a type that is no text": {"detail-type": [], "detail": {"bucket": {"name": "b"}, "object": {"key": "k"}}},
}


@pytest.mark.parametrize("document", RUBBISH.values(), ids=RUBBISH.keys())
def test_what_is_no_notification_is_refused(document: object) -> None:
    with pytest.raises(Problem) as raised:
        read(document)
    assert raised.value.code == "invalid_request"
