"""Putting search results in order by a reranking model, over the `/v1/rerank` that LiteLLM, vLLM, Cohere and Jina share."""

import json
import math
from collections.abc import Sequence

from shared.embeddings import MAX_QUESTION_CHARS
from shared.model_endpoint import post
from shared.problems import Problem
from shared.settings import Settings

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
    answer = await post(
        "/rerank",
        body,
        settings,
        timeout_seconds=TIMEOUT_SECONDS,
        named="reranking",
        unavailable="rerank_unavailable",
        rejected="rerank_rejected",
    )
    return _scores(answer, len(texts))


def _scores(text: str, count: int) -> list[float]:
    try:
        scores = {int(result["index"]): float(result["relevance_score"]) for result in json.loads(text)["results"]}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Problem("rerank_rejected", "The reranking endpoint's answer is not understood.") from error
    if scores.keys() != set(range(count)) or not all(map(math.isfinite, scores.values())):
        raise Problem("rerank_rejected", "The reranking endpoint did not score each text once.")
    return [scores[index] for index in range(count)]
