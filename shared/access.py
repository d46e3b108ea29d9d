"""The door of every HTTP function: who asks, and whether they ask too often."""

import time
from dataclasses import dataclass

from starlette.requests import Request

from shared import metrics, rate_limit
from shared.auth import authenticate
from shared.principal import Principal
from shared.rate_limit import RateLimit
from shared.runtime import runtime
from shared.settings import get_settings


@dataclass(frozen=True)
class Admission:
    """An admitted request."""

    principal: Principal
    rate: RateLimit | None
    auth_seconds: float
    rate_seconds: float

    def headers(self) -> dict[str, str]:
        """Return the headers that tell the caller its rate."""
        return self.rate.headers() if self.rate else {}


async def admit(request: Request) -> Admission:
    """Authenticate and count the request; raises Problem `unauthenticated` or `rate_limited`."""
    settings = get_settings()
    begun = time.perf_counter()
    principal = await authenticate(request, settings)
    known = time.perf_counter()
    rate = await rate_limit.check(runtime.redis(), principal, settings.rate_limit_per_minute)
    counted = time.perf_counter()
    metrics.steps().labels("auth").observe(known - begun)
    metrics.steps().labels("rate_limit").observe(counted - known)
    return Admission(principal, rate, known - begun, counted - known)
