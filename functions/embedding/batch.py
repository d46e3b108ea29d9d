"""One batch of chunks at the endpoint: a vector for each, or why there can be none."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from shared.embeddings import Model, embed
from shared.problems import Problem
from shared.settings import get_settings

TIMEOUT_SECONDS = 60.0
WHOEVER_ASKS = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
)
"""Refusals that no text is the reason of: smaller batches would be refused as well."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A claimed chunk: what is embedded of it, and whether its lease is the `last`, or one more than that (`exhausted`)."""

    id: str
    text: str
    last: bool
    exhausted: bool

    def vector(self, vector: str) -> dict[str, Any]:
        """Return the result that rag.store_embeddings takes for a vector."""
        return {"chunk_id": self.id, "embedding": vector}

    def failure(self, problem: Problem) -> dict[str, Any]:
        """Return the result for a chunk that no vector can be had for."""
        return {"chunk_id": self.id, "error_code": problem.code, "error_detail": problem.detail}


async def embed_batch(chunks: Sequence[Chunk], model: Model) -> list[dict[str, Any]]:
    """Return the results of chunks, in their order; raises Problem `embedding_unavailable`.

    A batch that is refused is halved, until the chunk that is the reason is alone.
    """
    try:
        answers = await embed([chunk.text for chunk in chunks], model, get_settings(), timeout_seconds=TIMEOUT_SECONDS)
    except Problem as problem:
        if problem.code == "embedding_unavailable":
            raise
        if len(chunks) == 1 or problem.extra.get("endpoint_status") in WHOEVER_ASKS:
            return [chunk.failure(problem) for chunk in chunks]
        half = len(chunks) // 2
        return [*await embed_batch(chunks[:half], model), *await embed_batch(chunks[half:], model)]
    return [
        chunk.failure(answer) if isinstance(answer, Problem) else chunk.vector(answer)
        for chunk, answer in zip(chunks, answers, strict=True)
    ]
