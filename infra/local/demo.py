"""The main job in one command: documents in, questions asked, grounded answers out, on a throw-away state."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra.local.assembly import ROOT
from infra.local.client import Answer, ApiError, PlatformClient
from infra.local.folder import UNREAD, File, described, show_failed, show_left_out
from infra.local.folder import collect as collect_folder
from infra.local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUESTIONS = (
    "Which environment variable sets the daily token budget of a tenant?",
    "Which command starts the platform on a laptop?",
    "What happens when the inference process dies in the middle of an answer?",
)
_DOCUMENTS_AT_MOST = 1000
_UPLOADS_AT_ONCE = 4
_POLL_SECONDS = 0.2
_INGESTION_TIMEOUT_SECONDS = 600.0
_FINAL = ("indexed", "failed")
_TERMINATED = 128


class DemoError(RuntimeError):
    """The demo cannot do its job; the message says why."""


def run(environ: Mapping[str, str]) -> int:
    """Run the demo that DOCS and ASK describe; return 0 when all was indexed and every answer cites a passage."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        left_out: dict[str, list[str]] = {}
        chosen = environ.get("DOCS", "")
        documents = collect(chosen, left_out)
        show_left_out(console, left_out)
        if not documents:
            raise DemoError(f"{chosen} has no document that the platform reads; choose others with DOCS=path")
        if len(documents) > _DOCUMENTS_AT_MOST:
            raise DemoError(f"{chosen} has {len(documents):,} documents; the demo takes {_DOCUMENTS_AT_MOST:,}")
        questions = (environ["ASK"],) if environ.get("ASK") else QUESTIONS
        return _run(console, documents, questions)
    except (DemoError, ApiError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; nothing is left behind.")
        return _TERMINATED + signal.SIGINT


def collect(chosen: str, left_out: dict[str, list[str]]) -> list[File]:
    """Return the documents of the folder (or file) `chosen`, or the project's own.

    Those that are not taken go into `left_out`, by the reason: they are those of `make ingest`.
    """
    if not chosen:
        return own_documents()
    root = Path(chosen).expanduser()
    if not root.is_file():
        return list(collect_folder(root, left_out))
    file = described(root.name, root)
    if file is None:
        left_out[UNREAD] = [root.name]
        return []
    return [file]


def own_documents() -> list[File]:
    """Return the project's own documents: docs/ and the README."""
    paths = {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))} | {"README.md": ROOT / "README.md"}
    return [File(name, path, "text/markdown", path.stat().st_size) for name, path in paths.items() if path.is_file()]


def _run(console: Console, documents: Sequence[File], questions: Sequence[str]) -> int:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="enterprise-agents-demo-", ignore_cleanup_errors=True) as folder:
        # The demo's own haste is no abuse to be limited.
        stack = Stack.throw_away(Path(folder) / "state", RATE_LIMIT_PER_MINUTE="100000")
        with console.status("Starting PostgreSQL, Redis, the model server and every function ..."):
            stack.start()
        try:
            console.print(f"Platform started in {time.perf_counter() - started:.1f} s.")
            failures = asyncio.run(_session(console, stack, documents, questions))
        finally:
            stack.stop()
    console.print(f"\nWhole run: {time.perf_counter() - started:.1f} s.")
    for failure in failures:
        console.print(f"error: {failure}", style="red", markup=False)
    return 1 if failures else 0


async def _session(console: Console, stack: Stack, documents: Sequence[File], questions: Sequence[str]) -> list[str]:
    async with aiohttp.ClientSession() as session:
        client = PlatformClient(session, stack.urls, stack.token)
        failures = await _ingest(console, client, documents)
        for question in questions:
            console.print(f"\n{question}", style="bold", markup=False)
            answer = await client.ask(
                question,
                lambda text: console.print(text, end="", markup=False),
                lambda: console.print("\n(the answer begins again)\n"),
            )
            failure = _show(console, answer)
            if failure:
                failures.append(f"{question!r}: {failure}")
        return failures


async def _ingest(console: Console, client: PlatformClient, documents: Sequence[File]) -> list[str]:
    """Upload the documents, wait until all are indexed, and return what is to be said of those that cannot be.

    Raises DemoError when none can, and ApiError.
    """
    gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)
    failed: list[tuple[str, str, str]] = []

    async def upload(file: File) -> None:
        content = await asyncio.to_thread(file.path.read_bytes)
        async with gate:
            try:
                await client.upload(file.name, content, file.media_type)
            except ApiError as error:
                failed.append((file.name, str(error), ""))

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[chunks]} chunks"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Documents indexed", total=len(documents), chunks=0)
        uploads = asyncio.gather(*map(upload, documents))
        deadline = time.monotonic() + _INGESTION_TIMEOUT_SECONDS
        while True:
            states = await client.documents()
            ended = sum(state["status"] in _FINAL for state in states) + len(failed)
            progress.update(task, completed=ended, chunks=sum(state["chunks_embedded"] for state in states))
            if uploads.done():
                uploads.result()
                if ended == len(documents):
                    break
            if time.monotonic() > deadline:
                raise DemoError(f"{len(documents) - ended} documents are not indexed yet; giving up")
            await asyncio.sleep(_POLL_SECONDS)
    failed += [
        (s["name"], f"{s['error_code']}: {s['error_detail']}", s["advice"]) for s in states if s["status"] == "failed"
    ]
    show_failed(console, failed)
    if len(failed) == len(documents):
        raise DemoError("no document could be indexed")
    return [f"could not index {name}" for name, _, _ in failed]


def _show(console: Console, answer: Answer) -> str:
    """Print what stands below an answer; return why it is no success, or an empty text."""
    console.print()
    if answer.failure or answer.completed is None:
        return answer.failure
    for citation in answer.citations:
        place = " > ".join(part for part in (citation["document"], citation["heading"]) if part)
        console.print(f"  [{citation['n']}] {place}", style="cyan", markup=False)
    usage, budget = answer.completed["usage"], answer.completed["budget"]
    first = "none" if answer.first_token_seconds is None else f"{answer.first_token_seconds * 1000:.0f} ms"
    console.print(
        f"  model {answer.completed['model']} ({answer.accepted.get('tier', '?')} tier) · "
        f"tokens {usage['prompt_tokens']} + {usage['completion_tokens']} · "
        f"budget left today {budget['day']['remaining']:,}, this month {budget['month']['remaining']:,} · "
        f"first token {first}, whole {answer.seconds:.1f} s",
        style="dim",
        markup=False,
    )
    return "" if answer.citations else "the answer cites nothing"
