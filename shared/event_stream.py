"""A response of server-sent events (HTML Living Standard, section 9.2)."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.types import Receive, Scope, Send

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStreamResponse(Response):
    """Sends events as they come.

    Starlette's StreamingResponse runs a task group for every stream, with a second task that waits for the client to leave;
    here the server tells it with the next write (ASGI, spec version 2.4), which a heartbeat makes at the latest.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], headers: "Mapping[str, str] | None" = None) -> None:
        super().__init__(None, headers=headers)
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send the response (ASGI)."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(cast("AsyncGenerator[bytes]", self._events)) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            return  # the client has left
