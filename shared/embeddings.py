"""Embeddings from any OpenAI-compatible endpoint, as pgvector's text form, by the model that made the stored vectors.

One POST does not justify the openai SDK here: importing it costs a function most of its cold start.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pgvector import HalfVector

from shared import logs, metrics, telemetry
from shared.database import Database
from shared.model_endpoint import post
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings, get_settings

RETRY_DELAYS_SECONDS = (0.2, 1.0)
QUESTION_TIMEOUT_SECONDS = 5.0
MAX_QUESTION_CHARS = 8000
"""Embedding models read some thousand tokens, and many endpoints refuse more; the text search sees the whole question."""
MODEL_SECONDS = 60.0
"""For so long a process takes the model that it knows for the active one; after a switch the database says that it is not."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Model:
    """An embedding model as the database knows it; its vectors are compared with those of the same `id` only."""

    id: int
    name: str
    width: int
    send_dimensions: bool = False
    """The endpoint is asked for vectors of this width, because the model can shorten its own; many endpoints refuse that."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A question's embedding, in pgvector's text form, and whose it is."""

    text: str
    model: Model


_known: tuple[Database, float, Model] | None = None


async def active_model(*, fresh: bool = False) -> Model:
    """Return the model that made the vectors that searches compare with; `fresh` asks the database in any case.

    It is the database's, whatever LITELLM_EMBEDDING_MODEL says: that one is what `make reembed` builds.
    """
    global _known  # noqa: PLW0603 - a process has one
    database = await runtime.database()
    if fresh or _known is None or _known[0] is not database or time.monotonic() > _known[1]:
        _known = database, time.monotonic() + MODEL_SECONDS, Model(**await database.call("rag.active_model"))
    return _known[2]


def configured_model(settings: Settings) -> Model:
    """Return the model that is set: what a database without vectors begins with, and what `make reembed` builds."""
    return Model(0, settings.litellm_embedding_model, settings.embedding_dimensions, settings.embedding_send_dimensions)


async def embed(
    texts: Sequence[str],
    model: Model,
    settings: Settings,
    *,
    timeout_seconds: float,
    retries: int = len(RETRY_DELAYS_SECONDS),
) -> list[str | Problem]:
    """Return one vector a text, in pgvector's text form at half precision, in the order of the texts.

    In the place of a vector that cannot be used stands the problem: `embedding_width_mismatch`, or `embedding_rejected` for
    one that is not finite. `timeout_seconds` bounds each attempt. Raises Problem `embedding_unavailable` when the endpoint
    cannot be reached, is too slow or fails, and `embedding_rejected` when it refuses, with the status in `extra`, or answers
    what is not understood.
    """
    about = {"gen_ai.embeddings.dimension.count": model.width}
    for delay in (*RETRY_DELAYS_SECONDS[:retries], None):
        try:
            with telemetry.model_call("embeddings", model.name, settings.litellm_base_url, about):
                answer = await request(texts, model, settings, timeout_seconds)
            return _vectors(answer, len(texts), model)
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


async def with_question(question: str, call: Callable[[Vector | None], Awaitable[Result]]) -> Result:
    """Return what a call makes of a question's vector, of None where the search is by text alone.

    When the vectors have just become another model's, the question is embedded again, once.
    """
    try:
        return await call(await embed_question(question))
    except Problem as problem:
        if problem.code != "embedding_model_changed":
            raise
    return await call(await embed_question(question, fresh=True))


async def embed_question(question: str, *, fresh: bool = False) -> Vector | None:
    """Return a question's vector, or None when the endpoint does not answer: then the search is by text alone."""
    model = await active_model(fresh=fresh)
    texts = [question[:MAX_QUESTION_CHARS]]
    try:
        [vector] = await embed(texts, model, get_settings(), timeout_seconds=QUESTION_TIMEOUT_SECONDS, retries=0)
    except Problem as problem:
        if problem.code != "embedding_unavailable":
            raise
        metrics.problems().labels(problem.code).inc()
        logs.warning("retrieval_degraded", code=problem.code, detail=problem.detail)
        return None
    if isinstance(vector, Problem):
        raise vector
    return Vector(vector, model)


def _vectors(text: str, count: int, model: Model) -> list[str | Problem]:
    try:
        items = sorted(json.loads(text)["data"], key=lambda item: item["index"])
        vectors = [_vector(item["embedding"], model) for item in items]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Problem("embedding_rejected", "The embedding endpoint's answer is not understood.") from error
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
