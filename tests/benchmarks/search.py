"""How quickly and how well rag.search finds in a million chunks of a thousand tenants, beside the bare SQL of its parts.

Started as `python -m tests.benchmarks.search` (`make bench-search`; CHUNKS=100000 for a quicker look, KEEP=folder to fill the
database once and measure again). `tests/benchmarks/search_data.py` says what the chunks are. For tenants of every size the same
queries are asked in turn, in the same run, warm: the whole search, each leg, and as bare SQL

    unfiltered    the nearest 40 of all tenants, by the HNSW index with the same hnsw.ef_search
    exact         the nearest 40 of the tenant, by comparing with all of its vectors
    words         the 40 best by ts_rank of the chunks with one of the words that the text leg looks for

Fails when a search takes 30 ms or more (p95); finds less than 95 % of the ten nearest, or fewer than there are; when the vector
leg takes more than 1.5 times the unfiltered query and more than 1.2 times the exact one (above 100,000 chunks: the unfiltered
one); the whole, for half of the queries, more than 1.2 times its legs together, also of a question as long as two chunks; a
query with a very common word more than 3 times the same one without; or when EXPLAIN names another index than is meant.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from infra.local import environment, ports, provision
from infra.local.postgres import EmbeddedPostgres
from tests.benchmarks import search_data as data
from tests.conftest import alembic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Statement = tuple[str, tuple[object, ...]]

QUERIES = 40
ROUNDS = 3
DEPTH = 40
RESULTS = 10
WORDS = 5
LONG_WORDS = 200
RANKS = (20, 20_000)
"""Of the words of a query: neither the most common ones, nor those that hardly anybody writes."""
COMMON_RANKS = 3
LARGE = 100_000
"""With more chunks than this nobody would compare with all: a second a query."""
LIMIT_MS, LIMIT_RECALL, LIMIT_UNFILTERED, LIMIT_EXACT, LIMIT_WHOLE, LIMIT_COMMON = 30.0, 0.95, 1.5, 1.2, 1.2, 3.0
PLACES = (0, 1, 4, 7, 11, 16, 20, 21, 300, 700, 950)
"""Which tenants are measured, the largest first: one of 30 %, six of 5 to 0.2 %, and four of the small ones."""
POSTGRES = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "4GB", "max_wal_size": "8GB",
    "autovacuum": "off",
}  # fmt: skip
"""The database of a benchmark needs no durability; nothing else is tuned but its memory."""

SEARCH = "SELECT chunk_id FROM rag.search(%s, %s::halfvec, NULL, %s)"
VECTOR_LEG = "SELECT chunk_id FROM rag.nearest_chunks(%s, %s::halfvec, NULL, %s)"
TEXT_LEG = "SELECT chunk_id FROM rag.matching_chunks(%s, rag.query_words(%s, %s), NULL, %s)"
TRIGRAM_LEG = "SELECT chunk_id FROM rag.similar_chunks(%s, rag.query_words(%s, %s), NULL, %s)"
EXACT = """
WITH measured AS MATERIALIZED (
  SELECT chunk_id, embedding <=> %s::halfvec AS distance FROM rag.embeddings WHERE tenant_id = %s)
