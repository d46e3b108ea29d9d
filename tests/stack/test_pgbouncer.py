"""PgBouncer in transaction mode between the platform and its database; `make test-pgbouncer` runs the whole folder with it."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg import ClientCursor
from psycopg.rows import dict_row

from infra.local import environment
from infra.local.pgbouncer import POOL_SIZE, STATISTICS_ROLE
from infra.local.ports import PGBOUNCER
from shared.settings import with_scheme
from tests.stack.conftest import MANUAL, QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User
from tests.stack.test_crashes import assert_whole

pytestmark = pytest.mark.skipif(
    not environment.pooled(os.environ), reason="there is no PgBouncer: make test-pgbouncer puts one before PostgreSQL"
)

TENANTS, CHATS, COMPLETIONS = 4, 20, 30
"""200 turns."""
SERVERS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"


async def test_it_dies_in_the_middle_of_a_turn_which_ends_whole(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        platform.kill(PGBOUNCER)
        seen = await connection.end()
    assert seen.kinds() == ["turn.accepted", "turn.started", "turn.delta", "turn.citations", "turn.completed"]
    assert platform.attempts(seen.turn) == 1
    await assert_whole(platform, user, seen)


async def test_the_relay_looks_by_itself_and_leaves_no_listen_behind(platform: Platform, user: User) -> None:
    seen = await user.answer(QUESTION)
    await assert_whole(platform, user, seen)
    assert "listen_pooled" in (platform.stack.state.logs / "relay.log").read_text()
    relay = platform.stack.connections.relay_database_url
    assert everywhere(relay, "SELECT count(*) FROM pg_listening_channels()") == {(0,)}


async def test_nothing_of_a_call_stays_with_the_session_that_the_next_one_gets(platform: Platform, user: User) -> None:
    await asyncio.gather(*(user.answer(QUESTION) for _ in range(4)))
    left = """
    SELECT
      nullif(current_setting('app.tenant_id', true), ''), nullif(current_setting('app.user_id', true), ''),
      current_setting('role'), (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM chat.turns)
    """
    functions = platform.stack.connections.database_url
    assert everywhere(functions, left) == {(None, None, "none", 0, 0)}
    # What a call that waits for no disk says of its own transaction.
    [(durable,)] = platform.query("SELECT current_setting('synchronous_commit')")
    assert everywhere(functions, "SELECT current_setting('synchronous_commit')") == {(durable,)}


def everywhere(url: str, statement: str) -> set[tuple[Any, ...]]:
    """Return what a statement finds in every session that PgBouncer has for a role: all are taken at once."""

    def ask(_: int) -> tuple[int, tuple[Any, ...]]:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection, connection.transaction():
            [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
            [row] = connection.execute(statement).fetchall()
            taken.add(pid)
            # Until so many sessions are taken, nobody gives one back.
            if len(taken) == POOL_SIZE:
                full.set()
            assert full.wait(30), f"only {len(taken)} sessions"
            return row

    taken: set[int] = set()
    full = Event()
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        return set(pool.map(ask, range(POOL_SIZE)))


async def test_a_burst_shares_a_few_connections_and_nobody_waits_for_ever(
    platform: Platform, session: aiohttp.ClientSession
) -> None:
    users = [User(platform, session, platform.new_tenant()) for _ in range(TENANTS)]
    for user in users:
        await user.upload("manual.md", MANUAL)

    async def complete(user: User) -> str:
        body = {"model": "light", "messages": [{"role": "user", "content": QUESTION}]}
        status, _, answer = await user.request("POST", "openai-api/v1/chat/completions", json=body)
        return str(answer["choices"][0]["finish_reason"]) if status == 200 else str(answer)

    async def chat(user: User) -> str:
        return (await user.answer(QUESTION)).names[-1]

    with watching(platform) as most:
        endings = await asyncio.gather(
            *(chat(user) for user in users for _ in range(CHATS)),
            *(complete(user) for user in users for _ in range(COMPLETIONS)),
        )
    assert endings == ["turn.completed"] * TENANTS * CHATS + ["stop"] * TENANTS * COMPLETIONS
    assert platform.query(
        "SELECT count(*) FROM inference.jobs WHERE status NOT IN ('completed', 'failed', 'stopped')"
    ) == [(0,)]
    assert platform.query("SELECT * FROM budget.verify()") == []
    assert most["servers"] <= POOL_SIZE < most["clients"]


@contextmanager
def watching(platform: Platform) -> Iterator[dict[str, int]]:
    """Watch how many connections the functions hold to PgBouncer, and it to PostgreSQL, at most."""
    state, most, over = platform.stack.state, {"clients": 0, "servers": 0}, Event()
    port = platform.stack.connections.database_url.rpartition(":")[2].partition("/")[0]
    console = f"postgresql://{STATISTICS_ROLE}:{state.password(STATISTICS_ROLE)}@127.0.0.1:{port}/pgbouncer"

    def look() -> None:
        with (
            # It takes simple queries only.
            psycopg.connect(console, autocommit=True, row_factory=dict_row, cursor_factory=ClientCursor) as pooler,
            psycopg.connect(with_scheme(platform.stack.connections.migration_database_url, "postgresql")) as server,
        ):
            server.autocommit = True
            while not over.wait(0.05):
                [pool] = [p for p in pooler.execute("SHOW POOLS").fetchall() if p["user"] == "app"]
                [(servers,)] = server.execute(SERVERS).fetchall()
                now = {"clients": pool["cl_active"] + pool["cl_waiting"], "servers": servers}
                most.update({name: max(most[name], count) for name, count in now.items()})

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield most
        finally:
            over.set()
            looking.result()
