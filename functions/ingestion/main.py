"""The `ingestion` function: `ingestion` takes documents over HTTP and tells how far they are, `ingest` takes events."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.ingestion import documents, indexing
from functions.ingestion.models import Document, Documents
from shared.events import consume
from shared.http import Operation, application

APPLICATION = application(
    "Ingestion",
    [
        Operation(
            "POST",
            "/documents",
            documents.upload,
            "Store a text under a name, replacing an older one, and index it",
            "documents.write",
            response=Document,
            status=202,
            request_types=tuple(documents.MEDIA_TYPES),
            parameters=("query:name", "query:collection"),
        ),
        Operation(
            "GET",
            "/documents",
            documents.list_all,
            "How far the documents are",
            "documents.read",
            response=Documents,
            parameters=("query:collection",),
        ),
        Operation(
            "GET",
            "/documents/{document_id:uuid}",
            documents.show,
            "How far a document is",
            "documents.read",
            response=Document,
        ),
    ],
)


@http
async def ingestion(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION


@http
async def ingest(request: Request) -> Response:
    """Consume ingestion events."""
    return await consume(request, documents.store_submitted, indexing.index_received)
