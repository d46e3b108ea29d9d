"""CloudEvents 1.0: reading what a broker delivers, and answering so that it knows what to do next.

The status code is the contract: 2xx done (or done before), 409 in progress elsewhere, other 4xx poison, 5xx try again.
Knative retries 404, 408, 409, 429 and 5xx, so poison is answered with none of those.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cloudevents.exceptions import GenericException
from cloudevents.http import from_http
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared import logs, metrics
from shared.http import read_body
from shared.principal import Worker
from shared.problems import Problem
from shared.text import is_storable

INFERENCE_REQUESTED = "com.enterprise-agents.inference.requested.v1"
INGESTION_SUBMITTED = "com.enterprise-agents.ingestion.submitted.v1"
INGESTION_RECEIVED = "com.enterprise-agents.ingestion.received.v1"
CONSUMED = frozenset({INFERENCE_REQUESTED, INGESTION_SUBMITTED, INGESTION_RECEIVED})
"""What the platform's own functions take; each has a Trigger."""
BUDGET_REACHED = "com.enterprise-agents.budget.reached.v1"
PUBLISHED = frozenset({BUDGET_REACHED})
"""What is told to whoever subscribes: the platform itself does nothing with it."""
EVENT_TYPES = CONSUMED | PUBLISHED
"""The platform's event catalogue."""

PING = "dev.knative.sources.ping"
"""What a Knative PingSource sends; it belongs to no tenant."""

MAX_EVENT_BYTES = 16 * 1024 * 1024
MAX_ATTRIBUTE_BYTES = 1024
"""Source and id are the key of the inbox, and an index entry of PostgreSQL holds 2.7 kB."""
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
            return Worker(UUID(self.extensions["tenantid"]), function)
        except (KeyError, ValueError) as error:
            raise Problem("malformed_event", "The extension attribute tenantid must be a tenant's UUID.") from error


Handler = Callable[[Event], Awaitable[None]]


async def receive(request: Request) -> Event:
    """Read a CloudEvent in binary or structured mode; raises Problem `malformed_event`."""
    body = await read_body(request, MAX_EVENT_BYTES)
    try:
        event = from_http(dict(request.headers), body)
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
        data=event.data,
    )


async def consume(request: Request, handlers: Mapping[str, Handler]) -> Response:
    """Dispatch the delivered event to its type's handler, and answer in the broker's terms.

    A handler returns when the effect is committed, raises Problem `in_progress` while someone else holds the work, and any
    other Problem or exception otherwise.
    """
    try:
        event = await receive(request)
        if event.type not in handlers:
            raise Problem("malformed_event", f"No handler takes events of type {event.type}.")
    except Problem as problem:
        return refuse(problem, {})
    ids = {"event_id": event.id, "event_type": event.type, "tenant_id": event.extensions.get("tenantid")}
    try:
        await handlers[event.type](event)
    except Problem as problem:
        if problem.code != "lease_lost":
            return refuse(problem, ids)
        # Another worker has the work, or it is done or replaced: nothing is left to do for this delivery.
        logs.warning("lease_lost", **ids)
    except Exception as error:  # noqa: BLE001 - the broker must be told to try again, whatever went wrong
        logs.error("event_failed", error, **ids)
        return refuse(Problem("internal_error", "The event could not be handled; deliver it again."), ids)
    return JSONResponse({"status": "done"})


def refuse(problem: Problem, ids: Mapping[str, object]) -> Response:
    """Return the problem as a response that is retried only when trying again can help."""
    metrics.problems().labels(problem.code).inc()
    logs.warning("event_refused", code=problem.code, detail=problem.detail, **ids)
    response = problem.response()
    if problem.code == "not_found":
        response.status_code = POISON_STATUS
    return response
