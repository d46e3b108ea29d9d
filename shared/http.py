"""HTTP functions: a table of operations becomes routes, an OpenAPI document, and problem documents for whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from html import escape
from http import HTTPStatus
from traceback import format_exception
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, Router

from shared import logs, metrics, telemetry
from shared.access import guarded
from shared.models import ProblemDocument
from shared.problems import Problem
from shared.settings import get_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Model = TypeVar("Model", bound=BaseModel)
EntryPoint = TypeVar("EntryPoint", bound=Callable[..., Any])
JSON = "application/json"
IDENTITY = "identity"
"""The Content-Encoding of what is not encoded."""
DRAIN_SECONDS = 1.0
MAX_ERRORS = 20
MAX_FIELD_CHARS = 200
PUBLIC = "public"
"""The permission of an operation that asks for no credentials."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "traceparent",
    "X-Request-Id",
    # What the official clients of the OpenAI API send of themselves.
    "OpenAI-Organization",
    "OpenAI-Project",
    "X-Stainless-Arch",
    "X-Stainless-Async",
    "X-Stainless-Helper-Method",
    "X-Stainless-Lang",
    "X-Stainless-OS",
    "X-Stainless-Package-Version",
    "X-Stainless-Retry-Count",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout",
)
ANSWER_HEADERS = (
    "Content-Disposition",
    "ETag",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "Server-Timing",
    "X-Request-Id",
    "X-Turn-Id",
)
PREFLIGHT_SECONDS = 600
CONVERTORS = {"uuid": {"format": "uuid"}}
"""What a convertor of Starlette's says of a path's parameter."""
HTTP_CODES = {404: "route_not_found", 405: "method_not_allowed"}


@dataclass(frozen=True)
class Operation:
    """One method of one path: what handles it, who may call it, and what its OpenAPI entry says.

    `permission` is a name of core.operations(), or PUBLIC.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    permission: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    status: int = 200
    content_type: str = "application/json"
    request_types: tuple[str, ...] = ("application/json",)
    parameters: tuple[str, ...] = field(default=())
    """Query and header parameters, as `query:name` or `header:Name`."""


@dataclass(frozen=True)
class Errors:
    """The form in which a function tells its problems."""

    render: Callable[[Problem], Response]
    content_type: str
    description: str
    document: type[BaseModel]


PROBLEM_DOCUMENTS = Errors(
    Problem.response, "application/problem+json", "A problem document (RFC 9457)", ProblemDocument
)


def application(title: str, operations: Sequence[Operation], errors: Errors = PROBLEM_DOCUMENTS) -> Response:
    """Return the ASGI application of an HTTP function.

    It serves its operations, `/openapi.json`, and outside prod a page of them at `/docs`.
    """
    # Made when it is first asked for: building the schemas costs time that a starting function has better use for.
    document = cache(partial(openapi, title, operations, errors))

    async def serve_document(_: Request) -> Response:
        return JSONResponse(document())

    async def serve_page(_: Request) -> Response:
        return HTMLResponse(page(title, operations))

    routes = [
        Route(o.path, o.handler if o.permission == PUBLIC else guarded(o.permission, o.handler), methods=[o.method])
        for o in operations
    ]
    routes.append(Route("/openapi.json", serve_document, methods=["GET"]))
    if get_settings().environment != "prod":
        routes.append(Route("/docs", serve_page, methods=["GET"]))
    # Browsers of the listed origins only; a bearer token is no credential in the sense of CORS, so that no cookie is sent.
    answering = CORSMiddleware(
        telemetry.Requests(ProblemResponses(Router(_merged(routes), redirect_slashes=False), errors.render)),
        allow_origins=get_settings().cors_allowed_origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=ANSWER_HEADERS,
        max_age=PREFLIGHT_SECONDS,
    )
    # functions-framework sends what an entry point returns by calling it as ASGI; a whole application may stand there.
    return cast("Response", answering)


_applications: dict[str, "ASGIApp"] = {}
"""By entry point, as functions-framework knows its functions by their names."""


def serves(answering: Response) -> Callable[[EntryPoint], EntryPoint]:
    """Declare that an entry point returns this application whatever it is asked."""

    def declare(function: EntryPoint) -> EntryPoint:
        _applications[function.__name__] = cast("ASGIApp", answering)
        return function

    return declare


def served(function: str) -> "ASGIApp | None":
    """Return the application of an entry point, if it has declared one.

    Who serves it may call it at once: functions-framework's own application, its routes and middleware, has nothing to add, and
    takes a twentieth of the time of a request.
    """
    return _applications.get(function)


def _merged(routes: Sequence[Route]) -> list[Route]:
    """Put the methods of one path side by side, so that a wrong method is told from a wrong path."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    return [same[0] if len(same) == 1 else _dispatcher(same) for same in by_path.values()]


