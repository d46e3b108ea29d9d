"""Searching a tenant's documents: the question's vector, the database's search, a reranking model where there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.json import Jsonb

from shared import logs, metrics, telemetry
from shared.connection import Row
from shared.database import Database
from shared.embeddings import Held, Vector, with_question
from shared.principal import Principal
from shared.problems import Problem
from shared.reranking import rerank
from shared.settings import Settings
from shared.turns import embedded, reserve

FULL = frozenset({"budget_exceeded", "budget_paused"})
RERANKED = 30
"""So many results of the search are put before the reranking model; where more are asked for, as many."""
DONE = "done"


@dataclass(frozen=True, slots=True)
class Found:
    """The results of a search, best first: rows of rag.search, with `rerank_score` where a model scored them."""

    results: Sequence[Row]
    mode: str
    """`hybrid`, or `text` where the question's embedding could not be had."""
    reason: str | None = None
    """The code of the problem for which the search was by text alone."""
    plan: Row | None = None
    """What rag.explain_search says, where it was asked for."""
    rerank: str | None = None
    """`done`, or the code of the problem for which the order is the search's own; None: there is no reranking model."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for: `filtered` is the p_filter of rag.search."""

    question: str
    limit: int
    collections: Sequence[str] | None = None
    filtered: Mapping[str, Any] | None = None
    explain: bool = False


async def search(database: Database, principal: Principal, wanted: Wanted, settings: Settings) -> Found:
    """Return what is found for a question.

    A search by text costs nothing, so that it is what remains when a budget is full. Raises Problem as the endpoint of
    embeddings and rag.find do; a reranking model that fails is no reason to find nothing.
    """

    async def hold() -> Held | Found:
        try:
            told = await reserve(database, principal, "budget.reserve_question", p_question=wanted.question)
        except Problem as problem:
            if problem.code not in FULL:
                raise
            metrics.problems().labels(problem.code).inc()
            logs.warning("retrieval_degraded", code=problem.code, detail=problem.detail)
            return replace(await _search(database, principal, wanted, settings, None), reason=problem.code)
        return Held.of(wanted.question, told)

    async def with_vector(held: Held, vector: Vector | None) -> Found:
        return await _search(database, principal, wanted, settings, vector, held)

    return await with_question(principal, hold, with_vector)


async def reranked(
    database: Database,
    principal: Principal,
    question: str,
    settings: Settings,
    collections: Sequence[str] | None,
    vector: Vector | None,
) -> Jsonb | None:
    """Return the passages of a turn as the reranking model puts them in order (p_reranked); None where there is no model."""
    if not settings.rerank_model:
        return None
    wanted = Wanted(question, settings.vector_top_k, collections)
    found = await _search(database, principal, wanted, settings, vector)
    return Jsonb({"outcome": found.rerank, "passages": found.results})


async def _search(
    database: Database,
    principal: Principal,
    wanted: Wanted,
    settings: Settings,
    vector: Vector | None,
    held: Held | None = None,
) -> Found:
    """Search, and end what was held for the question's embedding, if that is to be done here."""
    call = database.call if held is None else database.call_releasing_early
    with telemetry.database_call("rag.find"):
        told = await call(
            "rag.find",
            principal,
            p_query=wanted.question,
            **embedded(vector),
            p_collections=None if wanted.collections is None else list(wanted.collections),
            p_limit=max(wanted.limit, RERANKED) if settings.rerank_model else wanted.limit,
            p_filter=None if wanted.filtered is None else Jsonb(wanted.filtered),
            p_explain=wanted.explain,
            **({} if held is None else held.settled()),
        )
    found = (
        Found(told["results"], "text", "embedding_unavailable", told["plan"])
        if vector is None
        else Found(told["results"], "hybrid", None, told["plan"])
    )
    return await _rerank(found, wanted, settings) if settings.rerank_model else found


async def _rerank(found: Found, wanted: Wanted, settings: Settings) -> Found:
    if not found.results:
        return replace(found, rerank=DONE)
    try:
        scores = await rerank(wanted.question, [_text(row) for row in found.results], settings)
    except Problem as problem:
        metrics.problems().labels(problem.code).inc()
        logs.warning("rerank_left_out", code=problem.code, detail=problem.detail)
        return replace(found, results=found.results[: wanted.limit], rerank=problem.code)
    scored = [row | {"rerank_score": score} for row, score in zip(found.results, scores, strict=True)]
    # Sorting is stable: what the model finds equal stays in the search's order.
    best = sorted(scored, key=lambda row: -row["rerank_score"])[: wanted.limit]
    return replace(found, results=best, rerank=DONE)


def _text(row: Row) -> str:
    """Return what a reranking model reads of a result: as for the embedding, title or name and heading go before the text."""
    return f"{row['title'] or row['document_name']} {row['heading']}\n{row['content']}"
