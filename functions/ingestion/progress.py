"""How far documents are, as server-sent events.

One task of the process asks PostgreSQL for all who watch: once a round for each user, whatever the number of that user's
streams, and as a rule once a second; with many users a round takes longer, so that the process asks no more often than
QUERIES_A_SECOND. When nobody watches nothing is asked. The question is each user's own, under that user's rights: what may not
be read any more is not told any more.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from functions.ingestion.advice import advised
from functions.ingestion.models import WatchedCollection
from functions.ingestion.storing import state
from shared import logs
from shared.access import admitted
from shared.event_stream import HEADERS, EventStreamResponse
from shared.http import validate
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.streams import HEARTBEAT, StreamEvent

ROUND_SECONDS = 1.0
QUERIES_A_SECOND = 20
EVERYTHING = ""
"""The name under which rag.progress tells of all collections together."""
SETTLED = frozenset({"indexed", "failed"})

RESTLESS = frozenset({"remaining_seconds", "updated_at"})
"""What changes while nothing happens: it is told along with what does."""

Key = UUID | str
"""A document, or a collection by its name."""


async def follow_document(request: Request) -> Response:
    """Stream a document's progress until it is indexed or has failed."""
    document_id: UUID = request.path_params["document_id"]
    # What cannot be read is a problem, and no stream.
    await state(admitted(request).principal, document_id)
    return _stream(request, document_id)


async def follow_collection(request: Request) -> Response:
    """Stream the progress of a collection, or of all, until nothing in it waits."""
    wanted = validate(WatchedCollection, dict(request.query_params))
    key = wanted.collection or EVERYTHING
    if await ask(admitted(request).principal, {key}) == {}:
        raise Problem("not_found", f"There is no collection named {key}.", extra={"collection": key})
    return _stream(request, key)


def _stream(request: Request, key: Key) -> Response:
    seen = request.headers.get("last-event-id")
    return EventStreamResponse(_events(admitted(request).principal, key, seen), HEADERS)


async def _events(principal: Principal, key: Key, seen: str | None) -> AsyncGenerator[bytes, None]:
    """Yield what changes as `progress`, and at last `end` with the reason; not again what the client has seen."""
    heartbeat = get_settings().stream_heartbeat_seconds
    with watching.by(principal, key) as watch:
        while True:
            try:
                async with asyncio.timeout(heartbeat):
                    told = await watch.changed()
            except TimeoutError:
                yield HEARTBEAT
                continue
            if told is None:
                yield StreamEvent("end", {"reason": watch.reason}).encode()
                return
            id_ = hashlib.sha256(json.dumps(_steady(told), sort_keys=True).encode()).hexdigest()[:16]
            if id_ != seen:
                seen = id_
                yield StreamEvent("progress", told, id_).encode()
            if _settled(told):
                yield StreamEvent("end", {"reason": "settled"}).encode()
                return


def _steady(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in RESTLESS}


def _settled(told: dict[str, Any]) -> bool:
    if "documents" in told:
        return not told["documents"]["received"] + told["documents"]["processing"]
    return told["status"] in SETTLED


async def ask(principal: Principal, keys: set[Key]) -> dict[Key, dict[str, Any]]:
    """Return how far documents and collections are; what is missing is gone, or the caller's no more. Raises Problem."""
    database = await runtime.database()
    told = await database.call(
        "rag.progress",
        principal,
        p_document_ids=[key for key in keys if isinstance(key, UUID)],
        p_collections=[key for key in keys if isinstance(key, str)],
    )
    documents = {UUID(id_): advised(document) for id_, document in told["documents"].items()}
    collections = {name: {"collection": name or None, **progress} for name, progress in told["collections"].items()}
    return {**documents, **collections}


class Watch:
    """One stream's view: only the newest state waits for a client that reads slowly."""

    def __init__(self) -> None:
        self._told: dict[str, Any] | None = None
        self._changed = asyncio.Event()
        self.reason = ""
        """Why there is no more to tell; empty while there is."""

    def tell(self, told: dict[str, Any]) -> None:
        """Take a state, which may be the same as before."""
        if self._told is None or _steady(told) != _steady(self._told):
            self._told = told
            self._changed.set()

    def end(self, reason: str) -> None:
        """Tell no more."""
        self.reason = reason
        self._changed.set()

    async def changed(self) -> dict[str, Any] | None:
        """Wait for another state and return it; None when there will be none."""
        await self._changed.wait()
        self._changed.clear()
        return None if self.reason else self._told


class Watching:
    """All streams of the process, and the task that asks for them while there are any."""

    def __init__(self) -> None:
        self._watches: dict[Principal, dict[Watch, Key]] = {}
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def by(self, principal: Principal, key: Key) -> Iterator[Watch]:
        """Watch a document or collection with a user's eyes."""
        watch = Watch()
        self._watches.setdefault(principal, {})[watch] = key
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            yield watch
        finally:
            del self._watches[principal][watch]
            if not self._watches[principal]:
                del self._watches[principal]
            if not self._watches:
                self._asking.cancel()
                self._asking = None

    async def _ask(self) -> None:
        while True:
            users = list(self._watches)
            for principal in users:
                await self._ask_for(principal)
            await asyncio.sleep(max(ROUND_SECONDS, len(users) / QUERIES_A_SECOND))

    async def _ask_for(self, principal: Principal) -> None:
        watches = dict(self._watches.get(principal, {}))
        if not watches:
            return
        try:
            told = await ask(principal, set(watches.values()))
        except Problem as problem:
            # A database that does not answer just now is asked again.
            if problem.code != "database_unavailable":
                for watch in watches:
                    watch.end(problem.code)
            return
        except Exception as error:  # noqa: BLE001 - the other users' streams go on
            logs.error("progress_failed", error, tenant_id=principal.tenant_id)
            for watch in watches:
                watch.end("internal_error")
            return
        for watch, key in watches.items():
            if key in told:
                watch.tell(told[key])
            else:
                watch.end("gone")


watching = Watching()
"""The process's own."""
