"""Running a job: lease it, stream the model's answer to the readers, and end it in one transaction."""

import asyncio
import os
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from functions.inference.upstream import Token, UpstreamError, generate
from shared import logs, metrics
from shared.database import Database
from shared.events import Event
from shared.http import validate
from shared.models import Shape
from shared.principal import Worker
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.streams import TurnWriter, endings

FUNCTION = "inference"
WORKER = f"{os.environ.get('HOSTNAME', 'local')}/{os.getpid()}"
END_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0)
RENEWALS_A_LEASE = 5
"""A lease is renewed so often before it would end; the same call brings the user's wish to stop."""


class Requested(Shape):
    """The data of `inference.requested`."""

    job_id: UUID
    turn_id: UUID


@dataclass
class Run:
    """One attempt at a job."""

    database: Database
    actor: Worker
    job_id: UUID
    turn_id: str
    attempt: int
    event: Event
    stream: TurnWriter
    text: list[str] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_seconds: float | None = None

    def ids(self) -> dict[str, object]:
        """Return what a log line needs."""
        return {
            "turn_id": self.turn_id,
            "job_id": self.job_id,
            "tenant_id": self.actor.tenant_id,
            "attempt": self.attempt,
        }

    def lease(self) -> dict[str, object]:
        """Return the arguments that identify the lease."""
        return {"p_job_id": self.job_id, "p_worker": WORKER, "p_attempt": self.attempt}


class StopRequestedError(Exception):
    """The user wants no more of this answer."""


async def run_requested(event: Event) -> None:
    """Run the job that the event names, unless it is done; raises Problem `in_progress` while another worker runs it."""
    requested = validate(Requested, event.data)
    actor = event.worker(FUNCTION)
    settings = get_settings()
    database = await runtime.database()
    claim = await database.call(
        "inference.claim",
        actor,
        p_job_id=requested.job_id,
        p_worker=WORKER,
        p_lease=timedelta(seconds=settings.job_lease_seconds),
    )
    if claim["outcome"] == "busy":
        raise Problem("in_progress", "Another worker generates this answer.", extra={"turn_id": claim["turn_id"]})
    if claim["outcome"] != "claimed":
        return
    stream = TurnWriter(runtime.redis(), claim["turn_id"], claim["attempt"], settings.stream_ttl_seconds)
    run = Run(database, actor, requested.job_id, claim["turn_id"], claim["attempt"], event, stream)
    logs.info("job_claimed", model=claim["model"], **run.ids())
    await _run(run, claim)


async def _run(run: Run, claim: dict[str, Any]) -> None:
    if run.attempt > 1:
        await run.stream.write("turn.restarted", {"attempt": run.attempt})
    await run.stream.write("turn.started", {"attempt": run.attempt, "model": claim["model"], "tier": claim["tier"]})
    try:
        await _generate(run, claim)
    except UpstreamError as error:
        await _fail(run, error)
    except Problem:
        raise
    except StopRequestedError:
        await _complete(run, "stopped")
    except Exception as error:  # noqa: BLE001 - a defect must not hold the reservation, nor generate again and again
        logs.error("generation_failed", error, **run.ids())
        await _fail(run, UpstreamError("internal_error", "The answer failed for a reason of our own."))
    else:
        await _complete(run, "completed")


async def _generate(run: Run, claim: dict[str, Any]) -> None:
    """Stream the model's answer while another task keeps the lease; the first of them that fails ends both."""
    generation = asyncio.create_task(_stream_answer(run, claim))
    lease = asyncio.create_task(_keep_lease(run))
    try:
        await asyncio.wait({generation, lease}, return_when=asyncio.FIRST_COMPLETED)
        # Read in this order: an answer that is complete is kept, even when the lease was lost in the same instant.
        await (generation if generation.done() else lease)
    finally:
        for task in (generation, lease):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _stream_answer(run: Run, claim: dict[str, Any]) -> None:
    begun = time.perf_counter()
    items = generate(claim["model"], claim["messages"], claim["max_tokens"], get_settings(), claim["endpoint"])
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Token):
                if not run.text:
                    run.first_token_seconds = time.perf_counter() - begun
                    metrics.steps().labels("first_token").observe(run.first_token_seconds)
                run.text.append(item.text)
                await run.stream.token(item.text)
            else:
                run.prompt_tokens, run.completion_tokens = item.prompt_tokens, item.completion_tokens


async def _keep_lease(run: Run) -> None:
    """Renew the lease until cancelled; raises Problem `lease_lost`, or StopRequestedError."""
    lease = timedelta(seconds=get_settings().job_lease_seconds)
    held_until = time.monotonic() + lease.total_seconds()
    while True:
        await asyncio.sleep(lease.total_seconds() / RENEWALS_A_LEASE)
        try:
            async with asyncio.timeout(lease.total_seconds() / 2):
                state = await run.database.call(
                    "inference.renew",
                    run.actor,
                    **run.lease(),
                    p_lease=lease,
                    p_generated_tokens=len(run.text),
                )
        except (Problem, TimeoutError) as error:
            # The database does not answer: the lease still holds for a while, and only then is the work given up.
            if time.monotonic() >= held_until:
                raise Problem("lease_lost", "The lease could not be renewed in time.") from error
            continue
        if state == "lost":
            raise Problem("lease_lost", "Another worker has taken the job over, or it has ended.")
        if state == "stop":
            raise StopRequestedError
        held_until = time.monotonic() + lease.total_seconds()


async def _complete(run: Run, status: str) -> None:
    turn = await _end(
        run,
        "inference.complete",
        **run.lease(),
        p_status=status,
        p_content="".join(run.text),
        p_prompt_tokens=run.prompt_tokens,
        p_completion_tokens=run.completion_tokens,
        p_first_token_ms=run.first_token_seconds and run.first_token_seconds * 1000,
        p_event_source=run.event.source,
        p_event_id=run.event.id,
    )
    logs.info("turn_ended", status=status, usage=turn["usage"], charged_tokens=turn["charged_tokens"], **run.ids())
    await _tell_end(run, turn)


async def _fail(run: Run, error: UpstreamError) -> None:
    metrics.problems().labels(error.code).inc()
    logs.warning("turn_failed", code=error.code, detail=error.detail, **run.ids())
    turn = await _end(
        run,
        "inference.fail",
        **run.lease(),
        p_code=error.code,
        p_detail=error.detail,
        p_generated="".join(run.text),
        p_event_source=run.event.source,
        p_event_id=run.event.id,
    )
    await _tell_end(run, turn)


async def _end(run: Run, function: str, **arguments: object) -> dict[str, Any]:
    """Call what ends the job; a database that is away for a moment does not cost the answer.

    Trying again is safe: the lease lets only one call end the job, and a later one raises `lease_lost`.
    """
    for delay in (*END_RETRY_SECONDS, None):
        try:
            turn: dict[str, Any] = await run.database.call_releasing_early(function, run.actor, **arguments)
        except Problem as problem:
            if problem.code != "database_unavailable" or delay is None:
                raise
            logs.warning("job_end_delayed", **run.ids())
            await asyncio.sleep(delay)
        else:
            return turn
    raise AssertionError("the last attempt returns or raises")


async def _tell_end(run: Run, turn: dict[str, Any]) -> None:
    for event in endings(turn):
        await run.stream.write(event.event, event.data)
