"""The relay: carries events from the outbox to the broker. A Knative ContainerSource: `python -m functions.relay.main`.

It claims a batch, posts each event in binary mode to K_SINK, and acknowledges what the broker accepted. A relay that dies
loses nothing: its lease ends, and the events are due again. Several may run side by side.
"""

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from aiohttp import ClientError, ClientSession, ClientTimeout

from shared import guards, logs
from shared.database import Database
from shared.problems import Problem
from shared.settings import get_settings
from shared.text import storable

BATCH = 100
LEASE = timedelta(seconds=30)
POST_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 1.0
"""The notification is a hint and may be missed; so often the outbox is looked at anyway."""
RECONNECT_SECONDS = 1.0
READ = ("environment", "database_url")
"""The variables of the platform that a relay reads."""
ACCEPTED = range(200, 300)
UNSENDABLE = 400


def attributes(event: dict[str, Any], overrides: dict[str, str]) -> dict[str, str]:
    """Return an outbox event as the headers of CloudEvents' HTTP binding, binary mode."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(event["id"]),
        "ce-source": event["source"],
        "ce-type": event["type"],
        "ce-subject": event["subject"],
        "ce-time": event["created_at"].isoformat(),
        "content-type": "application/json",
    }
    extensions = {**event["extensions"], **overrides}
    return headers | {f"ce-{name}": str(value) for name, value in extensions.items()}


class Relay:
    """Moves due events until it is stopped."""

    def __init__(self, database: Database, session: ClientSession, sink: str, overrides: dict[str, str]) -> None:
        self._database = database
        self._session = session
        self._sink = sink
        self._overrides = overrides
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Relay batches; when the outbox is empty, wait for the notification or the poll."""
        while True:
            self.wake.clear()
            try:
                moved = await self.relay_batch()
            except Problem as problem:
                logs.warning("outbox_unreachable", code=problem.code)
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            if moved < BATCH:
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self.wake.wait()
                except TimeoutError:
                    continue

    async def relay_batch(self) -> int:
        """Claim and post one batch; return how many events were claimed."""
        events = await self._database.rows("events.claim", p_limit=BATCH, p_lease=LEASE)
        delivered = await asyncio.gather(*(self._deliver(event) for event in events))
        if accepted := [id_ for id_ in delivered if id_ is not None]:
            await self._database.rows("events.acknowledge", p_ids=accepted)
        return len(events)

    async def _deliver(self, event: dict[str, Any]) -> UUID | None:
        """Post one event; return its id when the broker has accepted it."""
        status: int | None = None
        try:
            async with self._session.post(
                self._sink,
                data=json.dumps(event["data"]).encode(),
                headers=attributes(event, self._overrides),
            ) as response:
                status, reason = response.status, storable((await response.text(errors="replace"))[:500])
        except (ClientError, TimeoutError, OSError) as error:
            reason = type(error).__name__
        except ValueError as error:
            # An attribute that no header can carry: poison, which must not keep the rest of the batch from leaving.
            status, reason = UNSENDABLE, str(error)
        if status is not None and status in ACCEPTED:
            id_: UUID = event["id"]
            return id_
        outcome = await self._database.call("events.reject", p_id=event["id"], p_status=status, p_error=reason)
        logs.warning("event_rejected", event_id=event["id"], event_type=event["type"], status=status, outcome=outcome)
        return None


async def listen(dsn: str, wake: asyncio.Event) -> None:
    """Set `wake` with every notification of the outbox, reconnecting for ever.

    This is the one session-bound connection of the platform: behind PgBouncer it must go to the server itself, or the
    relay lives on its poll.
    """
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                await connection.execute("LISTEN outbox")
                async for _ in connection.notifies():
                    wake.set()
        except psycopg.Error as error:
            logs.warning("listen_failed", error=type(error).__name__)
        await asyncio.sleep(RECONNECT_SECONDS)


async def main() -> None:
    """Relay until SIGTERM or SIGINT."""
    sink = os.environ.get("K_SINK")
    if not sink:
        sys.exit("Refusing to start: K_SINK names no broker.")
    if wrong := guards.wrong_variables(read=READ):
        sys.exit(f"Refusing to start: {'; '.join(wrong)}")
    overrides = json.loads(os.environ.get("K_CE_OVERRIDES") or "{}").get("extensions", {})
    dsn = get_settings().database_dsn()
    database = await Database(dsn, pool_size=2).open()
    async with ClientSession(timeout=ClientTimeout(POST_TIMEOUT_SECONDS)) as session:
        relay = Relay(database, session, sink, overrides)
        tasks = {asyncio.create_task(relay.run()), asyncio.create_task(listen(dsn, relay.wake))}
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        logs.info("relay_started", sink=sink)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks & done:
            task.result()
    await database.close()


if __name__ == "__main__":
    logs.configure()
    asyncio.run(main())
