"""Forms with files (multipart/form-data, RFC 7578): each file is stored by itself, and one that is refused stops no other."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.ingestion import media_types
from functions.ingestion.models import Form, Target
from functions.ingestion.storing import check_size, store
from shared import logs, metrics
from shared.access import admitted
from shared.http import drain, refuse_encoded, validate
from shared.problems import Problem
from shared.settings import get_settings

if TYPE_CHECKING:
    from multipart import MultipartSegment

FORM = "multipart/form-data"
MAX_PARTS = 200
MAX_FIELD_BYTES = 64 * 1024
MAX_FORM_DOCUMENTS = 4
"""So many times MAX_DOCUMENT_BYTES a form may be long in all."""
OF_THE_FILE = frozenset({"undecodable_document", "unsupported_media_type", "request_too_large", "invalid_request"})
"""Problems of one file: the next one may do. Any other ends the request."""
MULTI_STATUS = 207


class Room:
    """Memory for documents on their way in: what does not fit waits, in the order of arrival, until others have left."""

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._taken = 0
        self._waiting: deque[tuple[int, int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size: int, limit: int) -> AsyncIterator[None]:
        """Hold room for a document of at most `limit` bytes."""
        size = min(size, limit)
        entered = asyncio.get_running_loop().create_future()
        self._waiting.append((size, limit, entered))
        self._admit()
        try:
            await entered
        except asyncio.CancelledError:
            if not entered.cancelled():
                self._leave(size)
            raise
        try:
            yield
        finally:
            self._leave(size)

    def _leave(self, size: int) -> None:
        self._taken -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, limit, entered = self._waiting[0]
            if not entered.cancelled():
                if self._taken + size > self._documents * limit:
                    return
                self._taken += size
                entered.set_result(None)
            self._waiting.popleft()


room = Room(3)
"""The process's own: three of the largest documents at a time."""


def expected_bytes(request: Request, limit: int) -> int:
    """Return how many bytes of memory a request may take: as many as it says, or the limit."""
    declared = request.headers.get("content-length", "")
    return min(int(declared), limit) if declared.isdigit() and len(declared) < len(str(limit)) + 1 else limit


async def receive(request: Request) -> Response:
    """Store the files of a form: 202 when all are, 207 when some are not. Fields are for the files after them."""
    refuse_encoded(request)
    limit = get_settings().max_document_bytes
    form = _Form(request, limit)
    async with room.of(expected_bytes(request, limit), limit):
        await form.read()
    failed = sum("problem" in outcome for outcome in form.outcomes)
    return JSONResponse({"files": form.outcomes}, status_code=MULTI_STATUS if failed else 202)


class _Form:
    """A form that is being read: one part of it at a time is in memory."""

    def __init__(self, request: Request, limit: int) -> None:
        self._request = request
        self._limit = limit
        self._fields: dict[str, str] = {}
        self._idle: list[str] = []
        """The fields since the last file: they hold for those that follow."""
        self._part: MultipartSegment | None = None
        self._body = bytearray()
        self._too_large = False
        self.outcomes: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Read to the end; raises Problem, which tells what was stored before."""
        # Imported with the first form: most requests have none.
        from multipart import MultipartError, PushMultipartParser, parse_options_header

        _, options = parse_options_header(self._request.headers.get("content-type", ""))
        incoming = self._request.stream()
        try:
            with PushMultipartParser(
                options.get("boundary", ""),
                max_segment_count=MAX_PARTS,
                max_segment_size=self._limit * MAX_FORM_DOCUMENTS,
            ) as parser:
                taken = 0
                async for chunk in incoming:
                    taken += len(chunk)
                    if taken > self._limit * MAX_FORM_DOCUMENTS:
                        raise Problem(
                            "request_too_large", f"At most {self._limit * MAX_FORM_DOCUMENTS} bytes are taken."
                        )
                    for event in parser.parse(chunk) if chunk else ():
                        await self._take(event)
        except (MultipartError, ValueError) as error:
            await drain(incoming)
            raise self._told(Problem("malformed_multipart", f"The body is not {FORM}: {error}")) from error
        except Problem as problem:
            await drain(incoming)
            raise self._told(problem) from None
        if not self.outcomes:
            raise Problem("invalid_request", "There is no file in the form.")
        if self._idle:
            # What was meant for the files before it must not be lost in silence.
            names = ", ".join(self._idle)
            raise self._told(
                Problem("invalid_request", f"No file follows the fields {names}: they go before the files.")
            )

    def _told(self, problem: Problem) -> Problem:
        if self.outcomes:
            problem.extra["files"] = self.outcomes
        return problem

    async def _take(self, event: "MultipartSegment | bytes | bytearray | None") -> None:
        """Take the beginning of a part, some of it, or its end."""
        if event is None:
            await self._end()
        elif isinstance(event, bytes | bytearray):
            limit = MAX_FIELD_BYTES if self._part is None or self._part.filename is None else self._limit
            self._too_large = self._too_large or len(self._body) + len(event) > limit
            if not self._too_large:
                self._body += event
        else:
            self._part, self._body, self._too_large = event, bytearray(), False

    async def _end(self) -> None:
        part = self._part
        assert part is not None  # noqa: S101 - a part ends that has begun
        if part.filename is None:
            if self._too_large:
                raise Problem("request_too_large", f"A field holds at most {MAX_FIELD_BYTES} bytes.")
            try:
                self._fields[part.name or ""] = self._body.decode()
            except UnicodeError as error:
                raise Problem("invalid_request", f"{part.name}: must be UTF-8") from error
            validate(Form, self._fields)
            if part.name in Form.model_fields:
                self._idle.append(part.name)
            return
        self._idle.clear()
        try:
            document = await self._store(part)
        except Problem as problem:
            if problem.code not in OF_THE_FILE:
                raise
            metrics.problems().labels(problem.code).inc()
            logs.warning("file_refused", code=problem.code, detail=problem.detail, name=part.filename)
            self.outcomes.append({"name": part.filename, "status": problem.status, "problem": problem.document()})
        else:
            self.outcomes.append({"name": document["name"], "status": 202, "document": document})

    async def _store(self, part: "MultipartSegment") -> dict[str, Any]:
        fields = self._fields | {"name": part.filename}
        target = validate(Target, fields)
        if self._too_large:
            raise Problem("request_too_large", f"At most {self._limit} bytes are taken (MAX_DOCUMENT_BYTES).")
        charset = f";charset={part.charset}" if part.charset else ""
        media_type = media_types.understood(f"{part.content_type or ''}{charset}", target.name)
        original = bytes(self._body)
        self._body = bytearray()
        check_size(original, self._limit)
        return await store(admitted(self._request).principal, target, media_type, original)
