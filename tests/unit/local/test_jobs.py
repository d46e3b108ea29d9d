"""JobSinks on one machine: real processes, each with its event in a file."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import uvicorn

from infra.local.assembly import ROOT
from infra.local.cloudevent import Event
from infra.local.jobs import Jobs, create_app, job_name
from infra.local.manifests import Container, JobSink
from infra.local.ports import HOST, free
from infra.local.process import ChildProcess, birth, program
from infra.local.readiness import wait_until_ready
from infra.local.state import Record, Running, StateDir
from tests.unit.local.conftest import JOB_SINK

# Writes what it finds in the event's file as a line.
COPY = "import os; print(open(os.environ['K_EVENT_PATH']).read())"
# Tells its process id, and ends when there is a file `gate`, with the status that stands in it.
WAIT = """
import os, sys, time
print(os.getpid(), flush=True)
while not os.path.exists('{gate}') or not (said := open('{gate}').read()):
    time.sleep(0.01)
sys.exit(int(said))
"""
# Succeeds with its n-th start.
NTH = "import sys; n = len(open('{log}').readlines()); print(n, flush=True); sys.exit(n + 1 < {n})"


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Sinks:
    """Jobs, and what their commands have written."""

    def __init__(self, folder: Path, parallel: int = 2) -> None:
        self.folder = folder
        self.events = folder / "events"
        self.events.mkdir()
        self.gate = folder / "gate"
        self.log = folder / "copy.log"
        self.log.touch()
        self.jobs = Jobs({"copy": {"PLACE": "here"}}, self.events, folder, backoff=0.01, parallel=parallel)

    def sink(
        self, code: str, *, backoff_limit: int = 3, deadline: float | None = None, kept: float | None = None
    ) -> JobSink:
        container = Container(("python", "-c", code), (), whole_config=False)
        return JobSink("copy", container, backoff_limit, deadline, kept)

    def waiting(self, **limits: float | None) -> JobSink:
        return self.sink(WAIT.format(gate=self.gate), **limits)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    async def until(self, **wanted: int) -> None:
        """Return once the counters hold these values."""
        await until(lambda: all(self.jobs.status()[name] == value for name, value in wanted.items()))

    async def pids(self, count: int) -> list[int]:
        """Return the ids of the processes, once so many have told theirs."""
        await until(lambda: len(self.lines()) >= count)
        return [int(line) for line in self.lines()]


@pytest.fixture
async def sinks(tmp_path: Path) -> AsyncIterator[Sinks]:
    sinks = Sinks(tmp_path)
    yield sinks
    await sinks.jobs.close()
    assert sinks.jobs.status()["active"] == 0
    assert list(sinks.events.iterdir()) == []


def event(number: int = 1, *, source: str = "/s") -> Event:
    attributes = {"specversion": "1.0", "id": str(number), "source": source, "type": "work.wanted.v1", "size": "large"}
    return Event(attributes, "application/json", b'{"a": 1}')


async def test_a_job_finds_its_event_in_a_file_as_one_json_object(sinks: Sinks) -> None:
    sinks.jobs.accept(sinks.sink(COPY), event())
    await sinks.until(complete=1, active=0)
    assert json.loads(sinks.log.read_text()) == {
        "specversion": "1.0", "id": "1", "source": "/s", "type": "work.wanted.v1", "size": "large",
        "datacontenttype": "application/json", "data": {"a": 1},
    }  # fmt: skip


async def test_only_whoever_runs_the_stack_can_read_the_file(sinks: Sinks) -> None:
    sinks.jobs.accept(sinks.waiting(), event())
    await sinks.pids(1)
    [file] = sinks.events.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_job_has_the_variables_of_its_sink_and_not_those_of_the_others(
    sinks: Sinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_JOB_VARIABLES", '{"copy": {}, "other": {"SECRET": "made-up"}}')
    code = "import os; print(os.environ['PLACE'], 'LOCAL_JOB_VARIABLES' in os.environ)"
    sinks.jobs.accept(sinks.sink(code), event())
    await sinks.until(complete=1)
    assert sinks.lines() == ["here False"]


async def test_the_same_event_is_one_job_while_it_runs_and_afterwards(sinks: Sinks) -> None:
    sink = sinks.waiting()
    assert sinks.jobs.accept(sink, event()) == sinks.jobs.accept(sink, event())
    await sinks.pids(1)
    sinks.gate.write_text("0")
    await sinks.until(complete=1, active=0)
    sinks.jobs.accept(sink, event())
    assert sinks.jobs.status() == {"accepted": 1, "started": 1, "complete": 1, "failed": 0, "active": 0}


async def test_an_event_is_known_by_its_source_and_its_id() -> None:
    assert job_name("a", event(1)) == job_name("a", event(1))
    others = [job_name("b", event(1)), job_name("a", event(2)), job_name("a", event(1, source="/t"))]
    assert len({job_name("a", event(1)), *others}) == 4
    assert all(len(name) <= 63 for name in others)


async def test_a_job_that_is_kept_no_longer_is_made_again(sinks: Sinks) -> None:
    sink = sinks.sink(COPY, kept=0)
    sinks.jobs.accept(sink, event())
    await sinks.until(complete=1, active=0)
    # It is forgotten a moment after it has ended.
    await until(lambda: bool(sinks.jobs.accept(sink, event())) and sinks.jobs.status()["accepted"] == 2)
    await sinks.until(complete=2, active=0)


async def test_a_command_that_fails_is_started_again_until_it_succeeds(sinks: Sinks) -> None:
    sinks.jobs.accept(sinks.sink(NTH.format(log=sinks.log, n=3)), event())
    await sinks.until(complete=1, active=0)
    assert sinks.lines() == ["0", "1", "2"]


async def test_a_job_fails_after_its_last_try(sinks: Sinks) -> None:
    sinks.jobs.accept(sinks.sink("import sys; print('tried'); sys.exit(75)", backoff_limit=2), event())
    await sinks.until(failed=1, active=0)
    assert sinks.lines() == ["tried"] * 3


async def test_a_process_that_is_killed_has_a_successor(sinks: Sinks) -> None:
    sinks.jobs.accept(sinks.waiting(), event())
    [first] = await sinks.pids(1)
    os.kill(first, signal.SIGKILL)
    assert len(set(await sinks.pids(2))) == 2
    sinks.gate.write_text("0")
    await sinks.until(complete=1, active=0)


async def test_a_job_ends_at_its_deadline_however_it_stands(sinks: Sinks, capsys: pytest.CaptureFixture[str]) -> None:
    sinks.jobs.accept(sinks.waiting(deadline=3), event())
    await sinks.until(failed=1, active=0)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in told] == ["job_accepted", "job_started", "job_failed"]
    assert told[2]["reason"] == "DeadlineExceeded"
    assert birth(told[1]["pid"]) is None


async def test_few_jobs_run_at_a_time_and_the_others_wait(sinks: Sinks) -> None:
    sink = sinks.waiting()
    for number in range(5):
        sinks.jobs.accept(sink, event(number))
    await sinks.pids(2)
    assert sinks.jobs.status() == {"accepted": 5, "started": 2, "complete": 0, "failed": 0, "active": 5}
    sinks.gate.write_text("0")
    await sinks.until(complete=5, active=0)


async def test_who_closes_ends_what_runs_and_forgets_what_waits(sinks: Sinks) -> None:
    for number in range(3):
        sinks.jobs.accept(sinks.waiting(), event(number))
    pids = await sinks.pids(2)
    await sinks.jobs.close()
    assert [birth(pid) for pid in pids] == [None, None]
    assert sinks.jobs.status()["started"] == 2


async def test_a_command_that_is_not_there_fails_its_job(sinks: Sinks) -> None:
    container = Container((str(sinks.folder / "nothing"),), (), whole_config=False)
    sinks.jobs.accept(JobSink("copy", container, 1, None, None), event())
    await sinks.until(failed=1, active=0)
    assert sinks.jobs.status()["started"] == 2


HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/s",
    "ce-type": "work.wanted.v1",
    "content-type": "application/json",
}


@pytest.fixture
async def url(sinks: Sinks) -> AsyncIterator[str]:
    """The address of a receiver that has a JobSink `copy`."""
    port = free(["jobs"])["jobs"]
    app = create_app({"copy": sinks.sink(COPY)}, sinks.jobs)
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="warning"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://{HOST}:{port}"
    server.should_exit = True
    await task


async def test_an_event_is_taken_over_at_once(url: str, sinks: Sinks) -> None:
    async with aiohttp.ClientSession() as session:
        answers = []
        for _ in range(2):
            async with session.post(f"{url}/copy", headers=HEADERS, data=b'{"a": 1}') as response:
                answers.append((response.status, response.headers["location"]))
        assert answers[0] == answers[1]
        assert answers[0][0] == 202
        await sinks.until(complete=1, active=0)
        async with session.get(f"{url}/status") as response:
            assert await response.json() == {"accepted": 1, "started": 1, "complete": 1, "failed": 0, "active": 0}
        async with session.get(f"{url}/health/ready") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("other", HEADERS, b"{}"),
        ("copy", {}, b"{}"),
        ("copy", HEADERS, b"{"),
    ],
    ids=["no such sink", "no event", "no JSON"],
)
async def test_what_is_no_event_for_a_job_is_refused(
    url: str, sinks: Sinks, path: str, headers: dict[str, str], body: bytes
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/{path}", headers=headers, data=body) as response,
    ):
        assert response.status == 400
    assert sinks.jobs.status()["accepted"] == 0


@pytest.mark.parametrize("asked", [True, False], ids=["by who stops it", "by the next start after a crash"])
async def test_jobs_end_with_their_runner(kustomization: Callable[..., Path], tmp_path: Path, asked: bool) -> None:
    sleep = ["sh", "-c", "echo $$ $DATABASE_URL; exec sleep 600"]
    folder = kustomization(JOB_SINK.replace("[python, -m, work.job]", json.dumps(sleep)))
    port = free(["jobs"])["jobs"]
    # Without variables of the stack's: the runner's own stand for the Secret, and the command writes where it does.
    env = {**os.environ, "PORT": str(port), "LOCAL_MANIFESTS": str(folder), "WORKER_URL": "db"}
    runner = ChildProcess(
        "job-sink", program(["python", "-m", "infra.local.jobs"]), env=env, cwd=ROOT, log_path=tmp_path / "log"
    )
    runner.start()
    try:
        url = f"http://{HOST}:{port}"
        wait_until_ready(runner, f"{url}/health/ready", timeout=60, abort=threading.Event())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/long-work", headers=HEADERS, data=b"1") as answer,
        ):
            assert answer.status == 202
        await until(lambda: " db" in (tmp_path / "log").read_text())
        [pid] = [int(line.split()[0]) for line in runner.log_tail().splitlines() if line.endswith(" db")]
        assert birth(pid) is not None
        if asked:
            runner.stop()
        else:
            state = StateDir(tmp_path / "state")
            state.create()
            assert runner.pid is not None
            state.write_record(Record(processes={"job-sink": Running.of(runner.pid)}))
            assert state.end_leftovers() == ["job-sink"]
        assert birth(pid) is None
    finally:
        runner.stop()


def test_the_interpreter_of_the_stack_is_the_images_python() -> None:
    assert program(("python", "-m", "x")) == (sys.executable, "-m", "x")
    assert program(("sh", "python")) == ("sh", "python")
