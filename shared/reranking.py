"""Putting search results in order by a reranking model, over the `/v1/rerank` that LiteLLM, vLLM, Cohere and Jina share."""

import json
import math
from collections.abc import Sequence
from http import HTTPStatus

from shared import telemetry
from shared.embeddings import ERROR_EXCERPT, MAX_QUESTION_CHARS, endpoint
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings
from shared.text import storable

TIMEOUT_SECONDS = 5.0


async def rerank(question: str, texts: Sequence[str], settings: Settings) -> list[float]:
    """Return how well each text answers the question, in the order of the texts: the higher, the better.

    Raises Problem `rerank_unavailable` when the endpoint cannot be reached, is too slow or fails, `rerank_rejected` when it
    refuses or answers what is not understood.
    """
    body = {
        "model": settings.rerank_model,
        "query": question[:MAX_QUESTION_CHARS],
        "documents": list(texts),
        "top_n": len(texts),
        "return_documents": False,
    }
    return _scores(await _request(body, settings), len(texts))


async def _request(body: dict[str, object], settings: Settings) -> str:
    from aiohttp import ClientError, ClientTimeout

    headers = {
        "Authorization": f"Bearer {settings.litellm_api_key.get_secret_value()}",
        "Content-Type": "application/json",
        **telemetry.headers(),
    }
    try:
        async with runtime.http().post(
            f"{endpoint(settings.litellm_base_url)}/rerank",
            data=json.dumps(body, ensure_ascii=False).encode(),
            headers=headers,
            timeout=ClientTimeout(TIMEOUT_SECONDS),
        ) as response:
            status, text = response.status, await response.text(errors="replace")
    except (ClientError, TimeoutError, OSError) as error:
        raise Problem(
            "rerank_unavailable", f"The reranking endpoint does not answer: {type(error).__name__}."
        ) from error
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Problem("rerank_unavailable", f"The reranking endpoint answered {status}.")
    if status != HTTPStatus.OK:
        excerpt = storable(text[:ERROR_EXCERPT])
        raise Problem("rerank_rejected", f"The reranking endpoint answered {status}: {excerpt}")
    return text


def _scores(text: str, count: int) -> list[float]:
    try:
        scores = {int(result["index"]): float(result["relevance_score"]) for result in json.loads(text)["results"]}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Problem("rerank_rejected", "The reranking endpoint's answer is not understood.") from error
    if scores.keys() != set(range(count)) or not all(map(math.isfinite, scores.values())):
        raise Problem("rerank_rejected", "The reranking endpoint did not score each text once.")
    return [scores[index] for index in range(count)]
