"""Working off a tenant's queue of chunks: lease a batch, embed it, store it, until none is left.

An event means that there is work for its tenant. It names one document, by which it is known when the event is dealt with:
as long as chunks of that document wait, in whoever's hands, it is to come again.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from functions.embedding.batch import Chunk, embed_batch
from shared import logs, metrics
from shared.embeddings import Model
from shared.event_data import EmbeddingRequested
from shared.events import EMBEDDING_REQUESTED, Delivery, consumer
from shared.problems import Problem
from shared.settings import get_settings

FUNCTION = "embedding"
BATCH_CHUNKS = 32
BATCH_TOKENS = 8192
LEASE = timedelta(seconds=20)
RENEWALS_A_LEASE = 4
LONGEST_SECONDS = 60.0
"""An event is worked on for so long; then other events get the process, those of other tenants among them."""
EXHAUSTED = Problem("attempts_exhausted", "Whoever embedded the passage died of it, again and again.")


class Shift:
    """One event's work: lanes side by side that take batches as long as there are any."""

    def __init__(self, delivery: Delivery[EmbeddingRequested]) -> None:
        self._delivery = delivery
        # Each delivery is a worker of its own: the same event may come twice to one process.
        self._worker = f"{os.environ.get('HOSTNAME', 'local')}/{os.getpid()}/{uuid4().hex[:8]}"
        self._ends_at = time.monotonic() + LONGEST_SECONDS
        self._lanes: set[asyncio.Task[None]] = set()
        self._held: set[str] = set()
        self._outcome = ""
        self._unavailable: Problem | None = None

    async def run(self) -> None:
        """Work until nothing is due, the endpoint is away, or the time is over; raises Problem and psycopg.Error."""
        self._open_lane()
        keeper = asyncio.create_task(self._keep_leases())
        try:
            while self._lanes:
                done, _ = await asyncio.wait(self._lanes, return_when=asyncio.FIRST_COMPLETED)
                self._lanes -= done
                for lane in done:
                    lane.result()
        finally:
            for task in (keeper, *self._lanes):
                task.cancel()
            await asyncio.gather(keeper, *self._lanes, return_exceptions=True)
        if self._unavailable is not None:
            raise self._unavailable
        if self._outcome == "busy":
            raise Problem("in_progress", "Chunks of the document are in other hands, or wait for another attempt.")
        if self._outcome != "done":
            await self._delivery.effect("rag.pass_on_embeddings")

    def _open_lane(self) -> None:
        self._lanes.add(asyncio.create_task(self._lane()))

    async def _lane(self) -> None:
        while self._unavailable is None and time.monotonic() < self._ends_at:
            async with _places():
                claim = await self._claim()
                # The last claim's word counts. That of another lane may arrive later, but what is done stays done.
                self._outcome = "done" if self._outcome == "done" else claim["outcome"]
                if claim["outcome"] != "claimed":
                    return
                model, chunks = Model(**claim["model"]), [Chunk(**chunk) for chunk in claim["chunks"]]
                if len(chunks) == BATCH_CHUNKS and len(self._lanes) < get_settings().background_worker_concurrency:
                    self._open_lane()
                ids = {chunk.id for chunk in chunks}
                self._held |= ids
                try:
                    await self._embed(model, chunks)
                finally:
                    self._held -= ids

    async def _embed(self, model: Model, chunks: Sequence[Chunk]) -> None:
        results = [chunk.failure(EXHAUSTED) for chunk in chunks if chunk.exhausted]
        tried = [chunk for chunk in chunks if not chunk.exhausted]
        try:
            results += await embed_batch(tried, model) if tried else []
        except Problem as problem:
            results += [chunk.failure(problem) for chunk in tried if chunk.last]
            if returned := [chunk.id for chunk in tried if not chunk.last]:
                self._unavailable = problem
                await self._delivery.call(
                    "rag.return_embeddings",
                    p_worker=self._worker,
                    p_model_id=model.id,
                    p_chunk_ids=returned,
                    p_code=problem.code,
                    p_detail=problem.detail,
                )
        if results:
            await self._store(model, results)

    async def _claim(self) -> dict[str, Any]:
        claim: dict[str, Any] = await self._delivery.effect(
            "rag.claim_embeddings",
            p_worker=self._worker,
            p_lease=LEASE,
            p_limit=BATCH_CHUNKS,
            p_tokens=BATCH_TOKENS,
            **self._named(),
        )
        return claim

    async def _store(self, model: Model, results: list[dict[str, Any]]) -> None:
        stored = await self._delivery.effect(
            "rag.store_embeddings",
            p_worker=self._worker,
            p_model_id=model.id,
            p_results=Jsonb(results),
            **self._named(),
        )
        tenant = self._delivery.actor.tenant_id
        for code, count in Counter(result["error_code"] for result in results if "error_code" in result).items():
            metrics.problems().labels(code).inc(count)
            logs.warning("chunks_failed", tenant_id=tenant, code=code, count=count, model=model.name)
        for document in stored["ended"]:
            if document["status"] == "failed":
                logs.warning("document_failed", tenant_id=tenant, **document)
            else:
                logs.info("document_indexed", tenant_id=tenant, **document)

    def _named(self) -> dict[str, object]:
        """Return the arguments that name the event's document."""
        return {"p_document_id": self._delivery.data.document_id, "p_version": self._delivery.data.version}

    async def _keep_leases(self) -> None:
        """Renew the leases of what the lanes have in hand, until cancelled."""
        while True:
            await asyncio.sleep(LEASE.total_seconds() / RENEWALS_A_LEASE)
            # While the database is away nobody else can take the chunks either.
            with suppress(Problem, psycopg.Error):
                await self._delivery.call(
                    "rag.renew_embeddings", p_worker=self._worker, p_chunk_ids=list(self._held), p_lease=LEASE
                )


@consumer(EMBEDDING_REQUESTED, function=FUNCTION, data=EmbeddingRequested)
async def embed_requested(delivery: Delivery[EmbeddingRequested]) -> None:
    """Embed what waits for the event's tenant; raises Problem `in_progress` while others have the rest of its document."""
    await Shift(delivery).run()


_requests: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None


def _places() -> asyncio.Semaphore:
    """Return what bounds the requests that are under way in this process, for whichever events."""
    global _requests  # noqa: PLW0603 - a process has one
    loop = asyncio.get_running_loop()
    if _requests is None or _requests[0] is not loop:
        _requests = loop, asyncio.Semaphore(get_settings().background_worker_concurrency)
    return _requests[1]
