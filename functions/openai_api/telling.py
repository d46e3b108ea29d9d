"""How an answer is told in the OpenAI API: whole, or as chunks of a stream.

An answer that is generated in this process is heard as it arrives. One that another process generates, because the request is a
repeated one or because the lease was lost, is read from the turn's stream, and its end from PostgreSQL.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.responses import JSONResponse, Response

from functions.openai_api import errors
from shared import metrics
from shared.answer import Heard
from shared.database import unavailable
from shared.event_stream import HEADERS, EventStreamResponse
from shared.follow import followed
from shared.principal import Principal
from shared.problems import PROBLEM_TYPES, Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.streams import BEGINNING, HEARTBEAT
from shared.upstream import Delta

BEGINS_WITHIN_SECONDS = 10.0
"""So long a stream waits for its first token before it answers 200: what fails until then has a status of its own."""
DONE = b"data: [DONE]\n\n"
PIECES: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "turn.delta": lambda data: {"content": data["text"]},
    "turn.reasoning": lambda data: {"reasoning_content": data["text"]},
    "turn.tool_calls": lambda data: data,
}
"""The events of a turn's stream that are pieces of its answer, as this API words them."""


class Told:
    """A turn as this API names it."""

    def __init__(self, principal: Principal, accepted: dict[str, Any], heard: Heard) -> None:
        self._principal = principal
        self._accepted = accepted
        self._heard = heard
        self._turn_id = UUID(accepted["turn_id"])
        self._id = f"chatcmpl-{self._turn_id.hex}"
        self._created = int(datetime.fromisoformat(accepted["created_at"]).timestamp())

    def _headers(self) -> dict[str, str]:
        return {"X-Turn-Id": str(self._turn_id)}

    async def _read(self) -> dict[str, Any]:
        database = await runtime.database()
        turn: dict[str, Any] = await database.call("chat.read_turn", self._principal, p_turn_id=self._turn_id)
        return turn

    async def _outcome(self) -> dict[str, Any]:
        """Return the turn when it has ended, wherever it is generated; raises Problem when it failed.

        One that a crash of the database took back, before it was on disk and anybody was told of it, is to be asked again.
        """
        if self._heard.run is not None:
            try:
                return _succeeded(await asyncio.shield(self._heard.run))
            except Problem as problem:
                if problem.code != "lease_lost":
                    raise
        try:
            async with aclosing(self._follow()) as following:
                async for _ in following:
                    pass
            return _succeeded(await self._read())
        except Problem as problem:
            if problem.code == "not_found":
                raise unavailable() from problem
            raise

    def _follow(self) -> Any:
        return followed(
            runtime.redis(), self._turn_id, BEGINNING, self._read, get_settings().stream_heartbeat_seconds, begun=True
        )


def _succeeded(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["status"] != "failed":
        return turn
    code = turn["error"]["code"]
    raise Problem(
        code if code in PROBLEM_TYPES else "internal_error",
        turn["error"]["detail"],
        extra={"turn_id": turn["turn_id"]},
    )


def _finish_reason(turn: dict[str, Any]) -> str:
    return turn["finish_reason"] or ("tool_calls" if turn["tool_calls"] else "stop")


class Whole(Told):
    """The answer in one piece."""

    async def response(self) -> Response:
        """Return the completion when the turn has ended; raises Problem when it failed."""
        turn = await self._outcome()
        message = {"role": "assistant", "content": turn["answer"], "refusal": None}
        if turn["tool_calls"]:
            message |= {"content": turn["answer"] or None, "tool_calls": turn["tool_calls"]}
        document = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": turn["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(turn)}],
            "usage": turn["usage"],
        }
        if turn["citations"]:
            document["citations"] = turn["citations"]
        return JSONResponse(document, headers=self._headers())


class Stream(Told):
    """The answer as chunks."""

    def __init__(
        self,
        principal: Principal,
        accepted: dict[str, Any],
        heard: Heard,
        stored: "asyncio.Future[None] | None",
        *,
        include_usage: bool,
    ) -> None:
        super().__init__(principal, accepted, heard)
        self._stored = stored
        """Done when the turn is on disk; None: it is."""
        self._include_usage = include_usage
        head = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": accepted["model"],
        }
        # A chunk is made for each token: all but the delta is written once.
        self._head = "data: " + json.dumps(head)[:-1] + ', "choices": [{"index": 0, "delta": '
        self._tail = "}]" + (', "usage": null' if include_usage else "") + "}\n\n"

    async def response(self) -> Response:
        """Return the stream once its first token, or its failure, is there; raises Problem for a failure before it."""
        if self._heard.run is not None:
            await self._heard.wait(BEGINS_WITHIN_SECONDS)
            if self._heard.run.done() and not self._heard.pieces:
                await self._outcome()
        if self._stored is not None:
            await asyncio.shield(self._stored)
        return EventStreamResponse(self._chunks(), headers={**HEADERS, **self._headers()})

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async for chunk in self._told() if self._heard.run is None else self._listened():
                yield chunk
            turn = await self._outcome()
        except Problem as problem:
            metrics.problems().labels(problem.code).inc()
            yield f"data: {json.dumps(errors.document(problem))}\n\n".encode()
        else:
            yield self._chunk({}, _finish_reason(turn), {"citations": turn["citations"]} if turn["citations"] else {})
            if self._include_usage:
                yield self._usage(turn)
        yield DONE

    async def _listened(self) -> AsyncIterator[bytes]:
        """Yield what this process generates, as it arrives."""
        heartbeat = get_settings().stream_heartbeat_seconds
        while not self._heard.ended():
            if not await self._heard.wait(heartbeat):
                yield HEARTBEAT
            elif pieces := self._heard.take():
                yield b"".join(self._pieces(pieces))
        run = self._heard.run
        if run is not None and not run.cancelled() and run.exception() is not None:
            # The lease was lost: the answer goes on elsewhere, from its beginning.
            if self._heard.said:
                raise Problem("in_progress", "The answer was begun again: read it as the turn X-Turn-Id.")
            async for chunk in self._told():
                yield chunk

    def _pieces(self, deltas: Iterable[Delta]) -> Iterable[bytes]:
        for delta in deltas:
            if delta.text:
                yield self._chunk({"content": delta.text})
            if delta.reasoning:
                yield self._chunk({"reasoning_content": delta.reasoning})
            if delta.tool_calls:
                yield self._chunk({"tool_calls": list(delta.tool_calls)})

    async def _told(self) -> AsyncIterator[bytes]:
        """Yield what the turn's stream holds, of an answer that another process generates or has generated."""
        said = False
        async with aclosing(self._follow()) as following:
            async for events in following:
                if not events:
                    yield HEARTBEAT
                for event in events:
                    if event.event == "turn.restarted" and said:
                        raise Problem("in_progress", "The answer was begun again: read it as the turn X-Turn-Id.")
                    if event.event in PIECES:
                        said = True
                        yield self._chunk(PIECES[event.event](event.data))

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, more: dict[str, Any] | None = None) -> bytes:
        extra = f", {json.dumps(more)[1:-1]}" if more else ""
        finish = ', "finish_reason": ' + json.dumps(reason)
        tail = self._tail if not extra else self._tail.removesuffix("}\n\n") + extra + "}\n\n"
        return f"{self._head}{json.dumps(delta)}{finish}{tail}".encode()

    def _usage(self, turn: dict[str, Any]) -> bytes:
        head = self._head.partition(', "choices"')[0]
        return f'{head}, "choices": [], "usage": {json.dumps(turn["usage"])}}}\n\n'.encode()
