"""OpenTelemetry: spans of what a function does, exported by OTLP when ENABLE_TELEMETRY is on.

While it is off a span is one object that does nothing; the SDK, which costs more than all else that a function imports, is
loaded with the first span (shared/otlp.py). Names are those of the semantic conventions; the content of messages is in no
span. A span is for a coroutine: an async generator must not hold one over a `yield`.
"""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from shared.settings import Settings, get_settings

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal["server", "client", "consumer"]
Value = str | int | float | bool | Sequence[str] | None

EXPORTER = "opentelemetry.exporter.otlp.proto.grpc"
SERVER_ERROR = 500
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONVERTER = re.compile(r":\w+\}")
"""Of a path's parameter, which is a detail of the router."""


class Span:
    """A span that is not recorded; shared/otlp.py has the one that is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        """End the span; an exception is its error."""

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more; what is None is left out."""

    def rename(self, name: str) -> None:
        """Call it what it turned out to be."""

    def fail(self, reason: str) -> None:
        """Say that it failed: a stable code, or the name of a class."""


NOTHING = Span()


def span(name: str, kind: Kind, attributes: Mapping[str, Value], parent: str | None = None) -> Span:
    """Return a span to be entered: a child of `parent`, a W3C traceparent, if it is given, and else of the current span."""
    if not get_settings().enable_telemetry:
        return NOTHING
    from shared import otlp

    return otlp.start(name, kind, attributes, parent)


def headers() -> dict[str, str]:
    """Return the headers that make a request a part of the current span; none where there is none."""
    if not get_settings().enable_telemetry:
        return {}
    from shared import otlp

    return otlp.headers()


def traceparent() -> str | None:
    """Return the current span as a W3C traceparent, if there is one."""
    return headers().get("traceparent")


def database_call(function: str) -> Span:
    """Return the span of a call of an SQL function."""
    return span(function, "client", {"db.system.name": "postgresql", "db.stored_procedure.name": function})


def model_call(
    operation: Literal["chat", "embeddings"], model: str, base_url: str, attributes: Mapping[str, Value]
) -> Span:
    """Return the span of a request to a model. The provider is the API that is spoken, whoever serves it."""
    if not get_settings().enable_telemetry:
        return NOTHING
    server = urlsplit(base_url)
    always = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "server.address": server.hostname,
        "server.port": server.port,
    }
    return span(f"{operation} {model}", "client", {**always, **attributes})


def event(attributes: Mapping[str, str | None], parent: str | None) -> Span:
    """Return the span of handling a CloudEvent: its context attributes, and its extension traceparent."""
    named = {f"cloudevents.event_{name}": value for name, value in attributes.items()}
    return span(f"process {attributes['type']}", "consumer", {"messaging.operation.type": "process", **named}, parent)


class Requests:
    """Makes a span of each HTTP request of an application, until the last byte of its answer."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http" or not get_settings().enable_telemetry:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        around = scope.get("route")  # functions-framework's, which takes every path
        sent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        about = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope["scheme"]}
        with span(method, "server", about, sent) as request:

            async def watch(message: "Message") -> None:
                if message["type"] == "http.response.start":
                    request.set({"http.response.status_code": message["status"]})
                    if message["status"] >= SERVER_ERROR:
                        request.fail(str(message["status"]))
                await send(message)

            try:
                await self._app(scope, receive, watch)
            finally:
                route = scope.get("route")
                if route is not None and route is not around:
                    path = CONVERTER.sub("}", route.path)
                    request.rename(f"{method} {path}")
                    request.set({"http.route": path})


def missing(settings: Settings) -> list[str]:
    """Return why telemetry cannot be on, as a line of guards.problems."""
    if not settings.enable_telemetry:
        return []
    try:
        found = find_spec(EXPORTER)
    except ModuleNotFoundError:
        found = None
    return [] if found else ["ENABLE_TELEMETRY: needs the packages of the extra `telemetry`, which are not installed"]


async def close() -> None:
    """Send what is not sent yet."""
    if "shared.otlp" in sys.modules:
        from shared import otlp

        await asyncio.to_thread(otlp.close)
