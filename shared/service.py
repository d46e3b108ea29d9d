"""A function as a service. functions-framework's ASGI application has no lifespan, probes or WebSockets: this adds them."""

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.requests import HTTPConnection

from shared import health, logs, metrics, sockets
from shared.metrics import Sample
from shared.problems import Problem
from shared.runtime import runtime

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
"""A client may send any word as its method; a metric's labels are few."""
SWITCHING_PROTOCOLS = 101
"""The status of a WebSocket's handshake (RFC 6455, section 4.2.2)."""
READY = "enterprise_agent_ready_timestamp_seconds"
STARTS = {"http.response.start", "websocket.http.response.start"}


class Service:
    """A function as a service: its own requests, WebSockets, probes and metrics, and a lifespan that closes connections."""

    def __init__(self, function: "ASGIApp", name: str) -> None:
        self._function = function
        self._sockets = sockets.application(name)
        self._name = name

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in health.ROUTES:
            response = await health.ROUTES[scope["path"]]()
            await response(scope, receive, send)
        else:
            await self._serve(scope, receive, send, self._sockets if scope["type"] == "websocket" else self._function)

    async def _serve(self, scope: "Scope", receive: "Receive", send: "Send", application: "ASGIApp") -> None:
        started = time.perf_counter()
        status, answered = 500, False
        connection = HTTPConnection(scope)
        connection.state.function = self._name.replace("_", "-")
        request_id = connection.headers.get("x-request-id") or uuid4().hex

        async def watch(message: "Message") -> None:
            nonlocal status, answered
            answered = True
            if message["type"] in STARTS:
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = SWITCHING_PROTOCOLS
            if message["type"] in {*STARTS, "websocket.accept"}:
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode("latin-1"))]
            await send(message)

        try:
            await application(scope, receive, watch)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not answered:
                await _shutting_down()(scope, receive, watch)
            raise
        finally:
            method = "WEBSOCKET" if scope["type"] == "websocket" else scope.get("method", "")
            metrics.requests().labels(method if method in METHODS else "other", status).inc()
            logs.info(
                "request",
                function=self._name,
                method=method,
                path=scope["path"],
                status=status,
                seconds=round(time.perf_counter() - started, 4),
                request_id=request_id,
            )

    @staticmethod
    async def _lifespan(receive: "Receive", send: "Send") -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
                metrics.keep("start", [Sample(READY, "When this process began to take requests", time.time())])
            else:
                await runtime.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _shutting_down() -> "Response":
    """Return what a request is told that the process, which was asked to end, cannot wait for any longer."""
    problem = Problem(
        "shutting_down", "The process ends. Ask again: another one answers.", headers={"Retry-After": "1"}
    )
    metrics.problems().labels(problem.code).inc()
    return problem.response()