SELECT chunk_id FROM measured ORDER BY distance, chunk_id LIMIT %s
"""
UNFILTERED = "SELECT chunk_id FROM rag.embeddings ORDER BY embedding <=> %s::halfvec LIMIT %s"
BARE_TEXT = """
SELECT id FROM rag.chunks
WHERE live AND rag.scoped_lexemes(tenant_id, search_text) && rag.scoped_lexemes(%s, array_to_tsvector(%s::text[]))
ORDER BY ts_rank(search_text, %s::tsquery) DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of a tenant: its words, the same with a very common one, a long one, and a vector near what the tenant has."""

    text: str
    common: str
    long: str
    vector: str
    any_of: Sequence[str]
    """The words by which the text leg finds its candidates."""


def connect(url: str) -> data.Connection:
    """Return a session with the planner's defaults, as the owner, whose rights a search has.

    A plan that row-level security concerns is made anew for another role: legs asked for by another one would be slower than
    they are within a search. Compiling plans and starting helpers would only make the bare SQL slower.
    """
    connection: data.Connection = psycopg.connect(url, autocommit=True)
    connection.execute("SET ROLE ea_owner; SET jit = off; SET max_parallel_workers_per_gather = 0")
    return connection


def queries(connection: data.Connection, tenant: data.Tenant) -> list[Asked]:
    """Return queries that the tenant could ask; the same in every run."""
    random, space = np.random.default_rng(tenant.place + 1), data.Space()
    random_of_long = np.random.default_rng(tenant.place + 1)
    topics = data.draw_topics(random, data.tenant_topics(tenant), QUERIES)
    asked = []
    for vector in space.chunks(random, space.documents(random, topics)):
        low, high = (float(np.log(rank)) for rank in RANKS)
        ranks = np.exp(random.uniform(low, high, WORDS)).astype(int)
        text = " ".join(data.word(int(rank)) for rank in ranks)
        rows = connection.execute(
            "SELECT w.lexeme, w.chunks FROM rag.sought_words(rag.query_words(%s, %s)) AS w", (tenant.id, text)
        ).fetchall()
        [(any_of,)] = connection.execute(
            "SELECT any_of FROM rag.text_plan(%s::text[], %s::bigint[], %s, 1500)",
            ([row[0] for row in rows], [row[1] for row in rows], tenant.chunks),
        ).fetchall()
        common = f"{text} {data.word(int(random.integers(COMMON_RANKS)))}"
        long = data.text(random_of_long, LONG_WORDS)
        asked.append(Asked(text, common, long, str([round(float(x), 5) for x in vector]), any_of))
    return asked


def statements(tenant: data.Tenant, asked: Asked) -> dict[str, Statement]:
    """Return what is timed, by name."""
    words = " | ".join(f"'{word}'" for word in asked.any_of)
    return {
        "search": (SEARCH, (asked.text, asked.vector, RESULTS)),
        "with a common word": (SEARCH, (asked.common, asked.vector, RESULTS)),
        "vector": (VECTOR_LEG, (tenant.id, asked.vector, DEPTH)),
        "text": (TEXT_LEG, (tenant.id, tenant.id, asked.text, DEPTH)),
        "trigram": (TRIGRAM_LEG, (tenant.id, tenant.id, asked.text, DEPTH)),
        "long": (SEARCH, (asked.long, asked.vector, RESULTS)),
        "long text": (TEXT_LEG, (tenant.id, tenant.id, asked.long, DEPTH)),
        "long trigram": (TRIGRAM_LEG, (tenant.id, tenant.id, asked.long, DEPTH)),
        "unfiltered": (UNFILTERED, (asked.vector, DEPTH)),
        "words": (BARE_TEXT, (tenant.id, asked.any_of, words, DEPTH)),
    } | ({} if tenant.chunks > LARGE else {"exact": (EXACT, (asked.vector, tenant.id, DEPTH))})


def milliseconds(connection: data.Connection, statement: Statement) -> float:
    """Return how long the client waits for the rows."""
    began = time.perf_counter()
    connection.execute(*statement).fetchall()
    return (time.perf_counter() - began) * 1000


def measure(connection: data.Connection, tenant: data.Tenant, asked: Sequence[Asked]) -> dict[str, list[float]]:
    """Return the milliseconds of each statement, all queries in turn; the first round only warms up."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        for place, query in enumerate(asked):
            named = list(statements(tenant, query).items())
            turn = (place + number) % len(named)  # whoever is first finds less in the caches of the processor
            for name, statement in named[turn:] + named[:turn]:
                spent = milliseconds(connection, statement)
                if number:
                    taken[name].append(spent)
    return taken


def quality(connection: data.Connection, tenant: data.Tenant, asked: Sequence[Asked]) -> tuple[float, int]:
    """Return the mean share of the ten nearest that a search by vector finds, and how many results are missing at most."""
    shares, missing = [], 0
    for query in asked:
        nearest = {row[0] for row in connection.execute(EXACT, (query.vector, tenant.id, RESULTS))}
        found = {row[0] for row in connection.execute(SEARCH, ("", query.vector, RESULTS))}
        shares.append(len(nearest & found) / max(len(nearest), 1))
        missing = max(missing, len(nearest) - len(found))
    return statistics.mean(shares), missing


def wrong_indexes(connection: data.Connection, asked: Asked) -> list[str]:
    """Return the legs whose plan does not name the index that is meant."""
    row = connection.execute("SELECT rag.explain_search(%s, %s::halfvec)", (asked.text, asked.vector)).fetchone()
    legs: dict[str, Any] = row[0]["legs"] if row else {}
    meant = {"vector": "embeddings_embedding" if legs["vector"]["method"] == "hnsw" else "embeddings_document"}
    if legs["text"]["any_of"]:
        meant["text"] = "chunks_lexemes"
    return [leg for leg, index in meant.items() if not any(index in line for line in legs[leg]["plan"])]


def whole(taken: dict[str, list[float]], search: str, legs: Sequence[str]) -> float:
    """Return the median ratio of a search to its legs, query by query: medians of times do not add up."""
    ratios: list[float] = [
        one / sum(parts) for one, *parts in zip(taken[search], *(taken[leg] for leg in legs), strict=True)
    ]
    return statistics.median(ratios)


