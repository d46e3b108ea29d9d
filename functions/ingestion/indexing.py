"""Indexing a stored document: chunk it, embed the chunks, and put them in place of the older ones, all at once."""

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from functions.ingestion import tokens
from functions.ingestion.chunking import Chunk, split
from functions.ingestion.documents import FUNCTION
from functions.ingestion.models import Received
from shared import logs, metrics
from shared.embeddings import embed
from shared.events import INGESTION_RECEIVED, Delivery, consumer
from shared.problems import Problem
from shared.settings import Settings, get_settings

BATCH = 16
EMBEDDING_TIMEOUT_SECONDS = 60.0
LEASE = timedelta(seconds=30)
RENEWALS_A_LEASE = 4
PASSING = frozenset({"embedding_unavailable"})
"""Failures that may pass: the document is tried again, up to its attempt limit."""


@dataclass
class Work:
    """A claimed version of a document, and how far it is."""

    delivery: Delivery[Received]
    worker: str
    total: int = 0
    finished: int = 0

    def lease(self) -> dict[str, object]:
        """Return the arguments that identify the lease."""
        received = self.delivery.data
        return {"p_document_id": received.document_id, "p_version": received.version, "p_worker": self.worker}

    def ids(self) -> dict[str, object]:
        """Return what a log line needs."""
        received = self.delivery.data
        return {
            "document_id": received.document_id,
            "tenant_id": self.delivery.actor.tenant_id,
            "version": received.version,
        }


@consumer(INGESTION_RECEIVED, function=FUNCTION, data=Received)
async def index_received(delivery: Delivery[Received]) -> None:
    """Index the version of the document that the event names; done before, replaced or deleted is done."""
    # Each delivery is a worker of its own: the same event may come twice to one process.
    worker = f"{os.environ.get('HOSTNAME', 'local')}/{os.getpid()}/{uuid4().hex[:8]}"
    work = Work(delivery, worker)
    claim = await delivery.claim("rag.claim_document", **work.lease(), p_lease=LEASE)
    if claim is None:
        return
    try:
        await _index(work, claim, get_settings())
    except Problem as problem:
        if problem.code in {"lease_lost", "database_unavailable"}:
            raise
        if problem.code in PASSING and not claim["last_attempt"]:
            await work.delivery.call("rag.release_document", **work.lease())
            raise
        await _fail(work, problem)
    except Exception as error:
        logs.error("indexing_failed", error, **work.ids())
        if claim["last_attempt"]:
            await _fail(work, Problem("internal_error", "The document could not be indexed for a reason of our own."))
            return
        await work.delivery.call("rag.release_document", **work.lease())
        raise


async def _index(work: Work, claim: dict[str, Any], settings: Settings) -> None:
    """Chunk, embed and store, while another task keeps the lease and reports progress; the first failure ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_lease(work))
            text = (await _original(work)).decode()
            chunks = await asyncio.to_thread(_split, text, claim, settings)
            if not chunks:
                raise Problem("undecodable_document", "The document has headings but no text.")
            vectors = await _embed(group, work, claim["name"], chunks, settings)
            rows = [asdict(chunk) | {"embedding": vector} for chunk, vector in zip(chunks, vectors, strict=True)]
            keeper.cancel()
            await work.delivery.effect("rag.index_document", **work.lease(), p_body=text, p_chunks=json.dumps(rows))
    except* Problem as problems:
        raise _first(problems) from None
    tokenizer = _tokenizer(settings).name
    logs.info("document_indexed", chunks=len(chunks), tokenizer=tokenizer, **work.ids())


async def _original(work: Work) -> bytes:
    """Return the document as it came; raises Problem `lease_lost` when it is not there any more."""
    received = work.delivery.data
    original: bytes | None = await work.delivery.call(
        "rag.read_original", p_document_id=received.document_id, p_version=received.version
    )
    if original is None:
        raise Problem("lease_lost", "The document was replaced or deleted.")
    return original


def _split(text: str, claim: dict[str, Any], settings: Settings) -> list[Chunk]:
    return split(
        text,
        claim["media_type"],
        (),
        size_tokens=settings.chunk_size_tokens,
        overlap_tokens=settings.chunk_overlap_tokens,
        tokenizer=_tokenizer(settings),
        name=claim["name"],
    )


def _tokenizer(settings: Settings) -> tokens.Tokenizer:
    return tokens.load(settings.embedding_tokenizer, settings.chunk_size_tokens)


async def _embed(group: asyncio.TaskGroup, work: Work, name: str, chunks: list[Chunk], settings: Settings) -> list[str]:
    """Return the chunks' vectors, several batches at a time, reporting progress after each."""
    places = asyncio.Semaphore(settings.background_worker_concurrency)

    async def embed_batch(batch: list[Chunk]) -> list[str]:
        async with places:
            texts = [f"{name} {chunk.heading}\n{chunk.content}" for chunk in batch]
            vectors = await embed(texts, settings, timeout_seconds=EMBEDDING_TIMEOUT_SECONDS)
            work.finished += len(batch)
            await _report(work)
            return vectors

    work.total = len(chunks)
    await _report(work)
    tasks = [group.create_task(embed_batch(chunks[i : i + BATCH])) for i in range(0, len(chunks), BATCH)]
    return [vector for task in tasks for vector in await task]


def _first(problems: ExceptionGroup[Problem]) -> Problem:
    problem = problems.exceptions[0]
    return problem if isinstance(problem, Problem) else _first(problem)


async def _keep_lease(work: Work) -> None:
    """Renew the lease until cancelled; raises Problem `lease_lost`."""
    while True:
        await asyncio.sleep(LEASE.total_seconds() / RENEWALS_A_LEASE)
        await _report(work)


async def _report(work: Work) -> None:
    await work.delivery.call(
        "rag.report_progress",
        **work.lease(),
        p_total=work.total,
        p_embedded=work.finished,
        p_lease=LEASE,
    )


async def _fail(work: Work, problem: Problem) -> None:
    metrics.problems().labels(problem.code).inc()
    logs.warning("document_failed", code=problem.code, detail=problem.detail, **work.ids())
    await work.delivery.effect("rag.fail_document", **work.lease(), p_code=problem.code, p_detail=problem.detail)
