"""Requests a minute for each user."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from shared import metrics
from shared.settings import get_settings
from tests.functions.platform import Platform

LIMIT = 3


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    """Let every user ask three times a minute."""
    assert platform
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", str(LIMIT))
    get_settings.cache_clear()


@pytest.fixture
async def redis(platform: Platform) -> AsyncIterator[Redis]:
    client = Redis.from_url(platform.redis_url, decode_responses=True)
    yield client
    await client.aclose()


async def test_the_limit_is_told_and_kept(platform: Platform) -> None:
    for remaining in (2, 1, 0):
        reply = await platform.call("ingestion", "GET", "/documents")
        assert reply.status == 200
        told = [reply.headers[f"ratelimit-{name}"] for name in ("limit", "remaining")]
        assert told == [str(LIMIT), str(remaining)]
        assert 1 <= int(reply.headers["ratelimit-reset"]) <= 60
    before = platform.counts()
    refused = await platform.call("chat", "POST", "/chat", {"message": "What?"})
    assert (refused.status, refused.code()) == (429, "rate_limited")
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert platform.counts() == before
    for headers in (platform.bearer("bob"), platform.bearer("ann", platform.tenants[1])):
        assert (await platform.call("ingestion", "GET", "/documents", headers=headers)).status == 200


async def test_requests_at_the_same_instant_share_the_limit(platform: Platform) -> None:
    replies = await asyncio.gather(*(platform.call("ingestion", "GET", "/documents") for _ in range(8)))
    assert sorted(reply.status for reply in replies) == [200] * LIMIT + [429] * 5


async def test_the_window_slides(platform: Platform, redis: Redis) -> None:
    key = f"rate:{{{platform.tenants[0]}}}:user:ann"
    for _ in range(LIMIT):
        await platform.call("ingestion", "GET", "/documents")
    members: list[Any] = await redis.zrange(key, 0, -1)
    first, *others = members
    await redis.zincrby(key, -61_000_000, first)
    for member in others:
        await redis.zincrby(key, -30_000_000, member)
    admitted = await platform.call("ingestion", "GET", "/documents")
    assert (admitted.status, admitted.headers["ratelimit-remaining"]) == (200, "0")
    refused = await platform.call("ingestion", "GET", "/documents")
    assert refused.status == 429
    assert 25 <= int(refused.headers["retry-after"]) <= 30
    assert 0 < await redis.ttl(key) <= 60


async def test_a_refused_request_does_not_prolong_the_wait(platform: Platform, redis: Redis) -> None:
    for _ in range(LIMIT + 5):
        await platform.call("ingestion", "GET", "/documents")
    assert await redis.zcard(f"rate:{{{platform.tenants[0]}}}:user:ann") == LIMIT


async def test_without_redis_requests_are_admitted_and_counted(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{closed_port}/0")
    get_settings.cache_clear()
    sample = "enterprise_agent_rate_limit_unchecked_total"

    async def unchecked() -> float:
        metrics.rate_limit_unchecked()
        text = (await platform.call("chat", "GET", "/metrics")).body.decode()
        [line] = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
        return float(line.split()[1])

    before = await unchecked()
    for _ in range(LIMIT + 1):
        reply = await platform.call("ingestion", "GET", "/documents")
        assert reply.status == 200
        assert "ratelimit-limit" not in reply.headers
    assert await unchecked() == before + LIMIT + 1
