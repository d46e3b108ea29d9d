"""The data of the platform's own CloudEvents: what consumers read, and what docs/asyncapi.json promises to whoever subscribes.

`ingestion.submitted` alone has its model with the function that takes it, because it says what an upload says.
"""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from shared.models import Shape


class InferenceRequested(Shape):
    """The data of `inference.requested`: a job waits for a worker, or did."""

    job_id: UUID
    turn_id: UUID


class DocumentVersion(Shape):
    """A version of a document."""

    document_id: UUID
    version: int = Field(ge=1, lt=2**31)


class IngestionReceived(DocumentVersion):
    """The data of `ingestion.received`: a stored document waits for its indexing."""


class EmbeddingRequested(DocumentVersion):
    """The data of `embedding.requested`: chunks of this version of a document wait, or did."""


class NamedDocument(DocumentVersion):
    """A version of a document, and where it belongs."""

    name: str
    collection: str | None = None
    """Absent when the collection has gone meanwhile."""


class IngestionIndexed(NamedDocument):
    """The data of `ingestion.indexed`: searches find this version from now on."""

    chunks: int
    chunks_failed: int
    """Passages that only text search finds."""
    error_code: str | None = None
    """Why passages have no vector."""


class IngestionFailed(NamedDocument):
    """The data of `ingestion.failed`: this version will not be found; an older one stays as it is."""

    chunks: int
    chunks_failed: int
    error_code: str
    """A code of docs/api.md."""


class DocumentDeleted(NamedDocument):
    """The data of `document.deleted`: the document is gone, with its passages and vectors."""


class BudgetReached(Shape):
    """The data of `budget.reached`: a balance has used so much of its limit, for the first time in its period."""

    scope: Literal["tenant", "user", "api_key"]
    holder_id: UUID
    """The tenant, the user or the API key."""
    period: Literal["day", "month"]
    starts_on: date
    percent: Literal[80, 100]
    limit: int
    """In tokens, as `settled`, `reserved` and `remaining` are."""
    settled: int
    reserved: int
    remaining: int
    resets_at: datetime
    cost_limit: int | None = None
    """In millionths of the currency, where there is a limit in money; so are the other `cost_` members."""
    cost_settled: int | None = None
    cost_reserved: int | None = None
    cost_remaining: int | None = None
