"""The tick: SQL forgets what is of no use any more and makes partitions ahead. Vacuuming is PostgreSQL's own daemon's."""

from shared import logs
from shared.events import Event, clock
from shared.runtime import runtime


@clock
async def maintain_daily(event: Event) -> None:
    """Maintain the database; safe to run twice or side by side."""
    database = await runtime.database()
    removed = await database.call("ops.maintain")
    logs.info("maintained", event_id=event.id, **removed)
    # Last, and in a transaction of its own: it fails while somebody reads the ledger for long, as a backup does.
    partitions = await database.call("ops.make_partitions")
    if partitions:
        logs.info("partitions_made", event_id=event.id, count=partitions)