def _dispatcher(routes: Sequence[Route]) -> Route:
    handlers = {method: route.endpoint for route in routes for method in route.methods or ()}

    async def dispatch(request: Request) -> Response:
        response: Response = await handlers[request.method](request)
        return response

    return Route(routes[0].path, dispatch, methods=list(handlers))


class ProblemResponses:
    """Turns every exception of an application into a problem document; nothing leaks a stack trace or SQL."""

    def __init__(self, app: "ASGIApp", render: Callable[[Problem], Response]) -> None:
        self._app = app
        self._render = render

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Run the application (ASGI)."""
        started = False

        async def watch(message: "Message") -> None:
            nonlocal started
            started = started or message["type"] in {"http.response.start", "websocket.accept"}
            await send(message)

        # Starlette's routes raise what they refuse where there is an application around them; else they answer by themselves.
        scope.setdefault("app", self)
        try:
            await self._app(scope, receive, watch)
        except (Problem, HTTPException) as error:
            problem = error if isinstance(error, Problem) else of_http(error, scope.get("method", "GET"), scope["path"])
            metrics.problems().labels(problem.code).inc()
            logs.warning(
                "request_refused",
                code=problem.code,
                detail=problem.detail,
                path=scope["path"],
                **problem.extra,
            )
            if started:
                raise
            await self._render(problem)(scope, receive, send)
        except ClientDisconnect:
            logs.info("request_abandoned", path=scope["path"])
        except Exception as error:
            metrics.problems().labels("internal_error").inc()
            logs.error("request_failed", error, path=scope["path"])
            if started:
                raise
            await self._render(defect(error))(scope, receive, send)


def defect(error: Exception) -> Problem:
    """Return what is told of a defect: nothing more than that there is one, unless DEBUG asks for it."""
    told = {"exception": "".join(format_exception(error))} if get_settings().verbose_errors() else None
    return Problem("internal_error", "The request could not be served.", extra=told)


def of_http(error: HTTPException, method: str, path: str) -> Problem:
    """Return Starlette's own refusals as problems, which name what was asked for."""
    code = HTTP_CODES.get(error.status_code, "invalid_request")
    asked = f"{method} {path}"[:MAX_FIELD_CHARS]
    detail = {
        "route_not_found": f"There is no {asked}: /openapi.json lists what there is.",
        "method_not_allowed": f"There is no {asked}, only {(error.headers or {}).get('Allow', 'another method')}.",
    }.get(code, error.detail)
    return Problem(code, detail, headers=error.headers)


async def refuse(request: Request, error: Exception) -> Response:
    """Return one of Starlette's own refusals as a problem document; any other exception is raised."""
    if not isinstance(error, HTTPException):
        raise error
    problem = of_http(error, request.method, request.url.path)
    metrics.problems().labels(problem.code).inc()
    logs.warning("request_refused", code=problem.code, detail=problem.detail, path=request.url.path)
    return problem.response()


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes.

    Raises Problem `request_too_large` as soon as it is longer, and `unsupported_media_type` where it is compressed.
    """
    refuse_encoded(request)
    too_large = Problem("request_too_large", f"At most {limit} bytes are taken.")
    declared, parts = request.headers.get("content-length", "0"), request.stream()
    if declared.isdigit() and int(declared) > limit:
        # Who asks first has not begun to send.
        if "expect" not in request.headers:
            await drain(parts)
        raise too_large
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > limit:
            await drain(parts)
            raise too_large
    return bytes(body)


def refuse_encoded(request: Request) -> None:
    """Raise Problem `unsupported_media_type` for a compressed body (RFC 9110, 15.5.16): what it unpacks to has no bound."""
    if request.headers.get("content-encoding", IDENTITY).strip().lower() not in {"", IDENTITY}:
        detail = "Send the body as it is: a Content-Encoding is not understood."
        raise Problem("unsupported_media_type", detail, headers={"Accept-Encoding": IDENTITY})


async def drain(parts: AsyncIterator[bytes]) -> None:
    """Read on for a moment and drop it: a connection that is closed while its client sends is reset, and the answer lost."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in parts:
                pass


