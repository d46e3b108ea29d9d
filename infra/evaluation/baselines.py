"""What a search can be measured against, outside PostgreSQL: BM25 over whole documents, and exact vector search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.evaluation.collection import Entry
    from infra.evaluation.vectors import Vector, Vectors

K1, B = 1.2, 0.75
"""Lucene's defaults."""


class Bm25:
    """BM25 as Lucene computes it, over title and text, with the Snowball stemmer for English and English stop words."""

    def __init__(self, documents: Sequence[Entry]) -> None:
        # The extra `eval`: nothing else needs them.
        import bm25s
        from Stemmer import Stemmer

        self._stemmer = Stemmer("english")
        self._tokenize = bm25s.tokenize
        self._names = [document.id for document in documents]
        self._index = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(self._tokens([f"{d.title} {d.text}" for d in documents]), show_progress=False)

    def search(self, query: str, limit: int) -> list[str]:
        """Return the ids of the best documents that share a word with the query."""
        places, scores = self._index.retrieve(
            self._tokens([query]), k=min(limit, len(self._names)), show_progress=False, n_threads=0
        )
        return [self._names[place] for place, score in zip(places[0], scores[0], strict=True) if score > 0]

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        tokens: list[list[str]] = self._tokenize(
            list(texts), stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return tokens


class Exact:
    """Cosine similarity to every passage; a document is as near as its nearest passage."""

    def __init__(self, vectors: Vectors, documents: Sequence[str]) -> None:
        """Take the passages' vectors and the document of each."""
        self._vectors = _unit(vectors)
        self._documents = documents

    def search(self, vector: Vector, limit: int) -> list[str]:
        """Return the ids of the nearest documents."""
        similarity = self._vectors @ _unit(vector[np.newaxis])[0]
        found: dict[str, None] = {}
        for place in np.argsort(-similarity, kind="stable"):
            found.setdefault(self._documents[place])
            if len(found) == limit:
                break
        return list(found)


def _unit(vectors: Vectors) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    wide = vectors.astype(np.float32)
    unit: np.ndarray[tuple[int, int], np.dtype[np.float32]] = wide / np.maximum(
        np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1e-12)
    )
    return unit
