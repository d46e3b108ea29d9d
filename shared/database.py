"""PostgreSQL as the functions see it: one call, one round trip, admitted for one user and one operation."""

import json
import math
import select
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.connection import FLUSH, Commit, Connection, Row
from shared.metrics import Sample
from shared.principal import Actor
from shared.problems import CODE_BY_SQLSTATE, Problem

POOL_TIMEOUT_SECONDS = 5.0
TRUSTED_SECONDS = 0.05
"""A connection that answered so recently is taken to be open."""
RECONNECT_SECONDS = 2.0
"""So long the pool tries to connect again by itself, at growing intervals. Later the next call tries anew: the interval would
grow with an outage, and so would the time after it in which the database that is back is not found."""
UNAVAILABLE = ("08", "53", "57")
"""SQLSTATE classes connection exception, insufficient resources and operator intervention."""


class Database:
    """A pool of connections on which the platform's SQL functions are called.

    Who acts is told in the round trip of the call, and for its transaction only: `core.enter` and the call go out as one simple
    query, which PostgreSQL runs as one implicit transaction. When it does not admit the user to the operation, the call
    does not run. Nothing depends on the session, and PgBouncer in transaction mode may hand every call another connection.
    Prepared statements are off for the same reason. The client binds the arguments: a pipeline of the same statements cost
    both sides twice as much.
    """

    def __init__(self, dsn: str, *, pool_size: int) -> None:
        self._pool: AsyncConnectionPool[Connection] = _Pool(
            dsn,
            connection_class=Connection,
            min_size=0,
            max_size=pool_size,
            timeout=POOL_TIMEOUT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
            kwargs={"autocommit": True, "connect_timeout": 5, "tcp_user_timeout": 10_000},
            check=self._check_open,
        )
        self._drained_at = -math.inf

    async def open(self) -> Self:
        """Start the pool; connections are made when they are first needed."""
        await self._pool.open(wait=False)
        return self

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    def samples(self) -> list[Sample]:
        """Return how the pool is used: its connections, and how often and how long somebody waited for one."""
        counts = self._pool.get_stats()
        idle, waited = counts.get("pool_available", 0), counts.get("requests_wait_ms", 0) / 1000
        connections = "enterprise_agent_database_connections"
        used = counts.get("pool_size", 0) - idle
        return [
            Sample(connections, "Connections to the database", idle, {"state": "idle"}),
            Sample(connections, "Connections to the database", used, {"state": "used"}),
            Sample(
                "enterprise_agent_database_waiting",
                "Calls that wait for a connection",
                counts.get("requests_waiting", 0),
            ),
            Sample(
                "enterprise_agent_database_wait_seconds",
                "Time that calls have waited for a connection",
                waited,
                kind="counter",
            ),
            Sample(
                "enterprise_agent_database_refused",
                "Calls that got no connection in time",
                counts.get("requests_errors", 0),
                kind="counter",
            ),
        ]

    async def call(self, function: str, actor: Actor | None = None, /, **arguments: object) -> Any:
        """Return the one value of a scalar function, for example `call("chat.begin_turn", principal, p_message="Hi")`.

        JSON comes back parsed. Raises Problem for what the platform's SQL raises, `database_unavailable` when there is no
        connection, and psycopg.Error for defects.
        """
        rows = await self.rows(function, actor, **arguments)
        return next(iter(rows[0].values()))

    async def write(self, commit: Commit, function: str, actor: Actor, /, **arguments: object) -> Any:
        """Return the one value of a function that writes, in one statement with what admits the actor; otherwise as `call`.

        It may lock a row that many want. With Commit.EARLY its transaction commits without waiting for the disk, so that
        its locks are gone at once, and a second one waits, in the same round trip: the log is one sequence, so what is on
        disk after the second includes the first. (Early lock release: Johnson et al., "Aether", VLDB 2010.) With
        Commit.UNAWAITED nobody is told of it before `flush`, or before a later call is on disk.
        """
        rows = await self._rows(function, actor, arguments, commit)
        return next(iter(rows[0].values()))

    async def call_releasing_early(self, function: str, actor: Actor, /, **arguments: object) -> Any:
        """Return the one value as `write` does with Commit.EARLY, which suits nearly all that write."""
        return await self.write(Commit.EARLY, function, actor, **arguments)

    async def flush(self) -> None:
        """Return when all that was committed before is on disk."""
        await self.call(FLUSH, None, transactional=True, prefix="flush", message="")

    async def rows(self, function: str, actor: Actor | None = None, /, **arguments: object) -> list[Row]:
        """Return the rows of a set-returning function; otherwise as `call`."""
        return await self._rows(function, actor, arguments, Commit.AWAITED)

    async def _rows(
        self, function: str, actor: Actor | None, arguments: Mapping[str, object], commit: Commit
    ) -> list[Row]:
        try:
            connection = await self._pool.getconn()
            try:
                return await connection.call(function, actor, arguments, commit)
            finally:
                await self._pool.putconn(connection)
        except PoolTimeout as error:
            raise unavailable() from error
        except psycopg.Error as error:
            if error.sqlstate in CODE_BY_SQLSTATE:
                raise problem_of(CODE_BY_SQLSTATE[error.sqlstate], error) from None
            if isinstance(error, psycopg.OperationalError) and (error.sqlstate or UNAVAILABLE[0]).startswith(
                UNAVAILABLE
            ):
                raise unavailable() from error
            raise

    async def _check_open(self, connection: Connection) -> None:
        """Raise psycopg.OperationalError when the server has closed an idle connection; the pool then takes another one.

        This asks the socket, not the server: a connection on which nothing is asked has nothing to read, unless it is closed.
        One that was just used is not asked. Where one is closed the others are as a rule, as after a restart of the server;
        they go with it, because the pool waits longer before each next one that it tries.
        """
        if not connection.closed:
            if time.monotonic() - connection.used_at < TRUSTED_SECONDS:
                return
            readable = select.poll()
            readable.register(connection.fileno(), select.POLLIN)
        if connection.closed or readable.poll(0):
            # Closed on this side too, or the pool would offer it again.
            await connection.close()
            if connection.used_at > self._drained_at:
                self._drained_at = time.monotonic()
                await self._pool.drain()
            raise psycopg.OperationalError("the server closed the connection")


class _Pool(AsyncConnectionPool[Connection]):
    """A pool that gives out the connection that came back last.

    psycopg's gives out the one that has rested longest: few requests then keep every backend awake, and each finds its caches
    cold (a lone client's first token came a millisecond later). Here they stay with one backend, and the others may go.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pool = _Stack()


class _Stack(deque[Connection]):
    """What is put in last stands first."""

    def append(self, connection: Connection, /) -> None:
        """Put a connection before the others."""
        self.appendleft(connection)


def unavailable() -> Problem:
    """Return the problem of a server that does not answer."""
    return Problem("database_unavailable", "The database does not answer.")


def problem_of(code: str, error: psycopg.Error) -> Problem:
    """Translate an error that ops.raise_problem raised."""
    detail = error.diag.message_detail
    extra = json.loads(detail) if detail else {}
    return Problem(code, error.diag.message_primary or str(error), extra=extra, headers=_retry_after(extra))


def _retry_after(extra: Mapping[str, Any]) -> dict[str, str]:
    """Return the Retry-After header of a problem that says when it will be over (RFC 9110, section 10.2.3)."""
    moment = extra.get("resets_at") or extra.get("retry_at")
    if not isinstance(moment, str):
        return {}
    seconds = (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
