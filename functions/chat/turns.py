"""The operations on turns. Every rule is in the database: here requests are read, and answers and streams written."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.chat.models import Question, Regeneration
from shared import logs, metrics, retrieval
from shared.access import Admission, admitted, call
from shared.embeddings import Held, Vector, with_question
from shared.event_stream import HEADERS, EventStreamResponse
from shared.follow import followed
from shared.http import read_json
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.stream_reader import StoredEvent
from shared.streams import BEGINNING, HEARTBEAT, POSITION, StreamEvent
from shared.turns import begin, embedded, idempotency_key, reserve, timings, traceparent

MAX_BODY_BYTES = 1024 * 1024


async def ask(request: Request) -> Response:
    """Begin a turn and stream its answer."""
    admission = admitted(request)
    question = await read_json(request, Question, MAX_BODY_BYTES)
    key = idempotency_key(request)
    accepted, steps = await accept(admission, question, key, traceparent(request))
    return _answer(admission, accepted, steps, streamed=question.stream)


async def accept(
    admission: Admission, question: Question, key: str | None, trace: str | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """Begin the turn of a question, with an idempotency key and a trace context where there are any; raises Problem.

    Returns what was accepted (`Accepted`), and the seconds that each step took.
    """
    begun = time.perf_counter()
    vector_at = begins = begun

    settings, database = get_settings(), await runtime.database()
    arguments: dict[str, object] = {
        "p_message": question.message,
        "p_conversation_id": question.conversation_id,
        "p_collections": question.collections,
        "p_idempotency_key": key,
        "p_max_tokens": question.max_tokens,
        "p_model": question.model,
        "p_parent_id": question.parent_id,
        "p_edits": question.edits,
    }

    async def hold() -> Held | dict[str, Any]:
        told = await reserve(database, admission.principal, "chat.begin_turn", **arguments, p_reserve=True)
        return Held.of(question.message, told) if "held" in told else told

    async def begin_with(held: Held, vector: Vector | None) -> dict[str, Any]:
        nonlocal vector_at, begins
        vector_at = time.perf_counter()
        reranked = await retrieval.reranked(
            database, admission.principal, question.message, settings, question.collections, vector
        )
        begins = time.perf_counter()
        return await begin(
            database,
            admission.principal,
            "chat.begin_turn",
            **arguments,
            **embedded(vector),
            **held.settled(),
            p_traceparent=trace,
            p_timings=timings(admission, embedding=vector_at - begun),
            p_reranked=reranked,
        )

    accepted = await with_question(admission.principal, hold, begin_with)
    steps = {"embedding": vector_at - begun, "begin_turn": time.perf_counter() - begins}
    if settings.rerank_model:
        steps["rerank"] = begins - vector_at
    for step, seconds in steps.items():
        metrics.step(step).observe(seconds)
    return accepted, steps


async def regenerate(request: Request) -> Response:
    """Begin another turn for the question of an earlier one, and stream its answer."""
    admission = admitted(request)
    wanted = await read_json(request, Regeneration, MAX_BODY_BYTES, optional=True)
    key = idempotency_key(request)
    begun = time.perf_counter()
    accepted = await begin(
        await runtime.database(),
        admission.principal,
        "chat.regenerate_turn",
        p_turn_id=request.path_params["turn_id"],
        p_model=wanted.model,
        p_max_tokens=wanted.max_tokens,
        p_idempotency_key=key,
        p_traceparent=traceparent(request),
        p_timings=timings(admission),
    )
    steps = {"begin_turn": time.perf_counter() - begun}
    metrics.step("begin_turn").observe(steps["begin_turn"])
    return _answer(admission, accepted, steps, streamed=wanted.stream)


def _answer(admission: Admission, accepted: dict[str, Any], steps: dict[str, float], *, streamed: bool) -> Response:
    """Return the stream of a turn that has begun, or that it was accepted; `steps` took seconds."""
    turn_id = accepted["turn_id"]
    headers = {
        **HEADERS,
        "X-Turn-Id": turn_id,
        "Location": f"/turns/{turn_id}",
        "Server-Timing": _server_timing(admission, steps),
    }
    if not streamed:
        return JSONResponse(accepted, status_code=202, headers=headers)
    return EventStreamResponse(_encoded(events(admission.principal, UUID(turn_id), BEGINNING, accepted)), headers)


async def show(request: Request) -> Response:
    """Tell how a turn stands or ended."""
    admission = admitted(request)
    return JSONResponse(await read(admission.principal, request.path_params["turn_id"]))


async def trace(request: Request) -> Response:
    """Tell what a turn spent its time on, and what was decided."""
    return JSONResponse(await call(request, "chat.read_trace", p_turn_id=request.path_params["turn_id"]))


async def resume(request: Request) -> Response:
    """Stream a turn's events from the beginning, or after the position that the client has seen."""
    admission = admitted(request)
    turn_id = request.path_params["turn_id"]
    after = request.headers.get("last-event-id", BEGINNING)
    if not POSITION.fullmatch(after):
        raise Problem("invalid_request", "Last-Event-ID is not a position of this stream.")
    await read(admission.principal, turn_id)
    return EventStreamResponse(
        _encoded(events(admission.principal, turn_id, after, None)), {**HEADERS, "X-Turn-Id": str(turn_id)}
    )


