"""The shapes of the ingestion function's requests, answers and events."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from shared.models import Body, Shape, in_utc, otherwise
from shared.text import Text, is_storable

MAX_PAGE = 1000
MAX_METADATA = 50
MAX_METADATA_CHARS = 1000


def _relative(name: str) -> str:
    """Return a name that may have folders in it, and leads nowhere else."""
    if not is_storable(name) or any(segment.strip() in {"", ".", ".."} for segment in name.split("/")) or "\\" in name:
        raise ValueError("must be a relative path without empty parts, '.', '..' or backslashes")
    return name


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain NUL characters or lone surrogates")
    return text


def _parsed(value: object) -> object:
    """Return metadata, which are JSON in an address or a form."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("must be a JSON object") from error


Collection = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$"), AfterValidator(_relative)
]
Storable = Annotated[str, AfterValidator(_storable)]
"""As Text, and it may be empty."""
Key = Annotated[Text, Field(max_length=100)]
Value = Annotated[
    Annotated[Text, Field(max_length=MAX_METADATA_CHARS)] | int | Annotated[float, Field(allow_inf_nan=False)] | bool,
    otherwise(f"must be a text of 1 to {MAX_METADATA_CHARS} characters, a finite number, true or false"),
]
Metadata = Annotated[dict[Key, Value], Field(max_length=MAX_METADATA), BeforeValidator(_parsed)]
Dated = Annotated[datetime, AfterValidator(in_utc)]


class About(Shape):
    """What is said of a document besides its content."""

    metadata: Metadata | None = None
    dated: Dated | None = None


class Target(About):
    """Where a document belongs."""

    collection: Collection = "default"
    name: Name


class Address(About):
    """Where a document belongs, as a path names it."""

    collection: Collection
    name: Name


class Form(About):
    """The fields of a form with files."""

    collection: Collection = "default"


class Listing(Shape):
    """Which documents to list."""

    collection: Collection | None = None
    status: Literal["received", "processing", "indexed", "failed"] | None = None
    prefix: Annotated[Text, Field(max_length=255)] | None = None
    metadata: Metadata | None = None
    cursor: Annotated[Text, Field(max_length=400)] | None = None
    """`next_cursor` of the page before."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100


class Range(Shape):
    """Which characters of a text: from `start` (0: the first) up to `end`."""

    start: Annotated[int, Field(ge=0, lt=2**31 - 1)] = 0
    end: Annotated[int, Field(ge=0, lt=2**31 - 1)] | None = None


class WatchedCollection(Shape):
    """Whose progress to follow."""

    collection: Collection | None = None


class BucketObject(Shape):
    """An object of a bucket, of which a notification tells that it has changed."""

    bucket: Annotated[Text, Field(max_length=255)]
    key: Annotated[Storable, Field(min_length=1, max_length=1024)]
    removed: bool = False
    sequencer: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{1,64}$")] | None = None
    """Rises with each change of the object: notifications come in any order."""


class Submission(About):
    """The data of `ingestion.submitted`: a whole document inside an event, or what tells where it is."""

    model_config = ConfigDict(extra="forbid")

    collection: Collection = "default"
    name: Name | None = None
    """By default the event's subject, or else the last part of its dataref."""
    media_type: Annotated[Text, Field(max_length=200)] | None = None
    """By default by the name's suffix, or of a dataref as its server says."""
    content: Annotated[str, Field(min_length=1)] | None = None
    content_base64: Annotated[str, Field(min_length=1)] | None = None
    object: BucketObject | None = None

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        if sum(given is not None for given in (self.content, self.content_base64, self.object)) > 1:
            raise ValueError("one of content, content_base64 and object")
        return self


