"""POST /v1/chat/completions: begin the turn, generate its answer here, and tell it as the client asked.

The process that accepts the turn runs its first attempt by itself, under a lease as any worker: that saves the way through
outbox, broker and another function. When it dies, the lease ends, and the sweeper gives the job to the inference function; the
client finds the turn by its X-Turn-Id, or by asking again with the same Idempotency-Key.
"""

import json
import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.openai_api.models import Completion
from functions.openai_api.telling import Stream, Whole
from shared import generation, retrieval, together, turns
from shared.access import Admission, admitted
from shared.answer import Heard
from shared.embeddings import Held, Vector, with_question
from shared.http import read_json
from shared.leases import WORKER
from shared.principal import Worker
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.text import UNSTORABLE

FUNCTION = "openai-api"
MAX_BODY_BYTES = 10 * 1024 * 1024
"""Room for images as data URLs."""
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


async def create(request: Request) -> Response:
    """Answer a list of messages."""
    admission = admitted(request)
    asked = await read_json(request, Completion, MAX_BODY_BYTES)
    if refused := asked.refused():
        raise Problem("invalid_request", f"{refused[0]}: is not supported.", extra={"errors": [{"field": refused[0]}]})
    accepted = await _begin(request, admission, asked)
    heard = Heard()
    if "job" in accepted:
        actor = Worker(admission.principal.tenant_id, FUNCTION)
        # Messages that are as the client sent them do not come back.
        job = accepted["job"] | {"messages": accepted["job"]["messages"] or asked.messages}
        heard.run = generation.start(
            job, actor, heard.listen if asked.stream else None, plain=accepted.get("plain", False)
        )
    if asked.stream:
        # While the model begins, the turn reaches the disk.
        stored = together.flushed(await runtime.database()) if accepted.get("plain") else None
        usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return await Stream(admission.principal, accepted, heard, stored, include_usage=usage).response()
    return await Whole(admission.principal, accepted, heard).response()


async def _begin(request: Request, admission: Admission, asked: Completion) -> dict[str, Any]:
    """Begin the turn, with others of the same user that begin just now where that can be."""
    arguments: dict[str, object] = {
        "p_messages": _json("messages", asked.messages),
        "p_parameters": _json("parameters", asked.parameters()),
        "p_model": asked.model,
        "p_max_tokens": asked.held_to(),
        "p_collections": asked.collections(),
        "p_idempotency_key": turns.idempotency_key(request),
        "p_traceparent": turns.traceparent(request),
    }
    if arguments["p_collections"] is None and arguments["p_idempotency_key"] is None:
        accepted = await _begin_together(admission, arguments)
        if accepted is not None:
            return accepted
    return await _begin_alone(admission, arguments)


async def _begin_together(admission: Admission, arguments: dict[str, object]) -> dict[str, Any] | None:
    """Begin the turn of a plain request; return None when it must begin alone."""
    about = {
        "model": arguments["p_model"],
        "max_tokens": arguments["p_max_tokens"],
        "traceparent": arguments["p_traceparent"],
        "timings": turns.timings(admission).obj,
    }
    request = f'{{"messages":{arguments["p_messages"]},"parameters":{arguments["p_parameters"]}}}'
    item = f'{{"request":{request},{_json("model", about)[1:]}'
    return await turns.begin_together(
        admission.principal, "chat.begin_completions", item, p_worker=WORKER, p_lease=get_settings().job_lease()
    )


async def _begin_alone(admission: Admission, arguments: dict[str, object]) -> dict[str, Any]:
    """Begin the turn; where the database says that it needs the question's vector, make it and begin again."""
    settings = get_settings()
    arguments |= {"p_worker": WORKER, "p_lease": settings.job_lease(), "p_timings": turns.timings(admission)}
    database, principal = await runtime.database(), admission.principal
    begin, begun = "chat.begin_completion", time.perf_counter()
    collections: list[str] | None = None

    async def hold() -> Held | dict[str, Any]:
        nonlocal begun, collections
        told = await turns.begin(database, principal, begin, **arguments, p_reserve=True)
        if "embed" not in told:
            return told
        begun, collections = time.perf_counter(), told["collections"]
        if "held" in told:
            return Held.of(told["embed"], told)
        # Nothing but blanks: there is nothing to embed.
        return await begin_with(None, told["embed"])

    async def begin_with_vector(held: Held, vector: Vector | None) -> dict[str, Any]:
        return await begin_with(vector, held.question, **held.settled())

    async def begin_with(vector: Vector | None, question: str, **settled: object) -> dict[str, Any]:
        found = {**turns.embedded(vector), **settled, "p_embedded": True}
        found["p_timings"] = turns.timings(admission, embedding=time.perf_counter() - begun)
        found["p_reranked"] = await retrieval.reranked(database, principal, question, settings, collections, vector)
        return await turns.begin(database, principal, begin, **arguments | found)

    return await with_question(principal, hold, begin_with_vector)


def _json(field: str, document: object) -> str:
    """Return a part of the request as JSON; raises Problem `invalid_request` for text that PostgreSQL cannot hold."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise Problem("invalid_request", f"{field}: a number is not finite.") from error
    # Looking for the escape first: an image has none, and the pattern takes its time.
    if UNSTORABLE.search(text) or ("\\u0000" in text and ESCAPED_NUL.search(text)):
        raise Problem("invalid_request", f"{field}: must not contain NUL characters or lone surrogates.")
    return text
