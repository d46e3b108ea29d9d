"""Which weights and which k would fuse the legs best, without a sweep that reports its own fit.

The queries are split in two halves by a hash of their ids. The best of the grid is chosen on one half and reported on the
other, and the reverse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from infra.evaluation import legs
from infra.evaluation.fusion import documents, fuse
from infra.evaluation.metrics import mean
from infra.evaluation.run import DEFAULT, HEADLINE, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.evaluation.run import Evaluation

SHARES = tuple(step / 10 for step in range(11))
"""Of the weight of vector and text together, which share the vectors have."""
TRIGRAMS = (0.0, 0.25, 0.5, 1.0)
"""The weight of the trigrams beside 1 for vector and text together."""
KS = (5.0, 10.0, 20.0, 40.0, 60.0, 100.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """How the legs are fused; the weights of vector and text add up to 1."""

    vector: float
    text: float
    trigram: float
    k: float


@dataclass(frozen=True, slots=True)
class Half:
    """What was chosen on one half of the queries: its nDCG@10 there, and on the half that was held out."""

    best: Setting
    tuned: float
    held_out: float
    default_held_out: float
    """The default hybrid's, on the half held out."""
    headroom: float
    """What the best setting of the whole grid would reach on the half held out, chosen with sight of it."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Both directions, and every setting's nDCG@10 over all queries, best first."""

    halves: Sequence[Half]
    settings: Sequence[tuple[Setting, float]]
    default: Setting


def sweep(evaluation: Evaluation) -> Sweep:
    """Fuse the legs of a run in every way of the grid."""
    queries = [query.id for query in evaluation.collection.queries]
    scores = {setting: _scores(evaluation, setting, queries) for setting in grid()}
    first = [query for query in queries if _bit(query)]
    second = [query for query in queries if not _bit(query)]
    ranked = sorted(((setting, mean([*by.values()])) for setting, by in scores.items()), key=lambda pair: -pair[1])
    return Sweep([_half(evaluation, scores, *two) for two in ((first, second), (second, first))], ranked, default())


def grid() -> list[Setting]:
    """Return every setting that is tried; the default is one of them."""
    settings = (Setting(share, round(1 - share, 1), trigram, k) for share, trigram, k in product(SHARES, TRIGRAMS, KS))
    return list(dict.fromkeys([default(), *settings]))


def default() -> Setting:
    """Return the platform's weights, scaled like those of the grid."""
    weights = legs.DEFAULT_WEIGHTS
    both = weights["vector"] + weights["text"]
    vector, text, trigram = (weights[leg] / both for leg in legs.LEGS)
    return Setting(vector, text, trigram, legs.DEFAULT_K)


def _half(
    evaluation: Evaluation, scores: Mapping[Setting, Mapping[str, float]], tuned: Sequence[str], held: Sequence[str]
) -> Half:
    def of(setting: Setting, queries: Sequence[str]) -> float:
        return mean([scores[setting][query] for query in queries])

    best = max(scores, key=lambda setting: of(setting, tuned))
    return Half(
        best=best,
        tuned=of(best, tuned),
        held_out=of(best, held),
        default_held_out=evaluation.outcomes[DEFAULT].mean(HEADLINE, held),
        headroom=max(of(setting, held) for setting in scores),
    )


def _scores(evaluation: Evaluation, setting: Setting, queries: Sequence[str]) -> dict[str, float]:
    weights = {"vector": setting.vector, "text": setting.text, "trigram": setting.trigram}
    scores = {}
    for query in queries:
        rankings = [
            (
                [weights[leg] * share for share in evaluation.leg_shares[leg][query][: legs.FUSED_DEPTH]],
                evaluation.leg_chunks[leg][query][: legs.FUSED_DEPTH],
            )
            for leg in legs.LEGS
        ]
        ranking = documents(fuse(rankings, setting.k), evaluation.document_of)
        scores[query] = judge(evaluation.collection, query, ranking)[HEADLINE]
    return scores


def _bit(query: str) -> bool:
    return bool(hashlib.sha256(query.encode()).digest()[0] & 1)
