"""The client of Redis outlives the server's processes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import ports
from infra.local.redis import EmbeddedRedis
from shared.runtime import redis_client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path, ports.free(["redis"])["redis"], log_path=tmp_path / "redis.log")
    server.start()
    yield server
    server.stop()


async def test_a_server_that_was_restarted_answers_the_first_command(server: EmbeddedRedis) -> None:
    redis = redis_client(server.url)
    assert await redis.ping()
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    assert await redis.ping()
    await redis.aclose()
