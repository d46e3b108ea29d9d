"""A platform whose Redis is watched by sentinels: its primary dies in the middle of a turn, and another one takes over."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shared.rate_limit import WINDOW_SECONDS
from tests.replicated_redis import ReplicatedRedis
from tests.stack.conftest import MANUAL, QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User, connections
from tests.stack.test_crashes import assert_whole


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedRedis]:
    redis = ReplicatedRedis(tmp_path_factory.mktemp("redis"))
    try:
        redis.start()
        yield redis
    finally:
        redis.stop()


@pytest.fixture(scope="module")
def watched(redis: ReplicatedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform.in_folder(tmp_path_factory.mktemp("stack") / "state", REDIS_URL=redis.url())
    with platform.stack:
        yield platform


@pytest.fixture
async def reader(watched: Platform) -> AsyncIterator[User]:
    async with connections() as session:
        user = User(watched, session, watched.stack.tenant_id)
        await user.upload("manual.md", MANUAL)
        yield user


async def test_the_turn_is_told_whole_and_later_ones_live(
    watched: Platform, redis: ReplicatedRedis, reader: User
) -> None:
    window = f"rate:{{{reader.tenant}}}:user:demo"
    async with reader.ask(QUESTION) as connection:
        await connection.deltas(3)
        counted: Any = redis.client(redis.primary).zrange(window, 0, -1, withscores=True)
        failing_over = asyncio.create_task(asyncio.to_thread(redis.fail_over))
        seen = await connection.end()
    assert seen.data["turn.restarted"] == {"reason": "stored"}
    assert watched.attempts(seen.turn) == 1
    primary = redis.client(await failing_over)
    await assert_whole(watched, reader, seen)
    # The window has what the former primary counted, too, but for what is too old by now.
    seconds, microseconds = primary.time()
    since = (seconds - WINDOW_SECONDS) * 1_000_000 + microseconds
    assert counted
    assert {request for request, at in counted if at > since} <= set(primary.zrange(window, 0, -1))

    later = await reader.answer(QUESTION)
    assert later.kinds() == ["turn.accepted", "turn.started", "turn.delta", "turn.citations", "turn.completed"]
    assert primary.xlen(f"turn:{later.turn}") == len(later.names) - 1
    await assert_whole(watched, reader, later)
