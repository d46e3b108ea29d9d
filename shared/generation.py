"""Generating the answer of a leased job: stream it to the readers, and end the job in one transaction.

Whoever holds the lease runs it: the inference function, or a function that answers its caller by itself. What fails before the
first token is tried again, and then goes to the next model; after the first token a failure is the turn's, because a second
answer would not continue the first.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from shared import leases, logs, metrics, telemetry, together
from shared.answer import Answer, Listener
from shared.connection import Commit
from shared.database import Database
from shared.leases import WORKER, Lease, Verdict
from shared.principal import Worker
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.streams import TurnWriter, drain, endings
from shared.upstream import UpstreamError, Usage, stream

END_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0)
MODEL_RETRY_SECONDS = (0.2, 0.8)
"""Before the first token the same model is asked again after these pauses."""
FALLS_BACK = frozenset({"model_unavailable", "model_timeout", "model_stream_broken"})
"""What another model may do better: a refusal is the request's fault."""


class StopRequestedError(Exception):
    """The user wants no more of this answer."""


@dataclass
class Run:
    """One attempt at a job."""

    database: Database
    actor: Worker
    job: dict[str, Any]
    """What inference.job_document says."""
    stream: TurnWriter | None
    """Where readers hear of it; None: nobody knows the turn before its answer is told."""
    event: tuple[str, str] | None
    """Source and id of the CloudEvent that asked for it, if one did."""
    listener: Listener | None
    plain: bool
    """Whether it was begun with others, and may end with others."""
    answer: Answer = field(default_factory=Answer)
    verdict: Verdict | None = None
    begun_at: float = field(default_factory=time.perf_counter)

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Have readers hear of an event, if there can be any."""
        if self.stream is not None:
            self.stream.put(event, data)

    def ids(self) -> dict[str, object]:
        """Return what a log line needs."""
        return {
            "turn_id": self.job["turn_id"],
            "job_id": self.job["job_id"],
            "tenant_id": self.actor.tenant_id,
            "attempt": self.job["attempt"],
        }

    def lease(self) -> dict[str, object]:
        """Return the arguments that identify the lease."""
        return {"p_job_id": self.job["job_id"], "p_worker": WORKER, "p_attempt": self.job["attempt"]}

    def consumed(self) -> dict[str, object]:
        """Return the arguments that say which event is dealt with."""
        return {} if self.event is None else {"p_event_source": self.event[0], "p_event_id": self.event[1]}

    def timings(self) -> dict[str, float] | None:
        """Return the moments of the answer for the trace, in milliseconds after the attempt's begin."""
        answer = self.answer
        if answer.asked_at is None or answer.ended_at is None:
            return None
        moments = {"asked": answer.asked_at}
        if answer.first_token_seconds is not None:
            moments |= {"first_token": answer.asked_at + answer.first_token_seconds, "last_token": answer.ended_at}
        return {name: round((moment - self.begun_at) * 1000, 3) for name, moment in moments.items()}


async def run(
    job: dict[str, Any],
    actor: Worker,
    *,
    event: tuple[str, str] | None = None,
    listener: Listener | None = None,
    plain: bool = False,
) -> dict[str, Any]:
    """Generate the answer of a job that this process has leased; return chat.turn_result.

    `listener` hears each piece as it arrives. Raises Problem `lease_lost` when the job is in other hands. `plain`: it was begun
    by chat.begin_completions.
    """
    database = await runtime.database()
    runtime.before_close(_leave)
    runtime.before_close(_drain)
    attempt = Run(database, actor, job, None, event, listener, plain)
    # A plain turn that is answered in one piece is known to nobody before: it has no key that it can be asked for by.
    if listener is not None or not plain:
        # Who asked here hears of it here. Others come a moment later.
        ttl, eager = get_settings().stream_ttl_seconds, event is not None
        attempt.stream = TurnWriter(runtime.redis(), job["turn_id"], job["attempt"], ttl, eager=eager)
    if event is not None:
        logs.info("job_claimed", model=job["model"], **attempt.ids())
    if job["attempt"] > 1:
        attempt.tell("turn.restarted", {"attempt": job["attempt"]})
    attempt.tell("turn.started", {"attempt": job["attempt"], "model": job["model"], "tier": job["tier"]})
    with _awaited():
        try:
            return await _run(attempt)
        except asyncio.CancelledError:
            await _hand_back(attempt)
            raise


async def _run(attempt: Run) -> dict[str, Any]:
    try:
        await _generate(attempt)
    except UpstreamError as error:
        return await _fail(attempt, error)
    except Problem:
        raise
    except StopRequestedError:
        return await _complete(attempt, "stopped")
    except Exception as error:  # noqa: BLE001 - a defect must not hold the reservation, nor generate again and again
        logs.error("generation_failed", error, **attempt.ids())
        return await _fail(attempt, UpstreamError("internal_error", "The answer failed for a reason of our own."))
    return await _complete(attempt, "completed")


