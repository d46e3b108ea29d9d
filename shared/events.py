"""CloudEvents 1.0: reading what a broker delivers, and answering so that it knows what to do next.

The status code is the contract: 2xx done (or done before), 409 in progress elsewhere, other 4xx poison, 5xx try again.
Knative retries 404, 408, 409, 429 and 5xx, so poison is answered with none of those.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import unquote
from uuid import UUID

from cloudevents.exceptions import GenericException
from cloudevents.http import from_http
from psycopg import DataError
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from shared import logs, metrics, telemetry
from shared.http import read_body, validate
from shared.principal import Worker
from shared.problems import Problem
from shared.runtime import runtime
from shared.text import is_storable

INFERENCE_REQUESTED = "com.enterprise-agents.inference.requested.v1"
INGESTION_SUBMITTED = "com.enterprise-agents.ingestion.submitted.v1"
INGESTION_RECEIVED = "com.enterprise-agents.ingestion.received.v1"
EMBEDDING_REQUESTED = "com.enterprise-agents.embedding.requested.v1"
CONSUMED = frozenset({INFERENCE_REQUESTED, INGESTION_SUBMITTED, INGESTION_RECEIVED, EMBEDDING_REQUESTED})
"""What the platform's own functions take; each has a Trigger."""
BUDGET_REACHED = "com.enterprise-agents.budget.reached.v1"
INGESTION_INDEXED = "com.enterprise-agents.ingestion.indexed.v1"
INGESTION_FAILED = "com.enterprise-agents.ingestion.failed.v1"
DOCUMENT_DELETED = "com.enterprise-agents.document.deleted.v1"
PUBLISHED = frozenset({BUDGET_REACHED, INGESTION_INDEXED, INGESTION_FAILED, DOCUMENT_DELETED})
"""What is told to whoever subscribes: the platform itself does nothing with it."""
EVENT_TYPES = CONSUMED | PUBLISHED
"""The platform's event catalogue."""

PING = "dev.knative.sources.ping"
"""What a Knative PingSource sends; it belongs to no tenant."""

ANY = "*"
"""The type of a consumer that takes what no other one does: the events of sources that choose their types by themselves."""

JSON = "application/json"
MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_ATTRIBUTE_BYTES = 1024
"""Source and id are the key of the inbox, and an index entry of PostgreSQL holds 2.7 kB."""
RETRIED = frozenset({404, 408, 409, 429})
"""What Knative retries besides 5xx."""
POISON_STATUS = 422


@dataclass(frozen=True)
class Event:
    """A CloudEvent: its context attributes and its JSON data."""

    id: str
    source: str
    type: str
    subject: str | None
    extensions: Mapping[str, str]
    data: Any

    def worker(self, function: str) -> Worker:
        """Return a function that works for the event's tenant; raises Problem without a valid `tenantid`."""
        try:
            return Worker(UUID(self.extensions["tenantid"]), function, self.extensions.get("region"))
        except (KeyError, ValueError) as error:
            raise Problem("malformed_event", "The extension attribute tenantid must be a tenant's UUID.") from error

    def span(self) -> telemetry.Span:
        """Return the span of handling it, which continues the trace of whoever emitted it."""
        named = {"id": self.id, "source": self.source, "type": self.type, "subject": self.subject}
        return telemetry.event(named, self.extensions.get("traceparent"))


Data = TypeVar("Data", bound=BaseModel)


@dataclass(frozen=True)
class Delivery(Generic[Data]):
    """An event in the hands of its consumer: whom it works for, what it was told, and how the effect is committed."""

    event: Event
    actor: Worker
    data: Data

    def consumed(self) -> dict[str, str]:
        """Return the arguments by which the SQL function that has the effect writes the inbox row in its transaction."""
        return {"p_event_source": self.event.source, "p_event_id": self.event.id}

    async def belongs_here(self) -> None:
        """Raise Problem `foreign_event` for an event of another region.

        Every call of the delivery does; this is for what is done before the first one.
        """
        await self.call("core.require_tenant")

    async def effect(self, function: str, /, **arguments: object) -> Any:
        """Call the SQL function that has the event's effect: effect and inbox row are one transaction."""
        return await self.call(function, **arguments, **self.consumed())

    async def call(self, function: str, /, **arguments: object) -> Any:
        """Call a SQL function for the event's tenant; its value as `Database.call` returns it."""
        database = await runtime.database()
        return await database.call(function, self.actor, **arguments)

    async def claim(self, function: str, /, **arguments: object) -> dict[str, Any] | None:
        """Lease the work by a SQL function that tells its `outcome`; return None when nothing is left to do.

        Raises Problem `in_progress` while someone else holds it.
        """
        claim: dict[str, Any] = await self.call(function, **arguments)
        if claim["outcome"] == "busy":
            raise Problem("in_progress", "Another worker has this work in hand.")
        return claim if claim["outcome"] == "claimed" else None


@dataclass(frozen=True)
class Consumer:
    """What takes the events of one type.

    `handle` returns when the effect is committed, or nothing is left to do; raises Problem `in_progress` while someone else
    holds the work, and any other Problem or exception otherwise.
    """

    type: str
    handle: Callable[[Event], Awaitable[None]]

    def takes(self, type_: str) -> bool:
        """Return whether events of a type are its."""
        return self.type in {type_, ANY}


