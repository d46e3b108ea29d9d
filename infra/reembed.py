"""Vectors by another embedding model, or of another width: `make reembed`, with the rights of the role that migrates.

The vectors that there are answer until all new ones are made; then these take their place at once. The functions do the work:
this queues the chunks for them, a part at a time, and shows how far they are. It may be ended at any moment and run again, and
then goes on; CANCEL=1 removes what was made.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import AdminShutdown, DeadlockDetected, LockNotAvailable
from psycopg.rows import scalar_row
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from infra.target import database_url, with_models
from shared.embeddings import Model, configured_model, embed
from shared.guards import malformed
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings, get_settings

QUEUED = 4000
"""So many chunks wait at a time: some seconds of work, and no more than that if it is cancelled."""
TICK_SECONDS = 0.5
LOCK_TIMEOUT = "2s"
"""So long questions wait at most, when it has to wait for somebody who holds the vectors for long. Above deadlock_timeout,
after which a vacuum gives way."""
LONGEST_PAUSE_SECONDS = 10.0
ADVISORY_LOCK = 0x6561_7265_656D
"""Session-level lock key: the letters "eareem"."""
IMPATIENT_SECONDS = 60.0
TOLERATED = 0.001
"""Where uploads never leave a moment in which all have their vector: such a part of the passages gets it after the switch."""
TOO_MANY = 0.1
"""When more of the chunks than this have no vector, it is rather the model that is wrong than the chunks."""
VARIABLES = {
    "MODEL": "LITELLM_EMBEDDING_MODEL",
    "DIMENSIONS": "EMBEDDING_DIMENSIONS",
    "SEND_DIMENSIONS": "EMBEDDING_SEND_DIMENSIONS",
}
PROBE = "Harbour pump P-7"
PROBE_SECONDS = 60.0


class Stopped(Exception):
    """It cannot go on, for the reason given."""


class Reembedding:
    """One run over one connection."""

    def __init__(self, url: str, console: Console) -> None:
        self._url = url
        self._console = console
        self._connection = psycopg.connect(url, autocommit=True, row_factory=scalar_row)
        # The server ends what this process has begun soon after this process.
        self._connection.execute("SET client_connection_check_interval = '1s'")
        self._connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        self._over_at: float | None = None
        self._tolerated = 0

    def close(self) -> None:
        """Close the connection, and with it give up the lock."""
        self._connection.close()

    def make(self, model: Model, *, force: bool) -> None:
        """Make the vectors and switch to them; raises Stopped and psycopg.Error."""
        if not self._value("SELECT pg_try_advisory_lock(%s)", ADVISORY_LOCK):
            raise Stopped("make reembed runs already, elsewhere")
        self._clean_up()
        name, width = model.name, model.width
        begin = "SELECT rag.begin_reembedding(%s, %s, %s)"
        while (outcome := self._patiently(begin, name, width, model.send_dimensions)) == "unprepared":
            self._patiently("SELECT rag.create_next(%s)", width)
        if outcome == "active":
            self._say(f"There is nothing to do: the vectors are those of {name} with {width} dimensions.")
            return
        self._say(f"{'Going on with' if outcome == 'resumed' else 'Making'} vectors of {name} with {width} dimensions.")
        while True:
            waits = self._value("SELECT rag.reembedding_waits(%s)", self._tolerated)
            if waits == "chunks":
                self._embed()
            elif waits == "indexes":
                self._index()
            else:
                failed = self._failed(force=force)
                if self._patiently("SELECT rag.switch_embeddings(%s)", self._tolerated) == "switched":
                    break
        self._say(f"From now on {name} answers.")
        self._clean_up()
        if failed:
            self._say(f"{_listed(failed)}: these passages have no vector, and are found by their words only.")

    def cancel(self) -> None:
        """Remove what was being built; raises psycopg.Error."""
        while not self._value("SELECT pg_try_advisory_lock(%s)", ADVISORY_LOCK):
            self._value(
                "SELECT count(pg_terminate_backend(l.pid, 5000)) FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted"
                " AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())"
                " AND (l.classid::bigint << 32) + l.objid::bigint = %s",
                ADVISORY_LOCK,
            )
        cancelled = self._patiently("SELECT rag.cancel_reembedding()")
        self._clean_up()
        self._say("What was being made is removed." if cancelled else "Nothing was being made.")

    def _embed(self) -> None:
        """Return when every chunk that a search sees has its vector, or cannot have one."""
        counts = self._counts()
        with self._progress("passages") as (bar, task):
            passed = counts["passed"]
            while True:
                state = self._patiently("SELECT rag.queue_reembedding(%s)", QUEUED)
                if state is None:
                    raise Stopped("what was being built is gone: it was cancelled elsewhere")
                passed += state["passed"]
                done = max(0, passed - state["waiting"])
                bar.update(task, completed=done, total=max(counts["chunks"], passed), note=state["error"] or "")
                if state["over"] and self._all_made(counts["chunks"]):
                    break
                time.sleep(TICK_SECONDS)

    def _failed(self, *, force: bool) -> Mapping[str, int]:
        """Return how many chunks have no vector, by code; raises Stopped when these are too many."""
        counts = self._counts()
        failed: Mapping[str, int] = counts["failed"]
        if sum(failed.values()) > TOO_MANY * counts["chunks"] and not force:
            raise Stopped(
                f"{_listed(failed)} of {counts['chunks']} passages could not be embedded ({counts['error']}). The old vectors "
                "go on answering. Run it again to try these once more, with FORCE=1 to do without them, or CANCEL=1 to give up"
            )
        return failed

    def _counts(self) -> dict[str, Any]:
        counts: dict[str, Any] | None = self._value("SELECT rag.count_reembedding()")
        if counts is None:
            raise Stopped("what was being built is gone: it was cancelled elsewhere")
        return counts

    def _all_made(self, chunks: int) -> bool:
        """Whether no more vectors are waited for, now that all chunks are queued."""
        self._over_at = self._over_at or time.monotonic()
        if time.monotonic() > self._over_at + IMPATIENT_SECONDS:
            self._tolerated = int(TOLERATED * chunks)
        return bool(self._value("SELECT rag.reembedding_waits(%s) IS DISTINCT FROM 'chunks'", self._tolerated))

    def _index(self) -> None:
        """Build the indexes that are lacking, while vectors of new uploads come in."""
        indexes = "SELECT jsonb_build_array(i.name, i.statement) FROM rag.next_indexes() AS i"
        for name, statement in self._connection.execute(indexes).fetchall():
            # Whoever was ended while it built one has left a part of it.
            self._patiently(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS rag.{}").format(sql.Identifier(name)))
            with (
                self._progress(name) as (bar, task),
                ThreadPoolExecutor(1) as pool,
                psycopg.connect(self._url) as other,
            ):
                other.autocommit = True
                building = pool.submit(self._build, statement)
                while not building.done():
                    row = other.execute(
                        "SELECT greatest(blocks_done, tuples_done), greatest(blocks_total, tuples_total), phase"
                        " FROM pg_stat_progress_create_index WHERE relid = to_regclass('rag.embeddings_next')"
                    ).fetchone()
                    if row is not None:
                        bar.update(task, completed=row[0], total=row[1] or None, note=row[2])
                    time.sleep(TICK_SECONDS)
                building.result()
                bar.update(task, total=1, completed=1, note="")
        self._value("VACUUM (ANALYZE) rag.embeddings_next")

    def _build(self, statement: str) -> None:
        self._connection.execute("SET lock_timeout = 0")
        self._connection.execute(statement.encode())
        self._connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")

    def _clean_up(self) -> None:
        """Put away what a switch or a cancellation has left, of this run or of one that was ended."""
        while self._value("SELECT rag.clear_queue()"):
            pass
        last: str | None = "{}"
        while last is not None and self._value("SELECT to_regclass('rag.embeddings_old') IS NOT NULL"):
            last = self._patiently("SELECT rag.settle_documents(%s::jsonb, 100)::text", last)
        self._patiently("SELECT rag.drop_unused()")

    def _patiently(self, query: str | sql.Composed, *arguments: object) -> Any:
        """Return a statement's value, as soon as nobody is in its way.

        Whoever publishes, changes or deletes a document is for a moment; who reads for long, like a dump, is until its end.
        """
        pause = 0.1
        while True:
            try:
                return self._value(query, *arguments)
            except (LockNotAvailable, DeadlockDetected):
                if pause >= LONGEST_PAUSE_SECONDS:
                    self._say(
                        f"Somebody holds rag.embeddings or rag.chunks for long (a dump?); again in {pause:.0f} s."
                    )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _value(self, query: str | sql.Composed, *arguments: object) -> Any:
        cursor = self._connection.execute(query, arguments)
        return cursor.fetchone() if cursor.description else None

    @contextmanager
    def _progress(self, what: str) -> Iterator[tuple[Progress, TaskID]]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self._console) as bar:
            yield bar, bar.add_task(what, total=None, note="")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _listed(failed: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in failed.items())


async def probe(model: Model, settings: Settings) -> None:
    """Ask the endpoint for one vector of the model; raises Problem when that is not what is wanted."""
    try:
        [vector] = await embed([PROBE], model, settings, timeout_seconds=PROBE_SECONDS)
    finally:
        await runtime.close()
    if isinstance(vector, Problem):
        raise vector


def run(settings: Settings, console: Console, model: Model | None, *, force: bool) -> None:
    """Make the vectors of a model, or with None cancel that; raises Stopped, Problem and psycopg.Error."""
    if model is not None:
        asyncio.run(probe(model, with_models(settings)))
    reembedding = Reembedding(database_url(settings), console)
    try:
        if model is None:
            reembedding.cancel()
        else:
            reembedding.make(model, force=force)
    finally:
        reembedding.close()


def main() -> None:
    """Re-embed by MODEL and DIMENSIONS, those of the settings by default.

    SEND_DIMENSIONS=1 asks the endpoint for so many. CANCEL=1 gives it up, FORCE=1 does without vectors that
    cannot be had.
    """
    for name, variable in VARIABLES.items():
        if os.environ.get(name):
            os.environ[variable] = os.environ[name]
    try:
        settings = get_settings()
    except ValidationError as error:
        sys.exit(f"error: {'; '.join(malformed(error))}")
    try:
        run(
            settings,
            Console(),
            None if os.environ.get("CANCEL") else configured_model(settings),
            force=bool(os.environ.get("FORCE")),
        )
    except (Stopped, Problem) as error:
        sys.exit(f"error: {error.detail if isinstance(error, Problem) else error}")
    except AdminShutdown:
        sys.exit("error: it was cancelled elsewhere")
    except psycopg.OperationalError as error:
        sys.exit(f"error: the database does not answer; run it again to go on. {error}")
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        sys.exit("error: the database is not migrated: run `make migrate`")
    except psycopg.Error as error:
        sys.exit(f"error: {error.diag.message_primary or error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. What was made stays: run it again to go on, or with CANCEL=1 to remove it.")


if __name__ == "__main__":
    main()