_running: set[asyncio.Task[Any]] = set()
LEAVE_SECONDS = 30.0
"""So long a process that is asked to end lets its runs go on whose callers have left."""


def start(
    job: dict[str, Any], actor: Worker, listener: Listener | None, *, plain: bool
) -> asyncio.Task[dict[str, Any]]:
    """Run a job beside the request that began it: a client that leaves does not end it."""
    task = asyncio.create_task(run(job, actor, listener=listener, plain=plain))
    # Before it begins to run, too.
    runtime.before_close(_leave)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


@contextmanager
def _awaited() -> Iterator[None]:
    """Have `_leave` wait for what the current task does."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    _running.add(task)
    try:
        yield
    finally:
        _running.discard(task)


def _ended(task: asyncio.Task[dict[str, Any]]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Problem):
        logs.error("run_failed", error)


async def _leave() -> None:
    """Let what runs end, and hand back what does not in time."""
    if _running:
        await asyncio.wait(_running, timeout=min(LEAVE_SECONDS, get_settings().shutdown_seconds))
    for task in list(_running):
        task.cancel()
    await asyncio.gather(*_running, return_exceptions=True)
    await _drain()


async def _drain() -> None:
    """Let what was told of turns reach Redis."""
    await drain(runtime.redis())


async def _generate(run: Run) -> None:
    """Stream the answer while the lease is kept; raises StopRequestedError, Problem `lease_lost`, or UpstreamError."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task

    def end(verdict: Verdict) -> None:
        run.verdict = verdict
        task.cancel()

    lease = Lease(run.actor.tenant_id, UUID(run.job["job_id"]), run.job["attempt"], lambda: run.answer.pieces, end)
    try:
        with leases.keep(lease):
            await _ask_models(run)
    except asyncio.CancelledError:
        if run.verdict is None:
            raise
        task.uncancel()
        if run.verdict == "lost":
            raise Problem("lease_lost", "Another worker has taken the job over, or it has ended.") from None
        raise StopRequestedError from None


async def _hand_back(run: Run) -> None:
    """Give the job up before its lease is over, because the process ends; the sweeper would find it, only later."""
    try:
        await run.database.call("inference.hand_back", run.actor, **run.lease())
    except Problem as problem:
        logs.warning("job_not_handed_back", code=problem.code, **run.ids())
    else:
        logs.info("job_handed_back", **run.ids())


async def _ask_models(run: Run) -> None:
    """Ask the job's model, again where that can help, and then the next one; until the first token only."""
    tries = 0
    while True:
        try:
            await _ask(run)
        except UpstreamError as error:
            if run.answer.pieces:
                raise
            if error.retry_after is not None and tries < len(MODEL_RETRY_SECONDS):
                logs.warning("model_asked_again", code=error.code, model=run.job["model"], **run.ids())
                await asyncio.sleep(max(error.retry_after, MODEL_RETRY_SECONDS[tries]))
                tries += 1
                continue
            if not await _fall_back(run, error):
                raise
            tries = 0
        else:
            return


async def _fall_back(run: Run, error: UpstreamError) -> bool:
    """Go on with the next model; return whether there is one. The database chooses it and records why."""
    if error.code not in FALLS_BACK:
        return False
    failed = run.job["model"]
    job = await run.database.call(
        "inference.fall_back", run.actor, **run.lease(), p_code=error.code, p_detail=error.detail
    )
    if job is None:
        return False
    run.job = job
    metrics.problems().labels(error.code).inc()
    logs.warning("model_fell_back", code=error.code, failed=failed, model=job["model"], **run.ids())
    run.tell("turn.fallback", {"from": failed, "to": job["model"], "code": error.code})
    return True


async def _ask(run: Run) -> None:
    """Ask the job's model once."""
    job, answer, settings = run.job, run.answer, get_settings()
    answer.asked_at = time.perf_counter()
    about = {"gen_ai.request.max_tokens": job["max_tokens"], "gen_ai.request.stream": True}
    with telemetry.model_call("chat", job["model"], job["endpoint"] or settings.litellm_base_url, about) as span:
        try:
            await _stream_answer(run, answer.asked_at)
        finally:
            answer.ended_at = time.perf_counter()
            span.set(
                {
                    "gen_ai.response.finish_reasons": answer.finish_reason and [answer.finish_reason],
                    "gen_ai.response.time_to_first_chunk": answer.first_token_seconds,
                    "gen_ai.usage.input_tokens": answer.usage.prompt_tokens if answer.usage else None,
                    "gen_ai.usage.output_tokens": answer.usage.completion_tokens if answer.usage else None,
                }
            )


