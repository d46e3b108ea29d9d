"""What one process shares between its requests: the database pool, the Redis and the HTTP client, made when first used."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.maint_notifications import MaintNotificationsConfig

from shared import sentinel, telemetry
from shared.database import Database
from shared.settings import get_settings

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from shared.metrics import Sample


MAX_REDIS_CONNECTIONS = 1000
"""No bound that is ever reached: a request holds one for a moment, and all readers of streams share one."""


def redis_client(url: str) -> Redis:
    """Return a client of the Redis of a REDIS_URL: a server, or the primary that sentinels name."""
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
        "max_connections": MAX_REDIS_CONNECTIONS,
        # Announcements of Redis Enterprise. With them the client hands out connections that the server has closed: after it was
        # restarted, each would fail once.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if urlsplit(url).scheme in sentinel.SCHEMES:
        return sentinel.client(url, **options)
    return Redis.from_url(url, **options)


class Runtime:
    """The connections of a process."""

    def __init__(self) -> None:
        self._database: Database | None = None
        self._redis: Redis | None = None
        self._http: ClientSession | None = None
        self._leaving: dict[Callable[[], Awaitable[None]], None] = {}

    async def database(self) -> Database:
        """Return the pool, opened."""
        if self._database is None:
            self._database = Database(get_settings().database_dsn(), pool_size=get_settings().database_pool_size())
            await self._database.open()
        return self._database

    def redis(self) -> Redis:
        """Return the client; it connects with its first command."""
        if self._redis is None:
            self._redis = redis_client(get_settings().redis_url.get_secret_value())
        return self._redis

    def http(self) -> "ClientSession":
        """Return the HTTP client; aiohttp is imported with its first use."""
        if self._http is None:
            from shared.http_client import session

            self._http = session()
        return self._http

    def before_close(self, leave: Callable[[], Awaitable[None]]) -> None:
        """Have something done before the connections are closed, once and in the order of the first wish."""
        self._leaving[leave] = None

    def samples(self) -> "list[Sample]":
        """Return what is measured of the connections."""
        return [] if self._database is None else self._database.samples()

    async def close(self) -> None:
        """Close what was opened."""
        while self._leaving:
            leave = next(iter(self._leaving))
            await leave()
            del self._leaving[leave]
        if self._database is not None:
            await self._database.close()
        if self._redis is not None:
            await self._redis.aclose()
        if self._http is not None:
            await self._http.close()
        self._database = self._redis = self._http = None
        await telemetry.close()


runtime = Runtime()
"""The process's own."""
