"""Reciprocal rank fusion, computed apart from the platform: what its search is compared with, and what the sweep tries.

Source: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
SIGIR 2009.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    Weight = float | Sequence[float]

K = 60
"""The constant of the paper."""

Key = TypeVar("Key", bound="Hashable")


def fuse(rankings: Iterable[tuple[Weight, Sequence[Key]]], k: float = K) -> list[Key]:
    """Return the items of all (weight, ranking) pairs by the sum of weight / (k + rank), ranks from 1.

    A weight is the whole ranking's, or has one for each of its items.

    Items with equal sums stand in the order in which the rankings first name them.
    """
    scores: defaultdict[Key, float] = defaultdict(float)
    for weight, ranking in rankings:
        weights = [weight] * len(ranking) if isinstance(weight, float | int) else weight
        for rank, (item, own) in enumerate(zip(ranking, weights, strict=True), start=1):
            if own:
                scores[item] += own / (k + rank)
    return sorted(scores, key=lambda item: -scores[item])


def documents(chunks: Iterable[Key], document_of: Mapping[Key, str]) -> list[str]:
    """Return the documents of ranked chunks, each at the rank of its best chunk."""
    return list(dict.fromkeys(document_of[chunk] for chunk in chunks))
