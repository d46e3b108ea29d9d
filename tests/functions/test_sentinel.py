"""A Redis that sentinels watch: whoever uses it finds the primary, also the next one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError

from shared import rate_limit, sentinel
from shared.runtime import redis_client
from shared.stream_reader import StreamUnreadableError, read
from shared.streams import BEGINNING, TurnWriter
from tests.replicated_redis import ReplicatedRedis

REQUEST_SECONDS, SENTINEL_SECONDS = rate_limit.PATIENCE_SECONDS, sentinel.PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def sentinels_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a sentinel may take longer than those that ask it would wait."""
    monkeypatch.setattr(sentinel, "PATIENCE_SECONDS", 5)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedRedis]:
    redis = ReplicatedRedis(tmp_path_factory.mktemp("sentinel"))
    try:
        redis.start()
        yield redis
    finally:
        redis.stop()


@pytest.fixture
async def redis(watched: ReplicatedRedis) -> AsyncIterator[Redis]:
    client = redis_client(watched.url())
    yield client
    await client.aclose()


async def test_reads_and_writes_go_to_the_primary(watched: ReplicatedRedis, redis: Redis) -> None:
    await redis.set("key", "value")
    assert await redis.get("key") == "value"
    assert watched.client(watched.primary).get("key") == "value"


async def test_one_sentinel_that_answers_is_enough(watched: ReplicatedRedis) -> None:
    for url in (watched.url("second"), watched.url("third", "first")):
        client = redis_client(url)
        assert await client.ping()
        await client.aclose()
    watched.kill("first")
    try:
        client = redis_client(watched.url("first", "second"))
        assert await client.ping()
        await client.aclose()
    finally:
        await asyncio.to_thread(watched.heal)


@pytest.fixture(params=["takes no connection", "takes connections and never answers"])
def dead(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a sentinel that is gone, as one of a lost node is: nobody refuses, and nobody answers."""
    full = request.param == "takes no connection"
    with socket.socket() as server, ExitStack() as held:
        server.bind(("127.0.0.1", 0))
        # Linux queues one connection more than the backlog says, and leaves what comes then unanswered.
        server.listen(0 if full else 100)
        for _ in range(2 if full else 0):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_a_request_is_counted_although_the_first_sentinel_is_dead(
    watched: ReplicatedRedis, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * SENTINEL_SECONDS < REQUEST_SECONDS, "two that are dead leave time for the third"
    monkeypatch.setattr(sentinel, "PATIENCE_SECONDS", 1)
    client = redis_client(watched.url().replace("@", f"@127.0.0.1:{dead},"))
    counted = await rate_limit.check(client, uuid4(), "user:ann", 3)
    await client.aclose()
    assert counted is not None
    assert counted.remaining == 2


@pytest.mark.parametrize(
    ("password", "options"),
    [("wrong", ""), ("", ""), (None, "?sentinel_password=wrong"), (None, "?sentinel_password=")],
)
async def test_who_does_not_know_the_password_finds_nobody(
    watched: ReplicatedRedis, password: str | None, options: str
) -> None:
    client = redis_client(watched.url(password=password, options=options))
    with pytest.raises(MasterNotFoundError):
        await client.ping()
    await client.aclose()


async def test_the_sentinels_may_have_a_password_of_their_own(watched: ReplicatedRedis) -> None:
    client = redis_client(watched.url(password="", options=f"?sentinel_password={watched.password}"))
    # Found, and not let in.
    with pytest.raises(RedisError, match=r"[Aa]uth"):
        await client.ping()
    await client.aclose()


async def test_a_window_of_requests_outlives_its_primary(watched: ReplicatedRedis, redis: Redis) -> None:
    tenant = uuid4()
    for remaining in (2, 1):
        counted = await rate_limit.check(redis, tenant, "user:ann", 3)
        assert counted is not None
        assert counted.remaining == remaining
    await replicated(watched)
    await asyncio.to_thread(watched.fail_over)
    try:
        counted = await rate_limit.check(redis, tenant, "user:ann", 3)
        assert counted is not None
        assert counted.remaining == 0
    finally:
        await asyncio.to_thread(watched.heal)


async def test_a_stream_goes_on_in_the_next_primary(watched: ReplicatedRedis, redis: Redis) -> None:
    turn = uuid4()
    writer = TurnWriter(redis, turn, 1, 60)
    await writer.write("turn.started", {})
    for change in (watched.hand_over, watched.fail_over):
        await replicated(watched)
        await asyncio.to_thread(change)
        await writer.write("turn.delta", {"text": change.__name__})
    await writer.write("turn.completed", {})
    assert not writer.broken
    seen = []
    async with aclosing(read(redis, turn, BEGINNING, 5)) as reading:
        async for events in reading:
            seen += [event.event for event in events]
    assert seen == ["turn.started", "turn.delta", "turn.delta", "turn.completed"]
    assert watched.client(watched.primary).xlen(f"turn:{turn}") == len(seen)
    await asyncio.to_thread(watched.heal)


async def test_a_reader_is_told_that_its_primary_is_gone(watched: ReplicatedRedis, redis: Redis) -> None:
    turn = uuid4()
    await TurnWriter(redis, turn, 1, 60).write("turn.started", {})
    async with aclosing(read(redis, turn, BEGINNING, 5)) as reading:
        assert [event.event for event in await anext(reading)] == ["turn.started"]
        failing_over = asyncio.create_task(asyncio.to_thread(watched.fail_over))
        with pytest.raises((StreamUnreadableError, RedisError)):
            [_ async for _ in reading]
    await failing_over
    await asyncio.to_thread(watched.heal)


async def replicated(watched: ReplicatedRedis) -> None:
    """Return when the replica has all that was written."""
    assert await asyncio.to_thread(watched.client(watched.primary).wait, 1, 5000) == 1