async def read_json(request: Request, model: type[Model], limit: int, *, optional: bool = False) -> Model:
    """Return the JSON body as the model; otherwise as `read_body` and `parse`.

    `optional`: a request without a body asks for nothing in particular, as one with `{}` does. Raises Problem
    `unsupported_media_type` when the request says that its body is something else.
    """
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media_type != JSON and not media_type.endswith("+json"):
        raise Problem("unsupported_media_type", f"Send {JSON} as Content-Type.", headers={"Accept-Post": JSON})
    body = await read_body(request, limit)
    return parse(model, b"{}" if optional and not body else body)


def parse(model: type[Model], body: bytes) -> Model:
    """Return the body as the model; raises Problem `malformed_json`, or `invalid_request` that names each wrong field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Problem("malformed_json", f"The body is not JSON: {first['ctx']['error']}") from None
        raise _invalid(error) from None


def validate(model: type[Model], document: object) -> Model:
    """Return the document as the model; raises Problem `invalid_request`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> Problem:
    """Return the problem that names the wrong fields: the first of them, at a bounded length."""
    errors = [
        {"field": ".".join(map(str, e["loc"]))[:MAX_FIELD_CHARS], "message": _message(e)}
        for e in error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
    ]
    first = errors[0]
    return Problem("invalid_request", f"{first['field'] or 'body'}: {first['message']}", extra={"errors": errors})


def _message(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, without words of the library's own."""
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "too_long" and context["field_type"] == "Value":
        # A text whose length is looked at after its characters: pydantic no longer knows that it is one.
        return f"String should have at most {context['max_length']} characters"
    return str(error["msg"])


def openapi(title: str, operations: Sequence[Operation], errors: Errors = PROBLEM_DOCUMENTS) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the operations."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        entry: dict[str, Any] = {
            "summary": operation.summary,
            "x-permission": operation.permission,
            "operationId": _id(operation),
            "responses": {
                str(operation.status): {"description": "Success"}
                if operation.status == HTTPStatus.NO_CONTENT
                else {
                    "description": "Success",
                    "content": {operation.content_type: {"schema": _reference(operation.response, schemas)}},
                },
                "default": {
                    "description": errors.description,
                    "content": {errors.content_type: {"schema": _reference(errors.document, schemas)}},
                },
            },
        }
        if operation.request is not None or operation.request_types != ("application/json",):
            schema = _reference(operation.request, schemas)
            entry["requestBody"] = {"content": {kind: {"schema": schema} for kind in operation.request_types}}
        if operation.permission == PUBLIC:
            entry["security"] = []
        entry["parameters"] = [
            {"in": place, "name": name, "schema": {"type": "string"}}
            for place, name in (parameter.split(":") for parameter in operation.parameters)
        ] + [
            {"in": "path", "name": name, "required": True, "schema": {"type": "string", **CONVERTORS.get(kind, {})}}
            for name, _, kind in (
                part[1:-1].partition(":") for part in operation.path.split("/") if part.startswith("{")
            )
        ]
        path = "/".join(
            p.split(":")[0] + "}" if p.startswith("{") and ":" in p else p for p in operation.path.split("/")
        )
        paths.setdefault(path, {})[operation.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of the identity provider, or an API key of the platform",
                }
            },
        },
        "security": [{"bearer": []}],
    }


def _id(operation: Operation) -> str:
    """Return a name of the operation that is unique in its function: `turns_ask`, of the handler and its module."""
    handler = operation.handler
    return f"{handler.__module__.rpartition('.')[2]}_{handler.__name__}"


def _reference(model: type[BaseModel] | None, schemas: dict[str, Any]) -> Mapping[str, Any]:
    if model is None:
        return {}
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def page(title: str, operations: Sequence[Operation]) -> str:
    """Return the operations as a page that needs no network."""
    rows = "".join(
        f"<tr><td><code>{o.method}</code></td><td><code>{escape(o.path)}</code></td><td>{escape(o.summary)}</td></tr>"
        for o in operations
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>"
        "<style>body{font:16px system-ui;margin:3rem auto;max-width:60rem}td{padding:.4rem 1rem .4rem 0}</style>"
        f"<h1>{escape(title)}</h1><table>{rows}</table><p><a href=openapi.json>OpenAPI document</a></p>"
    )
