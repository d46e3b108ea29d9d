"""The tick: SQL finds work whose worker died or whose event was lost; readers of a turn that it failed are told."""

import time

from shared import logs, metrics
from shared.database import Database
from shared.events import Event, clock
from shared.metrics import Sample
from shared.runtime import runtime
from shared.settings import get_settings
from shared.streams import TurnWriter, endings

LAST_ATTEMPT = 1_000_000
"""The sweeper's word is the last, whichever attempt may still write."""


@clock
async def sweep(event: Event) -> None:
    """Sweep the jobs and documents of all tenants; safe to run twice or side by side."""
    database = await runtime.database()
    documents = await database.call("rag.sweep_documents")
    if documents:
        logs.warning("documents_swept", count=documents, event_id=event.id)
    embeddings = await database.call("rag.sweep_embeddings")
    if embeddings:
        logs.warning("embeddings_swept", count=embeddings, event_id=event.id)
    expired = await database.call("budget.expire")
    if expired["count"]:
        logs.warning("reservations_expired", event_id=event.id, **expired)
    if expired["failed"]:
        metrics.problems().labels("reservation_unexpirable").inc(expired["failed"])
    for row in await database.rows("inference.sweep"):
        logs.warning(
            "job_swept",
            turn_id=row["turn_id"],
            tenant_id=row["tenant_id"],
            outcome=row["outcome"],
            code=row["code"],
        )
        if row["outcome"] == "error":
            metrics.problems().labels("job_unsweepable").inc()
        elif row["outcome"] != "emitted":
            metrics.turns().labels(row["outcome"]).inc()
            metrics.problems().labels(row["code"] or "stopped").inc()
            writer = TurnWriter(runtime.redis(), row["turn_id"], LAST_ATTEMPT, get_settings().stream_ttl_seconds)
            for ending in endings(row["turn"]):
                await writer.write(ending.event, ending.data)
    await _measure(database)


async def _measure(database: Database) -> None:
    """Have the platform's state exported, as it is after this sweep."""
    now = Sample("enterprise_agent_swept_timestamp_seconds", "When the sweeper last came to its end", time.time())
    metrics.keep("platform", [now, *(Sample(**row) for row in await database.rows("ops.gauges"))])
