"""A document that a job of its own indexes: the same effect as by the Service, told by the exit status of a process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from functions.ingestion import indexing, job
from functions.ingestion.extraction import Extraction, extract
from functions.ingestion.reading.limits import Limits
from shared.runtime import runtime
from shared.settings import get_settings
from tests.functions.leaks import Watch
from tests.functions.platform import Platform, structured, until
from tests.support import TEST_ENVIRONMENT

ROOT = Path(__file__).parents[2]
GUIDE = b"# Guide\n\nStart with `make dev`."


async def received(platform: Platform, body: bytes = GUIDE, content_type: str = "text/markdown") -> dict[str, Any]:
    """Upload a document; return the event that asks for its indexing."""
    assert (await platform.upload("guide.md", body, content_type)).status == 202
    [event] = platform.claim()
    return event


def file_of(event: dict[str, Any]) -> bytes:
    """Return what a JobSink writes into the file."""
    return structured(event)[1]


def document(platform: Platform) -> tuple[Any, ...]:
    """Return (status, stage, error_code, attempts) of the one document."""
    with platform.database.connect() as operator:
        [row] = operator.query("SELECT status, stage, error_code, attempts FROM rag.documents")
    return tuple(row)


def consumed(platform: Platform) -> int:
    count: int = platform.counts()["events.inbox"]
    return count


async def test_the_document_of_the_event_is_chunked_and_then_indexed(platform: Platform) -> None:
    event = await received(platform)
    assert event["extensions"]["size"] == "small"
    assert await job.run(file_of(event)) == job.DONE
    assert document(platform) == ("processing", "embedding", None, 1)
    assert consumed(platform) == 1
    await platform.deliver()
    assert document(platform) == ("indexed", "indexed", None, 1)


@pytest.mark.parametrize("first", ["a job", "the Service"])
async def test_an_event_that_comes_twice_has_its_effect_once(platform: Platform, first: str) -> None:
    event = await received(platform)
    if first == "a job":
        assert await job.run(file_of(event)) == job.DONE
    else:
        assert (await platform.post(event)).status == 200
    assert await job.run(file_of(event)) == job.DONE
    assert document(platform) == ("processing", "embedding", None, 1)
    assert (consumed(platform), platform.counts()["rag.chunks"]) == (1, 1)


Broken = Callable[[bytes], bytes]
POISON: dict[str, tuple[Broken, str]] = {
    "cut off": (lambda body: body[:-10], "malformed_event"),
    "empty": (lambda _: b"", "malformed_event"),
    "no object": (lambda _: b"[1]", "malformed_event"),
    "not UTF-8": (lambda body: b"\xff" + body, "malformed_event"),
    "unknown type": (lambda body: body.replace(b"ingestion.received", b"ingestion.imagined"), "malformed_event"),
    "another's type": (lambda body: body.replace(b"ingestion.received", b"embedding.requested"), "malformed_event"),
    "no tenant": (lambda body: body.replace(b"tenantid", b"tenant"), "malformed_event"),
    "other data": (lambda body: body.replace(b"document_id", b"document"), "invalid_request"),
}


@pytest.mark.parametrize(("broken", "code"), POISON.values(), ids=POISON.keys())
async def test_an_event_that_can_never_be_used_is_noted_and_not_tried_again(
    platform: Platform, watch: Watch, broken: Broken, code: str
) -> None:
    body = broken(file_of(await received(platform)))
    assert await job.run(body) == job.DONE
    [line] = [line for line in watch.lines if '"event_refused"' in line]
    assert f'"{code}"' in line
    assert document(platform) == ("received", "received", None, 0)
    assert consumed(platform) == 0


async def test_a_document_that_is_gone_is_done(platform: Platform) -> None:
    event = await received(platform)
    with platform.database.connect() as operator:
        operator.run("DELETE FROM rag.documents")
    assert await job.run(file_of(event)) == job.DONE


async def test_the_failure_of_a_document_is_no_failure_of_the_job(platform: Platform) -> None:
    event = await received(platform, b"%PDF-1.7 cut off", "application/pdf")
    assert await job.run(file_of(event)) == job.DONE
    assert document(platform) == ("failed", "extracting", "damaged_document", 1)
    assert consumed(platform) == 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that waits for the lease of another worker, but not for long."""
    monkeypatch.setattr(job, "LEASE", timedelta(seconds=0.5))
    monkeypatch.setattr(job, "BUSY_POLL_SECONDS", 0.1)


def hold(platform: Platform, event: dict[str, Any], lease: str) -> None:
    """Take the document as another worker."""
    with platform.database.connect("app", platform.tenants[0]) as other:
        claim = {"p_document_id": event["data"]["document_id"], "p_version": 1, "p_worker": "other", "p_lease": lease}
        assert other.call("rag.claim_document", **claim)["outcome"] == "claimed"


@pytest.mark.usefixtures("hasty")
async def test_a_document_that_another_worker_keeps_is_left_to_it(platform: Platform, watch: Watch) -> None:
    event = await received(platform)
    hold(platform, event, "1 minute")
    assert await job.run(file_of(event)) == job.DONE
    assert document(platform) == ("processing", "extracting", None, 1)
    assert consumed(platform) == 0
    assert any('"job_left_to_another"' in line for line in watch.lines)


@pytest.mark.usefixtures("hasty")
async def test_a_worker_that_died_has_a_successor_when_its_lease_is_over(platform: Platform) -> None:
    event = await received(platform)
    hold(platform, event, "200 milliseconds")
    assert await job.run(file_of(event)) == job.DONE
    assert document(platform) == ("processing", "embedding", None, 2)
    assert consumed(platform) == 1


