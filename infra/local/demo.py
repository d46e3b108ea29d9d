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
from infra.local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUESTIONS = (
    "Which environment variable sets the daily token budget of a tenant?",
    "Which command starts the platform on a laptop?",
    "What happens when the inference process dies in the middle of an answer?",
)
_SUFFIXES = {".md": "text/markdown", ".txt": "text/plain"}
_UPLOADS_AT_ONCE = 4
_POLL_SECONDS = 0.2
_INGESTION_TIMEOUT_SECONDS = 600.0
_FINAL = ("indexed", "failed")
_TERMINATED = 128


class DemoError(RuntimeError):
    """The demo cannot do its job; the message says why."""


def run(environ: Mapping[str, str]) -> int:
    """Run the demo that DOCS and ASK describe; return 0 when every answer was completed and cites a passage."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        documents = collect(environ.get("DOCS", ""))
        questions = (environ["ASK"],) if environ.get("ASK") else QUESTIONS
        return _run(console, documents, questions)
    except (DemoError, ApiError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; nothing is left behind.")
        return _TERMINATED + signal.SIGINT


def collect(chosen: str) -> dict[str, Path]:
    """Return the documents by name: of the folder (or file) `chosen`, or the project's own.

    Raises DemoError when there is nothing to read.
    """
    root = Path(chosen).expanduser() if chosen else ROOT / "docs"
    if root.is_file():
        return {root.name: root}
    found = {
        str(path.relative_to(root)): path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    }
    if not chosen and (ROOT / "README.md").is_file():
        found["README.md"] = ROOT / "README.md"
    if not found:
        raise DemoError(f"no {' or '.join(_SUFFIXES)} files in {root}; choose others with DOCS=path")
    return found


def _run(console: Console, documents: Mapping[str, Path], questions: Sequence[str]) -> int:
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


async def _session(
    console: Console, stack: Stack, documents: Mapping[str, Path], questions: Sequence[str]
) -> list[str]:
    async with aiohttp.ClientSession() as session:
        client = PlatformClient(session, stack.urls, stack.token)
        await _ingest(console, client, documents)
        failures = []
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


async def _ingest(console: Console, client: PlatformClient, documents: Mapping[str, Path]) -> None:
    """Upload the documents and wait until all are indexed; raises DemoError for those that failed."""
    gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def upload(name: str, path: Path) -> None:
        content = await asyncio.to_thread(path.read_bytes)
        async with gate:
            await client.upload(name, content, _SUFFIXES[path.suffix.lower()])

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[chunks]} chunks"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Documents indexed", total=len(documents), chunks=0)
        uploads = asyncio.gather(*(upload(name, path) for name, path in documents.items()))
        deadline = time.monotonic() + _INGESTION_TIMEOUT_SECONDS
        while True:
            states = await client.documents()
            ended = sum(state["status"] in _FINAL for state in states)
            progress.update(task, completed=ended, chunks=sum(state["chunks_embedded"] for state in states))
            if uploads.done():
                uploads.result()
                if ended == len(documents):
                    break
            if time.monotonic() > deadline:
                raise DemoError(f"{len(documents) - ended} documents are not indexed yet; giving up")
            await asyncio.sleep(_POLL_SECONDS)
    failed = [f"{s['name']} ({s['error_code']})" for s in states if s["status"] == "failed"]
    if failed:
        raise DemoError(f"could not index {', '.join(failed)}")


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
