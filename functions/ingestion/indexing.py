"""Indexing a stored document: chunk it, embed the chunks, and put them in place of the older ones, all at once."""

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

from functions.ingestion.chunking import Chunk, split
from functions.ingestion.documents import ACTOR
from functions.ingestion.models import Received
from shared import logs, metrics
from shared.database import Database
from shared.embeddings import embed
from shared.events import Event
from shared.http import validate
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings, get_settings

BATCH = 16
EMBEDDING_TIMEOUT_SECONDS = 60.0
LEASE = timedelta(seconds=120)
"""Longer than one batch may take with its retries; every batch renews it."""
WORKER = f"{os.environ.get('HOSTNAME', 'local')}/{os.getpid()}"


@dataclass(frozen=True)
class Work:
    """A claimed version of a document."""

    principal: Principal
    document_id: UUID
    version: int
    event: Event

    def lease(self) -> dict[str, object]:
        """Return the arguments that identify the lease."""
        return {"p_document_id": self.document_id, "p_version": self.version, "p_worker": WORKER}

    def consumed(self) -> dict[str, object]:
        """Return the arguments that mark the event as consumed."""
        return {"p_event_source": self.event.source, "p_event_id": self.event.id}


async def index_received(event: Event) -> None:
    """Index the version of the document that the event names; done before, replaced or deleted is done."""
    received = validate(Received, event.data)
    work = Work(event.principal(ACTOR), received.document_id, received.version, event)
    database = await runtime.database()
    claim = await database.call("rag.claim_document", work.principal, **work.lease(), p_lease=LEASE)
    if claim["outcome"] == "busy":
        raise Problem("in_progress", "Another worker indexes this document.")
    if claim["outcome"] == "done":
        return
    settings = get_settings()
    try:
        chunks = await asyncio.to_thread(
            split,
            claim["content"],
            claim["media_type"],
            size_tokens=settings.chunk_size_tokens,
            overlap_tokens=settings.chunk_overlap_tokens,
        )
        if not chunks:
            raise Problem("undecodable_document", "The document has headings but no text.")
        vectors = await _embed(database, work, claim["name"], chunks, settings)
    except Problem as problem:
        if problem.code in {"lease_lost", "database_unavailable"}:
            raise
        await _fail(database, work, problem)
        return
    rows = [asdict(chunk) | {"embedding": vector} for chunk, vector in zip(chunks, vectors, strict=True)]
    await database.call(
        "rag.index_document", work.principal, **work.lease(), **work.consumed(), p_chunks=json.dumps(rows)
    )
    logs.info(
        "document_indexed",
        document_id=work.document_id,
        tenant_id=work.principal.tenant_id,
        chunks=len(chunks),
    )


async def _embed(database: Database, work: Work, name: str, chunks: list[Chunk], settings: Settings) -> list[str]:
    """Return the chunks' vectors, several batches at a time, reporting progress after each."""
    places = asyncio.Semaphore(settings.background_worker_concurrency)
    finished = 0

    async def embed_batch(batch: list[Chunk]) -> list[str]:
        nonlocal finished
        async with places:
            texts = [f"{name} {chunk.heading}\n{chunk.content}" for chunk in batch]
            vectors = await embed(texts, settings, timeout_seconds=EMBEDDING_TIMEOUT_SECONDS)
            finished += len(batch)
            await _report(database, work, len(chunks), finished)
            return vectors

    await _report(database, work, len(chunks), 0)
    batches = [chunks[i : i + BATCH] for i in range(0, len(chunks), BATCH)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(embed_batch(batch)) for batch in batches]
    except* Problem as problems:
        raise _first(problems) from None
    return [vector for task in tasks for vector in task.result()]


def _first(problems: ExceptionGroup[Problem]) -> Problem:
    problem = problems.exceptions[0]
    return problem if isinstance(problem, Problem) else _first(problem)


async def _report(database: Database, work: Work, total: int, finished: int) -> None:
    await database.call(
        "rag.report_progress",
        work.principal,
        **work.lease(),
        p_total=total,
        p_embedded=finished,
        p_lease=LEASE,
    )


async def _fail(database: Database, work: Work, problem: Problem) -> None:
    metrics.problems().labels(problem.code).inc()
    logs.warning(
        "document_failed",
        document_id=work.document_id,
        tenant_id=work.principal.tenant_id,
        code=problem.code,
        detail=problem.detail,
    )
    await database.call(
        "rag.fail_document",
        work.principal,
        **work.lease(),
        **work.consumed(),
        p_code=problem.code,
        p_detail=problem.detail,
    )
