"""Serves one entry point of one function: `python -m shared.serving`, with FUNCTION_SOURCE, FUNCTION_TARGET, HOST and PORT.

functions-framework's ASGI application has no lifespan and no probes; this wraps it once and adds them.
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from pydantic import ValidationError
from starlette.requests import Request

from shared import health, logs, metrics
from shared.runtime import runtime
from shared.settings import get_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEEP_ALIVE_SECONDS = 620
"""Longer than Knative's queue-proxy keeps an idle connection to us, or it would send into a closed one (502)."""
GRACEFUL_SHUTDOWN_SECONDS = 600
"""As long as a stream may last."""


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

        async def watch(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._function(scope, receive, watch)
        finally:
            metrics.requests().labels(scope.get("method", ""), status).inc()
            logs.info(
                "request",
                function=self._name,
                method=scope.get("method"),
                path=scope["path"],
                status=status,
                seconds=round(time.perf_counter() - started, 4),
                request_id=Request(scope).headers.get("x-request-id") if scope["type"] == "http" else None,
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


def build(source: str, target: str) -> Service:
    """Return the service of an entry point: `build("functions/chat/main.py", "chat")`."""
    from functions_framework.aio import create_asgi_app

    app: ASGIApp = create_asgi_app(target=target, source=source)
    return Service(app, target)


def main() -> None:
    """Serve until SIGTERM; refuse to start with one message that names every wrong variable."""
    logs.configure()
    try:
        get_settings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        sys.exit(f"Refusing to start: {wrong}")
    source, target = os.environ["FUNCTION_SOURCE"], os.environ["FUNCTION_TARGET"]
    if not Path(source).is_file():
        sys.exit(f"Refusing to start: FUNCTION_SOURCE names no file: {source}")
    uvicorn.run(
        build(source, target),
        host=os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 - a container listens on its pod's address
        port=int(os.environ.get("PORT", "8080")),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main()
