"""A function as a service. functions-framework's ASGI application has no lifespan and no probes: this adds them."""

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.requests import Request

from shared import health, logs, metrics
from shared.runtime import runtime

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A client may send any word as its method; a metric's labels are few."""


class Service:
    """A function as a service: its own requests, probes and metrics, and a lifespan that closes connections."""

    def __init__(self, function: "ASGIApp", name: str) -> None:
        self._function = function
        self._name = name

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in health.ROUTES:
            response = await health.ROUTES[scope["path"]]()
            await response(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        started = time.perf_counter()
        status = 500
        request_id = Request(scope).headers.get("x-request-id") or uuid4().hex if scope["type"] == "http" else None

        async def watch(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if request_id is not None:
                    message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("latin-1"))]
            await send(message)

        try:
            await self._function(scope, receive, watch)
        finally:
            method = scope.get("method", "")
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
            else:
                await runtime.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
