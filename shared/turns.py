"""Beginning a turn: what every function does that accepts one, whatever its clients speak."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from psycopg.types.json import Jsonb
from starlette.requests import Request

from shared import logs, telemetry, together
from shared.access import Admission
from shared.connection import Commit
from shared.database import Database
from shared.embeddings import Vector
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime

IDEMPOTENCY_KEY_CHARS = 255
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


async def begin(database: Database, principal: Principal, function: str, /, **arguments: object) -> dict[str, Any]:
    """Begin a turn by an SQL function and return what it accepted; raises Problem.

    That a budget was found full is noted, because the refused transaction leaves nothing.
    """
    with telemetry.database_call(function):
        return await _begin(database, database.call_releasing_early, principal, function, arguments)


async def reserve(database: Database, principal: Principal, function: str, /, **arguments: object) -> dict[str, Any]:
    """Return what an SQL function reserves for a question's embedding, or the turn that was begun before; as `begin`.

    A reservation is not on disk yet: nobody is told of it, and when it is lost nothing is but a charge.
    """
    with telemetry.database_call("budget.reserve_question"):
        told = await _begin(database, partial(database.write, Commit.UNAWAITED), principal, function, arguments)
        if "turn_id" in told:
            await together.flushed(database)
        return told


async def _begin(
    database: Database,
    call: Callable[..., Awaitable[Any]],
    principal: Principal,
    function: str,
    arguments: Mapping[str, object],
) -> dict[str, Any]:
    try:
        accepted: dict[str, Any] = await call(function, principal, **arguments)
    except Problem as problem:
        if problem.code == "budget_exceeded":
            full = {f"p_{name}": problem.extra[name] for name in ("scope", "holder_id", "period", "starts_on")}
            await database.call("budget.note_exhausted", principal, **full)
        raise
    if "turn_id" in accepted:
        _log_accepted(principal, accepted)
    return accepted


async def begin_together(
    principal: Principal, function: str, item: str, /, **arguments: object
) -> dict[str, Any] | None:
    """Begin a turn with others by an SQL function that takes p_requests; return None when it must begin alone.

    What was accepted is `plain`, and not yet on disk: nobody is told of it before together.flushed, or before its end is there,
    which comes after it in the log. Raises Problem `database_unavailable`.
    """
    with telemetry.database_call(function):
        database = await runtime.database()
        accepted: dict[str, Any] | None = await together.call(
            database, Commit.UNAWAITED, function, principal, "p_requests", item, **arguments
        )
    if accepted is not None:
        accepted["plain"] = True
        _log_accepted(principal, accepted)
    return accepted


def _log_accepted(principal: Principal, accepted: dict[str, Any]) -> None:
    logs.info(
        "turn_accepted", turn_id=accepted["turn_id"], tenant_id=principal.tenant_id, replayed=accepted["replayed"]
    )


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key; raises Problem `invalid_request`."""
    key = request.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= IDEMPOTENCY_KEY_CHARS and key.isprintable()):
        raise Problem(
            "invalid_request", f"Idempotency-Key must have 1 to {IDEMPOTENCY_KEY_CHARS} printable characters."
        )
    return key


def traceparent(request: Request) -> str | None:
    """Return the context in which the turn is traced: this function's own span, or what the request says.

    One that is not valid is ignored, as W3C Trace Context (section 3.2) asks.
    """
    if (own := telemetry.traceparent()) is not None:
        return own
    return valid_traceparent(request.headers.get("traceparent", ""))


def valid_traceparent(value: str) -> str | None:
    """Return a trace context if it is one."""
    return value if TRACEPARENT.fullmatch(value) else None


def embedded(vector: Vector | None) -> dict[str, object]:
    """Return the arguments that carry a question's vector; without one the search is by text alone."""
    if vector is None:
        return {"p_embedding": None}
    return {"p_embedding": vector.text, "p_embedding_model": vector.model.id}


def timings(admission: Admission, **steps: float) -> Jsonb:
    """Return what the steps before the database took, in seconds here and in milliseconds for the turn's trace."""
    durations = {"auth": admission.auth_seconds, "rate_limit": admission.rate_seconds, **steps}
    return Jsonb({step: round(seconds * 1000, 3) for step, seconds in durations.items()})