def report(connection: data.Connection, tenant: data.Tenant, ef_search: int) -> list[str]:
    """Measure a tenant, print what was found, and return what is beyond the limits."""
    connection.execute("SELECT set_config('app.tenant_id', %s, false)", (str(tenant.id),))
    connection.execute(f"SET hnsw.ef_search = {ef_search}")
    asked = queries(connection, tenant)
    recall, missing = quality(connection, tenant, asked)
    taken = measure(connection, tenant, asked)
    median = {name: statistics.median(values) for name, values in taken.items()}
    p95 = {name: float(np.percentile(values, 95)) for name, values in taken.items()}
    ratios = {
        "unfiltered": median["vector"] / median["unfiltered"],
        "exact": median["vector"] / median["exact"] if "exact" in median else float("inf"),
        "whole": whole(taken, "search", ("vector", "text", "trigram")),
        "long": whole(taken, "long", ("vector", "long text", "long trigram")),
        "common": median["with a common word"] / median["search"],
    }
    print(
        f"{tenant.chunks:9,}  {median['search']:7.2f} {p95['search']:7.2f}  {recall:6.3f} {-missing:4d}"
        f"  {median['vector']:7.2f} {p95['vector']:7.2f} {median['text']:7.2f} {p95['text']:7.2f} {median['trigram']:7.2f}"
        f"  {median['unfiltered']:7.2f} {median.get('exact', float('nan')):7.2f} {median['words']:7.2f}"
        f"  {ratios['unfiltered']:6.2f} {ratios['exact']:6.2f} {ratios['whole']:6.2f} {ratios['common']:6.2f}"
        f"  {median['long']:7.2f} {p95['long']:7.2f} {median['long text']:7.2f} {ratios['long']:6.2f}",
        flush=True,
    )
    checks: dict[str, bool] = {
        f"p95 {p95['search']:.1f} ms": max(p95["search"], p95["with a common word"]) >= LIMIT_MS,
        f"p95 of long questions {p95['long']:.1f} ms": p95["long"] >= LIMIT_MS,
        f"recall {recall:.3f}": recall < LIMIT_RECALL,
        f"{missing} results missing": missing > 0,
        f"vector leg {ratios['unfiltered']:.2f} of unfiltered, {ratios['exact']:.2f} of exact": ratios["unfiltered"]
        > LIMIT_UNFILTERED
        and ratios["exact"] > LIMIT_EXACT,
        f"whole {ratios['whole']:.2f} of its legs": ratios["whole"] > LIMIT_WHOLE,
        f"whole of a long question {ratios['long']:.2f} of its legs": ratios["long"] > LIMIT_WHOLE,
        f"common word {ratios['common']:.2f}": ratios["common"] > LIMIT_COMMON,
    }
    beyond = [name for name, failed in checks.items() if failed]
    return beyond + [f"{leg} leg: another index" for leg in wrong_indexes(connection, asked[0])]


HEADER = f"""
milliseconds, medians but for p95; {QUERIES} queries each, warm; long: {LONG_WORDS} words
            search     p95  recall fewer   vector     p95    text     p95 trigram   unfil-   exact   words  vector leg      whole  common     long     p95    text  whole
   chunks                      @10                                                   tered   (bare SQL)     /unf. /exact   /legs  /without                         /legs
"""  # noqa: E501 - a table


def run(url: str, chunks: int) -> int:
    """Fill the database unless it is, and measure; return the exit status."""
    with psycopg.connect(url, autocommit=True) as operator:
        [(filled,)] = operator.execute("SELECT to_regclass('bench.filled') IS NOT NULL").fetchall()
        if not filled:
            data.fill(operator, chunks)
            operator.execute("CREATE SCHEMA bench; CREATE TABLE bench.filled ()")
        [(ef_search,)] = operator.execute(
            "SELECT ef_search FROM rag.search_settings WHERE tenant_id IS NULL"
        ).fetchall()
        sizes = operator.execute(
            "SELECT relname, pg_total_relation_size(oid) >> 20 FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'rag'::regnamespace ORDER BY 2 DESC LIMIT 4"
        ).fetchall()
    print("MB with indexes: " + ", ".join(f"{name} {size:,}" for name, size in sizes))
    print(HEADER, end="")
    beyond = []
    for tenant in [tenant for tenant in data.tenants(chunks) if tenant.place in PLACES]:
        with connect(url) as connection:
            beyond += [f"{tenant.chunks:,} chunks: {what}" for what in report(connection, tenant, ef_search)]
    for what in beyond:
        print(f"beyond the limits: {what}")
    return 1 if beyond else 0


def with_server(folder: Path, job: Callable[[str], int]) -> int:
    """Run a job on a migrated database whose data lies in a folder; return its exit status."""
    with EmbeddedPostgres(folder / "data", ports.free(["server"])["server"], settings=POSTGRES) as server:
        provision.create_database(server.superuser_url, environment.DATABASE)
        url = server.url(environment.DATABASE)
        done = alembic(url, "upgrade", "head")
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return 1
        return job(url)


def main() -> int:
    """Measure in a throw-away folder, or in the one that KEEP names."""
    chunks = int(os.environ.get("CHUNKS") or 1_000_000)
    if keep := os.environ.get("KEEP"):
        return with_server(Path(keep).absolute() / f"search-{chunks}", lambda url: run(url, chunks))
    with tempfile.TemporaryDirectory(prefix="bench-search-", ignore_cleanup_errors=True) as folder:
        return with_server(Path(folder), lambda url: run(url, chunks))


if __name__ == "__main__":
    sys.exit(main())
