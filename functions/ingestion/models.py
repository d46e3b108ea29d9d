"""The shapes of the ingestion function's requests, answers and events."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from shared.models import Shape

Collection = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$")]


class Target(Shape):
    """Where a document belongs."""

    collection: Collection = "default"
    name: Name


class Listing(Shape):
    """Which documents to list."""

    collection: Collection | None = None


class Submission(Target):
    """The data of `ingestion.submitted`: a whole document inside an event."""

    model_config = ConfigDict(extra="forbid")

    media_type: str = "text/markdown"
    content: str = Field(min_length=1)


class Received(Shape):
    """The data of `ingestion.received`: a stored document waits for its indexing."""

    document_id: UUID
    version: int = Field(ge=1, lt=2**31)


class Document(Shape):
    """How far a document is."""

    id: UUID
    collection: str
    name: str
    media_type: str
    version: int
    status: Literal["received", "processing", "indexed", "failed"]
    stage: Literal["received", "extracting", "chunking", "embedding", "indexed"]
    chunks_total: int
    chunks_embedded: int
    chunks_failed: int
    error_code: str | None
    error_detail: str | None
    created_at: datetime
    updated_at: datetime


class Documents(Shape):
    """The documents of a tenant, or of one collection."""

    documents: list[Document]
