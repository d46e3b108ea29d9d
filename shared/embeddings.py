"""Embeddings from any OpenAI-compatible endpoint, as pgvector's text form, by the model that made the stored vectors.

One POST does not justify the openai SDK here: importing it costs a function most of its cold start.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pgvector import HalfVector

from shared import logs, metrics, telemetry
from shared.database import Database
from shared.model_endpoint import post
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings, get_settings

RETRY_DELAYS_SECONDS = (0.2, 1.0)
MAX_TOKENS = 2**31
"""An endpoint that has counted more has not counted."""
NOT_UNDERSTOOD = "The embedding endpoint's answer is not understood."
QUESTION_TIMEOUT_SECONDS = 5.0
MAX_QUESTION_CHARS = 8000
"""Embedding models read some thousand tokens, and many endpoints refuse more; the text search sees the whole question."""
MODEL_SECONDS = 60.0
"""For so long a process takes the model that it knows for the active one, where nothing is compared with what it has made."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Model:
    """An embedding model as the database knows it; its vectors are compared with those of the same `id` only."""

    id: int
    name: str
    width: int
    send_dimensions: bool = False
    """The endpoint is asked for vectors of this width, because the model can shorten its own; many endpoints refuse that."""


@dataclass(slots=True)
class Held:
    """What is held of a budget for a question's embedding: budget.reserve_question's reservation and model."""

    id: str
    question: str
    model: Model
    tokens: int | None = 0
    """What the endpoint has counted: 0 as long as it has not answered, None when it does not say."""

    @classmethod
    def of(cls, question: str, told: Mapping[str, Any]) -> Self:
        """Return what budget.reserve_question has told."""
        return cls(told["held"], question, Model(**told["model"]))

    def settled(self) -> dict[str, object]:
        """Return the arguments by which an SQL function ends it."""
        return {"p_held": self.id, "p_held_tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class Vector:
    """A question's embedding, in pgvector's text form, and whose it is."""

    text: str
    model: Model


_known: tuple[Database, float, Model] | None = None


async def active_model() -> Model:
    """Return the model that made the vectors that searches compare with.

    It is the database's, whatever LITELLM_EMBEDDING_MODEL says: that one is what `make reembed` builds.
    """
    global _known  # noqa: PLW0603 - a process has one
    database = await runtime.database()
    if _known is None or _known[0] is not database or time.monotonic() > _known[1]:
        _known = database, time.monotonic() + MODEL_SECONDS, Model(**await database.call("rag.active_model"))
    return _known[2]


def configured_model(settings: Settings) -> Model:
    """Return the model that is set: what a database without vectors begins with, and what `make reembed` builds."""
    return Model(0, settings.litellm_embedding_model, settings.embedding_dimensions, settings.embedding_send_dimensions)


async def embed(
    texts: Sequence[str], model: Model, settings: Settings, *, timeout_seconds: float
) -> list[str | Problem]:
    """Return one vector a text, in pgvector's text form at half precision, in the order of the texts.

    In the place of a vector that cannot be used stands the problem: `embedding_width_mismatch`, or `embedding_rejected` for
    one that is not finite. `timeout_seconds` bounds each attempt. Raises Problem `embedding_unavailable` when the endpoint
    cannot be reached, is too slow or fails, and `embedding_rejected` when it refuses, with the status in `extra`, or answers
    what is not understood.
    """
    for delay in (*RETRY_DELAYS_SECONDS, None):
        try:
            answer = await _ask(texts, model, settings, timeout_seconds)
            return _vectors(_parsed(answer), len(texts), model)
        except Problem as problem:
            if problem.code != "embedding_unavailable" or delay is None:
                raise
            await asyncio.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


async def request(texts: Sequence[str], model: Model, settings: Settings, timeout_seconds: float) -> str:
    """Return the endpoint's answer to one request, as JSON; raises Problem as `embed` does."""
    return await post(
        "/embeddings",
        {"model": model.name, "input": list(texts), "encoding_format": "float"}
        | ({"dimensions": model.width} if model.send_dimensions else {}),
        settings,
        timeout_seconds=timeout_seconds,
        named="embedding",
        unavailable="embedding_unavailable",
        rejected="embedding_rejected",
    )


async def with_question(
    principal: Principal,
    hold: Callable[[], Awaitable[Held | Result]],
    call: Callable[[Held, Vector | None], Awaitable[Result]],
) -> Result:
    """Return what a call makes of a question's vector, of None where the search is by text alone.

    `hold` reserves what the embedding may take, or returns the result where none is needed. `call` ends the reservation, by
    `Held.settled`; when it fails, or is not reached, it is ended here: what the endpoint has answered is charged, whatever
    becomes of the question. When the vectors have just become another model's, all begins anew, once.
    """
    for last in (False, True):
        held = await hold()
        if not isinstance(held, Held):
            return held
        try:
            return await call(held, await embed_question(held))
        except BaseException as error:
            await _settle(principal, held)
            if last or not (isinstance(error, Problem) and error.code == "embedding_model_changed"):
                raise
    raise AssertionError("the last attempt returns or raises")


async def _settle(principal: Principal, held: Held) -> None:
    """End a reservation; what cannot be ended now ends by itself, uncharged."""
    try:
        database = await runtime.database()
        await database.call_releasing_early("budget.settle_embedding", principal, p_id=held.id, p_tokens=held.tokens)
    except Problem as problem:
        metrics.problems().labels(problem.code).inc()
        logs.error("question_not_charged", held=held.id, code=problem.code, detail=problem.detail)


async def embed_question(held: Held) -> Vector | None:
    """Return a question's vector, or None when the endpoint does not answer: then the search is by text alone.

    Tells in `held` what the endpoint has counted. Raises Problem as `embed` does.
    """
    model, settings = held.model, get_settings()
    try:
        answer = await _ask([held.question[:MAX_QUESTION_CHARS]], model, settings, QUESTION_TIMEOUT_SECONDS)
    except Problem as problem:
        if problem.code != "embedding_unavailable":
            raise
        metrics.problems().labels(problem.code).inc()
        logs.warning("retrieval_degraded", code=problem.code, detail=problem.detail)
        return None
    held.tokens = None
    parsed = _parsed(answer)
    held.tokens = counted(parsed)
    [vector] = _vectors(parsed, 1, model)
    if isinstance(vector, Problem):
        raise vector
    return Vector(vector, model)


def counted(answer: Any) -> int | None:
    """Return the tokens that the endpoint's answer counts, None when it does not say."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and 0 <= tokens < MAX_TOKENS else None


async def _ask(texts: Sequence[str], model: Model, settings: Settings, timeout_seconds: float) -> str:
    """Return the endpoint's answer as `request` does, within a span."""
    about = {"gen_ai.embeddings.dimension.count": model.width}
    with telemetry.model_call("embeddings", model.name, settings.litellm_base_url, about):
        return await request(texts, model, settings, timeout_seconds)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem("embedding_rejected", NOT_UNDERSTOOD) from error


def _vectors(answer: Any, count: int, model: Model) -> list[str | Problem]:
    try:
        items = sorted(answer["data"], key=lambda item: item["index"])
        vectors = [_vector(item["embedding"], model) for item in items]
    except (ValueError, KeyError, TypeError) as error:
        raise Problem("embedding_rejected", NOT_UNDERSTOOD) from error
    if len(vectors) != count:
        raise Problem(
            "embedding_rejected", f"The embedding endpoint returned {len(vectors)} vectors for {count} texts."
        )
    return vectors


def _vector(components: Any, model: Model) -> str | Problem:
    """Return one vector's text form; raises TypeError or ValueError for what is none."""
    if len(components) != model.width:
        return Problem(
            "embedding_width_mismatch",
            f"The vectors of {model.name} are to have {model.width} dimensions, and the endpoint returned {len(components)}.",
        )
    try:
        if not all(map(math.isfinite, components)):
            raise OverflowError
        vector = HalfVector([float(component) for component in components])
    except OverflowError:
        return Problem("embedding_rejected", "The embedding endpoint returned a number that is not finite.")
    # Half precision holds three to four digits: more would only fill the statement that stores them.
    return f"[{','.join(f'{component:.5g}' for component in vector.to_list())}]"