async def _stream_answer(run: Run, begun: float) -> None:
    job, answer = run.job, run.answer
    items = stream(job["model"], job["messages"], job["max_tokens"], job["parameters"], get_settings(), job["endpoint"])
    async with aclosing(items):
        async for read in items:
            for item in read:
                if isinstance(item, Usage):
                    answer.usage = item
                    continue
                if not answer.pieces:
                    answer.first_token_seconds = time.perf_counter() - begun
                    metrics.step("first_token").observe(answer.first_token_seconds)
                piece = answer.add(item)
                if run.listener is not None:
                    run.listener(piece)
                if run.stream is None:
                    continue
                if item.text:
                    run.stream.token(item.text)
                if item.reasoning:
                    run.stream.put("turn.reasoning", {"text": item.reasoning})
                if item.tool_calls:
                    run.stream.put("turn.tool_calls", {"tool_calls": list(piece.tool_calls)})


async def _complete(run: Run, status: str) -> dict[str, Any]:
    answer, calls = run.answer, run.answer.tool_calls or None
    turn = await _end(
        run,
        "inference.complete",
        **run.lease(),
        p_status=status,
        p_content="".join(answer.text),
        p_prompt_tokens=answer.usage and answer.usage.prompt_tokens,
        p_completion_tokens=answer.usage and answer.usage.completion_tokens,
        p_pieces=answer.pieces,
        p_first_token_ms=answer.first_token_seconds and answer.first_token_seconds * 1000,
        p_tool_calls=calls and Jsonb(calls),
        p_finish_reason=answer.finish_reason,
        p_timings=(timings := run.timings()) and Jsonb(timings),
        **run.consumed(),
    )
    metrics.turns().labels(status).inc()
    logs.info("turn_ended", status=status, usage=turn["usage"], charged_tokens=turn["charged_tokens"], **run.ids())
    await _tell_end(run, turn)
    return turn


async def _fail(run: Run, error: UpstreamError) -> dict[str, Any]:
    metrics.problems().labels(error.code).inc()
    logs.warning("turn_failed", code=error.code, detail=error.detail, **run.ids())
    turn = await _end(
        run,
        "inference.fail",
        **run.lease(),
        p_code=error.code,
        p_detail=error.detail,
        p_generated="".join(run.answer.text),
        p_pieces=run.answer.pieces,
        p_timings=(timings := run.timings()) and Jsonb(timings),
        **run.consumed(),
    )
    metrics.turns().labels("failed").inc()
    await _tell_end(run, turn)
    return turn


async def _end(run: Run, function: str, **arguments: object) -> dict[str, Any]:
    """Call what ends the job; a database that is away for a moment does not cost the answer.

    Trying again is safe: the lease lets only one call end the job, and a later one raises `lease_lost`. Where the answer to the
    first one was lost with the connection, the stored turn says whether it had ended the job.
    """
    uncertain = False
    for delay in (*END_RETRY_SECONDS, None):
        try:
            turn = await _end_together(run, arguments) if function == "inference.complete" else None
            if turn is None:
                turn = await run.database.call_releasing_early(function, run.actor, **arguments)
        except Problem as problem:
            if problem.code == "lease_lost" and uncertain and (ended := await _ended_by(run)) is not None:
                return ended
            if problem.code != "database_unavailable" or delay is None:
                raise
            uncertain = True
            logs.warning("job_end_delayed", **run.ids())
            await asyncio.sleep(delay)
        else:
            return turn
    raise AssertionError("the last attempt returns or raises")


async def _end_together(run: Run, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """End a plain job with others that end just now, as by inference.complete; return None when it must end alone."""
    if not run.plain or run.answer.usage is None:
        return None
    calls = run.answer.tool_calls or None
    item = {
        "job_id": run.job["job_id"],
        "turn_id": run.job["turn_id"],
        "attempt": run.job["attempt"],
        "status": arguments["p_status"],
        "content": arguments["p_content"],
        "tool_calls": calls,
        "finish_reason": arguments["p_finish_reason"],
        "prompt_tokens": run.answer.usage.prompt_tokens,
        "completion_tokens": run.answer.usage.completion_tokens,
        "first_token_ms": arguments["p_first_token_ms"],
        "timings": run.timings(),
    }
    text = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    # A second transaction, for the sake of those who wait for the tenant's balance, costs more than where there is nobody.
    commit = Commit.EARLY if len(_running) > 1 else Commit.AT_ONCE
    ended = await together.call(
        run.database, commit, "inference.complete_runs", run.actor, "p_runs", text, p_worker=WORKER
    )
    return ended and {**ended, "answer": item["content"], "tool_calls": calls}


async def _ended_by(run: Run) -> dict[str, Any] | None:
    """Return the turn if it has ended with what this run has generated; a crash may have taken it back before it was stored."""
    turn: dict[str, Any] | None = await run.database.call("chat.turn_result", run.actor, p_turn_id=run.job["turn_id"])
    ended = turn is not None and turn["finished_at"] is not None
    return turn if turn and ended and (turn["answer"] or "") == "".join(run.answer.text) else None


async def _tell_end(run: Run, turn: dict[str, Any]) -> None:
    if run.stream is None:
        return
    for event in endings(turn):
        told = run.stream.put(event.event, event.data)
    if run.event is not None:
        # Who delivers the event is answered when all is done; who is told by the answer itself need not wait.
        await asyncio.shield(told)
