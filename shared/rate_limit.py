"""Requests a minute for each user, and for each API key that has a limit of its own.

A sliding window in Redis, one atomic EVAL a request.

When Redis is down the limit fails open: a rate limit protects the platform's comfort, a budget its money, and the budget is
in PostgreSQL and never fails open.
"""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import logs, metrics
from shared.problems import Problem

WINDOW_SECONDS = 60
PATIENCE_SECONDS = 0.5
"""A Redis that hangs counts as one that is down."""

SLIDING_WINDOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = ARGV[1] * 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
local allowed = used < tonumber(ARGV[2]) and 1 or 0
if allowed == 1 then
  redis.call('ZADD', KEYS[1], now, now .. ':' .. used)
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  used = used + 1
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {allowed, used, math.ceil((oldest[2] + window - now) / 1000000)}
"""
"""KEYS[1] the window; ARGV window seconds, limit. Returns {allowed, used, seconds until a place is free}."""


@dataclass(frozen=True)
class RateLimit:
    """What is left in a window, in requests of this window."""

    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """Return the RateLimit-* headers of the IETF draft (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }


async def check(redis: Redis, tenant_id: UUID, window: str, limit: int) -> RateLimit | None:
    """Count one request in a tenant's window; raises Problem `rate_limited`; returns None when Redis does not answer."""
    key = f"rate:{{{tenant_id}}}:{window}"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            allowed, used, reset = await redis.eval(SLIDING_WINDOW, 1, key, WINDOW_SECONDS, limit)
    except (RedisError, OSError, TimeoutError) as error:
        metrics.rate_limit_unchecked().inc()
        logs.warning("rate_limit_unchecked", tenant_id=tenant_id, error=type(error).__name__)
        return None
    state = RateLimit(limit, limit - used, reset)
    if not allowed:
        raise Problem(
            "rate_limited",
            f"At most {limit} requests a minute are answered; try again in {reset} s.",
            headers={**state.headers(), "Retry-After": str(reset)},
        )
    return state
