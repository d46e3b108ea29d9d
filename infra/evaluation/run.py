"""Asking every query of a collection in every way, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import psycopg

from infra.evaluation import legs
from infra.evaluation.baselines import Bm25, Exact
from infra.evaluation.fusion import documents, fuse
from infra.evaluation.loading import fresh_tenant, load, passages
from infra.evaluation.metrics import MEASURES, mean, measure, percentile
from infra.evaluation.vectors import as_text, embed_all

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from infra.evaluation.collection import Collection, Query
    from infra.evaluation.vectors import Vector
    from shared.settings import Settings

    Begin = Callable[[str, int], Callable[[int], None]]

# The names that reports use; docs/retrieval.md says what each is.
DEFAULT = "default hybrid"
TEXT_ONLY = "without vector"
LEG = {leg: f"{leg} leg" for leg in legs.LEGS}
PLAIN_RRF = "RRF vector+text"
EXACT = "exact vectors"
BM25 = "BM25"
BM25_RRF = "RRF exact+BM25"
RIVALS = (*LEG.values(), PLAIN_RRF, EXACT, BM25, BM25_RRF)
"""What the default hybrid must not be worse than."""

HEADLINE = "nDCG@10"
Found = TypeVar("Found", bound="Hashable")


def silently(_step: str, _total: int) -> Callable[[int], None]:
    """Tell nobody that a step begins, nor of its units that are done."""
    return lambda _: None


@dataclass(frozen=True, slots=True)
class Asked:
    """A query with its vector."""

    query: Query
    vector: Vector
    vector_text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method made of the queries: its measures by query, and the seconds that each took where it was timed."""

    measures: Mapping[str, Mapping[str, float]]
    seconds: Sequence[float]

    def mean(self, name: str, queries: Iterable[str] | None = None) -> float:
        """Return the mean of a measure over all queries, or over some."""
        return mean([self.measures[query][name] for query in queries or self.measures])

    def summary(self) -> dict[str, float]:
        """Return the means, and the latency in milliseconds where it was timed."""
        timed = {"p50 ms": 0.5, "p95 ms": 0.95} if self.seconds else {}
        latency = {name: percentile(self.seconds, share) * 1000 for name, share in timed.items()}
        return {name: self.mean(name) for name in MEASURES} | latency


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcomes of a run by method, and what a sweep needs: each leg's chunks by query, and each chunk's document."""

    collection: Collection
    passages: int
    outcomes: Mapping[str, Outcome]
    leg_chunks: Mapping[str, Mapping[str, Sequence[UUID]]]
    leg_shares: Mapping[str, Mapping[str, Sequence[float]]]
    """Of a leg's weight, by query, for each of its chunks."""
    document_of: Mapping[UUID, str]

    def beaten_by(self) -> list[str]:
        """Return the rivals whose nDCG@10 is above that of the default hybrid."""
        own = self.outcomes[DEFAULT].mean(HEADLINE)
        return [name for name in RIVALS if self.outcomes[name].mean(HEADLINE) > own]


def judge(collection: Collection, query: str, ranking: Iterable[str]) -> dict[str, float]:
    """Return the measures of one query's ranking. As in BEIR, the document that is the query itself is no answer to it."""
    return measure([document for document in ranking if document != query], collection.judgements[query])


def evaluate(
    collection: Collection, url: str, settings: Settings, cache_path: Path, begin: Begin = silently
) -> Evaluation:
    """Load the collection into a tenant of its own, ask all queries in every way, and delete the tenant.

    `url` is a connection string with the rights of the role that migrates. `begin` is told of each step and how many units
    it has; what it returns is told of units that are done. Raises Problem of the embedding endpoint, psycopg.Error.
    """
    indexed = passages(collection.documents, settings)
    texts = [passage.embedded_text for passage in indexed]
    vectors = embed_all(texts, settings, cache_path, begin("Passages embedded", len(texts)))
    questions = [query.text for query in collection.queries]
    embedded = embed_all(questions, settings, cache_path, begin("Queries embedded", len(questions)))
    asked = [Asked(*pair, as_text(pair[1])) for pair in zip(collection.queries, embedded, strict=True)]

    with psycopg.connect(url, autocommit=True) as connection, fresh_tenant(connection) as tenant:
        load(connection, tenant, indexed, vectors, begin("Documents indexed", len({p.entry.id for p in indexed})))
        with legs.entered(connection, tenant) as platform:
            document_of = platform.documents()
            shares: dict[str, dict[str, list[float]]] = {leg: {} for leg in legs.LEGS}
            chunks = {
                DEFAULT: _ask(DEFAULT, asked, lambda a: platform.search(a.query.text, a.vector_text), begin),
                TEXT_ONLY: _ask(TEXT_ONLY, asked, lambda a: platform.search(a.query.text, None), begin),
                **{
                    LEG[leg]: _ask(LEG[leg], asked, partial(_leg, platform, leg, shares[leg]), begin)
                    for leg in legs.LEGS
                },
            }
    exact, bm25 = Exact(vectors, [passage.entry.id for passage in indexed]), Bm25(collection.documents)
    near = _ask(EXACT, asked, lambda a: exact.search(a.vector, legs.DEPTH), begin)
    words = _ask(BM25, asked, lambda a: bm25.search(a.query.text, legs.DEPTH), begin)
    chunks[PLAIN_RRF] = _fused(chunks[LEG["vector"]], chunks[LEG["text"]])
    ranked = {name: answers.of_documents(document_of) for name, answers in chunks.items()}
    ranked |= {EXACT: near, BM25: words, BM25_RRF: _fused(near, words)}
    return Evaluation(
        collection=collection,
        passages=len(indexed),
        outcomes={
            name: Outcome(
                {query: judge(collection, query, ranking) for query, ranking in answers.rankings.items()},
                answers.seconds,
            )
            for name, answers in ranked.items()
        },
        leg_chunks={leg: chunks[LEG[leg]].rankings for leg in legs.LEGS},
        leg_shares=shares,
        document_of=document_of,
    )


@dataclass(frozen=True, slots=True)
class _Answers(Generic[Found]):
    """A method's ranking of each query, and the seconds of each in which it was found; none where it was only fused."""

    rankings: Mapping[str, Sequence[Found]]
    seconds: Sequence[float]

    def of_documents(self: _Answers[UUID], document_of: Mapping[UUID, str]) -> _Answers[str]:
        """Return the rankings of documents that these of chunks make."""
        return _Answers(
            {query: documents(chunks, document_of) for query, chunks in self.rankings.items()}, self.seconds
        )


def _ask(
    name: str, asked: Sequence[Asked], answer: Callable[[Asked], Sequence[Found]], begin: Begin
) -> _Answers[Found]:
    advance = begin(name, len(asked))
    answer(asked[0])  # what only the first of all queries pays for is no query's latency
    rankings, seconds = {}, []
    for one in asked:
        began = time.perf_counter()
        rankings[one.query.id] = answer(one)
        seconds.append(time.perf_counter() - began)
        advance(1)
    return _Answers(rankings, seconds)


def _leg(platform: legs.Platform, leg: str, shares: dict[str, list[float]], asked: Asked) -> list[UUID]:
    found = platform.leg(leg, asked.query.text, asked.vector_text)
    shares[asked.query.id] = [share for _, share in found]
    return [chunk for chunk, _ in found]


def _fused(one: _Answers[Found], other: _Answers[Found]) -> _Answers[Found]:
    """Return plain reciprocal rank fusion: equal weights, k = 60."""
    return _Answers({q: fuse([(1.0, one.rankings[q]), (1.0, other.rankings[q])]) for q in one.rankings}, ())
