"""What a run says on the terminal, and in a file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from infra.evaluation.metrics import MEASURES
from infra.evaluation.run import BM25, DEFAULT, EXACT, HEADLINE, LEG, PLAIN_RRF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from infra.evaluation.run import Evaluation
    from infra.evaluation.sweep import Setting, Sweep

BAR_CHARS = 12
WIDTH = 100
"""Characters a line that a report takes where it is not on a terminal."""
SHOWN_SETTINGS = 5
BY_KIND = {"default": DEFAULT, "RRF": PLAIN_RRF, **LEG, "exact": EXACT, "BM25": BM25}


def show(console: Console, evaluation: Evaluation) -> None:
    """Print the measures of every method, and by kind of query where the collection tells it."""
    collection = evaluation.collection
    console.print(
        f"\n{collection.name}: {len(collection.documents):,} documents in {evaluation.passages:,} passages, "
        f"{len(collection.queries):,} queries",
        style="bold",
        markup=False,
    )
    if collection.empty_documents or collection.unknown_judged:
        console.print(
            f"{collection.empty_documents} documents are empty and left out; {collection.unknown_judged} judgements are of "
            "documents that the corpus lacks, and count as not found",
            style="dim",
        )
    table = Table(box=None, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in (*MEASURES, "p50 ms", "p95 ms"):
        table.add_column(name, justify="right")
    table.add_column("", no_wrap=True)
    best = max(outcome.mean(HEADLINE) for outcome in evaluation.outcomes.values())
    for name, outcome in evaluation.outcomes.items():
        row = outcome.summary()
        cells = [f"{row[measure]:.4f}" for measure in MEASURES]
        cells += [f"{row[timed]:.1f}" if timed in row else "" for timed in ("p50 ms", "p95 ms")]
        bar = "█" * round(BAR_CHARS * row[HEADLINE] / best) if best else ""
        table.add_row(name, *cells, bar, style="green" if name == DEFAULT else "")
    console.print(table)
    kinds = _kinds(evaluation)
    if len(kinds) > 1:
        _show_kinds(console, evaluation, kinds)
    beaten = evaluation.beaten_by()
    console.print(
        f"The default hybrid's {HEADLINE} is below that of: {', '.join(beaten)}."
        if beaten
        else f"No single component and no plain fusion has a higher {HEADLINE} than the default hybrid.",
        style="red" if beaten else "green",
    )


def show_sweep(console: Console, swept: Sweep) -> None:
    """Print what the sweep chose on each half of the queries, and what that reached on the other."""
    console.print(
        f"\nSweep of {len(swept.settings)} settings: chosen on one half of the queries, told on the other", style="bold"
    )
    table = Table(box=None, header_style="bold")
    table.add_column("chosen", no_wrap=True)
    for name in ("there", "other half", "default there", "best possible there"):
        table.add_column(name, justify="right")
    for half in swept.halves:
        values = (half.tuned, half.held_out, half.default_held_out, half.headroom)
        table.add_row(_named(half.best), *(f"{value:.4f}" for value in values))
    console.print(table)
    place, value = next(
        (place, value) for place, (setting, value) in enumerate(swept.settings, 1) if setting == swept.default
    )
    console.print(
        f"Over all queries the default's setting, {_named(swept.default)}, is {place}. with {value:.4f}; the best:"
    )
    for setting, score in swept.settings[:SHOWN_SETTINGS]:
        console.print(f"  {score:.4f}  {_named(setting)}")


def as_json(evaluation: Evaluation, swept: Sweep | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that was measured."""
    collection = evaluation.collection
    return {
        **about,
        "collection": collection.name,
        "documents": len(collection.documents),
        "passages": evaluation.passages,
        "queries": len(collection.queries),
        "empty_documents": collection.empty_documents,
        "unknown_judged": collection.unknown_judged,
        "methods": {name: outcome.summary() for name, outcome in evaluation.outcomes.items()},
        "beaten_by": evaluation.beaten_by(),
        "by_query": {
            query.id: {
                "text": query.text,
                "kind": query.kind,
                HEADLINE: {name: outcome.measures[query.id][HEADLINE] for name, outcome in evaluation.outcomes.items()},
            }
            for query in collection.queries
        },
        **({} if swept is None else {"sweep": asdict(swept)}),
    }


def _kinds(evaluation: Evaluation) -> dict[str, list[str]]:
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for query in evaluation.collection.queries:
        kinds[query.kind].append(query.id)
    return dict(sorted(kinds.items()))


def _show_kinds(console: Console, evaluation: Evaluation, kinds: Mapping[str, list[str]]) -> None:
    table = Table(title=f"{HEADLINE} by kind of query", title_justify="left", box=None, header_style="bold")
    table.add_column("kind")
    table.add_column("queries", justify="right")
    for name in BY_KIND:
        table.add_column(name, justify="right")
    for kind, queries in kinds.items():
        means = (evaluation.outcomes[method].mean(HEADLINE, queries) for method in BY_KIND.values())
        table.add_row(kind or "(none)", str(len(queries)), *(f"{value:.4f}" for value in means))
    console.print(table)


def _named(setting: Setting) -> str:
    return f"vector {setting.vector:.2g}, text {setting.text:.2g}, trigram {setting.trigram:.2g}, k {setting.k:g}"
