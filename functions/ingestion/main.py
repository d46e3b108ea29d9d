"""The `ingestion` function: `ingestion` takes documents over HTTP and looks after them, `ingest` takes events."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.ingestion import buckets, collections, documents, indexing, progress, submissions, uploads
from functions.ingestion.media_types import TAKEN
from functions.ingestion.models import (
    Bucket,
    BucketRule,
    Buckets,
    CollectionChange,
    Collections,
    CollectionState,
    Document,
    Documents,
    DocumentText,
    Granting,
    Grants,
    Notified,
    Retried,
)
from shared.events import consume
from shared.http import Operation, application, serves

STREAM = "text/event-stream"
ABOUT = ("query:metadata", "query:dated")

APPLICATION = application(
    "Ingestion",
    [
        Operation(
            "POST",
            "/documents",
            documents.upload,
            "Store a document under a name, replacing an older one, and index it; or the files of a form",
            "documents.write",
            response=Document,
            status=202,
            request_types=(*TAKEN, uploads.FORM),
            parameters=("query:name", "query:collection", *ABOUT),
        ),
        Operation(
            "GET",
            "/documents",
            documents.list_all,
            "How far the documents are, page by page",
            "documents.read",
            response=Documents,
            parameters=(
                "query:collection",
                "query:status",
                "query:prefix",
                "query:metadata",
                "query:cursor",
                "query:limit",
            ),
        ),
        Operation(
            "POST",
            "/documents/retry",
            documents.retry_all,
            "Let all documents of a collection that failed begin anew",
            "documents.write",
            response=Retried,
            status=202,
            parameters=("query:collection",),
        ),
        Operation(
            "GET",
            "/documents/{document_id:uuid}",
            documents.show,
            "What a document is, and how far it is",
            "documents.read",
            response=Document,
        ),
        Operation(
            "DELETE",
            "/documents/{document_id:uuid}",
            documents.delete,
            "Delete a document with its passages and vectors",
            "documents.delete",
            status=204,
            parameters=("header:If-Match",),
        ),
        Operation(
            "GET",
            "/documents/{document_id:uuid}/content",
            documents.content,
            "A document as it came, as a file",
            "documents.read",
            content_type="application/octet-stream",
            parameters=("header:If-None-Match",),
        ),
        Operation(
            "GET",
            "/documents/{document_id:uuid}/text",
            documents.text,
            "The text of a document, or the characters to which a citation points",
            "documents.read",
            response=DocumentText,
            parameters=("query:start", "query:end"),
        ),
        Operation(
            "GET",
            "/documents/{document_id:uuid}/progress",
            progress.follow_document,
            "A document's progress, until it is indexed or has failed",
            "documents.read",
            content_type=STREAM,
            parameters=("header:Last-Event-ID",),
        ),
        Operation(
            "POST",
            "/documents/{document_id:uuid}/retry",
            documents.retry,
            "Let a document that failed begin anew",
            "documents.write",
            response=Document,
            status=202,
        ),
        Operation(
            "PUT",
            "/documents/{collection}/{name:path}",
            documents.put,
            "Store the document of a name, which may have folders in it",
            "documents.write",
            response=Document,
            status=202,
            request_types=TAKEN,
            parameters=(*ABOUT, "header:If-Match", "header:If-None-Match"),
        ),
        Operation(
            "GET",
            "/progress",
            progress.follow_collection,
            "The progress of a collection, or of all, until nothing in it waits",
            "documents.read",
            content_type=STREAM,
            parameters=("query:collection", "header:Last-Event-ID"),
        ),
        Operation(
            "GET",
            "/collections",
            collections.list_all,
            "The collections that the caller may read",
            "collections.read",
            response=Collections,
        ),
        Operation(
            "PUT",
            "/collections/{collection}",
            collections.put,
            "Make a collection (201), or change one",
            "collections.update",
            CollectionChange,
            CollectionState,
        ),
        Operation(
            "DELETE",
            "/collections/{collection}",
            collections.delete,
            "Delete a collection with all documents in it",
            "collections.delete",
            status=204,
        ),
        Operation(
            "GET",
            "/collections/{collection}/grants",
            collections.grants,
            "Who may use a collection",
            "collections.share",
            response=Grants,
        ),
        Operation(
            "PUT",
            "/collections/{collection}/grants",
            collections.share,
            "Say who may use a collection",
            "collections.share",
            Granting,
            Grants,
        ),
        Operation(
            "GET",
            "/buckets",
            buckets.list_all,
            "Which objects of which buckets become documents",
            "buckets.read",
            response=Buckets,
            parameters=("query:tenant_id",),
        ),
        Operation(
            "PUT",
            "/buckets",
            buckets.assign,
            "Say which objects of a bucket become documents of a collection",
            "buckets.update",
            BucketRule,
            Bucket,
        ),
        Operation(
            "DELETE",
            "/buckets",
            buckets.drop,
            "End such a rule; the documents stay",
            "buckets.update",
            status=204,
            parameters=("query:bucket", "query:prefix", "query:tenant_id"),
        ),
        Operation(
            "POST",
            "/buckets/notifications",
            buckets.notify,
            "Take an object store's notification, in S3's shape or EventBridge's",
            "documents.write",
            response=Notified,
            status=202,
        ),
    ],
)


@http
@serves(APPLICATION)
async def ingestion(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION


@http
async def ingest(request: Request) -> Response:
    """Consume ingestion events, and the notifications of object stores, whose types are their sources' own."""
    return await consume(request, submissions.store_submitted, indexing.index_received, buckets.follow)
