"""Indexing a stored document: extract its text, cut it into chunks, and store them; their vectors are made by `embedding`."""

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from functions.ingestion import tokens
from functions.ingestion.chunking import Chunk, split
from functions.ingestion.documents import FUNCTION
from functions.ingestion.extraction import Extraction, Limits, extract
from shared import logs, metrics
from shared.event_data import IngestionReceived
from shared.events import INGESTION_RECEIVED, Delivery, consumer
from shared.problems import Problem
from shared.settings import Settings, get_settings

LEASE = timedelta(seconds=30)
RENEWALS_A_LEASE = 4


@dataclass
class Work:
    """A claimed version of a document, and how far it is."""

    delivery: Delivery[IngestionReceived]
    worker: str
    stage: str = "extracting"

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


@consumer(INGESTION_RECEIVED, function=FUNCTION, data=IngestionReceived)
async def index_received(delivery: Delivery[IngestionReceived]) -> None:
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
        await _fail(work, problem)
    except Exception as error:
        logs.error("indexing_failed", error, **work.ids())
        if claim["last_attempt"]:
            await _fail(work, Problem("internal_error", "The document could not be indexed for a reason of our own."))
            return
        await work.delivery.call("rag.release_document", **work.lease())
        raise


async def _index(work: Work, claim: dict[str, Any], settings: Settings) -> None:
    """Extract, chunk and store, while another task keeps the lease; the first failure ends all."""
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_lease(work))
            found = await extract(await _original(work), claim["media_type"], claim["name"], _limits(settings))
            await _at(work, "chunking")
            chunks = await asyncio.to_thread(_split, found, claim["name"], settings)
            if not chunks:
                raise Problem("no_text", "The document has headings but no text.")
            keeper.cancel()
            await work.delivery.effect(
                "rag.store_chunks",
                **work.lease(),
                p_body=found.text,
                p_details=json.dumps(_details(found)),
                p_chunks=json.dumps([asdict(chunk) for chunk in chunks]),
            )
    except* Problem as problems:
        raise _first(problems) from None
    tokenizer = _tokenizer(settings).name
    logs.info("document_chunked", chunks=len(chunks), tokenizer=tokenizer, **work.ids())


def _limits(settings: Settings) -> Limits:
    return Limits(
        size_bytes=settings.max_document_bytes,
        seconds=settings.extraction_timeout_seconds,
        memory_bytes=settings.extraction_memory_bytes,
    )


def _split(found: Extraction, name: str, settings: Settings) -> list[Chunk]:
    return split(
        found.text,
        found.format,
        found.pages,
        size_tokens=settings.chunk_size_tokens,
        overlap_tokens=settings.chunk_overlap_tokens,
        tokenizer=_tokenizer(settings),
        # What stands before each chunk when it is embedded: rag.embedded_text.
        name=found.title or name,
    )


def _tokenizer(settings: Settings) -> tokens.Tokenizer:
    return tokens.load(settings.embedding_tokenizer, settings.chunk_size_tokens)


def _details(found: Extraction) -> dict[str, object]:
    """Return what rag.store_chunks keeps beside the text."""
    return {
        "title": found.title,
        "pages": len(found.pages) or None,
        "metadata": found.metadata,
        "dated": _dated(found.metadata),
    }


def _dated(metadata: Mapping[str, str]) -> str | None:
    """Return the date of the content as the file tells it, where it is one; files tell all sorts of things."""
    for name in ("date", "modified", "created"):
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(metadata.get(name, ""))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    return None


async def _original(work: Work) -> bytes:
    """Return the document as it came; raises Problem `lease_lost` when it is not there any more."""
    received = work.delivery.data
    original: bytes | None = await work.delivery.call(
        "rag.read_original", p_document_id=received.document_id, p_version=received.version
    )
    if original is None:
        raise Problem("lease_lost", "The document was replaced or deleted.")
    return original


def _first(problems: ExceptionGroup[Problem]) -> Problem:
    problem = problems.exceptions[0]
    return problem if isinstance(problem, Problem) else _first(problem)


async def _keep_lease(work: Work) -> None:
    """Renew the lease until cancelled; raises Problem `lease_lost` or `foreign_event`."""
    while True:
        await asyncio.sleep(LEASE.total_seconds() / RENEWALS_A_LEASE)
        await _at(work, work.stage)


async def _at(work: Work, stage: str) -> None:
    """Tell at which stage the work is, which renews the lease; raises Problem `lease_lost` or `foreign_event`.

    While the database is away nobody else can take the document either: the work goes on, and is stored if nobody has.
    """
    work.stage = stage
    try:
        await work.delivery.call("rag.renew_document", **work.lease(), p_stage=stage, p_lease=LEASE)
    except (Problem, psycopg.Error) as error:
        if isinstance(error, Problem) and error.code != "database_unavailable":
            raise
        logs.warning("leases_not_renewed", error=type(error).__name__, **work.ids())


async def _fail(work: Work, problem: Problem) -> None:
    metrics.problems().labels(problem.code).inc()
    outcome = await work.delivery.effect(
        "rag.fail_document", **work.lease(), p_code=problem.code, p_detail=problem.detail
    )
    if outcome == "enlarged":
        logs.warning("document_enlarged", code=problem.code, detail=problem.detail, **work.ids())
    else:
        logs.warning("document_failed", code=problem.code, detail=problem.detail, **work.ids())
