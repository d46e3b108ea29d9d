"""An undeliverable event becomes a row of events.dead_letters, by one SQL call, however often it comes."""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime

from shared import logs, metrics
from shared.events import ANY, EVENT_TYPES, Consumer, Event
from shared.problems import Problem
from shared.runtime import runtime
from shared.text import storable

FUNCTION = "dead-letters"
DESTINATION, STATUS, ANSWER = "knativeerrordest", "knativeerrorcode", "knativeerrordata"
"""By these Knative tells where an event could not be delivered, with what status, and what was answered."""
CONTEXT = frozenset({"specversion", "time", "datacontenttype", "dataschema", "tenantid"})
ON_THE_WAY = "knative"
"""What such an attribute's name begins with was put on the event by Knative; the others are its own."""


async def _bury(event: Event) -> None:
    """Record the event for its tenant; raises Problem for what has none, or is of a type that is not the platform's."""
    worker = event.worker(FUNCTION)
    if event.type not in EVENT_TYPES:
        raise Problem(
            "malformed_event", f"Events of type {event.type} are not the platform's: they cannot be sent again."
        )
    if isinstance(event.data, bytes):
        raise Problem("malformed_event", "Only events with JSON data can be sent again.")
    database = await runtime.database()
    first = await database.call(
        "events.bury",
        worker,
        p_source=event.source,
        p_id=event.id,
        p_type=event.type,
        p_subject=event.subject or "",
        p_emitted_at=_time(event),
        p_extensions=json.dumps(_own(event.extensions)),
        p_data=json.dumps(event.data),
        p_last_status=_status(event),
        p_last_error=storable(f"{event.extensions.get(DESTINATION, 'the broker')}: {_answer(event)}"),
    )
    if not first:
        return
    metrics.problems().labels("dead_letter").inc()
    logs.warning(
        "dead_letter_recorded",
        event_id=event.id,
        event_type=event.type,
        tenant_id=worker.tenant_id,
        status=_status(event),
        destination=event.extensions.get(DESTINATION),
    )


bury_any = Consumer(ANY, _bury)


def _own(extensions: Mapping[str, str]) -> dict[str, str]:
    return {n: text for n, text in extensions.items() if n not in CONTEXT and not n.startswith(ON_THE_WAY)}


def _time(event: Event) -> datetime | None:
    try:
        moment = datetime.fromisoformat(event.extensions["time"])
    except (KeyError, ValueError):
        return None
    return moment if moment.tzinfo else None


def _status(event: Event) -> int | None:
    """Return the HTTP status of the last answer; None where there was none."""
    text = event.extensions.get(STATUS, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) == len("404") else None


def _answer(event: Event) -> str:
    """Return the beginning of the last answer: some brokers encode it as base64, and cut that off."""
    text = event.extensions.get(ANSWER, "")
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return text
