"""uvicorn's WebSocket protocol, with an end to clients that have stopped reading; imported with the first WebSocket."""

import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    import asyncio

CLOSE_SECONDS = 10.0
"""How long a client may take to read what was sent before its socket was closed."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection.

    A transport that is closed waits until the client has read everything, perhaps for ever, and with it whoever has something
    to send: here it is aborted after some time. uvicorn's own line for each handshake holds the query string, where a client
    may have put a token; the service logs the handshake without it.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.logger = logging.getLogger("websocket")
        self.logger.setLevel(logging.WARNING)

    async def send(self, message: Any) -> None:
        """Take what the application says; a handshake that it has refused is over, and no fault of its own."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """Give a client up that does not answer pings."""
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        """End a connection that the application has done with."""
        super().on_task_complete(task)
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
