"""Indexes one document as a Job of its own, whose time no request bounds: `python -m functions.ingestion.job`.

A Knative JobSink starts it for an `ingestion.received` whose `size` is `large`, with the event as a file. It does what
`ingestion-worker` does with the others, by the same code; only its limits are wider. Exit status:

    0   the document is indexed or has failed, by this process or another one; or the event can never be used
    75  to be tried again: the Job starts another process (EX_TEMPFAIL of sysexits.h)
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from functions.ingestion.indexing import LEASE, index_received
from shared import guards, logs
from shared.events import Event, handle, is_poison, parse, refuse
from shared.problems import Problem
from shared.runtime import runtime

READ = (
    "environment",
    "database_url",
    "chunk_size_tokens",
    "chunk_overlap_tokens",
    "embedding_tokenizer",
    "max_document_bytes",
    "extraction_timeout_seconds",
    "extraction_memory_bytes",
    "enable_telemetry",
    "otlp_endpoint",
)
"""The variables of the platform that it reads."""
EVENT_PATH = "/etc/jobsink-event/event"
"""Where a JobSink mounts the event, unless K_EVENT_PATH says otherwise."""
STRUCTURED = {"content-type": "application/cloudevents+json"}
DONE = 0
AGAIN = 75
BUSY_POLL_SECONDS = 5.0


async def run(body: bytes) -> int:
    """Handle an event in structured mode and return the exit status."""
    try:
        event = parse(STRUCTURED, body)
    except Problem as problem:
        refuse(problem, {})
        return DONE
    try:
        return await _index(event)
    finally:
        await runtime.close()


async def _index(event: Event) -> int:
    """Index the document, also where the lease of a process that died has to run out first.

    A lease that outlasts its length is kept by somebody who works. Should that one die, the sweeper asks again.
    """
    patience_ends = time.monotonic() + LEASE.total_seconds() + BUSY_POLL_SECONDS
    while (problem := await handle(event, index_received)) is not None:
        if is_poison(problem):
            return DONE
        if problem.code != "in_progress":
            return AGAIN
        if time.monotonic() >= patience_ends:
            logs.info("job_left_to_another", event_id=event.id, tenant_id=event.extensions.get("tenantid"))
            return DONE
        await asyncio.sleep(BUSY_POLL_SECONDS)
    return DONE


def main() -> int:
    """Run until it is done or asked to end, and return the exit status."""
    if wrong := guards.wrong_variables(read=READ):
        sys.exit(f"Refusing to start: {'; '.join(wrong)}")
    # The first process of a container would not even be ended by it. Nothing is to be put away: the lease runs out, and the
    # processes that read end with this one.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(AGAIN))
    return asyncio.run(run(Path(os.environ.get("K_EVENT_PATH", EVENT_PATH)).read_bytes()))


if __name__ == "__main__":
    logs.configure()
    sys.exit(main())
