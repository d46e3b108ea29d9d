"""The door of every HTTP function: who asks, whether they ask too often; and what is kept of those who are turned away.

Whether somebody may do what they ask for is PostgreSQL's decision (core.enter), with the operation's first call.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from shared import audit, metrics, rate_limit, residency
from shared.api_keys import ApiKey
from shared.auth import Unauthenticated, ask_again, authenticate, bearer, log_refusal
from shared.connection import Row
from shared.principal import Principal
from shared.problems import Problem
from shared.rate_limit import RateLimit
from shared.runtime import runtime
from shared.settings import get_settings

Handler = Callable[[Request], Awaitable[Response]]
ACCESS_REFUSED = frozenset({"forbidden", "tenant_unset", "tenant_suspended", "user_disabled", "unauthenticated"})
"""Problems of somebody who is known, and may not do this."""


@dataclass(frozen=True)
class Admission:
    """An admitted request."""

    principal: Principal
    rate: RateLimit | None
    auth_seconds: float
    rate_seconds: float
    expires_at: datetime | None = None
    """Until when the token is good; None for an API key."""

    def headers(self) -> dict[str, str]:
        """Return the headers that tell the caller its rate."""
        return self.rate.headers() if self.rate else {}


def guarded(operation: str, handler: Handler) -> Handler:
    """Return the handler behind the door, for an operation of core.operations()."""

    @wraps(handler)
    async def endpoint(request: Request) -> Response:
        admission = request.state.admission = await admit(request, operation)
        try:
            async with watched(request, admission.principal):
                response = await handler(request)
        except Problem as problem:
            problem.headers.update(admission.headers())
            raise
        response.headers.update(admission.headers())
        return response

    return endpoint


def admitted(request: Request) -> Admission:
    """Return how a request was admitted that has come through the door."""
    admission: Admission = request.state.admission
    return admission


async def call(request: Request, function: str, **arguments: object) -> Any:
    """Return what an SQL function answers to the request's user; raises Problem."""
    database = await runtime.database()
    return await database.call(function, admitted(request).principal, **arguments)


async def call_rows(request: Request, function: str, **arguments: object) -> list[Row]:
    """Return the rows that a set-returning SQL function has for the request's user; raises Problem."""
    database = await runtime.database()
    return await database.rows(function, admitted(request).principal, **arguments)


@asynccontextmanager
async def watched(connection: HTTPConnection, caller: Principal) -> AsyncIterator[None]:
    """Do what a caller asks for; that it was refused to somebody who is known goes into the audit log."""
    try:
        yield
    except Problem as problem:
        if problem.code == "unauthenticated" and caller.api_key_id is not None:
            # A key that was good a moment ago: the database knows what has become of it.
            try:
                await ask_again(caller)
            except Unauthenticated as refused:
                await _refuse_login(connection, caller.operation, refused)
        elif problem.code in residency.ELSEWHERE:
            # It was at home when this process last asked.
            await residency.send_home(connection, caller.tenant_id, caller.operation)
        elif problem.code in ACCESS_REFUSED:
            await _refuse_access(connection, caller, problem)
        raise


async def admit(connection: HTTPConnection, operation: str, token: str | None = None) -> Admission:
    """Authenticate and count one request of a connection.

    The token is the Authorization header's, unless the connection has told another one since. A refused one is audited.
    Raises Unauthenticated; Problem `tenant_elsewhere` or `residency_refused` for a tenant that is not at home here,
    `tenant_unset` for one that nobody knows, `rate_limited`.
    """
    settings = get_settings()
    begun = time.perf_counter()
    try:
        token = token or bearer(connection.headers)
        if (key := ApiKey.parse(token)) is not None:
            # The secret of another region's key is not here: only the tenant that it names can be known.
            await residency.is_known(connection, key.tenant_id, operation)
        identity = await authenticate(token, operation, settings)
    except Unauthenticated as problem:
        await _refuse_login(connection, operation, problem)
        raise
    principal, limit = identity.principal, identity.rate_limit_per_minute
    if not await residency.is_known(connection, principal.tenant_id, operation):
        unknown = Problem("tenant_unset", "The request names a tenant that does not exist.")
        await _refuse_access(connection, principal, unknown)
        raise unknown
    known = time.perf_counter()
    # A key with a limit of its own has a window of its own; all else of one user shares the user's.
    window = f"user:{principal.subject}" if limit is None else f"key:{principal.api_key_id}"
    rate = await rate_limit.check(
        runtime.redis(), principal.tenant_id, window, settings.rate_limit_per_minute if limit is None else limit
    )
    counted = time.perf_counter()
    metrics.step("auth").observe(known - begun)
    metrics.step("rate_limit").observe(counted - known)
    return Admission(principal, rate, known - begun, counted - known, identity.expires_at)


async def _refuse_access(connection: HTTPConnection, caller: Principal, problem: Problem) -> None:
    await audit.refusal(
        connection, "access", caller.operation, problem.code, tenant_id=caller.tenant_id, subject=caller.subject
    )


async def _refuse_login(connection: HTTPConnection, operation: str, problem: Unauthenticated) -> None:
    log_refusal(problem, operation)
    if problem.reason is not None:
        await audit.refusal(connection, "login", operation, problem.reason, tenant_id=problem.tenant_id)
