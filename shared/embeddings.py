"""Embeddings from any OpenAI-compatible endpoint, as pgvector's text form.

One POST does not justify the openai SDK here: importing it costs a function most of its cold start.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from http import HTTPStatus

from pgvector import HalfVector

from shared import logs, metrics, telemetry
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings
from shared.text import storable

RETRY_DELAYS_SECONDS = (0.2, 1.0)
ERROR_EXCERPT = 300
QUESTION_TIMEOUT_SECONDS = 5.0
MAX_QUESTION_CHARS = 8000
"""Embedding models read some thousand tokens, and many endpoints refuse more; the text search sees the whole question."""


def endpoint(base_url: str) -> str:
    """Return the base URL of an OpenAI-compatible API, which ends with /v1 whether or not the given one does."""
    base = base_url.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


async def embed(
    texts: Sequence[str],
    settings: Settings,
    *,
    timeout_seconds: float,
    retries: int = len(RETRY_DELAYS_SECONDS),
) -> list[str]:
    """Return one vector a text, in pgvector's text form at half precision, in the order of the texts.

    `timeout_seconds` bounds each attempt. Raises Problem `embedding_unavailable` when the endpoint cannot be reached, is
    too slow or fails, `embedding_rejected` when it refuses, `embedding_width_mismatch` when its vectors have another
    width than EMBEDDING_DIMENSIONS.
    """
    model, server = settings.litellm_embedding_model, settings.litellm_base_url
    about = {"gen_ai.embeddings.dimension.count": settings.embedding_dimensions}
    for delay in (*RETRY_DELAYS_SECONDS[:retries], None):
        try:
            with telemetry.model_call("embeddings", model, server, about):
                answer = await request(texts, settings, timeout_seconds)
            return _vectors(answer, len(texts), settings.embedding_dimensions)
        except Problem as problem:
            if problem.code != "embedding_unavailable" or delay is None:
                raise
            await asyncio.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


async def request(texts: Sequence[str], settings: Settings, timeout_seconds: float) -> str:
    """Return the endpoint's answer to one request, as JSON; raises Problem as `embed` does."""
    from aiohttp import ClientError, ClientTimeout

    body = {"model": settings.litellm_embedding_model, "input": list(texts), "encoding_format": "float"}
    headers = {
        "Authorization": f"Bearer {settings.litellm_api_key.get_secret_value()}",
        "Content-Type": "application/json",
        **telemetry.headers(),
    }
    try:
        async with runtime.http().post(
            f"{endpoint(settings.litellm_base_url)}/embeddings",
            data=json.dumps(body, ensure_ascii=False).encode(),
            headers=headers,
            timeout=ClientTimeout(timeout_seconds),
        ) as response:
            status, text = response.status, await response.text(errors="replace")
    except (ClientError, TimeoutError, OSError) as error:
        raise Problem(
            "embedding_unavailable", f"The embedding endpoint does not answer: {type(error).__name__}."
        ) from error
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Problem("embedding_unavailable", f"The embedding endpoint answered {status}.")
    if status != HTTPStatus.OK:
        excerpt = storable(text[:ERROR_EXCERPT])
        raise Problem("embedding_rejected", f"The embedding endpoint answered {status}: {excerpt}")
    return text


async def embed_question(question: str, settings: Settings) -> str | None:
    """Return a question's vector, or None when the endpoint does not answer: then the search is by text alone."""
    try:
        [vector] = await embed(
            [question[:MAX_QUESTION_CHARS]], settings, timeout_seconds=QUESTION_TIMEOUT_SECONDS, retries=0
        )
    except Problem as problem:
        if problem.code != "embedding_unavailable":
            raise
        metrics.problems().labels(problem.code).inc()
        logs.warning("retrieval_degraded", code=problem.code, detail=problem.detail)
        return None
    return vector


def _half_vector(components: Sequence[float]) -> HalfVector:
    """Return the vector; raises ValueError or OverflowError for what half precision cannot hold."""
    if not all(map(math.isfinite, components)):
        raise ValueError("a component is not finite")
    return HalfVector([float(component) for component in components])


def _vectors(text: str, count: int, width: int) -> list[str]:
    try:
        items = sorted(json.loads(text)["data"], key=lambda item: item["index"])
        vectors = [_half_vector(item["embedding"]) for item in items]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Problem("embedding_rejected", "The embedding endpoint's answer is not understood.") from error
    if len(vectors) != count:
        raise Problem(
            "embedding_rejected", f"The embedding endpoint returned {len(vectors)} vectors for {count} texts."
        )
    for vector in vectors:
        if vector.dimensions() != width:
            raise Problem(
                "embedding_width_mismatch",
                f"The embedding model returns {vector.dimensions()} dimensions, and EMBEDDING_DIMENSIONS is {width}.",
            )
    # Half precision holds three to four digits: more would only fill the statement that stores them.
    return [f"[{','.join(f'{component:.5g}' for component in vector.to_list())}]" for vector in vectors]
