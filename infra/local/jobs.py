"""Knative's JobSinks for one machine: each event is a Job, whose command is a process that finds the event in a file.

Started as `python -m infra.local.jobs`. As in a cluster the sender is answered at once, the same event twice is one Job, and
one that fails is started again. Unlike there, few run at a time; and what this process holds goes with it, which the sweeper
makes harmless. The Jobs belong to its process group, and end with it.

Variables:

    PORT, HOST                 where it listens
    LOCAL_MANIFESTS            the folder of a kustomization
    LOCAL_JOB_VARIABLES        JSON: each JobSink's environment; without it the manifest's, where this process's own variables
                               stand for the ConfigMap and the Secret
    LOCAL_JOB_EVENTS           the folder of the files; without it a temporary one
    LOCAL_JOB_LOGS             the folder of a log for each JobSink; without it the commands write where this process does
    LOCAL_JOB_BACKOFF_SECONDS  the wait after a first failure, which doubles with each; 10, as in a cluster
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response

from infra.local.manifests import load
from infra.local.process import program
from infra.local.receiving import problem, routes

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from starlette.requests import Request

    from infra.local.cloudevent import Event
    from infra.local.manifests import JobSink

_PARALLEL = 2
# More than this and the sender has to wait.
_PENDING_JOBS = 10_000
# Those of Kubernetes' Job controller.
_BACKOFF_SECONDS = 10.0
_LONGEST_BACKOFF_SECONDS = 360.0
_PATIENCE_SECONDS = 5.0
_NOT_STARTED = 127
_OWN = ("HOST", "PORT", "LOCAL_MANIFESTS", "LOCAL_JOB_VARIABLES", "LOCAL_JOB_EVENTS", "LOCAL_JOB_LOGS")
_ROOT = Path(__file__).resolve().parents[2]


class Jobs:
    """The Jobs of this process. Use it inside a running event loop, and `close` it.

    `variables` are each JobSink's environment, `events` and `logs` the folders of the files; without logs, the commands write
    where this process does.
    """

    def __init__(
        self,
        variables: Mapping[str, Mapping[str, str]],
        events: Path,
        logs: Path | None,
        *,
        backoff: float = _BACKOFF_SECONDS,
        parallel: int = _PARALLEL,
    ) -> None:
        self._variables = variables
        self._events = events
        self._logs = logs
        self._backoff = backoff
        self._places = asyncio.Semaphore(parallel)
        self._known: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter(accepted=0, started=0, complete=0, failed=0)

    def accept(self, sink: JobSink, event: Event) -> str | None:
        """Return the name of the event's Job, which is made unless it is there; None when too many wait.

        Raises ValueError for data that are not of their type.
        """
        name = job_name(sink.name, event)
        if name not in self._known:
            if len(self._tasks) >= _PENDING_JOBS:
                return None
            work = self._run(sink, name, event.structured())
            self._known.add(name)
            self._counts["accepted"] += 1
            _log("job_accepted", job=name, event_id=event.id, subject=event.attributes.get("subject"))
            self._spawn(work)
        return name

    def status(self) -> dict[str, int]:
        """Return how many Jobs there were, and how many of them are not at their end."""
        return {**self._counts, "active": len(self._tasks)}

    async def close(self) -> None:
        """End every Job."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, sink: JobSink, name: str, event: bytes) -> None:
        file = self._events / name
        file.touch(mode=0o600)
        file.write_bytes(event)
        try:
            reason = await self._attempts(sink, name, file)
        finally:
            file.unlink(missing_ok=True)
        self._counts["failed" if reason else "complete"] += 1
        _log("job_failed" if reason else "job_complete", job=name, reason=reason)
        if sink.kept is not None:
            asyncio.get_running_loop().call_later(sink.kept, self._known.discard, name)

    async def _attempts(self, sink: JobSink, name: str, file: Path) -> str | None:
        """Start the command until it succeeds; return why the Job has failed, in the words of Kubernetes, or None."""
        try:
            async with asyncio.timeout(sink.deadline):
                for failures in range(sink.backoff_limit + 1):
                    if failures:
                        await asyncio.sleep(min(self._backoff * 2.0 ** (failures - 1), _LONGEST_BACKOFF_SECONDS))
                    async with self._places:
                        status = await self._attempt(sink, name, file)
                    if status == 0:
                        return None
        except TimeoutError:
            return "DeadlineExceeded"
        return "BackoffLimitExceeded"

    def _log_of(self, sink: JobSink) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        return contextlib.nullcontext() if self._logs is None else (self._logs / f"{sink.name}.log").open("ab")

    async def _attempt(self, sink: JobSink, name: str, file: Path) -> int:
        """Run the command and return its exit status; one that is given up ends first."""
        self._counts["started"] += 1
        inherited = {name: value for name, value in os.environ.items() if name not in _OWN}
        try:
            with self._log_of(sink) as log:
                process = await asyncio.create_subprocess_exec(
                    *program(sink.container.command),
                    env={**inherited, **self._variables[sink.name], "K_EVENT_PATH": str(file)},
                    cwd=_ROOT,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except OSError as error:
            _log("job_not_started", job=name, error=str(error))
            return _NOT_STARTED
        _log("job_started", job=name, pid=process.pid)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        _log("job_ended", job=name, pid=process.pid, status=status)
        return status


def job_name(sink: str, event: Event) -> str:
    """Return the name of an event's Job: the same for the same source and id."""
    digest = hashlib.sha256(f"{event.attributes['source']}-{event.id}".encode()).hexdigest()
    return f"{sink}-{digest[:32]}"


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def _log(what: str, **fields: object) -> None:
    print(json.dumps({"time": datetime.now(UTC).isoformat(), "message": what, **fields}), file=sys.stderr, flush=True)


def create_app(sinks: Mapping[str, JobSink], jobs: Jobs) -> Starlette:
    """Return the application: POST of events to a JobSink's name, `GET /status`, `/health/live`, `/health/ready`."""

    def take(request: Request, event: Event) -> Response:
        sink = sinks.get(request.path_params["sink"])
        if sink is None:
            return problem(400, "no-job-sink", "there is no such JobSink")
        try:
            name = jobs.accept(sink, event)
        except ValueError as error:
            return problem(400, "invalid-event", str(error))
        if name is None:
            return problem(503, "too-many-jobs", "too many Jobs are waiting", {"Retry-After": "1"})
        return Response(status_code=202, headers={"Location": f"/jobs/{name}"})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await jobs.close()

    return Starlette(routes=routes("/{sink}", take, jobs.status), lifespan=lifespan)


def main() -> None:
    """Serve the JobSinks that the environment describes, until SIGTERM."""
    sinks = load(Path(os.environ.get("LOCAL_MANIFESTS", "knative/base"))).job_sinks
    given = os.environ.get("LOCAL_JOB_VARIABLES")
    own = {name: sink.container.environment(os.environ, os.environ) for name, sink in sinks.items() if given is None}
    events = Path(os.environ.get("LOCAL_JOB_EVENTS") or mkdtemp())
    events.mkdir(mode=0o700, exist_ok=True)
    for left in events.iterdir():
        left.unlink()
    logs = os.environ.get("LOCAL_JOB_LOGS")
    jobs = Jobs(
        own if given is None else json.loads(given),
        events,
        Path(logs) if logs else None,
        backoff=float(os.environ.get("LOCAL_JOB_BACKOFF_SECONDS") or _BACKOFF_SECONDS),
    )
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8017"))
    uvicorn.run(create_app(sinks, jobs), host=host, port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
