"""How good a ranking is, exactly as trec_eval and BEIR say it, and how long it took.

A ranking is a list of document ids, best first, without repetition. Judgements are scores by document; above 0 is relevant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEASURES = ("nDCG@10", "recall@5", "recall@20", "MRR@10")


def measure(ranking: Sequence[str], judgements: Mapping[str, int]) -> dict[str, float]:
    """Return every measure of one query, each from 0 to 1."""
    return {
        "nDCG@10": ndcg(ranking, judgements, 10),
        "recall@5": recall(ranking, judgements, 5),
        "recall@20": recall(ranking, judgements, 20),
        "MRR@10": reciprocal_rank(ranking, judgements, 10),
    }


def ndcg(ranking: Sequence[str], judgements: Mapping[str, int], depth: int) -> float:
    """Return the normalised discounted cumulative gain: the gain is the score itself, the discount log2(rank + 1).

    trec_eval's ndcg_cut; the ideal ranking is that of all judged documents. 0 where nothing is relevant.
    """
    ideal = _gain(sorted((score for score in judgements.values() if score > 0), reverse=True)[:depth])
    return _gain([judgements.get(document, 0) for document in ranking[:depth]]) / ideal if ideal else 0.0


def recall(ranking: Sequence[str], judgements: Mapping[str, int], depth: int) -> float:
    """Return which share of the relevant documents is among the first. 0 where nothing is relevant."""
    relevant = {document for document, score in judgements.items() if score > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], judgements: Mapping[str, int], depth: int) -> float:
    """Return 1 / the rank of the first relevant document; 0 where it is not among the first."""
    ranks = (rank for rank, document in enumerate(ranking[:depth], start=1) if judgements.get(document, 0) > 0)
    return next((1 / rank for rank in ranks), 0.0)


def mean(values: Sequence[float]) -> float:
    """Return the mean; 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _gain(scores: Sequence[int]) -> float:
    return math.fsum(max(score, 0) / math.log2(rank + 1) for rank, score in enumerate(scores, start=1))