async def test_a_database_that_is_away_is_a_reason_to_try_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    event = await received(platform)
    await runtime.close()
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app@127.0.0.1:{closed_port}/nowhere")
    get_settings.cache_clear()
    assert await job.run(file_of(event)) == job.AGAIN
    assert document(platform) == ("received", "received", None, 0)


class Line:
    """The way to the database, which can be cut: whoever is connected is cut off, and whoever comes then is turned away."""

    def __init__(self, url: str, port: int) -> None:
        self._server, self._port = urlsplit(url), port
        self.url = self._server._replace(netloc=f"{self._server.netloc.rpartition(':')[0]}:{port}").geturl()
        self._connected: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._connected:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def open(self) -> asyncio.Server:
        return await asyncio.start_server(self._forward, "127.0.0.1", self._port)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._server.hostname, self._server.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        self._connected.add(writer)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        self._connected.discard(writer)


async def test_what_is_read_of_a_document_outlives_a_database_that_is_away_meanwhile(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, closed_port: int, watch: Watch
) -> None:
    event = await received(platform)
    await runtime.close()
    line = Line(platform.database.urls["app"], closed_port)
    monkeypatch.setenv("DATABASE_URL", line.url)
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("shared.database.RECONNECT_SECONDS", 0.1)
    monkeypatch.setattr(indexing, "LEASE", timedelta(seconds=1))
    get_settings.cache_clear()

    async def slow(*arguments: Any) -> Extraction:
        found = await extract(*arguments)
        line.cut()
        await until(lambda: sum('"leases_not_renewed"' in entry for entry in watch.lines) >= 2)
        line.mend()
        with platform.database.connect() as operator:
            await until(lambda: operator.value("SELECT leased_until > clock_timestamp() FROM rag.documents"))
        return found

    monkeypatch.setattr(indexing, "extract", slow)
    async with await line.open():
        assert await job.run(file_of(event)) == job.DONE
        await runtime.close()
    assert document(platform) == ("processing", "embedding", None, 1)
    assert consumed(platform) == 1


async def test_a_defect_gives_the_document_back_and_is_a_reason_to_try_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await received(platform)

    async def broken(*_: object) -> None:
        raise RuntimeError("made up")

    with monkeypatch.context() as patch:
        patch.setattr(indexing, "extract", broken)
        assert await job.run(file_of(event)) == job.AGAIN
    assert document(platform)[0] == "received"
    assert await job.run(file_of(event)) == job.DONE
    assert document(platform) == ("processing", "embedding", None, 2)


def limit(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name.upper(), value)
    get_settings.cache_clear()


async def test_what_the_service_has_no_time_for_is_done_by_a_job_with_more(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    event = await received(platform)
    limit(monkeypatch, extraction_timeout_seconds="0.0001")
    assert (await platform.post(event)).status == 200
    assert document(platform) == ("received", "extracting", None, 1)
    assert any('"document_enlarged"' in line and '"extraction_timeout"' in line for line in watch.lines)
    [again] = platform.claim()
    assert (again["extensions"]["size"], again["data"]) == ("large", event["data"])

    limit(monkeypatch, extraction_timeout_seconds="60")
    assert await job.run(file_of(again)) == job.DONE
    await platform.deliver()
    assert document(platform) == ("indexed", "indexed", None, 2)
    assert consumed(platform) >= 2


async def test_what_a_job_has_no_time_for_fails_and_says_so(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, extraction_timeout_seconds="0.0001")
    await platform.post(await received(platform))
    [again] = platform.claim()
    assert await job.run(file_of(again)) == job.DONE
    assert document(platform) == ("failed", "extracting", "extraction_timeout", 2)


async def test_the_memory_of_the_reading_process_is_a_setting(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Limits] = []

    async def reading(_: bytes, __: str, ___: str, limits: Limits) -> None:
        given.append(limits)
        raise RuntimeError("seen")

    monkeypatch.setattr(indexing, "extract", reading)
    limit(monkeypatch, extraction_memory_bytes=str(512 * 1024**2), extraction_timeout_seconds="7")
    event = await received(platform)
    await job.run(file_of(event))
    assert given == [replace(Limits(), memory_bytes=512 * 1024**2, seconds=7)]


def start(platform: Platform, event: Path) -> "subprocess.Popen[str]":
    """Start the process of a job as its container does."""
    variables = {**TEST_ENVIRONMENT, "DATABASE_URL": platform.database.urls["app"], "K_EVENT_PATH": str(event)}
    return subprocess.Popen(
        [sys.executable, "-m", "functions.ingestion.job"],
        cwd=ROOT,
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_the_process_ends_when_the_document_is_chunked(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "event").write_bytes(file_of(await received(platform)))
    with start(platform, tmp_path / "event") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == job.DONE, log
    assert '"document_chunked"' in log
    assert document(platform) == ("processing", "embedding", None, 1)


async def test_a_process_without_its_event_fails(platform: Platform, tmp_path: Path) -> None:
    with start(platform, tmp_path / "nothing") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "FileNotFoundError" in log


async def test_a_process_that_is_asked_to_end_is_to_be_tried_again(platform: Platform, tmp_path: Path) -> None:
    event = await received(platform)
    # It waits for the lease of another worker.
    hold(platform, event, "1 hour")
    (tmp_path / "event").write_bytes(file_of(event))
    with start(platform, tmp_path / "event") as process:
        assert process.stderr is not None
        assert "in_progress" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == job.AGAIN
