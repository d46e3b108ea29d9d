"""Text from documents, read in processes that can be killed: see functions/ingestion/reading."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from functions.ingestion.reading import template
from functions.ingestion.reading.limits import MEBIBYTE, Limits
from shared.problems import Problem
from shared.runtime import runtime
from shared.text import storable

__all__ = ["Extraction", "Extractor", "Limits", "close", "extract"]

ROOT = Path(__file__).parents[2]
READER = "functions.ingestion.reading.reader:read"
PARALLEL = 2
"""Documents that one process reads at a time; more wait. Each may take Limits.memory_bytes."""
GRACE_SECONDS = 10
"""How much later than Limits.seconds a template is given up that has not ended its child."""
VARIABLES = {
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "1",  # each arena takes 64 MiB of the address space that Limits.memory_bytes bounds
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
}
"""The environment of the processes: nothing of the server's, hence no secret."""
INHERITED = ("LD_LIBRARY_PATH",)
"""But for where this Python finds its own libraries, if it needs to be told."""
OUT_OF_MEMORY = (b"memory allocation of", b"can't spawn worker thread")
"""What the library says when it has no memory, before it gives up."""


@dataclass(frozen=True)
class Extraction:
    """What was read."""

    text: str
    """Storable (see shared.text)."""
    format: str
    """Of the text: `text/markdown`, `text/plain` or `text/x-source`."""
    pages: list[int]
    """Where page 1, 2, ... (slide, sheet) begins in the text; empty where the format has none."""
    title: str
    metadata: dict[str, str]
    """Such as author, created, modified, charset; at most 500 characters each."""
    media_type: str
    """What the document is, whatever it was sent as."""


async def extract(original: bytes, media_type: str, name: str, limits: Limits | None = None) -> Extraction:
    """Return the text of a document, which is believed about its kind only where its content does not tell.

    Raises Problem, whose detail is for a person: `unsupported_media_type`, `document_too_large`, `too_many_pages`,
    `extraction_timeout`, `extraction_out_of_memory`, `extraction_crashed`, `encrypted_document`, `damaged_document`,
    `archive_bomb`, `nested_too_deep`, `undecodable_document`, `no_text`.
    """
    runtime.before_close(close)
    return await _extractor.extract(original, media_type, name, limits or Limits())


async def close() -> None:
    """End the processes that wait for a document."""
    await _extractor.close()


class Extractor:
    """Templates that wait for documents, each forking a child for one document at a time."""

    def __init__(self, reader: str = READER, parallel: int = PARALLEL) -> None:
        self._reader = reader
        self._parallel = parallel
        self._places = asyncio.Semaphore(parallel)
        self._idle: list[_Template] = []

    async def extract(self, original: bytes, media_type: str, name: str, limits: Limits) -> Extraction:
        """Do what `extract` does."""
        if len(original) > limits.size_bytes:
            raise Problem("document_too_large", f"A document has at most {limits.size_bytes} bytes.")
        request = {"size": len(original), "media_type": media_type, "name": name, "limits": asdict(limits)}
        async with self._places:
            try:
                async with self._template() as lent, asyncio.timeout(limits.seconds + GRACE_SECONDS):
                    header, body = await lent.ask(request, original)
            except TimeoutError:
                raise _too_slow(limits) from None
            except (EOFError, ConnectionError):
                raise Problem("extraction_crashed", "The process that read the document ended.") from None
        return _extraction(header, body, limits)

    async def close(self) -> None:
        """End the processes that wait for a document."""
        while self._idle:
            await self._idle.pop().end()
        # A semaphore belongs to the loop in which somebody has waited for it.
        self._places = asyncio.Semaphore(self._parallel)

    @contextlib.asynccontextmanager
    async def _template(self) -> AsyncIterator["_Template"]:
        """Lend a template, and end it when anything goes wrong with it, cancellation included."""
        process = self._idle.pop() if self._idle else await _start(self._reader)
        try:
            yield process
        except BaseException:
            await process.end()
            raise
        self._idle.append(process)


@dataclass(frozen=True)
class _Template:
    """A process of reading/template.py."""

    process: Process
    requests: asyncio.StreamWriter
    answers: asyncio.StreamReader

    async def ask(self, request: dict[str, Any], original: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a document, and return header and body of the answer; raises EOFError or ConnectionError when it has ended."""
        self.requests.write(json.dumps(request).encode() + b"\n")
        self.requests.write(original)
        await self.requests.drain()
        header = json.loads(await self.answers.readuntil())
        return header, await self.answers.readexactly(header["size"])

    async def end(self) -> None:
        """Kill it; its child dies with it, by the kernel and because its input closes."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.requests.close()
        await asyncio.shield(self.process.wait())


async def _start(reader: str) -> _Template:
    variables = VARIABLES | {name: os.environ[name] for name in INHERITED if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", template.__file__, str(ROOT), reader), stdin=PIPE, stdout=PIPE, env=variables
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process without pipes")
    started = _Template(process, process.stdin, process.stdout)
    try:
        if not await started.answers.readline():
            raise RuntimeError("the extraction process did not start: its standard error says why")
    except BaseException:
        await started.end()
        raise
    return started


def _extraction(header: dict[str, Any], body: bytes, limits: Limits) -> Extraction:
    """Return what was read; raises Problem where the document was refused, or the child did not come to an end."""
    outcome, status = header["outcome"], header["status"]
    if outcome == "answered":
        if not body:
            raise Problem("extraction_crashed", "The process that read the document ended without an answer.")
        told = json.loads(body)
        if "code" in told:
            raise Problem(told["code"], told["detail"])
        texts = {name: storable(text) for name, text in told.pop("metadata").items()}
        text, title = storable(told.pop("text")), storable(told.pop("title"))
        return Extraction(text=text, title=title, metadata=texts, **told)
    if outcome == "timeout" or (outcome, status) == ("killed", signal.SIGXCPU):
        raise _too_slow(limits)
    if (outcome, status) == ("exited", template.EXIT_TOO_LARGE):
        raise Problem("document_too_large", f"The document has more than {limits.characters} characters of text.")
    # Whoever else kills without a word is the kernel, when memory runs out.
    silent = {("exited", template.EXIT_OUT_OF_MEMORY), ("killed", signal.SIGKILL)}
    if (outcome, status) in silent or any(words in body for words in OUT_OF_MEMORY):
        mebibytes = limits.memory_bytes // MEBIBYTE
        raise Problem("extraction_out_of_memory", f"Reading the document takes more than {mebibytes} MiB of memory.")
    how = signal.Signals(status).name if outcome == "killed" else f"exit {status}"
    raise Problem("extraction_crashed", f"The process that read the document died ({how}).")


def _too_slow(limits: Limits) -> Problem:
    return Problem("extraction_timeout", f"Reading the document takes more than {limits.seconds:g} seconds.")


_extractor = Extractor()
