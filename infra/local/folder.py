"""A folder's documents into the platform, and what became of each: `make ingest DIR=path`.

It can be interrupted and run again: what the platform has already, by its content, is not sent once more.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from functions.ingestion.media_types import by_name
from infra.local.sse import read_events
from shared.text import is_storable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FORM_BYTES = 4 * 1024 * 1024
FORM_FILES = 32
"""So much goes in one request: the platform counts requests, not files."""
FORMS_AT_ONCE = 4
ATTEMPTS = 6
BUSY = frozenset({429, 502, 503, 504})
SNIFFED_BYTES = 64 * 1024
UNREAD, HIDDEN, LINKED = "of a kind that is not read", "hidden", "symbolic links"
UNNAMED, CLOSED = "whose names are not UTF-8", "that cannot be opened"
"""Why files of a folder are left out."""
_SHOWN = 10
INTERRUPTED = 128 + signal.SIGINT
PAGE = 1000
_PARTLY = 207


class FolderError(RuntimeError):
    """The folder cannot be ingested; the message says why."""


@dataclass(frozen=True)
class File:
    """A file of the folder: its name in the platform, and what it is."""

    name: str
    path: Path
    media_type: str
    size: int


@dataclass
class Report:
    """What became of the files."""

    unchanged: int = 0
    sent: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names of files that are not sent, by the reason."""
    failed: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, cause, and what to do."""


def run(environ: Mapping[str, str], url: str, token: str) -> int:
    """Ingest the folder DIR into COLLECTION; return 0 when every document of it is indexed."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        folder = Path(environ.get("DIR", "")).expanduser()
        if not environ.get("DIR") or not folder.is_dir():
            raise FolderError("name a folder: make ingest DIR=path")
        report = asyncio.run(ingest(console, folder, environ.get("COLLECTION") or "default", url, token))
    except FolderError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted. Run it again to go on: what was stored is not sent once more.")
        return INTERRUPTED
    show(console, report)
    return 1 if report.failed else 0


async def ingest(console: Console, folder: Path, collection: str, url: str, token: str) -> Report:
    """Send what the platform has not, wait until all is settled, and report. Raises FolderError."""
    report = Report()
    files = list(collect(folder, report.left_out))
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        platform = _Platform(session, url.rstrip("/"), collection)
        known = {d["name"]: (d["sha256"], d["status"]) async for d in platform.documents()}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task("Files sent", total=len(files))
            places = asyncio.Semaphore(FORMS_AT_ONCE)

            async def send(form: Sequence[File]) -> None:
                async with places:
                    changed = []
                    for file in form:
                        try:
                            body = await asyncio.to_thread(_changed, file, known)
                        except OSError as error:
                            report.failed.append((file.name, f"cannot be read: {error.strerror}", ""))
                            continue
                        if body is None:
                            report.unchanged += 1
                        else:
                            changed.append((file, body))
                    if changed:
                        report.failed += await platform.send(changed)
                        report.sent += len(changed)
                    bars.advance(bar, len(form))

            await asyncio.gather(*(send(form) for form in forms(files)))
            indexed = bars.add_task(f"Settled in {collection}", total=None)
            async for counts in platform.progress():
                total = sum(counts.values())
                bars.update(indexed, total=total, completed=counts["indexed"] + counts["failed"])
        mine = {file.name for file in files}
        async for document in platform.documents(status="failed"):
            if document["name"] in mine:
                cause = f"{document['error_code']}: {document['error_detail']}"
                report.failed.append((document["name"], cause, document["advice"]))
    return report


def collect(folder: Path, left_out: dict[str, list[str]]) -> Iterator[File]:
    """Yield the folder's files, by name; those that are not taken go into `left_out`, by the reason."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            left_out.setdefault(LINKED, []).append(name)
        elif not path.is_file():
            continue
        elif any(part.startswith(".") for part in name.split("/")):
            left_out.setdefault(HIDDEN, []).append(name)
        elif not is_storable(name):
            # Nor can such a name be printed as it is.
            left_out.setdefault(UNNAMED, []).append(name.encode(errors="surrogateescape").decode(errors="replace"))
        elif not os.access(path, os.R_OK):
            left_out.setdefault(CLOSED, []).append(name)
        elif (file := described(name, path)) is None:
            left_out.setdefault(UNREAD, []).append(name)
        else:
            yield file


def described(name: str, path: Path) -> File | None:
    """Return a file as the platform takes it, by its name or else its content; None when nothing can read it."""
    media_type = by_name(name) or _by_content(path)
    return None if media_type is None else File(name, path, media_type, path.stat().st_size)


def _by_content(path: Path) -> str | None:
    """Return what a file is whose suffix tells nothing."""
    with path.open("rb") as opened:
        beginning = opened.read(SNIFFED_BYTES)
    if beginning.startswith(b"%PDF-"):
        return "application/pdf"
    try:
        # A character may be cut at the end of what was read.
        text = codecs.getincrementaldecoder("utf-8")().decode(beginning, final=len(beginning) < SNIFFED_BYTES)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else "text/plain"


def forms(files: Sequence[File]) -> Iterator[list[File]]:
    """Yield the files in groups that fit into one request; a larger file goes alone."""
    group: list[File] = []
    size = 0
    for file in files:
        if group and (len(group) == FORM_FILES or size + file.size > FORM_BYTES):
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if group:
        yield group


def _changed(file: File, known: Mapping[str, tuple[str, str]]) -> bytes | None:
    """Return a file's content, None when the platform has it and did not fail with it."""
    body = file.path.read_bytes()
    sha256, status = known.get(file.name, ("", ""))
    return None if status != "failed" and hashlib.sha256(body).hexdigest() == sha256 else body


