"""A response of server-sent events (HTML Living Standard, section 9.2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import Receive, Scope, Send

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStreamResponse(Response):
    """Sends events as they come, until the client leaves.

    Starlette's StreamingResponse does this with an anyio task group for every stream, at several times the cost.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], headers: "Mapping[str, str] | None" = None) -> None:
        super().__init__(None, headers=headers)
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send the response (ASGI)."""
        del scope
        streaming = asyncio.current_task()
        assert streaming is not None  # noqa: S101 - a coroutine runs in a task
        left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            left = True
            streaming.cancel()

        watching = asyncio.create_task(watch())
        try:
            await self._send(send)
        except asyncio.CancelledError:
            if not left:
                raise
            streaming.uncancel()
        finally:
            watching.cancel()

    async def _send(self, send: "Send") -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(cast("AsyncGenerator[bytes]", self._events)) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
