"""Vectors from the embedding endpoint, kept by model and text, so that a second run embeds nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from shared.embeddings import MAX_QUESTION_CHARS, configured_model, embed
from shared.problems import Problem
from shared.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from shared.settings import Settings

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float16]]
"""[texts, dimensions] at half precision, as the platform stores them."""
Vector = np.ndarray[tuple[int], np.dtype[np.float16]]

BATCH = 32
REQUESTS_AT_ONCE = 4
TIMEOUT_SECONDS = 120.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors (model text, text_sha256 blob, vector blob, PRIMARY KEY (model, text_sha256))"
)


class Cache:
    """A file of vectors of one model. Closing it, or a crash, keeps what was put."""

    def __init__(self, path: Path, model: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._model = model
        self._file = sqlite3.connect(path)
        self._file.execute(_SCHEMA)

    def get(self, text: str) -> bytes | None:
        """Return the vector of a text, or None."""
        row = self._file.execute(
            "SELECT vector FROM vectors WHERE model = ? AND text_sha256 = ?", (self._model, _digest(text))
        ).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        """Keep the vectors of some texts."""
        with self._file:
            self._file.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
                [(self._model, _digest(text), vector) for text, vector in zip(texts, vectors, strict=True)],
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def embed_all(
    texts: Sequence[str], settings: Settings, cache_path: Path, advance: Callable[[int], None] = lambda _: None
) -> Vectors:
    """Return the vectors of the texts; `advance` is told of each batch, and of those known before, how many they are.

    Of a text that is longer than what the platform sends of a question, only that beginning is sent. Raises Problem, as
    shared.embeddings does.
    """
    asked = [text[:MAX_QUESTION_CHARS] for text in texts]
    model = f"{settings.litellm_embedding_model}/{settings.embedding_dimensions}"
    cache = Cache(cache_path, model)
    try:
        known = {text: cache.get(text) for text in asked}
        missing = [text for text, vector in known.items() if vector is None]
        advance(len(texts) - len(missing))
        known.update(asyncio.run(_embed(missing, settings, cache, advance)))
    finally:
        cache.close()
    stored = b"".join(vector for text in asked if (vector := known[text]) is not None)
    return np.frombuffer(stored, np.float16).reshape(len(texts), settings.embedding_dimensions)


async def _embed(
    texts: Sequence[str], settings: Settings, cache: Cache, advance: Callable[[int], None]
) -> dict[str, bytes]:
    places = asyncio.Semaphore(REQUESTS_AT_ONCE)
    model = configured_model(settings)
    found: dict[str, bytes] = {}

    async def embed_batch(batch: Sequence[str]) -> None:
        async with places:
            answer = await embed(batch, model, settings, timeout_seconds=TIMEOUT_SECONDS)
        for vector in answer:
            if isinstance(vector, Problem):
                raise vector
        vectors = [np.array(json.loads(vector), np.float16).tobytes() for vector in answer if isinstance(vector, str)]
        cache.put(batch, vectors)
        found.update(zip(batch, vectors, strict=True))
        advance(len(batch))

    try:
        async with asyncio.TaskGroup() as group:
            for batch in _batches(texts):
                group.create_task(embed_batch(batch))
    except* Problem as problems:
        raise _first(problems) from None
    finally:
        await runtime.close()
    return found


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    # Texts of like length fill the model's passes best.
    ordered = sorted(texts, key=len)
    yield from (ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH))


def _first(problems: ExceptionGroup[Problem]) -> Problem:
    problem = problems.exceptions[0]
    return problem if isinstance(problem, Problem) else _first(problem)


def as_text(vector: Vector) -> str:
    """Return a vector in pgvector's text form."""
    return f"[{','.join(f'{component:.5g}' for component in vector)}]"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