class _Platform:
    """The ingestion function, for one collection."""

    def __init__(self, session: aiohttp.ClientSession, url: str, collection: str) -> None:
        self._session = session
        self._url = url
        self._collection = collection

    async def send(self, files: Sequence[tuple[File, bytes]]) -> list[tuple[str, str, str]]:
        """Store files by one form; return those that were refused."""
        boundary = os.urandom(16).hex()
        parts = [_field(boundary, 'name="collection"', None, self._collection.encode())]
        parts += [
            _field(boundary, f'name="file"; filename="{_quoted(f.name)}"', f.media_type, body) for f, body in files
        ]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        status, answer = await self._request(
            "POST", "/documents", data=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
        )
        if status not in {202, _PARTLY}:
            cause = f"{answer.get('code', status)}: {answer.get('detail', '')}"
            return [(file.name, cause, "") for file, _ in files]
        refused = [outcome for outcome in answer["files"] if "problem" in outcome]
        return [(o["name"], f"{o['problem']['code']}: {o['problem']['detail']}", "") for o in refused]

    async def documents(self, **query: str) -> Any:
        """Yield how far each document is."""
        cursor: str | None = ""
        while cursor is not None:
            asked = {"collection": self._collection, "limit": str(PAGE), **query} | (
                {"cursor": cursor} if cursor else {}
            )
            status, page = await self._request("GET", "/documents", params=asked)
            if status != 200:  # noqa: PLR2004
                raise FolderError(f"{page.get('code', status)}: {page.get('detail', '')}")
            for document in page["documents"]:
                yield document
            cursor = page["next_cursor"]

    async def progress(self) -> Any:
        """Yield how many documents are how far, until none waits; a stream that is cut is asked for again."""
        while True:
            async with self._session.get(
                f"{self._url}/progress",
                params={"collection": self._collection},
                timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
            ) as response:
                if response.status != 200:  # noqa: PLR2004 - nothing was ever stored there
                    return
                try:
                    async for event in read_events(response.content.iter_any()):
                        if event.event == "end":
                            return
                        yield json.loads(event.data)["documents"]
                except (aiohttp.ClientError, TimeoutError):
                    pass
            await asyncio.sleep(1)

    async def _request(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Return status and answer; who is too quick or comes at a bad moment asks again."""
        for attempt in range(ATTEMPTS):
            wait = float(2**attempt)
            try:
                async with self._session.request(method, self._url + path, **options) as response:
                    if response.status not in BUSY or attempt == ATTEMPTS - 1:
                        return response.status, json.loads(await response.read())
                    wait = float(response.headers.get("Retry-After", wait))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                if attempt == ATTEMPTS - 1:
                    raise FolderError(f"{self._url} does not answer: {error}") from error
            await asyncio.sleep(wait)
        raise AssertionError  # pragma: no cover


def _field(boundary: str, disposition: str, media_type: str | None, body: bytes) -> bytes:
    kind = f"Content-Type: {media_type}\r\n" if media_type else ""
    head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n"
    return head.encode() + body + b"\r\n"


def _quoted(name: str) -> str:
    """Return a file's name as browsers write it (HTML Standard, "multipart form data")."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def show(console: Console, report: Report) -> None:
    """Print what became of the files."""
    console.print(f"{report.sent} sent, {report.unchanged} unchanged, {len(report.failed)} failed.")
    show_left_out(console, report.left_out)
    show_failed(console, report.failed)


def show_left_out(console: Console, left_out: Mapping[str, Sequence[str]]) -> None:
    """Print which files of the folder are not sent, and why."""
    for reason, names in left_out.items():
        shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        console.print(f"Left out, {len(names)} {reason}: {shown}", markup=False)


def show_failed(console: Console, failed: Sequence[tuple[str, str, str]]) -> None:
    """Print which documents could not be indexed: name, cause, what to do."""
    if failed:
        table = Table("File", "Cause", "What to do")
        for row in failed:
            table.add_row(*map(escape, row))
        console.print(table)
