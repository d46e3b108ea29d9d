"""The relay: carries events from the outbox to the broker. A Knative ContainerSource: `python -m functions.relay.main`.

It claims events, posts each in binary mode to K_SINK, and acknowledges what the broker accepted. A relay that dies loses
nothing: its leases end, and the events are due again. Several may run side by side.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
from typing import Any

import psycopg
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from functions.relay.relaying import POST_TIMEOUT_SECONDS, RECONNECT_SECONDS, UNHEARD_POLL_SECONDS, Relay
from shared import guards, logs
from shared.database import Database
from shared.settings import get_settings

READ = ("environment", "database_url")
"""The variables of the platform that a relay reads."""


def http_session(authorities: str | None = None) -> ClientSession:
    """Return the client of the sink; how many posts go on at once is the relay's to decide.

    `authorities` are the certificates, in PEM, of those who may have signed the sink's; None for those that everybody knows.
    """
    trusted = ssl.create_default_context(cadata=authorities) if authorities else True
    return ClientSession(timeout=ClientTimeout(POST_TIMEOUT_SECONDS), connector=TCPConnector(limit=0, ssl=trusted))


async def listen(dsn: str, wake: asyncio.Event) -> None:
    """Set `wake` with every notification of the outbox, reconnecting for ever.

    This is the one session-bound connection of the platform. Through a pooler it would hear nothing, and leave a LISTEN to
    whoever gets its session next: then this returns, and the relay lives on its poll.
    """
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                if await _is_pooled(connection):
                    logs.info("listen_pooled")
                    return
                await connection.execute("LISTEN outbox")
                # What was committed before is not announced.
                wake.set()
                async for _ in connection.notifies():
                    wake.set()
        except psycopg.Error as error:
            logs.warning("listen_failed", error=type(error).__name__)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _is_pooled(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Return whether statements run in another process than the one that was connected to, as behind PgBouncer."""
    cursor = await connection.execute("SELECT pg_backend_pid()")
    return await cursor.fetchone() != (connection.info.backend_pid,)


async def hear(dsn: str, relay: Relay) -> None:
    """Have the relay woken by notifications, or let it look more often where none can come."""
    await listen(dsn, relay.wake)
    relay.longest_poll = UNHEARD_POLL_SECONDS
    relay.wake.set()


async def main() -> None:
    """Relay until SIGTERM or SIGINT; what is in flight then is settled."""
    sink = os.environ.get("K_SINK")
    if not sink:
        sys.exit("Refusing to start: K_SINK names no broker.")
    if wrong := guards.wrong_variables(read=READ):
        sys.exit(f"Refusing to start: {'; '.join(wrong)}")
    overrides = json.loads(os.environ.get("K_CE_OVERRIDES") or "{}").get("extensions", {})
    dsn = get_settings().database_dsn()
    database = await Database(dsn, pool_size=2).open()
    async with http_session(os.environ.get("K_CA_CERTS")) as session:
        relay = Relay(database, session, sink, overrides)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, relay.stop)
        listening = asyncio.create_task(hear(dsn, relay))
        logs.info("relay_started", sink=sink)
        try:
            await relay.run()
        finally:
            listening.cancel()
            await asyncio.wait({listening}, timeout=RECONNECT_SECONDS)
    await database.close()


if __name__ == "__main__":
    logs.configure()
    asyncio.run(main())
