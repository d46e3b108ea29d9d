"""A connection to PostgreSQL, as functions ask it: what comes in parts, what nobody waits for any more, and what ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from shared.connection import Commit, Connection
from shared.database import Database as Pool
from shared.principal import Worker
from shared.problems import Problem
from tests.support import Database

PROBES = """
CREATE SCHEMA {schema};
GRANT USAGE ON SCHEMA {schema} TO app;
CREATE FUNCTION {schema}.echo(p_text text) RETURNS text LANGUAGE sql AS 'SELECT p_text';
CREATE FUNCTION {schema}.lines(p_count integer) RETURNS TABLE (n integer, text text, nothing date)
LANGUAGE sql AS 'SELECT n, repeat(''x'', 1000), NULL::date FROM generate_series(1, p_count) AS n';
CREATE FUNCTION {schema}.wait(p_seconds double precision) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(p_seconds)';
CREATE FUNCTION {schema}.fail() RETURNS integer LANGUAGE sql AS 'SELECT 1 / 0';
CREATE FUNCTION {schema}.backend() RETURNS integer LANGUAGE sql AS 'SELECT pg_backend_pid()';
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s"
PATIENCE_SECONDS = 30


@pytest.fixture
def schema(database: Database) -> Iterator[str]:
    """Return a schema with functions to be called."""
    name = f"probe_{uuid4().hex}"
    with database.connect() as operator:
        operator.run(PROBES.format(schema=name))
    yield name
    with database.connect() as operator:
        operator.run(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    opened = await Pool(database.urls["app"], pool_size=1).open()
    try:
        yield opened
    finally:
        await opened.close()


async def until_waiting(database: Database, schema: str, count: int) -> None:
    with database.connect() as operator:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while operator.value(WAITING, [f'%"{schema}"."wait"%']) != count:  # noqa: ASYNC110 - the database's state
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("text", ["", "100 %(name)s %", "it's \\ 'quoted'", "ü\U0001f600\n", "x" * 20_000_000])
async def test_text_comes_back_as_it_was_sent(pool: Pool, schema: str, text: str) -> None:
    assert await pool.call(f"{schema}.echo", p_text=text) == text
    actor = Worker(uuid4(), "probe")
    for commit in Commit:
        assert await pool.write(commit, f"{schema}.echo", actor, p_text=text) == text


async def test_rows_that_come_in_many_parts_do_not_hold_up_what_else_goes_on(pool: Pool, schema: str) -> None:
    reads = 0

    async def other() -> None:
        nonlocal reads
        while True:
            await asyncio.sleep(0)
            reads += 1

    going_on = asyncio.create_task(other())
    rows = await pool.rows(f"{schema}.lines", p_count=20_000)
    before = reads
    going_on.cancel()
    assert rows == [{"n": n, "text": "x" * 1000, "nothing": None} for n in range(1, 20_001)]
    assert before > 1


async def test_what_nobody_waits_for_is_cancelled_and_the_connection_used_again(
    pool: Pool, database: Database, schema: str
) -> None:
    backend = await pool.call(f"{schema}.backend")
    asking = asyncio.create_task(pool.call(f"{schema}.wait", p_seconds=600.0))
    await until_waiting(database, schema, 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until_waiting(database, schema, 0)
    assert await pool.call(f"{schema}.backend") == backend


async def test_who_is_cancelled_hears_of_that_also_when_the_call_cannot_be(
    pool: Pool, database: Database, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("refused")

    backend = await pool.call(f"{schema}.backend")
    monkeypatch.setattr(Connection, "cancel_safe", refuse)
    asking = asyncio.create_task(pool.call(f"{schema}.wait", p_seconds=600.0))
    await until_waiting(database, schema, 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await pool.call(f"{schema}.backend") != backend, "nobody knows what the old one is at"
    with database.connect() as operator:
        operator.value("SELECT pg_terminate_backend(%s)", [backend])


async def test_a_call_that_fails_leaves_the_connection_usable(pool: Pool, schema: str) -> None:
    backend = await pool.call(f"{schema}.backend")
    actor = Worker(uuid4(), "probe")
    for commit in Commit:
        with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
            await pool.write(commit, f"{schema}.fail", actor)
        assert await pool.call_releasing_early(f"{schema}.backend", actor) == backend


async def test_a_server_that_ends_a_connection_in_mid_call_is_unavailable(
    pool: Pool, database: Database, schema: str
) -> None:
    backend = await pool.call(f"{schema}.backend")
    asking = asyncio.create_task(pool.call(f"{schema}.wait", p_seconds=600.0))
    await until_waiting(database, schema, 1)
    with database.connect() as operator:
        operator.value("SELECT pg_terminate_backend(%s)", [backend])
    with pytest.raises(Problem) as raised:
        await asking
    assert raised.value.code == "database_unavailable"
    assert await pool.call(f"{schema}.echo", p_text="again") == "again"


async def test_a_connection_that_is_closed_while_it_rests_is_not_looked_at_again_and_again(
    pool: Pool, database: Database, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = Connection._read  # noqa: SLF001

    def counted(self: Connection) -> None:
        nonlocal reads
        reads += 1
        read(self)

    monkeypatch.setattr(Connection, "_read", counted)
    backend: Any = await pool.call(f"{schema}.backend")
    reads = 0
    with database.connect() as operator:
        operator.value("SELECT pg_terminate_backend(%s, 9000)", [backend])
    for _ in range(1000):
        await asyncio.sleep(0)
    # The reason, and the end.
    assert reads <= 3
    assert await pool.call(f"{schema}.backend") != backend