async def stop(request: Request) -> Response:
    """End a turn."""
    return JSONResponse(await end(admitted(request).principal, request.path_params["turn_id"]))


async def end(principal: Principal, turn_id: UUID) -> dict[str, Any]:
    """End a turn (`Turn`); raises Problem."""
    database = await runtime.database()
    turn: dict[str, Any] = await database.call_releasing_early("chat.stop_turn", principal, p_turn_id=turn_id)
    return turn


async def read(principal: Principal, turn_id: UUID) -> dict[str, Any]:
    """Return how a turn stands or ended (`Turn`); raises Problem."""
    database = await runtime.database()
    turn: dict[str, Any] = await database.call("chat.read_turn", principal, p_turn_id=turn_id)
    return turn


async def events(
    principal: Principal, turn_id: UUID, after: str, accepted: dict[str, Any] | None
) -> AsyncGenerator[Sequence[StreamEvent | StoredEvent], None]:
    """Yield a turn's events after a position, first what was `accepted` if it has just begun; none where a heartbeat is due."""
    if accepted is not None:
        yield [StreamEvent("turn.accepted", accepted)]

    async def read_turn() -> dict[str, Any]:
        return await read(principal, turn_id)

    heartbeat = get_settings().stream_heartbeat_seconds
    begun = accepted is None or accepted["replayed"]
    try:
        async with aclosing(followed(runtime.redis(), turn_id, after, read_turn, heartbeat, begun=begun)) as following:
            async for told in following:
                yield told
    except Problem as problem:
        # The answer has begun, so it is told as an event: for one, the turn was deleted while its reader waited.
        metrics.problems().labels(problem.code).inc()
        logs.warning("stream_ended", turn_id=turn_id, code=problem.code, detail=problem.detail)
        failure = {"code": problem.code, "detail": problem.detail, "turn_id": str(turn_id)}
        yield [StreamEvent("turn.failed", failure)]


async def _encoded(telling: AsyncGenerator[Sequence[StreamEvent | StoredEvent], None]) -> AsyncGenerator[bytes, None]:
    """Yield the events as server-sent events; what came together travels together."""
    async with aclosing(telling):
        async for told in telling:
            yield b"".join([event.encode() for event in told]) or HEARTBEAT


def _server_timing(admission: Admission, steps: dict[str, float]) -> str:
    """Return the steps' durations as a Server-Timing header (W3C), in milliseconds."""
    durations = {"auth": admission.auth_seconds, "rate_limit": admission.rate_seconds, **steps}
    return ", ".join(f"{step};dur={seconds * 1000:.2f}" for step, seconds in durations.items())
