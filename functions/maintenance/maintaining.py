"""The tick: SQL makes partitions ahead and forgets what is of no use any more. Vacuuming is PostgreSQL's own daemon's."""

from shared import logs
from shared.events import Event, clock
from shared.runtime import runtime


@clock
async def maintain_daily(event: Event) -> None:
    """Maintain the database; safe to run twice or side by side."""
    database = await runtime.database()
    logs.info("maintained", event_id=event.id, **await database.call("ops.maintain"))
