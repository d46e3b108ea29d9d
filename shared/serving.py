"""Serves one entry point of one function: `python -m shared.serving`.

The variables FUNCTION_SOURCE, FUNCTION_TARGET, HOST and PORT say which and where. While it starts, a request may be
waiting for a function that had scaled to zero: so everything is imported inside `main`, under conditions that suit it.
"""

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType

    import uvicorn

    from shared.service import Service

KEEP_ALIVE_SECONDS = 620
"""Longer than Knative's queue-proxy keeps an idle connection to us, or it would send into a closed one (502)."""
MAX_FRAME_BYTES = 1024 * 1024
"""A WebSocket that sends a longer message is closed (1009)."""
HIGHEST_PORT = 65535
STARTUP_FAILED = 3
"""The exit status that uvicorn itself uses."""


def build(source: str, target: str) -> "Service":
    """Return the service of an entry point: `build("functions/chat/main.py", "chat")`."""
    _import_redis()
    from functions_framework.aio import create_asgi_app
    from starlette.exceptions import HTTPException

    from shared.http import refuse, served
    from shared.service import Service

    function = create_asgi_app(target=target, source=source)
    # It refuses some methods and addresses by itself, before the function sees them.
    function.add_exception_handler(HTTPException, refuse)
    return Service(served(target) or function, target)


def _import_redis() -> None:
    """Import redis as if OpenTelemetry were not installed: it would load the SDK, for metrics that nobody asks it for."""
    if "opentelemetry" in sys.modules:
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment] # None: an import of it fails
    modules["opentelemetry"] = None
    try:
        import redis.asyncio  # noqa: F401
    finally:
        del modules["opentelemetry"]


def websocket_protocol(**arguments: Any) -> "asyncio.Protocol":
    """Return uvicorn's side of a WebSocket. The library is loaded by the first one: most functions never see any."""
    from shared.websocket_protocol import WebSocketProtocol

    return WebSocketProtocol(**arguments)


def configuration(service: "Service", host: str, port: int) -> "uvicorn.Config":
    """Return how uvicorn serves a function."""
    import uvicorn

    from shared.settings import get_settings

    return uvicorn.Config(
        service,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="on",
        loop="uvloop",
        http="shared.http_protocol:HttpProtocol",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=get_settings().shutdown_seconds,
        ws=websocket_protocol,  # type: ignore[arg-type]  # it need not be a class
        ws_max_size=MAX_FRAME_BYTES,
        # Events are small: compressing each costs more than it saves, in time and in memory for each socket.
        ws_per_message_deflate=False,
    )


def main() -> None:
    """Serve until SIGTERM; refuse to start with one message that names every wrong variable."""
    # What a start allocates stays: looking for garbage in it again and again would be a tenth of the time.
    gc.disable()
    # Looking for plugins reads the metadata of every installed distribution; there are none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    import uvicorn

    service, port = _load()
    config = configuration(
        service,
        os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 - a container listens on its pod's address
        port,
    )
    config.load()
    gc.freeze()
    gc.enable()
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILED)


def _load() -> "tuple[Service, int]":
    """Return the service and the port that the environment describes; ends the process with a message otherwise."""
    from shared import guards, logs

    logs.configure()
    wrong = guards.wrong_variables()
    source, target = os.environ.get("FUNCTION_SOURCE", ""), os.environ.get("FUNCTION_TARGET", "")
    if not Path(source).is_file():
        wrong.append(f"FUNCTION_SOURCE: names no file: {source!r}")
    if not target:
        wrong.append("FUNCTION_TARGET: names no entry point")
    port = os.environ.get("PORT", "8080")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= HIGHEST_PORT):
        wrong.append(f"PORT: must be a number from 1 to {HIGHEST_PORT}")
    if wrong:
        sys.exit(f"Refusing to start: {'; '.join(wrong)}")
    from functions_framework.exceptions import FunctionsFrameworkException

    try:
        return build(source, target), int(port)
    except FunctionsFrameworkException as error:
        sys.exit(f"Refusing to start: FUNCTION_TARGET: {error}")


if __name__ == "__main__":
    main()