def consumer(
    type_: str, *, function: str, data: type[Data]
) -> Callable[[Callable[[Delivery[Data]], Awaitable[None]]], Consumer]:
    """Make a handler the consumer of a type: it works for the event's tenant, on data of the expected shape.

    An event without a tenant or with other data is poison, and never reaches the handler.
    """

    def decorate(handler: Callable[[Delivery[Data]], Awaitable[None]]) -> Consumer:
        async def handle(event: Event) -> None:
            await handler(Delivery(event, event.worker(function), validate(data, event.data)))

        return Consumer(type_, handle)

    return decorate


def clock(handler: Callable[[Event], Awaitable[None]]) -> Consumer:
    """Make a handler the consumer of a PingSource's ticks.

    A tick belongs to no tenant and has no inbox: what it starts may be started at any time, twice, and side by side.
    """
    return Consumer(PING, handler)


async def receive(request: Request) -> Event:
    """Read a CloudEvent in binary or structured mode; raises Problem `malformed_event`, or another that is poison."""
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    # In binary mode the data may be of any type: a broker passes so on what came as data_base64 in structured mode.
    if media_type != JSON and not media_type.endswith("+json") and "ce-specversion" not in request.headers:
        raise Problem("unsupported_media_type", f"An event in structured mode must be {JSON}.")
    try:
        body = await read_body(request, MAX_EVENT_BYTES)
    except ClientDisconnect:
        raise Problem("malformed_event", "The request ended in the middle of its body.") from None
    return parse(request.headers, body)


def parse(headers: Mapping[str, str], body: bytes) -> Event:
    """Return the CloudEvent of a request's headers and body; raises Problem `malformed_event`."""
    # In headers all beyond printable ASCII, and space, quote and percent, is percent-encoded (HTTP binding, 3.1.3.2).
    told = {name: unquote(value) if name.lower().startswith("ce-") else value for name, value in headers.items()}
    try:
        # The data are left as they came: those of data_base64 need not be JSON.
        event = from_http(told, body, data_unmarshaller=lambda raw: raw)
        attributes = dict(event.get_attributes())
    except (GenericException, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Problem("malformed_event", f"The request is not a CloudEvent: {error}") from error
    for name in ("id", "source", "type"):
        value = attributes.get(name)
        if not isinstance(value, str) or not is_storable(value) or not 1 <= len(value.encode()) <= MAX_ATTRIBUTE_BYTES:
            raise Problem(
                "malformed_event", f"The attribute {name} must be a text of 1 to {MAX_ATTRIBUTE_BYTES} bytes."
            )
    return Event(
        id=attributes.pop("id"),
        source=attributes.pop("source"),
        type=attributes.pop("type"),
        subject=attributes.pop("subject", None),
        extensions={name: str(value) for name, value in attributes.items()},
        data=_data(event.data, attributes.get("datacontenttype")),
    )


def _data(raw: str | bytes | None, content_type: object) -> Any:
    """Return an event's JSON as what it says, and data of another type, in data_base64 or binary mode, as bytes."""
    if raw is None or (isinstance(raw, bytes) and isinstance(content_type, str) and "json" not in content_type.lower()):
        return raw
    try:
        return json.loads(raw)
    except RecursionError as error:
        raise Problem("malformed_event", "The event's data are nested too deeply.") from error
    except ValueError:
        return raw.decode(errors="replace") if isinstance(raw, bytes) else raw


async def consume(request: Request, *consumers: Consumer) -> Response:
    """Give the delivered event to the first consumer that takes its type, and answer in the broker's terms."""
    try:
        event = await receive(request)
    except Problem as problem:
        refused: Problem | None = refuse(problem, {})
    else:
        refused = await handle(event, *consumers)
    if refused is None:
        return JSONResponse({"status": "done"})
    response = refused.response()
    if response.status_code in RETRIED and is_poison(refused):
        response.status_code = POISON_STATUS
    return response


async def handle(event: Event, *consumers: Consumer) -> Problem | None:
    """Give an event to the first consumer that takes its type; return why it is not done, or None: nothing is left to do."""
    ids = {"event_id": event.id, "event_type": event.type, "tenant_id": event.extensions.get("tenantid")}
    taking = next((consumer for consumer in consumers if consumer.takes(event.type)), None)
    if taking is None:
        return refuse(Problem("malformed_event", f"No handler takes events of type {event.type}."), ids)
    try:
        with event.span():
            await taking.handle(event)
    except Problem as problem:
        if problem.code != "lease_lost":
            return refuse(problem, ids)
        # Another worker has the work, or it is done or replaced: nothing is left to do for this delivery.
        logs.warning("lease_lost", **ids)
    except DataError as error:
        logs.error("event_failed", error, **ids)
        return refuse(Problem("invalid_request", "PostgreSQL cannot take what the event carries."), ids)
    except Exception as error:  # noqa: BLE001 - it must be said that the event is to come again, whatever went wrong
        logs.error("event_failed", error, **ids)
        return refuse(Problem("internal_error", "The event could not be handled; deliver it again."), ids)
    return None


def refuse(problem: Problem, ids: Mapping[str, object]) -> Problem:
    """Count and log why an event is not done; return it."""
    metrics.problems().labels(problem.code).inc()
    logs.warning("event_refused", code=problem.code, detail=problem.detail, **ids)
    return problem


def is_poison(problem: Problem) -> bool:
    """Return whether trying again cannot help; it can after a failure of ours, and while the work is in progress elsewhere."""
    return problem.status < HTTPStatus.INTERNAL_SERVER_ERROR and problem.code != "in_progress"