class Document(Shape):
    """What a document is, and how far it is."""

    id: UUID
    collection: str
    name: str
    title: str
    """What the document calls itself; empty when it does not."""
    media_type: str
    language: str | None
    metadata: dict[str, Any]
    dated: datetime | None
    size_bytes: int
    sha256: str
    version: int
    live_version: int | None
    """The version that searches see."""
    status: Literal["received", "processing", "indexed", "failed"]
    stage: Literal["received", "extracting", "chunking", "embedding", "indexed"]
    """Where the work stands, or where it stopped."""
    pages: int | None
    chunks_total: int
    chunks_embedded: int
    chunks_failed: int
    """Passages that only text search finds."""
    remaining_seconds: int | None
    """None: not known."""
    error_code: str | None
    error_detail: str | None
    advice: str | None
    """What to do about the failure."""
    attempts: int
    duplicate_of: UUID | None
    """An older document of the collection with the same bytes."""
    created_at: datetime
    received_at: datetime
    stage_at: datetime
    finished_at: datetime | None
    updated_at: datetime
    etag: str


class Counts(Shape):
    """How many documents are how far."""

    received: int
    processing: int
    indexed: int
    failed: int


class Documents(Shape):
    """A page of documents, by collection and name."""

    documents: list[Document]
    next_cursor: str | None
    """None: this is the last page."""
    counts: Counts
    """Of all pages and states."""


class Outcome(Shape):
    """What became of one file of a form."""

    name: str | None
    status: int
    document: Document | None = None
    problem: dict[str, Any] | None = None


class Uploaded(Shape):
    """What became of the files of a form."""

    files: list[Outcome]


class DocumentText(Shape):
    """Some of a document's text."""

    document_id: UUID
    version: int
    start: int
    length: int
    """Of the whole text, in characters."""
    text: str


class Retried(Shape):
    """How many documents begin anew."""

    documents: int


class Named(Shape):
    """A collection that a path names."""

    collection: Collection


class CollectionChange(Body):
    """What a collection is to be; what is left out stays."""

    description: Annotated[Storable, Field(max_length=2000)] | None = None
    visibility: Literal["tenant", "restricted"] | None = None


class CollectionState(Shape):
    """A collection."""

    name: str
    description: str
    visibility: Literal["tenant", "restricted"]
    created_by: UUID | None
    """None: an upload has made it."""
    created_at: datetime
    access: Literal["read", "write", "manage"]
    """The caller's, as far as the caller's roles allow."""
    documents: Counts


class Collections(Shape):
    """The collections that the caller may read."""

    collections: list[CollectionState]


class Grant(Body):
    """Who may use a collection: a user, whoever has a group, or whoever has a role."""

    user: UUID | None = None
    group: Annotated[Text, Field(max_length=255)] | None = None
    role: Literal["platform_admin", "tenant_admin", "member", "viewer", "auditor", "service"] | None = None
    access: Literal["read", "write"]

    @model_validator(mode="after")
    def _is_for_one(self) -> Self:
        if sum(given is not None for given in (self.user, self.group, self.role)) != 1:
            raise ValueError("one of user, group and role")
        return self


class Granting(Body):
    """Everybody who may use a collection besides its creator and the tenant's administrators."""

    grants: list[Grant] = Field(max_length=1000)


class Grants(Shape):
    """To whom a collection is granted."""

    collection: str
    visibility: Literal["tenant", "restricted"]
    grants: list[Grant]


class BucketRule(Body):
    """Objects of a bucket whose keys begin so are documents of a collection; by default of the caller's tenant."""

    bucket: Annotated[Text, Field(max_length=255)]
    prefix: Annotated[Storable, Field(max_length=1024)] = ""
    collection: Collection = "default"
    tenant_id: UUID | None = None


class BucketPlace(Shape):
    """Which rule to end."""

    bucket: Annotated[Text, Field(max_length=255)]
    prefix: Annotated[Storable, Field(max_length=1024)] = ""
    tenant_id: UUID | None = None


class OfTenant(Shape):
    """Whose rules to list; by default the caller's tenant's."""

    tenant_id: UUID | None = None


class Bucket(Shape):
    """A rule."""

    tenant_id: UUID
    bucket: str
    prefix: str
    collection: str
    assigned: bool
    """By the platform's administrator."""
    created_at: datetime


class Buckets(Shape):
    """The rules of a tenant."""

    buckets: list[Bucket]


class Notified(Shape):
    """How many objects of a notification are the tenant's."""

    accepted: int
